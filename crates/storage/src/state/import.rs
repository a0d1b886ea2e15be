//! A group's state on its way in.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use flotilla_probe::failable;
use flotilla_types::ids::Seq;
use flotilla_types::limits::LINK_FRAME_BYTES_MAX;
use flotilla_wire::proto::state::{StateChunk, StateRow, StateTable, StateTotals};
use prost::Message as _;
use rocksdb::WriteBatch;

use super::db::Shared;
use super::error::invalid;
use super::export::CHUNK_FORMAT;
use super::group::Current;
use super::keys::{self, KeySpace, MetaKey};
use super::options::Table;
use super::values::{self, BadValue};

/// A replacement of a group's state under way. It goes into an incarnation of its own, so the
/// present state is untouched until [`Import::finish`], and dropping the import removes what came
/// so far. All calls wait for the disk: for a blocking thread.
pub struct Import {
    shared: Arc<Shared>,
    target: KeySpace,
    current: Arc<Current>,
    progress: Progress,
    finished: bool,
}

/// What has arrived. Decides on its own what may come next.
#[derive(Default)]
struct Progress {
    next_number: u32,
    applied: Option<Bytes>,
    totals: StateTotals,
    last_key: Option<(Table, Bytes)>,
    complete: bool,
    failed: bool,
}

impl Import {
    pub(super) fn new(shared: Arc<Shared>, target: KeySpace, current: Arc<Current>) -> Import {
        Import { shared, target, current, progress: Progress::default(), finished: false }
    }

    /// Takes the next chunk. After an error the import is of no use any more.
    ///
    /// # Errors
    /// `InvalidData` when the chunk is damaged, of an unknown format, out of order, or holds a row
    /// that no store of this format has; otherwise when the store cannot be written.
    pub fn chunk(&mut self, chunk: Bytes) -> io::Result<()> {
        let taken = self.take(chunk);
        self.progress.failed |= taken.is_err();
        taken
    }

    fn take(&mut self, chunk: Bytes) -> io::Result<()> {
        let rows = self.progress.accept(chunk).map_err(|why| self.refused(why))?;
        let mut batch = WriteBatch::default();
        for (table, row) in rows {
            let key = [&self.target.prefix()[..], &row.key].concat();
            batch.put_cf(self.shared.cf(table, self.target.group), key, row.value);
        }
        self.shared.write(batch)
    }

    /// Whether the chunk with the totals has arrived and they are right.
    pub fn is_complete(&self) -> bool {
        self.progress.complete && !self.progress.failed
    }

    /// The applied record of the exporting replica that belongs to the rows; known after the first
    /// chunk.
    pub fn exported_applied(&self) -> Option<&Bytes> {
        self.progress.applied.as_ref()
    }

    /// Makes the imported state, with this applied record, the group's state. On return it is
    /// durable. A crash at any point leaves the old state or the new one, whole.
    ///
    /// # Errors
    /// `InvalidData` when the import is incomplete or has failed: the old state stays. Otherwise
    /// when the store cannot be written or flushed: which of the two is current shows after the
    /// restart that must follow.
    pub fn finish(mut self, applied: Bytes) -> io::Result<()> {
        if !self.is_complete() {
            return Err(self.refused("it is incomplete or has failed"));
        }
        // First, so that a full disk shows while the old state is still the current one.
        self.shared.flush()?;
        failable!(SnapshotSwitch)?;
        // From here on the rows may be the current state: not to be removed on drop.
        self.finished = true;
        let KeySpace { group, incarnation } = self.target;
        self.shared.switch_incarnation(group, incarnation, Some(&applied), &self.current)
    }

    fn refused(&self, why: &str) -> io::Error {
        let number = self.progress.next_number;
        invalid(format_args!("import of group {}, chunk {number}: {why}", self.target.group))
    }
}

impl Drop for Import {
    fn drop(&mut self) {
        if !self.finished {
            let KeySpace { group, incarnation } = self.target;
            if let Err(err) = self.shared.remove_incarnations(group, incarnation, incarnation) {
                // The next open removes them.
                tracing::warn!(%group, %err, "rows of an abandoned import stay for now");
            }
        }
    }
}

