//! What the machine needs of a store. One store is one shard's; the storage crate implements it
//! on RocksDB, tests in memory.

use std::io;

use bytes::Bytes;
use flotilla_types::ids::{DedupKey, GroupKey, MessageId, QueueId, Seq};

/// A stored message. Written once, removed once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The shard's clock when it was accepted, by the first queue that had it.
    pub sent_ms: u64,
    /// Its public identity.
    pub message_id: MessageId,
    /// Whether it was sent with a delay: then a [`Hidden`] row, not its absence, says when it is
    /// visible, and a scan for never-received messages skips it.
    pub delayed: bool,
    /// Of its group, if it has one.
    pub group: Option<GroupKey>,
    /// Set when it came here from another queue.
    pub moved: Option<Moved>,
    /// Body and attributes.
    pub content: Bytes,
}

/// What a message brought along from the queue that could not get rid of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moved {
    /// As the command said; never looked into here.
    pub source: Bytes,
    /// How often it was received before: its receives here count on.
    pub receives: u32,
    /// When it was received first.
    pub first_received_ms: u64,
    /// When it came here.
    pub at_ms: u64,
}

impl Message {
    /// When the queue that holds it got it.
    pub fn entered_ms(&self) -> u64 {
        self.moved.as_ref().map_or(self.sent_ms, |moved| moved.at_ms)
    }
}

/// What a scan for never-received messages needs to know of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessageHead {
    /// Its place.
    pub seq: Seq,
    /// See [`Message::sent_ms`].
    pub sent_ms: u64,
    /// See [`Message::entered_ms`].
    pub entered_ms: u64,
    /// See [`Message::delayed`].
    pub delayed: bool,
    /// See [`Message::group`].
    pub group: Option<GroupKey>,
}

/// Present for each message that was delayed or received at least once: until when it is hidden.
/// A message without one is visible and was never received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hidden {
    /// Counts the rows of this message, from 1: each change writes a new key and removes the old.
    pub revision: u32,
    /// Visible again once the shard's clock reaches this.
    pub visible_at_ms: u64,
    /// 0 for a delayed message that was never received.
    pub receive_count: u32,
    /// 0 when never received.
    pub first_received_ms: u64,
    /// Stamp of the latest receive; 0 when never received.
    pub received_ms: u64,
    /// See [`Message::group`].
    pub group: Option<GroupKey>,
}

impl Hidden {
    /// Whether the receive of this number is the last one and not over.
    pub(crate) fn holds(&self, receive: u32, now_ms: u64) -> bool {
        receive == self.receive_count && self.visible_at_ms > now_ms
    }

    /// Whether the message was never received and its delay is not over.
    pub(crate) fn is_delayed(&self, now_ms: u64) -> bool {
        self.receive_count == 0 && self.visible_at_ms > now_ms
    }

    /// Whether a receive of this message can have had this number.
    pub(crate) fn issued(&self, receive: u32) -> bool {
        (1..=self.receive_count).contains(&receive)
    }
}

/// Per queue and shard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueRow {
    /// Messages stored and not removed.
    pub messages: u64,
    /// Messages below this place are gone (purged), whatever the store still shows.
    pub purged_below: Seq,
    /// No never-received message lies below this place.
    pub fresh_from: Seq,
    /// Messages came from other queues: one may be older than another at a lower place.
    pub mixed_ages: bool,
    /// Receives keep the order of each group; decided by the queue's first message.
    pub fifo: bool,
    /// Periods of which [`OriginalRow`]s and [`AttemptRow`]s may be stored: from the first to the
    /// last of them.
    pub originals: Option<(u64, u64)>,
    /// FIFO queues: see [`Placing::epoch`](crate::command::Placing::epoch).
    pub epoch: u64,
}

impl QueueRow {
    /// From when on the age of a message counts: a standard queue's dead letters are as old as they
    /// were where they came from, a FIFO queue's begin anew.
    pub(crate) fn ages_since_ms(&self, sent_ms: u64, entered_ms: u64) -> u64 {
        if self.fifo { entered_ms } else { sent_ms }
    }
}

/// The first message of a FIFO queue with a deduplication key. Kept per period of
/// `limits::DEDUP_INTERVAL_MS` of the shard's clock, so that a period is forgotten at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OriginalRow {
    /// Its place.
    pub seq: Seq,
    /// Its public identity.
    pub message_id: MessageId,
    /// The shard's clock when it was accepted: a message with the same key is a duplicate for
    /// `limits::DEDUP_INTERVAL_MS` from then.
    pub sent_ms: u64,
}

/// What a receive of a FIFO queue handed out under an attempt key. Kept per period like
/// [`OriginalRow`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttemptRow {
    /// The shard's clock at the first of these receives.
    pub at_ms: u64,
    /// In the order in which they were handed out; at most ten.
    pub messages: Vec<Attempted>,
}

/// One message of an [`AttemptRow`], and the state in which it was left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempted {
    /// Its place.
    pub seq: Seq,
    /// See [`Hidden::receive_count`].
    pub receive: u32,
    /// See [`Hidden::revision`].
    pub revision: u32,
}

