//! Opening a log, and what its threads and handles share.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use flotilla_types::ids::GroupId;
use parking_lot::{Mutex, RwLock};

use super::format::BLOCK_BYTES;
use super::group::{Group, GroupLog};
use super::index::{GroupIndex, Place};
use super::metrics::{Counters, LogMetrics};
use super::queue::Queue;
use super::recovery;
use super::segment::{Segment, Spares};
use super::slots::TwoSlots;
use super::writer::{LogWriter, Writer};
use super::{Damage, LogOptions};
use crate::disk::{Disk, Machine, Workers};

/// Called once, on the writer thread, when the log cannot go on: a write or a sync has failed, so
/// nobody knows what the disk holds. All waiting callbacks have got the error by then. The node
/// ends its process here; the next start finds out what is durable.
pub type OnFatal = Box<dyn Fn(&io::Error) + Send + Sync>;

const SEGMENT_BYTES_MIN: u64 = 64 << 10;
/// Offsets in a segment are 32 bits.
const SEGMENT_BYTES_MAX: u64 = 1 << 30;
/// One in use, one full, one spare.
const SEGMENTS_MIN: usize = 3;

/// What the handles, the writer and readers share.
pub(super) struct Shared {
    pub(super) options: LogOptions,
    pub(super) queue: Queue,
    pub(super) groups: RwLock<BTreeMap<GroupId, Arc<Group>>>,
    /// Segments in use, by generation.
    pub(super) segments: RwLock<BTreeMap<u64, Arc<Segment>>>,
    pub(super) counters: Counters,
    /// Sequence of the last batch that was synced, its votes too.
    pub(super) synced: AtomicU64,
    /// When the write that is under way began.
    pub(super) writing_since: Mutex<Option<Instant>>,
}

impl Shared {
    pub(super) fn segment(&self, generation: u64) -> Option<Arc<Segment>> {
        self.segments.read().get(&generation).cloned()
    }

    /// Largest entry: fits behind the groups' states at the start of a segment.
    pub(super) fn entry_bytes_max(&self) -> usize {
        (self.options.segment_bytes / 2) as usize
    }

    /// A group's part of the cache.
    pub(super) fn cache_share_bytes(&self) -> usize {
        self.options.cache_bytes / self.groups.read().len().max(1)
    }

    /// Takes entries that are gone out of their segments' counts.
    pub(super) fn release<'a>(&self, places: impl Iterator<Item = &'a Place>) {
        let mut totals: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
        for place in places {
            if let Place::At { generation, .. } = place {
                let total = totals.entry(*generation).or_default();
                *total = (total.0 + 1, total.1 + place.bytes());
            }
        }
        if totals.is_empty() {
            return;
        }
        let segments = self.segments.read();
        for (generation, (entries, bytes)) in totals {
            if let Some(segment) = segments.get(&generation) {
                segment.remove_live(entries, bytes);
            }
        }
    }

    pub(super) fn group(&self, id: GroupId) -> Arc<Group> {
        if let Some(group) = self.groups.read().get(&id) {
            return group.clone();
        }
        let mut groups = self.groups.write();
        groups.entry(id).or_insert_with(|| Arc::new(Group::new(id, GroupIndex::default()))).clone()
    }
}

/// A node's Raft log. Clones are the same log; the last one to go shuts it down, after which all
/// operations of its [`GroupLog`]s fail.
#[derive(Clone)]
pub struct Engine {
    handle: Arc<Handle>,
}

/// A log that is not held open by this.
#[derive(Clone)]
pub struct WeakEngine {
    handle: Weak<Handle>,
}

impl WeakEngine {
    /// The log, if it was not shut down.
    pub fn upgrade(&self) -> Option<Engine> {
        self.handle.upgrade().map(|handle| Engine { handle })
    }
}

struct Handle {
    shared: Arc<Shared>,
    spares: Arc<Spares>,
    threads: Mutex<Threads>,
    recovery: Recovery,
    /// Held for its lock: one process at a time.
    _lock: Box<dyn Send + Sync>,
}

