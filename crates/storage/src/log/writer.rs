//! The only thread that writes segments.

mod start;

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use flotilla_probe::{failable, failpoint, planted, sometimes};
use flotilla_types::ids::GroupId;

use super::Done;
use super::engine::{OnFatal, Shared};
use super::format::{BATCH_HEADER_BYTES, BatchBuilder, Kind, RECORD_HEADER_BYTES, Written, padded};
use super::group::Group;
use super::index::Place;
use super::marks::{Votes, Watermark};
use super::meta::GroupMeta;
use super::metrics::Counters;
use super::queue::{Failure, Op, Taken};
use super::recycle::Recycling;
use super::segment::{AlignedBlocks, Chore, Segment, Spares};
use super::slots::TwoSlots;

/// A batch is closed when it gets larger: its first callers should not wait for all others.
const BATCH_BYTES_MAX: usize = 4 << 20;
/// The watermark is written this often while the log is in use.
const MARK_INTERVAL: Duration = Duration::from_millis(100);
/// An idle log looks this often whether segments can be given back.
pub(super) const TIDY_INTERVAL: Duration = Duration::from_secs(1);
/// As if callers had written so much: what an idle log carries in one turn follows from it.
const TIDY_CARRY_BYTES: u64 = 512 << 10;

/// Entries of one append whose places become known when the batch is synced.
struct Run {
    group: Arc<Group>,
    ticket: u64,
    first: u64,
    count: usize,
}

/// An entry that was written again.
pub(super) struct Moved {
    pub(super) group: Arc<Group>,
    pub(super) index: u64,
    pub(super) from: Place,
    pub(super) to: Place,
}

/// The writer of a log that has no thread of its own; see [`Workers`](crate::disk::Workers).
pub struct LogWriter(pub(super) Writer);

impl LogWriter {
    /// Writes what is queued by now, if anything, durably, and calls back. False when the log has
    /// ended: it was shut down or has failed.
    pub fn turn(&mut self) -> bool {
        self.0.turn()
    }
}

/// See the module.
pub(super) struct Writer {
    pub(super) shared: Arc<Shared>,
    pub(super) spares: Arc<Spares>,
    on_fatal: OnFatal,
    log_id: u64,
    /// Segments in use, oldest first.
    pub(super) live: VecDeque<Arc<Segment>>,
    /// The last of `live`, if it may be written to.
    active: Option<Arc<Segment>>,
    /// Where the next batch goes.
    offset: u64,
    pub(super) next_generation: u64,
    /// Of the open batch, or of the one that is opened next.
    next_sequence: u64,
    /// Every group as of what was encoded: in the order of the log, while callers are ahead.
    views: BTreeMap<GroupId, GroupMeta>,

    batch: BatchBuilder,
    aligned: AlignedBlocks,
    open: bool,
    opens_segment: bool,
    batch_limit: usize,
    dones: Vec<Done>,
    runs: Vec<Run>,
    places: Vec<Place>,
    committed: BTreeMap<GroupId, Bytes>,
    pub(super) moved: Vec<Moved>,
    votes_changed: bool,
    /// Operations taken and not encoded when an error came.
    orphans: Vec<Op>,

    watermark: TwoSlots,
    votes: TwoSlots,
    synced: u64,
    marked: u64,
    marked_at: Instant,
    /// Since when there was nothing to do.
    idle_since: Instant,
    /// Whether anybody wrote. Before that nothing is tidied: others may still be asked whether what was
    /// recovered is all.
    is_used: bool,
    pub(super) recycling: Recycling,
}

impl Writer {
    /// Body of the thread.
    pub(super) fn run(mut self) {
        let mut ops = Vec::new();
        loop {
            let taken = self.shared.queue.take(&mut ops, self.patience());
            if !self.attend_to(taken, &mut ops) {
                return;
            }
        }
    }

    /// One turn of [`LogWriter::turn`].
    fn turn(&mut self) -> bool {
        let mut ops = Vec::new();
        let taken = self.shared.queue.take_now(&mut ops);
        let rested = || self.idle_since.elapsed();
        if taken == Taken::Idle && self.patience().is_none_or(|patience| rested() < patience) {
            return true;
        }
        self.idle_since = Instant::now();
        self.attend_to(taken, &mut ops)
    }

