//! What the cluster offers to a front end: queues by name, messages by queue. No protocol, no AWS
//! codes, no URLs.

mod moves;

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use flotilla_types::attributes::{
    AttributeName, AttributePatch, GrantError, QueueAttributes, RevokeError,
};
use flotilla_types::ids::{DedupKey, GroupId, GroupKey, MessageId, QueueId, Seq, TaskId};
use flotilla_types::names::QueueName;
use flotilla_types::permission::{Label, Permission};

use crate::room::{Pool, Room};

pub use self::moves::{CancelMoveError, MoveFailure, MoveStatus, MoveTask, StartMoveError};

/// A queue as the catalog has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Queue {
    /// Never used again for another queue.
    pub id: QueueId,
    /// Its name.
    pub name: QueueName,
    /// Current attributes.
    pub attributes: QueueAttributes,
    /// Current tags.
    pub tags: BTreeMap<String, String>,
    /// Unix time in seconds.
    pub created_s: u64,
    /// Unix time in seconds of the last change of attributes.
    pub modified_s: u64,
    /// For a FIFO queue: where its groups live.
    pub placement: Placement,
}

/// Where the groups of a FIFO queue live. It follows the scope of deduplication, which can change
/// while groups have messages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Placement {
    /// Groups are spread over the shards. One queue whose ids are unique in the whole queue lives on
    /// one shard.
    pub spread: bool,
    /// Counts the changes.
    pub epoch: u64,
    /// Unix time in seconds of the last change; 0 without one.
    pub changed_s: u64,
    /// Shards that may still have groups that lived there before the last change.
    pub unsettled: BTreeSet<GroupId>,
    /// All places that groups had in shards that they left and that have settled are below. Numbers
    /// of messages are made of places, and those of a group never fall.
    pub floor: Seq,
}

/// Why the cluster could not do something, for reasons that are not the caller's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// No leader could be reached in time, or the group has no quorum. `maybe_applied` is false
    /// only if no proposal was handed to Raft anywhere.
    #[error("no quorum or no leader in time (maybe applied: {maybe_applied})")]
    Unavailable {
        /// Whether the request may have taken effect, now or later.
        maybe_applied: bool,
    },
    /// A bound was reached; nothing was done.
    #[error("overloaded")]
    Overloaded,
    /// A node that would store the message is low on disk space; nothing was done. Only for sends.
    #[error("low on disk space")]
    LowOnSpace,
}

/// Why a queue was not created.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CreateError {
    /// A queue of that name has another value for this attribute.
    #[error("exists with another {0}")]
    AttributeDiffers(AttributeName),
    /// A queue of that name has other tags.
    #[error("exists with other tags")]
    TagsDiffer,
    /// A queue of that name was deleted less than a minute ago.
    #[error("deleted recently")]
    DeletedRecently,
    /// `limits::QUEUES_MAX`.
    #[error("too many queues")]
    TooMany,
    /// See [`Trouble`].
    #[error(transparent)]
    Trouble(#[from] Trouble),
}

/// Why something on an existing queue failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueueError {
    /// No such queue (any more).
    #[error("no such queue")]
    NotFound,
    /// See [`Trouble`].
    #[error(transparent)]
    Trouble(#[from] Trouble),
}

/// Why attributes were not changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SetAttributesError {
    /// No such queue (any more).
    #[error("no such queue")]
    NotFound,
    /// With what the queue has by now, throughput would be limited per group where deduplication is
    /// not per group.
    #[error("a limit per group needs deduplication per group")]
    LimitBeyondScope,
    /// See [`Trouble`].
    #[error(transparent)]
    Trouble(#[from] Trouble),
}

/// Why a queue was not tagged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TagError {
    /// No such queue (any more).
    #[error("no such queue")]
    NotFound,
    /// It would have more than `limits::TAGS_MAX`.
    #[error("too many tags")]
    TooMany,
    /// See [`Trouble`].
    #[error(transparent)]
    Trouble(#[from] Trouble),
}

/// Why a permission was not added.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddPermissionError {
    /// No such queue (any more).
    #[error("no such queue")]
    NotFound,
    /// The queue's policy does not take it.
    #[error(transparent)]
    Refused(#[from] GrantError),
    /// See [`Trouble`].
    #[error(transparent)]
    Trouble(#[from] Trouble),
}

/// Why a permission was not removed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RemovePermissionError {
    /// No such queue (any more).
    #[error("no such queue")]
    NotFound,
    /// The queue's policy does not have it.
    #[error(transparent)]
    Refused(#[from] RevokeError),
    /// See [`Trouble`].
    #[error(transparent)]
    Trouble(#[from] Trouble),
}

/// Why a queue was not purged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PurgeError {
    /// No such queue (any more).
    #[error("no such queue")]
    NotFound,
    /// Less than a minute ago.
    #[error("purged a moment ago")]
    InProgress,
    /// See [`Trouble`].
    #[error(transparent)]
    Trouble(#[from] Trouble),
}

/// Approximate numbers of messages over all shards of a queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Can be received now.
    pub visible: u64,
    /// Received, not deleted, not visible again.
    pub in_flight: u64,
    /// Sent with a delay that is not over.
    pub delayed: u64,
    /// Unix milliseconds since when the queue has its oldest message, if there is one and it is
    /// known. One that came from another queue counts from then. In a standard queue one that was received
    /// three times does not count. Only metrics ask for it.
    pub oldest_entered_ms: Option<u64>,
}

impl Counts {
    /// Both together.
    pub fn plus(self, other: Self) -> Self {
        let oldest = [self.oldest_entered_ms, other.oldest_entered_ms].into_iter().flatten().min();
        Self {
            visible: self.visible + other.visible,
            in_flight: self.in_flight + other.in_flight,
            delayed: self.delayed + other.delayed,
            oldest_entered_ms: oldest,
        }
    }
}

/// The keys of one deduplication id, by what it has to be unique in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DedupKeys {
    /// Unique in the queue.
    pub in_queue: DedupKey,
    /// Unique in the message's group.
    pub in_group: DedupKey,
}

