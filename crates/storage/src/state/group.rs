//! One group's part of the store.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use flotilla_probe::failable;
use flotilla_queue::store::{
    AttemptRow, DedupRow, Hidden, Message, MessageHead, OriginalRow, QueueRow, Read, ShardRow,
};
use flotilla_types::ids::{DedupKey, GroupId, GroupKey, QueueId, Seq};
use parking_lot::Mutex;
use rocksdb::ReadOptions;

use super::batch::GroupBatch;
use super::db::Shared;
use super::error::invalid;
use super::export::Export;
use super::import::Import;
use super::keys::{self, KeyRange, KeySpace, MetaKey, SPACE_BYTES};
use super::options::Table;
use super::recent::{AHEAD_BYTES_MAX, AHEAD_ROWS_MAX, Recent};
use super::values::{self, BadValue};

/// The store reads a message's content along with its head: a scan over large ones ends after so
/// much, because the shard stands still meanwhile.
const SCAN_BYTES_MAX: usize = 1024 * 1024;

/// One group's rows. Clones are handles to the same rows, before and after an import.
#[derive(Clone)]
pub struct GroupState {
    shared: Arc<Shared>,
    id: GroupId,
    current: Arc<Current>,
}

/// What all handles of a group share.
pub(super) struct Current {
    pub(super) incarnation: AtomicU32,
    pub(super) recent: Mutex<Recent>,
}

impl Current {
    pub(super) fn new(incarnation: u32) -> Current {
        Current { incarnation: AtomicU32::new(incarnation), recent: Mutex::default() }
    }
}

impl GroupState {
    pub(super) fn new(shared: Arc<Shared>, id: GroupId, current: Arc<Current>) -> GroupState {
        GroupState { shared, id, current }
    }

    /// Which group this is.
    pub fn id(&self) -> GroupId {
        self.id
    }

    /// An empty batch for [`GroupState::commit`].
    pub fn batch(&self) -> GroupBatch {
        GroupBatch::new(Arc::clone(&self.shared), self.space())
    }

