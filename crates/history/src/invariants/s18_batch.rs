//! S18. Case: a batch that was answered. Every entry is answered once and nothing else is, and
//! entries of one group that were accepted have rising sequence numbers in the batch's order. (What
//! an entry's answer says is checked like that of a request of its own.)
//!
//! Source: batch rules. Undecided: nothing; duplicates of earlier sends have the numbers of those
//! and are left out. No clock.

use crate::index::{Index, Known, NONE};
use crate::verdict::Tally;

pub(super) fn check(index: &Index, tally: &mut Tally) {
    for batch in &index.batches {
        tally.saw();
        if let Some(wrong) = batch.wrong {
            tally.found(|| {
                let mut finding = index.finding(format!("in a batch's answer {wrong}"), 0);
                finding.records = vec![batch.record];
                finding
            });
        }
        if batch.first_attempt == NONE {
            continue;
        }
        let (from, count) = (batch.first_attempt as usize, batch.entries as usize);
        let attempts = &index.attempts[from..from + count];
        let accepted = |it: &&crate::index::Attempt| {
            // Not the duplicate of an earlier send, known or unknown.
            let lost = || index.info_by_dedup.contains_key(&(it.queue, it.dedup));
            let first = || index.attempts_of_message.of(it.message).len() == 1 && !lost();
            it.outcome == Known::Ok && it.group != NONE && it.sequence != 0 && first()
        };
        let accepted: Vec<_> = attempts.iter().filter(accepted).collect();
        for (place, later) in accepted.iter().enumerate() {
            let earlier = accepted[..place].iter().rev().find(|it| it.group == later.group);
            let Some(earlier) = earlier.filter(|it| it.sequence >= later.sequence) else {
                continue;
            };
            tally.found(|| {
                let what = format!(
                    "{} stands behind {} in its batch and has no larger sequence number",
                    index.name_of(later.message),
                    index.name_of(earlier.message)
                );
                index.finding_of(what, later.message, &[], &[])
            });
        }
    }
}
