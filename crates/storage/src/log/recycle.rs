//! Giving old segments back: freeing, carrying forward, rewriting after damage.

use std::io;
use std::sync::Arc;

use super::format::Kind;
use super::group::Group;
use super::index::Place;
use super::metrics::Counters;
use super::segment::{Chore, Segment};
use super::writer::{Moved, Writer};

/// Carried with every batch at least, while there is something to carry.
const CARRY_BYTES_MIN: u64 = 64 << 10;

/// Segments on their way out, and the one whose entries are carried forward.
///
/// A segment takes three turns, each ended by the sync of at least one batch, because callers see
/// a purge before the writer does:
/// 1. found to hold nothing that a caller can see. All operations that made it so are queued by
///    now, and written by the end of the next turn;
/// 2. left out of the log: batches from now on say that it is not needed;
/// 3. such a batch was synced: the file may be overwritten.
#[derive(Default)]
pub(super) struct Recycling {
    /// This many of the oldest segments have done turn 1.
    found: usize,
    /// These have done turn 2.
    left_out: Vec<Arc<Segment>>,
    carry: Option<Carry>,
}

struct Carry {
    generation: u64,
    /// What was alive when the carrying began, in reverse.
    entries: Vec<(Arc<Group>, u64)>,
}

impl Recycling {
    /// Whether no segment is on its way to become a spare one.
    pub(super) fn nothing_coming(&self) -> bool {
        self.found == 0 && self.left_out.is_empty()
    }
}

impl Writer {
    /// One turn; called after a sync.
    pub(super) fn housekeeping(&mut self) {
        for segment in std::mem::take(&mut self.recycling.left_out) {
            let enough = self.live.len() + self.spares.count() >= self.shared.options.segments_max;
            let fits = segment.file.capacity == self.shared.options.segment_bytes;
            if !fits || (enough && self.spares.count() > 0) {
                self.spares.chore(Chore::Remove(segment.file.clone()));
            } else {
                self.spares.put(segment.file.clone());
            }
        }
        for _ in 0..std::mem::take(&mut self.recycling.found) {
            self.leave_out_oldest();
        }
        let full = self.live.len().saturating_sub(1);
        self.recycling.found =
            self.live.iter().take(full).take_while(|segment| segment.live_entries() == 0).count();
        self.consider_carrying();
    }

    /// Whether another turn would give something back.
    pub(super) fn has_waste(&self) -> bool {
        let Recycling { found, left_out, carry } = &self.recycling;
        let dead = |segment: &Arc<Segment>| segment.live_entries() == 0;
        *found > 0
            || !left_out.is_empty()
            || carry.is_some()
            || (self.live.len() > 1 && self.live.front().is_some_and(dead))
            || self.is_worth_carrying()
    }

    fn leave_out_oldest(&mut self) {
        if let Some(segment) = self.live.pop_front() {
            self.shared.segments.write().remove(&segment.generation);
            self.recycling.left_out.push(segment);
        }
    }

    /// Whether there are too many segments, and at least half of what they hold is dead: then what
    /// is carried is at most about as much as what callers write.
    fn is_worth_carrying(&self) -> bool {
        let in_use = self.live.len() - self.recycling.found;
        if in_use <= self.shared.options.segments_max {
            return false;
        }
        let alive: u64 = self.live.iter().map(|segment| segment.live_bytes()).sum();
        let size: u64 = self.live.iter().map(|segment| segment.file.capacity).sum();
        alive.saturating_mul(2) <= size
    }

    /// Begins to carry the oldest segment if that is worth it.
    fn consider_carrying(&mut self) {
        if self.recycling.carry.is_some() || !self.is_worth_carrying() {
            return;
        }
        let Some(oldest) = self.live.get(self.recycling.found) else {
            return;
        };
        let mut entries = self.entries_in(oldest.generation);
        entries.reverse();
        self.recycling.carry = Some(Carry { generation: oldest.generation, entries });
    }

    fn entries_in(&self, wanted: u64) -> Vec<(Arc<Group>, u64)> {
        let mut found = Vec::new();
        for group in self.shared.groups.read().values() {
            for (index, place) in group.lock().index.places() {
                if matches!(place, Place::At { generation, .. } if *generation == wanted) {
                    found.push((group.clone(), index));
                }
            }
        }
        found
    }

    /// Adds entries of the oldest segment to the open batch, in proportion to what callers write.
    pub(super) fn carry_some(&mut self, taken_bytes: u64) -> io::Result<()> {
        let Some(mut carry) = self.recycling.carry.take() else {
            return Ok(());
        };
        let budget = (2 * taken_bytes).max(CARRY_BYTES_MIN);
        let mut carried = 0;
        while carried < budget {
            let Some((group, index)) = carry.entries.pop() else {
                return Ok(());
            };
            carried += self.carry_entry(&group, index, carry.generation)?;
        }
        self.recycling.carry = Some(carry);
        Ok(())
    }

    /// Writes an entry again, if it still is where it was. Returns its size.
    ///
    /// Callers may have removed it without the writer knowing yet. Not to carry it is right then:
    /// turn 1 above waits for that removal to be written.
    fn carry_entry(&mut self, group: &Arc<Group>, index: u64, generation: u64) -> io::Result<u64> {
        let (from, cached) = {
            let inner = group.lock();
            (inner.index.get(index).copied(), inner.cached(index).cloned())
        };
        let Some(from @ Place::At { generation: at, offset, bytes, crc }) = from else {
            return Ok(0);
        };
        if at != generation {
            return Ok(0);
        }
        let payload = match cached {
            Some(payload) => payload,
            None => {
                let segment = self.shared.segment(generation).ok_or_else(|| {
                    io::Error::other("a segment that holds entries is not in use")
                })?;
                let mut payload = vec![0; bytes as usize];
                segment.file.file.read_exact_at(&mut payload, u64::from(offset))?;
                payload.into()
            }
        };
        if crc32fast::hash(&payload) != crc {
            let text = format!("entry {index} of group {} is not what was written", group.id);
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        let to = self.record(Kind::Carried, group.id, index, &payload)?;
        self.moved.push(Moved { group: group.clone(), index, from, to });
        Counters::add(&self.shared.counters.carried_bytes, u64::from(bytes));
        Ok(u64::from(bytes))
    }

    /// After damage: writes all that survived into new segments and removes the old ones, so that
    /// the next start does not find the same damage again. The groups' states, with the damaged
    /// ones marked, come with the first new segment.
    pub(super) fn rewrite_survivors(&mut self) -> io::Result<()> {
        let old: Vec<u64> = self.live.iter().map(|segment| segment.generation).collect();
        for generation in &old {
            for (group, index) in self.entries_in(*generation) {
                self.carry_entry(&group, index, *generation)?;
            }
        }
        if self.live.len() == old.len() {
            self.begin(0)?;
        }
        self.flush()?;
        let mut removed = Vec::new();
        for _ in 0..old.len() {
            removed.extend(self.live.pop_front());
        }
        for segment in &removed {
            self.shared.segments.write().remove(&segment.generation);
        }
        // Says that the old segments are not needed; only then may they go.
        self.begin(0)?;
        self.flush()?;
        for segment in removed {
            self.spares.remove(&segment.file)?;
        }
        Ok(())
    }
}
