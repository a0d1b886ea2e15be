//! What a shard is told to do, and what it answers.

use bytes::Bytes;
use flotilla_types::ids::{CommandId, DedupKey, GroupKey, MessageId, QueueId, Seq};

/// One Raft entry: commands that arrived together, under one stamp of the leader's clock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Unix time in milliseconds as the leader read it. The shard's clock is the largest stamp
    /// seen, so a leader whose clock runs behind cannot turn it back.
    pub now_ms: u64,
    /// In order of arrival.
    pub commands: Vec<Identified>,
}

/// A command with the name under which it is applied at most once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identified {
    /// `None` for what only the leader itself proposes (receives, expiry): it never repeats those.
    pub id: Option<CommandId>,
    /// What to do.
    pub command: Command,
}

/// Everything a shard can be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Store a message.
    Send(Send),
    /// Hand these messages out.
    Receive(Receive),
    /// Put messages of a queue into others of its type, as new ones.
    Move(Move),
    /// Remove one message for ever.
    Delete(Delete),
    /// Change when one received message becomes visible again.
    ChangeVisibility(ChangeVisibility),
    /// Remove all messages that the queue has in this shard now.
    Purge {
        /// Whose messages.
        queue: QueueId,
    },
    /// The queue was deleted: remove its messages and forget it.
    DropQueue {
        /// Which queue.
        queue: QueueId,
    },
    /// Remove messages that are past their retention, at most `limits::EXPIRE_MESSAGES_MAX` of
    /// them, and look at no more than `limits::EXPIRE_SCANNED_MAX`.
    Expire {
        /// Whose messages.
        queue: QueueId,
        /// The queue's retention.
        retention_ms: u64,
        /// Only messages at or after this place: where the command before stopped.
        from: Seq,
    },
    /// Give waiting messages of a FIFO queue another delay.
    Redelay(Redelay),
    /// From now on messages of a FIFO queue that were placed before this epoch are refused.
    Fence {
        /// Which queue.
        queue: QueueId,
        /// See [`Placing::epoch`].
        epoch: u64,
    },
    /// Does nothing. Its being applied proves that the group has a leader and a quorum, and that the
    /// replica that sees it holds everything before it.
    Barrier,
}

/// See [`Command::Send`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Send {
    /// The queue.
    pub queue: QueueId,
    /// Drawn by the gateway.
    pub message_id: MessageId,
    /// Hidden for so long from the stamp on; 0 for visible at once.
    pub delay_ms: u64,
    /// Of its group, if it has one.
    pub group: Option<GroupKey>,
    /// Exactly for FIFO queues: not stored when a message with this key was accepted a moment ago.
    pub dedup: Option<DedupKey>,
    /// FIFO queues: why the message comes to this shard.
    pub placing: Placing,
    /// Body and attributes as the gateway encoded them; never looked into here.
    pub content: Bytes,
}

/// Where the groups of a FIFO queue live can be changed while they have messages. A group is in one
/// shard at any time: it moves when it has nothing where it was, and never back by an old decision.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Placing {
    /// Counts the changes. A message that was placed by an earlier one than this shard has heard of
    /// is refused.
    pub epoch: u64,
    /// The group's place before the change: the message is only stored if the group still has some
    /// here.
    pub only_if_present: bool,
    /// The message's deduplication key as it was made before the change.
    pub dedup_before: Option<DedupKey>,
    /// The group had all its places in other shards below this one. Its next one here is not: the
    /// numbers of a group never fall.
    pub floor: Seq,
}

/// See [`Command::Receive`]. Each candidate is checked again when this is applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receive {
    /// The queue.
    pub queue: QueueId,
    /// What the leader reserved, in the order in which to hand it out.
    pub candidates: Vec<Seq>,
    /// How long the messages stay hidden; 0 leaves them visible (the receive still counts).
    pub visibility_ms: u64,
    /// The queue's retention: a candidate that is older is removed instead of handed out.
    pub retention_ms: u64,
    /// Every never-received message of the queue in this shard has at least this place (the
    /// leader's knowledge; a lower bound for scans, never a reason to skip a message).
    pub fresh_from: Seq,
    /// Where a candidate goes that was received too often.
    pub redrive: Option<Redrive>,
    /// FIFO queues: names the receive. One that repeats another gets the same messages again,
    /// whatever the candidates are.
    pub attempt: Option<Attempt>,
    /// Content that the caller has room for: it ends before a candidate that would be too much, the first
    /// one too. What is repeated under an attempt is handed out whatever its size.
    pub bytes_max: u64,
}

/// Names a receive, so that it can be repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// Its name.
    pub key: DedupKey,
    /// How many of the messages of the receive that it repeats it gets at most: the first ones.
    pub max: usize,
}

