//! The store of one node: opening, flushing, measuring. What a group does with it is in `group`.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use flotilla_probe::{failable, failpoint};
use flotilla_types::ids::GroupId;
use parking_lot::Mutex;
use rocksdb::{
    BottommostLevelCompaction, ColumnFamily, CompactOptions, DB, FlushOptions, ReadOptions,
    ReadTier, WaitForCompactOptions, WriteBatch, WriteOptions,
};

use super::damage::{self, DamageNote};
use super::error::{failed, invalid, unsupported};
use super::group::{Current, GroupState};
use super::keys::{self, KeyRange};
use super::options::{StateOptions, Table};
use super::recent::Recent;
use super::values::{self, IncarnationRow};

/// In the default column family.
const FORMAT_KEY: &[u8] = b"format";
/// Layout of keys, values and column families. A change that an older build cannot read gets the
/// next number.
const FORMAT: &[u8] = b"flotilla state 2";

/// Fewer removed messages are not worth a compaction.
const TRIM_REMOVALS_MIN: u64 = 10_000;

/// 1 while it is so.
const WRITE_STOPPED: &str = "rocksdb.is-write-stopped";

/// The state store of one node. Clones are handles to the same store, which closes when the last
/// handle, group, batch, export and import is gone.
#[derive(Clone)]
pub struct StateDb {
    shared: Arc<Shared>,
}

/// What all handles share.
pub(super) struct Shared {
    db: DB,
    no_wal: WriteOptions,
    /// Current incarnations of the groups that were asked for. The lock also orders changes of
    /// incarnation rows.
    incarnations: Mutex<HashMap<GroupId, Arc<Current>>>,
    /// Ranges that were removed as such and whose room was not asked for yet.
    cleared: Mutex<Vec<(GroupId, Table, KeyRange)>>,
    damage: DamageNote,
}

impl StateDb {
    /// Opens the store as [`StateDb::open`] does. One that is damaged, or that was found to be while it
    /// was open before, is put aside, and an empty one takes its place; what was found is returned.
    ///
    /// # Errors
    /// As [`StateDb::open`], but for damage.
    pub fn open_or_replace(
        dir: &Path,
        options: &StateOptions,
    ) -> io::Result<(StateDb, Option<String>)> {
        let found = match damage::noted(dir) {
            Some(found) => found,
            None => match StateDb::open(dir, options.clone()) {
                Ok(store) => return Ok((store, None)),
                Err(error) if error.kind() == io::ErrorKind::InvalidData => error.to_string(),
                Err(error) => return Err(error),
            },
        };
        damage::put_aside(dir)?;
        Ok((StateDb::open(dir, options.clone())?, Some(found)))
    }

