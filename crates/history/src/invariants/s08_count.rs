//! S8. Case: a delivery. Receive counts of one message grow from delivery to delivery, no two are
//! equal, and what is skipped is explained by receives of its queues that may have hidden messages
//! unseen since the delivery before; `SentTimestamp` stays and lies inside the send,
//! `ApproximateFirstReceiveTimestamp` stays and lies inside the first receive.
//!
//! Source: system attributes; approximate in SQS, exact where one majority counts. A move to a
//! dead-letter queue goes on counting and keeps the send's time, but for FIFO queues.
//! Undecided: gaps when the end of the history is missing, and in FIFO queues whose messages are moved by
//! receiving them. `e`, and a millisecond for rounding, are allowed around timestamps; without a wall
//! clock only their constancy is checked.

use super::leaving::unseen;
use super::time;
use crate::index::{Index, Lost, Span};
use crate::verdict::Tally;

pub(super) fn check(index: &Index, tally: &mut Tally) {
    let mut order: Vec<u32> = Vec::new();
    for message in 0..index.messages.len() as u32 {
        order.clear();
        order.extend_from_slice(index.deliveries_of_message.of(message));
        tally.examined += order.len() as u64;
        stamps(index, tally, message, &order);
        order.retain(|delivery| index.deliveries[*delivery as usize].count > 0);
        order.sort_by_key(|delivery| {
            let row = &index.deliveries[*delivery as usize];
            (row.count, row.handle)
        });
        order.dedup_by_key(|delivery| index.deliveries[*delivery as usize].handle);
        counts(index, tally, message, &order);
    }
}

fn counts(index: &Index, tally: &mut Tally, message: u32, order: &[u32]) {
    let mut latest: Option<u32> = None;
    for (number, &delivery) in order.iter().enumerate() {
        let (row, at) = (&index.deliveries[delivery as usize], index.at(delivery));
        if let Some(latest) = latest {
            let before = &index.deliveries[latest as usize];
            let wrong = match () {
                () if before.count == row.count => "the same receive count as another delivery",
                () if at.before(index.at(latest)) => "a larger receive count than a later delivery",
                () => "",
            };
            if !wrong.is_empty() {
                tally.found(|| {
                    let name = index.name_of(message);
                    let what = format!("a delivery of {name} has {wrong}: {}", row.count);
                    index.finding_of(what, message, &[latest, delivery], &[])
                });
                return;
            }
        }
        let before = number.checked_sub(1).map(|before| order[before]);
        let skipped = u64::from(unseen(index, before, delivery).unwrap_or(0));
        if skipped > 0 {
            let lost = lost_receives(index, message, before, at);
            if !index.whole() || moved_by_receives(index, message) {
                tally.undecided();
            } else if skipped > lost {
                tally.found(|| {
                    let what = format!(
                        "{} has receive count {} at its delivery number {}, and only {lost} \
                         receives since the one before may have had it unseen",
                        index.name_of(message),
                        row.count,
                        number + 1
                    );
                    index.finding_of(what, message, &order[..=number], &[])
                });
                return;
            }
        }
        if latest.is_none_or(|latest| index.at(latest).inv <= at.inv) {
            latest = Some(delivery);
        }
    }
}

/// The queues that a message was in, as far as it was seen.
fn queues(index: &Index, message: u32) -> Vec<u32> {
    let mut queues = vec![index.messages[message as usize].queue];
    queues.extend(index.deliveries_of_message.of(message).iter().map(|it| index.queue_of(*it)));
    queues.sort_unstable();
    queues.dedup();
    queues
}

/// Receives that may have had the message unseen between two of its deliveries.
fn lost_receives(index: &Index, message: u32, before: Option<u32>, at: Span) -> u64 {
    let entered = index.messages[message as usize].entered;
    let since = before.map_or(entered.inv, |before| index.at(before).inv);
    let during = Span { inv: since, ret: at.ret };
    queues(index, message).into_iter().map(|queue| unseen_in(index, queue, during)).sum()
}

/// Receives that lost ones may have made of one message of a queue.
pub(super) fn unseen_in(index: &Index, queue: u32, during: Span) -> u64 {
    index.queues[queue as usize].lost_in(during).map(|it| times(index, it)).sum()
}

/// How often a lost receive may have had one message: a long poll that found it visible again, once more.
pub(super) fn times(index: &Index, lost: &Lost) -> u64 {
    let receive = &index.receives[lost.receive as usize];
    let queue = &index.queues[receive.queue as usize];
    let hidden = receive.visibility_us.unwrap_or_else(|| queue.visibility_us.min(receive.at));
    let took = receive.gave_up - receive.at.inv;
    1 + took.checked_div(hidden).unwrap_or(took)
}

/// Whether a task may have received the message to move it, and did not.
pub(super) fn moved_by_receives(index: &Index, message: u32) -> bool {
    let by_receives = |queue: u32| {
        let fifo = index.queues[queue as usize].fifo;
        fifo && index.promises().fifo_moves_hide_us.is_some() && index.graph.is_move_source(queue)
    };
    queues(index, message).into_iter().any(by_receives)
}

fn stamps(index: &Index, tally: &mut Tally, message: u32, order: &[u32]) {
    let Some(&first) = order.first() else { return };
    let home = index.messages[message as usize].queue;
    let (mut sent, mut received) = (0, 0);
    for &delivery in order {
        let row = &index.deliveries[delivery as usize];
        let queue = index.queue_of(delivery);
        let reset = queue != home && index.queues[queue as usize].fifo;
        let mut wrong = None;
        if row.sent_ms != 0 && !reset {
            if sent != 0 && sent != row.sent_ms {
                wrong = Some(format!("its time of sending was {sent} and is {}", row.sent_ms));
            }
            sent = row.sent_ms;
            let entered = index.messages[message as usize].entered;
            if !inside(index, row.sent_ms, entered) {
                wrong = Some(format!("its time of sending, {}, is not in its send", row.sent_ms));
            }
        }
        if row.first_received_ms != 0 {
            if received != 0 && received != row.first_received_ms {
                let now = row.first_received_ms;
                wrong = Some(format!("its first receive was at {received} and is at {now}"));
            }
            received = row.first_received_ms;
            let at = index.at(delivery);
            let inv = if row.count == 1 { at.inv } else { 0 };
            let repeated = index.receives[row.receive as usize].attempt != 0;
            let during = if repeated { Span { inv: 0, ..at } } else { Span { inv, ..at } };
            if !inside(index, row.first_received_ms, during) {
                wrong = Some(format!(
                    "its time of the first receive, {}, is not in that receive ({} to {})",
                    row.first_received_ms,
                    time(at.inv),
                    time(at.ret)
                ));
            }
        }
        if let Some(wrong) = wrong {
            tally.found(|| {
                let what = format!("{}: {wrong}", index.name_of(message));
                index.finding_of(what, message, &[first, delivery], &[])
            });
            return;
        }
    }
}

/// Whether a timestamp can be of a moment in a span.
fn inside(index: &Index, stamp_ms: u64, during: Span) -> bool {
    let (Some(from), Some(to)) = (index.wall_ms(during.inv), index.wall_ms(during.ret)) else {
        return true;
    };
    let allowed = index.bounds().clock_us.div_ceil(1_000) + 1;
    let from = if during.inv == 0 { 0 } else { from.saturating_sub(allowed) };
    from <= stamp_ms && stamp_ms <= to.saturating_add(allowed)
}
