//! Values of the state store: fixed layouts, each starting with its format version, integers
//! big-endian. Fixed because the hot ones ([`Hidden`], the message header) are written for every
//! message several times and have no optional part.
//!
//! | Value | Layout after the version byte |
//! | --- | --- |
//! | message | flags u8 (bit 0: delayed, 1: moved, 2: grouped), sent_ms u64, message id 16 bytes, if grouped: group u64, if moved: at_ms u64, receives u32, first_received_ms u64, source u8 length and bytes; content |
//! | hidden | visible_at_ms u64, receive_count u32, first_received_ms u64, received_ms u64, group u64 (0: none) |
//! | queue | messages u64, purged_below u64, fresh_from u64, flags u8 (bit 0: mixed ages, 1: FIFO, 2: originals), first and last period of originals u64 each, epoch u64 |
//! | original | seq u64, message id 16 bytes, sent_ms u64 |
//! | attempt | at_ms u64, per message: seq u64, receive u32, revision u32 |
//! | message group | messages u64 |
//! | shard | clock_ms u64, next_seq u64 |
//! | dedup | changed_ms u64, bits 64 bytes |
//! | incarnation | current u32, next u32 |

use std::num::NonZeroU64;

use bytes::Bytes;
use flotilla_queue::store::{
    AttemptRow, Attempted, DedupRow, Hidden, Message, MessageHead, Moved, OriginalRow, QueueRow,
    ShardRow,
};
use flotilla_types::ids::{GroupKey, MessageId, Seq};

/// The version every value of this build starts with.
const VERSION: u8 = 1;
const FLAG_DELAYED: u8 = 1;
const FLAG_MOVED: u8 = 2;
const FLAG_GROUPED: u8 = 4;
const MESSAGE_FLAGS: [u8; 3] = [FLAG_DELAYED, FLAG_MOVED, FLAG_GROUPED];

const FLAG_MIXED_AGES: u8 = 1;
const FLAG_FIFO: u8 = 2;
const FLAG_ORIGINALS: u8 = 4;
const QUEUE_FLAGS: [u8; 3] = [FLAG_MIXED_AGES, FLAG_FIFO, FLAG_ORIGINALS];

/// Bytes in front of the content of a message without a group that was not moved.
pub(super) const MESSAGE_HEADER_BYTES: usize = 26;

/// Bytes that are not a row of the expected kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadValue {
    #[error("its format version {0} is not known")]
    Version(u8),
    #[error("its length is wrong")]
    Length,
    #[error("a field has an impossible value")]
    Field,
}

/// Which incarnation of a group counts, and which has never been used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct IncarnationRow {
    pub(super) current: u32,
    pub(super) next: u32,
}

impl IncarnationRow {
    /// Of a group that has no row yet.
    pub(super) const FIRST: IncarnationRow = IncarnationRow { current: 1, next: 2 };
}

/// Takes fields off the front; every length is checked.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn new(value: &'a [u8]) -> Result<Fields<'a>, BadValue> {
        match value.split_first() {
            Some((&VERSION, rest)) => Ok(Fields(rest)),
            Some((&version, _)) => Err(BadValue::Version(version)),
            None => Err(BadValue::Length),
        }
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], BadValue> {
        let (field, rest) = self.0.split_first_chunk().ok_or(BadValue::Length)?;
        self.0 = rest;
        Ok(*field)
    }

    fn u64(&mut self) -> Result<u64, BadValue> {
        self.take().map(u64::from_be_bytes)
    }

    fn u32(&mut self) -> Result<u32, BadValue> {
        self.take().map(u32::from_be_bytes)
    }

    fn bytes(&mut self, count: usize) -> Result<Bytes, BadValue> {
        let (bytes, rest) = self.0.split_at_checked(count).ok_or(BadValue::Length)?;
        self.0 = rest;
        Ok(Bytes::copy_from_slice(bytes))
    }

    fn end(self) -> Result<(), BadValue> {
        if self.0.is_empty() { Ok(()) } else { Err(BadValue::Length) }
    }
}

