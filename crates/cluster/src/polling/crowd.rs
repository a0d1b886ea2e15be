//! The limit on a queue's messages in flight, and the long polls that wait for room under it.
//!
//! What other nodes' shards have in flight is known as of a second ago, so the limit is kept about,
//! not exactly. A poll that waits here looks again when something of the queue is deleted or made
//! visible through this node, and once a second; as many are let in as there is room for.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;

use flotilla_types::ids::QueueId;
use flotilla_types::limits::BATCH_ENTRIES_MAX;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::node::Node;

/// Other nodes are asked for their numbers from this part of the limit on.
const WATCHED_DIVISOR: u64 = 12;

/// See the module.
pub(crate) struct Crowd {
    in_flight_max: u64,
    /// In-flight messages at other nodes' shards, as they last said, for queues near the limit.
    elsewhere: Mutex<HashMap<QueueId, u64>>,
    waiting: Mutex<HashMap<QueueId, Waiting>>,
}

#[derive(Clone, Default)]
struct Waiting {
    polls: usize,
    /// Wakes in order of arrival, and passes on what a poll that went away was given.
    turn: Arc<Notify>,
}

/// A poll's place among those that wait; dropping it leaves.
struct Place<'a> {
    crowd: &'a Crowd,
    queue: QueueId,
    turn: Arc<Notify>,
}

impl Crowd {
    pub(crate) fn new(in_flight_max: u32) -> Self {
        Self {
            in_flight_max: in_flight_max.into(),
            elsewhere: Mutex::default(),
            waiting: Mutex::default(),
        }
    }

    /// From so many in-flight messages here on, other nodes are asked for theirs.
    pub(crate) fn watched_from(&self) -> u64 {
        (self.in_flight_max / WATCHED_DIVISOR).max(1)
    }

    /// What the other nodes said; queues that are missing have none.
    pub(crate) fn note_elsewhere(&self, elsewhere: HashMap<QueueId, u64>) {
        *self.elsewhere.lock() = elsewhere;
    }

    /// Queues that polls wait for.
    pub(crate) fn awaited(&self) -> Vec<QueueId> {
        self.waiting.lock().keys().copied().collect()
    }

    fn enter(&self, queue: QueueId) -> Place<'_> {
        let mut waiting = self.waiting.lock();
        let waiting = waiting.entry(queue).or_default();
        waiting.polls += 1;
        Place { crowd: self, queue, turn: waiting.turn.clone() }
    }

    fn let_in(&self, queue: QueueId, room: impl FnOnce() -> u64) {
        let waiting = self.waiting.lock().get(&queue).cloned();
        let Some(waiting) = waiting else { return };
        for _ in 0..polls_for(room()).min(waiting.polls) {
            waiting.turn.notify_one();
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut all = self.crowd.waiting.lock();
        if let Some(waiting) = all.get_mut(&self.queue) {
            waiting.polls -= 1;
            if waiting.polls == 0 {
                all.remove(&self.queue);
            }
        }
    }
}

/// How many polls may share this much room, each of which may take a full batch. All of them at
/// once would go far beyond the limit.
fn polls_for(room: u64) -> usize {
    usize::try_from(room.div_ceil(BATCH_ENTRIES_MAX as u64)).unwrap_or(usize::MAX)
}

impl Node {
    /// In the shards that are led here.
    pub(crate) fn in_flight_here(&self, queue: QueueId) -> u64 {
        let shards = self.router.all_here().into_iter();
        shards.filter_map(|shard| Some(shard.counts(queue)?.in_flight)).sum()
    }

    /// Messages that may still be received before the limit.
    fn in_flight_room(&self, queue: QueueId) -> u64 {
        let elsewhere = self.crowd.elsewhere.lock().get(&queue).copied().unwrap_or(0);
        self.crowd.in_flight_max.saturating_sub(self.in_flight_here(queue) + elsewhere)
    }

    /// Whether a queue is at the limit.
    pub(crate) fn too_many_in_flight(&self, queue: QueueId) -> bool {
        self.in_flight_room(queue) == 0
    }

    /// Waits until a queue is below the limit; `false` if it is not in time.
    pub(crate) async fn room_in_flight(&self, queue: QueueId, deadline: Instant) -> bool {
        let place = self.crowd.enter(queue);
        loop {
            let mut turn = pin!(place.turn.notified());
            // Before the look, or what changes right after it would be missed.
            turn.as_mut().enable();
            if !self.too_many_in_flight(queue) {
                return true;
            }
            tokio::select! {
                () = turn => {}
                () = tokio::time::sleep_until(deadline) => return false,
                () = self.stopped() => return false,
            }
        }
    }

    /// Lets polls look again if there is room: something of the queue may not be in flight any
    /// more.
    pub(crate) fn let_in(&self, queue: QueueId) {
        self.crowd.let_in(queue, || self.in_flight_room(queue));
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    const QUEUE: QueueId = QueueId(1);

    #[test]
    fn as_many_polls_as_there_is_room_for() {
        assert_eq!(polls_for(0), 0);
        assert_eq!(polls_for(1), 1);
        assert_eq!(polls_for(10), 1);
        assert_eq!(polls_for(11), 2);
        assert_eq!(Crowd::new(120_000).watched_from(), 10_000);
        assert_eq!(Crowd::new(5).watched_from(), 1);
    }

    #[test]
    fn polls_are_let_in_in_order_of_arrival_and_leave_nothing_behind() {
        let crowd = Crowd::new(100);
        crowd.let_in(QUEUE, || panic!("nobody waits: nothing is counted"));
        let places: Vec<_> = (0..3).map(|_| crowd.enter(QUEUE)).collect();
        let mut turns: Vec<_> =
            places.iter().map(|place| Box::pin(place.turn.notified())).collect();
        for turn in &mut turns {
            turn.as_mut().enable();
        }
        crowd.let_in(QUEUE, || 0);
        assert!(turns[0].as_mut().now_or_never().is_none());
        crowd.let_in(QUEUE, || 7);
        assert!(turns[0].as_mut().now_or_never().is_some());
        assert!(turns[1].as_mut().now_or_never().is_none());
        assert_eq!(crowd.awaited(), [QUEUE]);
        drop(turns);
        drop(places);
        assert!(crowd.awaited().is_empty());
    }
}
