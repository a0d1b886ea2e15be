//! What a handle can do.

use super::groups::may_be_repeated;
use crate::index::{Index, Known, NONE, Span, Touch, TouchKind};
use crate::options::OldHandles;

/// Whether a delete or change with a handle acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Acts {
    Surely,
    Perhaps,
    Never,
}

/// Whether the handle was the newest one of its message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Age {
    Newest,
    Old,
    Unknown,
}

/// See [`Age`].
pub(super) fn age(index: &Index, touch: &Touch) -> Age {
    let own = &index.deliveries[touch.delivery as usize];
    let own_at = index.at(touch.delivery);
    let mut age = Age::Newest;
    for &other in index.deliveries_of_message.of(own.message) {
        let (row, at) = (&index.deliveries[other as usize], index.at(other));
        if row.handle == own.handle {
            continue;
        }
        if own_at.before(at) && at.before(touch.at) {
            return Age::Old;
        }
        if at.inv <= touch.at.ret && at.ret >= own_at.inv && !at.before(own_at) {
            age = Age::Unknown;
        }
    }
    let queue = &index.queues[touch.queue as usize];
    let since = Span { inv: own_at.inv, ret: touch.at.ret };
    if age == Age::Newest && queue.lost_in(since).next().is_some() {
        age = Age::Unknown;
    }
    age
}

/// What was promised of this handle, when the answer was a success or unknown.
pub(super) fn acts(index: &Index, touch: &Touch) -> Acts {
    if touch.delivery == NONE || index.queue_of(touch.delivery) != touch.queue {
        return Acts::Perhaps;
    }
    let fifo = index.queues[touch.queue as usize].fifo;
    let old_handles = index.promises().old_handles;
    let acts = match old_handles {
        _ if fifo => Acts::Surely,
        OldHandles::Act => Acts::Surely,
        OldHandles::AreIgnored => match age(index, touch) {
            Age::Newest => Acts::Surely,
            Age::Old => Acts::Never,
            Age::Unknown => Acts::Perhaps,
        },
        OldHandles::Undefined => match age(index, touch) {
            Age::Newest => Acts::Surely,
            Age::Old | Age::Unknown => Acts::Perhaps,
        },
    };
    match acts {
        Acts::Surely if touch.outcome == Known::Ok => Acts::Surely,
        Acts::Surely if fifo && touch.kind == TouchKind::Delete && came_again(index, touch) => {
            Acts::Never
        }
        Acts::Surely => Acts::Perhaps,
        acts => acts,
    }
}

/// Whether the message was received anew after the handle's receive: in a FIFO queue the handle is of no use
/// from then on, and a delete with it before would have left nothing to receive.
fn came_again(index: &Index, touch: &Touch) -> bool {
    let own = &index.deliveries[touch.delivery as usize];
    let own_at = index.at(touch.delivery);
    index.deliveries_of_message.of(own.message).iter().any(|&other| {
        index.deliveries[other as usize].handle != own.handle
            && index.queue_of(other) == touch.queue
            && own_at.before(index.at(other))
            && !may_be_repeated(index, other)
    })
}
