//! S17. Case: as many short polls as are promised to see everything, by one client through one node,
//! one after the other, each of which had room for more than it brought, and at whose beginning some
//! message was certainly visible. No message was certainly visible for all of that time.
//!
//! Source: ReceiveMessage's short polling; SQS only says "repeat the request". Undecided: as S16.
//! `e` as in S16. Skipped where short polls are promised to be nothing but samples.

use std::collections::BTreeMap;

use super::time;
use super::visible::{View, crowds};
use crate::index::{Index, Known, Span};
use crate::verdict::Tally;

pub(super) fn check<'a>(index: &Index, tally: &mut Tally, views: &impl Fn() -> &'a [View]) {
    let Some(rounds) = index.promises().short_polls_for_all.filter(|rounds| *rounds > 0) else {
        tally.skipped = Some("not promised: short polls are samples".to_owned());
        return;
    };
    let views = views();
    let crowds = crowds(index);
    let mut polls: BTreeMap<(u32, u32, u32), Vec<u32>> = BTreeMap::new();
    for (number, receive) in (0u32..).zip(&index.receives) {
        let place = (receive.process, receive.node, receive.queue);
        polls.entry(place).or_default().push(number);
    }
    for ((_, node, queue), mut polls) in polls {
        let view = &views[queue as usize];
        polls.sort_by_key(|it| index.receives[*it as usize].at.inv);
        for run in polls.windows(rounds as usize) {
            let rows = || run.iter().map(|it| &index.receives[*it as usize]);
            let short = |it: &crate::index::Receive| {
                let of_queue = index.queues[queue as usize].wait_us.max(it.at);
                it.outcome == Known::Ok && it.wait_us.unwrap_or(of_queue) == 0
            };
            if view.is_empty() || !rows().all(short) {
                continue;
            }
            let from = rows().map(|it| it.at.inv).min().unwrap_or(0);
            let to = rows().map(|it| it.at.ret).max().unwrap_or(0);
            let during = Span { inv: from, ret: to };
            // At its beginning there was something to find, and each had room for it.
            let at_first = view.covering(Span { inv: from, ret: from }, std::iter::empty());
            let had_room = |it: &crate::index::Receive| {
                it.count < it.max && !it.lost && index.asked_again(it).len() <= 1
            };
            if at_first.is_none() || !rows().all(had_room) {
                continue;
            }
            if index.disturbed(during) || crowds[queue as usize](during) {
                tally.undecided();
                continue;
            }
            let unheard = run.iter().flat_map(|it| index.unheard_by(*it));
            tally.saw();
            let Some((_, message)) = view.covering(during, unheard) else { continue };
            tally.found(|| {
                let what = format!(
                    "{rounds} short polls from {} to {} did not bring {}, which was visible all the time",
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
