//! S2. Case: a delivery. Its key was sent, to this queue or to one whose messages may come here; its
//! body, attributes, group and deduplication id are those that were sent; the digests of both
//! answers are those of what was sent and of what arrived; no key comes under more ids than it
//! was sent; no answer brings more than was asked for; and a send is answered with the id of its own
//! message, or of that which it repeats.
//!
//! Source: SendMessage, ReceiveMessage, MD5 digests.
//! Undecided: a key without any send, when the end of the history is missing. No clock.

use super::f05_dedup::scope;
use crate::index::{Attempt, Delivery, Index, Known, NONE};
use crate::verdict::Tally;

pub(super) fn check(index: &Index, tally: &mut Tally) {
    let reachable: Vec<Vec<u32>> =
        (0..index.queues.len() as u32).map(|queue| index.graph.reachable(queue)).collect();
    for (number, delivery) in (0u32..).zip(&index.deliveries) {
        match wrong(index, &reachable, delivery) {
            Ok(()) => tally.saw(),
            Err(None) => tally.undecided(),
            Err(Some(what)) => {
                tally.saw();
                tally.found(|| {
                    let what = format!("{}: {what}", index.name_of(delivery.message));
                    let sends = sends(index, delivery);
                    index.finding_of(what, delivery.message, &[number], &sends)
                });
            }
        }
    }
    for receive in index.receives.iter().filter(|it| it.attempt == 0 && it.count > it.max) {
        tally.found(|| {
            let what = format!("{} were asked for and {} came", receive.max, receive.count);
            let message = index.deliveries[receive.first as usize].message;
            index.finding_of(what, message, &[receive.first], &[])
        });
    }
    for attempt in &index.attempts {
        if let Some(wrong) = wrong_answer(index, attempt) {
            tally.found(|| {
                let what = format!("{}: the send's answer {wrong}", index.name_of(attempt.message));
                index.finding_of(what, attempt.message, &[], &[attempt.record])
            });
        }
    }
    for key in 0..index.keys.len() as u32 {
        let attempts = index.attempts_of_key.of(key).iter();
        let refused = |it: &u32| index.attempts[*it as usize].outcome == Known::Fail;
        if attempts.clone().any(refused) || attempts.len() == 0 {
            continue;
        }
        if let Some(message) = surplus(index, key) {
            tally.found(|| {
                let what = format!(
                    "{} is there under more message ids than it was sent",
                    index.name_of(message)
                );
                let deliveries = index.messages_of_key.of(key).iter();
                let deliveries = deliveries
                    .filter_map(|it| index.deliveries_of_message.of(*it).first().copied());
                let deliveries: Vec<u32> = deliveries.collect();
                index.finding_of(what, message, &deliveries, &[])
            });
        }
    }
}

fn wrong_answer(index: &Index, attempt: &Attempt) -> Option<&'static str> {
    if attempt.outcome != Known::Ok || attempt.message == NONE {
        return None;
    }
    // A duplicate may be answered with the digests of the first.
    let first = index.messages[attempt.message as usize].key == attempt.key;
    if !attempt.digests_agree && first {
        return Some("has other digests than what was sent");
    }
    if is_of_another(index, attempt) {
        return Some("has the id of another message");
    }
    let fifo = index.queues[attempt.queue as usize].fifo;
    let lacks_number = fifo && attempt.sequence == 0 && index.promises().tells_all;
    lacks_number.then_some("has no sequence number")
}

/// Whether a send was answered with the id of a message that it neither made nor repeats.
fn is_of_another(index: &Index, attempt: &Attempt) -> bool {
    let key = index.messages[attempt.message as usize].key;
    if key == attempt.key || key == NONE {
        return false;
    }
    let repeats = |other: &u32| {
        let other = &index.attempts[*other as usize];
        let same = attempt.dedup != 0 && scope(index, other) == scope(index, attempt);
        same && other.outcome != Known::Fail
    };
    !index.queues[attempt.queue as usize].fifo || !index.attempts_of_key.of(key).iter().any(repeats)
}

