//! Where long polls wait, and who is told when something arrives.
//!
//! On each node the hub holds two things per queue: the polls parked *here*, and the *interest* of
//! other nodes in shards that are led here. A shard leader that gets something to hand out tells
//! its own hub: that wakes as many local polls as it can feed, and if those do not suffice it tells
//! every interested node, whose hub does the same for its own polls.
//!
//! Invariant: no wake-up is lost. A poll is in the hub before anything is asked (arm, ask, park); a
//! wake-up that reached a poll which then went away is passed on to the next one; a node's interest
//! is dropped only by a "nobody here" that answers a wake-up sent after the latest arming, or when it
//! outlived every poll that it was for; a wake-up that a node could not be told, over a link that is up, is owed to it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use flotilla_consensus::shard::ShardEvents;
use flotilla_probe::{failpoint, planted, sometimes};
use flotilla_types::ids::{GroupId, NodeId, QueueId};
use flotilla_types::limits::{PARKED_POLLS_MAX, WAIT_SECONDS_MAX};
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

/// How long a node's interest lasts without being renewed: longer than any poll that renewed it.
const INTEREST: Duration = Duration::from_secs(WAIT_SECONDS_MAX as u64 + 5);

/// Queues that are looked through at once for interest that is over: the lock is held meanwhile.
const FORGOTTEN_AT_ONCE: usize = 1_000;

/// Why a parked poll was woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wake {
    /// This shard has something.
    Available(GroupId),
    /// A leader or a link changed: arm and ask again.
    Rearm,
}

/// For another node: a queue has something in a shard that is led here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RemoteWake {
    pub(crate) node: NodeId,
    pub(crate) queue: QueueId,
    pub(crate) shard: GroupId,
    pub(crate) count: usize,
    /// For [`Hub::nobody_there`].
    pub(crate) armed: u64,
}

/// Whom something could not be told, and of which shard.
type Owed = BTreeMap<(NodeId, QueueId, GroupId), (usize, u64)>;

#[derive(Clone, Copy)]
struct Interest {
    until: Instant,
    /// Which arming this is of; grows.
    armed: u64,
}

#[derive(Default)]
struct Awaited {
    /// By ticket, so that who came first is woken first.
    parked: BTreeMap<u64, oneshot::Sender<Wake>>,
    interest: BTreeMap<NodeId, Interest>,
}

/// See the module.
pub(crate) struct Hub {
    /// In order, so that they can be looked through bit by bit.
    queues: Mutex<BTreeMap<QueueId, Awaited>>,
    /// Where [`Hub::forget_some`] goes on.
    forget_from: AtomicU64,
    /// How many polls, and which arming asked for it. Of each shard, node and queue with interest one at most.
    owed: Mutex<Owed>,
    tickets: AtomicU64,
    parked: AtomicUsize,
    wakes: AtomicU64,
    /// Read by the task that sends wake-ups to the other nodes. Unbounded, but it holds at most
    /// one item per queue, node and batch of applied commands, and the task never waits.
    remote: mpsc::UnboundedSender<RemoteWake>,
}

impl Hub {
    pub(crate) fn new(remote: mpsc::UnboundedSender<RemoteWake>) -> Arc<Self> {
        Arc::new(Self {
            queues: Mutex::default(),
            forget_from: AtomicU64::new(0),
            owed: Mutex::default(),
            tickets: AtomicU64::new(0),
            parked: AtomicUsize::new(0),
            wakes: AtomicU64::new(0),
            remote,
        })
    }

    /// Polls parked now.
    pub(crate) fn parked(&self) -> usize {
        self.parked.load(Ordering::Relaxed)
    }

    /// Polls woken so far.
    pub(crate) fn wakes(&self) -> u64 {
        self.wakes.load(Ordering::Relaxed)
    }