/// Appends a message's value.
pub(super) fn encode_message(message: &Message, to: &mut Vec<u8>) {
    to.reserve(MESSAGE_HEADER_BYTES + message.content.len());
    let set = [message.delayed, message.moved.is_some(), message.group.is_some()];
    to.extend_from_slice(&[VERSION, encode_flags(set, MESSAGE_FLAGS)]);
    to.extend_from_slice(&message.sent_ms.to_be_bytes());
    to.extend_from_slice(&message.message_id.0);
    if let Some(group) = message.group {
        to.extend_from_slice(&group.0.get().to_be_bytes());
    }
    if let Some(moved) = &message.moved {
        to.extend_from_slice(&moved.at_ms.to_be_bytes());
        to.extend_from_slice(&moved.receives.to_be_bytes());
        to.extend_from_slice(&moved.first_received_ms.to_be_bytes());
        let length = u8::try_from(moved.source.len()).expect("a queue's name is short");
        to.push(length);
        to.extend_from_slice(&moved.source);
    }
    to.extend_from_slice(&message.content);
}

/// The header alone, without touching the content.
pub(super) fn decode_message_head(seq: Seq, value: &[u8]) -> Result<MessageHead, BadValue> {
    let mut fields = Fields::new(value)?;
    let [delayed, moved, grouped] = decode_flags(fields.take()?, MESSAGE_FLAGS)?;
    let sent_ms = fields.u64()?;
    let _id: [u8; 16] = fields.take()?;
    let group = if grouped { Some(decode_group(&mut fields)?) } else { None };
    let entered_ms = if moved { fields.u64()? } else { sent_ms };
    Ok(MessageHead { seq, sent_ms, entered_ms, delayed, group })
}

/// The whole message. The content is the one copy made.
pub(super) fn decode_message(value: &[u8]) -> Result<Message, BadValue> {
    let mut fields = Fields::new(value)?;
    let [delayed, is_moved, grouped] = decode_flags(fields.take()?, MESSAGE_FLAGS)?;
    Ok(Message {
        delayed,
        sent_ms: fields.u64()?,
        message_id: MessageId(fields.take()?),
        group: if grouped { Some(decode_group(&mut fields)?) } else { None },
        moved: if is_moved { Some(decode_moved(&mut fields)?) } else { None },
        content: Bytes::copy_from_slice(fields.0),
    })
}

fn decode_group(fields: &mut Fields<'_>) -> Result<GroupKey, BadValue> {
    NonZeroU64::new(fields.u64()?).map(GroupKey).ok_or(BadValue::Field)
}

fn decode_moved(fields: &mut Fields<'_>) -> Result<Moved, BadValue> {
    Ok(Moved {
        at_ms: fields.u64()?,
        receives: fields.u32()?,
        first_received_ms: fields.u64()?,
        source: {
            let [length] = fields.take()?;
            fields.bytes(length.into())?
        },
    })
}

fn encode_flags<const N: usize>(set: [bool; N], known: [u8; N]) -> u8 {
    set.into_iter().zip(known).filter(|(is_set, _)| *is_set).fold(0, |all, (_, flag)| all | flag)
}

/// Which of the known flags are set; any other is refused.
fn decode_flags<const N: usize>([flags]: [u8; 1], known: [u8; N]) -> Result<[bool; N], BadValue> {
    let all = known.iter().fold(0, |all, flag| all | flag);
    if flags & !all != 0 {
        return Err(BadValue::Field);
    }
    Ok(known.map(|flag| flags & flag != 0))
}

pub(super) fn encode_hidden(row: &Hidden) -> [u8; 37] {
    let mut value = [VERSION; 37];
    value[1..9].copy_from_slice(&row.visible_at_ms.to_be_bytes());
    value[9..13].copy_from_slice(&row.receive_count.to_be_bytes());
    value[13..21].copy_from_slice(&row.first_received_ms.to_be_bytes());
    value[21..29].copy_from_slice(&row.received_ms.to_be_bytes());
    let group = row.group.map_or(0, |group| group.0.get());
    value[29..37].copy_from_slice(&group.to_be_bytes());
    value
}

/// The revision comes from the key.
pub(super) fn decode_hidden(revision: u32, value: &[u8]) -> Result<Hidden, BadValue> {
    let mut fields = Fields::new(value)?;
    let row = Hidden {
        revision,
        visible_at_ms: fields.u64()?,
        receive_count: fields.u32()?,
        first_received_ms: fields.u64()?,
        received_ms: fields.u64()?,
        group: NonZeroU64::new(fields.u64()?).map(GroupKey),
    };
    fields.end()?;
    Ok(row)
}

