//! S16. (a) Case: a long poll that was answered: by its wait plus `poll_slack_us`. (b) Case: one that ended
//! empty and at its time: no message was certainly visible for more than `wakeup_us` until then, on a
//! shard of which the answer does not say that it would not have heard. A message that some receive may
//! have had meanwhile does not count (its next receive tells how often it was received before), nor one
//! that may have been moved, deleted, purged or have expired, nor one of a FIFO group behind another.
//!
//! Source: a long poll asks every server and ends with the first message; SQS allows rare false
//! empties, we none. Undecided: (b) while a receive may hold messages that nobody saw, where the limit
//! of messages in flight may have been reached, polls that heard of no shard, and polls whose time was over
//! while their node stood still: what came meanwhile could not be told to it. The same holds for a message that
//! came while a fault of their node lasted, until as long after that as the service has. Examined are the polls
//! of (b) that could be judged. `e` is added to every end of a lease or delay. With a fault in the poll
//! or not long before, `wakeup_faulty_us` takes the place of `wakeup_us`, also for polls that ended before
//! their time, and (a) is not asked.

use super::time;
use super::visible::{View, crowds};
use crate::index::{Index, Known, Receive, Span};
use crate::verdict::Tally;

pub(super) fn check(index: &Index, tally: &mut Tally, views: &[View]) {
    let crowds = crowds(index);
    for (number, receive) in (0u32..).zip(&index.receives) {
        let queue = &index.queues[receive.queue as usize];
        let wait = receive.wait_us.unwrap_or_else(|| queue.wait_us.max(receive.at));
        if receive.outcome != Known::Ok || wait == 0 {
            continue;
        }
        let disturbed = index.disturbed(receive.at);
        let took = receive.at.ret - receive.at.inv;
        let allowed = wait.saturating_add(index.bounds().poll_slack_us);
        if !disturbed && took > allowed {
            tally.found(|| {
                let what = format!("a long poll of {} took {}", time(wait), time(took));
                index.finding_of_receive(what, receive)
            });
        }
        let Some(during) = judged(index, receive, wait, disturbed).filter(|_| receive.count == 0)
        else {
            continue;
        };
        let stood_still = index.stood_still(receive.node, during.ret);
        if stood_still || crowds[receive.queue as usize](during) {
            tally.undecided();
        } else {
            check_empty(index, tally, number, during, &views[receive.queue as usize]);
        }
    }
}

/// Until when a poll that ended empty certainly waited at the server: from its start on for all of its wait.
pub(super) fn end_of_wait(receive: &Receive, wait: u64) -> u64 {
    receive.at.inv.saturating_add(wait).min(receive.at.ret)
}

/// The last part of a poll, for which no message may have been there.
fn judged(index: &Index, receive: &Receive, wait: u64, disturbed: bool) -> Option<Span> {
    let bounds = index.bounds();
    let end = end_of_wait(receive, wait);
    let early = end == receive.at.ret;
    let enough = if disturbed || early { bounds.wakeup_faulty_us } else { bounds.wakeup_us };
    let inv = end.checked_sub(enough).filter(|it| *it > receive.at.inv)?;
    Some(Span { inv, ret: end })
}

fn check_empty(index: &Index, tally: &mut Tally, number: u32, during: Span, view: &View) {
    let receive = &index.receives[number as usize];
    let Some((window, message)) = view.covering(during, index.unheard_by(number)) else {
        if view.is_blind(during) {
            tally.undecided()
        } else {
            tally.saw()
        }
        return;
    };
    if index.struck(receive.node, window.inv, during) {
        return tally.undecided();
    }
    tally.saw();
    tally.found(|| {
        let what = format!(
            "a long poll that began at {} ended empty at {}, and {} was visible since {}",
            time(receive.at.inv),
            time(receive.at.ret),
            index.name_of(message),
            time(window.inv)
        );
        let deliveries = index.deliveries_of_message.of(message);
        let mut finding = index.finding_of(what, message, deliveries, &[receive.record]);
        finding.nodes.push(receive.node);
        finding.at_us = receive.at.ret;
        finding
    });
}