    /// Arms a poll; `None` when too many are parked already.
    pub(crate) fn park(self: &Arc<Self>, queue: QueueId) -> Option<Parked> {
        if self.parked.fetch_add(1, Ordering::Relaxed) >= PARKED_POLLS_MAX {
            self.parked.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        failpoint!(Park);
        let ticket = self.tickets.fetch_add(1, Ordering::Relaxed);
        let (tx, rx) = oneshot::channel();
        self.queues.lock().entry(queue).or_default().parked.insert(ticket, tx);
        Some(Parked { hub: self.clone(), queue, ticket, rx, woken: None })
    }

    /// Another node has parked polls for this queue.
    pub(crate) fn note_interest(&self, queue: QueueId, node: NodeId) {
        let armed = self.tickets.fetch_add(1, Ordering::Relaxed);
        let interest = Interest { until: Instant::now() + INTEREST, armed };
        self.queues.lock().entry(queue).or_default().interest.insert(node, interest);
    }

    /// Drops interest that is over, some queues further each time: to some of them, as they were deleted, nothing
    /// ever comes that would show it.
    pub(crate) fn forget_some(&self, now: Instant) {
        let mut queues = self.queues.lock();
        let from = QueueId(self.forget_from.load(Ordering::Relaxed));
        let (mut idle, mut left, mut next) = (Vec::new(), FORGOTTEN_AT_ONCE, 0);
        for (queue, awaited) in queues.range_mut(from..) {
            if left == 0 {
                next = queue.0;
                break;
            }
            left -= 1;
            awaited.interest.retain(|_, interest| interest.until > now);
            if awaited.is_idle() {
                idle.push(*queue);
            }
        }
        for queue in idle {
            queues.remove(&queue);
        }
        self.forget_from.store(next, Ordering::Relaxed);
    }

    /// A node had no parked poll for a wake-up.
    pub(crate) fn nobody_there(&self, wake: &RemoteWake) {
        let mut queues = self.queues.lock();
        let Some(awaited) = queues.get_mut(&wake.queue) else { return };
        // It may have armed again meanwhile; that arming asked the shards itself.
        if awaited.interest.get(&wake.node).is_some_and(|interest| interest.armed == wake.armed) {
            awaited.interest.remove(&wake.node);
        }
        if awaited.is_idle() {
            queues.remove(&wake.queue);
        }
    }

    /// A node could not be told; whether the caller has to see to it that it is, soon: otherwise somebody else is
    /// about to.
    pub(crate) fn owe(&self, wake: RemoteWake) -> bool {
        let mut owed = self.owed.lock();
        let is_first = owed.is_empty();
        let (count, armed) = owed.entry((wake.node, wake.queue, wake.shard)).or_default();
        *count = count.saturating_add(wake.count);
        *armed = wake.armed.max(*armed);
        is_first
    }

    /// What nodes are still to be told: those that armed again since then asked the shards themselves.
    pub(crate) fn take_owed(&self) -> Vec<RemoteWake> {
        let owed = std::mem::take(&mut *self.owed.lock());
        let (queues, now) = (self.queues.lock(), Instant::now());
        let is_wanted = |wake: &RemoteWake| {
            let interest = queues.get(&wake.queue).and_then(|it| it.interest.get(&wake.node));
            interest.is_some_and(|it| it.armed == wake.armed && it.until > now)
        };
        let wake = |((node, queue, shard), (count, armed))| RemoteWake {
            node,
            queue,
            shard,
            count,
            armed,
        };
        owed.into_iter().map(wake).filter(is_wanted).collect()
    }

    /// Wakes up to `count` local polls; how many there were.
    pub(crate) fn wake(&self, queue: QueueId, shard: GroupId, count: usize) -> usize {
        match self.queues.lock().get_mut(&queue) {
            Some(awaited) => self.wake_parked(awaited, Wake::Available(shard), count),
            None => 0,
        }
    }

    /// Makes every parked poll ask again.
    pub(crate) fn rearm_all(&self) {
        for awaited in self.queues.lock().values_mut() {
            self.wake_parked(awaited, Wake::Rearm, usize::MAX);
        }
    }

    fn wake_parked(&self, awaited: &mut Awaited, wake: Wake, count: usize) -> usize {
        let mut woken = 0;
        while woken < count {
            let Some((_, poll)) = awaited.parked.pop_first() else { break };
            // One that has gone meanwhile takes no wake-up.
            woken += usize::from(poll.send(wake).is_ok());
        }
        if woken > 0 {
            failpoint!(Wake);
        }
        self.wakes.fetch_add(woken as u64, Ordering::Relaxed);
        woken
    }

    fn leave(&self, queue: QueueId, ticket: u64) {
        self.parked.fetch_sub(1, Ordering::Relaxed);
        let mut queues = self.queues.lock();
        let Some(awaited) = queues.get_mut(&queue) else { return };
        awaited.parked.remove(&ticket);
        if awaited.is_idle() {
            queues.remove(&queue);
        }
    }
}

impl Awaited {
    fn is_idle(&self) -> bool {
        self.parked.is_empty() && self.interest.is_empty()
    }
}

impl ShardEvents for Hub {
    fn awaited(&self, queue: QueueId) -> bool {
        self.queues.lock().contains_key(&queue)
    }