/// A message on its way in; size, characters and attributes are checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// Drawn by the front end.
    pub message_id: MessageId,
    /// In seconds; the queue's own delay is already applied.
    pub delay_seconds: u32,
    /// Of the message's group. Every message of a FIFO queue has one; on a standard queue it tells
    /// tenants apart.
    pub group: Option<GroupKey>,
    /// Exactly for FIFO queues: a message with the key of an earlier one is not stored again.
    pub dedup: Option<DedupKeys>,
    /// Encoded `flotilla_wire::content::Content`.
    pub content: Bytes,
}

/// What became of a message that was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// Its identity, or that of the earlier message whose duplicate it is.
    pub message_id: MessageId,
    /// Where that message is (or was).
    pub shard: GroupId,
    /// For FIFO queues: its place there; its sequence number follows from both.
    pub seq: Option<Seq>,
    /// It was not stored, because an earlier message has the same deduplication key.
    pub duplicate: bool,
}

/// Why a message was not deleted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeleteError {
    /// FIFO queues: the receive that the handle is from is over.
    #[error("the receipt has expired")]
    Expired,
    /// See [`Trouble`].
    #[error(transparent)]
    Trouble(#[from] Trouble),
}

/// Names one receive of one message; what a receipt handle carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Receipt {
    /// The queue it was received from.
    pub queue: QueueId,
    /// The shard that holds it.
    pub shard: GroupId,
    /// Its place there.
    pub seq: Seq,
    /// Which receive it was.
    pub receive: u32,
}

/// What a receive asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReceiveRequest {
    /// 1 to 10.
    pub max_messages: usize,
    /// How long the messages stay hidden.
    pub visibility_seconds: u32,
    /// 0 for a short poll.
    pub wait_seconds: u32,
    /// FIFO queues: of the ReceiveRequestAttemptId. A receive that repeats an earlier one gets the
    /// same messages again.
    pub attempt: Option<DedupKey>,
    /// Whether to report which shards were asked.
    pub explain: bool,
}

/// A message on its way out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Incoming {
    /// For the receipt handle.
    pub receipt: Receipt,
    /// Its public identity.
    pub message_id: MessageId,
    /// This receive included.
    pub receive_count: u32,
    /// Unix milliseconds.
    pub first_received_ms: u64,
    /// Unix milliseconds.
    pub sent_ms: u64,
    /// The queue that gave it up as a dead letter, if one did.
    pub moved_from: Option<QueueName>,
    /// As in [`Outgoing::content`].
    pub content: Bytes,
}

/// What one shard answered to one poll.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShardAnswer {
    /// It was heard.
    Heard {
        /// Messages taken from it.
        taken: usize,
        /// About how many more could have been.
        left: usize,
    },
    /// It could not be asked in time.
    Unreachable,
}

/// Answer to a receive.
#[derive(Debug, Default)]
pub struct Received {
    /// At most as many as asked for.
    pub messages: Vec<Incoming>,
    /// Which shards were asked and what each had; empty unless `explain` was set. For a long poll that
    /// ends empty also those of which it would not have heard.
    pub asked: Vec<(GroupId, ShardAnswer)>,
    /// A shard's answer was lost: it may have hidden messages that are not among these.
    pub lost: bool,
    /// Shards that the queue has.
    pub shards: usize,
    /// What the messages take of [`Cluster::answers`]: to be kept until they are written.
    pub room: Option<Room>,
}

/// Why a receive failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReceiveError {
    /// `limits::IN_FLIGHT_MAX` reached (short polls only; a long poll waits for the number to
    /// drop, and returns empty if it does not).
    #[error("too many messages in flight")]
    TooManyInFlight,
    /// See [`Trouble`].
    #[error(transparent)]
    Trouble(#[from] Trouble),
}

/// Why a visibility was not changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VisibilityError {
    /// Deleted, expired or purged.
    #[error("the message is not there")]
    NotInFlight,
    /// Would pass the 12 hours from the receive.
    #[error("total visibility beyond the limit")]
    BeyondLimit,
    /// See [`Trouble`].
    #[error(transparent)]
    Trouble(#[from] Trouble),
}

