//! S17. Case: as many short polls as are promised to see everything, by one client through one node,
//! one after the other. They must not all be empty while one message was certainly visible for all
//! of that time.
//!
//! Source: ReceiveMessage's short polling; SQS only says "repeat the request". Undecided: as S16.
//! `e` as in S16. Skipped where short polls are promised to be nothing but samples.

use std::collections::BTreeMap;

use super::time;
use super::visible::{crowded, windows};
use crate::index::{Index, Known};
use crate::verdict::Tally;

pub(super) fn check(index: &Index, tally: &mut Tally) {
    let Some(rounds) = index.promises().short_polls_for_all.filter(|rounds| *rounds > 0) else {
        tally.skipped = Some("not promised: short polls are samples".to_owned());
        return;
    };
    let windows = windows(index);
    let crowded = crowded(index);
    let mut polls: BTreeMap<(u32, u32, u32), Vec<u32>> = BTreeMap::new();
    for (number, receive) in (0u32..).zip(&index.receives) {
        let place = (receive.process, receive.node, receive.queue);
        polls.entry(place).or_default().push(number);
    }
    for ((_, node, queue), mut polls) in polls {
        polls.sort_by_key(|it| index.receives[*it as usize].at.inv);
        for run in polls.windows(rounds as usize) {
            let rows = || run.iter().map(|it| &index.receives[*it as usize]);
            let short = |it: &crate::index::Receive| {
                let of_queue = index.queues[queue as usize].wait_us.max(it.at);
                it.outcome == Known::Ok && it.wait_us.unwrap_or(of_queue) == 0
            };
            if windows[queue as usize].is_empty() || !rows().all(short) {
                continue;
            }
            if crowded[queue as usize] {
                tally.undecided();
                continue;
            }
            tally.saw();
            if rows().any(|it| it.count > 0 || index.disturbed(it.at)) {
                continue;
            }
            let from = rows().map(|it| it.at.inv).min().unwrap_or(0);
            let to = rows().map(|it| it.at.ret).max().unwrap_or(0);
            let Some((_, message)) = windows[queue as usize].covering(from, to) else { continue };
            tally.found(|| {
                let what = format!(
                    "{rounds} short polls from {} to {} were empty, and {} was visible all the time",
                    time(from),
                    time(to),
                    index.name_of(message)
                );
                let records: Vec<u32> = rows().map(|it| it.record).collect();
                let mut finding = index.finding_of(what, message, &[], &records);
                finding.nodes.push(node);
                finding
            });
        }
    }
}
