//! A store in memory, for tests and the simulator. It stops at any breach of the store's contract,
//! and remembers every key ever written to find them: not for serving.

use std::collections::{BTreeMap, HashSet};
use std::io;

use flotilla_types::ids::{DedupKey, GroupKey, QueueId, Seq};

use crate::store::{
    AttemptRow, DedupRow, Hidden, Message, MessageHead, OriginalRow, QueueRow, Read, ShardRow,
    Write,
};

/// Fewer than are asked for, as the contract allows: who relies on more is found out by tests.
const HEADS_MAX: usize = 100;

/// What was committed.
#[derive(Clone, Debug, Default)]
pub struct MemStore {
    messages: BTreeMap<(QueueId, Seq), Message>,
    hidden: BTreeMap<(QueueId, Seq, u32), Hidden>,
    queues: BTreeMap<QueueId, QueueRow>,
    dedup: BTreeMap<(u64, u64), DedupRow>,
    originals: BTreeMap<(QueueId, u64, DedupKey), OriginalRow>,
    attempts: BTreeMap<(QueueId, u64, DedupKey), AttemptRow>,
    groups: BTreeMap<(QueueId, GroupKey), u64>,
    shard: Option<ShardRow>,
    messages_ever: HashSet<(QueueId, Seq)>,
    hidden_ever: HashSet<(QueueId, Seq, u32)>,
}

#[derive(Clone, Debug)]
enum Row {
    PutMessage(QueueId, Seq, Message),
    RemoveMessage(QueueId, Seq),
    PutHidden(QueueId, Seq, Hidden),
    RemoveHidden(QueueId, Seq, u32),
    ClearBelow(QueueId, Seq),
    PutShard(ShardRow),
    PutQueue(QueueId, QueueRow),
    RemoveQueue(QueueId),
    PutOriginal(QueueId, u64, DedupKey, OriginalRow),
    PutAttempt(QueueId, u64, DedupKey, AttemptRow),
    ClearOriginals(QueueId, u64),
    PutGroup(QueueId, GroupKey, u64),
    RemoveGroup(QueueId, GroupKey),
    ClearGroups(QueueId),
    PutDedup(u64, u64, DedupRow),
    RemoveDedup(u64, u64),
}

/// What one batch staged, in order.
#[derive(Clone, Debug, Default)]
pub struct MemBatch {
    rows: Vec<Row>,
}

impl MemBatch {
    /// Rows staged.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether nothing was staged.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

impl MemStore {
    /// An empty store.
    pub fn new() -> MemStore {
        MemStore::default()
    }

    /// Makes a batch visible.
    ///
    /// # Panics
    /// When a key of a message or hidden row is put twice (ever) or removed without being there,
    /// when a row of the shard, a queue or a dedup block is put twice in this batch, and when what
    /// is removed of those was never put.
    pub fn commit(&mut self, batch: MemBatch) {
        let mut overwritten = HashSet::new();
        for row in batch.rows {
            let overwrites = match &row {
                Row::PutShard(_) => Some((0, 0, 0)),
                Row::PutQueue(queue, _) => Some((1, queue.0, 0)),
                Row::PutDedup(session, block, _) => Some((2, *session, *block)),
                _ => None,
            };
            if let Some(key) = overwrites {
                assert!(overwritten.insert(key), "put twice in one batch: {row:?}");
            }
            self.write(row);
        }
    }