impl Progress {
    /// The chunk's rows, when it is the one that may come now.
    fn accept(&mut self, chunk: Bytes) -> Result<Vec<(Table, StateRow)>, &'static str> {
        let chunk = open(chunk)?;
        if self.failed {
            return Err("an earlier one was refused");
        }
        if self.complete {
            return Err("it comes after the last");
        }
        if chunk.number != self.next_number {
            return Err("it is not the next one");
        }
        if chunk.number == 0 {
            self.applied = chunk.applied;
        } else if chunk.applied.is_some() {
            return Err("only the first one holds the applied record");
        }
        let mut rows = Vec::with_capacity(chunk.rows.len());
        for row in chunk.rows {
            rows.push((self.row(&row)?, row));
        }
        if let Some(totals) = chunk.totals {
            if totals != self.totals {
                return Err("the totals are not those of what came");
            }
            self.complete = true;
        }
        self.next_number += 1;
        Ok(rows)
    }

    fn row(&mut self, row: &StateRow) -> Result<Table, &'static str> {
        let table = match row.table() {
            StateTable::Meta => Table::Meta,
            StateTable::Message => Table::Message,
            StateTable::Hidden => Table::Hidden,
            StateTable::Unspecified => return Err("a row is of no known table"),
        };
        let place = (table, row.key.clone());
        // Also what makes every key come once, which SingleDelete needs.
        if self.last_key.as_ref().is_some_and(|last| *last >= place) {
            return Err("a row is out of order");
        }
        if !is_row(table, &row.key, &row.value) {
            return Err("a row is malformed");
        }
        self.last_key = Some(place);
        self.totals.rows += 1;
        self.totals.bytes += (row.key.len() + row.value.len()) as u64;
        Ok(table)
    }
}

fn open(mut chunk: Bytes) -> Result<StateChunk, &'static str> {
    // Rows fill a chunk to 1 MiB, and the largest row is a message: anything longer is not ours.
    if chunk.len() > LINK_FRAME_BYTES_MAX {
        return Err("it is too long");
    }
    let body_bytes = chunk.len().checked_sub(4).ok_or("it is too short")?;
    let crc = chunk.split_off(body_bytes);
    if crc32fast::hash(&chunk).to_be_bytes() != *crc {
        return Err("its checksum does not match");
    }
    let chunk = StateChunk::decode(chunk).map_err(|_| "it is not protobuf")?;
    if chunk.format == CHUNK_FORMAT { Ok(chunk) } else { Err("its format is not known") }
}

/// Whether key and value are such as this store writes into the table.
fn is_row(table: Table, key: &[u8], value: &[u8]) -> bool {
    match table {
        Table::Message => {
            keys::decode_message(key).is_some()
                && values::decode_message_head(Seq(0), value).is_ok()
        }
        Table::Hidden => keys::decode_hidden(key)
            .is_some_and(|(_, _, revision)| values::decode_hidden(revision, value).is_ok()),
        Table::Meta => keys::decode_meta(key).is_some_and(|key| is_meta_row(key, value).is_ok()),
    }
}

