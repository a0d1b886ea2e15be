//! What is known of one group beside its entries, and how each operation changes it.

use bytes::Bytes;

use super::format::{Reader, put_bytes};

const HAS_VOTE: u8 = 1;
const HAS_PURGED: u8 = 2;
const HAS_COMMITTED: u8 = 4;
const DAMAGED: u8 = 8;

/// Vote, bounds and flags of a group. Three copies live side by side: what callers see (ahead),
/// what the writer has encoded (behind), and what recovery has read; all change through the
/// methods here, so they can be compared.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct GroupMeta {
    pub(super) vote: Option<Bytes>,
    /// Batch that holds the vote (or the reset that removed it): of two copies the higher wins.
    pub(super) vote_sequence: u64,
    pub(super) committed: Option<Bytes>,
    pub(super) purged: Option<(u64, Bytes)>,
    /// First entry; equal to `next` when there is none.
    pub(super) first: u64,
    /// One past the last entry.
    pub(super) next: u64,
    /// Something was lost: refuse all but a reset.
    pub(super) damaged: bool,
}

impl GroupMeta {
    pub(super) fn is_empty(&self) -> bool {
        self.first == self.next
    }

    /// Whether an append may start at `index`: right after the last entry, or anywhere behind
    /// the purged position when there is no entry.
    pub(super) fn accepts(&self, index: u64) -> bool {
        let behind_purged = self.purged.as_ref().is_none_or(|(purged, _)| index > *purged);
        index == self.next || (self.is_empty() && behind_purged)
    }

    /// Notes `count` entries from `index` on.
    pub(super) fn append(&mut self, index: u64, count: u64) {
        if self.is_empty() {
            self.first = index;
        }
        self.next = index + count;
    }

    pub(super) fn truncate(&mut self, index: u64) {
        self.next = self.next.min(index).max(self.first);
    }

    /// False, and nothing changes, if the group was purged further already.
    pub(super) fn purge(&mut self, index: u64, note: Bytes) -> bool {
        if self.purged.as_ref().is_some_and(|(purged, _)| *purged > index) {
            return false;
        }
        self.first = self.first.max(index + 1);
        self.next = self.next.max(self.first);
        self.purged = Some((index, note));
        true
    }

    pub(super) fn reset(&mut self, sequence: u64) {
        *self = GroupMeta { vote_sequence: sequence, ..GroupMeta::default() };
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        let mut flags = 0;
        for (present, flag) in [
            (self.vote.is_some(), HAS_VOTE),
            (self.purged.is_some(), HAS_PURGED),
            (self.committed.is_some(), HAS_COMMITTED),
            (self.damaged, DAMAGED),
        ] {
            flags |= if present { flag } else { 0 };
        }
        out.push(flags);
        for value in [self.vote_sequence, self.first, self.next] {
            out.extend_from_slice(&value.to_le_bytes());
        }
        if let Some(vote) = &self.vote {
            put_bytes(out, vote);
        }
        if let Some((index, note)) = &self.purged {
            out.extend_from_slice(&index.to_le_bytes());
            put_bytes(out, note);
        }
        if let Some(committed) = &self.committed {
            put_bytes(out, committed);
        }
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<GroupMeta> {
        let mut reader = Reader(bytes);
        let flags = reader.u8()?;
        let (vote_sequence, first, next) = (reader.u64()?, reader.u64()?, reader.u64()?);
        let vote = if flags & HAS_VOTE != 0 { Some(reader.bytes()?) } else { None };
        let purged =
            if flags & HAS_PURGED != 0 { Some((reader.u64()?, reader.bytes()?)) } else { None };
        let committed = if flags & HAS_COMMITTED != 0 { Some(reader.bytes()?) } else { None };
        let damaged = flags & DAMAGED != 0;
        (first <= next).then_some(GroupMeta {
            vote,
            vote_sequence,
            committed,
            purged,
            first,
            next,
            damaged,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_back() {
        let full = GroupMeta {
            vote: Some(Bytes::from_static(b"v")),
            vote_sequence: 4,
            committed: Some(Bytes::from_static(b"c")),
            purged: Some((8, Bytes::from_static(b"note"))),
            first: 9,
            next: 12,
            damaged: true,
        };
        for meta in [full, GroupMeta::default()] {
            let mut bytes = Vec::new();
            meta.encode(&mut bytes);
            assert_eq!(GroupMeta::decode(&bytes), Some(meta));
            for cut in 0..bytes.len() {
                assert_eq!(GroupMeta::decode(&bytes[..cut]), None);
            }
        }
    }

    #[test]
    fn purge_beyond_the_last_entry_moves_the_end() {
        let mut meta = GroupMeta::default();
        meta.append(1, 3);
        assert!(meta.purge(10, Bytes::new()));
        assert_eq!((meta.first, meta.next), (11, 11));
        assert!(!meta.accepts(10));
        assert!(meta.accepts(11));
        assert!(!meta.purge(9, Bytes::new()));
    }

    #[test]
    fn truncate_stays_between_the_bounds() {
        let mut meta = GroupMeta::default();
        meta.append(5, 3);
        meta.truncate(20);
        assert_eq!((meta.first, meta.next), (5, 8));
        meta.truncate(6);
        assert_eq!((meta.first, meta.next), (5, 6));
        assert!(!meta.accepts(7));
        meta.truncate(1);
        assert_eq!((meta.first, meta.next), (5, 5));
    }
}
