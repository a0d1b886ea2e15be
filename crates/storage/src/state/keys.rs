//! Keys of the state store. All integers are big-endian, so byte order is number order.
//!
//! | Column family | Key |
//! | --- | --- |
//! | `meta` | group u32, 0u32, tag: 1 applied record, 2 incarnation row |
//! | `meta` | group u32, incarnation u32, tag: 1 shard row; 2 queue row, queue u64; 3 dedup row, session u64, block u64; 4 catalog row, its own key; 5 original row, 6 attempt row, each: queue u64, period u64, key 16 bytes; 7 message group row, queue u64, message group u64 |
//! | `message-0` to `message-7`, by group | group u32, incarnation u32, queue u64, seq u64 |
//! | `hidden` | group u32, incarnation u32, queue u64, seq u64, revision u32 |
//!
//! Incarnation 0 holds what says which incarnation counts; real incarnations start at 1.

use std::num::NonZeroU64;

use flotilla_types::ids::{DedupKey, GroupId, GroupKey, QueueId, Seq};

const TAG_APPLIED: u8 = 1;
const TAG_INCARNATION: u8 = 2;

const TAG_SHARD: u8 = 1;
const TAG_QUEUE: u8 = 2;
const TAG_DEDUP: u8 = 3;
const TAG_CATALOG: u8 = 4;
const TAG_ORIGINAL: u8 = 5;
const TAG_ATTEMPT: u8 = 6;
const TAG_MESSAGE_GROUP: u8 = 7;

/// Bytes of group and incarnation in front of every key.
pub(super) const SPACE_BYTES: usize = 8;

/// One incarnation of one group: the prefix of all its keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct KeySpace {
    pub(super) group: GroupId,
    pub(super) incarnation: u32,
}

/// A key range; the end is not part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct KeyRange {
    pub(super) from: Vec<u8>,
    pub(super) to: Vec<u8>,
}

/// What a `meta` key of a real incarnation names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MetaKey<'a> {
    Shard,
    Queue(QueueId),
    Dedup { session: u64, block: u64 },
    Catalog(&'a [u8]),
    Original,
    Attempt,
    MessageGroup(QueueId, GroupKey),
}

/// Where a group's applied record lies. Outside the incarnations, so that one write changes it
/// together with the incarnation row.
pub(super) fn applied(group: GroupId) -> [u8; 9] {
    join([&KeySpace { group, incarnation: 0 }.prefix(), &[TAG_APPLIED]])
}

/// Where a group's incarnation row lies.
pub(super) fn incarnation(group: GroupId) -> [u8; 9] {
    join([&KeySpace { group, incarnation: 0 }.prefix(), &[TAG_INCARNATION]])
}

/// The group a key belongs to.
pub(super) fn group_of(key: &[u8]) -> Option<GroupId> {
    Some(GroupId(u32::from_be_bytes(*key.first_chunk()?)))
}

impl KeySpace {
    pub(super) fn prefix(self) -> [u8; SPACE_BYTES] {
        join([&self.group.0.to_be_bytes(), &self.incarnation.to_be_bytes()])
    }

    pub(super) fn message(self, queue: QueueId, seq: Seq) -> [u8; 24] {
        join([&self.prefix(), &queue.0.to_be_bytes(), &seq.0.to_be_bytes()])
    }

    pub(super) fn hidden(self, queue: QueueId, seq: Seq, revision: u32) -> [u8; 28] {
        join([&self.message(queue, seq), &revision.to_be_bytes()])
    }

    pub(super) fn shard(self) -> [u8; 9] {
        join([&self.prefix(), &[TAG_SHARD]])
    }

    pub(super) fn queue(self, queue: QueueId) -> [u8; 17] {
        join([&self.prefix(), &[TAG_QUEUE], &queue.0.to_be_bytes()])
    }

    pub(super) fn dedup(self, session: u64, block: u64) -> [u8; 25] {
        join([&self.prefix(), &[TAG_DEDUP], &session.to_be_bytes(), &block.to_be_bytes()])
    }

    pub(super) fn original(self, queue: QueueId, period: u64, key: DedupKey) -> [u8; 41] {
        self.periodic(TAG_ORIGINAL, queue, period, key)
    }

    pub(super) fn attempt(self, queue: QueueId, period: u64, key: DedupKey) -> [u8; 41] {
        self.periodic(TAG_ATTEMPT, queue, period, key)
    }

    pub(super) fn message_group(self, queue: QueueId, of: u64) -> [u8; 25] {
        let tag = [TAG_MESSAGE_GROUP];
        join([&self.prefix(), &tag, &queue.0.to_be_bytes(), &of.to_be_bytes()])
    }

