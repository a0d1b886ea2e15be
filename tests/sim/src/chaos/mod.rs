//! The clients of the tests with real processes, as they are, over the simulated network.

#![allow(dead_code, unreachable_pub, reason = "some of it is for real processes only")]

#[path = "../../../src/chaos/actor.rs"]
mod actor;
#[path = "../../../src/chaos/admin.rs"]
mod admin;
#[path = "../../../src/chaos/answer.rs"]
mod answer;
#[path = "../../../src/chaos/book.rs"]
mod book;
#[path = "../../../src/chaos/clients.rs"]
mod clients;
#[path = "../../../src/chaos/corners.rs"]
mod corners;
mod crowd;
#[path = "../../../src/chaos/queues.rs"]
mod queues;
#[path = "../../../src/chaos/waiting.rs"]
mod waiting;

use flotilla_history::Promises;

pub(crate) use corners::Corner;
pub(crate) use crowd::{Ledger, Progress, run};

/// Messages of one queue that may be in flight where a run is about that.
pub(crate) const IN_FLIGHT_MAX: u32 = corners::IN_FLIGHT_MAX as u32;

/// What clusters of so many shards promise, here as for real.
pub(crate) fn promises(shards: usize, in_flight_max: u32) -> Promises {
    corners::promises(shards, Some(in_flight_max.into()))
}
