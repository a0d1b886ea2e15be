//! A group's state on its way out.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

use bytes::{BufMut, Bytes, BytesMut};
use flotilla_probe::planted;
use flotilla_types::ids::GroupId;
use flotilla_wire::proto::state::{StateChunk, StateRow, StateTable, StateTotals};
use prost::Message as _;
use rocksdb::{DB, ReadOptions, SnapshotWithThreadMode};

use super::db::Shared;
use super::error::invalid;
use super::keys::{self, KeySpace, SPACE_BYTES};
use super::options::Table;
use super::values::{self, IncarnationRow};

/// Version of the chunk format.
pub(super) const CHUNK_FORMAT: u32 = 1;
/// A chunk is sent once it holds this much; one row more than this travels alone.
const CHUNK_BYTES: usize = 1_048_576;

/// The chunks of one group's state at one moment, in order. Ends after the chunk with the totals,
/// or after an error. [`Iterator::next`] waits for the disk: for a blocking thread.
///
/// A thread of its own reads, at most one chunk ahead: a RocksDB snapshot borrows the store, and
/// this is the safe way to let one outlive the call that took it. Dropping the export ends it.
pub struct Export {
    applied: Option<Bytes>,
    chunks: Option<Receiver<io::Result<Bytes>>>,
    reader: Option<JoinHandle<()>>,
}

impl Export {
    pub(super) fn start(shared: Arc<Shared>, id: GroupId) -> io::Result<Export> {
        let (chunks_in, chunks) = sync_channel(1);
        let (ready_in, ready) = sync_channel(1);
        let read = move || {
            let snapshot = shared.db().snapshot();
            let reader = Reader { shared: &shared, snapshot, id, chunks: chunks_in };
            let start = reader.start();
            let applied = start.as_ref().map(|(_, applied)| applied.clone());
            let applied = applied.map_err(|err| io::Error::new(err.kind(), err.to_string()));
            if ready_in.send(applied).is_err() {
                return;
            }
            // An error goes to the consumer; when there is none any more, nobody wants to know.
            if let Err(Stop::Failed(err)) =
                start.map_err(Stop::Failed).and_then(|(space, applied)| reader.run(space, applied))
            {
                let _ = reader.chunks.send(Err(err));
            }
        };
        let reader = thread::Builder::new().name(format!("export-{id}")).spawn(read)?;
        let applied = ready.recv().map_err(|_| io::Error::other("the export's thread died"));
        let mut export = Export { applied: None, chunks: Some(chunks), reader: Some(reader) };
        export.applied = applied??;
        Ok(export)
    }

    /// The applied record that belongs to exactly these rows; `None` when none was committed.
    pub fn applied(&self) -> Option<&Bytes> {
        self.applied.as_ref()
    }
}

impl Iterator for Export {
    type Item = io::Result<Bytes>;

    fn next(&mut self) -> Option<io::Result<Bytes>> {
        self.chunks.as_ref()?.recv().ok()
    }
}

impl Drop for Export {
    fn drop(&mut self) {
        // Closing the channel ends the thread; waiting for it lets go of the store for certain.
        self.chunks = None;
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

/// Why reading ends early.
enum Stop {
    Failed(io::Error),
    Unwanted,
}

struct Reader<'a> {
    shared: &'a Shared,
    snapshot: SnapshotWithThreadMode<'a, DB>,
    id: GroupId,
    chunks: SyncSender<io::Result<Bytes>>,
}

/// The chunk being filled, and what went before.
#[derive(Default)]
struct Progress {
    chunk: StateChunk,
    chunk_bytes: usize,
    totals: StateTotals,
}

impl Reader<'_> {
    /// Incarnation and applied record of the moment the snapshot was taken.
    fn start(&self) -> io::Result<(KeySpace, Option<Bytes>)> {
        let meta = self.shared.cf(Table::Meta, self.id);
        let get = |key: [u8; 9]| {
            let value = self.snapshot.get_pinned_cf(meta, key);
            value.map_err(self.shared.failed(format_args!("export of group {}", self.id)))
        };
        let row = match get(keys::incarnation(self.id))? {
            Some(value) => values::decode_incarnation(&value)
                .map_err(|err| invalid(format_args!("incarnation of group {}: {err}", self.id)))?,
            None => IncarnationRow::FIRST,
        };
        let applied = get(keys::applied(self.id))?.map(|value| Bytes::copy_from_slice(&value));
        Ok((KeySpace { group: self.id, incarnation: row.current }, applied))
    }

    fn run(&self, space: KeySpace, applied: Option<Bytes>) -> Result<(), Stop> {
        let chunk = StateChunk { format: CHUNK_FORMAT, applied, ..StateChunk::default() };
        let mut progress = Progress { chunk, ..Progress::default() };
        for table in Table::ALL {
            self.table(space, table, &mut progress)?;
        }
        progress.chunk.totals = Some(progress.totals);
        self.send(&progress.chunk)
    }

    fn table(&self, space: KeySpace, table: Table, progress: &mut Progress) -> Result<(), Stop> {
        let range = space.all();
        let mut options = ReadOptions::default();
        options.set_iterate_upper_bound(range.to);
        // Read once: it would push what receives need out of the cache.
        options.fill_cache(false);
        options.set_readahead_size(CHUNK_BYTES);
        let mut rows = self.snapshot.raw_iterator_cf_opt(self.shared.cf(table, self.id), options);
        rows.seek(&range.from);
        while let Some((key, value)) = rows.item() {
            let key = &key[SPACE_BYTES..];
            let is_left_out = match key.first().filter(|_| table == Table::Meta) {
                Some(3) => planted!(CommandIdsNotSent),
                Some(5) => planted!(OriginalsNotSent),
                _ => false,
            };
            if is_left_out {
                rows.next();
                continue;
            }
            let row_bytes = key.len() + value.len();
            if progress.chunk_bytes > 0 && progress.chunk_bytes + row_bytes > CHUNK_BYTES {
                self.send(&progress.chunk)?;
                let number = progress.chunk.number + 1;
                progress.chunk =
                    StateChunk { format: CHUNK_FORMAT, number, ..StateChunk::default() };
                progress.chunk_bytes = 0;
            }
            progress.chunk_bytes += row_bytes;
            progress.totals.rows += 1;
            progress.totals.bytes += row_bytes as u64;
            progress.chunk.rows.push(StateRow {
                table: wire_table(table).into(),
                key: Bytes::copy_from_slice(key),
                value: Bytes::copy_from_slice(value),
            });
            rows.next();
        }
        let what = format_args!("export of group {}, {}", self.id, table.name());
        rows.status().map_err(self.shared.failed(what)).map_err(Stop::Failed)
    }

    fn send(&self, chunk: &StateChunk) -> Result<(), Stop> {
        self.chunks.send(Ok(seal(chunk))).map_err(|_| Stop::Unwanted)
    }
}

/// A chunk as it travels: protobuf and its CRC-32.
pub(super) fn seal(chunk: &StateChunk) -> Bytes {
    let mut bytes = BytesMut::with_capacity(chunk.encoded_len() + 4);
    chunk.encode(&mut bytes).expect("the buffer grows");
    let crc = crc32fast::hash(&bytes);
    bytes.put_u32(crc);
    bytes.freeze()
}

fn wire_table(table: Table) -> StateTable {
    match table {
        Table::Meta => StateTable::Meta,
        Table::Message => StateTable::Message,
        Table::Hidden => StateTable::Hidden,
    }
}
