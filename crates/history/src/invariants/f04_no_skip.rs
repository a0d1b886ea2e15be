//! F4. Case: a delivery of a message of a group that was sent while an earlier one was certainly there, the
//! first one and those that follow when a lease has ended. Each earlier message of the group comes in the same answer, or may have left the queue before:
//! deleted, purged, expired, or moved to the dead-letter queue.
//!
//! Source: FIFO delivery. Undecided: as F2; a delete or purge of unknown outcome counts as if it had
//! worked, unless the message came again; what a repeated attempt may have brought again. `e` is in the
//! retention.

use super::groups::{deliveries, first_delivery, may_be_repeated, orders, response};
use super::{leaving, time};
use crate::index::{Index, Stay};
use crate::verdict::Tally;

/// One more than the messages of an answer: some earlier message that stayed longest is not in it.
const KEPT: usize = 11;

pub(super) fn check(index: &Index, tally: &mut Tally) {
    for group in 0..index.groups.len() as u32 {
        for stays in orders(index, group) {
            check_order(index, tally, &stays);
        }
    }
}

fn check_order(index: &Index, tally: &mut Tally, stays: &[u32]) {
    // Those earlier ones that stayed longest, the longest first.
    let mut longest: Vec<(u64, u32)> = Vec::with_capacity(KEPT + 1);
    for (number, &row) in stays.iter().enumerate() {
        let stay = &index.stays[row as usize];
        let queue = index.groups[stay.group as usize].queue;
        let first = first_delivery(index, stay);
        for delivery in deliveries(index, stay).filter(|_| number > 0) {
            if Some(delivery) != first && may_be_repeated(index, delivery) {
                tally.undecided();
                continue;
            }
            check_delivery(index, tally, &longest, stay, delivery);
        }
        let gone = leaving::earliest(index, stay.message, queue, stay.entered.inv);
        let place = longest.partition_point(|it| it.0 >= gone);
        longest.insert(place, (gone, row));
        longest.truncate(KEPT);
    }
}

fn check_delivery(
    index: &Index,
    tally: &mut Tally,
    longest: &[(u64, u32)],
    stay: &Stay,
    delivery: u32,
) {
    let there = longest.first().is_some_and(|(gone, _)| *gone > stay.entered.ret);
    tally.examined += u64::from(there);
    let at = index.at(delivery);
    let skipped = longest.iter().take_while(|(gone, _)| *gone > at.ret).find(|(_, other)| {
        let other = &index.stays[*other as usize];
        deliveries(index, other).all(|it| response(index, it) != response(index, delivery))
    });
    let Some(&(_, skipped)) = skipped else { return };
    let skipped = &index.stays[skipped as usize];
    tally.found(|| {
        let what = format!(
            "{} was delivered at {}, and {}, which lies before it, was still there",
            index.name_of(stay.message),
            time(at.ret),
            index.name_of(skipped.message)
        );
        let sends = index.attempts_of_message.of(skipped.message).iter();
        let mut records: Vec<u32> = sends.map(|it| index.attempts[*it as usize].record).collect();
        let other = deliveries(index, skipped).take(3);
        records.extend(other.map(|it| index.receives[response(index, it) as usize].record));
        index.finding_of(what, stay.message, &[delivery], &records)
    });
}