/// The queue's dead letters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redrive {
    /// The dead-letter queue.
    pub target: QueueId,
    /// A candidate that this queue has handed out so often goes there instead.
    pub receives_max: u32,
    /// Names the queue to whoever receives from the target; see [`Moved::source`].
    ///
    /// [`Moved::source`]: crate::store::Moved::source
    pub source: Bytes,
}

/// See [`Command::Move`]. Each candidate is checked again when this is applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Move {
    /// The queue they are in.
    pub queue: QueueId,
    /// Its retention: a candidate that is older is removed instead of moved.
    pub retention_ms: u64,
    /// In this order.
    pub candidates: Vec<MoveCandidate>,
}

/// One message to move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MoveCandidate {
    /// Its place.
    pub seq: Seq,
    /// Where to.
    pub target: QueueId,
    /// Who it will be there, drawn by the leader.
    pub message_id: MessageId,
    /// FIFO queues: why its group lives in this shard there.
    pub placing: Placing,
}

/// See [`Command::Delete`]. `receive` is part of the handle; a standard queue deletes whichever
/// receive the handle is from, a FIFO queue only with that of the receive that still holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delete {
    /// The queue.
    pub queue: QueueId,
    /// The message.
    pub seq: Seq,
    /// The receive count that the handle was issued with.
    pub receive: u32,
}

/// See [`Command::ChangeVisibility`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangeVisibility {
    /// The queue.
    pub queue: QueueId,
    /// The message.
    pub seq: Seq,
    /// The receive count that the handle was issued with.
    pub receive: u32,
    /// From the stamp on; 0 makes the message visible now.
    pub visibility_ms: u64,
}

/// See [`Command::Redelay`]. Each candidate is checked again when this is applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redelay {
    /// The queue.
    pub queue: QueueId,
    /// From when the queue got a message on.
    pub delay_ms: u64,
    /// What waited for the end of its delay when the leader looked.
    pub candidates: Vec<Seq>,
}

/// One per command, in the order of the batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// For Send. A repeated command gets this too: it *is* stored. For a FIFO queue with what was
    /// accepted under the message's key, now or earlier (`None`: too long ago to be remembered).
    Sent(Option<Accepted>),
    /// For Send: it was not stored, its place is another.
    Elsewhere(Elsewhere),
    /// For Receive: those of the candidates that were handed out, in their order.
    Received(Vec<Lease>),
    /// For Move: how many of the candidates were moved.
    Moved(u64),
    /// For Delete, also when there was nothing left to delete: deleting is idempotent.
    Deleted(Result<(), HandleExpired>),
    /// For ChangeVisibility.
    VisibilityChanged(Result<(), VisibilityError>),
    /// For Purge and DropQueue: how many messages went.
    Purged(u64),
    /// For Expire.
    Expired {
        /// Messages removed.
        removed: u64,
        /// A limit of one command was reached: another one is due, from this place.
        resume: Option<Seq>,
    },
    /// For Redelay, Fence and Barrier.
    Passed,
    /// What became of the command is not remembered: its id is older than the remembered window, or
    /// it is a repeated one and the state does not tell. Nothing was changed now.
    Forgotten,
}

/// Why a message of a FIFO queue was not stored in this shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Elsewhere {
    /// The place was changed since it was decided.
    #[error("placed by an earlier decision")]
    Stale,
    /// The group has no messages here any more.
    #[error("the group has nothing here")]
    Absent {
        /// Every place that the group had here is below.
        below: Seq,
    },
}

/// The message that a FIFO queue has (or had) under a deduplication key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// Its place.
    pub seq: Seq,
    /// Its public identity.
    pub message_id: MessageId,
}

/// A message of a FIFO queue was not deleted, because the receive that the handle is from is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the receive is over")]
pub struct HandleExpired;

/// A message as handed out by one receive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Its place in the shard.
    pub seq: Seq,
    /// This receive included, and those from the queue that it was moved from.
    pub receive_count: u32,
    /// When it was first handed out.
    pub first_received_ms: u64,
    /// When it was stored.
    pub sent_ms: u64,
    /// Its public identity.
    pub message_id: MessageId,
    /// The queue that it was moved from, as [`Redrive::source`] said.
    pub moved_from: Option<Bytes>,
    /// Of its group, if it has one.
    pub group: Option<GroupKey>,
    /// Body and attributes.
    pub content: Bytes,
}

/// Why a visibility was not changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VisibilityError {
    /// Deleted, expired, purged, or never received; in a FIFO queue also: the receive is over.
    #[error("the message is not there or was never received")]
    NotInFlight,
    /// Would hide the message for longer than the maximum, counted from its latest receive.
    #[error("total visibility beyond the limit")]
    BeyondLimit,
}
