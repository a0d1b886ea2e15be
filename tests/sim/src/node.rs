//! One whole node: gateway, cluster, replicas, log; on a simulated network, clock and disk.

use std::collections::BTreeMap;
use std::panic::resume_unwind;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use flotilla_cluster::node::{KeepLog, LogCuts, Node, NodeOptions};
use flotilla_cluster::{SampleSize, Weights};
use flotilla_gateway::{Capacity, Config, Gateway, Timeouts};
use flotilla_storage::log::LogOptions;
use flotilla_storage::state::StateOptions;
use flotilla_types::clock::{SteadyClock, TimeSource};
use flotilla_types::ids::NodeId;
use flotilla_types::names::AccountId;
use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use tokio::sync::watch;

use crate::disk::SimDisk;
use crate::knobs::Knobs;
use crate::net::{SimListener, SimNet};
use crate::{machine, probes};

/// Where clients come in.
pub(crate) const API_PORT: u16 = 9324;
const PEER_PORT: u16 = 9325;
/// With less room than this a node takes no messages.
pub(crate) const FREE_BYTES_MIN: u64 = 1 << 30;

/// A node's host name.
pub(crate) fn host(id: u64) -> String {
    format!("node-{id}")
}

/// One node of the cluster from outside, over all its starts.
#[derive(Clone)]
pub(crate) struct Member {
    pub(crate) id: u64,
    pub(crate) disk: SimDisk,
    pub(crate) clock: NodeTime,
    /// Why it ended itself, since it was last looked at.
    pub(crate) ended: Arc<Mutex<Option<String>>>,
    /// The node while it runs.
    pub(crate) running: Arc<Mutex<Option<Arc<Node>>>>,
    pub(crate) knobs: Arc<Knobs>,
}

/// A node's two clocks: one that goes at a speed of its own, and one that may be set.
#[derive(Clone)]
pub(crate) struct NodeTime(Arc<TimeOfDay>);

struct TimeOfDay {
    /// How far it is off, in milliseconds.
    off_ms: AtomicI64,
    /// How often it was looked at since then.
    looks: AtomicU64,
}

impl NodeTime {
    fn new(off_ms: i64) -> Self {
        Self(Arc::new(TimeOfDay { off_ms: AtomicI64::new(off_ms), looks: AtomicU64::new(0) }))
    }

    /// Sets the time of day; by how many milliseconds it jumps.
    pub(crate) fn jump(&self, off_ms: i64) -> u64 {
        let before_ms = self.0.off_ms.swap(off_ms, Ordering::Relaxed);
        self.0.looks.store(0, Ordering::Relaxed);
        off_ms.abs_diff(before_ms)
    }

    /// How often the node has looked at it since it jumped.
    pub(crate) fn looks(&self) -> u64 {
        self.0.looks.load(Ordering::Relaxed)
    }
}

impl TimeSource for NodeTime {
    fn elapsed(&self) -> Duration {
        machine::now()
    }

    fn time_of_day(&self) -> Duration {
        let off_ms = self.0.off_ms.load(Ordering::Relaxed);
        self.0.looks.fetch_add(1, Ordering::Relaxed);
        let off = Duration::from_millis(off_ms.unsigned_abs());
        match off_ms < 0 {
            true => machine::time_of_day() - off,
            false => machine::time_of_day() + off,
        }
    }
}

/// Carried by the unwinding of whatever found that its node cannot go on.
struct Ended;

impl Member {
    pub(crate) fn new(id: u64, knobs: &Arc<Knobs>) -> Self {
        let state_dir = Self::dir_of(id).join("state");
        Self {
            id,
            disk: SimDisk::new(knobs.seed ^ (id << 48), state_dir, knobs.disk_ms),
            clock: NodeTime::new(knobs.skews_ms[id as usize - 1]),
            ended: Arc::default(),
            running: Arc::default(),
            knobs: knobs.clone(),
        }
    }

    fn dir_of(id: u64) -> PathBuf {
        PathBuf::from("/").join(host(id))
    }

