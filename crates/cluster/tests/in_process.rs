//! Whole nodes with real stores and sockets, in one process.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use flotilla_cluster::api::{Cluster, Outgoing, Queue, ReceiveRequest, Received};
use flotilla_cluster::node::{LogCuts, Node, NodeOptions};
use flotilla_cluster::{SampleSize, Weights};
use flotilla_storage::log::LogOptions;
use flotilla_storage::state::StateOptions;
use flotilla_types::attributes::AttributePatch;
use flotilla_types::clock::SystemClock;
use flotilla_types::ids::{MessageId, NodeId};
use flotilla_types::names::QueueName;
use tempfile::TempDir;
use tokio::net::TcpListener;

struct Fleet {
    nodes: BTreeMap<NodeId, Arc<Node>>,
    addresses: BTreeMap<NodeId, String>,
    dir: TempDir,
}

impl Fleet {
    async fn start(count: u64) -> Self {
        let mut listeners = BTreeMap::new();
        let mut addresses = BTreeMap::new();
        for id in 1..=count {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            addresses.insert(NodeId(id), listener.local_addr().unwrap().to_string());
            listeners.insert(NodeId(id), listener);
        }
        let dir = tempfile::tempdir().unwrap();
        let mut fleet = Self { nodes: BTreeMap::new(), addresses, dir };
        for (id, listener) in listeners {
            fleet.run(id, listener);
        }
        fleet.ready().await;
        fleet
    }

    fn run(&mut self, id: NodeId, listener: TcpListener) {
        let options = NodeOptions {
            id,
            dir: self.dir.path().join(id.to_string()),
            nodes: self.addresses.clone(),
            token: "secret".into(),
            shards: 4,
            sample: SampleSize::default(),
            weights: Weights::default(),
            log: LogOptions { segment_bytes: 1 << 20, ..LogOptions::default() },
            log_cuts: LogCuts::default(),
            state: StateOptions::default(),
            clock: Arc::new(SystemClock),
            on_fatal: Arc::new(|why| panic!("fatal: {why}")),
        };
        self.nodes.insert(id, Node::start(options, listener).unwrap());
    }

    async fn restart(&mut self, id: NodeId) {
        let listener = loop {
            match TcpListener::bind(&self.addresses[&id]).await {
                Ok(listener) => break listener,
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        };
        self.run(id, listener);
    }

    /// Until every node can serve.
    async fn ready(&self) {
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

    fn node(&self, id: u64) -> &Arc<Node> {
        &self.nodes[&NodeId(id)]
    }
}

async fn queue(node: &Node, name: &str, attributes: &[(&str, &str)]) -> Arc<Queue> {
    use flotilla_types::attributes::PatchFor;
    let patch = AttributePatch::parse(attributes.iter().copied(), PatchFor::Create).unwrap();
    node.create_queue(&QueueName::new(name).unwrap(), &patch, None).await.unwrap()
}

fn message(number: u64) -> Outgoing {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&number.to_be_bytes());
    let content = Bytes::from(format!("message {number}"));
    Outgoing { message_id: MessageId(id), delay_seconds: 0, content }
}

fn short_poll() -> ReceiveRequest {
    ReceiveRequest { max_messages: 10, visibility_seconds: 30, wait_seconds: 0, explain: true }
}

async fn drain(node: &Node, queue: &Queue, count: usize) -> Vec<MessageId> {
    let mut ids = Vec::new();
    while ids.len() < count {
        let received: Received = node.receive(queue, short_poll()).await.unwrap();
        let receipts = received.messages.iter().map(|message| message.receipt).collect();
        ids.extend(received.messages.iter().map(|message| message.message_id));
        assert!(node.delete(queue, receipts).await.into_iter().all(|result| result.is_ok()));
    }
    ids.sort();
    ids
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_form_and_share_a_queue() {
    let fleet = Fleet::start(3).await;
    let name = QueueName::new("shared").unwrap();
    let created = queue(fleet.node(1), "shared", &[]).await;
    // Known at once through every node.
    for id in 1..=3 {
        assert_eq!(fleet.node(id).queue(&name).await.unwrap().id, created.id);
    }
    for number in 0..60 {
        let node = fleet.node(1 + number % 3);
        assert_eq!(node.send(&created, vec![message(number)]).await, vec![Ok(())]);
    }
    let counts = fleet.node(2).counts(&created).await.unwrap();
    assert_eq!((counts.visible, counts.in_flight), (60, 0));
    let ids = drain(fleet.node(3), &created, 60).await;
    assert_eq!(ids, (0..60).map(|number| message(number).message_id).collect::<Vec<_>>());
    let counts = fleet.node(1).counts(&created).await.unwrap();
    assert_eq!((counts.visible, counts.in_flight), (0, 0));
    fleet.node(1).delete_queue(&created).await.unwrap();
    assert!(fleet.node(1).queue(&name).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_poll_is_woken_by_a_send_through_another_node() {
    let fleet = Fleet::start(3).await;
    let created = queue(fleet.node(1), "woken", &[]).await;
    for round in 0..6 {
        let (to, from) = (fleet.node(1 + round % 3).clone(), fleet.node(1 + (round + 1) % 3));
        let waiting = {
            let (to, created) = (to.clone(), created.clone());
            let request = ReceiveRequest { wait_seconds: 20, ..short_poll() };
            tokio::spawn(async move { to.receive(&created, request).await.unwrap() })
        };
        while to.status().parked_polls == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let sent = Instant::now();
        from.send(&created, vec![message(round)]).await[0].clone().unwrap();
        let received = waiting.await.unwrap();
        assert_eq!(received.messages.len(), 1, "round {round}");
        assert!(sent.elapsed() < Duration::from_secs(19), "woken, not timed out");
        let receipts = received.messages.iter().map(|message| message.receipt).collect();
        to.delete(&created, receipts).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_poll_is_woken_by_an_expiring_lease() {
    let fleet = Fleet::start(3).await;
    let created = queue(fleet.node(1), "lease", &[]).await;
    fleet.node(1).send(&created, vec![message(1)]).await[0].clone().unwrap();
    let lease = ReceiveRequest { visibility_seconds: 1, wait_seconds: 20, ..short_poll() };
    let first = fleet.node(2).receive(&created, lease).await.unwrap();
    assert_eq!(first.messages.len(), 1);
    let again = fleet.node(3).receive(&created, lease).await.unwrap();
    assert_eq!(again.messages.len(), 1);
    assert_eq!(again.messages[0].receive_count, 2);
    assert!(again.messages[0].receipt != first.messages[0].receipt);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_cluster_has_everything() {
    let mut fleet = Fleet::start(3).await;
    let created = queue(fleet.node(1), "kept", &[("VisibilityTimeout", "7")]).await;
    for number in 0..20 {
        fleet.node(1).send(&created, vec![message(number)]).await[0].clone().unwrap();
    }
    for node in std::mem::take(&mut fleet.nodes).into_values() {
        node.shutdown().await;
        // The stores close with the last handle.
        while Arc::strong_count(&node) > 1 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    for id in [3, 1, 2] {
        fleet.restart(NodeId(id)).await;
    }
    fleet.ready().await;
    let again = fleet.node(2).queue(&created.name).await.unwrap();
    assert_eq!(again.attributes.visibility_seconds, 7);
    assert_eq!(drain(fleet.node(2), &again, 20).await.len(), 20);
}
