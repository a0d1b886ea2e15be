//! One request of a client, from its first byte to its answer, as it is written down.
//!
//! Field names are short in the file because there are millions of lines; `README`-level names are
//! here.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::content::{Content, Digests};

/// What is known of a request, or of one entry of a batch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome<T> {
    /// Success was answered.
    Ok(T),
    /// The server proved that it had no effect and never will: the error's code.
    Fail(String),
    /// Anything else. It may have taken effect, or may still do so at any time: why nobody knows.
    Info(String),
}

impl<T> Outcome<T> {
    /// The answer, when there was success.
    pub fn ok(&self) -> Option<&T> {
        match self {
            Self::Ok(answer) => Some(answer),
            Self::Fail(_) | Self::Info(_) => None,
        }
    }

    /// Outcome of an error answer, by what its header `x-flotilla-outcome` says. No header, as when
    /// no answer came at all, proves nothing.
    pub fn of_error(header: Option<&str>, code: &str) -> Self {
        match header {
            Some("not-applied") => Self::Fail(code.to_owned()),
            _ => Self::Info(code.to_owned()),
        }
    }

    /// The code of a failure or the reason of an unknown outcome.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Ok(_) => None,
            Self::Fail(reason) | Self::Info(reason) => Some(reason),
        }
    }
}

/// One request (one *attempt*: a client's own retry is a record of its own).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The client: it does one thing after the other.
    #[serde(rename = "p")]
    pub process: u32,
    /// The node that was addressed.
    #[serde(rename = "n")]
    pub node: u32,
    /// Before the request's first byte was sent, in microseconds of the history's one clock.
    #[serde(rename = "i")]
    pub invoked_us: u64,
    /// When the answer had arrived, or when the client gave up.
    #[serde(rename = "r")]
    pub returned_us: u64,
    /// HTTP status of the answer.
    #[serde(rename = "h", default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// The server's id of the request.
    #[serde(rename = "x", default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// What was asked and answered.
    #[serde(rename = "o")]
    pub op: Op,
}

/// What was asked and what came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Op {
    /// SendMessage, SendMessageBatch.
    Send(Send),
    /// ReceiveMessage.
    Receive(Receive),
    /// DeleteMessage, DeleteMessageBatch.
    Delete(Delete),
    /// ChangeMessageVisibility and its batch.
    Change(Change),
    /// PurgeQueue.
    Purge(OnQueue<()>),
    /// CreateQueue. Without a record of it, or of a SetAttributes, a queue is taken to have SQS's
    /// default attributes.
    CreateQueue(WithAttributes),
    /// DeleteQueue.
    DeleteQueue(OnQueue<()>),
    /// SetQueueAttributes.
    SetAttributes(WithAttributes),
    /// GetQueueAttributes (the counts are attributes too); of GetQueueUrl with no attributes.
    GetAttributes(OnQueue<BTreeMap<String, String>>),
    /// StartMessageMoveTask.
    StartMove(StartMove),
    /// ListMessageMoveTasks: status of the newest task and how many messages it has moved.
    ListMoves(OnQueue<Option<MoveStatus>>),
    /// CancelMessageMoveTask, by source: how many messages had been moved.
    CancelMove(OnQueue<u64>),
    /// A fault that the harness caused.
    Fault(Fault),
    /// A moment of the run.
    Mark(Mark),
}

/// Sends one message or a batch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Send {
    /// The queue's name.
    #[serde(rename = "q")]
    pub queue: String,
    /// One, or those of a batch in its order.
    #[serde(rename = "e")]
    pub entries: Vec<SendEntry>,
    /// Of a batch that was answered with success: see [`Answered`].
    #[serde(rename = "a", default, skip_serializing_if = "Option::is_none")]
    pub answered: Answered,
}

/// The entries of a batch in the order of the answer, successes and failures, each as its place in
/// the request; [`STRANGER`] for an id that was not asked. `None` when it was no batch, or nothing
/// was answered.
pub type Answered = Option<Vec<u32>>;

/// In [`Answered`]: an entry of the answer that no entry of the request explains.
pub const STRANGER: u32 = u32::MAX;

