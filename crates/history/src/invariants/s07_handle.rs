//! S7. Case: a delivery, and a delete or change with its handle. Every delivery has a handle that no
//! other has (but for a repeated receive under one attempt id); a handle is refused by every
//! queue but its own.
//!
//! Source: receipt handles. Undecided: unknown outcomes. No clock.

use crate::index::{Index, Known, NONE};
use crate::verdict::Tally;

pub(super) fn check(index: &Index, tally: &mut Tally) {
    for (number, delivery) in (0u32..).zip(&index.deliveries) {
        tally.saw();
        let first = index.by_handle.get(&delivery.handle).copied().unwrap_or(number);
        if first == number {
            continue;
        }
        let other = &index.deliveries[first as usize];
        let attempt = |of: &crate::index::Delivery| index.receives[of.receive as usize].attempt;
        let repeated = attempt(delivery) != 0 && attempt(delivery) == attempt(other);
        if repeated && delivery.message == other.message {
            continue;
        }
        tally.found(|| {
            let what =
                format!("two deliveries of {} have one handle", index.name_of(other.message));
            index.finding_of(what, delivery.message, &[first, number], &[])
        });
    }
    for touch in index.touches.iter().filter(|it| it.delivery != NONE) {
        let queue = index.queue_of(touch.delivery);
        if queue == touch.queue {
            continue;
        }
        if touch.outcome != Known::Ok {
            tally.undecided();
            continue;
        }
        tally.found(|| {
            let message = index.deliveries[touch.delivery as usize].message;
            let what = format!(
                "a handle of {} in {} was accepted by {}",
                index.name_of(message),
                index.queues[queue as usize].name,
                index.queues[touch.queue as usize].name
            );
            index.finding_of(what, message, &[touch.delivery], &[touch.record])
        });
    }
}
