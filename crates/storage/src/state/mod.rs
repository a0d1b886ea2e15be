//! What the groups of one node have applied: messages, hidden rows, queue rows, the catalog. One
//! RocksDB for all groups; the Raft log is elsewhere and is the write-ahead log of this store.
//!
//! Start with [`StateDb::open`], then [`StateDb::group`].
//!
//! Invariants:
//! - No write goes to RocksDB's own write-ahead log, and a flush takes all column families at one
//!   position. So what is on disk is always the effect of a prefix of the commits, and the applied
//!   record read from flushed data says which ([`StateDb::durable_applied`]).
//! - Message and hidden keys are written once and removed once (SingleDelete relies on it); a new
//!   [incarnation](GroupState::import) is a new key space.
//! - A group's reads, batches and exports touch its current incarnation only.
//!
//! Blocking: [`GroupState::commit`] and the reads are made for the thread that applies: memory or
//! one disk read. [`StateDb::flush`], [`StateDb::compact`], [`GroupState::wipe`], exports and
//! imports take as long as the disk takes and belong on a blocking thread.
//!
//! Not here: when to flush, what an applied record says, how a chunk reaches another node.

mod batch;
mod damage;
mod db;
mod error;
mod export;
mod group;
mod import;
mod keys;
mod options;
mod recent;
mod tallies;
mod values;

pub use batch::GroupBatch;
pub use db::StateDb;
pub use export::Export;
pub use group::GroupState;
pub use import::Import;
pub use options::StateOptions;
