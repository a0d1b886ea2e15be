//! Identifiers. All are plain integers inside and print as such.

use std::fmt;
use std::num::NonZeroU64;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id! {
    /// One server process and its data directory. A node that lost its disk comes back as itself
    /// only through the rebirth protocol of the consensus crate.
    NodeId(u64)
}
id! {
    /// One Raft group: 0 is the catalog, 1.. are the shards.
    GroupId(u32)
}
id! {
    /// A queue, for ever: a name that is deleted and created again is another `QueueId`.
    QueueId(u64)
}
id! {
    /// Place of a message in its shard. Grows by one per accepted message of the shard, never
    /// reused, so order of `Seq` is order of arrival.
    Seq(u64)
}

impl GroupId {
    /// The group that holds what is not a message.
    pub const CATALOG: GroupId = GroupId(0);

    /// Whether this group is a shard of messages.
    pub fn is_shard(self) -> bool {
        self != Self::CATALOG
    }
}

impl Seq {
    /// The place after this one.
    pub fn next(self) -> Seq {
        Seq(self.0 + 1)
    }
}

/// Stands for the text of a MessageGroupId: a part of its digest. Two groups with the same key would
/// wait for each other and nothing worse, so 64 bits do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupKey(pub NonZeroU64);

/// Stands for a deduplication id in its scope: a part of their digest. Messages of different ids with
/// the same key would count as duplicates, which 128 bits rule out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DedupKey(pub [u8; 16]);

/// The message's public identity: the 16 bytes of a UUID, drawn by the gateway.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MessageId(pub [u8; 16]);

impl fmt::Debug for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_uuid(&self.0, f)
    }
}

fn write_uuid(bytes: &[u8; 16], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for (i, byte) in bytes.iter().enumerate() {
        if matches!(i, 4 | 6 | 8 | 10) {
            f.write_str("-")?;
        }
        write!(f, "{byte:02x}")?;
    }
    Ok(())
}

/// One request of a client: the 16 bytes of a UUID, drawn by the gateway; all zeros for no request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RequestId(pub [u8; 16]);

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_uuid(&self.0, f)
    }
}

/// A task that moves dead letters: the 16 bytes of a UUID, drawn by the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskId(pub [u8; 16]);

/// Names one command of one gateway session for one group, so that a command that is handed over
/// twice is applied once. `counter` grows by one per command of the session *in that group*: a
/// group remembers a window of recent counters per session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommandId {
    /// Drawn at random when a node starts.
    pub session: u64,
    /// Starts at 1.
    pub counter: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_id_prints_as_uuid() {
        let id =
            MessageId([0x12, 0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde, 0xf0, 1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(id.to_string(), "12345678-9abc-def0-0102-030405060708");
    }
}