    /// The message group rows of a queue after one, or all.
    pub(super) fn message_groups(self, queue: QueueId, after: Option<GroupKey>) -> KeyRange {
        // No group is 0; one byte more than the largest key lies before the next queue's.
        let from = after.map_or(0, |after| after.0.get());
        let from = match from.checked_add(1) {
            Some(from) => self.message_group(queue, from).to_vec(),
            None => [&self.message_group(queue, u64::MAX), &[0xff][..]].concat(),
        };
        let to = [&self.message_group(queue, u64::MAX), &[0xff][..]].concat();
        KeyRange { from, to }
    }

    fn periodic(self, tag: u8, queue: QueueId, period: u64, key: DedupKey) -> [u8; 41] {
        join([&self.prefix(), &[tag], &queue.0.to_be_bytes(), &period.to_be_bytes(), &key.0])
    }

    /// The original rows of a queue of the periods before one.
    pub(super) fn originals_before(self, queue: QueueId, period: u64) -> KeyRange {
        let first = DedupKey([0; 16]);
        KeyRange {
            from: self.original(queue, 0, first).to_vec(),
            to: self.original(queue, period, first).to_vec(),
        }
    }

    /// The attempt rows of a queue of the periods before one.
    pub(super) fn attempts_before(self, queue: QueueId, period: u64) -> KeyRange {
        let first = DedupKey([0; 16]);
        KeyRange {
            from: self.attempt(queue, 0, first).to_vec(),
            to: self.attempt(queue, period, first).to_vec(),
        }
    }

    pub(super) fn catalog(self, key: &[u8]) -> Vec<u8> {
        [&self.prefix(), &[TAG_CATALOG][..], key].concat()
    }

    /// Every key of this incarnation.
    pub(super) fn all(self) -> KeyRange {
        spaces(self.group, self.incarnation, self.incarnation)
    }

    pub(super) fn queues(self) -> KeyRange {
        self.tagged(TAG_QUEUE)
    }

    pub(super) fn dedups(self) -> KeyRange {
        self.tagged(TAG_DEDUP)
    }

    pub(super) fn catalogs(self) -> KeyRange {
        self.tagged(TAG_CATALOG)
    }

    /// The messages of a queue at or after a place.
    pub(super) fn messages_from(self, queue: QueueId, from: Seq) -> KeyRange {
        // One byte more than the largest key of the queue: behind it, before the next queue's.
        let to = [&self.message(queue, Seq(u64::MAX)), &[0xff][..]].concat();
        KeyRange { from: self.message(queue, from).to_vec(), to }
    }

    /// The messages of a queue before a place.
    pub(super) fn messages_below(self, queue: QueueId, below: Seq) -> KeyRange {
        KeyRange {
            from: self.message(queue, Seq(0)).to_vec(),
            to: self.message(queue, below).to_vec(),
        }
    }

    /// All hidden rows of a queue.
    pub(super) fn hidden_rows(self, queue: QueueId) -> KeyRange {
        let to = [&self.hidden(queue, Seq(u64::MAX), u32::MAX), &[0xff][..]].concat();
        KeyRange { from: self.hidden(queue, Seq(0), 0).to_vec(), to }
    }

    /// The hidden rows of a queue before a place.
    pub(super) fn hidden_below(self, queue: QueueId, below: Seq) -> KeyRange {
        KeyRange {
            from: self.hidden(queue, Seq(0), 0).to_vec(),
            to: self.hidden(queue, below, 0).to_vec(),
        }
    }

    fn tagged(self, tag: u8) -> KeyRange {
        KeyRange {
            from: [&self.prefix(), &[tag][..]].concat(),
            to: [&self.prefix(), &[tag + 1][..]].concat(),
        }
    }
}

/// Every key of the incarnations `first..=last` of a group.
pub(super) fn spaces(group: GroupId, first: u32, last: u32) -> KeyRange {
    let from = KeySpace { group, incarnation: first }.prefix().to_vec();
    let end = KeySpace { group, incarnation: last }.prefix();
    let to = match u64::from_be_bytes(end).checked_add(1) {
        Some(next) => next.to_be_bytes().to_vec(),
        // Longer than any key with this prefix is not expressible; no incarnation gets here.
        None => vec![0xff; 64],
    };
    KeyRange { from, to }
}