    fn available(&self, shard: GroupId, queue: QueueId, count: usize) {
        let mut queues = self.queues.lock();
        let Some(awaited) = queues.get_mut(&queue) else { return };
        let woken = self.wake_parked(awaited, Wake::Available(shard), count);
        if woken >= count || awaited.interest.is_empty() || planted!(WakeOnlyHere) {
            return;
        }
        let now = Instant::now();
        awaited.interest.retain(|_, interest| interest.until > now);
        for (node, interest) in &awaited.interest {
            let (node, armed) = (*node, interest.armed);
            // The receiver lives as long as the node.
            let _ =
                self.remote.send(RemoteWake { node, queue, shard, count: count - woken, armed });
        }
        if awaited.is_idle() {
            queues.remove(&queue);
        }
    }
}

/// A poll's place in the hub. Dropping it leaves; a wake-up that it got and did not take is passed
/// on.
pub(crate) struct Parked {
    hub: Arc<Hub>,
    queue: QueueId,
    ticket: u64,
    rx: oneshot::Receiver<Wake>,
    /// Received and not yet acted upon.
    woken: Option<GroupId>,
}

impl Parked {
    /// Waits for a wake-up; cancel-safe.
    pub(crate) async fn woken(&mut self) -> Wake {
        // The sender is only dropped together with the hub's entry, after a send or by `leave`.
        let wake = (&mut self.rx).await.unwrap_or(Wake::Rearm);
        self.remember(wake);
        wake
    }

    /// The wake-up that came by now, if any; it still has to be acted upon.
    pub(crate) fn woken_by_now(&mut self) -> Option<Wake> {
        let wake = self.rx.try_recv().ok()?;
        self.remember(wake);
        Some(wake)
    }

    fn remember(&mut self, wake: Wake) {
        if let Wake::Available(shard) = wake {
            self.woken = Some(shard);
        }
    }

    /// Does something that may take long. A wake-up that comes meanwhile is left to the other polls at
    /// once, as this one may wait in vain for seconds; and it is told of it, as there may be no others.
    pub(crate) async fn meanwhile<T>(&mut self, act: impl Future<Output = T>) -> (T, Option<Wake>) {
        let mut act = std::pin::pin!(act);
        let wake = tokio::select! {
            biased;
            done = &mut act => return (done, None),
            wake = self.woken() => wake,
        };
        self.pass_on();
        (act.await, Some(wake))
    }

    /// To the next poll here, or to the other nodes': they were not told while this one seemed to be
    /// enough.
    fn pass_on(&mut self) {
        drop(self.untaken());
    }

    fn untaken(&mut self) -> Option<Untaken> {
        let shard = self.woken.take()?;
        Some(Untaken { hub: self.hub.clone(), queue: self.queue, shard })
    }

    /// The shard of the wake-up could not be asked. Leaves; the wake-up is the caller's to pass on.
    pub(crate) fn refused(mut self) -> Option<Untaken> {
        self.untaken()
    }

