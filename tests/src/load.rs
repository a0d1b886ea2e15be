//! Producers and consumers that write down what happens to them.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use crate::PATIENCE;
use crate::client::{Client, Failure, Message};
use crate::fleet::{Fleet, until_led};
use crate::history::{Delivery, History};

/// After a failure, so that a dead node's clients do not spin.
const PAUSE: Duration = Duration::from_millis(50);
/// Between two sends of one producer.
const PACE: Duration = Duration::from_millis(10);
const WAIT_SECONDS: u32 = 2;

/// Who does what.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Nodes whose endpoints producers use, one producer per place.
    pub producers: Vec<u64>,
    /// The same for consumers.
    pub consumers: Vec<u64>,
    /// Of each receive.
    pub visibility_seconds: u32,
}

/// What a client did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Send,
    Receive,
    Delete,
}

#[derive(Debug)]
struct Shared {
    queue: String,
    visibility: Duration,
    history: Mutex<History>,
    producing: AtomicBool,
    consuming: AtomicBool,
    /// The node that was killed; 0 while all are well.
    gone: AtomicU64,
    firsts: Mutex<Firsts>,
}

/// First successes after the last kill, of requests that were sent after it through others.
#[derive(Debug, Default)]
struct Firsts {
    since: Option<Instant>,
    after: BTreeMap<Kind, Duration>,
    /// The longest that any request took, sent before or after.
    longest: Duration,
}

/// How the others took over from a node that was killed.
#[derive(Clone, Debug)]
pub struct Takeover {
    node: u64,
    /// Until every shard had a leader again, as all of them know.
    led: Duration,
    after: BTreeMap<Kind, Duration>,
    longest: Duration,
}

impl Takeover {
    /// Until the service was whole again: every shard led, and every kind of request answered with
    /// success that was sent after the kill.
    pub fn whole(&self) -> Duration {
        self.after.values().copied().fold(self.led, Duration::max)
    }
}

impl fmt::Display for Takeover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |kind| self.after[&kind].as_millis();
        write!(
            f,
            "node {} killed: all shards led again after {} ms; first success of requests through \
             others: send {} ms, receive {} ms, delete {} ms; longest request {} ms",
            self.node,
            self.led.as_millis(),
            ms(Kind::Send),
            ms(Kind::Receive),
            ms(Kind::Delete),
            self.longest.as_millis(),
        )
    }
}

/// A running load.
#[derive(Debug)]
pub struct Load {
    shared: Arc<Shared>,
    producers: Vec<JoinHandle<()>>,
    consumers: Vec<JoinHandle<()>>,
}

impl Load {
    /// Starts it.
    pub fn start(fleet: &Fleet, queue: &str, plan: &Plan) -> Self {
        let shared = Arc::new(Shared {
            queue: queue.to_owned(),
            visibility: Duration::from_secs(u64::from(plan.visibility_seconds)),
            history: Mutex::default(),
            producing: AtomicBool::new(true),
            consuming: AtomicBool::new(true),
            gone: AtomicU64::new(0),
            firsts: Mutex::default(),
        });
        let at = |node: u64| At { node, client: fleet.client(node), shared: shared.clone() };
        let producers = plan.producers.iter().enumerate();
        let producers = producers.map(|(number, node)| tokio::spawn(at(*node).produce(number)));
        let others: Vec<String> = fleet.ids().iter().map(|id| fleet.endpoint(*id)).collect();
        let consumers = plan.consumers.iter();
        let consumers = consumers.map(|node| tokio::spawn(at(*node).consume(others.clone())));
        let (producers, consumers) = (producers.collect(), consumers.collect());
        Self { shared, producers, consumers }
    }

