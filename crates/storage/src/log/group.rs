//! One group of the log, as its Raft replica sees it.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use flotilla_types::ids::GroupId;
use parking_lot::Mutex;

use super::Done;
use super::engine::Shared;
use super::index::{GroupIndex, Place};
use super::queue::Op;
use super::read;

/// State of a group in memory. Changes here first, at once, and in the same order in the queue to
/// the writer: both happen under this lock.
pub(super) struct Group {
    pub(super) id: GroupId,
    inner: Mutex<GroupInner>,
}

/// See [`Group`].
#[derive(Default)]
pub(super) struct GroupInner {
    pub(super) index: GroupIndex,
    /// Payloads of the last entries, down to the oldest that is not on disk at least.
    tail: VecDeque<Bytes>,
    tail_bytes: usize,
    ticket: u64,
}

impl GroupInner {
    /// The payload of an entry, if it is in memory.
    pub(super) fn cached(&self, index: u64) -> Option<&Bytes> {
        let from_end = self.index.meta().next.checked_sub(index)? as usize;
        self.tail.get(self.tail.len().checked_sub(from_end)?)
    }

    /// Drops payloads that are on disk, oldest first, until no more than `bytes_max` are kept.
    pub(super) fn shrink_tail(&mut self, bytes_max: usize) {
        while self.tail_bytes > bytes_max {
            let oldest = self.index.meta().next - self.tail.len() as u64;
            if matches!(self.index.get(oldest), Some(Place::Pending { .. })) {
                return;
            }
            let Some(payload) = self.tail.pop_front() else {
                return;
            };
            self.tail_bytes -= payload.len();
        }
    }

    fn drop_tail_back(&mut self, count: usize) {
        for _ in 0..count {
            let Some(payload) = self.tail.pop_back() else {
                return;
            };
            self.tail_bytes -= payload.len();
        }
    }

    fn drop_tail_front(&mut self) {
        let entries = (self.index.meta().next - self.index.meta().first) as usize;
        while self.tail.len() > entries {
            let Some(payload) = self.tail.pop_front() else {
                return;
            };
            self.tail_bytes -= payload.len();
        }
    }
}

impl Group {
    pub(super) fn new(id: GroupId, index: GroupIndex) -> Group {
        Group { id, inner: Mutex::new(GroupInner { index, ..GroupInner::default() }) }
    }

    pub(super) fn lock(&self) -> parking_lot::MutexGuard<'_, GroupInner> {
        self.inner.lock()
    }
}

/// What a group holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupState {
    /// Index of the first entry that is there; equal to `next` if there is none.
    pub first: u64,
    /// One past the last entry. 0 for a group that never had one.
    pub next: u64,
    /// The vote last given to [`GroupLog::save_vote`].
    pub vote: Option<Bytes>,
    /// The position last given to [`GroupLog::save_committed`]; after a crash an older one.
    pub committed: Option<Bytes>,
    /// Index and note of the furthest [`GroupLog::purge_to`].
    pub purged: Option<(u64, Bytes)>,
    /// Payload bytes of all entries that are there.
    pub bytes: u64,
    /// The group lost something: all operations but [`GroupLog::reset`] are refused.
    pub damaged: bool,
}

/// Handle to one group. Clones are the same group. No call but [`Self::read`] touches the disk,
/// and that one only for entries that have left memory.
///
/// Calls for one group take effect in the order in which they are made, in memory and on disk. A
/// callback runs on the log's only writer thread, in that order too: it must hand on and return.
#[derive(Clone)]
pub struct GroupLog {
    pub(super) group: Arc<Group>,
    pub(super) shared: Arc<Shared>,
}

impl GroupLog {
    /// Which group this is.
    pub fn id(&self) -> GroupId {
        self.group.id
    }

    /// Adds entries. They can be read as soon as this returns; `done` is called when they are
    /// durable, and with an error if they never will be.
    ///
    /// `first_index` is one past the last entry or, if there is no entry, any index behind the
    /// purged position. Otherwise, if an entry is larger than half a segment, and if the group is
    /// damaged, nothing changes and `done` gets the error.
    ///
    /// What is waiting is not bounded here: the caller bounds what it has in flight.
    pub fn append(&self, first_index: u64, entries: Vec<Bytes>, done: Done) {
        let mut inner = self.group.lock();
        if let Err(error) = self.check_append(&inner, first_index, &entries) {
            drop(inner);
            return done(Err(error));
        }
        inner.ticket += 1;
        let ticket = inner.ticket;
        for (index, entry) in (first_index..).zip(&entries) {
            inner.index.push(index, Place::Pending { ticket, bytes: entry.len() as u32 });
            inner.tail_bytes += entry.len();
            inner.tail.push_back(entry.clone());
        }
        let group = self.group.clone();
        let pushed =
            self.shared.queue.push(Op::Append { group, ticket, first: first_index, entries, done });
        drop(inner);
        refuse(pushed);
    }

    fn check_append(&self, inner: &GroupInner, first: u64, entries: &[Bytes]) -> io::Result<()> {
        let meta = inner.index.meta();
        if meta.damaged {
            return Err(damaged(self.group.id));
        }
        if !entries.is_empty() && !meta.accepts(first) {
            return Err(invalid(format!("append at {first}, entries end at {}", meta.next)));
        }
        match entries.iter().find(|entry| entry.len() > self.shared.entry_bytes_max()) {
            Some(entry) => Err(invalid(format!("an entry of {} bytes", entry.len()))),
            None => Ok(()),
        }
    }

