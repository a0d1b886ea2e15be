//! What short and long polls do.
//!
//! `deck` chooses which shards a poll asks, `claim` takes messages from them, `hub` parks long
//! polls and wakes them, `crowd` keeps the limit on messages in flight (`in_flight` tells nodes of each
//! other's), `ending` ends those that wait when their node is to end, `receive` puts these together.

pub(crate) mod arm;
pub(crate) mod claim;
pub(crate) mod crowd;
pub mod deck;
mod ending;
pub(crate) mod hub;
pub(crate) mod in_flight;
pub(crate) mod receive;
