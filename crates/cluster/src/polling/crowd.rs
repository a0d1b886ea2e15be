//! The limit on a queue's messages in flight, and the long polls that wait for room under it.
//!
//! A node counts what the shards that it leads have in flight, and hears from the others every second how
//! much that is in each of theirs (`in_flight`). What was taken there through this node since then is
//! counted on top, so that one node alone does not pass the limit between two words; what several take in
//! the same second they do not know of each other, so the limit is kept about, not exactly.
//!
//! Words are kept by shard, not by node: when a shard gets another leader, what the one before said of
//! it must not be counted beside what the new one says.
//!
//! A poll that waits here looks again when something of the queue is deleted or made
//! visible through this node, and once a second; as many are let in as there is room for.
//!
//! Invariant: a node that says nothing keeps nobody from receiving: what it said last expires.

use std::collections::{BTreeMap, HashMap};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use flotilla_types::ids::{GroupId, NodeId, QueueId};
use flotilla_types::limits::{BATCH_ENTRIES_MAX, IN_FLIGHT_QUEUES_NOTED_MAX};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::node::Node;

/// How long a node's word holds: some may come late or get lost.
const WORD: Duration = Duration::from_secs(5);
/// Nodes do not speak of queues of which they have little in flight. What is untold so of all nodes
/// together is this part of the limit at most.
const UNTOLD_DIVISOR: u64 = 64;

/// See the module.
pub(crate) struct Crowd {
    in_flight_max: u64,
    elsewhere: Mutex<BTreeMap<GroupId, Elsewhere>>,
    waiting: Mutex<HashMap<QueueId, Waiting>>,
}

/// What a shard of another node has in flight.
struct Elsewhere {
    /// Who told, or where something was taken.
    leader: NodeId,
    /// As it was told, and until when that holds. Queues that are missing have little or nothing.
    said: HashMap<QueueId, u64>,
    until: Option<Instant>,
    /// What was taken there through this node since its last word, less what was given back.
    since: HashMap<QueueId, i64>,
    /// The same of the turn before that, if it said nothing then.
    before: HashMap<QueueId, i64>,
    has_spoken: bool,
}

impl Elsewhere {
    fn of(leader: NodeId) -> Self {
        Self {
            leader,
            said: HashMap::new(),
            until: None,
            since: HashMap::new(),
            before: HashMap::new(),
            has_spoken: false,
        }
    }

    /// Whether what was told still counts.
    fn holds(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| until > now)
    }

    fn in_flight(&self, queue: QueueId, now: Instant) -> u64 {
        let said = self.said.get(&queue).copied().filter(|_| self.holds(now)).unwrap_or(0);
        let noted = [&self.since, &self.before].map(|noted| noted.get(&queue).copied());
        said.saturating_add_signed(noted.into_iter().flatten().sum())
    }

    fn note(&mut self, queue: QueueId, by: i64) {
        if self.since.len() < IN_FLIGHT_QUEUES_NOTED_MAX || self.since.contains_key(&queue) {
            *self.since.entry(queue).or_insert(0) += by;
        }
    }

    fn turn(&mut self) {
        // Otherwise it has nothing to tell, or cannot: what it does not know after a turn it never will.
        if !std::mem::take(&mut self.has_spoken) {
            self.before = std::mem::take(&mut self.since);
        }
    }

    fn is_over(&self, now: Instant) -> bool {
        !self.holds(now) && self.since.is_empty() && self.before.is_empty()
    }
}

#[derive(Clone, Default)]
struct Waiting {
    polls: usize,
    /// Wakes in order of arrival, and passes on what a poll that went away was given.
    turn: Arc<Notify>,
}

/// What one shard has in flight of one queue, as its leader says.
pub(crate) struct Told {
    pub(crate) shard: GroupId,
    pub(crate) queue: QueueId,
    pub(crate) in_flight: u64,
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

    /// From so many messages in flight in its shards on a node tells the others of a queue.
    pub(crate) fn told_from(&self, nodes: usize) -> u64 {
        (self.in_flight_max / (UNTOLD_DIVISOR * nodes as u64)).max(1)
    }

