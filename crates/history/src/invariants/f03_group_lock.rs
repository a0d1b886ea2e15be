//! F3. Case: a delivery of a message of a group. While an earlier message of the group is certainly
//! leased (and not deleted), no other receive may bring it. An earlier message may come again while
//! a later one is out; messages of one answer do not wait for each other.
//!
//! Source: "a message is deliverable iff it is visible and no earlier one of its group is invisible".
//! Undecided: receives under an attempt id that was asked more than once, which may repeat another; leases
//! that an unknown delete or change may have ended. `e` is added to the delivery's end.

use super::groups::{deliveries, may_be_repeated, orders, response};
use super::hiding::{certain_lease, setters};
use super::time;
use crate::index::{Index, Span};
use crate::verdict::Tally;

struct Lease {
    during: Span,
    sequence: u128,
    delivery: u32,
}

pub(super) fn check(index: &Index, tally: &mut Tally) {
    for group in 0..index.groups.len() as u32 {
        for stays in orders(index, group) {
            check_group(index, tally, &stays);
        }
    }
}

fn check_group(index: &Index, tally: &mut Tally, stays: &[u32]) {
    if stays.len() < 2 {
        return;
    }
    let mut leases = leases(index, stays);
    leases.sort_by_key(|it| it.during.inv);
    let mut cases: Vec<(u32, u128)> = Vec::new();
    for stay in stays.iter().map(|it| &index.stays[*it as usize]) {
        cases.extend(deliveries(index, stay).map(|it| (it, stay.sequence)));
    }
    cases.sort_by_key(|it| index.at(it.0).inv);
    let e = index.bounds().clock_us;
    let first = leases.iter().map(|it| it.sequence).min();
    let mut next = leases.iter().peekable();
    let mut active: Vec<&Lease> = Vec::new();
    for (delivery, sequence) in cases {
        let at = index.at(delivery);
        while let Some(lease) = next.next_if(|it| it.during.inv <= at.inv) {
            active.push(lease);
        }
        active.retain(|it| it.during.ret > at.inv);
        if may_be_repeated(index, delivery) {
            tally.undecided();
            continue;
        }
        // Where no earlier one ever certainly was out there is nothing to see.
        tally.examined += u64::from(first.is_some_and(|first| first < sequence));
        let blocks = |it: &&&Lease| {
            it.sequence < sequence
                && it.during.ret > at.ret.saturating_add(e)
                && response(index, it.delivery) != response(index, delivery)
        };
        let Some(lease) = active.iter().find(blocks) else { continue };
        tally.found(|| {
            let (message, before) = (
                index.deliveries[delivery as usize].message,
                index.deliveries[lease.delivery as usize].message,
            );
            let what = format!(
                "{} was delivered at {} while {}, which lies before it, was out until {} at least",
                index.name_of(message),
                time(at.ret),
                index.name_of(before),
                time(lease.during.ret)
            );
            index.finding_of(what, message, &[lease.delivery, delivery], &[])
        });
    }
}

fn leases(index: &Index, stays: &[u32]) -> Vec<Lease> {
    let mut leases = Vec::new();
    let mut found = Vec::new();
    for stay in stays.iter().map(|it| &index.stays[*it as usize]) {
        let queue = index.groups[stay.group as usize].queue;
        setters(index, stay.message, &mut found);
        for setter in found.iter().filter(|it| index.queue_of(it.delivery) == queue) {
            if let Some(during) = certain_lease(index, stay.message, &found, setter) {
                let (sequence, delivery) = (stay.sequence, setter.delivery);
                leases.push(Lease { during, sequence, delivery });
            }
        }
    }
    leases
}
