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
mod crowd;
#[path = "../../../src/chaos/queues.rs"]
mod queues;
#[path = "../../../src/chaos/waiting.rs"]
mod waiting;

pub(crate) use crowd::{Ledger, Progress, run};
