//! S12. Case: a key that was seen in a queue which move tasks take messages from or bring them to. A
//! task gives a message a new id, so each id that was in a task's source makes at most one more
//! id; and once the new one was delivered, the old one is not. The old one is that of an acknowledged
//! send, or else that which was delivered first, unless only the other order is possible.
//!
//! Source: StartMessageMoveTask; at least once in SQS, exactly once where the move is one command. Where
//! messages of FIFO queues are moved by receiving and sending them (`fifo_moves_hide_us`), a fault in
//! between leaves the old one, too: it may come once more, not before it has been hidden for so long, and
//! as its receive count tells; and what a later task sends again is a duplicate for five minutes, less
//! `e`. (Lost: S1.) Undecided: keys that were sent more than once, and what lies further apart.

use super::{leaving, time};
use crate::index::{Index, Known};
use crate::verdict::Tally;

/// For which a repeated send is a duplicate.
const INTERVAL_US: u64 = 5 * 60 * 1_000_000;

pub(super) fn check(index: &Index, tally: &mut Tally) {
    if !index.graph.has_moves() {
        return;
    }
    let concerned =
        |queue: u32| index.graph.is_move_source(queue) || index.graph.is_move_target(queue);
    for key in 0..index.keys.len() as u32 {
        let messages = index.messages_of_key.of(key);
        let seen = |message: &u32| {
            let deliveries = index.deliveries_of_message.of(*message).iter();
            deliveries.into_iter().any(|it| concerned(index.queue_of(*it)))
        };
        if !messages.iter().any(seen) {
            continue;
        }
        let attempts = index.attempts_of_key.of(key).iter();
        let attempts = attempts.filter(|it| index.attempts[**it as usize].outcome != Known::Fail);
        let sent = attempts.count();
        let in_source = messages.iter().filter(|it| was_in_source(index, **it)).count();
        let once = sent == 1 || (sent > 1 && is_one(index, key));
        if !once || far_apart(index, messages) {
            tally.undecided();
            continue;
        }
        tally.saw();
        let mut ids: Vec<u32> = messages.to_vec();
        ids.retain(|it| !index.deliveries_of_message.of(*it).is_empty());
        if messages.len() > 1 + in_source {
            tally.found(|| {
                let what = format!(
                    "{} has {} message ids, and only {in_source} of them were where a task could \
                     move them",
                    index.name_of(messages[0]),
                    messages.len()
                );
                let first = |it: &u32| index.deliveries_of_message.of(*it).first().copied();
                let deliveries: Vec<u32> = messages.iter().filter_map(first).collect();
                index.finding_of(what, messages[0], &deliveries, &[])
            });
            continue;
        }
        check_order(index, tally, &mut ids);
    }
}

/// Whether sends of a key that are repeated under one deduplication id make one message.
fn is_one(index: &Index, key: u32) -> bool {
    let attempts = index.attempts_of_key.of(key).iter().map(|it| &index.attempts[*it as usize]);
    let times = || attempts.clone().map(|it| it.at.inv);
    let (first, last) = (times().min().unwrap_or(0), times().max().unwrap_or(0));
    last - first + index.bounds().clock_us < INTERVAL_US
        && attempts.clone().all(|it| {
            let queue = &index.queues[it.queue as usize];
            queue.fifo && it.dedup != 0 && queue.clearings.is_empty()
        })
}

fn is_fifo(index: &Index, message: u32) -> bool {
    index.queues[index.messages[message as usize].queue as usize].fifo
}

/// A second task may have sent a message again when nobody knew of the first time any more.
fn far_apart(index: &Index, messages: &[u32]) -> bool {
    let by_receives = index.promises().fifo_moves_hide_us.is_some();
    messages.iter().filter(|it| by_receives && is_fifo(index, **it)).any(|it| {
        let from = index.messages[*it as usize].entered.inv;
        let last = index.deliveries_of_message.of(*it).iter().map(|it| index.at(*it).ret).max();
        last.unwrap_or(from).saturating_sub(from) + index.bounds().clock_us > INTERVAL_US
    })
}

