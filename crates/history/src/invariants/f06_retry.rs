//! F6. Case: a key that was sent to a FIFO queue more than once under one deduplication id, as by a
//! client that repeats a send until it succeeds. However many of them took effect, it is one
//! message (as long as they lie within five minutes, less `e`). That it is at least one is S1's.
//!
//! Source: exactly-once processing of sends. Undecided: as F5.

use crate::index::{Index, Known};
use crate::verdict::Tally;

pub(super) fn check(index: &Index, tally: &mut Tally) {
    super::f05_dedup::check_pairs(index, tally, true);
    // Those that came out well have no pair.
    tally.examined = 0;
    for key in 0..index.keys.len() as u32 {
        let attempts = index.attempts_of_key.of(key);
        if attempts.len() < 2 {
            continue;
        }
        let repeated = attempts.iter().map(|it| &index.attempts[*it as usize]).filter(|it| {
            let fifo = index.queues[it.queue as usize].fifo;
            fifo && it.dedup != 0 && it.outcome != Known::Fail
        });
        tally.examined += u64::from(repeated.count() > 1);
    }
}
