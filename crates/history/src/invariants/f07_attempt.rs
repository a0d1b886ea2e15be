//! F7. Case: two receives of a FIFO queue under one attempt id, the second well within five minutes of
//! the first, while all that the first brought is certainly still leased and nothing was done to it.
//! The second brings the same messages with the same handles.
//!
//! Source: ReceiveRequestAttemptId. Undecided: when something may have been deleted, changed, purged
//! or received in between, and when either may have hidden more than it brought. `e` is taken off the
//! lease and the five minutes.

use std::collections::BTreeMap;

use super::hiding::{earliest_end, setters};
use crate::hash::Id;
use crate::index::{Index, Known, Receive};
use crate::verdict::Tally;

const INTERVAL_US: u64 = 5 * 60 * 1_000_000;

pub(super) fn check(index: &Index, tally: &mut Tally) {
    let mut attempts: BTreeMap<(u32, Id), Vec<u32>> = BTreeMap::new();
    for (number, receive) in (0u32..).zip(&index.receives) {
        let fifo = index.queues[receive.queue as usize].fifo;
        if fifo && receive.attempt != 0 && receive.outcome == Known::Ok {
            attempts.entry((receive.queue, receive.attempt)).or_default().push(number);
        }
    }
    for receives in attempts.values_mut() {
        receives.sort_by_key(|it| index.receives[*it as usize].at.inv);
        for pair in receives.windows(2) {
            check_pair(index, tally, pair[0], pair[1]);
        }
    }
}

fn check_pair(index: &Index, tally: &mut Tally, first: u32, second: u32) {
    let (first, second) = (&index.receives[first as usize], &index.receives[second as usize]);
    if first.count == 0 || !first.at.before(second.at) {
        return;
    }
    if !untouched(index, first, second) || first.lost || second.lost {
        tally.undecided();
        return;
    }
    tally.saw();
    let handles = |of: &Receive| {
        let deliveries = &index.deliveries[of.first as usize..(of.first + of.count) as usize];
        let mut handles: Vec<_> = deliveries.iter().map(|it| (it.message, it.handle)).collect();
        handles.sort_unstable();
        handles
    };
    if handles(first) == handles(second) {
        return;
    }
    tally.found(|| {
        let what = format!(
            "a receive was repeated under its attempt id and brought {} messages, not the same {}",
            second.count, first.count
        );
        let message = index.deliveries[first.first as usize].message;
        let mut finding = index.finding_of(what, message, &[first.first], &[second.record]);
        finding.at_us = second.at.inv;
        finding
    });
}

/// Whether all that the first brought certainly still was as it left it.
fn untouched(index: &Index, first: &Receive, second: &Receive) -> bool {
    let e = index.bounds().clock_us;
    let queue = &index.queues[first.queue as usize];
    let end = second.at.ret.saturating_add(e);
    if end >= first.at.inv.saturating_add(INTERVAL_US) {
        return false;
    }
    let cleared = queue.clearings.iter();
    if cleared.into_iter().any(|it| it.at.inv <= second.at.ret && it.at.ret >= first.at.inv) {
        return false;
    }
    let mut found = Vec::new();
    (first.first..first.first + first.count).all(|delivery| {
        let message = index.deliveries[delivery as usize].message;
        let touches = index.touches_of_message.of(message).iter();
        let touched =
            touches.into_iter().any(|it| index.touches[*it as usize].at.inv <= second.at.ret);
        let handle = index.deliveries[delivery as usize].handle;
        let received = index.deliveries_of_message.of(message).iter().any(|it| {
            index.deliveries[*it as usize].handle != handle
                && index.at(*it).inv <= second.at.ret
                && index.at(*it).ret >= first.at.inv
        });
        setters(index, message, &mut found);
        let others = |it: &super::hiding::Setter| index.at(it.delivery).inv >= second.at.inv;
        let held = earliest_end(&found, second.at, others).is_some_and(|until| end < until);
        // Its retention ends a lease, too.
        let row = &index.messages[message as usize];
        let expires = row.entered.inv.saturating_add(queue.retention_us.min(second.at));
        !touched && !received && held && end < expires
    })
}
