//! The bytes of a segment. All integers are little-endian.
//!
//! A segment is a row of *batches*, each starting on a [`BLOCK_BYTES`] boundary and padded with
//! zeros to the next one, so a later write never touches a block that an earlier batch owns. A
//! batch is a header and its records:
//!
//! | batch header | bytes | | record header | bytes |
//! |---|---|---|---|---|
//! | magic | 0..4 | | checksum of this header | 0..4 |
//! | format version | 4..6 | | checksum of the payload | 4..8 |
//! | flags | 6..8 | | length of the payload | 8..12 |
//! | identity of the log | 8..16 | | group | 12..16 |
//! | generation of the segment | 16..24 | | entry index | 16..24 |
//! | batch sequence | 24..32 | | kind | 24 |
//! | oldest generation in use | 32..40 | | zeros | 25..32 |
//! | length of the records | 40..44 | | | |
//! | number of records | 44..48 | | | |
//! | checksum of the records | 48..52 | | | |
//! | zeros | 52..60 | | | |
//! | checksum of this header | 60..64 | | | |
//!
//! The checksum of a record header also covers the batch sequence and the generation, which are
//! not stored again. The identity of the log is drawn at random and never leaves the directory:
//! message bodies are written by strangers and may hold anything, but not a batch header that
//! passes for one of ours.

use bytes::Bytes;
use flotilla_types::ids::GroupId;

/// Unit of placement: what page cache and drives write as a whole.
pub(super) const BLOCK_BYTES: usize = 4096;
pub(super) const BATCH_HEADER_BYTES: usize = 64;
pub(super) const RECORD_HEADER_BYTES: usize = 32;
const MAGIC: u32 = u32::from_le_bytes(*b"FLRL");
const VERSION: u16 = 1;
const FLAG_FIRST: u16 = 1;

/// Rounds up to whole blocks.
pub(super) fn padded(bytes: usize) -> usize {
    bytes.next_multiple_of(BLOCK_BYTES)
}

/// What a record says about its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Entry `index` was appended.
    Entry,
    /// Entry `index`, written again so that its old segment can be reused.
    Carried,
    /// Entries `index..` are gone.
    Truncate,
    /// Entries `..=index` are gone; the payload is the caller's note.
    Purge,
    /// The vote.
    Vote,
    /// The committed position.
    Committed,
    /// Everything of the group is gone, its vote too.
    Reset,
    /// The group as it was when the segment began ([`super::meta::GroupMeta`]).
    Meta,
}

impl Kind {
    const ALL: [Kind; 8] = [
        Kind::Entry,
        Kind::Carried,
        Kind::Truncate,
        Kind::Purge,
        Kind::Vote,
        Kind::Committed,
        Kind::Reset,
        Kind::Meta,
    ];

    fn code(self) -> u8 {
        1 + Self::ALL.iter().position(|kind| *kind == self).expect("ALL lists every kind") as u8
    }

    fn from_code(code: u8) -> Option<Kind> {
        Self::ALL.get(usize::from(code).checked_sub(1)?).copied()
    }
}

/// First part of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BatchHeader {
    pub(super) log_id: u64,
    pub(super) generation: u64,
    /// Runs without a gap over the whole life of the log. Batch `n + 1` is written only after
    /// batch `n` was synced, so a readable batch proves that all before it were durable.
    pub(super) sequence: u64,
    /// No segment older than this one holds anything that is needed.
    pub(super) oldest: u64,
    /// Opens its segment, so it starts with the [`Kind::Meta`] of every group.
    pub(super) first: bool,
    pub(super) body_bytes: u32,
    pub(super) records: u32,
    pub(super) body_crc: u32,
}