/// Whether a message may have been in a queue that a task took messages from.
fn was_in_source(index: &Index, message: u32) -> bool {
    let home = index.messages[message as usize].queue;
    if index.graph.is_move_source(home) {
        return true;
    }
    let deliveries = index.deliveries_of_message.of(message).iter();
    if deliveries.into_iter().any(|it| index.graph.is_move_source(index.queue_of(*it))) {
        return true;
    }
    let source = index.graph.targets(home).any(|target| index.graph.is_move_source(target));
    source && leaving::redriven(index, message, home) < leaving::latest(index, message, home)
}

fn check_order(index: &Index, tally: &mut Tally, ids: &mut [u32]) {
    let first = |it: &u32| index.deliveries_of_message.of(*it)[0];
    // The one that a send was answered with was there first, whenever it was delivered.
    let acknowledged = |it: &u32| index.messages[*it as usize].acknowledged;
    ids.sort_by_key(|it| (!acknowledged(it), index.at(first(it)).inv));
    for pair in ids.windows(2) {
        let (old, new) = (pair[0], pair[1]);
        let Some((late, first)) = late_delivery(index, old, new) else { continue };
        // Otherwise one that a task left behind may have been delivered later than what it became.
        if !acknowledged(&old) && may_precede(index, new, old) {
            continue;
        }
        tally.found(|| {
            let what = format!(
                "{} was delivered at {} as what it was before a task moved it, and at {} as \
                 what it became",
                index.name_of(old),
                time(index.at(late).ret),
                time(index.at(first).ret)
            );
            index.finding_of(what, old, &[first, late], &[])
        });
        return;
    }
}

/// A delivery of a message that must not have come after the first one of what it became, and that one.
fn late_delivery(index: &Index, old: u32, new: u32) -> Option<(u32, u32)> {
    let of_new = index.deliveries_of_message.of(new).iter().copied();
    let first = of_new.min_by_key(|it| index.at(*it).ret)?;
    let mut of_old = index.deliveries_of_message.of(old).iter().copied();
    let late = of_old.find(|it| index.at(first).before(index.at(*it)))?;
    (!may_come_again(index, old, late)).then_some((late, first))
}

/// Whether one may have become the other, for all that is known of their deliveries.
fn may_precede(index: &Index, old: u32, new: u32) -> bool {
    let receive = |it: u32| index.deliveries[it as usize].receive;
    let of_new = index.deliveries_of_message.of(new);
    let together = |old: &&u32| of_new.iter().any(|new| receive(*new) == receive(**old));
    // Nothing is brought together with what it became.
    let both = index.deliveries_of_message.of(old).iter().find(together);
    late_delivery(index, old, new).is_none()
        && both.is_none_or(|it| may_come_again(index, old, *it))
}

/// Whether a task that was interrupted may have left this message of a FIFO queue: it was hidden for long
/// before, and received once more than clients saw.
fn may_come_again(index: &Index, message: u32, late: u32) -> bool {
    let Some(hidden) = index.promises().fifo_moves_hide_us else { return false };
    let at = index.at(late);
    let queue = index.queue_of(late);
    if !index.queues[queue as usize].fifo || index.faults.iter().all(|it| it.from > at.ret) {
        return false;
    }
    let e = index.bounds().clock_us;
    let mut before: Option<u32> = None;
    // Between which two of its deliveries may the task have had it?
    index.deliveries_of_message.of(message).iter().any(|&delivery| {
        let entered = index.messages[message as usize].entered.inv;
        let since = before.map_or(entered, |it| index.at(it).inv);
        let unseen = super::leaving::unseen(index, before, delivery).is_none_or(|it| it > 0);
        let hidden = index.at(delivery).ret.saturating_add(e) >= since.saturating_add(hidden);
        before = Some(delivery);
        unseen && hidden && index.at(delivery).inv <= at.inv
    })
}
