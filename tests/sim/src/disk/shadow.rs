//! What the log on a disk durably holds, followed from one durable write to the next: what a power cut
//! at this moment would leave, without opening the log.
//!
//! It reads the bytes that were made durable and asks nothing of the code that wrote them. (The format
//! is that of `flotilla-storage`'s log; whether the log's own recovery finds the same is looked at now
//! and then by `audit`.)

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

const MAGIC: &[u8] = b"FLRL";
const BATCH_HEADER_BYTES: usize = 64;
const RECORD_HEADER_BYTES: usize = 32;
const ENTRY: u8 = 1;
const CARRIED: u8 = 2;
const TRUNCATE: u8 = 3;
const PURGE: u8 = 4;
const VOTE: u8 = 5;
const RESET: u8 = 7;

/// Stands for an entry.
pub(crate) fn fingerprint(entry: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    entry.hash(&mut hasher);
    hasher.finish()
}

/// One group's part of a log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Held {
    /// Fingerprints of the entries that are there.
    pub(crate) entries: BTreeMap<u64, u64>,
    /// Entries up to this one were removed because they are not needed.
    pub(crate) purged: Option<u64>,
    pub(crate) vote: Option<Vec<u8>>,
}

impl Held {
    /// Whether the entry is there, or was there and is not needed any more.
    pub(crate) fn holds(&self, index: u64) -> bool {
        self.purged.is_some_and(|purged| purged >= index) || self.entries.contains_key(&index)
    }

    /// The last entry that it holds.
    pub(crate) fn last(&self) -> u64 {
        let last = self.entries.last_key_value().map(|(last, _)| *last);
        last.max(self.purged).unwrap_or(0)
    }
}

/// An entry that was cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CutOff {
    pub(crate) group: u32,
    pub(crate) index: u64,
    pub(crate) fingerprint: u64,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shadow {
    pub(crate) groups: BTreeMap<u32, Held>,
    /// Since they were last asked for.
    cut_off: Vec<CutOff>,
    /// What no log may do.
    wrong: Option<String>,
}

impl Shadow {
    /// What it holds of a group.
    pub(crate) fn of(&self, group: u32) -> Option<&Held> {
        self.groups.get(&group)
    }

    /// Entries that were cut off since the last call.
    pub(crate) fn take_cut_off(&mut self) -> Vec<CutOff> {
        std::mem::take(&mut self.cut_off)
    }

    /// What was found that must not be.
    pub(crate) fn wrong(&self) -> Option<&str> {
        self.wrong.as_deref()
    }

    /// These bytes are durable now; they begin where a write began.
    pub(crate) fn follow(&mut self, mut blocks: &[u8]) {
        while blocks.len() >= BATCH_HEADER_BYTES && blocks.starts_with(MAGIC) {
            let body_bytes = u32_at(blocks, 40) as usize;
            let Some(body) = blocks.get(BATCH_HEADER_BYTES..BATCH_HEADER_BYTES + body_bytes) else {
                self.wrong.get_or_insert("a batch is longer than its write".into());
                return;
            };
            self.batch(body);
            let span = (BATCH_HEADER_BYTES + body_bytes).next_multiple_of(4_096);
            blocks = blocks.get(span..).unwrap_or_default();
        }
    }

    fn batch(&mut self, mut body: &[u8]) {
        while let Some((header, rest)) = body.split_at_checked(RECORD_HEADER_BYTES) {
            let bytes = u32_at(header, 8) as usize;
            let Some((payload, rest)) = rest.split_at_checked(bytes) else {
                self.wrong.get_or_insert("a record is longer than its batch".into());
                return;
            };
            let (group, index) = (u32_at(header, 12), u64_at(header, 16));
            self.record(header[24], group, index, payload);
            body = rest;
        }
    }

    fn record(&mut self, kind: u8, group: u32, index: u64, payload: &[u8]) {
        let held = self.groups.entry(group).or_default();
        match kind {
            ENTRY => {
                let next = held.last() + 1;
                if index > next && !held.entries.is_empty() {
                    let what = format!("group {group}: entry {index} is written behind {next}");
                    self.wrong.get_or_insert(what);
                }
                held.entries.insert(index, fingerprint(payload));
            }
            // Written again for its place: somebody may have removed it meanwhile.
            CARRIED => {
                let known = held.entries.get(&index);
                if known.is_some_and(|known| *known != fingerprint(payload)) {
                    let what = format!("group {group}: entry {index} is carried on as another one");
                    self.wrong.get_or_insert(what);
                }
            }
            TRUNCATE => {
                let gone = held.entries.split_off(&index).into_iter();
                let gone = gone.map(|(index, fingerprint)| CutOff { group, index, fingerprint });
                self.cut_off.extend(gone);
            }
            PURGE => {
                held.entries = held.entries.split_off(&(index + 1));
                held.purged = held.purged.max(Some(index));
            }
            VOTE => held.vote = Some(payload.to_vec()),
            RESET => *held = Held::default(),
            _ => {}
        }
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}