impl Engine {
    /// Opens the log in `dir`, which is created if need be, and recovers what is in it. Reads
    /// all segments.
    ///
    /// If something durable was lost, the log still opens: the damaged groups refuse all but
    /// [`GroupLog::reset`], and they are reported at every start until that was done. A group
    /// that [`Damage::covers`] says is covered must not be used without a reset even if it is
    /// not in [`Self::groups`].
    ///
    /// # Errors
    /// If another process has the log open (`WouldBlock`), if a later build wrote any of it
    /// (`Unsupported`; nothing is written then), and what the disk says.
    pub fn open(
        dir: &Path,
        options: LogOptions,
        on_fatal: OnFatal,
    ) -> io::Result<(Engine, Vec<Damage>)> {
        Self::open_on(Arc::new(Machine), dir, options, on_fatal)
    }

    /// The same on a disk of the caller's.
    ///
    /// # Errors
    /// See [`Engine::open`].
    pub fn open_on(
        disk: Arc<dyn Disk>,
        dir: &Path,
        options: LogOptions,
        on_fatal: OnFatal,
    ) -> io::Result<(Engine, Vec<Damage>)> {
        disk.create_dir(dir)?;
        let lock = disk.lock(&dir.join("lock"))?;
        let options = normal(options);
        let (watermark, mark) = TwoSlots::open(&*disk, dir, "watermark")?;
        let (votes, voted) = TwoSlots::open(&*disk, dir, "votes")?;
        let unsettled = TwoSlots::open(&*disk, dir, "recovered")?;
        disk.sync_dir(dir)?;
        let recovered = recovery::recover(&*disk, dir, mark.as_deref(), voted.as_deref())?;
        let recovery = Recovery::note(unsettled, &recovered)?;
        let workers = disk.workers();
        let (spares, chores) = Spares::new(
            disk.clone(),
            dir,
            options.segment_bytes,
            recovered.next_number,
            matches!(workers, Workers::Threads),
        );
        let spares = Arc::new(spares);
        for file in &recovered.unused {
            if file.capacity == options.segment_bytes {
                spares.put(file.clone());
            } else {
                spares.remove(file)?;
            }
        }
        let shared = Arc::new(Shared {
            options,
            queue: Queue::default(),
            groups: RwLock::default(),
            segments: RwLock::default(),
            counters: Counters::default(),
            synced: AtomicU64::new(recovered.next_sequence - 1),
            writing_since: Mutex::default(),
        });
        let chores = chores
            .map(|chores| {
                let spares = spares.clone();
                spawn("log-chores", move || chores.run(&spares))
            })
            .transpose()?;
        if spares.count() == 0 {
            spares.order();
        }
        let damage = recovered.damage.clone();
        let writer =
            Writer::start(shared.clone(), spares.clone(), on_fatal, recovered, watermark, votes);
        // Made before anything can fail: dropping it ends the threads.
        let handle = Handle {
            shared,
            spares,
            threads: Mutex::new(Threads { writer: None, chores }),
            recovery,
            _lock: lock,
        };
        let writer = writer?;
        match workers {
            Workers::Threads => {
                handle.threads.lock().writer = Some(spawn("log-writer", move || writer.run())?);
            }
            Workers::Turns(give) => give(LogWriter(writer)),
        }
        Ok((Engine { handle: Arc::new(handle) }, damage))
    }

    /// The log of one group, empty if the group is not known yet.
    pub fn group(&self, id: GroupId) -> GroupLog {
        GroupLog { group: self.handle.shared.group(id), shared: self.handle.shared.clone() }
    }

    /// Every group that was ever used, ascending; those that were reset too.
    pub fn groups(&self) -> Vec<GroupId> {
        self.handle.shared.groups.read().keys().copied().collect()
    }

