//! Segment files: names, making them, the supply of spare ones.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;

use flotilla_probe::planted;
use parking_lot::{Condvar, Mutex};

use super::format::BLOCK_BYTES;

/// Zeros are written in pieces of this size, each synced by itself, so that making a segment
/// does not hold up the writer's syncs for long.
const FILL_BYTES: usize = 1_048_576;

/// A file of a segment, whatever is in it.
#[derive(Clone)]
pub(super) struct SegmentFile {
    pub(super) path: PathBuf,
    pub(super) file: Arc<File>,
    /// The same file past the page cache, each write durable when it returns; `None` on file
    /// systems that cannot.
    direct: Option<Arc<File>>,
    /// Usable bytes: its length, in whole blocks.
    pub(super) capacity: u64,
}

impl SegmentFile {
    pub(super) fn open(path: PathBuf) -> io::Result<SegmentFile> {
        let file = OpenOptions::new().read(true).write(true).open(&path)?;
        let capacity = file.metadata()?.len() / BLOCK_BYTES as u64 * BLOCK_BYTES as u64;
        let mut options = OpenOptions::new();
        options.write(true).custom_flags(libc::O_DIRECT | libc::O_DSYNC);
        let direct = options.open(&path).ok().map(Arc::new);
        Ok(SegmentFile { path, file: Arc::new(file), direct, capacity })
    }

    /// Writes whole blocks and makes them durable. Past the page cache this costs half the
    /// processor time of a write and a sync: one call, no copy, no dirty pages to look for.
    pub(super) fn write_durably(&self, blocks: &AlignedBlocks, offset: u64) -> io::Result<()> {
        if planted!(SyncSkipped) {
            return self.file.write_all_at(blocks.bytes(), offset);
        }
        match &self.direct {
            Some(direct) => direct.write_all_at(blocks.bytes(), offset),
            None => {
                self.file.write_all_at(blocks.bytes(), offset)?;
                self.file.sync_data()
            }
        }
    }
}

/// A copy of a batch at an address that direct writes accept.
#[derive(Default)]
pub(super) struct AlignedBlocks {
    buffer: Vec<u8>,
    start: usize,
    bytes: usize,
}

impl AlignedBlocks {
    pub(super) fn set(&mut self, bytes: &[u8]) {
        if self.buffer.len() < bytes.len() + BLOCK_BYTES {
            self.buffer = vec![0; (bytes.len() + BLOCK_BYTES).next_power_of_two()];
        }
        // Not moved until the next `set`.
        self.start = self.buffer.as_ptr().align_offset(BLOCK_BYTES);
        self.bytes = bytes.len();
        self.buffer[self.start..self.start + self.bytes].copy_from_slice(bytes);
    }

    fn bytes(&self) -> &[u8] {
        &self.buffer[self.start..self.start + self.bytes]
    }
}

/// A segment in use.
pub(super) struct Segment {
    pub(super) file: SegmentFile,
    /// Its place in the order of segments; every use of a file gets a new one.
    pub(super) generation: u64,
    /// Entries that readers may still ask for, and their payload bytes.
    live_entries: AtomicU64,
    live_bytes: AtomicU64,
}

impl Segment {
    pub(super) fn new(file: SegmentFile, generation: u64) -> Segment {
        Segment { file, generation, live_entries: AtomicU64::new(0), live_bytes: AtomicU64::new(0) }
    }

