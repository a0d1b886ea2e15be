//! F2. Cases: a message of a group that was delivered and is followed by one that was; and two
//! neighbours of one group in one answer. First deliveries come in the order of sequence numbers,
//! and so do the messages of an answer.
//!
//! Source: FIFO delivery. Undecided: a dead-letter queue's messages where several orders meet (those
//! sent there, those moved there, from several sources). No clock.

use super::groups::{first_delivery, first_start, orders};
use super::time;
use crate::index::{Index, NONE};
use crate::verdict::Tally;

pub(super) fn check(index: &Index, tally: &mut Tally) {
    for group in 0..index.groups.len() as u32 {
        for stays in orders(index, group) {
            check_order(index, tally, &stays);
        }
    }
    for receive in &index.receives {
        check_answer(index, tally, receive.first, receive.count);
    }
}

fn check_order(index: &Index, tally: &mut Tally, stays: &[u32]) {
    // Of those behind, the delivery that was over first.
    let mut first: Option<u32> = None;
    for &stay in stays.iter().rev() {
        let stay = &index.stays[stay as usize];
        let Some(own) = first_delivery(index, stay) else { continue };
        if let Some(behind) = first {
            tally.saw();
            if index.at(behind).ret < first_start(index, stay) {
                tally.found(|| {
                    let behind_row = &index.deliveries[behind as usize];
                    let what = format!(
                        "{} was delivered first at {}, and {}, which lies behind it, at {}",
                        index.name_of(stay.message),
                        time(index.at(own).ret),
                        index.name_of(behind_row.message),
                        time(index.at(behind).ret)
                    );
                    index.finding_of(what, stay.message, &[behind, own], &[])
                });
            }
        }
        if first.is_none_or(|it| index.at(it).ret > index.at(own).ret) {
            first = Some(own);
        }
    }
}

fn check_answer(index: &Index, tally: &mut Tally, from: u32, count: u32) {
    for later in from + 1..from + count {
        let row = &index.deliveries[later as usize];
        if row.group == NONE || row.sequence == 0 {
            continue;
        }
        let earlier =
            (from..later).rev().find(|it| index.deliveries[*it as usize].group == row.group);
        let Some(earlier) = earlier else { continue };
        tally.saw();
        let before = &index.deliveries[earlier as usize];
        let ordered = index.queues[index.queue_of(later) as usize].fifo;
        if ordered && before.sequence > row.sequence && comparable(index, earlier, later) {
            tally.found(|| {
                let what = format!(
                    "{} stands before {} in one answer, and has the larger sequence number",
                    index.name_of(before.message),
                    index.name_of(row.message)
                );
                index.finding_of(what, row.message, &[earlier, later], &[])
            });
        }
    }
}

/// Both were sent to this queue, or both were moved there from the only source.
fn comparable(index: &Index, one: u32, other: u32) -> bool {
    let queue = index.queue_of(one);
    let home = |it: u32| {
        let message = index.deliveries[it as usize].message;
        index.messages[message as usize].queue == queue
    };
    home(one) == home(other) && (home(one) || index.graph.sources(queue).count() == 1)
}