    /// Another node says what the shards that it leads have in flight.
    pub(crate) fn hear(&self, from: NodeId, said: impl Iterator<Item = Told>, now: Instant) {
        let (until, has_spoken) = (Some(now + WORD), true);
        let fresh = || Elsewhere { until, has_spoken, ..Elsewhere::of(from) };
        let mut heard: BTreeMap<GroupId, Elsewhere> = BTreeMap::new();
        for told in said {
            let shard = heard.entry(told.shard).or_insert_with(fresh);
            shard.said.insert(told.queue, told.in_flight);
        }
        let mut elsewhere = self.elsewhere.lock();
        elsewhere.retain(|_, shard| shard.leader != from);
        // Whoever led these before is not asked any more.
        elsewhere.extend(heard);
    }

    /// A shard that another node leads has so many more in flight, or fewer, by a request through this one.
    pub(crate) fn note(&self, leader: NodeId, shard: GroupId, queue: QueueId, by: i64) {
        let mut elsewhere = self.elsewhere.lock();
        elsewhere.entry(shard).or_insert_with(|| Elsewhere::of(leader)).note(queue, by);
    }

    /// To be called as often as nodes speak.
    pub(crate) fn turn(&self, now: Instant) {
        let mut elsewhere = self.elsewhere.lock();
        elsewhere.values_mut().for_each(Elsewhere::turn);
        elsewhere.retain(|_, shard| !shard.is_over(now));
    }

