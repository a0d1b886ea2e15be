//! When a message was certainly there for whoever asked: for polls that came back empty, and for counts.

use super::hiding::{Setter, setters};
use super::in_flight::in_flight;
use super::leaving::{self, unseen};
use super::s09_delay;
use crate::hash::IdMap;
use crate::index::{Index, Known, NEVER, NONE, Span};

/// Windows of messages in order of their beginnings.
#[derive(Default)]
struct Windows {
    spans: Vec<(Span, u32)>,
    /// Place of the one with the latest end, up to each place.
    latest: Vec<u32>,
}

impl Windows {
    fn sort(&mut self) {
        self.spans.sort_unstable_by_key(|it| (it.0.inv, it.0.ret));
        self.latest.clear();
        for (place, span) in (0u32..).zip(&self.spans) {
            let best = self.latest.last().copied().unwrap_or(place);
            let longer = self.spans[best as usize].0.ret < span.0.ret;
            self.latest.push(if longer { place } else { best });
        }
    }

    fn covering(&self, during: Span) -> Option<(Span, u32)> {
        let began = self.spans.partition_point(|it| it.0.inv <= during.inv);
        let place = *self.latest.get(began.checked_sub(1)?)?;
        Some(self.spans[place as usize]).filter(|it| it.0.ret >= during.ret)
    }
}

/// What could be received from a queue.
#[derive(Default)]
pub(super) struct View {
    all: Windows,
    /// The same by the messages' shards, where those are known.
    shards: IdMap<u32, Windows>,
    /// Times in which some message may be leased by a receive that nobody knows of, joined.
    lost: Vec<Span>,
}

impl View {
    /// A message that was certainly there for all of a span, on a shard that is not among these.
    pub(super) fn covering(
        &self,
        during: Span,
        unheard: impl Iterator<Item = u32>,
    ) -> Option<(Span, u32)> {
        let unheard: Vec<u32> = unheard.collect();
        if unheard.is_empty() {
            return self.all.covering(during);
        }
        let heard = self.shards.iter().filter(|it| !unheard.contains(it.0));
        let found = heard.filter_map(|(_, windows)| windows.covering(during));
        found.min_by_key(|(window, message)| (window.inv, *message))
    }

    /// Whether a message that is not seen later may have been hidden then, for all that is known.
    pub(super) fn is_blind(&self, during: Span) -> bool {
        let over = self.lost.partition_point(|it| it.ret < during.inv);
        self.lost.get(over).is_some_and(|it| it.inv <= during.ret)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.all.spans.is_empty()
    }
}

/// Of every queue.
pub(super) fn views(index: &Index) -> Vec<View> {
    let mut views: Vec<View> =
        lost(index).into_iter().map(|lost| View { lost, ..View::default() }).collect();
    pieces(index, |queue, message, span| {
        let view = &mut views[queue as usize];
        view.all.spans.push((span, message));
        let shard = index.shard_of(message);
        if shard != NONE {
            view.shards.entry(shard).or_default().spans.push((span, message));
        }
    });
    for view in &mut views {
        view.all.sort();
        view.shards.values_mut().for_each(Windows::sort);
    }
    views
}

/// Whether polls of a queue may be empty because as much is in flight as may be.
pub(super) fn crowds(index: &Index) -> Vec<Box<dyn Fn(Span) -> bool + '_>> {
    let mut delivered = vec![0u64; index.queues.len()];
    for receive in &index.receives {
        delivered[receive.queue as usize] += u64::from(receive.count);
    }
    let slack = index.promises().in_flight_slack;
    let limit = index.promises().in_flight_max.map_or(u64::MAX, |it| it.saturating_sub(slack));
    let crowd = |queue: u32| -> Box<dyn Fn(Span) -> bool + '_> {
        let lost = !index.queues[queue as usize].lost_receives.is_empty();
        if !lost && delivered[queue as usize] < limit {
            return Box::new(|_| false);
        }
        let in_flight = in_flight(index, queue);
        let stale_us = index.promises().in_flight_stale_us;
        let lately = move |it: Span| Span { inv: it.inv.saturating_sub(stale_us), ..it };
        Box::new(move |during| in_flight.at_most(lately(during)) as u64 >= limit)
    };
    (0..index.queues.len() as u32).map(crowd).collect()
}

