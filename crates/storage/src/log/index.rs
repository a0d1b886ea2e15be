//! Where the entries of one group are.

use std::collections::VecDeque;

use super::meta::GroupMeta;

/// Where an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Lost: recovery found that it must exist and it does not.
    Missing,
    /// Only in memory so far. The ticket tells it from a later entry of the same index.
    Pending { ticket: u64, bytes: u32 },
    /// On disk; `offset` is the payload's, from the start of the segment.
    At { generation: u64, offset: u32, bytes: u32, crc: u32 },
}

impl Place {
    pub(super) fn bytes(&self) -> u64 {
        match self {
            Place::Missing => 0,
            Place::Pending { bytes, .. } | Place::At { bytes, .. } => u64::from(*bytes),
        }
    }
}

/// A group's bounds and one place for every entry between them.
#[derive(Debug, Default)]
pub(super) struct GroupIndex {
    meta: GroupMeta,
    /// Of the entries `meta.first..meta.next`.
    places: VecDeque<Place>,
    bytes: u64,
}

impl GroupIndex {
    /// A group as a segment's first batch describes it: which entries exist is known, where they
    /// are follows from the records after it.
    pub(super) fn from_meta(meta: GroupMeta) -> GroupIndex {
        let places = (meta.first..meta.next).map(|_| Place::Missing).collect();
        GroupIndex { meta, places, bytes: 0 }
    }

    pub(super) fn meta(&self) -> &GroupMeta {
        &self.meta
    }

    /// For the parts that have no place in the index: vote, committed, damaged.
    pub(super) fn meta_mut(&mut self) -> &mut GroupMeta {
        &mut self.meta
    }

    /// Payload bytes of all entries.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn places(&self) -> impl Iterator<Item = (u64, &Place)> {
        (self.meta.first..).zip(&self.places)
    }

    /// See [`GroupLog::last_beyond`](super::GroupLog::last_beyond). Looks at those only.
    pub(super) fn last_beyond(&self, keep_bytes: u64) -> Option<u64> {
        let (mut rest, mut last) = (self.bytes, None);
        for (index, place) in self.places() {
            if rest <= keep_bytes {
                break;
            }
            rest -= place.bytes();
            last = Some(index);
        }
        last
    }

    pub(super) fn get(&self, index: u64) -> Option<&Place> {
        self.places.get(usize::try_from(index.checked_sub(self.meta.first)?).ok()?)
    }

    /// Replaces the place of an entry that exists.
    pub(super) fn set(&mut self, index: u64, place: Place) {
        let Some(at) = index.checked_sub(self.meta.first) else {
            return;
        };
        if let Some(slot) = self.places.get_mut(at as usize) {
            self.bytes = self.bytes - slot.bytes() + place.bytes();
            *slot = place;
        }
    }

    /// Adds the entry `index`, which the bounds must accept.
    pub(super) fn push(&mut self, index: u64, place: Place) {
        debug_assert!(self.meta.accepts(index), "callers check the bounds");
        self.meta.append(index, 1);
        self.bytes += place.bytes();
        self.places.push_back(place);
    }

    /// Removes `index..` and returns the places they had.
    pub(super) fn truncate(&mut self, index: u64) -> VecDeque<Place> {
        self.meta.truncate(index);
        let removed = self.places.split_off((self.meta.next - self.meta.first) as usize);
        self.forget(&removed);
        removed
    }

    /// Removes `..=index` and returns the places they had.
    pub(super) fn purge(&mut self, index: u64, note: bytes::Bytes) -> VecDeque<Place> {
        let before = self.meta.first;
        if !self.meta.purge(index, note) {
            return VecDeque::new();
        }
        let count = ((self.meta.first - before) as usize).min(self.places.len());
        let rest = self.places.split_off(count);
        let removed = std::mem::replace(&mut self.places, rest);
        self.forget(&removed);
        removed
    }

    /// Removes everything and returns the places of all entries.
    pub(super) fn reset(&mut self, sequence: u64) -> VecDeque<Place> {
        self.meta.reset(sequence);
        self.bytes = 0;
        std::mem::take(&mut self.places)
    }

    fn forget(&mut self, removed: &VecDeque<Place>) {
        self.bytes -= removed.iter().map(Place::bytes).sum::<u64>();
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn at(offset: u32) -> Place {
        Place::At { generation: 1, offset, bytes: 10, crc: 0 }
    }

    /// A log of few large entries took as much of the disk as these are large.
    #[test]
    fn of_large_entries_fewer_stay() {
        let mut index = GroupIndex::default();
        for entry in 5..10 {
            index.push(entry, at(entry as u32));
        }
        for (keep_bytes, last) in
            [(50, None), (49, Some(5)), (40, Some(5)), (39, Some(6)), (1, Some(9)), (0, Some(9))]
        {
            assert_eq!(index.last_beyond(keep_bytes), last, "{keep_bytes} bytes");
        }
        index.set(9, Place::Pending { ticket: 1, bytes: 1_000 });
        assert_eq!(index.last_beyond(1_010), Some(7));
        assert_eq!(index.last_beyond(999), Some(9));
        assert_eq!(GroupIndex::default().last_beyond(0), None);
    }

    #[test]
    fn places_follow_the_bounds() {
        let mut index = GroupIndex::default();
        for entry in 5..10 {
            index.push(entry, at(entry as u32));
        }
        assert_eq!(index.bytes(), 50);
        assert_eq!(index.truncate(8), [at(8), at(9)]);
        assert_eq!(index.purge(5, Bytes::new()), [at(5)]);
        assert_eq!(index.get(5), None);
        assert_eq!(index.get(7), Some(&at(7)));
        assert_eq!(index.get(8), None);
        assert_eq!(index.places().map(|(i, _)| i).collect::<Vec<_>>(), [6, 7]);
        assert_eq!(index.bytes(), 20);
        assert_eq!(index.purge(100, Bytes::new()), [at(6), at(7)]);
        assert_eq!((index.meta().first, index.meta().next, index.bytes()), (101, 101, 0));
        assert_eq!(index.purge(50, Bytes::new()), VecDeque::new());
        index.push(101, at(1));
        assert_eq!(index.reset(3), [at(1)]);
        assert_eq!(index.meta().next, 0);
    }
}
