//! S3. Case: two deliveries of one message by receives that were under way at the same time. In at
//! least one of the two orders the second must complete not before the earliest possible end of
//! the first one's lease.
//!
//! Source: visibility timeouts; SQS allows rare early duplicates in standard queues, a majority
//! does not. Undecided: nothing; changes of unknown outcome take the minimum. `e` is added to
//! the second one's end. Deliveries one after the other are S4's.

use super::hiding::{Setter, setters};
use super::time;
use crate::index::{Index, Span};
use crate::verdict::Tally;

/// Deliveries of one message that each is compared with, in either order of time.
const NEIGHBOURS: usize = 16;

pub(super) fn check(index: &Index, tally: &mut Tally) {
    let mut found = Vec::new();
    for message in 0..index.messages.len() as u32 {
        let deliveries = index.deliveries_of_message.of(message);
        if deliveries.len() < 2 {
            continue;
        }
        setters(index, message, &mut found);
        for (number, &second) in deliveries.iter().enumerate() {
            for &first in &deliveries[number.saturating_sub(NEIGHBOURS)..number] {
                check_pair(index, tally, message, &found, (first, second));
            }
        }
    }
}

fn check_pair(
    index: &Index,
    tally: &mut Tally,
    message: u32,
    setters: &[Setter],
    pair: (u32, u32),
) {
    let (a, b) = (index.at(pair.0), index.at(pair.1));
    let handles = (&index.deliveries[pair.0 as usize], &index.deliveries[pair.1 as usize]);
    if !a.overlaps(b) || handles.0.handle == handles.1.handle {
        return;
    }
    tally.saw();
    let one_way = released(setters, pair.0, a, pair.1, b);
    let other_way = released(setters, pair.1, b, pair.0, a);
    let e = index.bounds().clock_us;
    if b.ret.saturating_add(e) >= one_way || a.ret.saturating_add(e) >= other_way {
        return;
    }
    tally.found(|| {
        let what = format!(
            "{} was handed out twice by receives that were under way together; the lease ends at {} \
             at the earliest",
            index.name_of(message),
            time(one_way.min(other_way))
        );
        index.finding_of(what, message, &[pair.0, pair.1], &[])
    });
}

/// When the second could have had it at the earliest, if the first was first.
fn released(setters: &[Setter], first: u32, first_at: Span, second: u32, second_at: Span) -> u64 {
    setters
        .iter()
        .filter(|it| !(it.is_delivery && it.delivery == second))
        .filter(|it| (it.is_delivery && it.delivery == first) || it.at.inv <= second_at.ret)
        .filter(|it| it.at.ret >= first_at.inv)
        .map(|it| it.at.inv.saturating_add(it.shortest_us))
        .min()
        .unwrap_or(0)
}
