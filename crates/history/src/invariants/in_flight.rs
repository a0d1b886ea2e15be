//! What of a queue was in flight at a time.

use super::hiding::{Setter, certain_lease, setters};
use super::leaving;
use super::spans::Spans;
use crate::index::{Index, Known, Lost, NEVER, NONE, Span};

/// Of one queue.
#[derive(Default)]
pub(super) struct InFlight {
    certain: Spans,
    possible: Spans,
    /// All that may have been in the queue.
    present: Spans,
    /// When receives may have hidden something that nobody saw: any number, since they ask shard after
    /// shard.
    unseen: Vec<Span>,
}

impl InFlight {
    /// No more than certainly were for all of a span.
    pub(super) fn at_least(&self, during: Span) -> usize {
        self.certain.at_least(during)
    }

    /// All that may have been at some moment of a span.
    pub(super) fn at_most(&self, during: Span) -> usize {
        match self.unseen.iter().any(|it| it.overlaps(during)) {
            true => self.present.at_most(during),
            false => self.possible.at_most(during),
        }
    }
}

/// Looks at every message that came out of the queue.
pub(super) fn in_flight(index: &Index, queue: u32) -> InFlight {
    let e = index.bounds().clock_us;
    let mut all = InFlight { unseen: unseen(index, queue), ..InFlight::default() };
    let mut found = Vec::new();
    for message in 0..index.messages.len() as u32 {
        let row = &index.messages[message as usize];
        let deliveries = index.deliveries_of_message.of(message);
        let seen = deliveries.iter().any(|it| index.queue_of(*it) == queue);
        if row.queue == queue || seen {
            all.present.add(row.entered.inv, leaving::latest(index, message, queue));
        }
        if !seen {
            continue;
        }
        setters(index, message, &mut found);
        let here = |it: &&Setter| index.queue_of(it.delivery) == queue;
        let mut until = 0;
        for setter in found.iter().filter(here) {
            if let Some(span) = certain_lease(index, message, &found, setter) {
                let (from, to) = (span.inv.max(until), span.ret.saturating_sub(e));
                if from < to {
                    all.certain.add(from, to);
                    until = to;
                }
            }
        }
        let ends = found.iter().filter(here).map(|it| it.at.ret.saturating_add(it.longest_us));
        let end = ends.max().unwrap_or(NEVER).saturating_add(e);
        let from = found.iter().filter(here).map(|it| it.at.inv).min().unwrap_or(0);
        all.possible.add(from, end.min(leaving::latest(index, message, queue)));
    }
    for attempt in index.attempts.iter().filter(|it| it.queue == queue && it.message == NONE) {
        if attempt.outcome == Known::Info {
            all.present.add(attempt.at.inv, NEVER);
        }
    }
    all.certain.sort();
    all.possible.sort();
    all.present.sort();
    all
}

fn unseen(index: &Index, queue: u32) -> Vec<Span> {
    let row = &index.queues[queue as usize];
    let of = |lost: &Lost| {
        let receive = &index.receives[lost.receive as usize];
        let during = Span { inv: lost.inv, ret: lost.until };
        let hidden = receive.visibility_us.unwrap_or_else(|| row.visibility_us.max(during));
        let until = lost.until.saturating_add(hidden).saturating_add(index.bounds().clock_us);
        Span { inv: lost.inv, ret: until }
    };
    row.lost_receives.iter().map(of).collect()
}