fn is_meta_row(key: MetaKey<'_>, value: &[u8]) -> Result<(), BadValue> {
    match key {
        MetaKey::Shard => values::decode_shard(value).map(drop),
        MetaKey::Queue(_) => values::decode_queue(value).map(drop),
        MetaKey::Dedup { .. } => values::decode_dedup(value).map(drop),
        MetaKey::Original => values::decode_original(value).map(drop),
        MetaKey::Attempt => values::decode_attempt(value).map(drop),
        MetaKey::MessageGroup(..) => values::decode_message_group(value).map(drop),
        // Opaque here; the catalog checks its own rows.
        MetaKey::Catalog(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::export::seal;
    use super::*;
    use flotilla_queue::store::ShardRow;
    use flotilla_types::ids::{GroupId, QueueId};

    const SPACE: KeySpace = KeySpace { group: GroupId(1), incarnation: 1 };

    fn hidden(seq: u64) -> StateRow {
        let row = flotilla_queue::store::Hidden {
            revision: 1,
            visible_at_ms: 2,
            receive_count: 3,
            first_received_ms: 4,
            group: None,
            received_ms: 5,
        };
        StateRow {
            table: StateTable::Hidden.into(),
            key: Bytes::copy_from_slice(&SPACE.hidden(QueueId(1), Seq(seq), 1)[8..]),
            value: Bytes::copy_from_slice(&values::encode_hidden(&row)),
        }
    }

    fn chunk(rows: Vec<StateRow>) -> StateChunk {
        StateChunk { format: CHUNK_FORMAT, rows, ..StateChunk::default() }
    }

    fn accept(chunk: &StateChunk) -> Result<usize, &'static str> {
        Progress::default().accept(seal(chunk)).map(|rows| rows.len())
    }

    #[test]
    fn rows_come_in_order_and_once() {
        assert_eq!(accept(&chunk(vec![hidden(1), hidden(2)])), Ok(2));
        assert_eq!(accept(&chunk(vec![hidden(2), hidden(1)])), Err("a row is out of order"));
        assert_eq!(accept(&chunk(vec![hidden(1), hidden(1)])), Err("a row is out of order"));
        let shard = StateRow {
            table: StateTable::Meta.into(),
            key: Bytes::copy_from_slice(&SPACE.shard()[8..]),
            value: Bytes::copy_from_slice(&values::encode_shard(&ShardRow::default())),
        };
        assert_eq!(accept(&chunk(vec![shard.clone(), hidden(1)])), Ok(2));
        assert_eq!(accept(&chunk(vec![hidden(1), shard])), Err("a row is out of order"));
    }

    #[test]
    fn rows_no_store_has_are_refused() {
        let mut row = hidden(1);
        row.table = 0;
        assert_eq!(accept(&chunk(vec![row])), Err("a row is of no known table"));
        let mut row = hidden(1);
        row.table = 77;
        assert_eq!(accept(&chunk(vec![row])), Err("a row is of no known table"));
        let mut row = hidden(1);
        row.table = StateTable::Message.into();
        assert_eq!(accept(&chunk(vec![row])), Err("a row is malformed"));
        let mut row = hidden(1);
        row.value.truncate(28);
        assert_eq!(accept(&chunk(vec![row])), Err("a row is malformed"));
        let mut row = hidden(1);
        row.key.truncate(19);
        assert_eq!(accept(&chunk(vec![row])), Err("a row is malformed"));
    }

    #[test]
    fn chunks_of_another_format_or_place_are_refused() {
        let good = chunk(vec![]);
        assert_eq!(
            accept(&StateChunk { format: 2, ..good.clone() }),
            Err("its format is not known")
        );
        assert_eq!(
            accept(&StateChunk { number: 1, ..good.clone() }),
            Err("it is not the next one")
        );
        let mut progress = Progress::default();
        progress.accept(seal(&good)).unwrap();
        let again = StateChunk { number: 1, applied: Some(Bytes::new()), ..good.clone() };
        assert!(progress.accept(seal(&again)).is_err());
        let wrong = StateTotals { rows: 1, bytes: 0 };
        let last = StateChunk { totals: Some(wrong), ..good };
        assert_eq!(accept(&last), Err("the totals are not those of what came"));
    }

    #[test]
    fn bytes_that_are_no_chunk_are_refused() {
        let mut progress = Progress::default();
        let with_crc =
            |body: &[u8]| Bytes::from([body, &crc32fast::hash(body).to_be_bytes()].concat());
        for len in 0..4 {
            let short = Bytes::from(vec![0; len]);
            assert_eq!(progress.accept(short).err(), Some("it is too short"));
        }
        // A length that promises more than there is.
        let long_row = with_crc(&[0x22, 0xff, 0xff, 0xff, 0xff, 0x0f]);
        assert_eq!(progress.accept(long_row).err(), Some("it is not protobuf"));
        let long = Bytes::from(vec![0; LINK_FRAME_BYTES_MAX + 1]);
        assert_eq!(progress.accept(long).err(), Some("it is too long"));
    }
}
