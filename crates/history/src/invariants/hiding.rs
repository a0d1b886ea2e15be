//! For how long a message is certainly hidden, and when it certainly is not.

use crate::index::{Index, Known, NEVER, Receive, Span, TouchKind};

/// Something that hid a message for some time from when it took effect.
pub(super) struct Setter {
    pub(super) at: Span,
    pub(super) shortest_us: u64,
    pub(super) longest_us: u64,
    /// It took effect.
    pub(super) certain: bool,
    /// The delivery itself, or that whose handle was used.
    pub(super) delivery: u32,
    pub(super) is_delivery: bool,
    pub(super) record: u32,
}

/// All that is known to have hidden a message, or may have: deliveries and changes of visibility.
pub(super) fn setters(index: &Index, message: u32, found: &mut Vec<Setter>) {
    found.clear();
    for &delivery in index.deliveries_of_message.of(message) {
        let receive = &index.receives[index.deliveries[delivery as usize].receive as usize];
        let (shortest_us, longest_us) = visibility(index, receive);
        found.push(Setter {
            at: receive.at,
            shortest_us,
            longest_us,
            certain: true,
            delivery,
            is_delivery: true,
            record: receive.record,
        });
    }
    for number in 0..found.len() {
        let delivery = found[number].delivery;
        let receive = &index.receives[index.deliveries[delivery as usize].receive as usize];
        // Those that perhaps repeated this one hid the message anew.
        let asked = index.asked_again(receive).iter().map(|it| &index.receives[*it as usize]);
        for lost in asked.filter(|it| it.lost && it.record != receive.record) {
            let (shortest_us, longest_us) = visibility(index, lost);
            found.push(Setter {
                at: Span { ret: NEVER, ..lost.at },
                shortest_us,
                longest_us,
                certain: false,
                delivery,
                is_delivery: false,
                record: lost.record,
            });
        }
    }
    for touch in index.touches_of_message.of(message) {
        let touch = &index.touches[*touch as usize];
        let TouchKind::Change(us) = touch.kind else { continue };
        found.push(Setter {
            at: touch.at,
            shortest_us: us,
            longest_us: us,
            certain: touch.outcome == Known::Ok
                && super::deleting::acts(index, touch) == super::deleting::Acts::Surely,
            delivery: touch.delivery,
            is_delivery: false,
            record: touch.record,
        });
    }
}

/// The shortest and the longest lease that a receive may have given.
fn visibility(index: &Index, receive: &Receive) -> (u64, u64) {
    let queue = &index.queues[receive.queue as usize];
    match receive.visibility_us {
        Some(given) => (given, given),
        None => (queue.visibility_us.min(receive.at), queue.visibility_us.max(receive.at)),
    }
}

/// When the message may have become visible again at the earliest, as whoever asked at a time could
/// see it; `None` when it need not have been hidden at all. `skip`: the case in question itself.
pub(super) fn earliest_end(
    setters: &[Setter],
    at: Span,
    skip: impl Fn(&Setter) -> bool,
) -> Option<u64> {
    let others = || setters.iter().filter(|setter| !skip(setter));
    // What a certain one replaced before `at` no longer counts.
    let done = others().filter(|it| it.certain && it.at.before(at));
    let floor = done.map(|it| it.at.inv).max()?;
    others()
        .filter(|it| it.at.inv <= at.ret && it.at.ret >= floor)
        .map(|it| it.at.inv.saturating_add(it.shortest_us))
        .min()
}

/// From when to when a message was certainly hidden because of a certain setter, if at all. Nothing that
/// is hidden is moved to another queue.
pub(super) fn certain_lease(
    index: &Index,
    message: u32,
    setters: &[Setter],
    setter: &Setter,
) -> Option<Span> {
    if !setter.certain {
        return None;
    }
    let queue = index.queue_of(setter.delivery);
    let own_end = setter.at.inv.saturating_add(setter.shortest_us);
    let others = setters.iter().filter(|it| !it.at.before(setter.at));
    let mut end = others.map(|it| it.at.inv.saturating_add(it.shortest_us)).min()?.min(own_end);
    end = end.min(super::leaving::removed(index, message, queue, setter.at.inv));
    (end > setter.at.ret).then_some(Span { inv: setter.at.ret, ret: end })
}