    /// Where its log is.
    pub(crate) fn log_dir(&self) -> PathBuf {
        Self::dir_of(self.id).join("log")
    }

    /// Where its state store is.
    pub(crate) fn state_dir(&self) -> PathBuf {
        Self::dir_of(self.id).join("state")
    }

    /// Where it notes what it heard from its peers.
    pub(crate) fn memory_dir(&self) -> PathBuf {
        Self::dir_of(self.id).join("memory")
    }

    /// Runs until it is killed.
    pub(crate) async fn run(self) -> turmoil::Result {
        probes::this_is(&self);
        tokio::spawn(hurry(self.knobs.hurries_ms[self.id as usize - 1], self.knobs.tick_ms));
        let peers = SimListener::bind(PEER_PORT).await?;
        let api = SimListener::bind(API_PORT).await?;
        let node = match Node::start(self.options(), SimNet, peers) {
            Ok(node) => node,
            Err(error) => {
                self.note_end(format!("it cannot start: {error}"));
                return std::future::pending().await;
            }
        };
        *self.running.lock() = Some(node.clone());
        node.caught_up().await;
        let config = Config {
            account: AccountId::new("000000000000")?,
            region: "us-east-1".to_owned(),
            public_url: Some("http://queues".to_owned()),
            timeouts: Timeouts::default(),
            capacity: Capacity::default(),
        };
        let gateway = Gateway::new(config, node, &mut Registry::default());
        let (_stop, stopped) = watch::channel(false);
        flotilla_gateway::serve(Arc::new(gateway), api, stopped).await;
        Ok(())
    }

    /// Nothing that it does from now on has an effect on its disk. Whether it is the first to say so.
    fn note_end(&self, reason: String) -> bool {
        let mut ended = self.ended.lock();
        let first = ended.is_none();
        if first {
            *ended = Some(reason);
        }
        self.disk.switch_off();
        first
    }

    /// The process would be gone here: whoever says it goes no further, and everybody else of this node
    /// is stopped before simulated time goes on.
    pub(crate) fn end(&self, reason: String) {
        if self.note_end(reason) && !std::thread::panicking() {
            resume_unwind(Box::new(Ended));
        }
    }

    fn options(&self) -> NodeOptions {
        let knobs = &self.knobs;
        let address = |id: u64| (NodeId(id), format!("{}:{PEER_PORT}", host(id)));
        let nodes: BTreeMap<NodeId, String> = (1..=knobs.nodes).map(address).collect();
        let member = self.clone();
        NodeOptions {
            id: NodeId(self.id),
            dir: Self::dir_of(self.id),
            disk: Arc::new(self.disk.clone()),
            nodes,
            token: "secret".to_owned(),
            shards: knobs.shards,
            sample: SampleSize::default(),
            weights: Weights::default(),
            log: LogOptions {
                segment_bytes: knobs.segment_bytes,
                segments_max: knobs.segments_max,
                cache_bytes: knobs.cache_bytes,
            },
            log_cuts: LogCuts {
                after_bytes: knobs.cut_after_bytes,
                keep: KeepLog { entries: knobs.keep_entries, bytes: knobs.keep_bytes() },
            },
            state: StateOptions::default(),
            free_bytes_min: FREE_BYTES_MIN,
            in_flight_max: knobs.in_flight_max(),
            rests: true,
            clock: Arc::new(SteadyClock::over(self.clock.clone())),
            on_fatal: Arc::new(move |reason| member.end(reason)),
        }
    }
}

/// Makes a node's clocks but for the time of day go faster than those of the others: they jump over a
/// few milliseconds, so often. 0: never.
async fn hurry(every_ms: u64, tick_ms: u64) {
    if every_ms == 0 {
        return;
    }
    loop {
        tokio::time::sleep(Duration::from_millis(every_ms)).await;
        // What lies in the tick that the simulation gives to this node anyway is not won.
        tokio::time::advance(Duration::from_millis(2 * tick_ms)).await;
    }
}
