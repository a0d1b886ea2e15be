//! Many groups as one service: the catalog, where shards live, how requests find their leaders,
//! and what short and long polls do.
//!
//! Start with [`api`] (what a front end sees), then [`node`] (one node's share of the cluster).
//! `catalog` decides what is not a message; `router` brings commands to leaders; `polling` samples
//! shards, asks and parks; `fifo` places what must keep its order; `fairness` judges who floods a
//! queue; `formation` makes a cluster of empty nodes; `janitor` keeps house; `moves` brings dead
//! letters back; `space` foresees full disks; `room` bounds what waits to be answered.
//!
//! Invariants:
//! - A command that may be repeated carries an id, so that it is applied once.
//! - "Certainly not applied" is said only if no proposal was handed to Raft, on any node.
//! - A parked poll was armed at every shard before it was asked whether there is something.
//! - A poll never takes more messages than it was asked for.
//!
//! Not here: HTTP, AWS codes, queue URLs, receipt handles as text.

pub mod api;
pub mod node;
pub mod polling;
pub mod request;
pub mod room;

mod busy;
mod catalog;
mod counters;
mod counting;
mod decide;
mod delays;
mod fairness;
mod fifo;
mod formation;
mod forward;
mod gathering;
mod gauges;
mod janitor;
mod moves;
mod peer;
mod router;
mod service;
mod space;
mod status;

pub use counters::NodeCounters;
pub use flotilla_consensus::digest::Digest;
pub use flotilla_consensus::group::Standpoint;
pub use gauges::{AllGauges, QueueGauges};
pub use polling::deck::{SampleSize, Weights};
pub use status::{GroupStatus, Status};
