//! The two small records beside the segments: how far the log was synced, and every vote.

use std::collections::BTreeMap;

use bytes::Bytes;
use flotilla_types::ids::GroupId;

use super::format::{Reader, put_bytes};
use super::meta::GroupMeta;

/// A lower bound of what was durable: only sequences that were synced before are ever written,
/// and the file itself is synced now and then only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Watermark {
    pub(super) log_id: u64,
    pub(super) synced: u64,
}

impl Watermark {
    pub(super) fn encode(self) -> [u8; 16] {
        let mut out = [0; 16];
        out[..8].copy_from_slice(&self.log_id.to_le_bytes());
        out[8..].copy_from_slice(&self.synced.to_le_bytes());
        out
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Watermark> {
        let mut reader = Reader(bytes);
        Some(Watermark { log_id: reader.u64()?, synced: reader.u64()? })
    }
}

/// All votes of the node, written and synced after the batch that holds a new one and before
/// anybody hears of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Votes {
    /// The batch after which this was written; it was synced by then.
    pub(super) synced: u64,
    pub(super) votes: BTreeMap<GroupId, (u64, Bytes)>,
}

impl Votes {
    pub(super) fn of(synced: u64, metas: &BTreeMap<GroupId, GroupMeta>) -> Votes {
        let votes = metas
            .iter()
            .filter_map(|(group, meta)| Some((*group, (meta.vote_sequence, meta.vote.clone()?))));
        Votes { synced, votes: votes.collect() }
    }

    pub(super) fn encode(&self, log_id: u64) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend_from_slice(&log_id.to_le_bytes());
        out.extend_from_slice(&self.synced.to_le_bytes());
        out.extend_from_slice(&(self.votes.len() as u32).to_le_bytes());
        for (group, (sequence, vote)) in &self.votes {
            out.extend_from_slice(&group.0.to_le_bytes());
            out.extend_from_slice(&sequence.to_le_bytes());
            put_bytes(&mut out, vote);
        }
        out
    }

    /// The identity of the log that the votes belong to, and the votes.
    pub(super) fn decode(bytes: &[u8]) -> Option<(u64, Votes)> {
        let mut reader = Reader(bytes);
        let (log_id, synced, count) = (reader.u64()?, reader.u64()?, reader.u32()?);
        let mut votes = BTreeMap::new();
        for _ in 0..count {
            let (group, sequence) = (GroupId(reader.u32()?), reader.u64()?);
            votes.insert(group, (sequence, reader.bytes()?));
        }
        Some((log_id, Votes { synced, votes }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_read_back() {
        let mark = Watermark { log_id: 3, synced: 99 };
        assert_eq!(Watermark::decode(&mark.encode()), Some(mark));
        let meta = GroupMeta {
            vote: Some(Bytes::from_static(b"term 3")),
            vote_sequence: 7,
            ..GroupMeta::default()
        };
        let metas = BTreeMap::from([(GroupId(1), meta), (GroupId(2), GroupMeta::default())]);
        let votes = Votes::of(8, &metas);
        assert_eq!(votes.votes.len(), 1);
        assert_eq!(Votes::decode(&votes.encode(5)), Some((5, votes)));
    }
}
