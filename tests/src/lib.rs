//! Whole clusters of real processes: how tests start them, break them, and judge what clients saw.
//!
//! Start with [`Fleet`]: the nodes of one test, each a `flotilla serve` of its own with its own
//! directory. [`Client`] speaks to one node and never repeats anything by itself: a history is
//! worth nothing if the outcome of each request is not exactly known. [`History`] is what clients
//! saw, and what must be true of it; [`chaos`] does the same for all kinds of queues and requests.
//!
//! Invariants:
//! - An answer counts as "not applied" only if the node said so or the request never left here.
//! - No node outlives its fleet.
//! - A test that fails shows the ends of its nodes' logs.
//!
//! Deliberately not here: faults inside a process (the crates' own tests have those).

mod cgroup;
pub mod chaos;
mod client;
mod compose;
mod disk;
mod filter;
mod fleet;
mod history;
mod http;
mod journal;
mod links;
mod load;
mod loop_disk;
pub mod measure;
mod namespaces;
mod net;
mod node;
mod ports;
mod ptrace;
mod throttle;
mod tool;

pub use client::{Client, Failed, Failure, Message};
pub use disk::SmallDisk;
pub use fleet::{Fleet, Settings};
pub use history::{Delivery, History};
pub use http::{Answer, Connection, HttpError};
pub use journal::Journal;
pub use links::{Break, Condition, Way};
pub use load::{Load, Plan, Takeover};
pub use loop_disk::LoopDisk;
pub use node::binary;
pub use ports::free_ports;
pub use throttle::Throttle;

use std::time::Duration;

/// Nothing that a healthy cluster does takes longer, however busy the machine is.
pub const PATIENCE: Duration = Duration::from_secs(60);
