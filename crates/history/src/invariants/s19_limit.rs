//! S19. Case: a receive that brought messages while as many may have been in flight as are allowed, or
//! that was refused because too many are. What was certainly in flight all the time that it took, and
//! what it brought, must not be more than allowed; and a refusal needs as many that may be. (A change
//! of visibility may hide more: it is not refused for that.)
//!
//! Source: OverLimit, about 120,000 in SQS, what is configured here. Undecided: nothing;
//! receives of unknown outcome may have all that there is. `e` shortens certain leases and lengthens
//! possible ones; `in_flight_slack` is allowed either way, and a refusal may go by what was
//! `in_flight_stale_us` ago. FIFO queues give short answers instead: only
//! the upper bound is asked of them.

use super::in_flight::{InFlight, in_flight};
use crate::index::{Index, Span};
use crate::verdict::Tally;

pub(super) fn check(index: &Index, tally: &mut Tally) {
    let Some(limit) = index.promises().in_flight_max else {
        tally.skipped = Some("not promised".to_owned());
        return;
    };
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let slack = usize::try_from(index.promises().in_flight_slack).unwrap_or(usize::MAX);
    let mut receives = vec![(0usize, false); index.queues.len()];
    for receive in &index.receives {
        let (delivered, refused) = &mut receives[receive.queue as usize];
        *delivered += receive.count as usize;
        *refused |= receive.over_limit;
    }
    for (queue, (delivered, refused)) in (0u32..).zip(receives) {
        // Otherwise it cannot have been reached.
        if delivered > limit || refused {
            let in_flight = in_flight(index, queue);
            check_upper(index, tally, queue, (limit, slack), &in_flight);
            check_refusals(index, tally, queue, (limit, slack), &in_flight);
        }
    }
}

fn check_upper(
    index: &Index,
    tally: &mut Tally,
    queue: u32,
    (limit, slack): (usize, usize),
    all: &InFlight,
) {
    // A receive under an attempt id may bring what is in flight already.
    let receives = index.receives.iter().filter(|it| it.queue == queue && it.attempt == 0);
    for receive in receives.filter(|it| it.count > 0) {
        let in_flight = all.at_least(receive.at) + receive.count as usize;
        tally.examined += u64::from(all.at_most(receive.at) >= limit);
        if in_flight <= limit.saturating_add(slack) {
            continue;
        }
        tally.found(|| {
            let name = &index.queues[queue as usize].name;
            let what = format!(
                "a receive of {name} brought {}, which makes {in_flight} in flight, over {limit}",
                receive.count
            );
            index.finding_of_receive(what, receive)
        });
    }
}

fn check_refusals(
    index: &Index,
    tally: &mut Tally,
    queue: u32,
    (limit, slack): (usize, usize),
    all: &InFlight,
) {
    for receive in index.receives.iter().filter(|it| it.queue == queue && it.over_limit) {
        tally.saw();
        let since = receive.at.inv.saturating_sub(index.promises().in_flight_stale_us);
        let most = all.at_most(Span { inv: since, ret: receive.gave_up });
        if most.saturating_add(slack) >= limit {
            continue;
        }
        tally.found(|| {
            let name = &index.queues[queue as usize].name;
            let what = format!(
                "a receive of {name} was refused for {limit} in flight, and no more than {most} can be"
            );
            index.finding_of_receive(what, receive)
        });
    }
}
