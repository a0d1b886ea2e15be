//! Segment files: names, making them, the supply of spare ones.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;

use flotilla_probe::planted;
use parking_lot::{Condvar, Mutex};

use super::format::BLOCK_BYTES;
use crate::disk::{Disk, DiskFile, Open};

/// Zeros are written in pieces of this size, each synced by itself, so that making a segment
/// does not hold up the writer's syncs for long.
const FILL_BYTES: usize = 1_048_576;

/// A file of a segment, whatever is in it.
#[derive(Clone)]
pub(super) struct SegmentFile {
    pub(super) path: PathBuf,
    pub(super) file: Arc<dyn DiskFile>,
    /// Usable bytes: its length, in whole blocks.
    pub(super) capacity: u64,
}

impl SegmentFile {
    pub(super) fn open(disk: &dyn Disk, path: PathBuf) -> io::Result<SegmentFile> {
        let file = disk.open(&path, Open::Blocks)?;
        let capacity = file.len()? / BLOCK_BYTES as u64 * BLOCK_BYTES as u64;
        Ok(SegmentFile { path, file, capacity })
    }

    /// Writes whole blocks and makes them durable.
    pub(super) fn write_durably(&self, blocks: &AlignedBlocks, offset: u64) -> io::Result<()> {
        if planted!(SyncSkipped) {
            return self.file.write_all_at(blocks.bytes(), offset);
        }
        self.file.write_durably(blocks.bytes(), offset)
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
pub(super) fn list(disk: &dyn Disk, dir: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut found = Vec::new();
    for path in disk.list(dir)? {
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

/// What could not be made whole does not stay: that happens when there is no room, and each attempt would
/// take more of it.
fn create(disk: &dyn Disk, dir: &Path, number: u64, bytes: u64) -> io::Result<SegmentFile> {
    let path = dir.join(format!("segment-{number:06}.log"));
    let made = fill(disk, dir, &path, bytes);
    if made.is_err()
        && let Err(error) = disk.remove(&path)
        && error.kind() != io::ErrorKind::NotFound
    {
        // Nobody uses it before the next start, which removes it.
        tracing::warn!(%error, path = %path.display(), "not removed");
    }
    made?;
    let file = SegmentFile::open(disk, path)?;
    debug_assert_eq!(file.capacity, bytes, "segments are whole blocks");
    Ok(file)
}

fn fill(disk: &dyn Disk, dir: &Path, path: &Path, bytes: u64) -> io::Result<()> {
    let file = disk.open(path, Open::Anew)?;
    let zeros = vec![0; FILL_BYTES.min(bytes as usize)];
    let mut at = 0;
    while at < bytes {
        let piece = &zeros[..zeros.len().min((bytes - at) as usize)];
        file.write_all_at(piece, at)?;
        file.sync_data()?;
        at += piece.len() as u64;
    }
    file.sync_all()?;
    disk.sync_dir(dir)
}

/// Work that the writer thread does not wait for.
pub(super) enum Chore {
    /// Make one spare segment.
    Prepare,
    /// Make a record beside the log durable.
    Sync([Arc<dyn DiskFile>; 2]),
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
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    segment_bytes: u64,
    next_number: AtomicU64,
    supply: Mutex<Supply>,
    changed: Condvar,
    chores: ChoreQueue,
}

/// Who does the chores.
enum ChoreQueue {
    /// A thread, until the log is shut down.
    Thread(Mutex<Option<mpsc::Sender<Chore>>>),
    /// Whoever has one.
    Nobody,
}

impl Spares {
    /// The chores are for a thread; without one they are done where they come up.
    pub(super) fn new(
        disk: Arc<dyn Disk>,
        dir: &Path,
        segment_bytes: u64,
        next_number: u64,
        with_thread: bool,
    ) -> (Spares, Option<Chores>) {
        let (sender, receiver) = mpsc::channel();
        let (queue, chores) = match with_thread {
            true => (ChoreQueue::Thread(Mutex::new(Some(sender))), Some(Chores(receiver))),
            false => (ChoreQueue::Nobody, None),
        };
        let spares = Spares {
            disk,
            dir: dir.to_owned(),
            segment_bytes,
            next_number: AtomicU64::new(next_number),
            supply: Mutex::default(),
            changed: Condvar::new(),
            chores: queue,
        };
        (spares, chores)
    }

    pub(super) fn put(&self, file: SegmentFile) {
        self.supply.lock().ready.push(file);
    }

    /// Spare segments, those on the way included.
    pub(super) fn count(&self) -> usize {
        let supply = self.supply.lock();
        supply.ready.len() + supply.coming
    }

    /// Asks for one more spare segment. That an earlier one could not be made says nothing of this one.
    pub(super) fn order(&self) {
        let mut supply = self.supply.lock();
        supply.coming += 1;
        supply.error = None;
        drop(supply);
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

    pub(super) fn remove(&self, file: &SegmentFile) -> io::Result<()> {
        self.disk.remove(&file.path)
    }

    pub(super) fn chore(&self, chore: Chore) {
        match &self.chores {
            ChoreQueue::Thread(sender) => {
                if let Some(sender) = &*sender.lock() {
                    // The receiver lives until `close`.
                    let _ = sender.send(chore);
                }
            }
            ChoreQueue::Nobody => self.attend_to(chore),
        }
    }

    /// Lets the thread finish its chores and end.
    pub(super) fn close(&self) {
        if let ChoreQueue::Thread(sender) = &self.chores {
            sender.lock().take();
        }
    }

    fn prepare(&self) {
        let number = self.next_number.fetch_add(1, Ordering::Relaxed);
        let made = create(&*self.disk, &self.dir, number, self.segment_bytes);
        let mut supply = self.supply.lock();
        supply.coming -= 1;
        match made {
            Ok(file) => supply.ready.push(file),
            Err(error) => supply.error = Some(error),
        }
        self.changed.notify_all();
    }

    /// A watermark that cannot be synced stays a valid lower bound, and a file that cannot be
    /// removed is removed at the next start: neither stops the log.
    fn attend_to(&self, chore: Chore) {
        match chore {
            Chore::Prepare => self.prepare(),
            Chore::Sync(files) => {
                for file in files {
                    if let Err(error) = file.sync_data() {
                        tracing::warn!(%error, "the log's watermark was not synced");
                    }
                }
            }
            Chore::Remove(file) => {
                if let Err(error) = self.remove(&file) {
                    tracing::warn!(%error, path = %file.path.display(), "not removed");
                }
            }
        }
    }
}

/// The other end of [`Spares`].
pub(super) struct Chores(mpsc::Receiver<Chore>);

impl Chores {
    /// Body of the thread.
    pub(super) fn run(self, spares: &Spares) {
        while let Ok(chore) = self.0.recv() {
            spares.attend_to(chore);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;
    use std::time::Duration;

    use super::*;
    use crate::disk::{Machine, Workers};

    const BYTES: u64 = 4 * BLOCK_BYTES as u64;

    /// Without room, a new file takes one block.
    struct Tight(Arc<AtomicBool>);

    struct TightFile(Arc<AtomicBool>, Arc<dyn DiskFile>);

    impl Disk for Tight {
        fn create_dir(&self, dir: &Path) -> io::Result<()> {
            Machine.create_dir(dir)
        }

        fn exists(&self, path: &Path) -> bool {
            Machine.exists(path)
        }

        fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
            Machine.list(dir)
        }

        fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn DiskFile>> {
            Ok(Arc::new(TightFile(self.0.clone(), Machine.open(path, how)?)))
        }

        fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
            Machine.read(path)
        }

        fn remove(&self, path: &Path) -> io::Result<()> {
            Machine.remove(path)
        }

        fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
            Machine.rename(from, to)
        }

        fn sync_dir(&self, dir: &Path) -> io::Result<()> {
            Machine.sync_dir(dir)
        }

        fn lock(&self, path: &Path) -> io::Result<Box<dyn Send + Sync>> {
            Machine.lock(path)
        }

        fn free_bytes(&self, dir: &Path) -> io::Result<u64> {
            Machine.free_bytes(dir)
        }

        fn workers(&self) -> Workers {
            Machine.workers()
        }
    }

    impl DiskFile for TightFile {
        fn len(&self) -> io::Result<u64> {
            self.1.len()
        }

        fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
            self.1.read_exact_at(buffer, offset)
        }

        fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
            if self.0.load(Ordering::Relaxed) {
                self.1.write_all_at(&bytes[..BLOCK_BYTES], offset)?;
                return Err(io::ErrorKind::StorageFull.into());
            }
            self.1.write_all_at(bytes, offset)
        }

        fn write_durably(&self, blocks: &[u8], offset: u64) -> io::Result<()> {
            self.1.write_durably(blocks, offset)
        }

        fn sync_data(&self) -> io::Result<()> {
            self.1.sync_data()
        }

        fn sync_all(&self) -> io::Result<()> {
            self.1.sync_all()
        }
    }

    /// A disk with little room got less with every segment that was begun, and its log failed although
    /// there was room again.
    #[test]
    fn a_spare_segment_that_did_not_fit_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let full = Arc::new(AtomicBool::new(true));
        let disk = Arc::new(Tight(full.clone()));
        let (spares, chores) = Spares::new(disk, dir.path(), BYTES, 1, true);
        let spares = Arc::new(spares);
        let thread = {
            let (spares, chores) = (spares.clone(), chores.unwrap());
            std::thread::spawn(move || chores.run(&spares))
        };
        for _ in 0..3 {
            spares.order();
            while spares.count() > 0 {
                std::thread::sleep(Duration::from_millis(1));
            }
            assert_eq!(list(&Machine, dir.path()).unwrap(), []);
        }
        full.store(false, Ordering::Relaxed);
        assert_eq!(spares.get().unwrap().capacity, BYTES);
        assert_eq!(list(&Machine, dir.path()).unwrap().len(), 1);
        full.store(true, Ordering::Relaxed);
        assert_eq!(spares.get().err().unwrap().kind(), io::ErrorKind::StorageFull);
        spares.close();
        thread.join().unwrap();
    }
}