    /// Writes and syncs what is queued, notes how far the log goes, and ends the threads. What
    /// comes later is refused. Not to be called from a callback.
    pub fn shutdown(&self) {
        self.handle.shutdown();
    }

    /// To look at the log for as long as others use it.
    pub fn downgrade(&self) -> WeakEngine {
        WeakEngine { handle: Arc::downgrade(&self.handle) }
    }

    /// How far the log is durable: the number of its last synced batch. It never falls, also not over
    /// starts, unless something durable was lost.
    pub fn synced(&self) -> u64 {
        self.handle.shared.synced.load(Ordering::Acquire)
    }

    /// How far the log went when it was opened: to be compared with what others know of it. What is
    /// written to mend damage comes on top of [`Self::synced`] and not of this, over any number of
    /// starts until [`Self::settle_recovery`].
    pub fn recovered(&self) -> u64 {
        self.handle.recovery.ended
    }

    /// Nobody need ask any more how far the log went before. Blocks on the disk.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn settle_recovery(&self) -> io::Result<()> {
        self.handle.recovery.settle()
    }

    /// How long the write that is under way has taken so far.
    pub fn writing_for(&self) -> Option<Duration> {
        self.handle.shared.writing_since.lock().map(|since| since.elapsed())
    }

    /// The counters now.
    pub fn metrics(&self) -> LogMetrics {
        let shared = &self.handle.shared;
        let mut metrics = shared.counters.snapshot();
        metrics.segments = shared.segments.read().len() as u64;
        metrics.pending_bytes = shared.queue.bytes() as u64;
        metrics
    }
}

/// How far a log went whose damage was mended, until that was compared with what others know.
struct Recovery {
    ended: u64,
    /// Empty when there is nothing to compare.
    record: Mutex<TwoSlots>,
    is_noted: AtomicBool,
}

impl Recovery {
    /// Durable before anything is mended: a crash after that must not take what was mended for what
    /// was there.
    fn note(
        (mut record, noted): (TwoSlots, Option<Vec<u8>>),
        recovered: &recovery::Recovered,
    ) -> io::Result<Self> {
        let noted = noted.and_then(|value| value.try_into().ok()).map(u64::from_le_bytes);
        let ended = noted.map_or(recovered.ended, |noted| noted.min(recovered.ended));
        let is_noted = noted.is_some() || !recovered.damage.is_empty();
        if is_noted && noted != Some(ended) {
            record.write(&ended.to_le_bytes())?;
            record.sync()?;
        }
        let (record, is_noted) = (Mutex::new(record), AtomicBool::new(is_noted));
        Ok(Self { ended, record, is_noted })
    }

    fn settle(&self) -> io::Result<()> {
        let mut record = self.record.lock();
        if self.is_noted.load(Ordering::Acquire) {
            record.write(&[])?;
            record.sync()?;
            self.is_noted.store(false, Ordering::Release);
        }
        Ok(())
    }
}

impl Handle {
    fn shutdown(&self) {
        self.shared.queue.close();
        let Threads { writer, chores } = std::mem::take(&mut *self.threads.lock());
        join(writer);
        self.spares.close();
        join(chores);
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shutdown();
    }
}

#[derive(Default)]
struct Threads {
    writer: Option<JoinHandle<()>>,
    chores: Option<JoinHandle<()>>,
}

fn join(thread: Option<JoinHandle<()>>) {
    // The last handle may be dropped by a callback, on the writer thread itself.
    if let Some(thread) = thread.filter(|t| t.thread().id() != std::thread::current().id()) {
        // A panic of a callback has been reported where it happened.
        let _ = thread.join();
    }
}

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(name.to_owned()).spawn(body)
}

fn normal(options: LogOptions) -> LogOptions {
    LogOptions {
        segment_bytes: options
            .segment_bytes
            .clamp(SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX)
            .next_multiple_of(BLOCK_BYTES as u64),
        segments_max: options.segments_max.max(SEGMENTS_MIN),
        cache_bytes: options.cache_bytes,
    }
}