    /// Removes the damaged store that this one took the place of.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn forget_damaged(dir: &Path) -> io::Result<()> {
        damage::remove_aside(dir)
    }

    /// What was found to be damaged since the store was opened. It must not be used any more: its owner
    /// ends, and opens it again by [`StateDb::open_or_replace`].
    pub fn damage(&self) -> Option<&str> {
        self.shared.damage.found()
    }

    /// Opens the store in a directory, creating both when absent, and removes what a crash in the
    /// middle of an import or a wipe left over. The directory's own entry is the caller's to sync.
    ///
    /// # Errors
    /// When the directory is in use by another process, cannot be read or written, holds a store
    /// of an unknown format, or holds corrupt data (`InvalidData`).
    pub fn open(dir: &Path, options: StateOptions) -> io::Result<StateDb> {
        let families = options.column_families();
        let db = DB::open_cf_descriptors(&options.database()?, dir, families)
            .map_err(failed(format_args!("opening {}", dir.display())))?;
        let mut no_wal = WriteOptions::default();
        no_wal.disable_wal(true);
        // A batch's keys are mostly neighbours: each insert starts from where the last one ended.
        no_wal.set_memtable_insert_hint_per_batch(true);
        let (incarnations, cleared) = (Mutex::default(), Mutex::default());
        let damage = DamageNote::new(dir);
        let shared = Shared { db, no_wal, incarnations, cleared, damage };
        let store = StateDb { shared: Arc::new(shared) };
        store.check_format(dir)?;
        store.shared.remove_leftovers()?;
        Ok(store)
    }

    /// One group's part of the store; empty when the group was never here. All handles of a group
    /// see the same incarnation.
    ///
    /// # Errors
    /// When the disk fails or its incarnation row is corrupt.
    pub fn group(&self, id: GroupId) -> io::Result<GroupState> {
        let mut incarnations = self.shared.incarnations.lock();
        let current = match incarnations.get(&id) {
            Some(current) => Arc::clone(current),
            None => {
                let row = self.shared.incarnation_row(id)?;
                let current = Arc::new(Current::new(row.current));
                incarnations.insert(id, Arc::clone(&current));
                current
            }
        };
        Ok(GroupState::new(Arc::clone(&self.shared), id, current))
    }

    /// Makes everything committed so far durable, all column families at one position. Returns
    /// when it is. Blocks for as long as the disk needs.
    ///
    /// # Errors
    /// When the disk fails; the store then refuses further commits.
    pub fn flush(&self) -> io::Result<()> {
        self.shared.flush()
    }

    /// The group's applied record as it would be found after a crash at this moment: everything
    /// up to it is on disk in all column families, whether by [`StateDb::flush`] or by memory
    /// pressure. Takes the store's mutex: for a background task.
    ///
    /// # Errors
    /// When the disk fails or a checksum does not match (`InvalidData`).
    pub fn durable_applied(&self, id: GroupId) -> io::Result<Option<Bytes>> {
        let mut options = ReadOptions::default();
        options.set_read_tier(ReadTier::Persisted);
        let cf = self.shared.cf(Table::Meta, id);
        let value = self.shared.db.get_pinned_cf_opt(cf, keys::applied(id), &options);
        let value =
            value.map_err(self.shared.failed(format_args!("durable position of group {id}")))?;
        Ok(value.map(|value| Bytes::copy_from_slice(&value)))
    }

    /// Bytes in memory that are not flushed yet, bookkeeping included.
    pub fn memtable_bytes(&self) -> u64 {
        self.sum_of("rocksdb.cur-size-all-mem-tables")
    }

    /// Bytes of sorted files and blob files. Files that are waiting for a reader to let go of
    /// them count.
    pub fn disk_bytes(&self) -> u64 {
        self.sum_of("rocksdb.total-sst-files-size") + self.sum_of("rocksdb.total-blob-file-size")
    }

    /// Entries in sorted files and how many of them are removals: what scans pay for.
    ///
    /// # Errors
    /// When the store cannot list its files.
    pub fn disk_entries(&self) -> io::Result<(u64, u64)> {
        let files = self.shared.db.live_files().map_err(self.shared.failed("listing files"))?;
        let rows = files.iter().filter(|file| file.column_family_name != "default");
        Ok(rows.fold((0, 0), |(entries, removals), file| {
            (entries + file.num_entries, removals + file.num_deletions)
        }))
    }

    /// Whether a commit would wait now, on its thread, for a flush or a compaction to end.
    pub fn write_stopped(&self) -> bool {
        matches!(self.shared.db.property_int_value(WRITE_STOPPED), Ok(Some(1..)))
    }

    /// Rewrites everything into its smallest form. For tests and maintenance: it reads and writes
    /// the whole store.
    pub fn compact(&self) {
        let mut options = CompactOptions::default();
        options.set_bottommost_level_compaction(BottommostLevelCompaction::Force);
        self.compact_all(&options);
    }

    /// Gives back the room of rows whose removal was flushed: merges all levels into the last one,
    /// beside what the store compacts by itself. The store notices single removals, but what a
    /// removed range covers may otherwise stay for a day. Blocks for as long as that takes.
    pub fn reclaim(&self) {
        self.compact_all(&gentle());
    }

    /// Gives back the room of removed messages once they are as many as those that are there, so
    /// that each message is rewritten about once in its life. Returns whether they were. Blocks for
    /// as long as that takes.
    ///
    /// # Errors
    /// When the store cannot list its files.
    pub fn trim(&self) -> io::Result<bool> {
        let files = self.shared.db.live_files().map_err(self.shared.failed("listing files"))?;
        let mut trimmed = false;
        for family in Table::Message.families() {
            let of_family = files.iter().filter(|file| file.column_family_name == *family);
            let (entries, removals) = of_family.fold((0, 0), |(entries, removals), file| {
                (entries + file.num_entries, removals + file.num_deletions)
            });
            // Of `n` entries with `r` removals, `r` are of removed messages, and `n - 2r` are there.
            if removals >= TRIM_REMOVALS_MIN && removals * 3 >= entries {
                self.shared.compact(family, None, &gentle());
                trimmed = true;
            }
        }
        Ok(trimmed)
    }

    /// Whether messages of a queue were removed all at once since the last
    /// [`StateDb::reclaim_cleared`].
    pub fn has_cleared(&self) -> bool {
        !self.shared.cleared.lock().is_empty()
    }

    /// Gives back the room of messages of queues that were removed all at once, which would
    /// otherwise stay for up to a day. Blocks for as long as a flush and the compaction of these
    /// ranges take.
    ///
    /// # Errors
    /// As [`StateDb::flush`].
    pub fn reclaim_cleared(&self) -> io::Result<()> {
        // Taken first: what comes later may not be flushed here.
        let ranges = std::mem::take(&mut *self.shared.cleared.lock());
        if ranges.is_empty() {
            return Ok(());
        }
        self.flush()?;
        let options = gentle();
        for (group, table, range) in &ranges {
            self.shared.compact(table.family(*group), Some(range), &options);
        }
        Ok(())
    }

    fn compact_all(&self, options: &CompactOptions) {
        for family in families() {
            self.shared.compact(family, None, options);
        }
    }

    /// Waits until no flush and no compaction is running or due. Ends only when commits pause: for
    /// tests and measurements.
    ///
    /// # Errors
    /// When a flush or compaction failed.
    pub fn settle(&self) -> io::Result<()> {
        let options = WaitForCompactOptions::default();
        self.shared
            .db
            .wait_for_compact(&options)
            .map_err(self.shared.failed("waiting for compactions"))
    }

    fn sum_of(&self, property: &str) -> u64 {
        let of = |name| self.shared.db.property_int_value_cf(self.shared.family(name), property);
        families().filter_map(|name| of(name).ok().flatten()).sum()
    }

    /// The record is written before anything else, so a store with rows and without it is not
    /// ours.
    fn check_format(&self, dir: &Path) -> io::Result<()> {
        let db = &self.shared.db;
        match db.get(FORMAT_KEY).map_err(self.shared.failed("format record"))? {
            Some(format) if format == FORMAT => Ok(()),
            Some(format) => Err(unsupported(format_args!(
                "{}: its format is {:?}, this build knows {:?}",
                dir.display(),
                String::from_utf8_lossy(&format),
                String::from_utf8_lossy(FORMAT),
            ))),
            None => {
                for family in families() {
                    if self.shared.any(family, &KeyRange { from: vec![], to: vec![0xff; 64] })? {
                        return Err(invalid(format_args!(
                            "{}: it has rows and no format record",
                            dir.display()
                        )));
                    }
                }
                let mut batch = WriteBatch::default();
                batch.put(FORMAT_KEY, FORMAT);
                self.shared.write(batch)?;
                self.shared.flush()
            }
        }
    }
}