/// Calls with each time in which a message of a queue could certainly be received.
pub(super) fn pieces(index: &Index, mut push: impl FnMut(u32, u32, Span)) {
    let lost = lost(index);
    let blocked = blocked_until(index);
    let mut found = Vec::new();
    for message in 0..index.messages.len() as u32 {
        let row = &index.messages[message as usize];
        if row.entered.ret == NEVER || (index.queues[row.queue as usize].fifo && row.group == NONE)
        {
            continue;
        }
        setters(index, message, &mut found);
        let (_, delay) = s09_delay::range(index, message, row.entered.ret);
        let e = if delay == 0 { 0 } else { index.bounds().clock_us };
        let since = row.entered.ret.saturating_add(delay).saturating_add(e);
        let since = since.max(blocked.get(message as usize).copied().unwrap_or(0));
        let mut queues = vec![(row.queue, Some(since))];
        for &delivery in index.deliveries_of_message.of(message) {
            let queue = index.queue_of(delivery);
            let known = queues.iter().any(|it| it.0 == queue);
            // Those that were moved into a FIFO queue have an order of their own.
            if !known && !index.queues[queue as usize].fifo {
                queues.push((queue, None));
            }
        }
        for (queue, since) in queues.into_iter().filter(|it| it.1 != Some(NEVER)) {
            let mut push = |span: Span, seen_next: bool| {
                let gaps = if seen_next { &[][..] } else { &lost[queue as usize] };
                without(span, gaps, |span| push(queue, message, span));
            };
            stay(index, message, queue, since, &found, &mut push);
        }
    }
}

/// The times in which a message of one queue could be received, and whether its next receive tells that
/// nobody else had it meanwhile. Where it was not sent (`since` is `None`), it is there once it was received.
fn stay(
    index: &Index,
    message: u32,
    queue: u32,
    since: Option<u64>,
    setters: &[Setter],
    push: &mut impl FnMut(Span, bool),
) {
    let from = |at: u64| {
        let end = visible_from(setters, at).map(|end| end.saturating_add(index.bounds().clock_us));
        since.max(end)
    };
    let all = index.deliveries_of_message.of(message).iter().copied();
    let mut before: Option<u32> = None;
    for delivery in all.filter(|it| index.queue_of(*it) == queue) {
        let at = index.at(delivery);
        if let Some(from) = from(at.inv).filter(|_| since.is_some() || before.is_some()) {
            // What a repetition of an unheard receive brought is leased since that.
            let receive = &index.receives[index.deliveries[delivery as usize].receive as usize];
            let asked = index.asked_again(receive).iter();
            let asked = asked.map(|it| index.receives[*it as usize].at.inv).min();
            let to = at.inv.min(asked.unwrap_or(NEVER));
            push(Span { inv: from, ret: to }, unseen(index, before, delivery) == Some(0));
        }
        before = Some(delivery);
    }
    let row = &index.messages[message as usize];
    let gone = leaving::earliest(index, message, queue, row.entered.inv);
    if let Some(from) = from(NEVER) {
        push(Span { inv: from, ret: gone }, false);
    }
}

/// When all had ended that hid a message before a time, at the latest; `None` when nothing had.
fn visible_from(setters: &[Setter], at: u64) -> Option<u64> {
    let earlier = || setters.iter().filter(|it| it.at.inv < at);
    // What a certain one replaced does not count.
    let done = earlier().filter(|it| it.certain && it.at.ret < at);
    let floor = done.map(|it| it.at.inv).max().unwrap_or(0);
    let lasting = earlier().filter(|it| it.at.ret >= floor);
    lasting.map(|it| it.at.ret.saturating_add(it.longest_us)).max()
}

