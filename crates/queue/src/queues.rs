//! The queues of a shard, and which of them are worth a look.
//!
//! A shard may know a million queues, and most of them are idle: whoever looks at all does it piece
//! by piece, and what has to be known every second is kept in a set of its own.

use std::collections::BTreeSet;
use std::ops::Bound;

use flotilla_types::ids::QueueId;

use crate::hash::IdMap;
use crate::queue_state::QueueState;

/// See the module.
///
/// Invariant: every queue of which messages wait for the end of a delay or lease is in `busy`, and so is
/// every one whose tenants used it lately; others may be until somebody looks.
#[derive(Debug, Default)]
pub(crate) struct Queues {
    by_id: IdMap<QueueId, QueueState>,
    order: BTreeSet<QueueId>,
    busy: BTreeSet<QueueId>,
}

/// Equal when the queues are: the rest follows from them or only saves work.
impl PartialEq for Queues {
    fn eq(&self, other: &Queues) -> bool {
        self.by_id == other.by_id
    }
}

impl Queues {
    pub(crate) fn get(&self, queue: QueueId) -> Option<&QueueState> {
        self.by_id.get(&queue)
    }

    pub(crate) fn get_mut(&mut self, queue: QueueId) -> Option<&mut QueueState> {
        self.by_id.get_mut(&queue)
    }

    pub(crate) fn contains(&self, queue: QueueId) -> bool {
        self.by_id.contains_key(&queue)
    }

    /// The queue, which starts here if the shard does not know it.
    pub(crate) fn get_or_insert_with(
        &mut self,
        queue: QueueId,
        make: impl FnOnce() -> QueueState,
    ) -> &mut QueueState {
        let Queues { by_id, order, .. } = self;
        by_id.entry(queue).or_insert_with(|| {
            order.insert(queue);
            make()
        })
    }

    /// Takes in a queue as it was stored.
    pub(crate) fn load(&mut self, queue: QueueId, state: QueueState) {
        if state.is_busy {
            self.busy.insert(queue);
        }
        self.order.insert(queue);
        self.by_id.insert(queue, state);
    }

    pub(crate) fn remove(&mut self, queue: QueueId) -> Option<QueueState> {
        self.order.remove(&queue);
        self.busy.remove(&queue);
        self.by_id.remove(&queue)
    }

    /// In no particular order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (QueueId, &QueueState)> {
        self.by_id.iter().map(|(queue, state)| (*queue, state))
    }

    /// In order, after one.
    pub(crate) fn after(&self, after: Option<QueueId>) -> impl Iterator<Item = QueueId> + '_ {
        self.order.range((from(after), Bound::Unbounded)).copied()
    }

    /// Of these, messages were hidden.
    pub(crate) fn note_busy(&mut self, queues: impl Iterator<Item = QueueId>) {
        self.busy.extend(queues);
    }

    /// Looks at up to `limit` queues of `busy`, after one, in order, and takes those out that came to rest.
    /// Also returns after which to look on.
    pub(crate) fn busy_after(
        &mut self,
        after: Option<QueueId>,
        limit: usize,
        now_ms: u64,
    ) -> (Vec<(QueueId, &QueueState)>, Option<QueueId>) {
        let range = self.busy.range((from(after), Bound::Unbounded));
        let mut looked_at: Vec<QueueId> = range.take(limit).copied().collect();
        let resume = looked_at.last().copied().filter(|_| looked_at.len() == limit);
        looked_at.retain(|queue| {
            let stays = self.by_id.get_mut(queue).is_some_and(|state| state.stays_busy(now_ms));
            if !stays {
                self.busy.remove(queue);
            }
            stays
        });
        let state = |queue: QueueId| Some((queue, self.by_id.get(&queue)?));
        (looked_at.into_iter().filter_map(state).collect(), resume)
    }
}

fn from(after: Option<QueueId>) -> Bound<QueueId> {
    after.map_or(Bound::Unbounded, Bound::Excluded)
}