/// One message to send.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SendEntry {
    /// What it says. Each message has a key of its own; a client that repeats a send until it is
    /// answered repeats the key with it.
    #[serde(rename = "c")]
    pub content: Content,
    /// `MessageGroupId`
    #[serde(rename = "g", default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// `MessageDeduplicationId`
    #[serde(rename = "d", default, skip_serializing_if = "Option::is_none")]
    pub dedup: Option<String>,
    /// `DelaySeconds`, in milliseconds; `None`: the queue's.
    #[serde(rename = "t", default, skip_serializing_if = "Option::is_none")]
    pub delay_ms: Option<u64>,
    /// What came of it.
    #[serde(rename = "o")]
    pub result: Outcome<Sent>,
}

/// A message was accepted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sent {
    /// `MessageId`
    #[serde(rename = "m")]
    pub message_id: String,
    /// `SequenceNumber`
    #[serde(rename = "s", default, skip_serializing_if = "Option::is_none")]
    pub sequence: Option<String>,
    /// The digests of the answer where they are not those that the client computed.
    #[serde(rename = "w", default, skip_serializing_if = "Option::is_none")]
    pub wrong_digests: Option<Digests>,
    /// The shard that has it, when the server tells.
    #[serde(rename = "h", default, skip_serializing_if = "Option::is_none")]
    pub shard: Option<u32>,
}

/// Asks for messages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receive {
    /// The queue's name.
    #[serde(rename = "q")]
    pub queue: String,
    /// `MaxNumberOfMessages`
    #[serde(rename = "x")]
    pub max: u32,
    /// `WaitTimeSeconds`, in milliseconds; `None`: the queue's.
    #[serde(rename = "w", default, skip_serializing_if = "Option::is_none")]
    pub wait_ms: Option<u64>,
    /// `VisibilityTimeout`, in milliseconds; `None`: the queue's.
    #[serde(rename = "v", default, skip_serializing_if = "Option::is_none")]
    pub visibility_ms: Option<u64>,
    /// `ReceiveRequestAttemptId`
    #[serde(rename = "a", default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<String>,
    /// A success that says of itself that it may have hidden messages that it does not bring: an
    /// answer was lost inside the service.
    #[serde(rename = "u", default, skip_serializing_if = "is_false")]
    pub lost: bool,
    /// Shards that the answer says it could not ask, or would not have heard of.
    #[serde(rename = "y", default, skip_serializing_if = "Vec::is_empty")]
    pub unheard: Vec<u32>,
    /// The messages in the answer's order.
    #[serde(rename = "o")]
    pub result: Outcome<Vec<Delivered>>,
}

fn is_false(flag: &bool) -> bool {
    !flag
}

/// A message of an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivered {
    /// What it says, as the client computed it from what arrived; `None` when the body has no key.
    #[serde(rename = "c", default, skip_serializing_if = "Option::is_none")]
    pub content: Option<Content>,
    /// `MessageId`
    #[serde(rename = "m")]
    pub message_id: String,
    /// `ReceiptHandle`
    #[serde(rename = "h")]
    pub handle: String,
    /// The digests of the answer where they are not those that the client computed.
    #[serde(rename = "w", default, skip_serializing_if = "Option::is_none")]
    pub wrong_digests: Option<Digests>,
    /// `ApproximateReceiveCount`
    #[serde(rename = "n", default, skip_serializing_if = "Option::is_none")]
    pub receive_count: Option<u32>,
    /// `SentTimestamp`
    #[serde(rename = "t", default, skip_serializing_if = "Option::is_none")]
    pub sent_ms: Option<u64>,
    /// `ApproximateFirstReceiveTimestamp`
    #[serde(rename = "f", default, skip_serializing_if = "Option::is_none")]
    pub first_received_ms: Option<u64>,
    /// `MessageGroupId`
    #[serde(rename = "g", default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// `MessageDeduplicationId`
    #[serde(rename = "d", default, skip_serializing_if = "Option::is_none")]
    pub dedup: Option<String>,
    /// `SequenceNumber`
    #[serde(rename = "s", default, skip_serializing_if = "Option::is_none")]
    pub sequence: Option<String>,
    /// Name of the queue in `DeadLetterQueueSourceArn`.
    #[serde(rename = "l", default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// The shard that it came from, when the server tells.
    #[serde(rename = "k", default, skip_serializing_if = "Option::is_none")]
    pub shard: Option<u32>,
}

