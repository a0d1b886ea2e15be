//! S19. Case: a receive that brought messages, or that was refused because too many are in flight.
//! What was certainly in flight all the time that it took, and what it brought, must not be more than
//! allowed; and a refusal needs as many that may be. (A change of visibility may hide more: it is not
//! refused for that.)
//!
//! Source: OverLimit, about 120,000 in SQS, exactly what is configured here. Undecided: nothing;
//! receives of unknown outcome count as full answers. `e` shortens certain leases and lengthens
//! possible ones. FIFO queues give short answers instead: only the upper bound is asked of them.

use super::hiding::{Setter, certain_lease, setters};
use crate::index::{Index, NEVER};
use crate::verdict::Tally;

pub(super) fn check(index: &Index, tally: &mut Tally) {
    let Some(limit) = index.promises().in_flight_max else {
        tally.skipped = Some("not promised".to_owned());
        return;
    };
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let mut receives = vec![(0usize, false); index.queues.len()];
    for receive in &index.receives {
        let (delivered, refused) = &mut receives[receive.queue as usize];
        *delivered += receive.count as usize;
        *refused |= receive.over_limit;
    }
    for (queue, (delivered, refused)) in (0u32..).zip(receives) {
        if delivered <= limit && !refused {
            // It cannot have been reached.
            tally.examined += u64::from(delivered > 0);
            continue;
        }
        let leases = leases(index, queue);
        check_upper(index, tally, queue, limit, &leases);
        check_refusals(index, tally, queue, limit, &leases);
    }
}

#[derive(Default)]
struct Leases {
    certain_from: Vec<u64>,
    certain_to: Vec<u64>,
    possible_from: Vec<u64>,
    possible_to: Vec<u64>,
}

fn leases(index: &Index, queue: u32) -> Leases {
    let e = index.bounds().clock_us;
    let mut leases = Leases::default();
    let mut found = Vec::new();
    for message in 0..index.messages.len() as u32 {
        let deliveries = index.deliveries_of_message.of(message);
        if !deliveries.iter().any(|it| index.queue_of(*it) == queue) {
            continue;
        }
        setters(index, message, &mut found);
        let mut until = 0;
        let here = |it: &&Setter| index.queue_of(it.delivery) == queue;
        for setter in found.iter().filter(here) {
            if let Some(span) = certain_lease(index, message, &found, setter) {
                let (from, to) = (span.inv.max(until), span.ret.saturating_sub(e));
                if from < to {
                    leases.certain_from.push(from);
                    leases.certain_to.push(to);
                    until = to;
                }
            }
        }
        let ends = found.iter().filter(here).map(|it| it.at.ret.saturating_add(it.longest_us));
        let gone = super::leaving::latest(index, message, queue);
        let from = found.iter().filter(here).map(|it| it.at.inv);
        leases.possible_from.push(from.min().unwrap_or(0));
        leases.possible_to.push(ends.max().unwrap_or(NEVER).saturating_add(e).min(gone));
    }
    leases.certain_from.sort_unstable();
    leases.certain_to.sort_unstable();
    leases.possible_from.sort_unstable();
    leases.possible_to.sort_unstable();
    leases
}

fn check_upper(index: &Index, tally: &mut Tally, queue: u32, limit: usize, leases: &Leases) {
    let row = &index.queues[queue as usize];
    // A receive under an attempt id may bring what is in flight already.
    let receives = index.receives.iter().filter(|it| it.queue == queue && it.attempt == 0);
    for receive in receives.filter(|it| it.count > 0) {
        tally.saw();
        let began = leases.certain_from.partition_point(|it| *it <= receive.at.inv);
        let ended = leases.certain_to.partition_point(|it| *it <= receive.at.ret);
        let in_flight = began.saturating_sub(ended) + receive.count as usize;
        if in_flight <= limit {
            continue;
        }
        tally.found(|| {
            let what = format!(
                "a receive of {} brought {}, which makes {in_flight} in flight, over {limit}",
                row.name, receive.count
            );
            let mut finding = index.finding(what, receive.at.inv);
            finding.queue = Some(row.name.clone());
            finding.nodes = vec![receive.node];
            finding.records = vec![receive.record];
            finding
        });
    }
}

fn check_refusals(index: &Index, tally: &mut Tally, queue: u32, limit: usize, leases: &Leases) {
    let row = &index.queues[queue as usize];
    for receive in index.receives.iter().filter(|it| it.queue == queue && it.over_limit) {
        tally.saw();
        let began = leases.possible_from.partition_point(|it| *it <= receive.gave_up);
        let ended = leases.possible_to.partition_point(|it| *it < receive.at.inv);
        let lost = row.lost_receives_until(receive.gave_up) * 10;
        let most = began.saturating_sub(ended) + lost;
        if most < limit {
            tally.found(|| {
                let what = format!(
                    "a receive of {} was refused for {limit} in flight, and no more than {most} can be",
                    row.name
                );
                let mut finding = index.finding(what, receive.at.inv);
                finding.queue = Some(row.name.clone());
                finding.nodes = vec![receive.node];
                finding.records = vec![receive.record];
                finding
            });
        }
    }
}
