//! Tells the peers how far the log goes and what its syncs take, and asks them at the start: the
//! effects of [`crate::memory`], [`crate::slowness`] and [`crate::clocks`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use flotilla_storage::log::{Engine, LogMetrics, WeakEngine};
use flotilla_transport::{Lane, Transport};
use flotilla_types::clock::Clock;
use flotilla_types::ids::{GroupId, NodeId};
use futures::future::join_all;
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use crate::clocks::{Clocks, Seen};
use crate::memory::{self, GRACE, KEEP_EVERY, Memory, Position, TELL_EVERY};
use crate::network::method;
use crate::off_thread::OffThread;
use crate::slowness::{Slowness, Word};

const CALL_TIMEOUT: Duration = Duration::from_secs(1);
/// Between two attempts to reach a peer.
const RETRY: Duration = Duration::from_millis(100);
/// Between two words while nothing changes: a peer may have lost what it had heard.
const REPEAT: Duration = Duration::from_secs(5);

async fn call(transport: &Transport, peer: NodeId, payload: Bytes) -> Option<(Position, u64)> {
    // The method is the node's: the group says nothing.
    let group = GroupId::CATALOG;
    let answer =
        transport.call(peer, Lane::Control, group, method::REMEMBER, payload, CALL_TIMEOUT).await;
    memory::decode(answer.ok()?).ok()
}

/// What the peers have heard of this node, and what their clocks show: from all who answer soon, and in
/// any case from as many as make a majority with it, however long that takes.
pub(crate) async fn ask(
    transport: &Transport,
    peers: &[NodeId],
    clock: &dyn Clock,
) -> (Vec<Position>, Vec<Seen>) {
    let needed = peers.len().div_ceil(2);
    let begin = Instant::now();
    let mut answers: BTreeMap<NodeId, (Position, Option<Seen>)> = BTreeMap::new();
    loop {
        let missing = peers.iter().filter(|peer| !answers.contains_key(peer));
        let asked = missing.map(|peer| async {
            let asked_ms = clock.now_ms();
            let (position, told_ms) = call(transport, *peer, memory::encode_question()).await?;
            Some((*peer, (position, Seen::of(asked_ms, clock.now_ms(), told_ms))))
        });
        let came = join_all(asked).await;
        answers.extend(came.into_iter().flatten());
        let enough = answers.len() >= needed && begin.elapsed() >= GRACE;
        if enough || answers.len() == peers.len() {
            let (heard, seen): (Vec<_>, Vec<_>) = answers.into_values().unzip();
            return (heard, seen.into_iter().flatten().collect());
        }
        sleep(RETRY).await;
    }
}

/// What a node tells its peers about, and hears of theirs.
pub(crate) struct Telling {
    pub(crate) transport: Transport,
    pub(crate) peers: Vec<NodeId>,
    pub(crate) memory: Arc<Memory>,
    pub(crate) slowness: Arc<Slowness>,
    pub(crate) clocks: Arc<Clocks>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) off_thread: OffThread,
    /// Does not hold the log open.
    pub(crate) log: WeakEngine,
    /// Called when a peer remembers more of this node than there is.
    pub(crate) older: Arc<dyn Fn(Position) + Send + Sync>,
    /// Called when this node has become slow or well.
    pub(crate) changed: Box<dyn Fn(bool) + Send + Sync>,
}

impl Telling {
    /// Tells and keeps until the log is shut down.
    pub(crate) async fn run(self) {
        let mut ticks = interval(TELL_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut links: Vec<Link> = self.peers.iter().copied().map(Link::new).collect();
        let (mut kept, mut keeping) = (Instant::now(), None::<JoinHandle<()>>);
        let mut syncs = Syncs::default();
        loop {
            ticks.tick().await;
            let Some(log) = self.log.upgrade() else { return };
            let position = self.memory.position(log.synced());
            let sync = syncs.measure(&log);
            drop(log);
            let now = Instant::now();
            let was_slow = self.slowness.is_slow_here();
            let word = self.slowness.measure(sync, self.peers.len() + 1, now);
            if word.slow != was_slow {
                (self.changed)(word.slow);
            }
            self.clock.steer(self.clocks.ahead_ms(self.peers.len() + 1, now));
            for link in &mut links {
                link.tell(&self, position, word, now);
            }
            // Not waited for: a disk that stands still is what is looked for here.
            if kept.elapsed() >= KEEP_EVERY && keeping.as_ref().is_none_or(JoinHandle::is_finished)
            {
                keeping = Some(tokio::spawn(keep(self.off_thread, self.memory.clone())));
                kept = now;
            }
        }
    }
}

/// What one peer was told. Peers are told independently: one that is silent must not keep the others
/// from hearing.
struct Link {
    peer: NodeId,
    told: Option<(Position, Word, Instant)>,
    telling: Option<JoinHandle<()>>,
}

impl Link {
    fn new(peer: NodeId) -> Self {
        Self { peer, told: None, telling: None }
    }

    /// Does not wait for the answer; while there is none, nothing more is said.
    fn tell(&mut self, by: &Telling, position: Position, word: Word, now: Instant) {
        let is_new = self.told.is_none_or(|(before, said, at)| {
            before != position || said.slow != word.slow || now - at >= REPEAT
        });
        let is_free = self.telling.as_ref().is_none_or(JoinHandle::is_finished);
        if !is_free || !(is_new || word.slow) {
            return;
        }
        let (transport, peer, older) = (by.transport.clone(), self.peer, by.older.clone());
        let (clocks, clock) = (by.clocks.clone(), by.clock.clone());
        self.telling = Some(tokio::spawn(async move {
            let asked_ms = clock.now_ms();
            let answer = call(&transport, peer, memory::encode_word(position, word)).await;
            let Some((heard, told_ms)) = answer else { return };
            if let Some(seen) = Seen::of(asked_ms, clock.now_ms(), told_ms) {
                clocks.note(peer, seen, Instant::now());
            }
            // It was down when this node started, and has heard of what this node lost.
            if heard > position {
                older(heard);
            }
        }));
        self.told = Some((position, word, now));
    }
}

/// What syncs take, from one look to the next.
#[derive(Default)]
struct Syncs {
    batches: u64,
    total_us: u64,
}

impl Syncs {
    /// The mean of those that ended since the last look, or what the one under way takes already.
    fn measure(&mut self, log: &Engine) -> Option<Duration> {
        let LogMetrics { batches, sync_us_total, .. } = log.metrics();
        let count = batches - self.batches;
        let mean_us = (sync_us_total - self.total_us).checked_div(count);
        (self.batches, self.total_us) = (batches, sync_us_total);
        let mean = mean_us.map(Duration::from_micros);
        mean.max(log.writing_for().filter(|writing| *writing >= TELL_EVERY / 4))
    }
}

async fn keep(off_thread: OffThread, memory: Arc<Memory>) {
    let done = off_thread.run(move || memory.keep()).await;
    if let Err(error) = done.flatten() {
        // It is a second record; the first one's disk fails elsewhere.
        tracing::warn!(%error, "what peers told of their logs was not written down");
    }
}
