//! S15. Case: an answer with all three approximate counts of a queue that no redrive policy or move
//! task touches. Their sum must lie between what certainly was in the queue for all of the last
//! `counts_us` and what may have been in it at some moment of them; where counts may leave something
//! out, there is no least number with a fault in the request or not long before.
//!
//! Source: GetQueueAttributes; a minute's lag in SQS. Undecided: queues with redrive or moves, and
//! everything after a purge of unknown outcome is only bounded from one side. `e` is in the
//! retention.

use super::leaving;
use super::time;
use crate::index::{Access, Index, Known, NEVER, NONE};
use crate::verdict::Tally;

const COUNTS: [&str; 3] = [
    "ApproximateNumberOfMessages",
    "ApproximateNumberOfMessagesNotVisible",
    "ApproximateNumberOfMessagesDelayed",
];

/// Ends of intervals in which messages were there, sorted.
#[derive(Default)]
struct Ends {
    from: Vec<u64>,
    to: Vec<u64>,
}

impl Ends {
    fn add(&mut self, from: u64, to: u64) {
        if from < to {
            self.from.push(from);
            self.to.push(to);
        }
    }

    fn sort(&mut self) {
        self.from.sort_unstable();
        self.to.sort_unstable();
    }

    /// Intervals that began by one time, less those that ended by another.
    fn between(&self, began_by: u64, ended_by: u64) -> usize {
        let began = self.from.partition_point(|it| *it <= began_by);
        began.saturating_sub(self.to.partition_point(|it| *it <= ended_by))
    }
}

pub(super) fn check(index: &Index, tally: &mut Tally) {
    for (number, queue) in (0u32..).zip(&index.queues) {
        let counted = queue.accesses.iter().filter_map(|it| Some((it, sum(it)?)));
        let counted: Vec<_> = counted.collect();
        if counted.is_empty() {
            continue;
        }
        if !index.is_isolated(number) || !index.whole() {
            tally.undecided += counted.len() as u64;
            continue;
        }
        let (certain, possible) = presence(index, number);
        for (access, sum) in counted {
            let from = access.at.inv.saturating_sub(index.bounds().counts_us);
            let least = certain.between(from, access.at.ret);
            let most = possible.between(access.at.ret, from.saturating_sub(1));
            tally.saw();
            if (least..=most).contains(&sum) {
                continue;
            }
            tally.found(|| {
                let what = format!(
                    "{} counts {sum} messages at {}, and there were {least} to {most}",
                    queue.name,
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

fn sum(access: &Access) -> Option<usize> {
    if access.writes {
        return None;
    }
    let count = |name: &&str| access.attributes.get(*name)?.parse::<usize>().ok();
    COUNTS.iter().map(count).sum()
}

/// When messages certainly were in a queue, and when they may have been.
fn presence(index: &Index, queue: u32) -> (Ends, Ends) {
    let (mut certain, mut possible) = (Ends::default(), Ends::default());
    let mut explained = vec![false; index.keys.len()];
    for message in 0..index.messages.len() as u32 {
        let row = &index.messages[message as usize];
        if row.queue != queue {
            continue;
        }
        let gone = leaving::earliest(index, message, queue, row.entered.inv);
        certain.add(row.entered.ret, gone);
        possible.add(row.entered.inv, leaving::latest(index, message, queue));
        if !row.acknowledged && row.key != NONE {
            explained[row.key as usize] = true;
        }
    }
    for attempt in index.attempts.iter().filter(|it| it.queue == queue) {
        let seen = attempt.key != NONE && explained[attempt.key as usize];
        if attempt.outcome == Known::Info && !seen {
            possible.add(attempt.at.inv, NEVER);
        }
    }
    certain.sort();
    possible.sort();
    (certain, possible)
}