/// A message of this key that no send explains. Each acknowledged send explains the id that it was
/// answered, each unknown one explains one more.
pub(super) fn surplus(index: &Index, key: u32) -> Option<u32> {
    let attempts = || index.attempts_of_key.of(key).iter().map(|it| &index.attempts[*it as usize]);
    let lost = attempts().filter(|it| it.outcome == Known::Info).count();
    let mut unexplained = 0;
    for &message in index.messages_of_key.of(key) {
        let row = &index.messages[message as usize];
        let delivered = index.deliveries_of_message.of(message).first();
        let Some(delivered) = delivered.filter(|_| !row.acknowledged) else { continue };
        if index.graph.is_move_target(index.queue_of(*delivered)) || moved_before(index, row.queue)
        {
            continue;
        }
        unexplained += 1;
        if unexplained > lost {
            return Some(message);
        }
    }
    None
}

/// Whether a message of this queue may have come there through a move task somewhere.
fn moved_before(index: &Index, queue: u32) -> bool {
    index.graph.is_behind_a_move(queue)
}

fn sends(index: &Index, delivery: &Delivery) -> Vec<u32> {
    match delivery.key {
        NONE => Vec::new(),
        key => {
            let attempts = index.attempts_of_key.of(key).iter();
            attempts.map(|it| index.attempts[*it as usize].record).collect()
        }
    }
}

fn lacks_something(index: &Index, delivery: &Delivery) -> bool {
    let queue = index.receives[delivery.receive as usize].queue;
    let is_in_line = delivery.group != NONE && delivery.sequence != 0 && delivery.dedup != 0;
    let fifo = index.queues[queue as usize].fifo;
    delivery.count == 0
        || delivery.sent_ms == 0
        || delivery.first_received_ms == 0
        || (fifo && !is_in_line)
}

/// `Err(None)`: nobody knows.
fn wrong(
    index: &Index,
    reachable: &[Vec<u32>],
    delivery: &Delivery,
) -> Result<(), Option<&'static str>> {
    if !delivery.digests_agree {
        return Err(Some("the receive's answer has other digests than what arrived"));
    }
    if index.promises().tells_all && lacks_something(index, delivery) {
        return Err(Some("was delivered without an attribute that it must have"));
    }
    let attempts = match delivery.key {
        NONE => &[][..],
        key => index.attempts_of_key.of(key),
    };
    if attempts.is_empty() {
        return Err(index.whole().then_some("was delivered and nobody sent it"));
    }
    let queue = index.receives[delivery.receive as usize].queue;
    let attempts = || attempts.iter().map(|it| &index.attempts[*it as usize]);
    if attempts().all(|it| it.outcome == Known::Fail) {
        // S1b says so.
        return Ok(());
    }
    let mut sources = attempts().filter(|it| it.outcome != Known::Fail);
    if !sources.any(|it| reachable[it.queue as usize].contains(&queue)) {
        return Err(Some("was delivered from a queue that it was not sent to"));
    }
    if !attempts().any(|it| it.content == delivery.content) {
        return Err(Some(
            "was delivered with another body or other attributes than it was sent with",
        ));
    }
    let facts = &index.queues[queue as usize];
    let here = || attempts().filter(|it| it.queue == queue);
    let group = |number: u32| index.groups.get(number as usize).map(|group| &group.name);
    if delivery.group != NONE && !attempts().any(|it| group(it.group) == group(delivery.group)) {
        return Err(Some("was delivered in another group than it was sent to"));
    }
    let by_content = facts.dedup_by_content.all().any(|by_content| *by_content);
    let moved = index.graph.is_move_target(queue) || here().next().is_none();
    if delivery.dedup != 0 && facts.fifo && !by_content && !moved {
        let same = |it: &crate::index::Attempt| it.dedup == delivery.dedup;
        if !here().any(same) {
            return Err(Some("was delivered with another deduplication id than it was sent with"));
        }
    }
    Ok(())
}
