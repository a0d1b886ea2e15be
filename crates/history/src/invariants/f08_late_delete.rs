//! F8. Cases: a delete in a FIFO queue that began after its handle's lease had certainly ended and was
//! answered, and one that was refused because of its handle while that lease certainly stood. The
//! first must not be acknowledged while the message is there; the second must not be refused.
//!
//! Source: "the receipt handle has expired". A message that is gone already (another delete, a purge,
//! its age, a dead-letter move) makes any delete a success, so that is undecided, and so is a handle
//! whose lease some unknown change or repeated receive may have prolonged. `e` is added to the lease
//! of the first, and taken off that of the second.
//! That a refused delete did nothing is S1's; that an acknowledged one did something is S5's.

use super::hiding::{certain_lease, setters};
use super::time;
use crate::index::{Index, Known, NEVER, NONE, Refusal, Span, Touch, TouchKind};
use crate::verdict::Tally;

pub(super) fn check(index: &Index, tally: &mut Tally) {
    for touch in index.touches.iter().filter(|it| it.kind == TouchKind::Delete) {
        if touch.outcome != Known::Ok || touch.delivery == NONE {
            continue;
        }
        if !index.queues[touch.queue as usize].fifo || index.queue_of(touch.delivery) != touch.queue
        {
            continue;
        }
        let end = latest_end(index, touch.delivery).saturating_add(index.bounds().clock_us);
        if touch.at.inv <= end {
            continue;
        }
        let message = index.deliveries[touch.delivery as usize].message;
        if !certainly_there(index, message, touch) {
            tally.undecided();
            continue;
        }
        tally.saw();
        tally.found(|| {
            let what = format!(
                "a delete of {} that began at {} was acknowledged; its lease had ended by {}",
                index.name_of(message),
                time(touch.at.inv),
                time(end)
            );
            index.finding_of(what, message, &[touch.delivery], &[touch.record])
        });
    }
    for refusal in &index.refusals {
        check_refusal(index, tally, refusal);
    }
}

fn check_refusal(index: &Index, tally: &mut Tally, refusal: &Refusal) {
    let Some(&delivery) = index.by_handle.get(&refusal.handle) else { return };
    if !index.queues[refusal.queue as usize].fifo || index.queue_of(delivery) != refusal.queue {
        return;
    }
    tally.saw();
    let message = index.deliveries[delivery as usize].message;
    let mut found = Vec::new();
    setters(index, message, &mut found);
    let own = found.iter().find(|it| it.is_delivery && it.delivery == delivery);
    let lease = own.and_then(|own| certain_lease(index, message, &found, own));
    let e = index.bounds().clock_us;
    let held =
        |lease: &Span| lease.inv <= refusal.at.inv && refusal.at.ret.saturating_add(e) < lease.ret;
    if let Some(lease) = lease.filter(held) {
        tally.found(|| {
            let what = format!(
                "a delete of {} was refused at {}, and its lease ends at {} at the earliest",
                index.name_of(message),
                time(refusal.at.ret),
                time(lease.ret)
            );
            index.finding_of(what, message, &[delivery], &[refusal.record])
        });
    }
}

/// When the lease of a handle had certainly ended.
fn latest_end(index: &Index, delivery: u32) -> u64 {
    let row = &index.deliveries[delivery as usize];
    let mut end = 0;
    for &other in index.deliveries_of_message.of(row.message) {
        if index.deliveries[other as usize].handle != row.handle {
            continue;
        }
        let receive = &index.receives[index.deliveries[other as usize].receive as usize];
        let register = &index.queues[receive.queue as usize].visibility_us;
        let hidden = receive.visibility_us.unwrap_or_else(|| register.max(receive.at));
        end = end.max(receive.at.ret.saturating_add(hidden));
        // A repetition that nobody saw restarts the lease.
        let asked = index.asked_again(receive).iter().map(|it| &index.receives[*it as usize]);
        if asked.into_iter().any(|it| it.lost) {
            end = NEVER;
        }
    }
    for touch in index.touches_of_message.of(row.message) {
        let touch = &index.touches[*touch as usize];
        if let TouchKind::Change(us) = touch.kind {
            end = end.max(touch.at.ret.saturating_add(us));
        }
    }
    end
}

fn certainly_there(index: &Index, message: u32, late: &Touch) -> bool {
    let row = &index.messages[message as usize];
    if row.queue != late.queue || !index.is_isolated(late.queue) {
        return false;
    }
    let touches = index.touches_of_message.of(message).iter();
    let other_delete = touches.map(|it| &index.touches[*it as usize]).filter(|it| {
        // A batch may delete it with two handles.
        !std::ptr::eq(*it, late) && it.kind == TouchKind::Delete && it.at.inv <= late.at.ret
    });
    let other_delete = other_delete.count() > 0;
    let queue = &index.queues[late.queue as usize];
    let cleared = queue.clearings.iter().any(|it| it.at.inv <= late.at.ret);
    let retention = queue.retention_us.min(Span { inv: row.entered.inv, ret: late.at.ret });
    let e = index.bounds().clock_us;
    let expired = row.entered.inv.saturating_add(retention) <= late.at.ret.saturating_add(e);
    !other_delete && !cleared && !expired
}