    /// Removes the entries `index..`. Written with the next batch.
    // Here and below: a segment that nothing is counted in may be used again two batches later, and by then what made
    // it so must be written. So it is queued before it is counted.
    pub fn truncate_from(&self, index: u64) {
        let mut inner = self.group.lock();
        if index >= inner.index.meta().next {
            return;
        }
        let removed = inner.index.truncate(index);
        inner.drop_tail_back(removed.len());
        let pushed = self.shared.queue.push(Op::Truncate { group: self.group.clone(), index });
        self.shared.release(removed.iter());
        drop(inner);
        refuse(pushed);
    }

    /// Removes the entries `..=index` and keeps `note` with the position. May be beyond the last
    /// entry: the next append then comes after `index`. Ignored if the group was purged further
    /// before. Written with the next batch: after a crash some of the entries may be back.
    pub fn purge_to(&self, index: u64, note: Bytes) {
        let mut inner = self.group.lock();
        let meta = inner.index.meta();
        if meta.damaged || meta.purged.as_ref().is_some_and(|(purged, _)| *purged > index) {
            return;
        }
        let removed = inner.index.purge(index, note.clone());
        inner.drop_tail_front();
        let pushed = self.shared.queue.push(Op::Purge { group: self.group.clone(), index, note });
        self.shared.release(removed.iter());
        drop(inner);
        refuse(pushed);
    }

    /// Replaces the vote; `done` is called when it is durable, twice: in the log and beside it.
    pub fn save_vote(&self, vote: Bytes, done: Done) {
        let mut inner = self.group.lock();
        if inner.index.meta().damaged {
            drop(inner);
            return done(Err(damaged(self.group.id)));
        }
        inner.index.meta_mut().vote = Some(vote.clone());
        let pushed = self.shared.queue.push(Op::Vote { group: self.group.clone(), vote, done });
        drop(inner);
        refuse(pushed);
    }

    /// Replaces the committed position. The latest is written with the next batch; a crash may
    /// bring an older one back.
    pub fn save_committed(&self, committed: Bytes) {
        let mut inner = self.group.lock();
        if inner.index.meta().damaged {
            return;
        }
        inner.index.meta_mut().committed = Some(committed.clone());
        let pushed = self.shared.queue.push(Op::Committed { group: self.group.clone(), committed });
        drop(inner);
        refuse(pushed);
    }

    /// What the group holds now, durable or not.
    pub fn state(&self) -> GroupState {
        let inner = self.group.lock();
        let meta = inner.index.meta();
        GroupState {
            first: meta.first,
            next: meta.next,
            vote: meta.vote.clone(),
            committed: meta.committed.clone(),
            purged: meta.purged.clone(),
            bytes: inner.index.bytes(),
            damaged: meta.damaged,
        }
    }

    /// The last entry without which, and without all before it, the rest has no more than so many payload bytes;
    /// `None` if all of them have no more.
    pub fn last_beyond(&self, keep_bytes: u64) -> Option<u64> {
        self.group.lock().index.last_beyond(keep_bytes)
    }

    /// The entries `from..to_exclusive`, or as many of the first of them as fit in `bytes_max`,
    /// but at least one. Ends at the last entry; empty if there is none in the range.
    ///
    /// Blocks on the disk for entries that are not in memory.
    ///
    /// # Errors
    /// `NotFound` if `from` is before the first entry, `InvalidData` if an entry is not what was
    /// written (open the log again: recovery finds out what is lost), else what the disk says.
    pub fn read(&self, from: u64, to_exclusive: u64, bytes_max: usize) -> io::Result<Vec<Bytes>> {
        read::read(&self.shared, &self.group, from..to_exclusive, bytes_max)
    }

    /// The same without a look at the disk: `None` if any of the entries is not in memory.
    ///
    /// # Errors
    /// As [`GroupLog::read`].
    pub fn read_in_memory(
        &self,
        from: u64,
        to_exclusive: u64,
        bytes_max: usize,
    ) -> io::Result<Option<Vec<Bytes>>> {
        read::in_memory(&self.group, from..to_exclusive, bytes_max)
    }

    /// Makes the group as if it had never been, vote included; `done` is called when that is
    /// durable. The way out for a damaged group.
    pub fn reset(&self, done: Done) {
        let mut inner = self.group.lock();
        let removed = inner.index.reset(0);
        inner.tail.clear();
        inner.tail_bytes = 0;
        let pushed = self.shared.queue.push(Op::Reset { group: self.group.clone(), done });
        self.shared.release(removed.iter());
        drop(inner);
        refuse(pushed);
    }
}

/// Tells the one who waits that the queue takes nothing more. Called without the group's lock:
/// a callback may use the group.
fn refuse(pushed: Result<(), (Option<Done>, io::Error)>) {
    if let Err((Some(done), error)) = pushed {
        done(Err(error));
    }
}

fn damaged(group: GroupId) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the log of group {group} is damaged"))
}

fn invalid(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, what)
}