    /// Makes a batch visible, all of it at once. It is durable after a later flush, not now.
    ///
    /// Memory only, unless the disk has fallen behind by several memory budgets: then it waits
    /// ([`StateDb::write_stopped`](super::StateDb::write_stopped) tells beforehand).
    ///
    /// # Errors
    /// When an earlier flush failed (nothing can be committed any more; the process must stop), or
    /// the batch is from before an import or a wipe, or of another group (`InvalidInput`).
    pub fn commit(&self, batch: GroupBatch) -> io::Result<()> {
        let space = batch.space();
        if space != self.space() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("state store, group {}: the batch was staged for {space:?}", self.id),
            ));
        }
        failable!(StateCommit)?;
        let changes = batch.commit()?;
        if !changes.is_empty() {
            self.current.recent.lock().apply(changes);
        }
        Ok(())
    }

    /// The applied record as last committed, flushed or not; `None` when none ever was.
    ///
    /// # Errors
    /// When the disk fails or a checksum does not match (`InvalidData`).
    pub fn applied(&self) -> io::Result<Option<Bytes>> {
        self.shared.get_applied(self.id)
    }

    /// All catalog rows, ascending by key.
    ///
    /// # Errors
    /// As [`GroupState::applied`].
    pub fn catalog_rows(&self) -> io::Result<Vec<(Bytes, Bytes)>> {
        let mut rows = Vec::new();
        self.scan(Table::Meta, self.space().catalogs(), usize::MAX, |suffix, value| {
            let Some(MetaKey::Catalog(key)) = keys::decode_meta(suffix) else {
                return Err(BadValue::Field);
            };
            rows.push((Bytes::copy_from_slice(key), Bytes::copy_from_slice(value)));
            Ok(())
        })?;
        Ok(rows)
    }

    /// The group's state as it is now, in chunks for another replica's
    /// [`GroupState::import`]. Later commits do not show. While it lives, the disk space of what
    /// is removed meanwhile is not given back: keep it short.
    ///
    /// # Errors
    /// When no thread can be started or the applied record cannot be read.
    pub fn export(&self) -> io::Result<Export> {
        Export::start(Arc::clone(&self.shared), self.id)
    }

    /// Starts replacing the group's state by an export of another replica. The present state
    /// stays what it is, readable, until [`Import::finish`]; the caller sees to it that nothing is
    /// committed meanwhile and that there is one import of a group at a time.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn import(&self) -> io::Result<Import> {
        let incarnation = self.shared.allot_incarnation(self.id)?;
        let target = KeySpace { group: self.id, incarnation };
        Ok(Import::new(Arc::clone(&self.shared), target, Arc::clone(&self.current)))
    }

    /// Removes everything of the group, its applied record included. Durable on return; a crash
    /// before leaves either everything or nothing. Blocks on a flush.
    ///
    /// # Errors
    /// When the store cannot be written or flushed.
    pub fn wipe(&self) -> io::Result<()> {
        let fresh = self.shared.allot_incarnation(self.id)?;
        self.shared.switch_incarnation(self.id, fresh, None, &self.current)
    }

    fn space(&self) -> KeySpace {
        KeySpace { group: self.id, incarnation: self.current.incarnation.load(Ordering::Acquire) }
    }

    /// Calls `row` with key (without prefix) and value of up to `limit` rows of a range.
    fn scan(
        &self,
        table: Table,
        range: KeyRange,
        limit: usize,
        mut row: impl FnMut(&[u8], &[u8]) -> Result<(), BadValue>,
    ) -> io::Result<()> {
        self.scan_while(table, range, limit, |key, value| row(key, value).map(|()| true))
    }

    /// The same until a row says that it is enough.
    fn scan_while(
        &self,
        table: Table,
        range: KeyRange,
        limit: usize,
        mut row: impl FnMut(&[u8], &[u8]) -> Result<bool, BadValue>,
    ) -> io::Result<()> {
        let mut options = ReadOptions::default();
        // Without the bound, a scan that ends at the last row would walk over the removals behind.
        options.set_iterate_upper_bound(range.to);
        let mut rows =
            self.shared.db().raw_iterator_cf_opt(self.shared.cf(table, self.id), options);
        rows.seek(&range.from);
        for _ in 0..limit {
            let Some((key, value)) = rows.item() else {
                break;
            };
            let suffix = key.get(SPACE_BYTES..).unwrap_or_default();
            if !row(suffix, value).map_err(|err| self.bad(table, suffix, err))? {
                break;
            }
            rows.next();
        }
        rows.status().map_err(self.shared.failed(format_args!(
            "group {}, {}",
            self.id,
            table.name()
        )))
    }

    fn get<T>(
        &self,
        table: Table,
        key: &[u8],
        decode: impl FnOnce(&[u8]) -> Result<T, BadValue>,
    ) -> io::Result<Option<T>> {
        let value = self.shared.db().get_pinned_cf(self.shared.cf(table, self.id), key);
        let value = value.map_err(self.shared.failed(format_args!(
            "group {}, {}",
            self.id,
            table.name()
        )))?;
        value
            .map(|value| decode(&value).map_err(|err| self.bad(table, &key[SPACE_BYTES..], err)))
            .transpose()
    }

    /// A message, and its successors into memory.
    fn message_and_ahead(&self, queue: QueueId, seq: Seq) -> io::Result<Option<Message>> {
        let mut found = None;
        let mut content_bytes = 0;
        let mut recent = self.current.recent.lock();
        let range = self.space().messages_from(queue, seq);
        self.scan_while(Table::Message, range, AHEAD_ROWS_MAX, |suffix, value| {
            let (_, at) = keys::decode_message(suffix).ok_or(BadValue::Field)?;
            let message = values::decode_message(value)?;
            content_bytes += message.content.len();
            if at == seq {
                found = Some(message.clone());
            }
            recent.insert(queue, at, message);
            Ok(content_bytes < AHEAD_BYTES_MAX)
        })?;
        Ok(found)
    }

    fn bad(&self, table: Table, suffix: &[u8], err: BadValue) -> io::Error {
        let (id, table) = (self.id, table.name());
        invalid(format_args!("group {id}, {table}, row {}: {err}", suffix.escape_ascii()))
    }
}