/// Per shard.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShardRow {
    /// Largest stamp seen.
    pub clock_ms: u64,
    /// Place of the next message.
    pub next_seq: Seq,
}

/// Remembers which command counters of a session were applied: one bit per counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DedupRow {
    /// Counters `block * 512 ..= block * 512 + 511`.
    pub bits: [u8; 64],
    /// Shard clock when the block last changed.
    pub changed_ms: u64,
}

/// Reading. Sees what was committed, not what a batch has staged.
pub trait Read {
    /// One message.
    ///
    /// # Errors
    /// When the disk fails or a checksum does not match; the process then stops.
    fn message(&self, queue: QueueId, seq: Seq) -> io::Result<Option<Message>>;

    /// Up to `limit` messages of a queue from a place on, in order. They may be fewer when much has
    /// to be read for them; only none at all means that there are no more.
    ///
    /// # Errors
    /// As [`Read::message`].
    fn messages_from(
        &self,
        queue: QueueId,
        from: Seq,
        limit: usize,
    ) -> io::Result<Vec<MessageHead>>;

    /// The shard's own row; `None` for a shard that never applied a batch.
    ///
    /// # Errors
    /// As [`Read::message`].
    fn shard_row(&self) -> io::Result<Option<ShardRow>>;

    /// All queues of the shard (read once, when the replica starts).
    ///
    /// # Errors
    /// As [`Read::message`].
    fn queue_rows(&self) -> io::Result<Vec<(QueueId, QueueRow)>>;

    /// All hidden rows of a queue (read once; bounded by the in-flight limit and the delayed
    /// messages).
    ///
    /// # Errors
    /// As [`Read::message`].
    fn hidden_rows(&self, queue: QueueId) -> io::Result<Vec<(Seq, Hidden)>>;

    /// What was accepted under a deduplication key in a period.
    ///
    /// # Errors
    /// As [`Read::message`].
    fn original(
        &self,
        queue: QueueId,
        period: u64,
        key: DedupKey,
    ) -> io::Result<Option<OriginalRow>>;

    /// How many messages a group of a FIFO queue has: nothing is stored for one that has none.
    ///
    /// # Errors
    /// As [`Read::message`].
    fn group_messages(&self, queue: QueueId, group: GroupKey) -> io::Result<Option<u64>>;

    /// Up to `limit` groups of a FIFO queue that have messages, after one, in order.
    ///
    /// # Errors
    /// As [`Read::message`].
    fn groups_after(
        &self,
        queue: QueueId,
        after: Option<GroupKey>,
        limit: usize,
    ) -> io::Result<Vec<GroupKey>>;

    /// What was handed out under an attempt key in a period.
    ///
    /// # Errors
    /// As [`Read::message`].
    fn attempt(&self, queue: QueueId, period: u64, key: DedupKey)
    -> io::Result<Option<AttemptRow>>;

    /// All dedup rows: session, block, row.
    ///
    /// # Errors
    /// As [`Read::message`].
    fn dedup_rows(&self) -> io::Result<Vec<(u64, u64, DedupRow)>>;
}

/// Staging of one batch. Nothing is visible before the batch is committed, then all of it is.
pub trait Write {
    /// Once per key.
    fn put_message(&mut self, queue: QueueId, seq: Seq, message: &Message);
    /// Of a key that was put and not removed.
    fn remove_message(&mut self, queue: QueueId, seq: Seq);
    /// Once per key: (queue, seq, revision) never comes twice.
    fn put_hidden(&mut self, queue: QueueId, seq: Seq, row: &Hidden);
    /// Of a key that was put and not removed.
    fn remove_hidden(&mut self, queue: QueueId, seq: Seq, revision: u32);
    /// Removes every message and hidden row of the queue below a place.
    fn clear_below(&mut self, queue: QueueId, below: Seq);
    /// Overwrites.
    fn put_shard(&mut self, row: &ShardRow);
    /// Overwrites.
    fn put_queue(&mut self, queue: QueueId, row: &QueueRow);
    /// The queue is gone.
    fn remove_queue(&mut self, queue: QueueId);
    /// Overwrites.
    fn put_dedup(&mut self, session: u64, block: u64, row: &DedupRow);
    /// Once per key, unless it was cleared in between.
    fn put_original(&mut self, queue: QueueId, period: u64, key: DedupKey, row: &OriginalRow);
    /// Overwrites.
    fn put_attempt(&mut self, queue: QueueId, period: u64, key: DedupKey, row: &AttemptRow);
    /// Removes the queue's original and attempt rows of all periods before one.
    fn clear_originals(&mut self, queue: QueueId, before_period: u64);
    /// Overwrites.
    fn put_group(&mut self, queue: QueueId, group: GroupKey, messages: u64);
    /// May name a row that was put several times.
    fn remove_group(&mut self, queue: QueueId, group: GroupKey);
    /// Removes the rows of all groups of a queue.
    fn clear_groups(&mut self, queue: QueueId);
    /// May name a row that was put several times.
    fn remove_dedup(&mut self, session: u64, block: u64);
}
