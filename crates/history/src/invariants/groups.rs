//! A group of a FIFO queue as its deliveries show it.

use crate::index::{Delivery, Index, NEVER, NONE, Stay};

/// Whether the order of a group's messages is promised at all: messages that were moved into a
/// dead-letter queue are in an order of their own, and those from several sources in several.
pub(super) fn is_ordered(index: &Index, stay: &Stay) -> bool {
    let queue = index.groups[stay.group as usize].queue;
    stay.home || index.graph.sources(queue).count() == 1
}

/// The delivery of a stay that was certainly over first.
pub(super) fn first_delivery(index: &Index, stay: &Stay) -> Option<u32> {
    deliveries(index, stay).min_by_key(|it| index.at(*it).ret)
}

/// When the first receive that brought it began.
pub(super) fn first_start(index: &Index, stay: &Stay) -> u64 {
    deliveries(index, stay).map(|it| index.at(it).inv).min().unwrap_or(NEVER)
}

/// Deliveries of a message from the queue of its stay.
pub(super) fn deliveries<'a>(index: &'a Index, stay: &Stay) -> impl Iterator<Item = u32> + 'a {
    let queue = index.groups[stay.group as usize].queue;
    let all = index.deliveries_of_message.of(stay.message).iter().copied();
    all.filter(move |it| index.queue_of(*it) == queue)
}

/// The receive of a delivery.
pub(super) fn response(index: &Index, delivery: u32) -> u32 {
    index.deliveries[delivery as usize].receive
}

/// A repetition of an earlier receive under its attempt id may have brought this.
pub(super) fn may_be_repeated(index: &Index, delivery: u32) -> bool {
    let row: &Delivery = &index.deliveries[delivery as usize];
    index.asked_again(&index.receives[row.receive as usize]).len() > 1
}

/// The stays of a group that are comparable with each other: those that were sent there, then those
/// that were moved there, each in order of their numbers.
pub(super) fn orders(index: &Index, group: u32) -> [Vec<u32>; 2] {
    let of = |home: bool| {
        let stays = index.stays_of_group.of(group).iter().copied();
        let stays = stays.filter(|it| {
            let stay = &index.stays[*it as usize];
            stay.home == home && stay.group != NONE && is_ordered(index, stay)
        });
        stays.collect()
    };
    [of(true), of(false)]
}