    /// The wake-up was acted upon (or there is nothing to pass on any more).
    pub(crate) fn taken(mut self) {
        self.woken = None;
        // From here on `drop` only leaves.
        self.rx.close();
        self.woken_by_now();
    }
}

impl Drop for Parked {
    fn drop(&mut self) {
        self.hub.leave(self.queue, self.ticket);
        self.rx.close();
        self.pass_on();
        self.woken_by_now();
        self.pass_on();
    }
}

/// A wake-up that a poll got and did not act upon. Dropping it passes it on.
pub(crate) struct Untaken {
    hub: Arc<Hub>,
    queue: QueueId,
    shard: GroupId,
}

impl Drop for Untaken {
    fn drop(&mut self) {
        sometimes!(WakePassedOn);
        self.hub.available(self.shard, self.queue, 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUEUE: QueueId = QueueId(1);
    const SHARD: GroupId = GroupId(2);
    const NODE: NodeId = NodeId(3);

    fn hub() -> (Arc<Hub>, mpsc::UnboundedReceiver<RemoteWake>) {
        let (tx, rx) = mpsc::unbounded_channel();
        (Hub::new(tx), rx)
    }

    #[tokio::test]
    async fn wakes_as_many_as_it_can_feed_in_order_of_arrival() {
        let (hub, _remote) = hub();
        let mut polls: Vec<_> = (0..3).map(|_| hub.park(QUEUE).unwrap()).collect();
        hub.available(SHARD, QUEUE, 2);
        assert_eq!(polls[0].woken().await, Wake::Available(SHARD));
        assert_eq!(polls[1].woken().await, Wake::Available(SHARD));
        assert!(polls[2].rx.try_recv().is_err());
    }

    #[tokio::test]
    async fn a_wake_up_of_a_poll_that_went_away_is_passed_on() {
        let (hub, _remote) = hub();
        let first = hub.park(QUEUE).unwrap();
        let mut second = hub.park(QUEUE).unwrap();
        hub.available(SHARD, QUEUE, 1);
        drop(first);
        assert_eq!(second.woken().await, Wake::Available(SHARD));
        // Also after it was received, until it was acted upon.
        let mut third = hub.park(QUEUE).unwrap();
        drop(second);
        assert_eq!(third.woken().await, Wake::Available(SHARD));
        third.taken();
        assert_eq!(hub.parked(), 0);
        assert!(!hub.awaited(QUEUE));
    }

    /// Whoever was refused and ended before it could ask again took the wake-up with it.
    #[tokio::test]
    async fn a_wake_up_whose_shard_refused_is_passed_on_at_the_end_of_its_poll() {
        let (hub, _remote) = hub();
        let (mut first, mut second) = (hub.park(QUEUE).unwrap(), hub.park(QUEUE).unwrap());
        hub.available(SHARD, QUEUE, 1);
        first.woken().await;
        let untaken = first.refused();
        assert_eq!(hub.parked(), 1, "it has left");
        // It arms again, and asks again as well.
        let again = hub.park(QUEUE).unwrap();
        assert_eq!(second.woken_by_now(), None);
        drop((again, untaken));
        assert_eq!(second.woken().await, Wake::Available(SHARD));
    }

    #[test]
    fn interest_that_is_over_is_forgotten_bit_by_bit() {
        let (hub, _remote) = hub();
        let count = FORGOTTEN_AT_ONCE as u64 + 10;
        for queue in 0..count {
            hub.note_interest(QueueId(queue), NODE);
        }
        let awaited = || (0..count).filter(|queue| hub.awaited(QueueId(*queue))).count();
        let now = Instant::now();
        for _ in 0..3 {
            hub.forget_some(now);
        }
        assert_eq!(awaited(), count as usize, "nothing is over yet");
        let parked = hub.park(QUEUE).unwrap();
        hub.forget_some(now + 2 * INTEREST);
        hub.forget_some(now + 2 * INTEREST);
        assert_eq!(awaited(), 1, "only where somebody waits here");
        drop(parked);
        assert_eq!(awaited(), 0);
    }

    #[tokio::test]
    async fn what_a_node_could_not_be_told_is_owed_until_it_arms_again() {
        let (hub, mut remote) = hub();
        hub.note_interest(QUEUE, NODE);
        hub.available(SHARD, QUEUE, 2);
        let wake = remote.try_recv().unwrap();
        assert!(hub.owe(wake), "nobody else sees to it");
        hub.available(SHARD, QUEUE, 1);
        assert!(!hub.owe(remote.try_recv().unwrap()));
        assert_eq!(hub.take_owed(), [RemoteWake { count: 3, ..wake }]);
        assert_eq!(hub.take_owed(), []);
        assert!(hub.owe(wake));
        hub.note_interest(QUEUE, NODE);
        assert_eq!(hub.take_owed(), [], "that arming has asked");
    }

    /// Found by simulated clusters: a poll whose claim was not answered held up the message that it was
    /// told of, beside others that waited.
    #[tokio::test]
    async fn a_wake_up_of_a_poll_that_waits_for_an_answer_is_left_to_others() {
        let (hub, _remote) = hub();
        let (mut busy, mut other) = (hub.park(QUEUE).unwrap(), hub.park(QUEUE).unwrap());
        let (answer, answered) = oneshot::channel::<()>();
        let asks = busy.meanwhile(async { answered.await.is_ok() });
        let others = async {
            hub.available(SHARD, QUEUE, 1);
            let wake = other.woken().await;
            answer.send(()).unwrap();
            wake
        };
        let ((done, told), wake) = tokio::join!(asks, others);
        assert!(done);
        assert_eq!(wake, Wake::Available(SHARD));
        // If the other had gone, nobody else would ask.
        assert_eq!(told, Some(Wake::Available(SHARD)));
        other.taken();
        let third = hub.park(QUEUE).unwrap();
        drop(busy);
        drop(third);
        assert!(!hub.awaited(QUEUE));
    }

    /// Found by a mixed load: consumers of other nodes slept beside a message.
    #[tokio::test]
    async fn a_wake_up_is_passed_on_to_other_nodes_when_nobody_is_left_here() {
        let (hub, mut remote) = hub();
        let poll = hub.park(QUEUE).unwrap();
        hub.note_interest(QUEUE, NODE);
        hub.available(SHARD, QUEUE, 1);
        assert!(remote.try_recv().is_err(), "the local poll is enough");
        drop(poll);
        assert_eq!(remote.try_recv().unwrap().node, NODE);
    }

    #[tokio::test]
    async fn tells_interested_nodes_what_local_polls_cannot_take() {
        let (hub, mut remote) = hub();
        let _poll = hub.park(QUEUE).unwrap();
        hub.note_interest(QUEUE, NODE);
        hub.available(SHARD, QUEUE, 1);
        assert!(remote.try_recv().is_err(), "one local poll is enough");
        hub.available(SHARD, QUEUE, 3);
        let wake = remote.try_recv().unwrap();
        assert_eq!((wake.node, wake.count), (NODE, 3));
        // The node armed again before its "nobody here" came back: it stays interested.
        hub.note_interest(QUEUE, NODE);
        hub.nobody_there(&wake);
        hub.available(SHARD, QUEUE, 1);
        let again = remote.try_recv().unwrap();
        hub.nobody_there(&again);
        hub.available(SHARD, QUEUE, 1);
        assert!(remote.try_recv().is_err());
    }

    #[tokio::test]
    async fn the_number_of_parked_polls_is_bounded() {
        let (hub, _remote) = hub();
        let polls: Vec<_> = (0..PARKED_POLLS_MAX).map(|_| hub.park(QUEUE).unwrap()).collect();
        assert!(hub.park(QUEUE).is_none());
        drop(polls);
        assert!(hub.park(QUEUE).is_some());
    }
}