    /// Kills a node and waits until the others have taken over everything; what clients saw of it.
    pub async fn kill9(&self, fleet: &mut Fleet, id: u64) -> Takeover {
        let others: Vec<u64> = fleet.up().into_iter().filter(|other| *other != id).collect();
        let admins = others.iter().map(|other| fleet.admin(*other)).collect();
        self.shared.gone.store(id, Ordering::SeqCst);
        *self.shared.firsts.lock().await =
            Firsts { since: Some(Instant::now()), ..Firsts::default() };
        fleet.kill9(id);
        let led = until_led(admins, id).await;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let firsts = self.shared.firsts.lock().await;
            if firsts.after.len() == 3 {
                let (after, longest) = (firsts.after.clone(), firsts.longest);
                return Takeover { node: id, led, after, longest };
            }
            assert!(Instant::now() < deadline, "no service without node {id}: {firsts:?}");
            drop(firsts);
            sleep(PAUSE).await;
        }
    }

    /// The first successes after the last kill must have come within this.
    pub async fn assert_live(&self, within: Duration) {
        let firsts = self.shared.firsts.lock().await;
        assert!(firsts.after.values().all(|after| *after < within), "too slow: {firsts:?}");
    }

    /// The killed node is back and ready.
    pub fn healed(&self) {
        self.shared.gone.store(0, Ordering::SeqCst);
    }

    /// Acknowledged sends so far.
    pub async fn stored(&self) -> usize {
        self.shared.history.lock().await.stored()
    }

    /// Ends the producers, lets the consumers take everything that was acknowledged, and judges.
    ///
    /// # Panics
    /// When something is lost, or happened that must not.
    pub async fn finish(self) -> History {
        self.shared.producing.store(false, Ordering::SeqCst);
        // Sends under way are acknowledged after this moment; consumers must still be there for
        // them.
        ended(self.producers).await;
        // What a consumer that was killed with its node had leased comes back within the lease.
        let deadline = Instant::now() + self.shared.visibility + PATIENCE;
        while !self.shared.history.lock().await.missing().is_empty() && Instant::now() < deadline {
            sleep(PAUSE).await;
        }
        self.shared.consuming.store(false, Ordering::SeqCst);
        ended(self.consumers).await;
        let shared = Arc::into_inner(self.shared).expect("all clients have ended");
        let history = shared.history.into_inner();
        let violations = history.violations();
        assert!(
            violations.is_empty(),
            "{} violations, {} stored, {} unknown, {} refused:\n{}",
            violations.len(),
            history.stored(),
            history.unknown(),
            history.refused(),
            violations.join("\n")
        );
        history
    }
}

async fn ended(tasks: Vec<JoinHandle<()>>) {
    for task in tasks {
        task.await.expect("clients do not fail by themselves");
    }
}

/// A client of one node.
struct At {
    node: u64,
    client: Client,
    shared: Arc<Shared>,
}

impl At {
    async fn produce(mut self, number: usize) {
        let mut count = 0;
        while self.shared.producing.load(Ordering::SeqCst) {
            count += 1;
            let body = format!("{number}-{count}");
            let asked = Instant::now();
            let result = self.client.send(&self.shared.queue, &body).await;
            self.shared.history.lock().await.sent(body, &result);
            self.note(Kind::Send, asked, result.as_ref().err()).await;
            sleep(PACE).await;
        }
    }

    async fn consume(mut self, all: Vec<String>) {
        while self.shared.consuming.load(Ordering::SeqCst) {
            let asked = Instant::now();
            let visibility = self.shared.visibility;
            let seconds = visibility.as_secs() as u32;
            let result = self.client.receive(&self.shared.queue, seconds, WAIT_SECONDS).await;
            let answered = Instant::now();
            let messages = match result {
                Ok(messages) if messages.is_empty() => continue,
                Ok(messages) => messages,
                Err(failure) => {
                    self.note(Kind::Receive, asked, Some(&failure)).await;
                    continue;
                }
            };
            self.note(Kind::Receive, asked, None).await;
            {
                let mut history = self.shared.history.lock().await;
                for Message { id, body, .. } in messages.iter().cloned() {
                    history.delivered(Delivery {
                        body,
                        message_id: id,
                        asked,
                        answered,
                        visibility,
                    });
                }
            }
            for message in messages {
                self.delete(&message, &all).await;
            }
        }
    }

    /// Through its own node, and when that fails once through each.
    async fn delete(&mut self, message: &Message, all: &[String]) {
        let asked = Instant::now();
        let mut result = self.client.delete(&self.shared.queue, &message.receipt).await;
        self.note(Kind::Delete, asked, result.as_ref().err()).await;
        for other in all {
            if result.is_ok() {
                break;
            }
            result = Client::new(other).delete(&self.shared.queue, &message.receipt).await;
        }
        if result.is_ok() {
            self.shared.history.lock().await.deleted(&message.id, Instant::now());
        }
    }

    async fn note(&self, kind: Kind, asked: Instant, failure: Option<&Failure>) {
        let lost_with_its_node = self.shared.gone.load(Ordering::SeqCst) == self.node;
        {
            let mut firsts = self.shared.firsts.lock().await;
            if let Some(since) = firsts.since.filter(|_| !lost_with_its_node) {
                if kind != Kind::Receive || failure.is_none() {
                    firsts.longest = firsts.longest.max(asked.elapsed());
                }
                if failure.is_none() && asked >= since {
                    firsts.after.entry(kind).or_insert_with(|| since.elapsed());
                }
            }
        }
        let Some(failure) = failure else { return };
        // A node that is up answers, and what it answers in times like these can be tried again.
        if !failure.is_retryable() || (failure.status.is_none() && !lost_with_its_node) {
            let what = format!("{kind:?} through node {}: {failure}", self.node);
            self.shared.history.lock().await.bad_failure(what);
        }
        sleep(PAUSE).await;
    }
}
