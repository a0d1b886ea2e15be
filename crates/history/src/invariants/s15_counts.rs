//! S15. Case: an answer with all three approximate counts of a queue. Each of them, and their sum, must
//! lie between what certainly was so (visible, in flight, delayed, in the queue) from `counts_us`
//! before the request to its end, and what may have been at some moment of that. At rest, when nothing
//! is unknown, the two are the same.
//!
//! Source: GetQueueAttributes; a minute's lag in SQS. Undecided: histories whose end is missing, and the
//! largest numbers where tasks move messages, whose next ids nobody need have seen. `e` shortens and
//! lengthens leases and delays.

use super::hiding::{Setter, certain_lease, setters};
use super::in_flight::{InFlight, in_flight};
use super::spans::Spans;
use super::{leaving, s09_delay, time, visible};
use crate::index::{Access, Index, Known, NEVER, NONE, Span};
use crate::verdict::Tally;

const NAMES: [&str; 3] = ["", "NotVisible", "Delayed"];

/// What of one queue there certainly was and may have been.
#[derive(Default)]
struct Contents {
    certain: Spans,
    possible: Spans,
    visible: Spans,
    delayed_certain: Spans,
    delayed_possible: Spans,
    in_flight: InFlight,
}

impl Contents {
    /// Least and most of visible, in flight, delayed and all of them.
    fn bounds(&self, during: Span) -> [(usize, usize); 4] {
        let most = self.possible.at_most(during);
        let (flying, delayed) =
            (self.in_flight.at_least(during), self.delayed_certain.at_least(during));
        let visible = most.saturating_sub(flying + delayed);
        [
            (self.visible.at_least(during), visible),
            (flying, self.in_flight.at_most(during)),
            (delayed, self.delayed_possible.at_most(during)),
            (self.certain.at_least(during), most),
        ]
    }
}

pub(super) fn check(index: &Index, tally: &mut Tally) {
    let counted =
        |queue: &crate::index::Queue| queue.accesses.iter().any(|it| counts(it).is_some());
    let asked: Vec<bool> = index.queues.iter().map(counted).collect();
    if !asked.contains(&true) {
        return;
    }
    let contents = contents(index, &asked);
    for ((number, queue), contents) in (0u32..).zip(&index.queues).zip(contents) {
        let moved = index.graph.touches_moves(number);
        for access in &queue.accesses {
            let Some(counts) = counts(access) else { continue };
            if !index.whole() {
                tally.undecided();
                continue;
            }
            tally.saw();
            let from = access.at.inv.saturating_sub(index.bounds().counts_us);
            let bounds = contents.bounds(Span { inv: from, ret: access.at.ret });
            let within = |place: usize, count: usize| {
                let (least, most) = bounds[place];
                least <= count && (count <= most || moved)
            };
            let all = [counts[0], counts[1], counts[2], counts.iter().sum()];
            let Some(wrong) = (0..4).find(|place| !within(*place, all[*place])) else { continue };
            tally.found(|| {
                let name = ["visible", "in flight", "delayed", "in the queue"][wrong];
                let (least, most) = bounds[wrong];
                let what = format!(
                    "{} counts {} {name} at {}, and there were {least} to {most}",
                    queue.name,
                    all[wrong],
                    time(access.at.ret)
                );
                let mut finding = index.finding(what, access.at.inv);
                finding.queue = Some(queue.name.clone());
                finding.records = vec![access.record];
                finding
            });
        }
    }
}

fn counts(access: &Access) -> Option<[usize; 3]> {
    if access.writes {
        return None;
    }
    let count = |name: &str| {
        let name = format!("ApproximateNumberOfMessages{name}");
        access.attributes.get(&name)?.parse::<usize>().ok()
    };
    Some([count(NAMES[0])?, count(NAMES[1])?, count(NAMES[2])?])
}

fn contents(index: &Index, asked: &[bool]) -> Vec<Contents> {
    let mut all: Vec<Contents> = (0u32..)
        .zip(asked)
        .map(|(queue, asked)| match asked {
            true => Contents { in_flight: in_flight(index, queue), ..Contents::default() },
            false => Contents::default(),
        })
        .collect();
    let mut explained = vec![false; index.keys.len()];
    let mut found = Vec::new();
    for message in 0..index.messages.len() as u32 {
        let row = &index.messages[message as usize];
        setters(index, message, &mut found);
        at_home(index, message, &mut all[row.queue as usize]);
        elsewhere(index, message, &found, &mut all);
        if !row.acknowledged && row.key != NONE {
            explained[row.key as usize] = true;
        }
    }
    for attempt in index.attempts.iter().filter(|it| it.outcome == Known::Info) {
        let seen = attempt.key != NONE && explained[attempt.key as usize];
        if !seen && !index.came_out(attempt.queue) {
            let contents = &mut all[attempt.queue as usize];
            contents.possible.add(attempt.at.inv, NEVER);
            contents.delayed_possible.add(attempt.at.inv, NEVER);
        }
    }
    visible::pieces(index, |queue, _, span| all[queue as usize].visible.add(span.inv, span.ret));
    for contents in &mut all {
        contents.certain.sort();
        contents.possible.sort();
        contents.visible.sort();
        contents.delayed_certain.sort();
        contents.delayed_possible.sort();
    }
    all
}

/// In the queue that it was sent to.
fn at_home(index: &Index, message: u32, contents: &mut Contents) {
    let row = &index.messages[message as usize];
    let gone = leaving::earliest(index, message, row.queue, row.entered.inv);
    contents.certain.add(row.entered.ret, gone);
    contents.possible.add(row.entered.inv, leaving::latest(index, message, row.queue));
    if row.entered.ret == NEVER {
        return;
    }
    let e = index.bounds().clock_us;
    let (shortest, longest) = s09_delay::range(index, message, row.entered.ret);
    if longest == 0 {
        return;
    }
    let certain = row.entered.inv.saturating_add(shortest).saturating_sub(e);
    contents.delayed_certain.add(row.entered.ret, certain.min(gone));
    let possible = row.entered.ret.saturating_add(longest).saturating_add(e);
    contents.delayed_possible.add(row.entered.inv, possible);
}

/// In the dead-letter queues that it may have come to.
fn elsewhere(index: &Index, message: u32, found: &[Setter], all: &mut [Contents]) {
    let home = index.messages[message as usize].queue;
    for target in index.graph.targets(home).filter(|it| *it != home) {
        let there = index.deliveries_of_message.of(message).iter();
        let first =
            there.filter(|it| index.queue_of(**it) == target).min_by_key(|it| index.at(**it).ret);
        let arrives = leaving::redriven(index, message, home);
        let contents = &mut all[target as usize];
        match first {
            Some(&first) => {
                let at = index.at(first);
                let gone = leaving::earliest(index, message, target, at.inv);
                // It was leased there, whatever else is known.
                let own = found.iter().find(|it| it.is_delivery && it.delivery == first);
                let lease = own.and_then(|own| certain_lease(index, message, found, own));
                let held =
                    lease.map_or(0, |lease| lease.ret.saturating_sub(index.bounds().clock_us));
                contents.certain.add(at.ret, gone.max(held));
                contents.possible.add(arrives.min(at.inv), leaving::latest(index, message, target));
            }
            None if arrives != NEVER => contents.possible.add(arrives, NEVER),
            None => {}
        }
    }
}