    /// False when there is nothing more to come.
    fn attend_to(&mut self, taken: Taken, ops: &mut Vec<Op>) -> bool {
        let done = match taken {
            Taken::Work => self.cycle(ops),
            Taken::Idle if self.may_tidy() => {
                self.shared.queue.take_at_once(ops);
                self.tidy(ops)
            }
            Taken::Idle if self.synced > self.marked => self.mark(),
            Taken::Idle => Ok(()),
            Taken::Closed => {
                if let Err(error) = self.mark().and_then(|()| self.watermark.sync()) {
                    tracing::warn!(%error, "the log's watermark was not written");
                }
                return false;
            }
        };
        match done {
            Ok(()) => true,
            Err(error) => {
                self.fail(&error);
                false
            }
        }
    }

    /// How long to wait for work before there is something else to do.
    fn patience(&self) -> Option<Duration> {
        if self.synced > self.marked || self.may_tidy() {
            return Some(MARK_INTERVAL);
        }
        // Purges that nobody waits for make waste without a word.
        (self.live.len() > 1).then_some(TIDY_INTERVAL)
    }

    fn may_tidy(&self) -> bool {
        self.is_used && self.has_waste()
    }

    /// Writes what was taken from the queue.
    fn cycle(&mut self, ops: &mut Vec<Op>) -> io::Result<()> {
        let taken_bytes = self.encode_all(ops)?;
        self.finish(taken_bytes)
    }

    /// A turn of the recycling while nobody writes. Without it a log that fills the disk would
    /// stay as it is: nobody writes any more then, just because the disk is full.
    fn tidy(&mut self, ops: &mut Vec<Op>) -> io::Result<()> {
        self.encode_all(ops)?;
        if !self.open {
            self.begin(0)?;
        }
        self.finish(TIDY_CARRY_BYTES)
    }

    /// What follows the callers' records: the rest of the batch, its sync, and what depends on it.
    fn finish(&mut self, taken_bytes: u64) -> io::Result<()> {
        let synced = self.synced;
        self.encode_committed()?;
        self.carry_some(taken_bytes)?;
        self.flush()?;
        if self.synced > synced {
            self.housekeeping();
        }
        if self.marked_at.elapsed() >= MARK_INTERVAL {
            self.mark()?;
        }
        Ok(())
    }

    /// Returns how many bytes callers wrote.
    fn encode_all(&mut self, ops: &mut Vec<Op>) -> io::Result<u64> {
        failpoint!(LogTaken);
        let mut taken_bytes = 0;
        let mut ops = ops.drain(..);
        while let Some(op) = ops.next() {
            taken_bytes += op.bytes() as u64;
            if let Err(error) = self.encode(op) {
                self.orphans.extend(ops);
                return Err(error);
            }
        }
        Ok(taken_bytes)
    }

    fn encode(&mut self, op: Op) -> io::Result<()> {
        self.is_used = true;
        match op {
            Op::Append { group, ticket, first, entries, done } => {
                let written = self.encode_entries(&group, ticket, first, &entries);
                self.dones.push(done);
                written
            }
            Op::Truncate { group, index } => {
                sometimes!(LogTruncated);
                if !planted!(TruncateForgotten) {
                    self.record(Kind::Truncate, group.id, index, &[])?;
                }
                self.view(group.id).truncate(index);
                Ok(())
            }
            Op::Purge { group, index, note } => {
                failpoint!(LogPurge);
                self.record(Kind::Purge, group.id, index, &note)?;
                self.view(group.id).purge(index, note);
                Ok(())
            }
            Op::Vote { group, vote, done } => {
                let written = self.encode_vote(group.id, vote);
                self.dones.push(done);
                written
            }
            Op::Committed { group, committed } => {
                self.committed.insert(group.id, committed);
                Ok(())
            }
            Op::Reset { group, done } => {
                self.committed.remove(&group.id);
                let written = self.record(Kind::Reset, group.id, 0, &[]).map(|_| ());
                let sequence = self.next_sequence;
                self.view(group.id).reset(sequence);
                self.votes_changed = true;
                self.dones.push(done);
                written
            }
        }
    }

