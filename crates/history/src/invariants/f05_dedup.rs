//! F5. Cases: two messages of a FIFO queue with one deduplication id in its scope (the second was
//! accepted at least five minutes after the first, less `e`); and a send that begins more than five
//! minutes and `e` after the first was acknowledged (it makes a message of its own). Where the two
//! have one key, this is F6.
//!
//! Source: deduplication: five minutes from the first accepted send. Cleared by purges.
//! Undecided: ids between which the queue may have been purged or deleted. A send of unknown
//! outcome may be the one that was accepted first.

use super::time;
use crate::hash::Id;
use crate::index::{Index, Known, NEVER, NONE};
use crate::verdict::Tally;

const INTERVAL_US: u64 = 5 * 60 * 1_000_000;

/// A message and when it may have been accepted under a deduplication id.
struct Accepted {
    scope: (u32, u32, Id),
    message: u32,
    key: u32,
    from: u64,
    to: u64,
}

pub(super) fn check(index: &Index, tally: &mut Tally) {
    check_pairs(index, tally, false);
    for attempt in index.attempts.iter().filter(|it| it.outcome == Known::Ok && it.dedup != 0) {
        if !index.queues[attempt.queue as usize].fifo {
            continue;
        }
        let row = &index.messages[attempt.message as usize];
        tally.saw();
        let end = row.entered.ret.saturating_add(INTERVAL_US);
        if end.saturating_add(index.bounds().clock_us) < attempt.at.inv {
            tally.found(|| {
                let what = format!(
                    "a send at {} was taken for a duplicate of {}, whose five minutes ended at {}",
                    time(attempt.at.inv),
                    index.name_of(attempt.message),
                    time(end)
                );
                index.finding_of(what, attempt.message, &[], &[attempt.record])
            });
        }
    }
}

/// Two messages under one id too soon. `one_key`: only those of one key, otherwise only the others.
pub(super) fn check_pairs(index: &Index, tally: &mut Tally, one_key: bool) {
    let accepted = accepted(index);
    let e = index.bounds().clock_us;
    for pair in accepted.windows(2) {
        let (first, second) = (&pair[0], &pair[1]);
        if first.scope != second.scope || (first.key == second.key) != one_key {
            continue;
        }
        let cleared = index.queues[first.scope.0 as usize].clearings.iter();
        let (from, to) = (first.from.min(second.from), first.to.max(second.to));
        if cleared.into_iter().any(|it| it.at.inv <= to && it.at.ret >= from) {
            tally.undecided();
            continue;
        }
        tally.saw();
        let soon = |earlier: &Accepted, later: &Accepted| {
            later.to.saturating_add(e) < earlier.from.saturating_add(INTERVAL_US)
        };
        if soon(first, second) && soon(second, first) {
            tally.found(|| {
                let what = format!(
                    "{} ({:032x}) and {} ({:032x}) are two messages under one deduplication id",
                    index.name_of(first.message),
                    index.messages[first.message as usize].id,
                    index.name_of(second.message),
                    index.messages[second.message as usize].id,
                );
                let sends = index.attempts_of_message.of(first.message).iter();
                let mut records: Vec<u32> =
                    sends.map(|it| index.attempts[*it as usize].record).collect();
                let seen = index.deliveries_of_message.of(first.message).iter().take(2);
                records.extend(seen.map(|it| {
                    index.receives[index.deliveries[*it as usize].receive as usize].record
                }));
                let deliveries = index.deliveries_of_message.of(second.message);
                index.finding_of(what, second.message, deliveries, &records)
            });
        }
    }
}

/// Messages by scope and time, each once.
fn accepted(index: &Index) -> Vec<Accepted> {
    let mut accepted: Vec<Accepted> = Vec::new();
    for attempt in index.attempts.iter().filter(|it| it.dedup != 0 && it.outcome != Known::Fail) {
        let queue = &index.queues[attempt.queue as usize];
        if !queue.fifo {
            continue;
        }
        let group = if queue.dedup_by_group { attempt.group } else { NONE };
        let scope = (attempt.queue, group, attempt.dedup);
        let mut add = |message: u32| {
            let row = &index.messages[message as usize];
            let (from, to) = (row.entered.inv, row.entered.ret);
            accepted.push(Accepted { scope, message, key: row.key, from, to });
        };
        match attempt.message {
            NONE if index.graph.is_move_target(attempt.queue) => {}
            NONE => {
                let seen = index.messages_of_key.of(attempt.key).iter().copied();
                seen.filter(|it| {
                    let row = &index.messages[*it as usize];
                    !row.acknowledged && row.queue == attempt.queue && row.entered.ret != NEVER
                })
                .for_each(&mut add);
            }
            message => add(message),
        }
    }
    accepted.sort_unstable_by_key(|it| (it.scope, it.from, it.to, it.message));
    accepted.dedup_by_key(|it| (it.scope, it.message));
    accepted
}