impl BatchHeader {
    fn encode(&self) -> [u8; BATCH_HEADER_BYTES] {
        let mut out = [0; BATCH_HEADER_BYTES];
        out[0..4].copy_from_slice(&MAGIC.to_le_bytes());
        out[4..6].copy_from_slice(&VERSION.to_le_bytes());
        out[6..8].copy_from_slice(&(if self.first { FLAG_FIRST } else { 0 }).to_le_bytes());
        out[8..16].copy_from_slice(&self.log_id.to_le_bytes());
        out[16..24].copy_from_slice(&self.generation.to_le_bytes());
        out[24..32].copy_from_slice(&self.sequence.to_le_bytes());
        out[32..40].copy_from_slice(&self.oldest.to_le_bytes());
        out[40..44].copy_from_slice(&self.body_bytes.to_le_bytes());
        out[44..48].copy_from_slice(&self.records.to_le_bytes());
        out[48..52].copy_from_slice(&self.body_crc.to_le_bytes());
        let crc = crc32fast::hash(&out[..60]);
        out[60..64].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// The header at the start of `bytes`, if there is one of this version. Says nothing about the
    /// records.
    pub(super) fn decode(bytes: &[u8]) -> Option<BatchHeader> {
        let bytes = sealed(bytes).filter(|bytes| version(bytes) == VERSION)?;
        Some(BatchHeader {
            first: bytes[6] & FLAG_FIRST as u8 != 0,
            log_id: u64_at(bytes, 8),
            generation: u64_at(bytes, 16),
            sequence: u64_at(bytes, 24),
            oldest: u64_at(bytes, 32),
            body_bytes: u32_at(bytes, 40),
            records: u32_at(bytes, 44),
            body_crc: u32_at(bytes, 48),
        })
    }

    /// Version and log of the header at the start of `bytes`, if it is one of another version: each has
    /// these, and its checksum, where this one has them.
    pub(super) fn of_another_version(bytes: &[u8]) -> Option<(u16, u64)> {
        let bytes = sealed(bytes).filter(|bytes| version(bytes) != VERSION)?;
        Some((version(bytes), u64_at(bytes, 8)))
    }

    /// The records' bytes, given everything from this header on, if they are there in full and
    /// as they were written.
    pub(super) fn intact_body<'a>(&self, bytes: &'a [u8]) -> Option<&'a [u8]> {
        let body = bytes.get(BATCH_HEADER_BYTES..)?.get(..self.body_bytes as usize)?;
        (crc32fast::hash(body) == self.body_crc).then_some(body)
    }

    /// Bytes from the start of this batch to the start of the next.
    pub(super) fn span(&self) -> usize {
        padded(BATCH_HEADER_BYTES + self.body_bytes as usize)
    }
}

/// The bytes of a header, if there is one, of whatever version.
fn sealed(bytes: &[u8]) -> Option<&[u8]> {
    let bytes = bytes.get(..BATCH_HEADER_BYTES)?;
    let whole = u32_at(bytes, 60) == crc32fast::hash(&bytes[..60]);
    (u32_at(bytes, 0) == MAGIC && whole).then_some(bytes)
}

fn version(header: &[u8]) -> u16 {
    u16::from_le_bytes([header[4], header[5]])
}

/// Gives a batch header another version, as a later build would write it.
#[cfg(test)]
pub(super) fn make_later_version(header: &mut [u8]) {
    header[4..6].copy_from_slice(&(VERSION + 1).to_le_bytes());
    let crc = crc32fast::hash(&header[..60]);
    header[60..64].copy_from_slice(&crc.to_le_bytes());
}

/// Where a payload went, relative to the start of its batch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Written {
    pub(super) offset: u32,
    pub(super) crc: u32,
}

/// Encodes one batch into a buffer that is used again for the next.
#[derive(Default)]
pub(super) struct BatchBuilder {
    buffer: Vec<u8>,
    records: u32,
    generation: u64,
    sequence: u64,
    first: bool,
}

impl BatchBuilder {
    /// Begins a batch; what was in the buffer is gone.
    pub(super) fn start(&mut self, generation: u64, sequence: u64, first: bool) {
        self.buffer.clear();
        self.buffer.resize(BATCH_HEADER_BYTES, 0);
        self.records = 0;
        self.generation = generation;
        self.sequence = sequence;
        self.first = first;
    }

    /// Bytes so far, header included, padding not.
    pub(super) fn bytes(&self) -> usize {
        self.buffer.len()
    }

