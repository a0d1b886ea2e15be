//! Raft groups on one node: the only crate that names the Raft library.
//!
//! Start with [`host`] (all replicas of a node), then [`group`] (one replica) and [`shard`] (the
//! queue machine on a replica, with its proposer and ready window). `log_store`, `state_machine`
//! and `network` put our stores and links behind the library's traits; `serve` answers peers;
//! `requests` thins out replication; `rebirth` brings back a replica that lost its log, `memory` and
//! `recall` notice that it did when the disk itself cannot tell; `checkpoint` makes state durable and cuts
//! the logs behind it; `slowness` is about disks that take long, `clocks` about nodes that start with a wrong
//! one, `digest` about whether replicas hold the same.
//!
//! Invariants:
//! - A proposal is answered with success only after it was synced on a majority and applied here.
//! - What the library awaits holds up no thread for the log's disk, and waits for a sync in `save_vote`
//!   only. Applying reads and writes the state store, on the thread; what asks the store for more than
//!   rows (flushes, durable positions, exports) is done on another.
//! - A replica decides from its own state only while [`group::Leadership::here`] holds.
//! - A replica that may have forgotten what it acknowledged neither votes nor campaigns.
//! - A failed replica ends the process: a supervisor starts it again, the log brings it back.
//!
//! Not here: which groups exist and where (cluster), what a client may do (gateway), file formats
//! (storage, wire).

pub mod digest;
pub mod group;
pub mod host;
pub mod shard;

mod checkpoint;
mod clocks;
mod codec;
mod log_store;
mod memory;
mod network;
mod off_thread;
mod rebirth;
mod recall;
mod requests;
mod serve;
mod slowness;
mod snapshot;
mod state_machine;
#[cfg(test)]
mod suite;
mod types;

use std::time::Duration;

pub use checkpoint::KeepLog;
pub use state_machine::Application;
pub use types::{Answer, Commands};

/// Between two signs of life of a leader.
pub(crate) const HEARTBEAT: Duration = Duration::from_millis(150);
/// A member that heard its leader helps nobody else to lead for at least so long.
pub const LEASE: Duration = Duration::from_millis(500);
/// A member that has not heard its leader for so long wants to be elected, at the latest.
pub(crate) const ELECTION_MAX: Duration = Duration::from_millis(700);
/// A leader that no majority has answered for so long has lost it: two elections were possible meanwhile.
pub(crate) const QUORUM_LOST: Duration = ELECTION_MAX.saturating_mul(2);

/// First of the method numbers that the crates above may use on the peer links.
pub const FIRST_FOREIGN_METHOD: u32 = network::method::FIRST_FOREIGN;
