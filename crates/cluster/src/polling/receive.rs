//! One receive, short or long; how shards are asked is in `ask`, what a long poll does when it found nothing at once
//! in `wait`.

mod ask;
mod wait;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use flotilla_consensus::shard::ReceiveSpec;
use flotilla_queue::command::Redrive;
use flotilla_types::attributes::RedrivePolicy;
use flotilla_types::ids::{GroupId, QueueId};
use parking_lot::Mutex;
use rand::RngExt;
use tokio::time::Instant;

use super::deck::{Deck, Patience, SampleSize, Weights};
use crate::api::{Queue, ReceiveError, ReceiveRequest, Received, Trouble};
use crate::node::Node;
use crate::room::Room;
use crate::{fifo, gathering, request};

/// Queues whose deck a node remembers; beyond that it starts over, which costs only luck.
const DECKS_MAX: usize = 100_000;
/// Shards in all of them together, at about 50 bytes each.
const SLOTS_MAX: usize = 2_000_000;

/// When a long poll begins elsewhere than on its own node: with shards that were passed over for so many rounds of
/// all shards, or for fewer when what they are known to have is older than what is handed out (without it, consumers at one
/// node only would serve the other nodes' shards less than senders fill them), or for so long. A consumer that polls
/// seldom, because it works for long on what it gets, asks few: by rounds alone, others' messages would wait for dozens of its
/// polls.
fn patience(shards: usize) -> Patience {
    Patience { asks: 16 * shards, asks_behind: 4 * shards, behind_ms: 1_000, wait_ms: 200 }
}

/// After so many polls that found enough on the shard where a FIFO queue lives, the next one begins
/// with the other shards.
const HOME_PATIENCE: usize = 16;

/// How this node samples.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sampling {
    pub(crate) size: SampleSize,
    pub(crate) weights: Weights,
}

/// The decks of the queues that were polled through this node.
#[derive(Default)]
pub(crate) struct Decks(Mutex<HashMap<QueueId, Deck>>);

impl Decks {
    pub(crate) fn with<T>(
        &self,
        queue: QueueId,
        shards: usize,
        act: impl FnOnce(&mut Deck) -> T,
    ) -> T {
        let mut decks = self.0.lock();
        if let Some(deck) = decks.get_mut(&queue).filter(|deck| deck.shards() == shards) {
            return act(deck);
        }
        decks.remove(&queue);
        if decks.len() >= decks_max(shards) {
            decks.clear();
        }
        act(decks.entry(queue).or_insert_with(|| Deck::new(shards)))
    }
}

/// Decks of so many shards each.
fn decks_max(shards: usize) -> usize {
    DECKS_MAX.min(SLOTS_MAX / shards.max(1))
}

/// Leaders and links change while long polls wait, and until others lead nobody is heard: not longer than this where a
/// majority is left. A long poll that ends meanwhile is no error.
const REACHED_LATELY: Duration = Duration::from_secs(3);

/// A receive under way.
struct Poll<'a> {
    node: &'a Node,
    groups: Arc<[GroupId]>,
    request: ReceiveRequest,
    /// For a FIFO queue: the shard where it lives, unless it is spread.
    home: Option<GroupId>,
    spec: ReceiveSpec,
    /// As many as asked for, or as there is room for under the limit on messages in flight.
    max: usize,
    received: Received,
    room: Room,
    /// What the shards that are asked now may still give.
    bytes_left: usize,
    /// Whether one may have kept back something for which there was no room.
    withheld: bool,
    /// There was no room for anything.
    full: bool,
    /// When a shard was heard of last.
    reached_at: Option<Instant>,
    /// Whether one could not, or its answer was lost.
    missed: bool,
}