/// Decodes a `meta` key without its prefix.
pub(super) fn decode_meta(suffix: &[u8]) -> Option<MetaKey<'_>> {
    let (&tag, rest) = suffix.split_first()?;
    match (tag, rest.len()) {
        (TAG_SHARD, 0) => Some(MetaKey::Shard),
        (TAG_QUEUE, 8) => Some(MetaKey::Queue(QueueId(u64_at(rest, 0)?))),
        (TAG_DEDUP, 16) => {
            Some(MetaKey::Dedup { session: u64_at(rest, 0)?, block: u64_at(rest, 8)? })
        }
        (TAG_CATALOG, _) => Some(MetaKey::Catalog(rest)),
        (TAG_ORIGINAL, 32) => Some(MetaKey::Original),
        (TAG_ATTEMPT, 32) => Some(MetaKey::Attempt),
        (TAG_MESSAGE_GROUP, 16) => {
            let group = GroupKey(NonZeroU64::new(u64_at(rest, 8)?)?);
            Some(MetaKey::MessageGroup(QueueId(u64_at(rest, 0)?), group))
        }
        _ => None,
    }
}

/// Decodes a `message` key without its prefix.
pub(super) fn decode_message(suffix: &[u8]) -> Option<(QueueId, Seq)> {
    if suffix.len() != 16 {
        return None;
    }
    Some((QueueId(u64_at(suffix, 0)?), Seq(u64_at(suffix, 8)?)))
}