/// All that hold rows.
fn families() -> impl Iterator<Item = &'static str> {
    Table::ALL.into_iter().flat_map(Table::families).copied()
}

/// Beside what the store compacts by itself, and no more than needed.
fn gentle() -> CompactOptions {
    let mut options = CompactOptions::default();
    options.set_exclusive_manual_compaction(false);
    // What only the last level holds is not removed: to rewrite it would win nothing.
    options.set_bottommost_level_compaction(BottommostLevelCompaction::Skip);
    options
}

impl Shared {
    /// As [`failed`]; damage is noted.
    pub(super) fn failed(
        &self,
        what: impl fmt::Display,
    ) -> impl FnOnce(rocksdb::Error) -> io::Error {
        move |err| {
            let err = failed(what)(err);
            if err.kind() == io::ErrorKind::InvalidData {
                self.damage.note(&err);
            }
            err
        }
    }

    pub(super) fn note_cleared(&self, group: GroupId, ranges: Vec<(Table, KeyRange)>) {
        let of_group = ranges.into_iter().map(|(table, range)| (group, table, range));
        self.cleared.lock().extend(of_group);
    }

    fn compact(&self, family: &str, range: Option<&KeyRange>, options: &CompactOptions) {
        let (from, to) = range.map(|range| (&range.from, &range.to)).unzip();
        self.db.compact_range_cf_opt(self.family(family), from, to, options);
    }

    pub(super) fn db(&self) -> &DB {
        &self.db
    }

    /// Where a group's rows of a table are.
    pub(super) fn cf(&self, table: Table, group: GroupId) -> &ColumnFamily {
        self.family(table.family(group))
    }

    fn family(&self, name: &str) -> &ColumnFamily {
        self.db.cf_handle(name).expect("every family was named when the store was opened")
    }

    /// One atomic write without write-ahead log.
    pub(super) fn write(&self, batch: WriteBatch) -> io::Result<()> {
        self.db.write_opt(batch, &self.no_wal).map_err(self.failed("writing a batch"))
    }

    pub(super) fn flush(&self) -> io::Result<()> {
        let default = self.db.cf_handle("default").expect("every store has it");
        let mut families = vec![default];
        families.extend(self::families().map(|name| self.family(name)));
        // All of them by name: a flush of fewer would not be a position.
        let families: Vec<_> = families.iter().collect();
        let options = FlushOptions::default();
        failable!(StateFlush)?;
        self.db.flush_cfs_opt(&families, &options).map_err(self.failed("flushing"))?;
        failpoint!(StateFlushed);
        Ok(())
    }

