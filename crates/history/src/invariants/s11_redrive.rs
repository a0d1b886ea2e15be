//! S11. Case: a message that was delivered from a queue with a redrive policy, or from its
//! dead-letter queue. At most `maxReceiveCount` receives of the source bring it; it is in the
//! dead-letter queue only after exactly so many, which its receive count tells; and after the
//! dead-letter queue has delivered it the source does not. (Lost nowhere: S1. Twice in one: S4, S8.)
//!
//! Source: the move happens on a receive, atomically, and the count goes on. Undecided: a policy that
//! changed meanwhile, or that was not there for some of the time; numbers of receives when the history's
//! end is missing. No clock.

use super::time;
use crate::index::{Index, Span};
use crate::verdict::Tally;

struct Leg {
    queue: u32,
    /// Sorted by their starts, one for each handle.
    deliveries: Vec<u32>,
}

pub(super) fn check(index: &Index, tally: &mut Tally) {
    let has_policy: Vec<bool> = (0..index.queues.len() as u32)
        .map(|queue| index.graph.targets(queue).next().is_some())
        .collect();
    let dead: Vec<bool> = (0..index.queues.len() as u32)
        .map(|queue| index.graph.sources(queue).next().is_some())
        .collect();
    for message in 0..index.messages.len() as u32 {
        let deliveries = index.deliveries_of_message.of(message);
        let concerned = |it: &u32| {
            let queue = index.queue_of(*it) as usize;
            has_policy[queue] || dead[queue]
        };
        if !deliveries.iter().any(concerned) {
            continue;
        }
        let legs = legs(index, deliveries);
        for leg in &legs {
            check_source(index, tally, message, leg);
            for target in index.graph.targets(leg.queue).filter(|it| *it != leg.queue) {
                if let Some(arrived) = legs.iter().find(|it| it.queue == target) {
                    check_both(index, tally, message, leg, arrived);
                }
            }
            let home = index.messages[message as usize].queue;
            let from_home = index.graph.targets(home).any(|target| target == leg.queue);
            if leg.queue != home && from_home {
                let source = legs.iter().find(|it| it.queue == home);
                check_enough(index, tally, message, home, source, leg);
            }
        }
    }
}

fn legs(index: &Index, deliveries: &[u32]) -> Vec<Leg> {
    let mut legs: Vec<Leg> = Vec::new();
    for &delivery in deliveries {
        let queue = index.queue_of(delivery);
        let handle = |it: u32| index.deliveries[it as usize].handle;
        match legs.iter_mut().find(|leg| leg.queue == queue) {
            Some(leg) if leg.deliveries.iter().any(|it| handle(*it) == handle(delivery)) => {}
            Some(leg) => leg.deliveries.push(delivery),
            None => legs.push(Leg { queue, deliveries: vec![delivery] }),
        }
    }
    legs
}

/// Least and most receives that the policies of a time allow; `None` when there may be no policy.
fn limits(index: &Index, queue: u32, during: Span) -> Option<(u32, u32)> {
    let mut limits = None;
    for redrive in index.queues[queue as usize].redrive.possible(during) {
        let max = redrive.as_ref()?.receives_max;
        limits = Some(
            limits.map_or((max, max), |(least, most): (u32, u32)| (least.min(max), most.max(max))),
        );
    }
    limits
}

fn check_source(index: &Index, tally: &mut Tally, message: u32, leg: &Leg) {
    if index.graph.targets(leg.queue).next().is_none() {
        return;
    }
    let (Some(first), Some(last)) = (leg.deliveries.first(), leg.deliveries.last()) else { return };
    let during = Span { inv: index.at(*first).inv, ret: index.at(*last).ret };
    let Some((_, most)) = limits(index, leg.queue, during) else {
        tally.undecided();
        return;
    };
    tally.saw();
    if leg.deliveries.len() > most as usize {
        tally.found(|| {
            let what = format!(
                "{} was delivered {} times, and at most {most} times are allowed",
                index.name_of(message),
                leg.deliveries.len()
            );
            index.finding_of(what, message, &leg.deliveries, &[])
        });
    }
}

fn check_both(index: &Index, tally: &mut Tally, message: u32, source: &Leg, target: &Leg) {
    tally.saw();
    let arrived = target.deliveries.iter().min_by_key(|it| index.at(**it).ret).copied();
    let Some(arrived) = arrived else { return };
    let late = source.deliveries.iter().find(|it| index.at(arrived).before(index.at(**it)));
    if let Some(&late) = late {
        tally.found(|| {
            let what = format!(
                "{} was delivered from its dead-letter queue at {} and from its source at {}",
                index.name_of(message),
                time(index.at(arrived).ret),
                time(index.at(late).ret)
            );
            index.finding_of(what, message, &[arrived, late], &[])
        });
    }
}

/// How often the source handed it out, as its count in the dead-letter queue tells; where nobody asked
/// for counts, as it was seen.
fn check_enough(
    index: &Index,
    tally: &mut Tally,
    message: u32,
    home: u32,
    source: Option<&Leg>,
    target: &Leg,
) {
    let row = &index.messages[message as usize];
    let arrived = target.deliveries.iter().min_by_key(|it| index.at(**it).ret).copied();
    let Some(arrived) = arrived else { return };
    let at = index.at(arrived);
    let during = Span { inv: row.entered.inv, ret: at.ret };
    let Some((least, most)) = limits(index, home, during).filter(|_| index.whole()) else {
        tally.undecided();
        return;
    };
    tally.saw();
    let unseen_in = |queue: u32| super::s08_count::unseen_in(index, queue, during) as usize;
    let counts = target.deliveries.iter().map(|it| index.deliveries[*it as usize].count);
    let (fewest, mostly) = match counts.filter(|count| *count > 0).min() {
        Some(count) => {
            // Some of them may have been in the dead-letter queue, unseen.
            let before = count as usize - 1;
            let by_task = super::s08_count::moved_by_receives(index, message);
            let there = if by_task { before } else { unseen_in(target.queue) };
            (before.saturating_sub(there), before)
        }
        None => {
            let seen = source.map_or(&[][..], |leg| &leg.deliveries);
            let seen = seen.iter().filter(|it| index.at(**it).inv <= at.ret).count();
            (seen, seen + unseen_in(home))
        }
    };
    let wrong = match () {
        () if mostly < least as usize => format!("{mostly} at most, and {least} are needed"),
        () if fewest > most as usize => format!("{fewest} at least, and {most} are allowed"),
        () => return,
    };
    tally.found(|| {
        let name = index.name_of(message);
        let what = format!("{name} came to its dead-letter queue after so many receives: {wrong}");
        index.finding_of(what, message, &[arrived], &[])
    });
}
