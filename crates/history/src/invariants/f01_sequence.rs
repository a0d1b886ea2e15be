//! F1. Case: a message of a FIFO queue with a sequence number. No other message of the queue has it,
//! every answer that tells it tells the same, and in its group a send that returned before another
//! began has the smaller one.
//!
//! Source: SequenceNumber. Undecided: nothing; messages moved by tasks have no known send. No clock.

use crate::index::{Index, NONE};
use crate::verdict::Tally;

pub(super) fn check(index: &Index, tally: &mut Tally) {
    tally.examined += index.stays.len() as u64;
    constant(index, tally);
    unique(index, tally);
    for group in 0..index.groups.len() as u32 {
        rising(index, tally, group);
    }
}

fn constant(index: &Index, tally: &mut Tally) {
    for attempt in index.attempts.iter().filter(|it| it.message != NONE && it.sequence != 0) {
        let row = &index.messages[attempt.message as usize];
        if row.queue == attempt.queue && row.sequence != attempt.sequence {
            tally.found(|| {
                let name = index.name_of(attempt.message);
                let what = format!("two sends were answered with {name} and two sequence numbers");
                index.finding_of(what, attempt.message, &[], &[])
            });
        }
    }
    for group in 0..index.groups.len() as u32 {
        for stay in index.stays_of_group.of(group) {
            let stay = &index.stays[*stay as usize];
            for &delivery in index.deliveries_of_message.of(stay.message) {
                let row = &index.deliveries[delivery as usize];
                if row.group != group || row.sequence == 0 || row.sequence == stay.sequence {
                    continue;
                }
                tally.found(|| {
                    let what = format!(
                        "{} has the sequence number {} and was delivered with {}",
                        index.name_of(stay.message),
                        stay.sequence,
                        row.sequence
                    );
                    index.finding_of(what, stay.message, &[delivery], &[])
                });
            }
        }
    }
}

fn unique(index: &Index, tally: &mut Tally) {
    let queue = |stay: &crate::index::Stay| index.groups[stay.group as usize].queue;
    let numbers = index.stays.iter().map(|stay| (queue(stay), stay.sequence, stay.message));
    let mut numbers: Vec<(u32, u128, u32)> = numbers.collect();
    numbers.sort_unstable();
    for pair in numbers.windows(2) {
        let (first, second) = (pair[0], pair[1]);
        if (first.0, first.1) != (second.0, second.1) {
            continue;
        }
        tally.found(|| {
            let what = format!(
                "{} and {} have one sequence number, {}",
                index.name_of(first.2),
                index.name_of(second.2),
                first.1
            );
            let sends = index.attempts_of_message.of(first.2).iter();
            let records: Vec<u32> = sends.map(|it| index.attempts[*it as usize].record).collect();
            index.finding_of(what, second.2, index.deliveries_of_message.of(second.2), &records)
        });
    }
}

fn rising(index: &Index, tally: &mut Tally, group: u32) {
    let stays = index.stays_of_group.of(group);
    // Of those behind, the send that returned first.
    let mut first: Option<u32> = None;
    for &row in stays.iter().rev().filter(|it| index.stays[**it as usize].home) {
        let stay = &index.stays[row as usize];
        let behind = first.map(|it| &index.stays[it as usize]);
        let earlier = |it: &&crate::index::Stay| {
            it.sequence != stay.sequence && it.entered.before(stay.entered)
        };
        if let Some(behind) = behind.filter(earlier) {
            tally.found(|| {
                let what = format!(
                    "the send of {} returned before that of {} began, and has the larger sequence \
                     number",
                    index.name_of(behind.message),
                    index.name_of(stay.message)
                );
                let sends = index.attempts_of_message.of(behind.message).iter();
                let records: Vec<u32> =
                    sends.map(|it| index.attempts[*it as usize].record).collect();
                index.finding_of(what, stay.message, &[], &records)
            });
        }
        if first.is_none_or(|it| index.stays[it as usize].entered.ret > stay.entered.ret) {
            first = Some(row);
        }
    }
}
