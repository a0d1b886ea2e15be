//! Clients that only count.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::Fleet;
use crate::client::Client;

const PAUSE: Duration = Duration::from_millis(20);
const VISIBILITY_SECONDS: u32 = 30;

/// One request that a client made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Beat {
    pub(super) node: u64,
    pub(super) what: What,
    pub(super) asked: Instant,
    pub(super) answered: Instant,
    pub(super) ok: bool,
}

/// What was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum What {
    Send,
    Receive,
    Delete,
}

impl What {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Send => "send",
            Self::Receive => "receive",
            Self::Delete => "delete",
        }
    }
}

/// Clients of each node that send, receive and delete as fast as they are answered.
pub(super) struct Pulse {
    beats: Arc<Mutex<Vec<Beat>>>,
    stop: Arc<AtomicBool>,
    tasks: JoinSet<()>,
}

impl Pulse {
    /// So many of both kinds for each node.
    pub(super) fn start(fleet: &Fleet, queue: &str, each: usize) -> Self {
        let (beats, stop) = (Arc::default(), Arc::new(AtomicBool::new(false)));
        let mut tasks = JoinSet::new();
        for node in fleet.ids() {
            for _ in 0..each {
                let at = || At {
                    node,
                    client: fleet.client(node),
                    queue: queue.to_owned(),
                    beats: Arc::clone(&beats),
                    stop: Arc::clone(&stop),
                };
                tasks.spawn(at().produce());
                tasks.spawn(at().consume());
            }
        }
        Self { beats, stop, tasks }
    }

    /// Everything since the last time that this was asked.
    pub(super) fn take(&self) -> Vec<Beat> {
        std::mem::take(&mut *self.beats.lock())
    }

    pub(super) async fn stop(mut self) {
        self.stop.store(true, Ordering::SeqCst);
        while self.tasks.join_next().await.is_some() {}
    }
}

struct At {
    node: u64,
    client: Client,
    queue: String,
    beats: Arc<Mutex<Vec<Beat>>>,
    stop: Arc<AtomicBool>,
}

impl At {
    async fn produce(mut self) {
        let mut number = 0_u64;
        while !self.stop.load(Ordering::SeqCst) {
            number += 1;
            let asked = Instant::now();
            let ok =
                self.client.send(&self.queue, &format!("{} {number}", self.node)).await.is_ok();
            self.note(What::Send, asked, ok).await;
        }
    }

    async fn consume(mut self) {
        while !self.stop.load(Ordering::SeqCst) {
            let asked = Instant::now();
            let received = self.client.receive(&self.queue, VISIBILITY_SECONDS, 1).await;
            self.note(What::Receive, asked, received.is_ok()).await;
            for message in received.unwrap_or_default() {
                let asked = Instant::now();
                let ok = self.client.delete(&self.queue, &message.receipt).await.is_ok();
                self.note(What::Delete, asked, ok).await;
            }
        }
    }

    async fn note(&self, what: What, asked: Instant, ok: bool) {
        let beat = Beat { node: self.node, what, asked, answered: Instant::now(), ok };
        self.beats.lock().push(beat);
        if !ok {
            sleep(PAUSE).await;
        }
    }
}
