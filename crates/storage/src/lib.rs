//! What a node keeps on its disk, in two stores that all its groups share:
//!
//! - [`log`]: the Raft log, a segment log of our own. Durable before anything is acknowledged.
//! - [`state`]: the queues, in RocksDB without a write-ahead log. Rebuilt from the Raft log after
//!   a crash, so the log is cut only behind what was flushed here.
//!
//! [`disk`] is what both ask of a file system (RocksDB has its own way there); [`space`] says how
//! much room there is for both; [`note`] is for small files beside them.
//!
//! # Invariants
//! - What a callback or a return value calls durable was synced.
//! - A log that lost something says so; it is never just shorter.
//! - After a failed sync nothing more is written and the process ends.
//!
//! # Not here
//! Raft (the consensus crate drives both stores), and what a queue does (the queue crate).

pub mod disk;
pub mod log;
pub mod note;
pub mod space;
pub mod state;