    fn encode_entries(
        &mut self,
        group: &Arc<Group>,
        ticket: u64,
        first: u64,
        entries: &[Bytes],
    ) -> io::Result<()> {
        for (index, entry) in (first..).zip(entries) {
            let place = self.record(Kind::Entry, group.id, index, entry)?;
            self.view(group.id).append(index, 1);
            self.places.push(place);
            match self.runs.last_mut() {
                Some(run)
                    if Arc::ptr_eq(&run.group, group)
                        && run.ticket == ticket
                        && run.first + run.count as u64 == index =>
                {
                    run.count += 1;
                }
                _ => self.runs.push(Run { group: group.clone(), ticket, first: index, count: 1 }),
            }
        }
        Ok(())
    }

    /// Of all that was taken only the latest positions are written, and after the entries that
    /// they speak of.
    fn encode_committed(&mut self) -> io::Result<()> {
        for (group, committed) in std::mem::take(&mut self.committed) {
            self.record(Kind::Committed, group, 0, &committed)?;
            self.view(group).committed = Some(committed);
        }
        Ok(())
    }

    fn encode_vote(&mut self, group: GroupId, vote: Bytes) -> io::Result<()> {
        self.record(Kind::Vote, group, 0, &vote)?;
        let sequence = self.next_sequence;
        let view = self.view(group);
        view.vote = Some(vote);
        view.vote_sequence = sequence;
        self.votes_changed = true;
        Ok(())
    }

    fn view(&mut self, group: GroupId) -> &mut GroupMeta {
        self.views.entry(group).or_default()
    }

    /// Adds a record to the open batch, or to a new one if it does not fit, and returns where
    /// its payload will be.
    pub(super) fn record(
        &mut self,
        kind: Kind,
        group: GroupId,
        index: u64,
        payload: &[u8],
    ) -> io::Result<Place> {
        let bytes = RECORD_HEADER_BYTES + payload.len();
        if self.open && self.batch.bytes() + bytes > self.batch_limit {
            self.flush()?;
        }
        if !self.open {
            self.begin(bytes)?;
        }
        let Written { offset, crc } = self.batch.push(kind, group, index, payload);
        let generation = self.active.as_ref().expect("begin leaves an active segment").generation;
        let offset = self.offset as u32 + offset;
        Ok(Place::At { generation, offset, bytes: payload.len() as u32, crc })
    }