/// The parts of a window outside of gaps, which are in order.
fn without(window: Span, gaps: &[Span], mut push: impl FnMut(Span)) {
    let mut from = window.inv;
    let first = gaps.partition_point(|gap| gap.ret < window.inv);
    for gap in &gaps[first..] {
        if gap.inv >= window.ret {
            break;
        }
        if from < gap.inv {
            push(Span { inv: from, ret: gap.inv });
        }
        from = from.max(gap.ret);
    }
    if from < window.ret {
        push(Span { inv: from, ret: window.ret });
    }
}

/// Per queue, the times in which some message may be leased by a receive that nobody knows of, joined.
fn lost(index: &Index) -> Vec<Vec<Span>> {
    let of = |queue: &crate::index::Queue| {
        let mut spans: Vec<Span> = Vec::with_capacity(queue.lost_receives.len());
        for lost in &queue.lost_receives {
            let receive = &index.receives[lost.receive as usize];
            let during = Span { inv: lost.inv, ret: lost.until };
            let hidden = receive.visibility_us.unwrap_or_else(|| queue.visibility_us.max(during));
            let until = lost.until.saturating_add(hidden).saturating_add(index.bounds().clock_us);
            match spans.last_mut() {
                Some(last) if lost.inv <= last.ret => last.ret = last.ret.max(until),
                _ => spans.push(Span { inv: lost.inv, ret: until }),
            }
        }
        spans
    };
    index.queues.iter().map(of).collect()
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
    let strays = strays(index);
    for group in 0..index.groups.len() as u32 {
        let queue = index.groups[group as usize].queue;
        let strays = strays.get(&group).map_or(&[][..], Vec::as_slice);
        let mut until = 0;
        let moved =
            index.graph.sources(queue).next().is_some() || index.graph.is_move_target(queue);
        for stay in index.stays_of_group.of(group) {
            let stay = &index.stays[*stay as usize];
            if !moved && stay.home && index.messages[stay.message as usize].queue == queue {
                // Who certainly came later holds nobody back.
                let came = strays.partition_point(|it| it.inv <= stay.entered.ret);
                let stray = came.checked_sub(1).map_or(0, |last| strays[last].ret);
                blocked[stay.message as usize] = until.max(stray);
            }
            until = until.max(leaving::latest(index, stay.message, queue));
        }
    }
    // A send of unknown outcome may lie before any of them.
    let mut lost: IdMap<u32, u64> = IdMap::default();
    let open = index.attempts.iter().filter(|it| it.outcome == Known::Info && it.group != NONE);
    for attempt in open.filter(|it| may_be_unseen(index, it.queue, it.key)) {
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

/// Messages without a known place in their group: those that were sent to several groups under one id and
/// not seen in any, and those that were first seen as dead letters and of which no send was acknowledged.
/// By group, in the order in which they may have come: since when, and until when one of them or of those
/// before may be there.
fn strays(index: &Index) -> IdMap<u32, Vec<Span>> {
    let mut strays: IdMap<u32, Vec<Span>> = IdMap::default();
    for message in 0..index.messages.len() as u32 {
        let row = &index.messages[message as usize];
        let placed = row.group != NONE && row.sequence != 0;
        if placed || !index.queues[row.queue as usize].fifo {
            continue;
        }
        let stay = Span { inv: row.entered.inv, ret: leaving::latest(index, message, row.queue) };
        for send in index.sends_of(message) {
            strays.entry(send.group).or_default().push(stay);
        }
    }
    for strays in strays.values_mut() {
        strays.sort_unstable_by_key(|it| it.inv);
        let mut until = 0;
        for stray in strays {
            until = until.max(stray.ret);
            stray.ret = until;
        }
    }
    strays
}

/// Whether a send of unknown outcome may have made a message that nobody has seen. Where everything came
/// out in the end, it would have.
fn may_be_unseen(index: &Index, queue: u32, key: u32) -> bool {
    let seen = || {
        let messages = index.messages_of_key.of(key).iter();
        messages.into_iter().any(|it| !index.deliveries_of_message.of(*it).is_empty())
    };
    !index.came_out(queue) && !seen()
}
