//! What a batch changed that the leader must know at once.

use flotilla_types::ids::{GroupKey, QueueId, Seq};

/// One change, in the order in which it happened. Effects are for the leader's ready window, parked
/// receives and alarms; a follower drops them. They are no part of the replicated state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// A message was stored that can be received now.
    Arrived {
        /// Whose.
        queue: QueueId,
        /// Its place.
        seq: Seq,
        /// The stamp of the batch: unix time, milliseconds.
        at_ms: u64,
        /// Of its group.
        group: Option<GroupKey>,
    },
    /// A message got (another) end of its delay or lease. `at_ms` may be the stamp of the batch or
    /// earlier: then the message can be received now.
    VisibleAt {
        /// Whose.
        queue: QueueId,
        /// Its place.
        seq: Seq,
        /// Unix time, milliseconds.
        at_ms: u64,
        /// Of its group.
        group: Option<GroupKey>,
    },
    /// A message that was never received is past its retention and gone.
    Gone {
        /// Whose.
        queue: QueueId,
        /// Its place.
        seq: Seq,
    },
    /// A message of a FIFO queue is gone that was received or delayed: those behind it in its group
    /// may be free now.
    Freed {
        /// Whose.
        queue: QueueId,
        /// The group.
        group: GroupKey,
    },
    /// Everything the queue had was removed (purge, or the queue is gone).
    Cleared {
        /// Which queue.
        queue: QueueId,
    },
}

impl Effect {
    /// Whose change it is.
    pub fn queue(&self) -> QueueId {
        match *self {
            Effect::Arrived { queue, .. }
            | Effect::VisibleAt { queue, .. }
            | Effect::Gone { queue, .. }
            | Effect::Freed { queue, .. }
            | Effect::Cleared { queue } => queue,
        }
    }
}
