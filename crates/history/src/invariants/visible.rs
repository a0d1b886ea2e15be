//! When a message was certainly there for whoever asked: for polls that came back empty.

use super::hiding::{latest_end, setters};
use super::{leaving, s09_delay};
use crate::hash::IdMap;
use crate::index::{Index, NEVER, NONE, Span};

/// Per queue, a message and from when to when a receive could certainly have had it; in order of
/// their beginnings.
pub(super) struct Windows {
    spans: Vec<(Span, u32)>,
    /// Place of the one with the latest end, up to each place.
    latest: Vec<u32>,
}

impl Windows {
    /// A window that began by one time and lasts until another at least.
    pub(super) fn covering(&self, from: u64, to: u64) -> Option<(Span, u32)> {
        let began = self.spans.partition_point(|it| it.0.inv <= from);
        let place = *self.latest.get(began.checked_sub(1)?)?;
        Some(self.spans[place as usize]).filter(|it| it.0.ret >= to)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }

    fn new(mut spans: Vec<(Span, u32)>) -> Self {
        spans.sort_unstable_by_key(|it| (it.0.inv, it.0.ret));
        let mut latest: Vec<u32> = Vec::with_capacity(spans.len());
        for (place, span) in (0u32..).zip(&spans) {
            let best = latest.last().copied().unwrap_or(place);
            latest.push(if spans[best as usize].0.ret < span.0.ret { place } else { best });
        }
        Self { spans, latest }
    }
}

/// Queues in which so much may have been in flight that polls are empty for that.
pub(super) fn crowded(index: &Index) -> Vec<bool> {
    let mut delivered = vec![0u64; index.queues.len()];
    for receive in &index.receives {
        delivered[receive.queue as usize] += u64::from(receive.count);
    }
    let limit = index.promises().in_flight_max.unwrap_or(u64::MAX);
    let lost = index.queues.iter().map(|queue| queue.lost_receives.len() as u64 * 10);
    delivered.iter().zip(lost).map(|(delivered, lost)| delivered + lost >= limit).collect()
}

/// The windows of every queue.
pub(super) fn windows(index: &Index) -> Vec<Windows> {
    let mut spans: Vec<Vec<(Span, u32)>> = vec![Vec::new(); index.queues.len()];
    let lost = lost_until(index);
    let blocked = blocked_until(index);
    let mut found = Vec::new();
    for message in 0..index.messages.len() as u32 {
        let row = &index.messages[message as usize];
        if row.entered.ret == NEVER || (index.queues[row.queue as usize].fifo && row.group == NONE)
        {
            continue;
        }
        setters(index, message, &mut found);
        let gone = leaving::earliest(index, message, row.queue, row.entered.inv);
        let e = index.bounds().clock_us;
        let (_, delay) = s09_delay::range(index, message, row.entered.ret);
        let mut from = row.entered.ret.saturating_add(delay).saturating_add(e);
        from = from.max(blocked.get(message as usize).copied().unwrap_or(0));
        // Before each delivery, and after the last.
        let deliveries = index.deliveries_of_message.of(message);
        for &delivery in deliveries {
            let at = index.at(delivery);
            let earlier = found.iter().filter(|it| it.at.inv < at.inv);
            let end = earlier.map(|it| it.at.ret.saturating_add(it.longest_us)).max();
            let from = end.map_or(from, |end| from.max(end.saturating_add(e)));
            push(&mut spans, index, &lost, message, Span { inv: from, ret: at.inv.min(gone) });
        }
        if !deliveries.is_empty() {
            from = from.max(latest_end(&found).saturating_add(e));
        }
        push(&mut spans, index, &lost, message, Span { inv: from, ret: gone });
    }
    spans.into_iter().map(Windows::new).collect()
}

fn push(
    spans: &mut [Vec<(Span, u32)>],
    index: &Index,
    lost: &[Vec<Span>],
    message: u32,
    window: Span,
) {
    if window.inv >= window.ret {
        return;
    }
    let queue = index.messages[message as usize].queue as usize;
    // Without the times in which a receive that nobody knows of may have had it.
    let mut from = window.inv;
    for gap in lost[queue].iter().skip_while(|gap| gap.ret < window.inv) {
        if gap.inv >= window.ret {
            break;
        }
        if from < gap.inv {
            spans[queue].push((Span { inv: from, ret: gap.inv }, message));
        }
        from = from.max(gap.ret);
    }
    if from < window.ret {
        spans[queue].push((Span { inv: from, ret: window.ret }, message));
    }
}

/// Per queue, the times in which some message may be leased by a receive of unknown outcome, joined.
fn lost_until(index: &Index) -> Vec<Vec<Span>> {
    let bounds = index.bounds();
    let mut lost: Vec<Vec<Span>> = vec![Vec::new(); index.queues.len()];
    let inside = index.promises().receives_lost_inside;
    for receive in &index.receives {
        let unknown = receive.at.ret == NEVER || (inside && index.disturbed(receive.at));
        if !unknown {
            continue;
        }
        let queue = &index.queues[receive.queue as usize];
        let settled = receive.gave_up.saturating_add(bounds.settle_us);
        let during = Span { inv: receive.at.inv, ret: settled };
        let hidden = receive.visibility_us.unwrap_or_else(|| queue.visibility_us.max(during));
        let until = settled.saturating_add(hidden).saturating_add(bounds.clock_us);
        lost[receive.queue as usize].push(Span { inv: receive.at.inv, ret: until });
    }
    for spans in &mut lost {
        spans.sort_unstable_by_key(|it| it.inv);
        spans.dedup_by(|later, earlier| {
            let joins = later.inv <= earlier.ret;
            if joins {
                earlier.ret = earlier.ret.max(later.ret);
            }
            joins
        });
    }
    lost
}

/// By message of a FIFO queue: until when an earlier one of its group may hold it back.
fn blocked_until(index: &Index) -> Vec<u64> {
    if index.stays.is_empty() {
        return Vec::new();
    }
    // Who has no known place in its group is never certainly visible.
    let mut blocked: Vec<u64> = (0..index.messages.len())
        .map(|it| {
            let queue = index.messages[it].queue as usize;
            if index.queues[queue].fifo { NEVER } else { 0 }
        })
        .collect();
    for group in 0..index.groups.len() as u32 {
        let queue = index.groups[group as usize].queue;
        // A send of unknown outcome may lie before any of them.
        let mut until = 0;
        let moved = index.graph.sources(queue).next().is_some();
        for stay in index.stays_of_group.of(group) {
            let stay = &index.stays[*stay as usize];
            if !moved && stay.home && index.messages[stay.message as usize].queue == queue {
                blocked[stay.message as usize] = until;
            }
            until = until.max(leaving::latest(index, stay.message, queue));
        }
    }
    let mut lost: IdMap<u32, u64> = IdMap::default();
    for attempt in index.attempts.iter().filter(|it| it.at.ret == NEVER && it.group != NONE) {
        let first = lost.entry(attempt.group).or_insert(attempt.at.inv);
        *first = attempt.at.inv.min(*first);
    }
    for (group, first) in lost {
        for stay in index.stays_of_group.of(group) {
            let message = index.stays[*stay as usize].message;
            if index.messages[message as usize].entered.ret >= first {
                blocked[message as usize] = NEVER;
            }
        }
    }
    blocked
}