    fn write(&mut self, row: Row) {
        match row {
            Row::PutMessage(queue, seq, message) => {
                assert!(self.messages_ever.insert((queue, seq)), "message {queue}/{seq} put twice");
                self.messages.insert((queue, seq), message);
            }
            Row::RemoveMessage(queue, seq) => {
                let old = self.messages.remove(&(queue, seq));
                assert!(old.is_some(), "message {queue}/{seq} removed but not there");
            }
            Row::PutHidden(queue, seq, row) => {
                let key = (queue, seq, row.revision);
                assert!(self.hidden_ever.insert(key), "hidden row {key:?} put twice");
                self.hidden.insert(key, row);
            }
            Row::RemoveHidden(queue, seq, revision) => {
                let key = (queue, seq, revision);
                assert!(self.hidden.remove(&key).is_some(), "hidden row {key:?} not there");
            }
            Row::ClearBelow(queue, below) => {
                self.messages.retain(|&(of, seq), _| of != queue || seq >= below);
                self.hidden.retain(|&(of, seq, _), _| of != queue || seq >= below);
            }
            Row::PutShard(row) => self.shard = Some(row),
            Row::PutQueue(queue, row) => {
                self.queues.insert(queue, row);
            }
            Row::RemoveQueue(queue) => {
                assert!(self.queues.remove(&queue).is_some(), "queue {queue} not there");
            }
            Row::PutOriginal(queue, period, key, row) => {
                let old = self.originals.insert((queue, period, key), row);
                assert!(old.is_none(), "original row {queue}/{period}/{key:?} put twice");
            }
            Row::PutAttempt(queue, period, key, row) => {
                self.attempts.insert((queue, period, key), row);
            }
            Row::ClearOriginals(queue, before) => {
                let keep = |of, period| of != queue || period >= before;
                self.originals.retain(|&(of, period, _), _| keep(of, period));
                self.attempts.retain(|&(of, period, _), _| keep(of, period));
            }
            Row::PutGroup(queue, group, messages) => {
                assert!(messages > 0, "a group row of {queue} without messages");
                self.groups.insert((queue, group), messages);
            }
            Row::RemoveGroup(queue, group) => {
                let old = self.groups.remove(&(queue, group));
                assert!(old.is_some(), "group row {queue}/{group:?} not there");
            }
            Row::ClearGroups(queue) => self.groups.retain(|&(of, _), _| of != queue),
            Row::PutDedup(session, block, row) => {
                self.dedup.insert((session, block), row);
            }
            Row::RemoveDedup(session, block) => {
                let old = self.dedup.remove(&(session, block));
                assert!(old.is_some(), "dedup row {session}/{block} not there");
            }
        }
    }

    /// Rows about deduplication and attempt keys, for tests.
    pub fn originals(&self) -> usize {
        self.originals.len() + self.attempts.len()
    }

    /// How many messages each group has, for comparisons.
    pub fn groups(&self) -> impl Iterator<Item = (QueueId, GroupKey, u64)> {
        self.groups.iter().map(|(&(queue, group), &messages)| (queue, group, messages))
    }

    /// All messages, for comparisons.
    pub fn messages(&self) -> impl Iterator<Item = (QueueId, Seq, &Message)> {
        self.messages.iter().map(|(&(queue, seq), message)| (queue, seq, message))
    }
}

impl Read for MemStore {
    fn message(&self, queue: QueueId, seq: Seq) -> io::Result<Option<Message>> {
        Ok(self.messages.get(&(queue, seq)).cloned())
    }

    fn messages_from(
        &self,
        queue: QueueId,
        from: Seq,
        limit: usize,
    ) -> io::Result<Vec<MessageHead>> {
        let range = self.messages.range((queue, from)..=(queue, Seq(u64::MAX)));
        let range = range.take(limit.min(HEADS_MAX));
        Ok(range
            .map(|(&(_, seq), message)| MessageHead {
                seq,
                sent_ms: message.sent_ms,
                entered_ms: message.entered_ms(),
                delayed: message.delayed,
                group: message.group,
            })
            .collect())
    }

    fn shard_row(&self) -> io::Result<Option<ShardRow>> {
        Ok(self.shard)
    }

    fn queue_rows(&self) -> io::Result<Vec<(QueueId, QueueRow)>> {
        Ok(self.queues.iter().map(|(&queue, &row)| (queue, row)).collect())
    }

