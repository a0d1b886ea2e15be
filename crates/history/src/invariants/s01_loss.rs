//! S1. Case: a message id that a send was acknowledged with. It must come out in the final drain,
//! unless it was deleted (perhaps), a purge or deletion of its queue may cover it, or it may have
//! been older than its retention when the drain ended.
//!
//! Source: at-least-once delivery; a majority has a message before its send is acknowledged.
//! Undecided: a delete, purge or queue deletion of unknown outcome, and a message that went through a
//! move task under another id which was not seen. Needs a drain that came to its end; `e` is
//! taken off the retention.

use std::collections::BTreeMap;

use super::deleting::{Acts, acts};
use super::time;
use crate::index::{Clearing, Index, Known, NEVER, NONE, Span, TouchKind};
use crate::verdict::Tally;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Accounted,
    Undecided,
    Lost,
}

pub(super) fn check(index: &Index, tally: &mut Tally) {
    let (Some(drain), Some(drained)) = (index.drain, index.drained) else {
        tally.skipped = Some("the run has no drain that came to its end".to_owned());
        return;
    };
    for message in lost(index, drain, drained, Some(tally)) {
        tally.found(|| {
            let deliveries = index.deliveries_of_message.of(message);
            let seen = match deliveries {
                [] => "it was never delivered".to_owned(),
                _ => format!("it was delivered {} times before, never deleted", deliveries.len()),
            };
            let row = &index.messages[message as usize];
            let purged = index.queues[row.queue as usize].clearings.iter();
            let purged = purged.filter(|it| it.at.ret < row.entered.inv).max_by_key(|it| it.at.ret);
            let hint = purged.map_or(String::new(), |it| {
                let later = row.entered.inv - it.at.ret;
                format!("; it was sent {} after a purge or deletion of its queue", time(later))
            });
            let touches = index.touches_of_message.of(message).iter();
            let touches: Vec<u32> = touches.map(|it| index.touches[*it as usize].record).collect();
            let what = format!(
                "{} was acknowledged and did not come out in the drain; {seen}{hint}",
                index.name_of(message)
            );
            index.finding_of(what, message, deliveries, &touches)
        });
    }
}

fn lost(index: &Index, drain: u64, drained: u64, mut tally: Option<&mut Tally>) -> Vec<u32> {
    let reachable: Vec<Vec<u32>> =
        (0..index.queues.len() as u32).map(|queue| index.graph.reachable(queue)).collect();
    let mut lost = Vec::new();
    for message in 0..index.messages.len() as u32 {
        let row = &index.messages[message as usize];
        if !row.acknowledged || row.entered.ret > drain {
            continue;
        }
        let fate = fate(index, message, &reachable[row.queue as usize], drain, drained);
        if let Some(tally) = tally.as_deref_mut() {
            match fate {
                Fate::Undecided => tally.undecided(),
                Fate::Accounted | Fate::Lost => tally.saw(),
            }
        }
        if fate == Fate::Lost {
            lost.push(message);
        }
    }
    lost
}

fn fate(index: &Index, message: u32, reachable: &[u32], drain: u64, drained: u64) -> Fate {
    let row = &index.messages[message as usize];
    let fate = fate_of_id(index, message, drain);
    if fate != Fate::Lost {
        return fate;
    }
    let entered = row.entered.inv;
    let mut fate = Fate::Lost;
    let nodes = || {
        let sends = index.attempts_of_message.of(message).iter();
        sends.map(|it| index.attempts[*it as usize].node)
    };
    for &queue in reachable {
        let queue = &index.queues[queue as usize];
        // A node that had not heard of the deletion took it for the queue that was.
        let over = |it: &Clearing| nodes().map(|node| it.over_at(node)).max().unwrap_or(it.at.ret);
        for clearing in queue.clearings.iter().filter(|it| over(it) >= entered) {
            if clearing.at.ret != NEVER {
                return Fate::Accounted;
            }
            fate = Fate::Undecided;
        }
        let retention = queue.retention_us.min(Span { inv: entered, ret: drained });
        if entered.saturating_add(retention) <= drained.saturating_add(index.bounds().clock_us) {
            return Fate::Accounted;
        }
    }
    if reachable.iter().any(|queue| index.graph.is_move_source(*queue)) {
        fate = elsewhere(index, message, drain, fate);
    }
    fate
}