    pub(super) fn records(&self) -> u32 {
        self.records
    }

    /// Adds one record.
    pub(super) fn push(
        &mut self,
        kind: Kind,
        group: GroupId,
        index: u64,
        payload: &[u8],
    ) -> Written {
        let crc = crc32fast::hash(payload);
        let mut header = [0; RECORD_HEADER_BYTES];
        header[4..8].copy_from_slice(&crc.to_le_bytes());
        header[8..12].copy_from_slice(&(payload.len() as u32).to_le_bytes());
        header[12..16].copy_from_slice(&group.0.to_le_bytes());
        header[16..24].copy_from_slice(&index.to_le_bytes());
        header[24] = kind.code();
        let header_crc = record_header_crc(&header, self.generation, self.sequence);
        header[0..4].copy_from_slice(&header_crc.to_le_bytes());
        self.buffer.extend_from_slice(&header);
        let offset = self.buffer.len() as u32;
        self.buffer.extend_from_slice(payload);
        self.records += 1;
        Written { offset, crc }
    }

    /// Seals the batch and returns its blocks.
    pub(super) fn finish(&mut self, log_id: u64, oldest: u64) -> &[u8] {
        let body = &self.buffer[BATCH_HEADER_BYTES..];
        let header = BatchHeader {
            log_id,
            generation: self.generation,
            sequence: self.sequence,
            oldest,
            first: self.first,
            body_bytes: body.len() as u32,
            records: self.records,
            body_crc: crc32fast::hash(body),
        };
        self.buffer[..BATCH_HEADER_BYTES].copy_from_slice(&header.encode());
        self.buffer.resize(padded(self.buffer.len()), 0);
        &self.buffer
    }
}

/// One record as read back.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Record<'a> {
    pub(super) kind: Kind,
    pub(super) group: GroupId,
    pub(super) index: u64,
    /// Of the payload, from the start of the batch.
    pub(super) offset: u32,
    pub(super) crc: u32,
    pub(super) bytes: u32,
    /// `None`: the record was there, its payload is not what was written.
    pub(super) payload: Option<&'a [u8]>,
}

/// Walks the records of a batch. Also used on batches whose checksum fails: record headers have
/// checksums of their own, so a damaged payload tells whose it was.
pub(super) struct Records<'a> {
    batch: &'a [u8],
    header: BatchHeader,
    offset: usize,
    left: u32,
}

impl<'a> Records<'a> {
    /// `batch` starts at the batch header.
    pub(super) fn new(batch: &'a [u8], header: BatchHeader) -> Records<'a> {
        Records { batch, header, offset: BATCH_HEADER_BYTES, left: header.records }
    }

    fn parse(&mut self) -> Option<Record<'a>> {
        let header = self.batch.get(self.offset..)?.get(..RECORD_HEADER_BYTES)?;
        let crc = record_header_crc(header, self.header.generation, self.header.sequence);
        if crc != u32_at(header, 0) {
            return None;
        }
        let bytes = u32_at(header, 8);
        let start = self.offset + RECORD_HEADER_BYTES;
        self.offset = start + bytes as usize;
        self.left -= 1;
        let crc = u32_at(header, 4);
        let payload = self.batch.get(start..self.offset).filter(|p| crc32fast::hash(p) == crc);
        Some(Record {
            kind: Kind::from_code(header[24])?,
            group: GroupId(u32_at(header, 12)),
            index: u64_at(header, 16),
            offset: start as u32,
            crc,
            bytes,
            payload,
        })
    }
}

/// A record header is unreadable: nothing can be said about the rest of its batch.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct RestUnreadable;

impl<'a> Iterator for Records<'a> {
    type Item = Result<Record<'a>, RestUnreadable>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            return None;
        }
        let record = self.parse();
        if record.is_none() {
            self.left = 0;
        }
        Some(record.ok_or(RestUnreadable))
    }
}

fn record_header_crc(header: &[u8], generation: u64, sequence: u64) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&generation.to_le_bytes());
    hasher.update(&sequence.to_le_bytes());
    hasher.update(&header[4..RECORD_HEADER_BYTES]);
    hasher.finalize()
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