/// Deletes by handle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delete {
    /// The queue's name.
    #[serde(rename = "q")]
    pub queue: String,
    /// One, or those of a batch in its order.
    #[serde(rename = "e")]
    pub entries: Vec<DeleteEntry>,
    /// See [`Answered`].
    #[serde(rename = "a", default, skip_serializing_if = "Option::is_none")]
    pub answered: Answered,
}

/// One message to delete.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeleteEntry {
    /// `ReceiptHandle`
    #[serde(rename = "h")]
    pub handle: String,
    /// What came of it.
    #[serde(rename = "o")]
    pub result: Outcome<()>,
}

/// Changes visibility timeouts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// The queue's name.
    #[serde(rename = "q")]
    pub queue: String,
    /// One, or those of a batch in its order.
    #[serde(rename = "e")]
    pub entries: Vec<ChangeEntry>,
    /// See [`Answered`].
    #[serde(rename = "a", default, skip_serializing_if = "Option::is_none")]
    pub answered: Answered,
}

/// One visibility timeout to change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeEntry {
    /// `ReceiptHandle`
    #[serde(rename = "h")]
    pub handle: String,
    /// `VisibilityTimeout`, in milliseconds.
    #[serde(rename = "v")]
    pub visibility_ms: u64,
    /// What came of it.
    #[serde(rename = "o")]
    pub result: Outcome<()>,
}

/// Something about a queue that has no other arguments.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OnQueue<T> {
    /// The queue's name.
    #[serde(rename = "q")]
    pub queue: String,
    /// What came of it.
    #[serde(rename = "o")]
    pub result: Outcome<T>,
}

/// Creates a queue or sets attributes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WithAttributes {
    /// The queue's name.
    #[serde(rename = "q")]
    pub queue: String,
    /// As SQS names and writes them.
    #[serde(rename = "s")]
    pub attributes: BTreeMap<String, String>,
    /// What came of it.
    #[serde(rename = "o")]
    pub result: Outcome<()>,
}

/// Starts to move dead letters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartMove {
    /// Name of the dead-letter queue.
    #[serde(rename = "q")]
    pub source: String,
    /// Name of the destination; `None`: each to where it came from.
    #[serde(rename = "t", default, skip_serializing_if = "Option::is_none")]
    pub destination: Option<String>,
    /// The task's handle.
    #[serde(rename = "o")]
    pub result: Outcome<String>,
}

/// What a move task says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MoveStatus {
    /// `Status`
    #[serde(rename = "s")]
    pub status: String,
    /// `ApproximateNumberOfMessagesMoved`
    #[serde(rename = "m")]
    pub moved: u64,
}

/// A fault, written down once when it is there, once when it is undone, and once when all is well again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// What it is, `kill`, `partition`, ...: as in [`Expect::faults`](crate::Expect::faults).
    #[serde(rename = "f")]
    pub name: String,
    /// The nodes that it is about; the record's own node says nothing.
    #[serde(rename = "n")]
    pub nodes: Vec<u32>,
    /// What the record says of it.
    #[serde(rename = "w")]
    pub phase: FaultPhase,
}

/// Where a fault stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultPhase {
    /// It is there: seen to work, not merely asked for.
    Fired,
    /// What was done is undone: what was cut is joined, what was ended is started. From here on the
    /// service has to recover.
    Healed,
    /// Every node says that it can serve.
    Ready,
}

/// Moments of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mark {
    /// Nothing is sent any more, all faults are healed; what there is will be received.
    DrainBegan,
    /// Every queue was polled empty, after all visibility timeouts and delays.
    DrainEnded {
        /// Whether the harness got so far. Otherwise nothing can be said about losses.
        complete: bool,
    },
    /// For the reader of the timeline.
    Note(String),
}
