//! When a message may have left its queue, and when it certainly had.

use super::deleting::{Acts, acts};
use super::s08_count;
use crate::index::{Index, NEVER, Span, TouchKind};

/// The earliest moment from `since` on at which a message may have left a queue in any way.
pub(super) fn earliest(index: &Index, message: u32, queue: u32, since: u64) -> u64 {
    let moved = moved(index, message, queue);
    removed(index, message, queue, since).min(redriven(index, message, queue)).min(moved).max(since)
}

/// The same, but by a redrive or a move task: by a delete, a purge, the queue's deletion, or its age.
/// Those happen to messages that are leased, too.
pub(super) fn removed(index: &Index, message: u32, queue: u32, since: u64) -> u64 {
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
    for clearing in facts.clearings.iter().filter(|it| it.over() >= row.entered.inv) {
        earliest = earliest.min(clearing.at.inv);
    }
    // A dead letter of a standard queue is as old as it was; of a FIFO queue it starts anew.
    let aged = if row.queue == queue || !facts.fifo { row.entered.inv } else { NEVER };
    let during = Span { inv: row.entered.inv, ret: NEVER };
    let retention = facts.retention_us.min(during);
    let expires = aged.saturating_add(retention).saturating_sub(index.bounds().clock_us);
    earliest.min(expires).max(since)
}

/// The earliest moment at which a task may have moved a message away: not before it was seen there
/// for the last time.
fn moved(index: &Index, message: u32, queue: u32) -> u64 {
    let Some(since) = index.graph.moved_since(queue) else { return NEVER };
    let last = here(index, message, queue).map(|it| index.at(it).inv).max();
    last.map_or(since, |seen| seen.max(since))
}

fn here(index: &Index, message: u32, queue: u32) -> impl Iterator<Item = u32> + '_ {
    let all = index.deliveries_of_message.of(message).iter().copied();
    all.filter(move |it| index.queue_of(*it) == queue)
}

/// The earliest moment at which a message may have been received often enough to be moved away. It was
/// not before it was seen there for the last time, and its count tells how often it was received then.
pub(super) fn redriven(index: &Index, message: u32, queue: u32) -> u64 {
    if index.graph.targets(queue).next().is_none() {
        return NEVER;
    }
    let row = &index.messages[message as usize];
    let facts = &index.queues[queue as usize];
    let targets = |other: u32| index.graph.targets(queue).any(|target| target == other);
    let seen_there = || {
        let all = index.deliveries_of_message.of(message).iter();
        all.map(|it| index.queue_of(*it)).any(|other| other != queue && targets(other))
    };
    if index.came_out(queue) && !index.graph.moves_dead_letters_on(queue) && !seen_there() {
        // It would have come out there.
        return NEVER;
    }
    let limits = facts.redrive.all().flatten().map(|redrive| redrive.receives_max);
    let Some(limit) = limits.min() else { return NEVER };
    let limit = limit as usize;
    let (mut seen, mut last, mut count) = (0, None, 0);
    for delivery in here(index, message, queue) {
        seen += 1;
        last = last.max(Some(index.at(delivery).inv));
        // What it was received elsewhere before is not known.
        let known = if row.queue == queue { index.deliveries[delivery as usize].count } else { 0 };
        count = count.max(known as usize);
    }
    let since = last.unwrap_or(row.entered.inv);
    // Where nobody asked for counts: those before may be among the lost ones.
    let from = if count > 0 { since } else { row.entered.inv };
    let Some(missing) = limit.checked_sub(count.max(seen)).filter(|it| *it > 0) else {
        return since;
    };
    let mut missing = missing as u64;
    for lost in facts.lost_in(Span { inv: from, ret: NEVER }) {
        missing = missing.saturating_sub(s08_count::times(index, lost));
        if missing == 0 {
            return lost.inv.max(since);
        }
    }
    NEVER
}

/// Receives of a message between a delivery and the next one, as its counts tell; `None` where nobody
/// asked for them. `before`: none for what was before the first.
pub(super) fn unseen(index: &Index, before: Option<u32>, next: u32) -> Option<u32> {
    let count = |it: u32| Some(index.deliveries[it as usize].count).filter(|it| *it > 0);
    let before = before.map_or(Some(0), count)?;
    Some(count(next)?.saturating_sub(before).saturating_sub(1))
}

/// When a message had certainly left a queue where it was: by an acknowledged delete there, by a
/// purge or deletion of the queue after it was sent there, or because it was seen elsewhere.
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
            latest = latest.min(clearing.over());
        }
    }
    if row.queue == queue {
        let elsewhere = index.deliveries_of_message.of(message).iter().filter(|it| {
            let other = index.queue_of(**it);
            other != queue && index.graph.targets(queue).any(|target| target == other)
        });
        latest = elsewhere.map(|it| index.at(*it).ret).min().unwrap_or(NEVER).min(latest);
    }
    latest
}