pub(crate) async fn receive(
    node: &Node,
    queue: &Queue,
    request: ReceiveRequest,
) -> Result<Received, ReceiveError> {
    let groups = node.router.groups();
    let spec = ReceiveSpec {
        queue: queue.id,
        max: request.max_messages,
        visibility_ms: u64::from(request.visibility_seconds) * 1_000,
        retention_ms: queue.attributes.retention_ms(),
        redrive: redrive(node, queue),
        attempt: request.attempt,
        only_again: false,
        quiet_only: false,
        bytes_max: 0,
        to_move: false,
    };
    let deadline = Instant::now() + Duration::from_secs(request.wait_seconds.into());
    let received = Received { shards: groups.len(), ..Received::default() };
    let is_fifo = queue.attributes.fifo.is_some();
    let settled = queue.placement.unsettled.is_empty();
    let home = (is_fifo && !queue.placement.spread && settled && !groups.is_empty())
        .then(|| fifo::shard_of(queue, None, &groups));
    let mut poll = Poll {
        node,
        groups,
        request,
        home,
        spec,
        max: request.max_messages,
        received,
        room: node.answers.room(),
        bytes_left: 0,
        withheld: false,
        full: false,
        reached_at: None,
        missed: false,
    };
    if !poll.look(is_fifo, deadline).await {
        return match request.wait_seconds {
            0 => Err(ReceiveError::TooManyInFlight),
            _ => Ok(poll.received),
        };
    }
    if poll.received.messages.is_empty() && request.wait_seconds > 0 {
        poll.wait(deadline).await;
    }
    poll.count();
    if poll.full && poll.received.messages.is_empty() {
        node.counters.overloaded.fetch_add(1, Ordering::Relaxed);
        return Err(match poll.received.lost {
            true => Trouble::Unavailable { maybe_applied: true }.into(),
            false => Trouble::Overloaded.into(),
        });
    }
    if poll.may_stand_elsewhere() || (poll.received.messages.is_empty() && !poll.has_reached()) {
        let (request_id, queue) = (request::current(), &queue.name);
        tracing::warn!(%request_id, %queue, "no shard that was asked answered a receive");
        return Err(Trouble::Unavailable { maybe_applied: poll.received.lost }.into());
    }
    Ok(poll.answer(is_fifo))
}

/// Where the queue's dead letters go. Without the dead-letter queue they stay and are handed out.
fn redrive(node: &Node, queue: &Queue) -> Option<Redrive> {
    let policy = RedrivePolicy::parse(queue.attributes.redrive_policy.as_deref()?).ok()?;
    let target = node.catalog.queue(policy.queue_name()?.as_str())?;
    let same_type = target.attributes.fifo.is_some() == queue.attributes.fifo.is_some();
    same_type.then(|| Redrive {
        target: target.id,
        receives_max: policy.max_receive_count,
        source: Bytes::copy_from_slice(queue.name.as_str().as_bytes()),
    })
}

