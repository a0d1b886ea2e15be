//! F9. Cases: neighbours of a group that both came out of a FIFO dead-letter queue (they lie there in
//! the order in which they left, which is that of their source); and the deduplication id of a
//! message there, which is its message id. (That the group goes on after a move is S16's and S1's.)
//!
//! Source: moves of a FIFO queue. Undecided: where messages come from several sources, and ids where
//! nobody asked for them. No clock.

use super::groups::orders;
use crate::index::{Index, NONE};
use crate::verdict::Tally;

pub(super) fn check(index: &Index, tally: &mut Tally) {
    for group in 0..index.groups.len() as u32 {
        let [_, moved] = orders(index, group);
        let mut last: Option<(u128, u32)> = None;
        for stay in moved.iter().map(|it| &index.stays[*it as usize]) {
            let row = &index.messages[stay.message as usize];
            let queue = index.groups[group as usize].queue;
            let from_source = index.graph.sources(queue).any(|source| source == row.queue);
            if row.sequence == 0 || !from_source {
                continue;
            }
            let source_group = |message: u32| index.messages[message as usize].group;
            if let Some((sequence, before)) = last {
                tally.saw();
                let one_group = source_group(before) == source_group(stay.message);
                if one_group && sequence > row.sequence {
                    tally.found(|| {
                        let what = format!(
                            "{} lies behind {} in the dead-letter queue, and lay before it in its own",
                            index.name_of(stay.message),
                            index.name_of(before)
                        );
                        let mut deliveries = index.deliveries_of_message.of(before).to_vec();
                        deliveries.extend_from_slice(index.deliveries_of_message.of(stay.message));
                        index.finding_of(what, stay.message, &deliveries, &[])
                    });
                }
            }
            last = Some((row.sequence, stay.message));
        }
    }
    if index.promises().dead_letter_dedup_is_message_id {
        check_ids(index, tally);
    }
}

fn check_ids(index: &Index, tally: &mut Tally) {
    for (number, delivery) in (0u32..).zip(&index.deliveries) {
        let queue = index.queue_of(number);
        let row = &index.messages[delivery.message as usize];
        let moved = row.queue != queue && row.key != NONE;
        let from_source = index.graph.sources(queue).any(|source| source == row.queue);
        if !moved || !from_source || !index.queues[queue as usize].fifo || delivery.dedup == 0 {
            continue;
        }
        tally.saw();
        if delivery.dedup != row.id {
            tally.found(|| {
                let name = index.name_of(delivery.message);
                let what = format!("{name} has another deduplication id there than its message id");
                index.finding_of(what, delivery.message, &[number], &[])
            });
        }
    }
}
