//! S12. Case: a key that was seen in a queue which move tasks take messages from or bring them to. A
//! task gives a message a new id, so each id that was in a task's source makes at most one more
//! id; and once the new one was delivered, the old one is not.
//!
//! Source: StartMessageMoveTask; at least once in SQS, exactly once where the move is one command.
//! (Lost: S1.) Undecided: keys that were sent more than once, and,
//! where that is promised no better (`fifo_moves_repeat`), those of FIFO queues in runs with faults. No clock.

use super::time;
use crate::index::{Index, Known};
use crate::verdict::Tally;

pub(super) fn check(index: &Index, tally: &mut Tally) {
    if !index.graph.has_moves() {
        return;
    }
    let concerned =
        |queue: u32| index.graph.is_move_source(queue) || index.graph.is_move_target(queue);
    for key in 0..index.keys.len() as u32 {
        let messages = index.messages_of_key.of(key);
        let seen = |message: &u32| {
            let deliveries = index.deliveries_of_message.of(*message).iter();
            deliveries.into_iter().any(|it| concerned(index.queue_of(*it)))
        };
        if !messages.iter().any(seen) {
            continue;
        }
        let attempts = index.attempts_of_key.of(key).iter();
        let attempts = attempts.filter(|it| index.attempts[**it as usize].outcome != Known::Fail);
        let sent = attempts.count();
        let in_source = messages.iter().filter(|it| was_in_source(index, **it)).count();
        let fifo = |it: &u32| index.queues[index.messages[*it as usize].queue as usize].fifo;
        let repeats = index.promises().fifo_moves_repeat && !index.faults.is_empty();
        if sent != 1 || (repeats && messages.iter().any(fifo)) {
            tally.undecided();
            continue;
        }
        tally.saw();
        let mut ids: Vec<u32> = messages.to_vec();
        ids.retain(|it| !index.deliveries_of_message.of(*it).is_empty());
        let unseen = messages.len() - ids.len();
        if ids.len() + unseen > sent + in_source {
            tally.found(|| {
                let what = format!(
                    "{} has {} message ids, and only {in_source} of them were where a task could \
                     move them",
                    index.name_of(messages[0]),
                    messages.len()
                );
                let first = |it: &u32| index.deliveries_of_message.of(*it).first().copied();
                let deliveries: Vec<u32> = messages.iter().filter_map(first).collect();
                index.finding_of(what, messages[0], &deliveries, &[])
            });
            continue;
        }
        check_order(index, tally, &mut ids);
    }
}

/// Whether a message may have been in a queue that a task took messages from.
fn was_in_source(index: &Index, message: u32) -> bool {
    let home = index.messages[message as usize].queue;
    if index.graph.is_move_source(home) {
        return true;
    }
    let deliveries = index.deliveries_of_message.of(message).iter();
    if deliveries.into_iter().any(|it| index.graph.is_move_source(index.queue_of(*it))) {
        return true;
    }
    let source = index.graph.targets(home).any(|target| index.graph.is_move_source(target));
    source && super::leaving::redriven(index, message, home) != crate::index::NEVER
}

fn check_order(index: &Index, tally: &mut Tally, ids: &mut [u32]) {
    let first = |it: &u32| index.deliveries_of_message.of(*it)[0];
    ids.sort_by_key(|it| index.at(first(it)).inv);
    for pair in ids.windows(2) {
        let deliveries = index.deliveries_of_message.of(pair[1]).iter();
        let Some(&new) = deliveries.min_by_key(|it| index.at(**it).ret) else { continue };
        let old = index.deliveries_of_message.of(pair[0]).iter();
        let late = old.copied().find(|it| index.at(new).before(index.at(*it)));
        if let Some(late) = late {
            tally.found(|| {
                let what = format!(
                    "{} was delivered at {} as what it was before a task moved it, and at {} as \
                     what it became",
                    index.name_of(pair[0]),
                    time(index.at(late).ret),
                    time(index.at(new).ret)
                );
                index.finding_of(what, pair[0], &[new, late], &[])
            });
            return;
        }
    }
}