impl Poll<'_> {
    /// Everything that comes before waiting for messages; `false` when no more of them may be in flight.
    async fn look(&mut self, is_fifo: bool, deadline: Instant) -> bool {
        let repeats = is_fifo && self.request.attempt.is_some();
        if repeats {
            self.look_for_attempt().await;
        }
        if self.is_answered() {
            return true;
        }
        let waits = self.node.in_flight_room(self.spec.queue) == 0;
        if !self.has_room_in_flight(deadline).await {
            return false;
        }
        if waits {
            self.renew();
            if repeats {
                // Another one under the same attempt may have been faster meanwhile.
                self.look_for_attempt().await;
            }
        }
        match (self.is_answered(), is_fifo) {
            (true, _) => {}
            (false, true) => self.look_for_groups().await,
            (false, false) => self.sample().await,
        }
        true
    }

    /// From now on asks for what the queue promises by now. A shard believes that there is a dead-letter queue
    /// that it never heard of, and dead letters of one that was deleted while the poll waited would be thrown
    /// away with it.
    fn renew(&mut self) {
        if let Some(queue) = self.node.catalog.queue_by_id(self.spec.queue) {
            self.spec.redrive = redrive(self.node, &queue);
            self.spec.retention_ms = queue.attributes.retention_ms();
        }
    }

    /// Whether more messages of the queue may be in flight, and how many. A long poll waits for the
    /// number to drop, and ends empty if it does not.
    async fn has_room_in_flight(&mut self, deadline: Instant) -> bool {
        let queue = self.spec.queue;
        let room = match self.node.in_flight_room(queue) {
            0 if self.request.wait_seconds > 0 => self.node.room_in_flight(queue, deadline).await,
            room => room,
        };
        let room = usize::try_from(room).unwrap_or(usize::MAX);
        self.max = self.request.max_messages.min(room);
        room > 0
    }

    /// What every poll starts with. A short poll asks a weighted random sample of the shards, and
    /// that is all. A long poll will ask all anyway; it looks first where that costs nothing.
    async fn sample(&mut self) {
        let router = &self.node.router;
        let sampling = self.node.sampling;
        let n = self.groups.len();
        let drawn: Vec<usize> = if self.request.wait_seconds == 0 {
            let is_local = |shard: usize| router.leads(self.groups[shard]);
            self.node.decks.with(self.spec.queue, n, |deck| {
                let (size, now_ms) = (sampling.size.of(n), self.node.clock.now_ms());
                deck.sample(size, sampling.weights, now_ms, is_local, &mut rand::rng())
            })
        } else {
            self.look_here_first()
        };
        let shards: Vec<GroupId> = drawn.iter().map(|shard| self.groups[*shard]).collect();
        let mut asked = Vec::new();
        if self.node.decks.with(self.spec.queue, n, |deck| deck.is_noisy()) {
            asked = self.ask_for_quiet(&shards).await;
        }
        // What is not hidden would come a second time. Fewer messages than asked for are none too few.
        if self.spec.visibility_ms > 0 || self.received.messages.is_empty() {
            asked.append(&mut self.ask(&shards).await);
        }
        self.note_asked(&asked);
    }

    /// Who was asked was not passed over, whatever it was asked for: that is what bounds for how long a shard can be.
    fn note_asked(&self, asked: &[GroupId]) {
        let (n, now_ms) = (self.groups.len(), self.node.clock.now_ms());
        let places: Vec<usize> = (0..n).filter(|n| asked.contains(&self.groups[*n])).collect();
        self.node.decks.with(self.spec.queue, n, |deck| deck.asked(&places, now_ms));
    }

    /// While some tenants are noisy: what the others have, before anything is taken of the noisy
    /// ones. A short poll asks its sample for that, a long poll all shards, these first.
    async fn ask_for_quiet(&mut self, shards: &[GroupId]) -> Vec<GroupId> {
        let mut order = shards.to_vec();
        if self.request.wait_seconds > 0 {
            order.extend(self.groups.iter().filter(|group| !shards.contains(group)));
        }
        self.spec.quiet_only = true;
        let asked = self.ask(&order).await;
        self.spec.quiet_only = false;
        asked
    }

    /// What an earlier receive was given under the same attempt, wherever that was. Comes before the limit on
    /// messages in flight: these are in flight already, and may be what it was reached with.
    async fn look_for_attempt(&mut self) {
        self.spec.only_again = true;
        let room = std::mem::replace(&mut self.max, self.request.max_messages);
        let groups = self.groups.clone();
        self.ask(&groups).await;
        self.max = room;
        self.spec.only_again = false;
    }

    /// Whether any shard could be asked at all. A long poll must not say that there is nothing because it knew so
    /// long ago: its node may have been cut off since.
    fn has_reached(&self) -> bool {
        let lately = |at: Instant| self.request.wait_seconds == 0 || at.elapsed() < REACHED_LATELY;
        self.reached_at.is_some_and(lately)
    }

    /// Whether nothing more may be asked for.
    fn is_answered(&self) -> bool {
        !self.received.messages.is_empty() || self.full || self.may_stand_elsewhere()
    }

    /// An earlier receive under the same attempt may have been given messages that were not found
    /// again, because their shard was not heard. Others must not be taken instead.
    fn may_stand_elsewhere(&self) -> bool {
        self.request.attempt.is_some() && self.missed && self.received.messages.is_empty()
    }

    /// What polls of a FIFO queue start with, short ones too: the shard where it lives, then all
    /// others, in another order each time. Dead letters stay on the shard on which their queue had
    /// them, so even a queue that is not spread may have messages elsewhere. Those must not wait
    /// until there is nothing at home: that may never be.
    async fn look_for_groups(&mut self) {
        let mut asked = Vec::new();
        if let Some(home) = self.home {
            let neglected = self.neglected(home);
            asked.append(&mut self.ask(&neglected).await);
            asked.append(&mut self.ask(&[home]).await);
        }
        if self.received.messages.is_empty() {
            let mut others: Vec<GroupId> = self.groups.to_vec();
            others.retain(|group| !asked.contains(group));
            let turn = rand::rng().random_range(0..others.len().max(1));
            others.rotate_left(turn);
            asked.append(&mut self.ask(&others).await);
        }
        self.note_asked(&asked);
    }

    /// Shards other than the one where the queue lives that were passed over for too long.
    fn neglected(&self, home: GroupId) -> Vec<GroupId> {
        let n = self.groups.len();
        let places =
            self.node.decks.with(self.spec.queue, n, |deck| deck.passed_over(HOME_PATIENCE));
        places.into_iter().map(|place| self.groups[place]).filter(|shard| *shard != home).collect()
    }

    /// For a long poll: the shards that are led here, beginning with the one whose turn it is. A consumer that
    /// always finds something here must not starve the other nodes' shards: those that were passed
    /// over for long come first.
    fn look_here_first(&self) -> Vec<usize> {
        let (n, now_ms) = (self.groups.len(), self.node.clock.now_ms());
        let mut order =
            self.node.decks.with(self.spec.queue, n, |deck| deck.neglected(&patience(n), now_ms));
        let led = self.node.router.led_here();
        let is_local = |shard: &usize| led.contains(&self.groups[*shard]);
        let mut local: Vec<usize> = (0..n).filter(is_local).collect();
        if !local.is_empty() {
            let turn = gathering::turn_at(self.node.clock.now_ms());
            let place = gathering::place(turn, local.len());
            local.rotate_left(place);
        }
        local.retain(|shard| !order.contains(shard));
        order.append(&mut local);
        order
    }

    /// The messages, and the room that they take. Those of a standard queue are in the order in which they were sent,
    /// as far as one answer goes: a queue promises no order, and whoever sends two messages and receives two expects
    /// the first one first.
    fn answer(mut self, is_fifo: bool) -> Received {
        if !is_fifo {
            self.received.messages.sort_by_key(|message| message.sent_ms);
        }
        Received { room: Some(self.room), ..self.received }
    }

    fn count(&self) {
        let counters = &self.node.counters;
        let empty = self.received.messages.is_empty();
        let (all, empties) = if self.request.wait_seconds == 0 {
            (&counters.short_polls, &counters.short_polls_empty)
        } else {
            (&counters.long_polls, &counters.long_polls_empty)
        };
        all.fetch_add(1, Ordering::Relaxed);
        empties.fetch_add(u64::from(empty), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decks_are_bounded_by_the_shards_in_all_of_them() {
        assert_eq!(decks_max(8), DECKS_MAX);
        assert_eq!(decks_max(1_000), 2_000);
        let decks = Decks::default();
        let slots = || decks.0.lock().values().map(Deck::shards).sum::<usize>();
        let half = SLOTS_MAX / 2;
        for queue in 0..3 {
            decks.with(QueueId(queue), half, |_| ());
            assert!(slots() <= SLOTS_MAX);
        }
        assert_eq!(slots(), half, "it started over");
        // A queue may be there with fewer shards than it has by now.
        for queue in 0..4 {
            decks.with(QueueId(queue), 10, |_| ());
        }
        for queue in 0..4 {
            decks.with(QueueId(queue), half, |_| ());
            assert!(slots() <= SLOTS_MAX + 30);
        }
    }
}
