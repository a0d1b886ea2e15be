//! F5. Cases: two keys that were sent to a FIFO queue under one deduplication id in its scope, and a
//! repetition of one after more than five minutes, or after a purge or deletion of the queue. Of two
//! messages under one id the second was accepted at least five minutes after the first, less `e`, or
//! after a purge or deletion; and a send that begins more than five minutes and `e` after the first was
//! acknowledged, or after what cleared the queue since then, makes a message of its own. Where the two
//! have one key and follow each other soon, this is F6.
//!
//! Source: deduplication: five minutes from the first accepted send, whatever became of that message.
//! Undecided: ids between which the queue may have been cleared. A send of unknown outcome may be the one
//! that was accepted first.

use super::time;
use crate::hash::Id;
use crate::index::{Attempt, Clearing, Index, Known, NEVER, NONE};
use crate::verdict::Tally;

const INTERVAL_US: u64 = 5 * 60 * 1_000_000;

/// A message and when it may have been accepted under a deduplication id.
struct Accepted {
    scope: Scope,
    message: u32,
    key: u32,
    from: u64,
    to: u64,
}

pub(super) fn check(index: &Index, tally: &mut Tally) {
    check_pairs(index, tally, false);
    tally.examined = repetitions(index);
    for attempt in index.attempts.iter().filter(|it| it.outcome == Known::Ok && it.dedup != 0) {
        let queue = &index.queues[attempt.queue as usize];
        if !queue.fifo {
            continue;
        }
        let row = &index.messages[attempt.message as usize];
        let end = row.entered.ret.saturating_add(INTERVAL_US);
        let over = end.saturating_add(index.bounds().clock_us) < attempt.at.inv;
        let cleared =
            queue.clearings.iter().filter(|it| forgets(index, it)).find(|it| {
                row.entered.ret < it.at.inv && it.over_at(attempt.node) < attempt.at.inv
            });
        if !over && cleared.is_none() {
            continue;
        }
        tally.found(|| {
            let why = match cleared {
                Some(clearing) => format!("the queue was cleared by {}", time(clearing.at.ret)),
                None => format!("its five minutes ended at {}", time(end)),
            };
            let what = format!(
                "a send at {} was taken for a duplicate of {}, and {why}",
                time(attempt.at.inv),
                index.name_of(attempt.message)
            );
            let records: Vec<u32> =
                [attempt.record].into_iter().chain(cleared.map(|it| it.record)).collect();
            index.finding_of(what, attempt.message, &[], &records)
        });
    }
}

fn forgets(index: &Index, clearing: &Clearing) -> bool {
    clearing.deletes_queue || index.promises().purge_forgets_ids
}

/// Sends that repeat the id of one with another key, or of one that should be forgotten by then.
fn repetitions(index: &Index) -> u64 {
    let named = |it: &&Attempt| it.dedup != 0 && it.outcome == Known::Ok;
    let mut sends: Vec<(Scope, u64, u32)> = Vec::new();
    for attempt in index.attempts.iter().filter(named) {
        if index.queues[attempt.queue as usize].fifo {
            sends.push((scope(index, attempt), attempt.at.inv, attempt.key));
        }
    }
    sends.sort_unstable();
    let repeats = |pair: &&[(Scope, u64, u32)]| {
        let (first, second) = (pair[0], pair[1]);
        let cleared = || {
            let clearings = index.queues[first.0.0 as usize].clearings.iter();
            let mut clearings = clearings.filter(|it| forgets(index, it));
            clearings.any(|it| first.1 < it.at.inv && it.at.ret < second.1)
        };
        let late = second.1.saturating_sub(first.1) > INTERVAL_US;
        first.0 == second.0 && (first.2 != second.2 || late || cleared())
    };
    sends.windows(2).filter(repeats).count() as u64
}

/// Queue, group where ids are unique in groups only, and id.
pub(super) type Scope = (u32, u32, Id);

pub(super) fn scope(index: &Index, attempt: &Attempt) -> Scope {
    let by_group = index.queues[attempt.queue as usize].dedup_by_group;
    (attempt.queue, if by_group { attempt.group } else { NONE }, attempt.dedup)
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
        let cleared = cleared.filter(|it| forgets(index, it));
        let (from, to) = (first.from.min(second.from), first.to.max(second.to));
        if cleared.into_iter().any(|it| it.at.inv <= to && it.over() >= from) {
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
        let scope = scope(index, attempt);
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
