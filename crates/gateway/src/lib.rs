//! The SQS front end of a node: HTTP in, calls of a [`flotilla_cluster::api::Cluster`] out.
//!
//! Start with [`Gateway`] and [`serve`]. A request travels `server` (connections) → `http`
//! (headers, bounds, body, authentication) → `protocol` (JSON or Query) → `dispatch` (which action) → `actions` (one file each,
//! protocol-neutral) and back.
//!
//! Invariants:
//! - No action knows its protocol: it takes a typed request and gives a typed response or an
//!   `ApiError`; texts, codes and statuses are in one table.
//! - Whatever reaches the cluster is checked; a receipt that reaches it was made by this cluster.
//! - Every error says whether the request may have taken effect (`x-flotilla-outcome`), and says
//!   "not applied" only when that is certain.
//! - Nothing is leased for a caller that has gone: the end of a connection drops its receive (not if more
//!   was sent behind the request: the end is then not seen before the answer).
//! - Connections, requests in work, their bytes and those of their answers are bounded; beyond a bound the
//!   answer is 503. Nothing is received for which there is no room, and who does not read is not waited for.
//!
//! Deliberately not here: where messages are, waiting for them, retention, redelivery, the order of
//! groups, finding duplicates (the cluster's); signatures, policies (later versions).

mod action;
mod actions;
mod auth;
mod bounds;
mod dispatch;
mod error;
#[cfg(test)]
mod fuzz;
mod gateway;
mod http;
mod ids;
mod json;
mod message;
mod metrics;
mod protocol;
mod query;
mod receipt;
mod server;
mod shape;
mod stall;
mod urls;

pub use gateway::{Capacity, Config, Gateway, Timeouts};
pub use server::serve;
