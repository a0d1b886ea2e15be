//! Rebuilds the groups from records in the order of the log, and collects what does not fit.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use flotilla_types::ids::GroupId;

use super::format::{BatchHeader, Kind, Record, Records};
use super::index::{GroupIndex, Place};
use super::marks::Votes;
use super::meta::GroupMeta;
use super::{Damage, DamagedGroups};

/// The groups so far, and the damage.
#[derive(Default)]
pub(super) struct Replay {
    groups: BTreeMap<GroupId, GroupIndex>,
    all: Vec<String>,
    some: BTreeMap<GroupId, String>,
}

/// Where a batch is.
#[derive(Clone, Copy)]
pub(super) struct At {
    pub(super) generation: u64,
    pub(super) offset: u32,
    pub(super) sequence: u64,
    /// In the oldest segment: what is said about groups there is all that is known.
    pub(super) oldest: bool,
}

impl Replay {
    /// Something was lost and nobody knows whose it was.
    pub(super) fn lost_any(&mut self, what: String) {
        self.all.push(what);
    }

    fn lost(&mut self, group: GroupId, what: String) {
        self.some.entry(group).or_insert(what);
    }

    /// Whether damage was found so far.
    pub(super) fn is_damaged(&self) -> bool {
        !self.all.is_empty() || !self.some.is_empty()
    }

    /// Applies a batch, which starts at `batch`. A batch that is not what was written gives what
    /// can be had of it.
    pub(super) fn batch(&mut self, at: At, batch: &[u8], header: BatchHeader) {
        for record in Records::new(batch, header) {
            match record {
                Ok(record) => self.record(at, &record),
                Err(_) => self.lost_any(format!("batch {} is unreadable", at.sequence)),
            }
        }
    }

    fn record(&mut self, at: At, record: &Record<'_>) {
        let id = record.group;
        let Some(payload) = record.payload else {
            let what = format!("a record in batch {} is not what was written", at.sequence);
            return self.lost(id, what);
        };
        let bytes = || Bytes::copy_from_slice(payload);
        if record.kind == Kind::Meta {
            return self.meta(at, id, payload);
        }
        if record.kind == Kind::Reset {
            self.some.remove(&id);
        }
        let broken = self.some.contains_key(&id);
        let group = self.groups.entry(id).or_default();
        match record.kind {
            Kind::Vote => {
                group.meta_mut().vote = Some(bytes());
                group.meta_mut().vote_sequence = at.sequence;
            }
            Kind::Reset => drop(group.reset(at.sequence)),
            _ if broken => {}
            Kind::Committed => group.meta_mut().committed = Some(bytes()),
            Kind::Truncate => drop(group.truncate(record.index)),
            Kind::Purge => drop(group.purge(record.index, bytes())),
            Kind::Entry if group.meta().accepts(record.index) => {
                group.push(record.index, place(at, record));
            }
            Kind::Entry => {
                let next = group.meta().next;
                self.lost(id, format!("entry {} after {next} entries", record.index));
            }
            Kind::Carried => group.set(record.index, place(at, record)),
            Kind::Meta => {}
        }
    }

    fn meta(&mut self, at: At, id: GroupId, payload: &[u8]) {
        let Some(meta) = GroupMeta::decode(payload) else {
            return self.lost(id, format!("its state in batch {} is unreadable", at.sequence));
        };
        if meta.damaged {
            self.lost(id, "lost something earlier and was not reset".into());
        }
        if at.oldest {
            self.groups.insert(id, GroupIndex::from_meta(meta));
            return;
        }
        let known = self.groups.entry(id).or_default();
        let same = GroupMeta { committed: None, ..known.meta().clone() }
            == GroupMeta { committed: None, ..meta.clone() };
        if !same {
            if meta.vote_sequence > known.meta().vote_sequence {
                known.meta_mut().vote = meta.vote;
                known.meta_mut().vote_sequence = meta.vote_sequence;
            }
            self.lost(id, format!("it is not what batch {} says", at.sequence));
        }
    }