/// Reads length-checked pieces off the front of a slice.
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl Reader<'_> {
    pub(super) fn u8(&mut self) -> Option<u8> {
        let (value, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*value)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        let (value, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u32::from_le_bytes(*value))
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        let (value, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u64::from_le_bytes(*value))
    }

    /// A 32-bit length and that many bytes.
    pub(super) fn bytes(&mut self) -> Option<Bytes> {
        let length = self.u32()? as usize;
        let value = self.0.get(..length)?;
        self.0 = &self.0[length..];
        Some(Bytes::copy_from_slice(value))
    }
}

/// Counterpart of [`Reader::bytes`].
pub(super) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<u8> {
        let mut builder = BatchBuilder::default();
        builder.start(7, 42, true);
        builder.push(Kind::Entry, GroupId(3), 9, b"hello");
        builder.push(Kind::Truncate, GroupId(4), 2, b"");
        builder.finish(0xfeed, 5).to_vec()
    }

    #[test]
    fn a_batch_reads_back() {
        let bytes = sample();
        assert_eq!(bytes.len(), BLOCK_BYTES);
        let header = BatchHeader::decode(&bytes).unwrap();
        assert_eq!(
            (header.log_id, header.generation, header.sequence, header.oldest, header.first),
            (0xfeed, 7, 42, 5, true)
        );
        assert!(header.intact_body(&bytes).is_some());
        assert_eq!(header.span(), BLOCK_BYTES);
        let records: Vec<_> = Records::new(&bytes, header).map(Result::unwrap).collect();
        assert_eq!(records.len(), 2);
        assert_eq!(records[0].payload, Some(b"hello".as_slice()));
        assert_eq!(&bytes[records[0].offset as usize..][..5], b"hello");
        assert_eq!(
            (records[0].kind, records[0].group, records[0].index),
            (Kind::Entry, GroupId(3), 9)
        );
        assert_eq!(
            (records[1].kind, records[1].group, records[1].index),
            (Kind::Truncate, GroupId(4), 2)
        );
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let good = sample();
        let used = BATCH_HEADER_BYTES + BatchHeader::decode(&good).unwrap().body_bytes as usize;
        for bit in 0..used * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            let intact = BatchHeader::decode(&bad).is_some_and(|h| h.intact_body(&bad).is_some());
            assert!(!intact, "bit {bit}");
        }
    }

    #[test]
    fn a_header_of_another_version_is_not_taken_for_none() {
        let mut bytes = sample();
        assert_eq!(BatchHeader::of_another_version(&bytes), None);
        make_later_version(&mut bytes);
        assert_eq!(BatchHeader::decode(&bytes), None);
        assert_eq!(BatchHeader::of_another_version(&bytes), Some((VERSION + 1, 0xfeed)));
        bytes[20] ^= 1;
        assert_eq!(BatchHeader::of_another_version(&bytes), None, "that is no header at all");
    }

    #[test]
    fn a_damaged_payload_names_its_group() {
        let mut bytes = sample();
        let header = BatchHeader::decode(&bytes).unwrap();
        bytes[BATCH_HEADER_BYTES + RECORD_HEADER_BYTES] ^= 1;
        let records: Vec<_> = Records::new(&bytes, header).map(Result::unwrap).collect();
        assert_eq!((records[0].group, records[0].payload), (GroupId(3), None));
        assert!(records[1].payload.is_some());
        bytes[BATCH_HEADER_BYTES + 13] ^= 1;
        let mut records = Records::new(&bytes, header);
        assert_eq!(records.next(), Some(Err(RestUnreadable)));
        assert_eq!(records.next(), None);
    }

    #[test]
    fn a_record_of_another_batch_is_refused() {
        let bytes = sample();
        let header = BatchHeader::decode(&bytes).unwrap();
        let moved = BatchHeader { sequence: 43, ..header };
        assert_eq!(Records::new(&bytes, moved).next(), Some(Err(RestUnreadable)));
    }
}
