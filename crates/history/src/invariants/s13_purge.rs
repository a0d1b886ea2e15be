//! S13. Case: a message that was certainly in a queue when an acknowledged purge began. No receive
//! of that queue that began after the purge's answer may bring it. (What was sent after it survives:
//! S1.)
//!
//! Source: PurgeQueue; SQS takes up to a minute, here it is at once. Undecided: purges of unknown
//! outcome. No clock.

use super::time;
use crate::index::{Clearing, Index, NEVER};
use crate::verdict::Tally;

pub(super) fn check(index: &Index, tally: &mut Tally) {
    check_clearings(index, tally, false);
}

/// For deletions of queues this is a part of S14.
pub(super) fn check_clearings(index: &Index, tally: &mut Tally, deletes_queue: bool) {
    let wanted = |it: &&Clearing| it.deletes_queue == deletes_queue;
    for queue in &index.queues {
        for clearing in queue.clearings.iter().filter(wanted) {
            if clearing.at.ret == NEVER { tally.undecided() } else { tally.saw() }
        }
    }
    for (number, delivery) in (0u32..).zip(&index.deliveries) {
        let receive = &index.receives[delivery.receive as usize];
        let clearings = &index.queues[receive.queue as usize].clearings;
        if clearings.is_empty() {
            continue;
        }
        let row = &index.messages[delivery.message as usize];
        let there_by = match row.queue == receive.queue {
            true => row.entered.ret,
            false => {
                let all = index.deliveries_of_message.of(delivery.message).iter();
                let here = all.filter(|it| index.queue_of(**it) == receive.queue);
                here.map(|it| index.at(*it).ret).min().unwrap_or(NEVER)
            }
        };
        let cleared = clearings.iter().filter(wanted);
        let mut cleared =
            cleared.filter(|it| there_by < it.at.inv && it.over_at(receive.node) < receive.at.inv);
        let Some(clearing) = cleared.next() else { continue };
        tally.found(|| {
            let what = format!(
                "{} was in {} by {}, was delivered at {}, and the {} between was acknowledged at {}",
                index.name_of(delivery.message),
                index.queues[receive.queue as usize].name,
                time(there_by),
                time(receive.at.ret),
                if deletes_queue { "queue's deletion" } else { "purge" },
                time(clearing.at.ret)
            );
            index.finding_of(what, delivery.message, &[number], &[clearing.record])
        });
    }
}
