//! S10. Case: a message whose retention ended before the history did. No receive that brings it began
//! later than its send's end plus the retention, the slack and `e`. (That nothing is gone sooner is S1's.)
//!
//! Source: `MessageRetentionPeriod`, counted from the send, also in a standard dead-letter queue; a
//! FIFO dead-letter queue counts from the move. Undecided: messages whose send was never
//! acknowledged. Of several possible retentions the longest counts.

use super::time;
use crate::index::{Index, Span};
use crate::verdict::Tally;

pub(super) fn check(index: &Index, tally: &mut Tally) {
    let bounds = index.bounds();
    let slack = bounds.retention_slack_us.saturating_add(bounds.clock_us);
    for row in index.messages.iter().filter(|it| it.acknowledged) {
        let retention = index.queues[row.queue as usize].retention_us.max(row.entered);
        let end = row.entered.ret.saturating_add(retention).saturating_add(slack);
        tally.examined += u64::from(end < index.last_us);
    }
    for (number, delivery) in (0u32..).zip(&index.deliveries) {
        let row = &index.messages[delivery.message as usize];
        let receive = &index.receives[delivery.receive as usize];
        let queue = &index.queues[receive.queue as usize];
        if receive.queue != row.queue && queue.fifo {
            continue;
        }
        if !row.acknowledged {
            tally.undecided();
            continue;
        }
        let during = Span { inv: row.entered.inv, ret: receive.at.ret };
        let end = row.entered.ret.saturating_add(queue.retention_us.max(during));
        if end.saturating_add(slack) < receive.at.inv {
            tally.found(|| {
                let what = format!(
                    "{} was delivered by a receive of {}, and its retention ended at {}",
                    index.name_of(delivery.message),
                    time(receive.at.inv),
                    time(end)
                );
                index.finding_of(what, delivery.message, &[number], &[])
            });
        }
    }
}
