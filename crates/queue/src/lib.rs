//! The queue machine: what a shard does with messages, decided and nothing else.
//!
//! Start with [`command`] (what goes in and comes out), then [`machine`] (what each command does),
//! then [`ready`] (what the leader offers to receives). [`mem_store`] is the store for tests and
//! the simulator.
//!
//! Invariants:
//! - No I/O of its own, no clock, no randomness, no async. The same commands in the same order give
//!   the same state and the same replies on every replica; time comes in as the leader's stamp.
//! - In a FIFO queue no message is handed out while an earlier one of its group is hidden, and none
//!   is stored twice under one deduplication key within its interval.
//! - What the leader was told of noisy tenants changes the order in which it offers messages, and
//!   nothing else.
//! - Every row of the store is written under its key once and removed once (`remove_*` may
//!   become a SingleDelete), except the per-queue and dedup rows, which are overwritten.
//! - Memory does not grow with the backlog: a message that was never received and is not delayed
//!   is known only to the store.
//! - What is asked every second costs as much as there are queues of which messages are hidden, and
//!   can be asked piece by piece; it does not cost more for queues at rest.
//!
//! Not here: Raft, encoding, which shard a message goes to, who may do what, what a client sees.

mod ages;
mod apply;
mod check;
pub mod command;
mod dedup;
pub mod effect;
mod hash;
pub mod machine;
pub mod mem_store;
mod queue_state;
mod queues;
pub mod ready;
pub mod store;
mod tenants;

pub use queue_state::QueueCounts;
pub use tenants::{Shares, TenantShare};