    fn hidden_rows(&self, queue: QueueId) -> io::Result<Vec<(Seq, Hidden)>> {
        let range = self.hidden.range((queue, Seq(0), 0)..=(queue, Seq(u64::MAX), u32::MAX));
        Ok(range.map(|(&(_, seq, _), &row)| (seq, row)).collect())
    }

    fn original(
        &self,
        queue: QueueId,
        period: u64,
        key: DedupKey,
    ) -> io::Result<Option<OriginalRow>> {
        Ok(self.originals.get(&(queue, period, key)).copied())
    }

    fn group_messages(&self, queue: QueueId, group: GroupKey) -> io::Result<Option<u64>> {
        Ok(self.groups.get(&(queue, group)).copied())
    }

    fn groups_after(
        &self,
        queue: QueueId,
        after: Option<GroupKey>,
        limit: usize,
    ) -> io::Result<Vec<GroupKey>> {
        let of_queue = self.groups.keys().filter(|(of, _)| *of == queue).map(|(_, group)| *group);
        Ok(of_queue.filter(|group| after.is_none_or(|it| *group > it)).take(limit).collect())
    }

    fn attempt(
        &self,
        queue: QueueId,
        period: u64,
        key: DedupKey,
    ) -> io::Result<Option<AttemptRow>> {
        Ok(self.attempts.get(&(queue, period, key)).cloned())
    }

    fn dedup_rows(&self) -> io::Result<Vec<(u64, u64, DedupRow)>> {
        Ok(self.dedup.iter().map(|(&(session, block), &row)| (session, block, row)).collect())
    }
}

impl Write for MemBatch {
    fn put_message(&mut self, queue: QueueId, seq: Seq, message: &Message) {
        self.rows.push(Row::PutMessage(queue, seq, message.clone()));
    }

    fn remove_message(&mut self, queue: QueueId, seq: Seq) {
        self.rows.push(Row::RemoveMessage(queue, seq));
    }

    fn put_hidden(&mut self, queue: QueueId, seq: Seq, row: &Hidden) {
        self.rows.push(Row::PutHidden(queue, seq, *row));
    }

    fn remove_hidden(&mut self, queue: QueueId, seq: Seq, revision: u32) {
        self.rows.push(Row::RemoveHidden(queue, seq, revision));
    }

    fn clear_below(&mut self, queue: QueueId, below: Seq) {
        self.rows.push(Row::ClearBelow(queue, below));
    }

    fn put_shard(&mut self, row: &ShardRow) {
        self.rows.push(Row::PutShard(*row));
    }

    fn put_queue(&mut self, queue: QueueId, row: &QueueRow) {
        self.rows.push(Row::PutQueue(queue, *row));
    }

    fn remove_queue(&mut self, queue: QueueId) {
        self.rows.push(Row::RemoveQueue(queue));
    }

    fn put_original(&mut self, queue: QueueId, period: u64, key: DedupKey, row: &OriginalRow) {
        self.rows.push(Row::PutOriginal(queue, period, key, *row));
    }

    fn put_attempt(&mut self, queue: QueueId, period: u64, key: DedupKey, row: &AttemptRow) {
        self.rows.push(Row::PutAttempt(queue, period, key, row.clone()));
    }

    fn clear_originals(&mut self, queue: QueueId, before_period: u64) {
        self.rows.push(Row::ClearOriginals(queue, before_period));
    }

    fn put_group(&mut self, queue: QueueId, group: GroupKey, messages: u64) {
        self.rows.push(Row::PutGroup(queue, group, messages));
    }

    fn remove_group(&mut self, queue: QueueId, group: GroupKey) {
        self.rows.push(Row::RemoveGroup(queue, group));
    }

    fn clear_groups(&mut self, queue: QueueId) {
        self.rows.push(Row::ClearGroups(queue));
    }

    fn put_dedup(&mut self, session: u64, block: u64, row: &DedupRow) {
        self.rows.push(Row::PutDedup(session, block, *row));
    }

    fn remove_dedup(&mut self, session: u64, block: u64) {
        self.rows.push(Row::RemoveDedup(session, block));
    }
}