/// What became of one id.
fn fate_of_id(index: &Index, message: u32, drain: u64) -> Fate {
    let deliveries = index.deliveries_of_message.of(message);
    if deliveries.iter().any(|delivery| index.at(*delivery).ret >= drain) {
        return Fate::Accounted;
    }
    let mut fate = Fate::Lost;
    for touch in index.touches_of_message.of(message) {
        let touch = &index.touches[*touch as usize];
        if touch.kind != TouchKind::Delete || acts(index, touch) == Acts::Never {
            continue;
        }
        if touch.outcome == Known::Ok {
            return Fate::Accounted;
        }
        fate = Fate::Undecided;
    }
    fate
}

/// A move task may have given it another id.
fn elsewhere(index: &Index, message: u32, drain: u64, mut fate: Fate) -> Fate {
    let own = index.messages[message as usize].key;
    let keys = index.sends_of(message).map(|it| it.key).chain([own]);
    for key in keys.filter(|key| *key != NONE) {
        for &other in index.messages_of_key.of(key) {
            if other == message || index.messages[other as usize].acknowledged {
                continue;
            }
            match fate_of_id(index, other, drain) {
                Fate::Accounted => return Fate::Accounted,
                Fate::Undecided => fate = Fate::Undecided,
                Fate::Lost => {}
            }
        }
    }
    fate
}

#[derive(Default)]
struct OfWriter {
    /// Whether each acknowledged message was lost, by counter.
    messages: BTreeMap<u32, bool>,
}

/// Where the losses are: of each writer the first, the last or some in the middle, which hints at the
/// cause, and how many on each shard and node.
pub(crate) fn losses_by_place(index: &Index) -> Vec<String> {
    let (Some(drain), Some(drained)) = (index.drain, index.drained) else { return Vec::new() };
    let lost = lost(index, drain, drained, None);
    if lost.is_empty() {
        return Vec::new();
    }
    let is_lost: std::collections::HashSet<u32> = lost.iter().copied().collect();
    let mut writers: BTreeMap<u32, OfWriter> = BTreeMap::new();
    let mut places: BTreeMap<String, usize> = BTreeMap::new();
    for attempt in index.attempts.iter().filter(|it| it.message != NONE) {
        let lost = is_lost.contains(&attempt.message);
        let key = index.keys[attempt.key as usize].key;
        writers.entry(key.writer).or_default().messages.insert(key.counter, lost);
        if lost {
            let shard = match attempt.shard {
                NONE => String::new(),
                shard => format!(", shard {shard}"),
            };
            let queue = &index.queues[attempt.queue as usize].name;
            let place = format!("queue {queue}{shard}, acknowledged by node {}", attempt.node);
            *places.entry(place).or_default() += 1;
        }
    }
    let mut lines = Vec::new();
    for (writer, OfWriter { messages }) in writers {
        let lost = messages.values().filter(|lost| **lost).count();
        if lost > 0 {
            let flags: Vec<bool> = messages.into_values().collect();
            lines.push(format!(
                "writer {writer}: {lost} of {} lost, {}",
                flags.len(),
                part(&flags)
            ));
        }
    }
    lines.extend(places.into_iter().map(|(place, count)| format!("{place}: {count} lost")));
    lines
}

/// Which part of a writer's messages is lost.
fn part(lost: &[bool]) -> &'static str {
    let count = lost.iter().filter(|lost| **lost).count();
    let leading = lost.iter().take_while(|lost| **lost).count();
    let trailing = lost.iter().rev().take_while(|lost| **lost).count();
    match () {
        () if count == lost.len() => "all that it sent",
        () if leading == count => "its first ones",
        () if trailing == count => "its last ones",
        () => "in the middle",
    }
}

#[cfg(test)]
mod tests {
    use super::part;

    #[test]
    fn the_place_of_a_loss_has_a_name() {
        assert_eq!(part(&[true, true]), "all that it sent");
        assert_eq!(part(&[true, false]), "its first ones");
        assert_eq!(part(&[false, true, true]), "its last ones");
        assert_eq!(part(&[false, true, false]), "in the middle");
        assert_eq!(part(&[true, false, true]), "in the middle");
    }
}