    /// What is in flight in shards of others. Those that are led here meanwhile are counted here.
    fn elsewhere(&self, queue: QueueId, now: Instant, is_here: impl Fn(GroupId) -> bool) -> u64 {
        let elsewhere = self.elsewhere.lock();
        let found = elsewhere.iter().map(|(shard, it)| (*shard, it.in_flight(queue, now)));
        // Who leads is only asked where there is something: every receive comes here.
        let others = found.filter(|(shard, count)| *count > 0 && !is_here(*shard));
        others.map(|(_, count)| count).sum()
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
    /// Messages that may still be received before the limit.
    pub(crate) fn in_flight_room(&self, queue: QueueId) -> u64 {
        let is_here = |shard| self.router.leader(shard) == Some(self.id);
        let elsewhere = self.crowd.elsewhere(queue, Instant::now(), is_here);
        self.crowd.in_flight_max.saturating_sub(self.router.in_flight_here(queue) + elsewhere)
    }

    /// Messages of these shards that were in flight are not any more.
    pub(crate) fn note_back(&self, queue: QueueId, shards: impl Iterator<Item = GroupId>) {
        for shard in shards {
            if let Some(leader) = self.router.leader(shard).filter(|leader| *leader != self.id) {
                self.crowd.note(leader, shard, queue, -1);
            }
        }
    }

    /// Waits until a queue is below the limit; 0 if it is not in time, else what room there is.
    pub(crate) async fn room_in_flight(&self, queue: QueueId, deadline: Instant) -> u64 {
        let place = self.crowd.enter(queue);
        loop {
            let mut turn = pin!(place.turn.notified());
            // Before the look, or what changes right after it would be missed.
            turn.as_mut().enable();
            let room = self.in_flight_room(queue);
            if room > 0 {
                return room;
            }
            tokio::select! {
                () = turn => {}
                () = tokio::time::sleep_until(deadline) => return 0,
                () = self.end_of_polls() => return 0,
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
    const OTHER: QueueId = QueueId(2);

    #[test]
    fn as_many_polls_as_there_is_room_for() {
        assert_eq!(polls_for(0), 0);
        assert_eq!(polls_for(1), 1);
        assert_eq!(polls_for(10), 1);
        assert_eq!(polls_for(11), 2);
    }

    #[test]
    fn what_nodes_do_not_tell_is_a_small_part_of_the_limit() {
        for nodes in [1, 3, 5, 64] {
            let untold = Crowd::new(120_000).told_from(nodes) * nodes as u64;
            assert!(untold <= 120_000 / UNTOLD_DIVISOR);
        }
        assert_eq!(Crowd::new(5).told_from(3), 1);
    }

    fn told<const N: usize>(said: [(GroupId, QueueId, u64); N]) -> impl Iterator<Item = Told> {
        said.into_iter().map(|(shard, queue, in_flight)| Told { shard, queue, in_flight })
    }

    fn all(crowd: &Crowd, queue: QueueId, now: Instant) -> u64 {
        crowd.elsewhere(queue, now, |_| false)
    }

    #[test]
    fn what_other_nodes_say_counts_until_they_say_something_else_or_nothing_for_long() {
        let (crowd, now) = (Crowd::new(100), Instant::now());
        crowd.hear(NodeId(2), told([(GroupId(1), QUEUE, 30), (GroupId(1), OTHER, 1)]), now);
        crowd.hear(NodeId(3), told([(GroupId(2), QUEUE, 12)]), now + Duration::from_secs(1));
        assert_eq!(all(&crowd, QUEUE, now), 42);
        assert_eq!(all(&crowd, OTHER, now), 1);
        assert_eq!(all(&crowd, QUEUE, now + WORD), 12, "the word of a node expires");
        assert_eq!(all(&crowd, QUEUE, now + 2 * WORD), 0);
        crowd.hear(NodeId(3), told([(GroupId(3), OTHER, 5)]), now);
        assert_eq!(all(&crowd, QUEUE, now), 30, "what is not named is not there");
        assert_eq!(all(&crowd, OTHER, now), 6);
        crowd.turn(now + 2 * WORD);
        assert!(crowd.elsewhere.lock().is_empty(), "nothing is kept of what is over");
    }

    #[test]
    fn what_was_taken_since_a_word_counts_on_top_of_it() {
        let (crowd, now, shard) = (Crowd::new(100), Instant::now(), GroupId(1));
        crowd.note(NodeId(2), shard, QUEUE, 10);
        assert_eq!(all(&crowd, QUEUE, now), 10, "also where nothing was said");
        crowd.hear(NodeId(2), told([(shard, QUEUE, 25)]), now);
        assert_eq!(all(&crowd, QUEUE, now), 25, "it is in there");
        crowd.note(NodeId(2), shard, QUEUE, 10);
        crowd.note(NodeId(2), shard, QUEUE, -3);
        crowd.note(NodeId(3), GroupId(2), QUEUE, -40);
        assert_eq!(all(&crowd, QUEUE, now), 32, "no shard has less than nothing");
        // The turn in which it spoke, one in which it could have told, and it is none of its news.
        for (turn, expected) in [32, 32, 25].into_iter().enumerate() {
            crowd.turn(now);
            assert_eq!(all(&crowd, QUEUE, now), expected, "turn {turn}");
        }
    }

    /// Found by chaos: for five seconds after a node had ended, what it had said was counted beside what
    /// the next leaders of its shards said, and receives were refused with half of the limit in flight.
    #[test]
    fn a_shard_that_gets_another_leader_is_counted_once() {
        let (crowd, now) = (Crowd::new(100), Instant::now());
        crowd.hear(NodeId(2), told([(GroupId(1), QUEUE, 30), (GroupId(2), QUEUE, 40)]), now);
        crowd.note(NodeId(2), GroupId(1), QUEUE, 3);
        crowd.hear(NodeId(3), told([(GroupId(1), QUEUE, 33)]), now);
        assert_eq!(all(&crowd, QUEUE, now), 73);
        let led_here = |shard| shard == GroupId(2);
        assert_eq!(crowd.elsewhere(QUEUE, now, led_here), 33);
        // Back again, without anything, it does not unsay what is another's now.
        crowd.hear(NodeId(2), told([]), now);
        assert_eq!(all(&crowd, QUEUE, now), 33);
    }

    #[test]
    fn what_is_noted_is_bounded() {
        let (crowd, now, shard) = (Crowd::new(100), Instant::now(), GroupId(1));
        let max = IN_FLIGHT_QUEUES_NOTED_MAX as u64;
        for queue in 0..=max {
            crowd.note(NodeId(2), shard, QueueId(queue), 1);
        }
        crowd.note(NodeId(2), shard, QueueId(0), 1);
        assert_eq!(all(&crowd, QueueId(0), now), 2);
        assert_eq!(all(&crowd, QueueId(max), now), 0);
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