impl Read for GroupState {
    fn message(&self, queue: QueueId, seq: Seq) -> io::Result<Option<Message>> {
        let ahead = {
            let mut recent = self.current.recent.lock();
            if let Some(message) = recent.get(queue, seq) {
                return Ok(Some(message));
            }
            recent.missed_in_sequence(queue, seq)
        };
        if ahead {
            return self.message_and_ahead(queue, seq);
        }
        self.get(Table::Message, &self.space().message(queue, seq), values::decode_message)
    }

    fn messages_from(
        &self,
        queue: QueueId,
        from: Seq,
        limit: usize,
    ) -> io::Result<Vec<MessageHead>> {
        let mut heads = Vec::new();
        let mut read_bytes = 0;
        let range = self.space().messages_from(queue, from);
        self.scan_while(Table::Message, range, limit, |suffix, value| {
            let (_, seq) = keys::decode_message(suffix).ok_or(BadValue::Field)?;
            heads.push(values::decode_message_head(seq, value)?);
            read_bytes += value.len();
            Ok(read_bytes < SCAN_BYTES_MAX)
        })?;
        Ok(heads)
    }

    fn shard_row(&self) -> io::Result<Option<ShardRow>> {
        self.get(Table::Meta, &self.space().shard(), values::decode_shard)
    }

    fn queue_rows(&self) -> io::Result<Vec<(QueueId, QueueRow)>> {
        let mut rows = Vec::new();
        self.scan(Table::Meta, self.space().queues(), usize::MAX, |suffix, value| {
            let Some(MetaKey::Queue(queue)) = keys::decode_meta(suffix) else {
                return Err(BadValue::Field);
            };
            rows.push((queue, values::decode_queue(value)?));
            Ok(())
        })?;
        Ok(rows)
    }

    fn hidden_rows(&self, queue: QueueId) -> io::Result<Vec<(Seq, Hidden)>> {
        let mut rows = Vec::new();
        let range = self.space().hidden_rows(queue);
        self.scan(Table::Hidden, range, usize::MAX, |suffix, value| {
            let (_, seq, revision) = keys::decode_hidden(suffix).ok_or(BadValue::Field)?;
            rows.push((seq, values::decode_hidden(revision, value)?));
            Ok(())
        })?;
        Ok(rows)
    }

    fn original(
        &self,
        queue: QueueId,
        period: u64,
        key: DedupKey,
    ) -> io::Result<Option<OriginalRow>> {
        let key = self.space().original(queue, period, key);
        self.get(Table::Meta, &key, values::decode_original)
    }

    fn group_messages(&self, queue: QueueId, group: GroupKey) -> io::Result<Option<u64>> {
        // Held while the store is asked: what a commit says meanwhile must not be overwritten by what was there before.
        let mut recent = self.current.recent.lock();
        if let Some(known) = recent.tallies.get(queue, group) {
            return Ok(known);
        }
        let key = self.space().message_group(queue, group.0.get());
        let stored = self.get(Table::Meta, &key, values::decode_message_group)?;
        recent.tallies.note(queue, group, stored);
        Ok(stored)
    }

    fn groups_after(
        &self,
        queue: QueueId,
        after: Option<GroupKey>,
        limit: usize,
    ) -> io::Result<Vec<GroupKey>> {
        let mut groups = Vec::new();
        let range = self.space().message_groups(queue, after);
        self.scan(Table::Meta, range, limit, |suffix, _| {
            let Some(MetaKey::MessageGroup(_, group)) = keys::decode_meta(suffix) else {
                return Err(BadValue::Field);
            };
            groups.push(group);
            Ok(())
        })?;
        Ok(groups)
    }

    fn attempt(
        &self,
        queue: QueueId,
        period: u64,
        key: DedupKey,
    ) -> io::Result<Option<AttemptRow>> {
        let key = self.space().attempt(queue, period, key);
        self.get(Table::Meta, &key, values::decode_attempt)
    }

    fn dedup_rows(&self) -> io::Result<Vec<(u64, u64, DedupRow)>> {
        let mut rows = Vec::new();
        self.scan(Table::Meta, self.space().dedups(), usize::MAX, |suffix, value| {
            let Some(MetaKey::Dedup { session, block }) = keys::decode_meta(suffix) else {
                return Err(BadValue::Field);
            };
            rows.push((session, block, values::decode_dedup(value)?));
            Ok(())
        })?;
        Ok(rows)
    }
}
