//! The Raft log of a node: one for all groups.
//!
//! # Shape
//! Segments are files of fixed size, written with zeros before use and used again afterwards, so
//! a sync changes no file size and no block map. One writer thread takes what all groups have
//! queued, encodes it into one batch, writes it with one call, syncs once, and then calls back in
//! order; what arrives meanwhile is the next batch. Where entries are is kept in memory, rebuilt
//! at the start by reading all segments; the last payloads are kept in memory too.
//!
//! # Invariants
//! 1. A callback with `Ok` means: on disk, synced.
//! 2. Batch `n + 1` is written only after batch `n` was synced. So only the last batch may be
//!    torn, and a readable batch behind an unreadable one proves that something durable is lost.
//! 3. A write never touches a block of an earlier batch of the same use of a segment.
//! 4. Segments are given free oldest first, and a segment is overwritten only after a synced
//!    batch has said that it is not needed; that batch comes after all records that made it so.
//! 5. The first batch of a segment states every group's vote, bounds and committed position: no
//!    older segment is needed for them, and recovery compares them with what it has read.
//! 6. After an error of a write or a sync nothing more is written; no sync is repeated.
//!
//! # What recovery tells apart
//! A *torn tail* was never durable and is cut in silence: the last batch is unreadable, and
//! neither the watermark nor the votes file says that it was synced. All else is *damage*: an
//! unreadable batch with a readable one behind it; a gap in the batch sequence or in the segment
//! generations; a log that ends before the watermark or the votes file; a missing watermark; an
//! entry that must exist and is nowhere; a group that is not what a segment's first batch says.
//! A damaged payload is attributed to its group, else all groups are reported. What survived is
//! then written again into new segments, so that the report does not come back once every
//! reported group was [reset](GroupLog::reset).
//!
//! The *watermark* is a lower bound: written after about every 100 ms of activity, at each new
//! segment and at shutdown, and synced only at the last two. A log that lost its end and ends at
//! or after the noted sequence is therefore not noticed: after a process crash this can hide up
//! to 100 ms, after a power cut what came after the last new segment. Votes are not exposed to
//! it: the votes file is synced before a vote is acknowledged. A directory that is put back as a
//! whole, watermark and votes included, is not noticed at all. Both are for a witness elsewhere: the
//! number of the last synced batch ([`Engine::synced`]) never falls unless something was lost.
//!
//! # Not here
//! What entries mean, terms, elections; how many entries a group may have in flight (the callers
//! bound that); what to do about damage (the caller resets the groups and rebuilds them from
//! their peers).
//!
//! # Where to start
//! [`format`] for the bytes, `writer` for the way down, `recovery` and `replay` for the way back.

use std::collections::BTreeSet;
use std::io;

use flotilla_types::ids::GroupId;

mod engine;
mod format;
mod group;
mod index;
mod marks;
mod meta;
mod metrics;
mod queue;
mod read;
mod recovery;
mod recycle;
mod replay;
mod segment;
mod slots;
#[cfg(test)]
mod tests;
mod writer;

pub use engine::{Engine, OnFatal, WeakEngine};
pub use group::{GroupLog, GroupState};
pub use metrics::{BATCH_RECORDS_BOUNDS, LogMetrics, SYNC_US_BOUNDS};
pub use writer::LogWriter;

/// Called once, on the log's writer thread, when the operation is durable or never will be.
pub type Done = Box<dyn FnOnce(io::Result<()>) + Send + 'static>;

/// Sizes of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogOptions {
    /// Size of a segment file. An entry may be half as large. May change between starts.
    pub segment_bytes: u64,
    /// With more segments in use than this, entries of groups that lag behind are carried
    /// forward, as long as at least half of what the segments hold is dead. Not a hard limit:
    /// what was not purged is never dropped.
    pub segments_max: usize,
    /// Payloads kept in memory, over all groups. Entries that are not on disk yet come on top.
    pub cache_bytes: usize,
}

impl Default for LogOptions {
    fn default() -> Self {
        LogOptions { segment_bytes: 16 << 20, segments_max: 16, cache_bytes: 64 << 20 }
    }
}

/// A later build wrote this. Nothing may be written here, or what it wrote is lost.
fn unsupported(what: String, version: u32) -> io::Error {
    let text = format!("the log: {what} format version {version}, which this build does not know");
    io::Error::new(io::ErrorKind::Unsupported, text)
}

/// Something durable was lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Whose.
    pub groups: DamagedGroups,
    /// What was found, for a human.
    pub what: String,
}

/// Groups that lost something, or may have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DamagedGroups {
    /// Every group that this node hosts, also those that the log does not know any more.
    All,
    /// These.
    Some(BTreeSet<GroupId>),
}

impl Damage {
    /// Whether `group` may have lost something.
    pub fn covers(&self, group: GroupId) -> bool {
        match &self.groups {
            DamagedGroups::All => true,
            DamagedGroups::Some(groups) => groups.contains(&group),
        }
    }
}