    pub(super) fn get_applied(&self, id: GroupId) -> io::Result<Option<Bytes>> {
        let value = self.db.get_pinned_cf(self.cf(Table::Meta, id), keys::applied(id));
        let value = value.map_err(self.failed(format_args!("applied record of group {id}")))?;
        Ok(value.map(|value| Bytes::copy_from_slice(&value)))
    }

    fn incarnation_row(&self, id: GroupId) -> io::Result<IncarnationRow> {
        let what = format!("incarnation row of group {id}");
        let value = self.db.get_pinned_cf(self.cf(Table::Meta, id), keys::incarnation(id));
        match value.map_err(self.failed(&what))? {
            Some(value) => values::decode_incarnation(&value)
                .map_err(|err| invalid(format_args!("{what}: {err}"))),
            None => Ok(IncarnationRow::FIRST),
        }
    }

    /// Takes an incarnation that was never used. The row precedes everything written under it, so
    /// a flush that holds any of that also holds the row, and the next open knows what to remove.
    pub(super) fn allot_incarnation(&self, id: GroupId) -> io::Result<u32> {
        let _order = self.incarnations.lock();
        let row = self.incarnation_row(id)?;
        let next = row.next.checked_add(1).ok_or_else(|| invalid("incarnations are used up"))?;
        let mut batch = WriteBatch::default();
        self.put_incarnation(&mut batch, id, IncarnationRow { next, ..row });
        self.write(batch)?;
        Ok(row.next)
    }

    /// Makes another incarnation the current one, with this applied record, durably; then removes
    /// the one it replaces.
    pub(super) fn switch_incarnation(
        &self,
        id: GroupId,
        to: u32,
        applied: Option<&[u8]>,
        current: &Current,
    ) -> io::Result<()> {
        let order = self.incarnations.lock();
        let row = self.incarnation_row(id)?;
        let mut batch = WriteBatch::default();
        self.put_incarnation(&mut batch, id, IncarnationRow { current: to, ..row });
        match applied {
            Some(record) => batch.put_cf(self.cf(Table::Meta, id), keys::applied(id), record),
            None => batch.delete_cf(self.cf(Table::Meta, id), keys::applied(id)),
        }
        self.write(batch)?;
        current.incarnation.store(to, Ordering::Release);
        *current.recent.lock() = Recent::default();
        drop(order);
        self.flush()?;
        self.remove_incarnations(id, row.current, row.current)
    }

    fn put_incarnation(&self, batch: &mut WriteBatch, id: GroupId, row: IncarnationRow) {
        let value = values::encode_incarnation(row);
        batch.put_cf(self.cf(Table::Meta, id), keys::incarnation(id), value);
    }

    /// Removes the rows of the incarnations `first..=last`. Not durable, and need not be: the next
    /// open does it again.
    pub(super) fn remove_incarnations(&self, id: GroupId, first: u32, last: u32) -> io::Result<()> {
        let range = keys::spaces(id, first, last);
        let (mut batch, mut cleared) = (WriteBatch::default(), Vec::new());
        for table in Table::ALL {
            let family = table.family(id);
            // A range delete slows reads around it down a little: not for nothing.
            if self.any(family, &range)? {
                batch.delete_range_cf(self.family(family), &range.from, &range.to);
                cleared.push((table, range.clone()));
            }
        }
        if !batch.is_empty() {
            self.write(batch)?;
            self.note_cleared(id, cleared);
        }
        Ok(())
    }

    fn remove_leftovers(&self) -> io::Result<()> {
        for id in self.groups()? {
            let IncarnationRow { current, next } = self.incarnation_row(id)?;
            if current > 1 {
                self.remove_incarnations(id, 1, current - 1)?;
            }
            if current + 1 < next {
                self.remove_incarnations(id, current + 1, next - 1)?;
            }
        }
        Ok(())
    }

    /// Every group with at least one `meta` row, which is every group with rows.
    fn groups(&self) -> io::Result<Vec<GroupId>> {
        let mut groups = Vec::new();
        let mut rows = self.db.raw_iterator_cf(self.family(Table::Meta.name()));
        rows.seek_to_first();
        while let Some(key) = rows.key() {
            let id = keys::group_of(key).ok_or_else(|| invalid("a key without a group"))?;
            groups.push(id);
            match id.0.checked_add(1) {
                Some(next) => rows.seek(next.to_be_bytes()),
                None => break,
            }
        }
        rows.status().map_err(self.failed("listing groups"))?;
        Ok(groups)
    }

    fn any(&self, family: &str, range: &KeyRange) -> io::Result<bool> {
        let mut options = ReadOptions::default();
        options.set_iterate_upper_bound(range.to.as_slice());
        let mut rows = self.db.raw_iterator_cf_opt(self.family(family), options);
        rows.seek(&range.from);
        rows.status().map_err(self.failed(format_args!("looking into {family}")))?;
        Ok(rows.valid())
    }
}
