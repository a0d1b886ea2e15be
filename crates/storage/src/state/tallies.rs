//! How many messages groups of FIFO queues have, in memory: every send to such a queue asks for it, and every delete.

use std::collections::HashMap;

use flotilla_types::ids::{GroupKey, QueueId};

/// Groups in one of the two halves: 4 MiB for both of a shard, when they are full.
const HALF_MAX: usize = 32_768;

type Key = (QueueId, GroupKey);

/// What the store has, as far as it is known here; a group that it has no row of has none. Those that were asked for or
/// changed since the last turn are in one half, those of the turn before in the other; when the first is full, the second
/// one's groups go.
#[derive(Default)]
pub(super) struct Tallies {
    young: HashMap<Key, Option<u64>>,
    old: HashMap<Key, Option<u64>>,
}

impl Tallies {
    pub(super) fn get(&mut self, queue: QueueId, group: GroupKey) -> Option<Option<u64>> {
        let key = (queue, group);
        if let Some(known) = self.young.get(&key) {
            return Some(*known);
        }
        let known = self.old.remove(&key)?;
        self.note(queue, group, known);
        Some(known)
    }

    /// What the store has from now on, or has by a read that no commit came between.
    pub(super) fn note(&mut self, queue: QueueId, group: GroupKey, messages: Option<u64>) {
        if self.young.len() >= HALF_MAX && !self.young.contains_key(&(queue, group)) {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert((queue, group), messages);
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;

    use super::*;

    const QUEUE: QueueId = QueueId(1);

    fn group(number: usize) -> GroupKey {
        GroupKey(NonZeroU64::new(1 + number as u64).unwrap())
    }

    #[test]
    fn knows_what_was_noted_last() {
        let mut tallies = Tallies::default();
        assert_eq!(tallies.get(QUEUE, group(1)), None, "nothing is known");
        tallies.note(QUEUE, group(1), None);
        assert_eq!(tallies.get(QUEUE, group(1)), Some(None), "there is none");
        tallies.note(QUEUE, group(1), Some(7));
        assert_eq!(tallies.get(QUEUE, group(1)), Some(Some(7)));
        assert_eq!(tallies.get(QueueId(2), group(1)), None);
    }

    #[test]
    fn a_group_that_is_used_stays_and_memory_is_bounded() {
        let mut tallies = Tallies::default();
        for number in 0..4 * HALF_MAX {
            tallies.note(QUEUE, group(number), Some(number as u64));
            assert_eq!(tallies.get(QUEUE, group(0)), Some(Some(0)));
            assert!(tallies.young.len() <= HALF_MAX && tallies.old.len() <= HALF_MAX);
        }
        assert_eq!(tallies.get(QUEUE, group(1)), None);
    }

    /// What was known before does not come back from the other half.
    #[test]
    fn a_change_replaces_what_the_older_half_has() {
        let mut tallies = Tallies::default();
        tallies.note(QUEUE, group(0), Some(1));
        for number in 1..=HALF_MAX {
            tallies.note(QUEUE, group(number), Some(1));
        }
        assert!(tallies.old.contains_key(&(QUEUE, group(0))));
        tallies.note(QUEUE, group(0), Some(2));
        for number in 0..HALF_MAX {
            tallies.note(QUEUE, group(100_000 + number), Some(1));
            assert_ne!(tallies.get(QUEUE, group(0)), Some(Some(1)));
        }
    }
}
