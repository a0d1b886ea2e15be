//! Staging of one commit.

use std::io;
use std::sync::Arc;

use flotilla_queue::store::{
    AttemptRow, DedupRow, Hidden, Message, OriginalRow, QueueRow, ShardRow, Write,
};
use flotilla_types::ids::{DedupKey, GroupKey, QueueId, Seq};
use rocksdb::WriteBatch;

use super::db::Shared;
use super::keys::{self, KeyRange, KeySpace};
use super::options::Table;
use super::recent::Change;
use super::values;

/// Changes of one group that become visible together in
/// [`commit`](super::GroupState::commit), or not at all.
pub struct GroupBatch {
    shared: Arc<Shared>,
    space: KeySpace,
    writes: WriteBatch,
    /// For what is in memory.
    changes: Vec<Change>,
    /// Where queues' messages were removed all at once.
    cleared: Vec<(Table, KeyRange)>,
    /// A message's value is put together here: the library takes one slice.
    scratch: Vec<u8>,
}

impl GroupBatch {
    pub(super) fn new(shared: Arc<Shared>, space: KeySpace) -> GroupBatch {
        let writes = WriteBatch::default();
        let (changes, cleared, scratch) = Default::default();
        GroupBatch { shared, space, writes, changes, cleared, scratch }
    }

    /// The incarnation it was staged for.
    pub(super) fn space(&self) -> KeySpace {
        self.space
    }

    /// Writes it; what follows for what is in memory.
    pub(super) fn commit(self) -> io::Result<Vec<Change>> {
        self.shared.write(self.writes)?;
        if !self.cleared.is_empty() {
            self.shared.note_cleared(self.space.group, self.cleared);
        }
        Ok(self.changes)
    }

    /// Overwrites the group's applied record: how far it is, whatever the caller puts in.
    pub fn put_applied(&mut self, record: &[u8]) {
        self.put_meta(keys::applied(self.space.group), record);
    }

    /// Overwrites one catalog row.
    pub fn put_catalog_row(&mut self, key: &[u8], value: &[u8]) {
        self.put_meta(self.space.catalog(key), value);
    }

    /// Removes one catalog row, which may be absent.
    pub fn remove_catalog_row(&mut self, key: &[u8]) {
        self.delete_meta(self.space.catalog(key));
    }

    /// Bytes staged so far.
    pub fn size_bytes(&self) -> usize {
        self.writes.size_in_bytes()
    }

    fn put_meta(&mut self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) {
        self.writes.put_cf(self.shared.cf(Table::Meta, self.space.group), key, value);
    }

    fn delete_meta(&mut self, key: impl AsRef<[u8]>) {
        self.writes.delete_cf(self.shared.cf(Table::Meta, self.space.group), key);
    }

    fn clear(&mut self, table: Table, range: &KeyRange) {
        let cf = self.shared.cf(table, self.space.group);
        self.writes.delete_range_cf(cf, &range.from, &range.to);
    }
}

impl Write for GroupBatch {
    fn put_message(&mut self, queue: QueueId, seq: Seq, message: &Message) {
        self.scratch.clear();
        values::encode_message(message, &mut self.scratch);
        let key = self.space.message(queue, seq);
        self.writes.put_cf(self.shared.cf(Table::Message, self.space.group), key, &self.scratch);
        self.changes.extend(Change::put(queue, seq, message));
    }

    fn remove_message(&mut self, queue: QueueId, seq: Seq) {
        let key = self.space.message(queue, seq);
        self.writes.single_delete_cf(self.shared.cf(Table::Message, self.space.group), key);
        self.changes.push(Change::Remove(queue, seq));
    }

    fn put_hidden(&mut self, queue: QueueId, seq: Seq, row: &Hidden) {
        let key = self.space.hidden(queue, seq, row.revision);
        self.writes.put_cf(
            self.shared.cf(Table::Hidden, self.space.group),
            key,
            values::encode_hidden(row),
        );
    }

    fn remove_hidden(&mut self, queue: QueueId, seq: Seq, revision: u32) {
        let key = self.space.hidden(queue, seq, revision);
        self.writes.single_delete_cf(self.shared.cf(Table::Hidden, self.space.group), key);
    }

    fn clear_below(&mut self, queue: QueueId, below: Seq) {
        self.changes.push(Change::Clear);
        let ranges = [
            (Table::Message, self.space.messages_below(queue, below)),
            (Table::Hidden, self.space.hidden_below(queue, below)),
        ];
        ranges.iter().for_each(|(table, range)| self.clear(*table, range));
        self.cleared.extend(ranges);
    }

    fn put_shard(&mut self, row: &ShardRow) {
        let value = values::encode_shard(row);
        self.put_meta(self.space.shard(), value);
    }

    fn put_queue(&mut self, queue: QueueId, row: &QueueRow) {
        let value = values::encode_queue(row);
        self.put_meta(self.space.queue(queue), value);
    }

    fn remove_queue(&mut self, queue: QueueId) {
        self.delete_meta(self.space.queue(queue));
    }

    fn put_original(&mut self, queue: QueueId, period: u64, key: DedupKey, row: &OriginalRow) {
        let value = values::encode_original(row);
        let key = self.space.original(queue, period, key);
        self.put_meta(key, value);
    }

    fn put_attempt(&mut self, queue: QueueId, period: u64, key: DedupKey, row: &AttemptRow) {
        let value = values::encode_attempt(row);
        let key = self.space.attempt(queue, period, key);
        self.put_meta(key, value);
    }

    fn clear_originals(&mut self, queue: QueueId, before_period: u64) {
        self.clear(Table::Meta, &self.space.originals_before(queue, before_period));
        self.clear(Table::Meta, &self.space.attempts_before(queue, before_period));
    }

    fn put_group(&mut self, queue: QueueId, group: GroupKey, messages: u64) {
        let key = self.space.message_group(queue, group.0.get());
        let value = values::encode_message_group(messages);
        self.put_meta(key, value);
        self.changes.push(Change::Group(queue, group, Some(messages)));
    }

    fn remove_group(&mut self, queue: QueueId, group: GroupKey) {
        let key = self.space.message_group(queue, group.0.get());
        self.delete_meta(key);
        self.changes.push(Change::Group(queue, group, None));
    }

    fn clear_groups(&mut self, queue: QueueId) {
        self.clear(Table::Meta, &self.space.message_groups(queue, None));
        self.changes.push(Change::ClearGroups);
    }

    fn put_dedup(&mut self, session: u64, block: u64, row: &DedupRow) {
        let value = values::encode_dedup(row);
        self.put_meta(self.space.dedup(session, block), value);
    }

    fn remove_dedup(&mut self, session: u64, block: u64) {
        self.delete_meta(self.space.dedup(session, block));
    }
}
