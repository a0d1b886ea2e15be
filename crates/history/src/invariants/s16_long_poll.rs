//! S16. Case: a long poll. (a) It is answered by its wait plus `poll_slack_us`. (b) When it is
//! empty, no message was certainly visible for more than `wakeup_us` up to its end. A message that
//! some receive may have had meanwhile does not count, nor one that may have been moved, deleted,
//! purged or have expired, nor one of a FIFO group behind another.
//!
//! Source: a long poll asks every server and ends with the first message; SQS allows rare false
//! empties, we none. Undecided: (b) while a receive of unknown outcome may hold messages, and where the
//! limit of messages in flight may have been reached; the receives settle within `settle_us`. `e` is added to every end of a lease or delay. With a fault in the
//! poll or not long before, `wakeup_faulty_us` takes the place of `wakeup_us`, and (a) is not asked.

use super::time;
use super::visible::{Windows, crowded, windows};
use crate::index::{Index, Known, Receive};
use crate::verdict::Tally;

pub(super) fn check(index: &Index, tally: &mut Tally) {
    let windows = windows(index);
    let crowded = crowded(index);
    for receive in index.receives.iter().filter(|it| it.outcome == Known::Ok) {
        let queue = &index.queues[receive.queue as usize];
        let wait = receive.wait_us.unwrap_or_else(|| queue.wait_us.max(receive.at));
        if wait == 0 {
            continue;
        }
        tally.saw();
        let disturbed = index.disturbed(receive.at);
        let took = receive.at.ret - receive.at.inv;
        let allowed = wait.saturating_add(index.bounds().poll_slack_us);
        if !disturbed && took > allowed {
            tally.found(|| {
                let what = format!("a long poll of {} took {}", time(wait), time(took));
                about(index, receive, what)
            });
        }
        if receive.count == 0 && crowded[receive.queue as usize] {
            tally.undecided();
        } else if receive.count == 0 {
            check_empty(index, tally, receive, &windows[receive.queue as usize], disturbed);
        }
    }
}

fn check_empty(
    index: &Index,
    tally: &mut Tally,
    receive: &Receive,
    windows: &Windows,
    disturbed: bool,
) {
    let bounds = index.bounds();
    let enough = if disturbed { bounds.wakeup_faulty_us } else { bounds.wakeup_us };
    let Some(from) = receive.at.ret.checked_sub(enough).filter(|it| *it > receive.at.inv) else {
        return;
    };
    let Some((window, message)) = windows.covering(from, receive.at.ret) else { return };
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

fn about(index: &Index, receive: &Receive, what: String) -> crate::verdict::Finding {
    let mut finding = index.finding(what, receive.at.inv);
    finding.queue = Some(index.queues[receive.queue as usize].name.clone());
    finding.nodes = vec![receive.node];
    finding.records = vec![receive.record];
    finding
}
