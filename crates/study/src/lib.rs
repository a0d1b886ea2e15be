//! A load generator that speaks SQS's JSON protocol over plain HTTP, and measures what it sees; and
//! studies that show in charts what queues do.
//!
//! Start with `args` (what can be asked for), then `workloads` (what is timed), then `workers` (the
//! loops of producers and consumers). `ledger` is the judge: what was acknowledged has to come back.
//! The studies start in `studies`.
//!
//! Invariants:
//! - Nothing of the server is linked: the same program measures any endpoint of the protocol.
//! - Every run has a queue of its own, and every message can be told from all others.
//! - A message that was acknowledged and did not come back fails the run.
//! - The generator costs little: one thread, prebuilt requests, no copy of a body that is not needed.
//! - Machine-wide disturbance is measured beside every figure, so that a noisy run can be seen.
//! - The study of polling (`polling`) breaks only clusters that it started itself, from the program as it is.
//!
//! Deliberately not here: signatures, TLS, retries that hide errors. The load generator starts and stops no
//! servers.

mod args;
mod autoscale;
mod cli;
mod histogram;
mod ledger;
mod message;
mod pacer;
mod plot;
mod polling;
mod procfs;
mod report;
mod run;
mod section;
mod sqs;
#[cfg(test)]
mod stub;
mod studies;
mod supply;
mod table;
mod worker;
mod workers;
mod workloads;

pub use cli::bench;
pub use studies::study;