/// The cluster as a front end sees it. Cheap to share; every call may be cancelled by dropping it.
pub trait Cluster: Send + Sync + 'static {
    /// Creates a queue, or finds the one of that name. Values absent from `attributes` and tags
    /// when `tags` is `None` are not compared.
    fn create_queue(
        &self,
        name: &QueueName,
        attributes: &AttributePatch,
        tags: Option<&BTreeMap<String, String>>,
    ) -> impl Future<Output = Result<Arc<Queue>, CreateError>> + Send;

    /// Finds a queue; asks the catalog's leader before it says that there is none.
    fn queue(
        &self,
        name: &QueueName,
    ) -> impl Future<Output = Result<Arc<Queue>, QueueError>> + Send;

    /// The queue as it is at this moment for everybody: a node that lags behind asks the one that
    /// knows.
    fn queue_now(
        &self,
        name: &QueueName,
    ) -> impl Future<Output = Result<Arc<Queue>, QueueError>> + Send;

    /// Names that start with `prefix`, in order, after `after`; at most `limit`.
    fn list_queues(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<QueueName>, Trouble>> + Send;

    /// Names of the queues whose dead-letter queue this is, in order, after `after`; at most
    /// `limit`.
    fn dead_letter_sources(
        &self,
        queue: &Queue,
        after: Option<&str>,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<QueueName>, Trouble>> + Send;

    /// Deletes the queue and, soon after, its messages.
    fn delete_queue(&self, queue: &Queue) -> impl Future<Output = Result<(), QueueError>> + Send;

    /// Changes attributes.
    fn set_attributes(
        &self,
        queue: &Queue,
        patch: &AttributePatch,
    ) -> impl Future<Output = Result<(), SetAttributesError>> + Send;

    /// Adds tags, which are checked; those of the same keys are overwritten.
    fn tag_queue(
        &self,
        queue: &Queue,
        tags: &BTreeMap<String, String>,
    ) -> impl Future<Output = Result<(), TagError>> + Send;

    /// Removes the tags of these keys, as far as the queue has them.
    fn untag_queue(
        &self,
        queue: &Queue,
        keys: &BTreeSet<String>,
    ) -> impl Future<Output = Result<(), QueueError>> + Send;

    /// Adds a permission to the queue's policy.
    fn add_permission(
        &self,
        queue: &Queue,
        permission: &Permission,
    ) -> impl Future<Output = Result<(), AddPermissionError>> + Send;

    /// Removes what the queue's policy has under this label.
    fn remove_permission(
        &self,
        queue: &Queue,
        label: &Label,
    ) -> impl Future<Output = Result<(), RemovePermissionError>> + Send;

    /// Removes all messages.
    fn purge_queue(&self, queue: &Queue) -> impl Future<Output = Result<(), PurgeError>> + Send;

    /// Counts over all shards. Never over some: what is missing would look like messages that are gone.
    fn counts(&self, queue: &Queue) -> impl Future<Output = Result<Counts, Trouble>> + Send;

    /// Stores messages; one result each, in order. On a standard queue all of one call go to one
    /// shard; on a FIFO queue the order of each group is that of the call.
    fn send(
        &self,
        queue: &Queue,
        messages: Vec<Outgoing>,
    ) -> impl Future<Output = Vec<Result<Sent, Trouble>>> + Send;

    /// Room on this node for what it has to answer.
    fn answers(&self) -> &Pool;

    /// Receives. What is received takes room of [`Cluster::answers`].
    fn receive(
        &self,
        queue: &Queue,
        request: ReceiveRequest,
    ) -> impl Future<Output = Result<Received, ReceiveError>> + Send;

    /// Deletes; one result each, in order.
    fn delete(
        &self,
        queue: &Queue,
        receipts: Vec<Receipt>,
    ) -> impl Future<Output = Vec<Result<(), DeleteError>>> + Send;

    /// Changes visibilities (seconds from now); one result each, in order.
    fn change_visibility(
        &self,
        queue: &Queue,
        changes: Vec<(Receipt, u32)>,
    ) -> impl Future<Output = Vec<Result<(), VisibilityError>>> + Send;

    /// Starts to move the messages of a dead-letter queue.
    fn start_move(
        &self,
        task: TaskId,
        source: &Queue,
        destination: Option<&Queue>,
        rate: Option<u32>,
    ) -> impl Future<Output = Result<(), StartMoveError>> + Send;

    /// Ends a task of this dead-letter queue; returns how many messages it has moved.
    fn cancel_move(
        &self,
        source: &Queue,
        task: TaskId,
    ) -> impl Future<Output = Result<u64, CancelMoveError>> + Send;

    /// The last tasks of a dead-letter queue, newest first; at most `limit`.
    fn move_tasks(
        &self,
        source: &Queue,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<MoveTask>, Trouble>> + Send;

    /// Key under which receipt handles are authenticated; the same on every node, for ever.
    fn handle_key(&self) -> [u8; 32];

    /// Whether this node can serve: it knows the catalog, and this and every shard has a reachable leader.
    fn ready(&self) -> bool;

    /// Whether this node knows of a queue that there is.
    fn has_queue(&self, id: QueueId) -> bool;
}
