//! One module for each thing that must hold. Each says what a case is, which rule it comes from, what
//! makes a case undecidable, and where the clock bound `e` goes in.
//!
//! Between requests of clients nothing but their order on the one clock counts, and that is exact;
//! `e` is only for the server's timers and timestamps.

mod deleting;
mod groups;
mod hiding;
mod in_flight;
mod leaving;
mod spans;
mod visible;
mod wakes;

mod f01_sequence;
mod f02_order;
mod f03_group_lock;
mod f04_no_skip;
mod f05_dedup;
mod f06_retry;
mod f07_attempt;
mod f08_late_delete;
mod f09_dead_letters;
mod f10_delay;
mod f11_nodes;
mod l01_recovery;
mod s01_loss;
mod s01b_ghost;
mod s02_invention;
mod s03_overlap;
mod s04_lease;
mod s05_delete;
mod s06_old_handle;
mod s07_handle;
mod s08_count;
mod s09_delay;
mod s10_retention;
mod s11_redrive;
mod s12_move_task;
mod s13_purge;
mod s14_queue;
mod s15_counts;
mod s16_long_poll;
mod s17_short_poll;
mod s18_batch;
mod s19_limit;
mod s20_attributes;

pub(crate) use s01_loss::losses_by_place;

use std::cell::OnceCell;

use crate::index::Index;
use crate::invariant::Invariant;
use crate::verdict::{Tally, Wakes};

/// Looks at everything; also at how long long polls took, without faults and with.
pub(crate) fn check_all(index: &Index) -> (Vec<Tally>, (Wakes, Wakes)) {
    let mut tallies = Vec::with_capacity(Invariant::ALL.len());
    let views = OnceCell::new();
    let views = || &**views.get_or_init(|| visible::views(index));
    for &invariant in Invariant::ALL {
        let mut tally = Tally::new(invariant);
        match invariant {
            Invariant::S16 => s16_long_poll::check(index, &mut tally, views()),
            Invariant::S17 => s17_short_poll::check(index, &mut tally, &views),
            _ => check(index, invariant, &mut tally, &tallies),
        }
        tallies.push(tally);
    }
    (tallies, wakes::wakes(index, views()))
}

fn check(index: &Index, invariant: Invariant, tally: &mut Tally, before: &[Tally]) {
    match invariant {
        Invariant::S1 => s01_loss::check(index, tally),
        Invariant::S1b => s01b_ghost::check(index, tally),
        Invariant::S2 => s02_invention::check(index, tally),
        Invariant::S3 => s03_overlap::check(index, tally),
        Invariant::S4 => s04_lease::check(index, tally),
        Invariant::S5 => s05_delete::check(index, tally),
        Invariant::S6 => s06_old_handle::check(index, tally),
        Invariant::S7 => s07_handle::check(index, tally),
        Invariant::S8 => s08_count::check(index, tally),
        Invariant::S9 => s09_delay::check(index, tally),
        Invariant::S10 => s10_retention::check(index, tally),
        Invariant::S11 => s11_redrive::check(index, tally),
        Invariant::S12 => s12_move_task::check(index, tally),
        Invariant::S13 => s13_purge::check(index, tally),
        Invariant::S14 => s14_queue::check(index, tally),
        Invariant::S15 => s15_counts::check(index, tally),
        Invariant::S16 | Invariant::S17 => {}
        Invariant::S18 => s18_batch::check(index, tally),
        Invariant::S19 => s19_limit::check(index, tally),
        Invariant::S20 => s20_attributes::check(index, tally),
        Invariant::F1 => f01_sequence::check(index, tally),
        Invariant::F2 => f02_order::check(index, tally),
        Invariant::F3 => f03_group_lock::check(index, tally),
        Invariant::F4 => f04_no_skip::check(index, tally),
        Invariant::F5 => f05_dedup::check(index, tally),
        Invariant::F6 => f06_retry::check(index, tally),
        Invariant::F7 => f07_attempt::check(index, tally),
        Invariant::F8 => f08_late_delete::check(index, tally),
        Invariant::F9 => f09_dead_letters::check(index, tally),
        Invariant::F10 => f10_delay::check(index, tally),
        Invariant::F11 => f11_nodes::check(index, tally, before),
        Invariant::L1 => l01_recovery::check(index, tally),
    }
}

/// Microseconds, readable.
fn time(us: u64) -> String {
    format!("{}.{:03} s", us / 1_000_000, us / 1_000 % 1_000)
}
