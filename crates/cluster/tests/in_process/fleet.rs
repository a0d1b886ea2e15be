//! Nodes for these tests, and what tests do with them.

use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use flotilla_cluster::api::{Cluster as _, DedupKeys, Outgoing, Queue, ReceiveRequest, Received};
use flotilla_cluster::node::{LogCuts, Node, NodeOptions};
use flotilla_cluster::{SampleSize, Weights};
use flotilla_storage::disk::Machine;
use flotilla_storage::log::LogOptions;
use flotilla_storage::state::StateOptions;
use flotilla_transport::Tcp;
use flotilla_types::attributes::{AttributePatch, PatchFor};
use flotilla_types::clock::{Clock, SystemClock};
use flotilla_types::ids::{DedupKey, GroupKey, MessageId, NodeId};
use flotilla_types::limits;
use flotilla_types::names::QueueName;
use tempfile::TempDir;
use tokio::net::TcpListener;

/// The machine's clock, and how far a test moved it on.
#[derive(Debug, Default)]
pub(crate) struct TestClock {
    pub(crate) ahead_ms: AtomicU64,
}

impl Clock for TestClock {
    fn now_ms(&self) -> u64 {
        SystemClock.now_ms() + self.ahead_ms.load(Ordering::Relaxed)
    }
}

pub(crate) struct Fleet {
    pub(crate) clock: Arc<TestClock>,
    pub(crate) nodes: BTreeMap<NodeId, Arc<Node>>,
    addresses: BTreeMap<NodeId, String>,
    dir: TempDir,
    pub(crate) settings: Settings,
}

/// Of the nodes that are started from now on.
#[derive(Clone, Copy)]
pub(crate) struct Settings {
    pub(crate) free_bytes_min: u64,
    pub(crate) in_flight_max: u32,
    pub(crate) sample: SampleSize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            free_bytes_min: 0,
            in_flight_max: limits::IN_FLIGHT_MAX,
            sample: SampleSize::default(),
        }
    }
}

impl Fleet {
    pub(crate) async fn start(count: u64) -> Self {
        Self::start_with(count, Settings::default()).await
    }

    pub(crate) async fn start_with(count: u64, settings: Settings) -> Self {
        let mut listeners = BTreeMap::new();
        let mut addresses = BTreeMap::new();
        for id in 1..=count {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            addresses.insert(NodeId(id), listener.local_addr().unwrap().to_string());
            listeners.insert(NodeId(id), listener);
        }
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::default();
        let mut fleet = Self { clock, nodes: BTreeMap::new(), addresses, dir, settings };
        for (id, listener) in listeners {
            fleet.run(id, listener);
        }
        fleet.ready().await;
        fleet
    }

    pub(crate) fn run(&mut self, id: NodeId, listener: TcpListener) {
        let options = NodeOptions {
            id,
            dir: self.dir.path().join(id.to_string()),
            disk: Arc::new(Machine),
            nodes: self.addresses.clone(),
            token: "secret".into(),
            shards: 4,
            sample: self.settings.sample,
            weights: Weights::default(),
            log: LogOptions { segment_bytes: 1 << 20, ..LogOptions::default() },
            log_cuts: LogCuts::default(),
            state: StateOptions::default(),
            free_bytes_min: self.settings.free_bytes_min,
            in_flight_max: self.settings.in_flight_max,
            rests: true,
            clock: self.clock.clone(),
            on_fatal: Arc::new(|why| panic!("fatal: {why}")),
        };
        self.nodes.insert(id, Node::start(options, Tcp, listener).unwrap());
    }

    /// Ends a node and waits until its stores are closed.
    pub(crate) async fn stop(&mut self, id: NodeId) {
        let node = self.nodes.remove(&id).unwrap();
        node.shutdown().await;
        // The stores close with the last handle.
        while Arc::strong_count(&node) > 1 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub(crate) async fn restart(&mut self, id: NodeId) {
        let listener = loop {
            match TcpListener::bind(&self.addresses[&id]).await {
                Ok(listener) => break listener,
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        };
        self.run(id, listener);
    }

    /// Until every node can serve.
    pub(crate) async fn ready(&self) {
        let ready = async {
            while !self.nodes.values().all(|node| node.ready()) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        // A hang here would be a bug of the formation; far more than it takes on any machine.
        if tokio::time::timeout(Duration::from_secs(60), ready).await.is_err() {
            panic!("not ready: {:?}", self.nodes.values().map(|n| n.status()).collect::<Vec<_>>());
        }
    }

    pub(crate) fn node(&self, id: u64) -> &Arc<Node> {
        &self.nodes[&NodeId(id)]
    }
}

pub(crate) async fn queue(node: &Node, name: &str, attributes: &[(&str, &str)]) -> Arc<Queue> {
    let patch = AttributePatch::parse(attributes.iter().copied(), PatchFor::Create).unwrap();
    node.create_queue(&QueueName::new(name).unwrap(), &patch, None).await.unwrap()
}

pub(crate) fn message(number: u64) -> Outgoing {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&number.to_be_bytes());
    let content = Bytes::from(format!("message {number}"));
    Outgoing { message_id: MessageId(id), delay_seconds: 0, group: None, dedup: None, content }
}

pub(crate) fn short_poll() -> ReceiveRequest {
    ReceiveRequest {
        max_messages: 10,
        visibility_seconds: 30,
        wait_seconds: 0,
        attempt: None,
        explain: true,
    }
}

pub(crate) async fn drain(node: &Node, queue: &Queue, count: usize) -> Vec<MessageId> {
    let mut ids = Vec::new();
    while ids.len() < count {
        // No more than that: the rest may be somebody else's.
        let max_messages = (count - ids.len()).min(10);
        let request = ReceiveRequest { max_messages, ..short_poll() };
        let received: Received = node.receive(queue, request).await.unwrap();
        let receipts = received.messages.iter().map(|message| message.receipt).collect();
        ids.extend(received.messages.iter().map(|message| message.message_id));
        assert!(node.delete(queue, receipts).await.into_iter().all(|result| result.is_ok()));
    }
    ids.sort();
    ids
}

pub(crate) fn fifo_message(number: u64) -> Outgoing {
    let group = GroupKey(NonZeroU64::new(1 + number).unwrap());
    let key = DedupKey(message(number).message_id.0);
    let dedup = DedupKeys { in_queue: key, in_group: key };
    Outgoing { group: Some(group), dedup: Some(dedup), ..message(number) }
}