    /// Opens a batch with room for a record of `bytes`, in a new segment if this one is full.
    pub(super) fn begin(&mut self, bytes: usize) -> io::Result<()> {
        let need = padded(BATCH_HEADER_BYTES + bytes) as u64;
        let active = match self.active.clone() {
            Some(active) if active.file.capacity.saturating_sub(self.offset) >= need => active,
            _ => self.rotate()?,
        };
        self.opens_segment = self.offset == 0;
        self.batch.start(active.generation, self.next_sequence, self.opens_segment);
        if self.opens_segment {
            let mut encoded = Vec::new();
            for (group, view) in &self.views {
                encoded.clear();
                view.encode(&mut encoded);
                self.batch.push(Kind::Meta, *group, 0, &encoded);
            }
        }
        let room = (active.file.capacity - self.offset) as usize;
        if self.batch.bytes() + bytes > room {
            let text = "the states of all groups do not fit in a segment: make segments larger";
            return Err(io::Error::other(text));
        }
        self.batch_limit = room.min(BATCH_BYTES_MAX.max(self.batch.bytes() + bytes));
        self.open = true;
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<Arc<Segment>> {
        failable!(LogRotate)?;
        let file = match self.spares.try_get() {
            Some(file) => file,
            None => {
                Counters::add(&self.shared.counters.rotation_stalls, 1);
                self.spares.get()?
            }
        };
        Counters::add(&self.shared.counters.rotations, 1);
        let segment = Arc::new(Segment::new(file, self.next_generation));
        self.next_generation += 1;
        self.shared.segments.write().insert(segment.generation, segment.clone());
        self.live.push_back(segment.clone());
        self.active = Some(segment.clone());
        self.offset = 0;
        if self.spares.count() == 0 && self.recycling.nothing_coming() {
            self.spares.order();
        }
        Ok(segment)
    }

    /// Writes and syncs the open batch and calls back. Invariant 2 of the log lives here: the
    /// next batch cannot be begun before this one was synced.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        if planted!(AckBeforeWrite) {
            self.dones.drain(..).for_each(|done| done(Ok(())));
        }
        if self.open {
            let active = self.active.clone().expect("an open batch has a segment");
            let oldest = self.live.front().map_or(active.generation, |oldest| oldest.generation);
            let started = Instant::now();
            let records = u64::from(self.batch.records());
            let blocks = self.batch.finish(self.log_id, oldest);
            self.aligned.set(blocks);
            *self.shared.writing_since.lock() = Some(started);
            failable!(LogSync)?;
            active.file.write_durably(&self.aligned, self.offset)?;
            failpoint!(LogSynced);
            self.shared.counters.batch(records, blocks.len() as u64, started.elapsed());
            self.offset += blocks.len() as u64;
            self.open = false;
            self.synced = self.next_sequence;
            self.next_sequence += 1;
            if std::mem::take(&mut self.votes_changed) {
                self.save_votes()?;
            }
            *self.shared.writing_since.lock() = None;
            self.shared.synced.store(self.synced, Ordering::Release);
            self.publish(&active);
        }
        for done in self.dones.drain(..) {
            done(Ok(()));
        }
        failpoint!(LogAnswered);
        if std::mem::take(&mut self.opens_segment) {
            self.mark()?;
            self.spares.chore(Chore::Sync(self.watermark.files()));
        }
        Ok(())
    }

    /// Tells the groups where their entries are, so that these may leave memory.
    fn publish(&mut self, active: &Segment) {
        let share_bytes = self.shared.cache_share_bytes();
        let mut places = self.places.drain(..);
        for run in self.runs.drain(..) {
            let mut inner = run.group.lock();
            for (index, place) in (run.first..).zip(places.by_ref().take(run.count)) {
                // Truncated or purged since: the entry is dead before it was ever alive.
                if matches!(inner.index.get(index), Some(Place::Pending { ticket, .. }) if *ticket == run.ticket)
                {
                    inner.index.set(index, place);
                    active.add_live(1, place.bytes());
                }
            }
            inner.shrink_tail(share_bytes);
        }
        for moved in self.moved.drain(..) {
            let mut inner = moved.group.lock();
            if inner.index.get(moved.index) == Some(&moved.from) {
                inner.index.set(moved.index, moved.to);
                self.shared.release(std::iter::once(&moved.from));
                active.add_live(1, moved.to.bytes());
            }
        }
    }

    /// Notes how far the log is synced.
    fn mark(&mut self) -> io::Result<()> {
        failable!(LogMark)?;
        let mark = Watermark { log_id: self.log_id, synced: self.synced };
        // A disk that stands still may be met here first.
        *self.shared.writing_since.lock() = Some(Instant::now());
        self.watermark.write(&mark.encode())?;
        *self.shared.writing_since.lock() = None;
        self.marked = self.synced;
        self.marked_at = Instant::now();
        Ok(())
    }

    /// Writes all votes beside the log, durably.
    fn save_votes(&mut self) -> io::Result<()> {
        failable!(LogVotes)?;
        self.votes.write(&Votes::of(self.synced, &self.views).encode(self.log_id))?;
        Counters::add(&self.shared.counters.syncs, 1);
        self.votes.sync()
    }

    fn fail(&mut self, error: &io::Error) {
        let failure = Failure::of(error);
        let queued = self.shared.queue.fail(failure.clone());
        let orphans = std::mem::take(&mut self.orphans).into_iter().chain(queued);
        for done in self.dones.drain(..).chain(orphans.filter_map(Op::into_done)) {
            done(Err(failure.error()));
        }
        (self.on_fatal)(error);
    }
}
