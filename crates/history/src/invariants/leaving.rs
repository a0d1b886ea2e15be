//! When a message may have left its queue, and when it certainly had.

use super::deleting::{Acts, acts};
use crate::index::{Index, NEVER, TouchKind};

/// The earliest moment from `since` on at which a message may have left a queue by a delete, a
/// purge, the queue's deletion, its age, a redrive or a move task.
pub(super) fn earliest(index: &Index, message: u32, queue: u32, since: u64) -> u64 {
    let row = &index.messages[message as usize];
    let mut earliest = NEVER;
    for touch in index.touches_of_message.of(message) {
        let touch = &index.touches[*touch as usize];
        let deletes = touch.kind == TouchKind::Delete && acts(index, touch) != Acts::Never;
        if deletes && touch.queue == queue {
            earliest = earliest.min(touch.at.inv);
        }
    }
    let facts = &index.queues[queue as usize];
    for clearing in facts.clearings.iter().filter(|it| it.at.ret >= row.entered.inv) {
        earliest = earliest.min(clearing.at.inv);
    }
    // A dead letter of a standard queue is as old as it was; of a FIFO queue it starts anew.
    let aged = if row.queue == queue || !facts.fifo { row.entered.inv } else { NEVER };
    let during = crate::index::Span { inv: row.entered.inv, ret: NEVER };
    let retention = facts.retention_us.min(during);
    let expires = aged.saturating_add(retention).saturating_sub(index.bounds().clock_us);
    earliest = earliest.min(expires).min(redriven(index, message, queue));
    if index.graph.is_move_source(queue) {
        earliest = 0;
    }
    earliest.max(since)
}

/// The earliest moment at which a message may have been received often enough to be moved away.
pub(super) fn redriven(index: &Index, message: u32, queue: u32) -> u64 {
    if index.graph.targets(queue).next().is_none() {
        return NEVER;
    }
    let facts = &index.queues[queue as usize];
    let limits = facts.redrive.all().flatten().map(|redrive| redrive.receives_max);
    let Some(limit) = limits.min() else { return NEVER };
    let limit = limit as usize;
    let lost = &facts.lost_receives;
    // `seen` of its receives are in the history, the rest among the lost ones.
    let mut earliest = if limit <= lost.len() { lost[limit - 1] } else { NEVER };
    let mut seen = 0;
    for &delivery in index.deliveries_of_message.of(message) {
        if index.queue_of(delivery) != queue {
            continue;
        }
        seen += 1;
        let at = index.at(delivery).inv;
        if seen >= limit {
            return earliest.min(at);
        }
        if limit - seen <= lost.len() {
            earliest = earliest.min(at.max(lost[limit - seen - 1]));
        }
    }
    earliest
}

/// When a message had certainly left a queue where it was, by an acknowledged delete there, or by a
/// purge or deletion of the queue after it was sent there.
pub(super) fn latest(index: &Index, message: u32, queue: u32) -> u64 {
    let row = &index.messages[message as usize];
    let mut latest = NEVER;
    for touch in index.touches_of_message.of(message) {
        let touch = &index.touches[*touch as usize];
        // A handle of another queue does nothing to a message that was moved here.
        let here = touch.queue == queue && touch.kind == TouchKind::Delete;
        if here && acts(index, touch) == Acts::Surely {
            latest = latest.min(touch.at.ret);
        }
    }
    for clearing in &index.queues[queue as usize].clearings {
        if row.queue == queue && row.entered.before(clearing.at) {
            latest = latest.min(clearing.at.ret);
        }
    }
    latest
}