pub(super) fn encode_queue(row: &QueueRow) -> [u8; 50] {
    let mut value = [VERSION; 50];
    value[1..9].copy_from_slice(&row.messages.to_be_bytes());
    value[9..17].copy_from_slice(&row.purged_below.0.to_be_bytes());
    value[17..25].copy_from_slice(&row.fresh_from.0.to_be_bytes());
    let set = [row.mixed_ages, row.fifo, row.originals.is_some()];
    value[25] = encode_flags(set, QUEUE_FLAGS);
    let (first, last) = row.originals.unwrap_or_default();
    value[26..34].copy_from_slice(&first.to_be_bytes());
    value[34..42].copy_from_slice(&last.to_be_bytes());
    value[42..50].copy_from_slice(&row.epoch.to_be_bytes());
    value
}

pub(super) fn decode_queue(value: &[u8]) -> Result<QueueRow, BadValue> {
    let mut fields = Fields::new(value)?;
    let messages = fields.u64()?;
    let purged_below = Seq(fields.u64()?);
    let fresh_from = Seq(fields.u64()?);
    let [mixed_ages, fifo, has_originals] = decode_flags(fields.take()?, QUEUE_FLAGS)?;
    let periods = (fields.u64()?, fields.u64()?);
    let epoch = fields.u64()?;
    fields.end()?;
    let originals = has_originals.then_some(periods);
    Ok(QueueRow { messages, purged_below, fresh_from, mixed_ages, fifo, originals, epoch })
}

pub(super) fn encode_message_group(messages: u64) -> [u8; 9] {
    let mut value = [VERSION; 9];
    value[1..9].copy_from_slice(&messages.to_be_bytes());
    value
}

pub(super) fn decode_message_group(value: &[u8]) -> Result<u64, BadValue> {
    let mut fields = Fields::new(value)?;
    let messages = fields.u64()?;
    fields.end()?;
    Ok(messages)
}

pub(super) fn encode_original(row: &OriginalRow) -> [u8; 33] {
    let mut value = [VERSION; 33];
    value[1..9].copy_from_slice(&row.seq.0.to_be_bytes());
    value[9..25].copy_from_slice(&row.message_id.0);
    value[25..33].copy_from_slice(&row.sent_ms.to_be_bytes());
    value
}

pub(super) fn decode_original(value: &[u8]) -> Result<OriginalRow, BadValue> {
    let mut fields = Fields::new(value)?;
    let row = OriginalRow {
        seq: Seq(fields.u64()?),
        message_id: MessageId(fields.take()?),
        sent_ms: fields.u64()?,
    };
    fields.end()?;
    Ok(row)
}

pub(super) fn encode_attempt(row: &AttemptRow) -> Vec<u8> {
    let mut value = Vec::with_capacity(9 + 16 * row.messages.len());
    value.push(VERSION);
    value.extend_from_slice(&row.at_ms.to_be_bytes());
    for message in &row.messages {
        value.extend_from_slice(&message.seq.0.to_be_bytes());
        value.extend_from_slice(&message.receive.to_be_bytes());
        value.extend_from_slice(&message.revision.to_be_bytes());
    }
    value
}

pub(super) fn decode_attempt(value: &[u8]) -> Result<AttemptRow, BadValue> {
    let mut fields = Fields::new(value)?;
    let at_ms = fields.u64()?;
    let mut messages = Vec::with_capacity(fields.0.len() / 16);
    while !fields.0.is_empty() {
        messages.push(Attempted {
            seq: Seq(fields.u64()?),
            receive: fields.u32()?,
            revision: fields.u32()?,
        });
    }
    Ok(AttemptRow { at_ms, messages })
}

pub(super) fn encode_shard(row: &ShardRow) -> [u8; 17] {
    let mut value = [VERSION; 17];
    value[1..9].copy_from_slice(&row.clock_ms.to_be_bytes());
    value[9..17].copy_from_slice(&row.next_seq.0.to_be_bytes());
    value
}

pub(super) fn decode_shard(value: &[u8]) -> Result<ShardRow, BadValue> {
    let mut fields = Fields::new(value)?;
    let row = ShardRow { clock_ms: fields.u64()?, next_seq: Seq(fields.u64()?) };
    fields.end()?;
    Ok(row)
}