    /// The groups, and what was lost.
    pub(super) fn finish(
        mut self,
        votes: Option<Votes>,
    ) -> (BTreeMap<GroupId, GroupIndex>, Vec<Damage>) {
        for (id, group) in &self.groups {
            if let Some((index, _)) = group.places().find(|(_, place)| **place == Place::Missing) {
                self.some.entry(*id).or_insert_with(|| format!("entry {index} is missing"));
            }
        }
        for (id, (sequence, vote)) in votes.map(|votes| votes.votes).unwrap_or_default() {
            let meta = self.groups.entry(id).or_default().meta_mut();
            if sequence > meta.vote_sequence {
                meta.vote = Some(vote);
                meta.vote_sequence = sequence;
            }
        }
        for (id, group) in &mut self.groups {
            if !self.all.is_empty() || self.some.contains_key(id) {
                let known = group.meta();
                *group = GroupIndex::from_meta(GroupMeta {
                    vote: known.vote.clone(),
                    vote_sequence: known.vote_sequence,
                    damaged: true,
                    ..GroupMeta::default()
                });
            }
        }
        let mut damage = Vec::new();
        if !self.all.is_empty() {
            damage.push(Damage { groups: DamagedGroups::All, what: self.all.join("; ") });
        }
        for (id, what) in self.some {
            damage.push(Damage { groups: DamagedGroups::Some(BTreeSet::from([id])), what });
        }
        (self.groups, damage)
    }
}

fn place(at: At, record: &Record<'_>) -> Place {
    Place::At {
        generation: at.generation,
        offset: at.offset + record.offset,
        bytes: record.bytes,
        crc: record.crc,
    }
}

#[cfg(test)]
mod tests {
    use super::super::format::BatchBuilder;
    use super::*;

    const A: GroupId = GroupId(1);

    fn at(sequence: u64, oldest: bool) -> At {
        At { generation: 1, offset: 0, sequence, oldest }
    }

    fn batch(replay: &mut Replay, at: At, records: &[(Kind, u64, &[u8])]) {
        let mut builder = BatchBuilder::default();
        builder.start(at.generation, at.sequence, false);
        for (kind, index, payload) in records {
            builder.push(*kind, A, *index, payload);
        }
        let bytes = builder.finish(1, 1);
        let header = BatchHeader::decode(bytes).unwrap();
        replay.batch(at, bytes, header);
    }

    fn state(first: u64, next: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        GroupMeta { first, next, ..GroupMeta::default() }.encode(&mut bytes);
        bytes
    }

    #[test]
    fn entries_of_older_segments_must_be_carried() {
        let mut replay = Replay::default();
        let records: [(_, _, &[u8]); 3] =
            [(Kind::Meta, 0, &state(1, 4)), (Kind::Carried, 1, b"x"), (Kind::Truncate, 3, b"")];
        batch(&mut replay, at(1, true), &records);
        let (groups, damage) = replay.finish(None);
        assert_eq!(damage[0].what, "entry 2 is missing");
        assert!(groups[&A].meta().damaged);
        let mut replay = Replay::default();
        batch(&mut replay, at(1, true), &records);
        batch(&mut replay, at(2, false), &[(Kind::Carried, 2, b"y"), (Kind::Entry, 3, b"z")]);
        let (groups, damage) = replay.finish(None);
        assert_eq!(damage, []);
        assert_eq!((groups[&A].meta().first, groups[&A].meta().next), (1, 4));
    }

    #[test]
    fn a_later_segment_must_agree() {
        for (next, agrees) in [(3, true), (2, false), (4, false)] {
            let mut replay = Replay::default();
            batch(&mut replay, at(1, true), &[(Kind::Entry, 1, b"x"), (Kind::Entry, 2, b"y")]);
            batch(&mut replay, at(2, false), &[(Kind::Meta, 0, &state(1, next))]);
            assert_eq!(replay.finish(None).1.is_empty(), agrees, "next {next}");
        }
    }

    #[test]
    fn a_gap_between_entries_is_damage_until_a_reset() {
        let mut replay = Replay::default();
        batch(&mut replay, at(1, true), &[(Kind::Entry, 1, b"x"), (Kind::Entry, 3, b"y")]);
        assert!(replay.is_damaged());
        batch(&mut replay, at(2, false), &[(Kind::Reset, 0, b""), (Kind::Entry, 9, b"z")]);
        let (groups, damage) = replay.finish(None);
        assert_eq!(damage, []);
        assert_eq!((groups[&A].meta().first, groups[&A].meta().next), (9, 10));
    }
}
