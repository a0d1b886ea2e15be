//! What is not a message: queues, the shard map, the cluster's own facts.

mod codec;
pub(crate) mod machine;
mod permissions;
pub(crate) mod replica;
mod sources;
pub(crate) mod tasks;

pub(crate) use codec::{
    command_from_bytes, command_to_bytes, queue_from_bytes, queue_to_bytes, reply_from_bytes,
    reply_to_bytes,
};
pub(crate) use machine::{Command, Facts, Reply, ShardPlace};
pub(crate) use replica::Catalog;