/// Decodes a `hidden` key without its prefix.
pub(super) fn decode_hidden(suffix: &[u8]) -> Option<(QueueId, Seq, u32)> {
    let (place, revision) = suffix.split_last_chunk()?;
    let (queue, seq) = decode_message(place)?;
    Some((queue, seq, u32::from_be_bytes(*revision)))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// Lays parts side by side; their lengths add up to `N` by construction of the callers.
fn join<const N: usize, const P: usize>(parts: [&[u8]; P]) -> [u8; N] {
    let mut key = [0; N];
    let mut at = 0;
    for part in parts {
        key[at..at + part.len()].copy_from_slice(part);
        at += part.len();
    }
    debug_assert_eq!(at, N, "a key's parts fill it");
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPACE: KeySpace = KeySpace { group: GroupId(0x0102_0304), incarnation: 0x0a0b_0c0d };
    const QUEUE: QueueId = QueueId(0x1112_1314_1516_1718);
    const SEQ: Seq = Seq(0x2122_2324_2526_2728);

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn keys_are_these_bytes() {
        assert_eq!(hex(&applied(GroupId(7))), "000000070000000001");
        assert_eq!(hex(&incarnation(GroupId(7))), "000000070000000002");
        assert_eq!(
            hex(&SPACE.message(QUEUE, SEQ)),
            "010203040a0b0c0d11121314151617182122232425262728"
        );
        assert_eq!(
            hex(&SPACE.hidden(QUEUE, SEQ, 0x3132_3334)),
            "010203040a0b0c0d1112131415161718212223242526272831323334"
        );
        assert_eq!(hex(&SPACE.shard()), "010203040a0b0c0d01");
        assert_eq!(hex(&SPACE.queue(QUEUE)), "010203040a0b0c0d021112131415161718");
        assert_eq!(
            hex(&SPACE.dedup(0x41, 0x42)),
            "010203040a0b0c0d0300000000000000410000000000000042"
        );
        assert_eq!(hex(&SPACE.catalog(b"ab")), "010203040a0b0c0d046162");
        assert_eq!(
            hex(&SPACE.original(QUEUE, 0x41, DedupKey([0xee; 16]))),
            format!("010203040a0b0c0d0511121314151617180000000000000041{}", "ee".repeat(16))
        );
        assert_eq!(
            hex(&SPACE.message_group(QUEUE, 0x51)),
            "010203040a0b0c0d0711121314151617180000000000000051"
        );
    }

    #[test]
    fn suffixes_decode_to_what_was_encoded() {
        assert_eq!(decode_message(&SPACE.message(QUEUE, SEQ)[8..]), Some((QUEUE, SEQ)));
        assert_eq!(decode_hidden(&SPACE.hidden(QUEUE, SEQ, 9)[8..]), Some((QUEUE, SEQ, 9)));
        assert_eq!(decode_meta(&SPACE.shard()[8..]), Some(MetaKey::Shard));
        assert_eq!(decode_meta(&SPACE.queue(QUEUE)[8..]), Some(MetaKey::Queue(QUEUE)));
        assert_eq!(
            decode_meta(&SPACE.dedup(1, 2)[8..]),
            Some(MetaKey::Dedup { session: 1, block: 2 })
        );
        assert_eq!(decode_meta(&SPACE.catalog(b"k")[8..]), Some(MetaKey::Catalog(b"k")));
        let original = SPACE.original(QUEUE, 1, DedupKey([2; 16]));
        assert_eq!(decode_meta(&original[8..]), Some(MetaKey::Original));
        let attempt = SPACE.attempt(QUEUE, 1, DedupKey([2; 16]));
        assert_eq!(decode_meta(&attempt[8..]), Some(MetaKey::Attempt));
        assert_eq!(decode_meta(&SPACE.catalog(b"")[8..]), Some(MetaKey::Catalog(b"")));
        let group = GroupKey(NonZeroU64::new(9).unwrap());
        assert_eq!(
            decode_meta(&SPACE.message_group(QUEUE, 9)[8..]),
            Some(MetaKey::MessageGroup(QUEUE, group))
        );
        assert_eq!(decode_meta(&SPACE.message_group(QUEUE, 0)[8..]), None);
    }

    #[test]
    fn wrong_lengths_and_tags_do_not_decode() {
        let message = SPACE.message(QUEUE, SEQ);
        let hidden = SPACE.hidden(QUEUE, SEQ, 1);
        assert_eq!(decode_message(&message[9..]), None);
        assert_eq!(decode_message(&hidden[8..]), None);
        assert_eq!(decode_hidden(&hidden[9..]), None);
        assert_eq!(decode_hidden(&message[8..]), None);
        assert_eq!(decode_hidden(&[]), None);
        assert_eq!(decode_meta(&[]), None);
        assert_eq!(decode_meta(&[TAG_SHARD, 0]), None);
        assert_eq!(decode_meta(&[TAG_QUEUE, 0]), None);
        assert_eq!(decode_meta(&[TAG_DEDUP]), None);
        assert_eq!(decode_meta(&[TAG_ORIGINAL, 1]), None);
        assert_eq!(decode_meta(&[TAG_ATTEMPT, 1]), None);
        assert_eq!(decode_meta(&[7]), None);
        assert_eq!(group_of(&[0, 0, 1]), None);
        assert_eq!(group_of(&message), Some(SPACE.group));
    }

    #[test]
    fn ranges_hold_their_keys_and_no_neighbour() {
        let inside = |range: &KeyRange, key: &[u8]| *range.from <= *key && *key < *range.to;
        let (low, next) = (QueueId(QUEUE.0), QueueId(QUEUE.0 + 1));
        let range = SPACE.messages_from(low, SEQ);
        assert!(inside(&range, &SPACE.message(low, SEQ)));
        assert!(inside(&range, &SPACE.message(low, Seq(u64::MAX))));
        assert!(!inside(&range, &SPACE.message(low, Seq(SEQ.0 - 1))));
        assert!(!inside(&range, &SPACE.message(next, Seq(0))));
        let range = SPACE.hidden_rows(low);
        assert!(inside(&range, &SPACE.hidden(low, Seq(u64::MAX), u32::MAX)));
        assert!(!inside(&range, &SPACE.hidden(next, Seq(0), 0)));
        let range = SPACE.hidden_below(low, SEQ);
        assert!(inside(&range, &SPACE.hidden(low, Seq(SEQ.0 - 1), u32::MAX)));
        assert!(!inside(&range, &SPACE.hidden(low, SEQ, 0)));
        let range = SPACE.messages_below(low, SEQ);
        assert!(inside(&range, &SPACE.message(low, Seq(0))));
        assert!(!inside(&range, &SPACE.message(low, SEQ)));
        let range = SPACE.originals_before(low, 7);
        assert!(inside(&range, &SPACE.original(low, 6, DedupKey([0xff; 16]))));
        assert!(!inside(&range, &SPACE.original(low, 7, DedupKey([0; 16]))));
        let group = |number| NonZeroU64::new(number).map(GroupKey);
        let range = SPACE.message_groups(low, group(5));
        assert!(!inside(&range, &SPACE.message_group(low, 5)));
        assert!(inside(&range, &SPACE.message_group(low, 6)));
        assert!(inside(&range, &SPACE.message_group(low, u64::MAX)));
        assert!(!inside(&range, &SPACE.message_group(next, 1)));
        assert!(inside(&SPACE.message_groups(low, None), &SPACE.message_group(low, 1)));
        let range = SPACE.message_groups(low, group(u64::MAX));
        assert_eq!(range.from, range.to);
        let range = SPACE.all();
        assert!(inside(&range, &SPACE.catalog(&[0xff; 9])));
        let later = KeySpace { incarnation: SPACE.incarnation + 1, ..SPACE };
        assert!(!inside(&range, &later.prefix()));
        assert_eq!(spaces(GroupId(1), 1, u32::MAX).to, [0, 0, 0, 2, 0, 0, 0, 0]);
    }
}