pub(super) fn encode_dedup(row: &DedupRow) -> [u8; 73] {
    let mut value = [VERSION; 73];
    value[1..9].copy_from_slice(&row.changed_ms.to_be_bytes());
    value[9..73].copy_from_slice(&row.bits);
    value
}

pub(super) fn decode_dedup(value: &[u8]) -> Result<DedupRow, BadValue> {
    let mut fields = Fields::new(value)?;
    let row = DedupRow { changed_ms: fields.u64()?, bits: fields.take()? };
    fields.end()?;
    Ok(row)
}

pub(super) fn encode_incarnation(row: IncarnationRow) -> [u8; 9] {
    let mut value = [VERSION; 9];
    value[1..5].copy_from_slice(&row.current.to_be_bytes());
    value[5..9].copy_from_slice(&row.next.to_be_bytes());
    value
}

pub(super) fn decode_incarnation(value: &[u8]) -> Result<IncarnationRow, BadValue> {
    let mut fields = Fields::new(value)?;
    let row = IncarnationRow { current: fields.u32()?, next: fields.u32()? };
    fields.end()?;
    if row.current == 0 || row.current >= row.next {
        return Err(BadValue::Field);
    }
    Ok(row)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn message() -> Message {
        Message {
            sent_ms: 0x0102_0304_0506_0708,
            message_id: MessageId([0xaa; 16]),
            delayed: true,
            group: None,
            moved: None,
            content: Bytes::from_static(b"hi"),
        }
    }

    const HIDDEN: Hidden = Hidden {
        revision: 4,
        visible_at_ms: 1,
        receive_count: 2,
        first_received_ms: 3,
        received_ms: 5,
        group: GROUP,
    };

    const GROUP: Option<GroupKey> = Some(GroupKey(NonZeroU64::new(6).unwrap()));

    const QUEUE: QueueRow = QueueRow {
        messages: 1,
        purged_below: Seq(2),
        fresh_from: Seq(3),
        mixed_ages: true,
        fifo: true,
        originals: Some((4, 5)),
        epoch: 6,
    };

    const ORIGINAL: OriginalRow =
        OriginalRow { seq: Seq(1), message_id: MessageId([0xaa; 16]), sent_ms: 2 };

    fn moved() -> Message {
        let source = Bytes::from_static(b"src");
        let moved = Moved { at_ms: 1, receives: 2, first_received_ms: 3, source };
        Message { delayed: false, group: GROUP, moved: Some(moved), ..message() }
    }

    #[test]
    fn values_are_these_bytes() {
        let mut value = Vec::new();
        encode_message(&message(), &mut value);
        assert_eq!(hex(&value), format!("01010102030405060708{}6869", "aa".repeat(16)));
        assert_eq!(value.len(), MESSAGE_HEADER_BYTES + 2);
        let mut value = Vec::new();
        encode_message(&moved(), &mut value);
        let brought = "00000000000000060000000000000001000000020000000000000003037372636869";
        assert_eq!(hex(&value), format!("01060102030405060708{}{brought}", "aa".repeat(16)));
        assert_eq!(
            hex(&encode_hidden(&HIDDEN)),
            "01000000000000000100000002000000000000000300000000000000050000000000000006"
        );
        assert_eq!(
            hex(&encode_queue(&QUEUE)),
            "01000000000000000100000000000000020000000000000003070000000000000004\
             00000000000000050000000000000006"
        );
        assert_eq!(
            hex(&encode_original(&ORIGINAL)),
            format!("010000000000000001{}0000000000000002", "aa".repeat(16))
        );
        let shard = ShardRow { clock_ms: 1, next_seq: Seq(2) };
        assert_eq!(hex(&encode_shard(&shard)), "0100000000000000010000000000000002");
        let dedup = DedupRow { bits: [0xf0; 64], changed_ms: 9 };
        assert_eq!(hex(&encode_dedup(&dedup)), format!("010000000000000009{}", "f0".repeat(64)));
        let row = IncarnationRow { current: 1, next: 2 };
        assert_eq!(hex(&encode_incarnation(row)), "010000000100000002");
    }

    #[test]
    fn values_decode_to_what_was_encoded() {
        let mut value = Vec::new();
        encode_message(&message(), &mut value);
        assert_eq!(decode_message(&value), Ok(message()));
        let sent_ms = message().sent_ms;
        let head =
            MessageHead { seq: Seq(7), sent_ms, entered_ms: sent_ms, delayed: true, group: None };
        assert_eq!(decode_message_head(Seq(7), &value), Ok(head));
        let mut value = Vec::new();
        encode_message(&moved(), &mut value);
        assert_eq!(decode_message(&value), Ok(moved()));
        let head =
            MessageHead { seq: Seq(7), sent_ms, entered_ms: 1, delayed: false, group: GROUP };
        assert_eq!(decode_message_head(Seq(7), &value), Ok(head));
        for len in 0..value.len() - 2 {
            assert_eq!(decode_message(&value[..len]), Err(BadValue::Length));
        }
        assert_eq!(decode_hidden(4, &encode_hidden(&HIDDEN)), Ok(HIDDEN));
        assert_eq!(decode_queue(&encode_queue(&QUEUE)), Ok(QUEUE));
        let plain = QueueRow::default();
        assert_eq!(decode_queue(&encode_queue(&plain)), Ok(plain));
        assert_eq!(decode_original(&encode_original(&ORIGINAL)), Ok(ORIGINAL));
        assert_eq!(decode_message_group(&encode_message_group(7)), Ok(7));
        let plain = Hidden { group: None, ..HIDDEN };
        assert_eq!(decode_hidden(4, &encode_hidden(&plain)), Ok(plain));
        let one = Attempted { seq: Seq(1), receive: 2, revision: 3 };
        let attempt = AttemptRow { at_ms: 9, messages: vec![one, one] };
        let value = encode_attempt(&attempt);
        assert_eq!(decode_attempt(&value), Ok(attempt));
        assert_eq!(decode_attempt(&value[..30]), Err(BadValue::Length));
        let shard = ShardRow { clock_ms: 1, next_seq: Seq(2) };
        assert_eq!(decode_shard(&encode_shard(&shard)), Ok(shard));
        let dedup = DedupRow { bits: [0xf0; 64], changed_ms: 9 };
        assert_eq!(decode_dedup(&encode_dedup(&dedup)), Ok(dedup));
        let row = IncarnationRow { current: 3, next: 9 };
        assert_eq!(decode_incarnation(&encode_incarnation(row)), Ok(row));
    }

    #[test]
    fn every_shorter_or_longer_row_is_refused() {
        type Refusal = fn(&[u8]) -> Option<BadValue>;
        let fixed: [(&[u8], Refusal); 7] = [
            (&encode_message_group(3), |v| decode_message_group(v).err()),
            (&encode_original(&ORIGINAL), |v| decode_original(v).err()),
            (&encode_hidden(&HIDDEN), |v| decode_hidden(1, v).err()),
            (&encode_queue(&QueueRow::default()), |v| decode_queue(v).err()),
            (&encode_shard(&ShardRow::default()), |v| decode_shard(v).err()),
            (&encode_dedup(&DedupRow { bits: [0; 64], changed_ms: 0 }), |v| decode_dedup(v).err()),
            (&encode_incarnation(IncarnationRow::FIRST), |v| decode_incarnation(v).err()),
        ];
        for (value, decode) in fixed {
            assert_eq!(decode(value), None);
            for len in 0..value.len() {
                assert_eq!(decode(&value[..len]), Some(BadValue::Length));
            }
            assert_eq!(decode(&[value, &[0]].concat()), Some(BadValue::Length));
            let mut other = value.to_vec();
            other[0] = 2;
            assert_eq!(decode(&other), Some(BadValue::Version(2)));
        }
    }

    #[test]
    fn bad_messages_are_refused() {
        let mut value = Vec::new();
        encode_message(&message(), &mut value);
        for len in 0..MESSAGE_HEADER_BYTES {
            assert_eq!(decode_message(&value[..len]), Err(BadValue::Length));
            assert_eq!(decode_message_head(Seq(1), &value[..len]), Err(BadValue::Length));
        }
        value[1] = 8;
        assert_eq!(decode_message(&value), Err(BadValue::Field));
        let mut queue = encode_queue(&QUEUE);
        queue[25] = 8;
        assert_eq!(decode_queue(&queue), Err(BadValue::Field));
        assert_eq!(
            decode_incarnation(&encode_incarnation(IncarnationRow { current: 2, next: 2 })),
            Err(BadValue::Field)
        );
    }
}
