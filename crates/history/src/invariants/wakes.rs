//! How long long polls take to see what comes: S16's numbers, which nobody is judged by.

use super::s16_long_poll::end_of_wait;
use super::visible::View;
use crate::index::{Index, Known, NEVER, Receive, Span};
use crate::verdict::Wakes;

/// Of polls that no fault was near, and of the others.
pub(super) fn wakes(index: &Index, views: &[View]) -> (Wakes, Wakes) {
    let waits = |receive: &&Receive| receive.outcome == Known::Ok && wait(index, receive) > 0;
    let (mut calm, mut faulty) = (Vec::new(), Vec::new());
    let mut missed = [0, 0];
    for (number, receive) in (0u32..).zip(&index.receives).filter(|it| waits(&it.1)) {
        let disturbed = index.disturbed(receive.at);
        let took = if disturbed { &mut faulty } else { &mut calm };
        for delivery in receive.first..receive.first + receive.count {
            took.extend(latency(index, receive, delivery));
        }
        // One that ended before its time saw what came until then, whenever that was.
        let in_time = receive.at.ret - receive.at.inv >= wait(index, receive);
        if receive.count == 0 && in_time {
            let unseen = unseen(index, number, &views[receive.queue as usize]);
            let missed = &mut missed[usize::from(disturbed)];
            *missed = unseen.max(*missed);
        }
    }
    (summary(calm, missed[0]), summary(faulty, missed[1]))
}

fn wait(index: &Index, receive: &Receive) -> u64 {
    let queue = &index.queues[receive.queue as usize];
    receive.wait_us.unwrap_or_else(|| queue.wait_us.max(receive.at))
}

/// Of a message that came while the poll waited, and that nobody had before.
fn latency(index: &Index, receive: &Receive, delivery: u32) -> Option<u64> {
    let row = &index.deliveries[delivery as usize];
    let entered = index.messages[row.message as usize].entered;
    let sends = index.attempts_of_message.of(row.message);
    let delayed = sends.iter().any(|it| {
        let delay = index.attempts[*it as usize].delay_us;
        let queue = &index.queues[receive.queue as usize];
        if delay == NEVER { queue.delay_us.max(entered) > 0 } else { delay > 0 }
    });
    let came = entered.inv > receive.at.inv && row.count == 1 && sends.len() == 1 && !delayed;
    came.then(|| receive.at.ret.saturating_sub(entered.ret))
}

/// The longest time at the end of an empty poll for which a message was there.
fn unseen(index: &Index, number: u32, view: &View) -> u64 {
    let receive = &index.receives[number as usize];
    let end = end_of_wait(receive, wait(index, receive));
    let there = |us: u64| {
        let during = Span { inv: end - us, ret: end };
        view.covering(during, index.unheard_by(number)).is_some()
    };
    let (mut least, mut most) = (0, end - receive.at.inv);
    if !there(0) {
        return 0;
    }
    while least < most {
        let middle = least + (most - least).div_ceil(2);
        if there(middle) { least = middle } else { most = middle - 1 }
    }
    least
}

fn summary(mut took: Vec<u64>, missed_us: u64) -> Wakes {
    took.sort_unstable();
    let at =
        |share: usize| took.get((took.len() * share / 100).min(took.len().max(1) - 1)).copied();
    Wakes {
        count: took.len() as u64,
        median_us: at(50).unwrap_or(0),
        p99_us: at(99).unwrap_or(0),
        max_us: took.last().copied().unwrap_or(0),
        missed_us,
    }
}
