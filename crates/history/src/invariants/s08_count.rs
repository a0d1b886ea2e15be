//! S8. Case: a delivery. Receive counts of one message grow from delivery to delivery, no two are
//! equal, and what is skipped is explained by receives of its queues of unknown outcome;
//! `SentTimestamp` stays and lies inside the send, `ApproximateFirstReceiveTimestamp` stays and lies
//! inside the first receive.
//!
//! Source: system attributes; approximate in SQS, exact where one majority counts. A move to a
//! dead-letter queue goes on counting and keeps the send's time, but for FIFO queues.
//! Undecided: gaps when the end of the history is missing. `e`, and a millisecond for
//! rounding, are allowed around timestamps; without a wall clock only their constancy is checked.

use super::time;
use crate::index::{Index, Span};
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
        let skipped = u64::from(row.count) - (number as u64 + 1).min(u64::from(row.count));
        if skipped > 0 {
            let lost = lost_receives(index, message, at);
            if !index.whole() {
                tally.undecided();
            } else if skipped > lost {
                tally.found(|| {
                    let what = format!(
                        "{} has receive count {} at its delivery number {}, and only {lost} \
                         receives are of unknown outcome",
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

/// Receives of unknown outcome up to some delivery, of every queue that the message was in.
fn lost_receives(index: &Index, message: u32, at: Span) -> u64 {
    let mut queues = vec![index.messages[message as usize].queue];
    queues.extend(index.deliveries_of_message.of(message).iter().map(|it| index.queue_of(*it)));
    queues.sort_unstable();
    queues.dedup();
    let lost = queues.into_iter().map(|it| index.queues[it as usize].lost_receives_until(at.ret));
    lost.sum::<usize>() as u64
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
