//! S9. Case: a message of a standard queue that was sent with a delay and delivered. No receive may
//! bring it before its send's start plus the delay, less `e`.
//!
//! Source: `DelaySeconds`; the message's own overrides the queue's, and a change of the queue's is
//! for later sends. Undecided: nothing; of several possible delays the shortest counts. That a delay
//! does not last too long is S16's.

use super::time;
use crate::index::{Index, Known, NEVER, NONE, Span};
use crate::verdict::Tally;

pub(super) fn check(index: &Index, tally: &mut Tally) {
    check_queues(index, tally, false);
}

/// For FIFO queues this is F10.
pub(super) fn check_queues(index: &Index, tally: &mut Tally, fifo: bool) {
    let e = index.bounds().clock_us;
    for message in 0..index.messages.len() as u32 {
        let row = &index.messages[message as usize];
        if index.queues[row.queue as usize].fifo != fifo {
            continue;
        }
        let deliveries = index.deliveries_of_message.of(message).iter();
        let deliveries = deliveries.filter(|it| index.queue_of(**it) == row.queue);
        let Some(&first) = deliveries.min_by_key(|it| index.at(**it).ret) else { continue };
        let at = index.at(first);
        let delay = shortest_delay(index, message, at.ret);
        if delay == 0 {
            continue;
        }
        tally.saw();
        let due = row.entered.inv.saturating_add(delay);
        if at.ret.saturating_add(e) < due {
            tally.found(|| {
                let what = format!(
                    "{} was delivered at {}, and is delayed until {}",
                    index.name_of(message),
                    time(at.ret),
                    time(due)
                );
                index.finding_of(what, message, &[first], &[])
            });
        }
    }
}

fn shortest_delay(index: &Index, message: u32, until: u64) -> u64 {
    range(index, message, until).0
}

/// Shortest and longest possible delay of a message.
pub(super) fn range(index: &Index, message: u32, until: u64) -> (u64, u64) {
    let row = &index.messages[message as usize];
    let queue = &index.queues[row.queue as usize];
    let during = match queue.fifo && index.promises().fifo_delay_retroactive {
        true => Span { inv: row.entered.inv, ret: until },
        false => row.entered,
    };
    let of_queue = (queue.delay_us.min(during), queue.delay_us.max(during));
    if queue.fifo {
        return of_queue;
    }
    let mut range: Option<(u64, u64)> = None;
    let mut take = |delay: u64| {
        let (shortest, longest) = if delay == NEVER { of_queue } else { (delay, delay) };
        range = Some(match range {
            Some((least, most)) => (least.min(shortest), most.max(longest)),
            None => (shortest, longest),
        });
    };
    let own = index.attempts_of_message.of(message);
    own.iter().for_each(|it| take(index.attempts[*it as usize].delay_us));
    if row.key != NONE {
        for attempt in index.attempts_of_key.of(row.key) {
            let attempt = &index.attempts[*attempt as usize];
            if attempt.outcome == Known::Info && attempt.queue == row.queue {
                take(attempt.delay_us);
            }
        }
    }
    // Moved here by a task: at once.
    range.unwrap_or((0, NEVER))
}
