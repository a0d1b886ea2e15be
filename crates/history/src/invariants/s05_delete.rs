//! S5. Case: an acknowledged delete with a handle that was not certainly an old one. No receive that
//! began after it may bring the message.
//!
//! Source: DeleteMessage; SQS lets deleted messages reappear rarely, a majority does not.
//! Undecided: the message comes from another queue, and may have been moved there before the delete,
//! which then had nothing to delete. For "certainly not moved yet" `e` is taken off the lease.

use super::deleting::{Acts, Age, acts, age};
use super::hiding::{earliest_end, setters};
use super::time;
use crate::index::{Index, NONE, Touch, TouchKind};
use crate::verdict::Tally;

pub(super) fn check(index: &Index, tally: &mut Tally) {
    check_deletes(index, tally, |age| age != Age::Old, "");
}

/// For those handles of which `wanted` says so.
pub(super) fn check_deletes(
    index: &Index,
    tally: &mut Tally,
    wanted: fn(Age) -> bool,
    handle: &str,
) {
    for touch in index.touches.iter().filter(|it| it.kind == TouchKind::Delete) {
        if touch.delivery == NONE || acts(index, touch) != Acts::Surely {
            continue;
        }
        if !wanted(age(index, touch)) {
            continue;
        }
        let message = index.deliveries[touch.delivery as usize].message;
        let mut judged = true;
        for &delivery in index.deliveries_of_message.of(message) {
            let at = index.at(delivery);
            if !touch.at.before(at) {
                continue;
            }
            if index.queue_of(delivery) != touch.queue && !held(index, message, touch) {
                judged = false;
                continue;
            }
            tally.found(|| {
                let what = format!(
                    "{} was delivered at {}, after its delete{handle} was acknowledged at {}",
                    index.name_of(message),
                    time(at.ret),
                    time(touch.at.ret)
                );
                index.finding_of(what, message, &[touch.delivery, delivery], &[touch.record])
            });
            break;
        }
        if judged { tally.saw() } else { tally.undecided() }
    }
}

/// Whether a lease of the handle's queue certainly still stood when the delete was answered.
fn held(index: &Index, message: u32, touch: &Touch) -> bool {
    let moved = index
        .deliveries_of_message
        .of(message)
        .iter()
        .any(|it| index.queue_of(*it) != touch.queue && index.at(*it).inv <= touch.at.ret);
    if moved {
        return false;
    }
    let mut found = Vec::new();
    setters(index, message, &mut found);
    let elsewhere = |it: &super::hiding::Setter| index.queue_of(it.delivery) != touch.queue;
    let end = earliest_end(&found, touch.at, elsewhere);
    end.is_some_and(|end| touch.at.ret.saturating_add(index.bounds().clock_us) < end)
}
