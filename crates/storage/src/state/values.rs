//! Values of the state store: fixed layouts, each starting with its format version, integers
//! big-endian. Fixed because the hot ones ([`Hidden`], the message header) are written for every
//! message several times and have no optional part.
//!
//! | Value | Layout after the version byte |
//! | --- | --- |
//! | message | flags u8 (bit 0: delayed), sent_ms u64, message id 16 bytes, content |
//! | hidden | visible_at_ms u64, receive_count u32, first_received_ms u64, received_ms u64 |
//! | queue | messages u64, purged_below u64, fresh_from u64 |
//! | shard | clock_ms u64, next_seq u64 |
//! | dedup | changed_ms u64, bits 64 bytes |
//! | incarnation | current u32, next u32 |

use bytes::Bytes;
use flotilla_queue::store::{DedupRow, Hidden, Message, MessageHead, QueueRow, ShardRow};
use flotilla_types::ids::{MessageId, Seq};

/// The version every value of this build starts with.
const VERSION: u8 = 1;
const FLAG_DELAYED: u8 = 1;

/// Bytes in front of a message's content.
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

    fn end(self) -> Result<(), BadValue> {
        if self.0.is_empty() { Ok(()) } else { Err(BadValue::Length) }
    }
}

/// Appends a message's value.
pub(super) fn encode_message(message: &Message, to: &mut Vec<u8>) {
    to.reserve(MESSAGE_HEADER_BYTES + message.content.len());
    to.extend_from_slice(&[VERSION, if message.delayed { FLAG_DELAYED } else { 0 }]);
    to.extend_from_slice(&message.sent_ms.to_be_bytes());
    to.extend_from_slice(&message.message_id.0);
    to.extend_from_slice(&message.content);
}

/// The header alone, without touching the content.
pub(super) fn decode_message_head(seq: Seq, value: &[u8]) -> Result<MessageHead, BadValue> {
    let mut fields = Fields::new(value)?;
    let delayed = decode_flags(fields.take()?)?;
    let sent_ms = fields.u64()?;
    let _id: [u8; 16] = fields.take()?;
    Ok(MessageHead { seq, sent_ms, delayed })
}

/// The whole message. The content is the one copy made.
pub(super) fn decode_message(value: &[u8]) -> Result<Message, BadValue> {
    let mut fields = Fields::new(value)?;
    Ok(Message {
        delayed: decode_flags(fields.take()?)?,
        sent_ms: fields.u64()?,
        message_id: MessageId(fields.take()?),
        content: Bytes::copy_from_slice(fields.0),
    })
}

fn decode_flags([flags]: [u8; 1]) -> Result<bool, BadValue> {
    match flags {
        0 => Ok(false),
        FLAG_DELAYED => Ok(true),
        _ => Err(BadValue::Field),
    }
}

pub(super) fn encode_hidden(row: &Hidden) -> [u8; 29] {
    let mut value = [VERSION; 29];
    value[1..9].copy_from_slice(&row.visible_at_ms.to_be_bytes());
    value[9..13].copy_from_slice(&row.receive_count.to_be_bytes());
    value[13..21].copy_from_slice(&row.first_received_ms.to_be_bytes());
    value[21..29].copy_from_slice(&row.received_ms.to_be_bytes());
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
    };
    fields.end()?;
    Ok(row)
}

pub(super) fn encode_queue(row: &QueueRow) -> [u8; 25] {
    let mut value = [VERSION; 25];
    value[1..9].copy_from_slice(&row.messages.to_be_bytes());
    value[9..17].copy_from_slice(&row.purged_below.0.to_be_bytes());
    value[17..25].copy_from_slice(&row.fresh_from.0.to_be_bytes());
    value
}

pub(super) fn decode_queue(value: &[u8]) -> Result<QueueRow, BadValue> {
    let mut fields = Fields::new(value)?;
    let row = QueueRow {
        messages: fields.u64()?,
        purged_below: Seq(fields.u64()?),
        fresh_from: Seq(fields.u64()?),
    };
    fields.end()?;
    Ok(row)
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
            content: Bytes::from_static(b"hi"),
        }
    }

    const HIDDEN: Hidden = Hidden {
        revision: 4,
        visible_at_ms: 1,
        receive_count: 2,
        first_received_ms: 3,
        received_ms: 5,
    };

    #[test]
    fn values_are_these_bytes() {
        let mut value = Vec::new();
        encode_message(&message(), &mut value);
        assert_eq!(hex(&value), format!("01010102030405060708{}6869", "aa".repeat(16)));
        assert_eq!(value.len(), MESSAGE_HEADER_BYTES + 2);
        assert_eq!(
            hex(&encode_hidden(&HIDDEN)),
            "0100000000000000010000000200000000000000030000000000000005"
        );
        let queue = QueueRow { messages: 1, purged_below: Seq(2), fresh_from: Seq(3) };
        assert_eq!(
            hex(&encode_queue(&queue)),
            "01000000000000000100000000000000020000000000000003"
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
        let head = MessageHead { seq: Seq(7), sent_ms: message().sent_ms, delayed: true };
        assert_eq!(decode_message_head(Seq(7), &value), Ok(head));
        assert_eq!(decode_hidden(4, &encode_hidden(&HIDDEN)), Ok(HIDDEN));
        let queue = QueueRow { messages: 1, purged_below: Seq(2), fresh_from: Seq(3) };
        assert_eq!(decode_queue(&encode_queue(&queue)), Ok(queue));
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
        let fixed: [(&[u8], Refusal); 5] = [
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
        value[1] = 2;
        assert_eq!(decode_message(&value), Err(BadValue::Field));
        assert_eq!(
            decode_incarnation(&encode_incarnation(IncarnationRow { current: 2, next: 2 })),
            Err(BadValue::Field)
        );
    }
}
