//! When messages become visible by time alone, for those who wait for them.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flotilla_types::ids::QueueId;

/// When the first of some alarms is due. Read without the lock that they are under.
pub(crate) struct Earliest(AtomicU64);

const NEVER: u64 = u64::MAX;

impl Default for Earliest {
    fn default() -> Self {
        Self(AtomicU64::new(NEVER))
    }
}

impl Earliest {
    pub(crate) fn at_ms(&self) -> Option<u64> {
        let at_ms = self.0.load(Ordering::Relaxed);
        (at_ms != NEVER).then_some(at_ms)
    }

    fn set(&self, at_ms: Option<u64>) {
        self.0.store(at_ms.unwrap_or(NEVER), Ordering::Relaxed);
    }
}

/// One alarm per awaited queue: when its next message becomes visible by time alone.
pub(crate) struct Alarms {
    by_queue: HashMap<QueueId, u64>,
    by_time: BTreeSet<(u64, QueueId)>,
    earliest: Arc<Earliest>,
}

impl Drop for Alarms {
    fn drop(&mut self) {
        self.earliest.set(None);
    }
}

impl Alarms {
    pub(crate) fn new(earliest: Arc<Earliest>) -> Self {
        Self { by_queue: HashMap::new(), by_time: BTreeSet::new(), earliest }
    }

    fn note_earliest(&self) {
        self.earliest.set(self.by_time.first().map(|(at_ms, _)| *at_ms));
    }

    /// Unless the queue has an earlier one. Whether this became the earliest of all.
    pub(crate) fn set(&mut self, queue: QueueId, at_ms: u64) -> bool {
        if let Some(before) = self.by_queue.get(&queue) {
            if *before <= at_ms {
                return false;
            }
            self.by_time.remove(&(*before, queue));
        }
        self.by_queue.insert(queue, at_ms);
        self.by_time.insert((at_ms, queue));
        self.note_earliest();
        self.by_time.first() == Some(&(at_ms, queue))
    }

    pub(crate) fn pop_due(&mut self, now_ms: u64) -> Option<QueueId> {
        let (at_ms, queue) = *self.by_time.first()?;
        if at_ms > now_ms {
            return None;
        }
        self.by_time.pop_first();
        self.by_queue.remove(&queue);
        self.note_earliest();
        Some(queue)
    }
}