    pub(super) fn add_live(&self, entries: u64, bytes: u64) {
        self.live_entries.fetch_add(entries, Ordering::Relaxed);
        self.live_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn remove_live(&self, entries: u64, bytes: u64) {
        self.live_entries.fetch_sub(entries, Ordering::Relaxed);
        self.live_bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    pub(super) fn live_entries(&self) -> u64 {
        self.live_entries.load(Ordering::Relaxed)
    }

    pub(super) fn live_bytes(&self) -> u64 {
        self.live_bytes.load(Ordering::Relaxed)
    }
}

/// All segment files of a directory with the numbers in their names.
pub(super) fn list(dir: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut found = Vec::new();
    for item in std::fs::read_dir(dir)? {
        let path = item?.path();
        let number = path
            .file_name()
            .and_then(|name| name.to_str()?.strip_prefix("segment-")?.strip_suffix(".log"))
            .and_then(|number| number.parse().ok());
        if let Some(number) = number {
            found.push((number, path));
        }
    }
    found.sort();
    Ok(found)
}

/// Makes the names in a directory durable.
pub(super) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

fn create(dir: &Path, number: u64, bytes: u64) -> io::Result<SegmentFile> {
    let path = dir.join(format!("segment-{number:06}.log"));
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&path)?;
    let zeros = vec![0; FILL_BYTES.min(bytes as usize)];
    let mut at = 0;
    while at < bytes {
        let piece = &zeros[..zeros.len().min((bytes - at) as usize)];
        file.write_all_at(piece, at)?;
        file.sync_data()?;
        at += piece.len() as u64;
    }
    file.sync_all()?;
    sync_dir(dir)?;
    let file = SegmentFile::open(path)?;
    debug_assert_eq!(file.capacity, bytes, "segments are whole blocks");
    Ok(file)
}

/// Work that the writer thread does not wait for.
pub(super) enum Chore {
    /// Make one spare segment.
    Prepare,
    /// Make a record beside the log durable.
    Sync([Arc<File>; 2]),
    /// Give the disk back.
    Remove(SegmentFile),
}

#[derive(Default)]
struct Supply {
    ready: Vec<SegmentFile>,
    /// Asked for and not made yet.
    coming: usize,
    error: Option<io::Error>,
}

/// Segments written beforehand, ready for use. A thread of its own makes them.
pub(super) struct Spares {
    dir: PathBuf,
    segment_bytes: u64,
    next_number: AtomicU64,
    supply: Mutex<Supply>,
    changed: Condvar,
    chores: Mutex<Option<mpsc::Sender<Chore>>>,
}

impl Spares {
    pub(super) fn new(dir: &Path, segment_bytes: u64, next_number: u64) -> (Spares, Chores) {
        let (sender, receiver) = mpsc::channel();
        let spares = Spares {
            dir: dir.to_owned(),
            segment_bytes,
            next_number: AtomicU64::new(next_number),
            supply: Mutex::default(),
            changed: Condvar::new(),
            chores: Mutex::new(Some(sender)),
        };
        (spares, Chores(receiver))
    }

    pub(super) fn put(&self, file: SegmentFile) {
        self.supply.lock().ready.push(file);
    }

    /// Spare segments, those on the way included.
    pub(super) fn count(&self) -> usize {
        let supply = self.supply.lock();
        supply.ready.len() + supply.coming
    }

    /// Asks for one more spare segment.
    pub(super) fn order(&self) {
        self.supply.lock().coming += 1;
        self.chore(Chore::Prepare);
    }

    /// A spare segment at once, if there is one.
    pub(super) fn try_get(&self) -> Option<SegmentFile> {
        self.supply.lock().ready.pop()
    }

    /// A spare segment, waiting for one to be made if need be.
    pub(super) fn get(&self) -> io::Result<SegmentFile> {
        if self.count() == 0 {
            self.order();
        }
        let mut supply = self.supply.lock();
        loop {
            if let Some(file) = supply.ready.pop() {
                return Ok(file);
            }
            if let Some(error) = supply.error.take() {
                return Err(error);
            }
            self.changed.wait(&mut supply);
        }
    }

    pub(super) fn chore(&self, chore: Chore) {
        if let Some(sender) = &*self.chores.lock() {
            // The receiver lives until `close`.
            let _ = sender.send(chore);
        }
    }

    /// Lets the thread finish its chores and end.
    pub(super) fn close(&self) {
        self.chores.lock().take();
    }

    fn prepare(&self) {
        let number = self.next_number.fetch_add(1, Ordering::Relaxed);
        let made = create(&self.dir, number, self.segment_bytes);
        let mut supply = self.supply.lock();
        supply.coming -= 1;
        match made {
            Ok(file) => supply.ready.push(file),
            Err(error) => supply.error = Some(error),
        }
        self.changed.notify_all();
    }
}

/// The other end of [`Spares`].
pub(super) struct Chores(mpsc::Receiver<Chore>);

impl Chores {
    /// Body of the thread. A watermark that cannot be synced stays a valid lower bound, and a
    /// file that cannot be removed is removed at the next start: neither stops the log.
    pub(super) fn run(self, spares: &Spares) {
        while let Ok(chore) = self.0.recv() {
            match chore {
                Chore::Prepare => spares.prepare(),
                Chore::Sync(files) => {
                    for file in files {
                        if let Err(error) = file.sync_data() {
                            tracing::warn!(%error, "the log's watermark was not synced");
                        }
                    }
                }
                Chore::Remove(file) => {
                    if let Err(error) = std::fs::remove_file(&file.path) {
                        tracing::warn!(%error, path = %file.path.display(), "not removed");
                    }
                }
            }
        }
    }
}
