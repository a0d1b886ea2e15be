//! Whole nodes with real stores and sockets, in one process.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use flotilla_cluster::api::{
    AddPermissionError, Cluster, DedupKeys, Outgoing, Queue, Receipt, ReceiveError, ReceiveRequest,
    Received, RemovePermissionError, TagError, Trouble,
};
use flotilla_cluster::node::{LogCuts, Node, NodeOptions};
use flotilla_cluster::{SampleSize, Weights};
use flotilla_storage::disk::Machine;
use flotilla_storage::log::LogOptions;
use flotilla_storage::state::StateOptions;
use flotilla_transport::Tcp;
use flotilla_types::attributes::{AttributePatch, GrantError, RevokeError};
use flotilla_types::clock::{Clock, SystemClock};
use flotilla_types::ids::{DedupKey, GroupId, GroupKey, MessageId, NodeId};
use flotilla_types::limits;
use flotilla_types::names::{AccountId, QueueName};
use flotilla_types::permission::{GrantableAction, Label, Permission};
use tempfile::TempDir;
use tokio::net::TcpListener;

/// The machine's clock, and how far a test moved it on.
#[derive(Debug, Default)]
struct TestClock {
    ahead_ms: AtomicU64,
}

impl Clock for TestClock {
    fn now_ms(&self) -> u64 {
        SystemClock.now_ms() + self.ahead_ms.load(Ordering::Relaxed)
    }
}

struct Fleet {
    clock: Arc<TestClock>,
    nodes: BTreeMap<NodeId, Arc<Node>>,
    addresses: BTreeMap<NodeId, String>,
    dir: TempDir,
    settings: Settings,
}

/// Of the nodes that are started from now on.
#[derive(Clone, Copy)]
struct Settings {
    free_bytes_min: u64,
    in_flight_max: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self { free_bytes_min: 0, in_flight_max: limits::IN_FLIGHT_MAX }
    }
}

impl Fleet {
    async fn start(count: u64) -> Self {
        Self::start_with(count, Settings::default()).await
    }

    async fn start_with(count: u64, settings: Settings) -> Self {
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

    fn run(&mut self, id: NodeId, listener: TcpListener) {
        let options = NodeOptions {
            id,
            dir: self.dir.path().join(id.to_string()),
            disk: Arc::new(Machine),
            nodes: self.addresses.clone(),
            token: "secret".into(),
            shards: 4,
            sample: SampleSize::default(),
            weights: Weights::default(),
            log: LogOptions { segment_bytes: 1 << 20, ..LogOptions::default() },
            log_cuts: LogCuts::default(),
            state: StateOptions::default(),
            free_bytes_min: self.settings.free_bytes_min,
            in_flight_max: self.settings.in_flight_max,
            clock: self.clock.clone(),
            on_fatal: Arc::new(|why| panic!("fatal: {why}")),
        };
        self.nodes.insert(id, Node::start(options, Tcp, listener).unwrap());
    }

    /// Ends a node and waits until its stores are closed.
    async fn stop(&mut self, id: NodeId) {
        let node = self.nodes.remove(&id).unwrap();
        node.shutdown().await;
        // The stores close with the last handle.
        while Arc::strong_count(&node) > 1 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
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
    Outgoing { message_id: MessageId(id), delay_seconds: 0, group: None, dedup: None, content }
}

fn short_poll() -> ReceiveRequest {
    ReceiveRequest {
        max_messages: 10,
        visibility_seconds: 30,
        wait_seconds: 0,
        attempt: None,
        explain: true,
    }
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
        assert!(node.send(&created, vec![message(number)]).await[0].is_ok());
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

/// Of five nodes two have no replica of a shard. Their polls were empty for as long as they asked a
/// replica that did not lead.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_no_replica_of_a_shard_receives_from_its_next_leader() {
    let mut fleet = Fleet::start(5).await;
    let created = queue(fleet.node(1), "led-elsewhere", &[]).await;
    for (round, gone) in (0..).zip(1..=5) {
        for number in 0..40 {
            let number = 40 * round + number;
            fleet.node(1 + number % 5).send(&created, vec![message(number)]).await[0]
                .clone()
                .unwrap();
        }
        fleet.stop(NodeId(gone)).await;
        fleet.ready().await;
        for (id, other) in &fleet.nodes {
            // Each for itself: what one learns nobody else hears.
            let all = drain(other, &created, 10);
            let drained = tokio::time::timeout(Duration::from_secs(60), all).await;
            assert!(drained.is_ok(), "through node {id} with node {gone} gone");
        }
        fleet.restart(NodeId(gone)).await;
        fleet.ready().await;
    }
}

/// When a delay ends is known to the leader only. A FIFO queue lives on one shard; of eight some live
/// on those that node 2 leads.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_poll_outlives_the_leader_that_it_waits_for() {
    let mut fleet = Fleet::start(3).await;
    let mut queues = Vec::new();
    for number in 0..8 {
        let name = format!("outlives-{number}.fifo");
        // The queue's own, as messages of FIFO queues have no other: what differs from it is corrected.
        let attributes = [("FifoQueue", "true"), ("DelaySeconds", "6")];
        queues.push(queue(fleet.node(1), &name, &attributes).await);
    }
    for (created, number) in queues.iter().zip(1..) {
        let delayed = Outgoing { delay_seconds: 6, ..fifo_message(number) };
        fleet.node(3).send(created, vec![delayed]).await[0].clone().unwrap();
    }
    let request = ReceiveRequest { wait_seconds: 20, ..short_poll() };
    let waiting: Vec<_> = queues
        .iter()
        .map(|created| {
            let (to, created) = (fleet.node(1).clone(), created.clone());
            tokio::spawn(async move { to.receive(&created, request).await.unwrap() })
        })
        .collect();
    while fleet.node(1).status().parked_polls < queues.len() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    fleet.stop(NodeId(2)).await;
    for (poll, created) in waiting.into_iter().zip(&queues) {
        let received = poll.await.unwrap();
        assert_eq!(received.messages.len(), 1, "{} slept beside a message", created.name);
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
async fn a_new_delay_of_a_fifo_queue_is_for_waiting_messages_too() {
    use flotilla_types::attributes::PatchFor;
    let fleet = Fleet::start(3).await;
    let attributes = [("FifoQueue", "true"), ("DelaySeconds", "900")];
    let created = queue(fleet.node(1), "delayed.fifo", &attributes).await;
    for number in 0..5 {
        let delayed = Outgoing { delay_seconds: 900, ..fifo_message(number) };
        fleet.node(2).send(&created, vec![delayed]).await[0].clone().unwrap();
    }
    assert_eq!(fleet.node(3).counts(&created).await.unwrap().delayed, 5);
    let patch = AttributePatch::parse(
        [("DelaySeconds", "0")],
        PatchFor::ChangeFifo(created.attributes.fifo.unwrap()),
    )
    .unwrap();
    fleet.node(3).set_attributes(&created, &patch).await.unwrap();
    let mut received = 0;
    while received < 5 {
        let request = ReceiveRequest { wait_seconds: 20, ..short_poll() };
        received += fleet.node(1).receive(&created, request).await.unwrap().messages.len();
    }
    assert_eq!(fleet.node(2).counts(&created).await.unwrap().delayed, 0);
}

/// Found by seed 166 of the simulator: it had more than was asked for, and counted what was left.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repeated_receive_that_asks_for_fewer_gets_the_same_messages() {
    let fleet = Fleet::start(3).await;
    // So that some live on shards whose nodes are asked before others.
    for number in 0..8 {
        let name = format!("repeated-{number}.fifo");
        let created = queue(fleet.node(1), &name, &[("FifoQueue", "true")]).await;
        let batch = (0..3).map(|it| fifo_message(10 * number + it)).collect();
        assert!(fleet.node(2).send(&created, batch).await.iter().all(Result::is_ok));
        let attempt = Some(DedupKey([number as u8; 16]));
        let mut seen = Vec::new();
        for max_messages in [10, 1, 2, 10] {
            let request = ReceiveRequest { max_messages, attempt, ..short_poll() };
            let received = fleet.node(3).receive(&created, request).await.unwrap();
            seen.push(received.messages.into_iter().map(|it| it.receipt).collect::<Vec<_>>());
        }
        assert_eq!(seen[0].len(), 3);
        assert!(seen.iter().all(|receipts| *receipts == seen[0]), "{seen:?}");
    }
}

fn fifo_message(number: u64) -> Outgoing {
    let group = GroupKey(NonZeroU64::new(1 + number).unwrap());
    let key = DedupKey(message(number).message_id.0);
    let dedup = DedupKeys { in_queue: key, in_group: key };
    Outgoing { group: Some(group), dedup: Some(dedup), ..message(number) }
}

/// Dead letters are where their queue had them. A consumer that always finds something where the
/// dead-letter queue itself lives comes upon them too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_letters_beside_sent_messages_are_not_passed_over() {
    let fleet = Fleet::start(3).await;
    let node = fleet.node(1);
    let fifo = [("FifoQueue", "true"), ("VisibilityTimeout", "0")];
    let dead = queue(node, "dead.fifo", &fifo).await;
    let policy = "{\"deadLetterTargetArn\":\"arn:aws:sqs:us-east-1:000000000000:dead.fifo\",\
                  \"maxReceiveCount\":1}";
    let again = ReceiveRequest { visibility_seconds: 0, ..short_poll() };
    let mut wanted = BTreeSet::new();
    for number in 0..8 {
        let name = format!("source-{number}.fifo");
        let redrive = [fifo[0], fifo[1], ("RedrivePolicy", policy)];
        let source = queue(node, &name, &redrive).await;
        let letter = fifo_message(number);
        wanted.insert(letter.message_id);
        node.send(&source, vec![letter]).await[0].clone().unwrap();
        assert_eq!(node.receive(&source, again).await.unwrap().messages.len(), 1);
        assert_eq!(node.receive(&source, again).await.unwrap().messages.len(), 0);
    }
    let sent = fifo_message(100);
    wanted.insert(sent.message_id);
    node.send(&dead, vec![sent]).await[0].clone().unwrap();
    let mut seen = BTreeSet::new();
    for _ in 0..100 {
        let received = node.receive(&dead, again).await.unwrap();
        assert!(!received.messages.is_empty());
        seen.extend(received.messages.iter().map(|message| message.message_id));
    }
    assert_eq!(seen, wanted);
}

fn permission(label: &str) -> Permission {
    Permission {
        label: Label::new(label).unwrap(),
        accounts: vec![AccountId::new("111111111111").unwrap()],
        actions: vec![GrantableAction::SendMessage],
        queue_arn: "arn:aws:sqs:us-east-1:000000000000:changed".into(),
    }
}

/// Until a node's replica of the catalog has a queue like this.
async fn known(node: &Node, name: &QueueName, like: impl Fn(&Queue) -> bool) {
    let begin = Instant::now();
    loop {
        let queue = node.queue(name).await.unwrap();
        if like(&queue) {
            return;
        }
        assert!(begin.elapsed() < Duration::from_secs(60), "still {queue:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Every node carries out and refuses changes, wherever the catalog's leader is; all of it
/// outlives the processes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tags_permissions_and_sources_are_the_same_through_every_node() {
    let mut fleet = Fleet::start(3).await;
    let to_itself = "{\"deadLetterTargetArn\":\"arn:aws:sqs:us-east-1:000000000000:changed\",\
                     \"maxReceiveCount\":3}";
    let created = queue(fleet.node(1), "changed", &[("RedrivePolicy", to_itself)]).await;
    let pair = |key: u64| (key.to_string(), "v".to_owned());
    for id in 1..=3 {
        let node = fleet.node(id);
        let tags = BTreeMap::from([pair(id), pair(10 + id)]);
        node.tag_queue(&created, &tags).await.unwrap();
        node.untag_queue(&created, &BTreeSet::from([(10 + id).to_string()])).await.unwrap();
        let too_many = node.tag_queue(&created, &(0..51).map(pair).collect()).await;
        assert_eq!(too_many, Err(TagError::TooMany));
        let added = permission(&id.to_string());
        node.add_permission(&created, &added).await.unwrap();
        let again = node.add_permission(&created, &added).await;
        assert_eq!(again, Err(AddPermissionError::Refused(GrantError::LabelExists)));
        let none = node.remove_permission(&created, &Label::new("none").unwrap()).await;
        assert_eq!(none, Err(RemovePermissionError::Refused(RevokeError::NoSuchLabel)));
        let tags = (1..=id).map(pair).collect();
        known(node, &created.name, |queue| queue.tags == tags).await;
    }
    fleet.node(2).remove_permission(&created, &Label::new("2").unwrap()).await.unwrap();
    let sids = |queue: &Queue| {
        queue.attributes.policy.as_deref().map_or(0, |policy| policy.matches("\"Sid\"").count())
    };
    known(fleet.node(2), &created.name, |queue| sids(queue) == 2).await;
    let before = fleet.node(2).queue(&created.name).await.unwrap();
    for id in 1..=3 {
        fleet.stop(NodeId(id)).await;
    }
    for id in 1..=3 {
        fleet.restart(NodeId(id)).await;
    }
    fleet.ready().await;
    let node = fleet.node(3);
    known(node, &created.name, |queue| *queue == *before).await;
    let sources = node.dead_letter_sources(&before, None, 9).await.unwrap();
    assert_eq!(sources, std::slice::from_ref(&before.name));
    let gone = [3, 1].map(|id| Label::new(&id.to_string()).unwrap());
    for label in &gone {
        node.remove_permission(&before, label).await.unwrap();
    }
    known(node, &before.name, |queue| queue.attributes.policy.is_none()).await;
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counts_are_of_all_shards_or_an_error() {
    let mut fleet = Fleet::start(3).await;
    let created = queue(fleet.node(1), "counted", &[]).await;
    for number in 0..60 {
        let node = fleet.node(1 + number % 3);
        node.send(&created, vec![message(number)]).await[0].clone().unwrap();
    }
    // Its shards have no leader for a moment: the count waits for the next ones.
    fleet.stop(NodeId(3)).await;
    for id in [1, 2, 1, 2] {
        assert_eq!(fleet.node(id).counts(&created).await.unwrap().visible, 60);
    }
    fleet.stop(NodeId(2)).await;
    // What it leads it can count, because nobody else can change it.
    let alone = fleet.node(1).counts(&created).await.map(|counts| counts.visible);
    let refused = Err(Trouble::Unavailable { maybe_applied: false });
    assert!(alone == Ok(60) || alone == refused, "{alone:?}");
}

/// Sends through a node until it says something else than `not`.
async fn send_until_not(
    node: &Node,
    queue: &Queue,
    not: Result<(), Trouble>,
) -> Result<(), Trouble> {
    let begin = Instant::now();
    loop {
        let sent = node.send(queue, vec![message(1_000)]).await.remove(0).map(|_| ());
        if sent != not {
            return sent;
        }
        assert!(begin.elapsed() < Duration::from_secs(60), "still {sent:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sends_are_refused_while_a_live_node_is_low_on_space_and_nothing_else_is() {
    let mut fleet = Fleet::start(3).await;
    let created = queue(fleet.node(1), "nearly-full", &[]).await;
    for number in 0..30 {
        fleet.node(1).send(&created, vec![message(number)]).await[0].clone().unwrap();
    }
    fleet.stop(NodeId(3)).await;
    fleet.settings.free_bytes_min = u64::MAX;
    fleet.restart(NodeId(3)).await;
    fleet.ready().await;

    // Node 3 knows it by itself, the others by its word; it is ready all the same.
    for id in [3, 1, 2] {
        let node = fleet.node(id);
        assert_eq!(send_until_not(node, &created, Ok(())).await, Err(Trouble::LowOnSpace));
        assert_eq!(
            node.send(&created, vec![message(0); 2]).await,
            vec![Err(Trouble::LowOnSpace); 2]
        );
        let status = node.status();
        assert_eq!(status.low_on_space, id == 3);
        let elsewhere = if id == 3 { vec![] } else { vec![NodeId(3)] };
        assert_eq!(status.low_on_space_elsewhere, elsewhere);
        assert!(status.free_bytes > 0 && node.ready());
    }
    for id in 1..=3 {
        let node = fleet.node(id);
        for _ in 0..5 {
            let request = ReceiveRequest { max_messages: 1, wait_seconds: 20, ..short_poll() };
            let one = node.receive(&created, request).await.unwrap().messages.remove(0).receipt;
            assert_eq!(node.change_visibility(&created, vec![(one, 0)]).await, vec![Ok(())]);
            let one = node.receive(&created, request).await.unwrap().messages.remove(0).receipt;
            assert_eq!(node.delete(&created, vec![one]).await, vec![Ok(())]);
        }
    }
    fleet.node(1).purge_queue(&created).await.unwrap();

    // A node that is down holds nobody up: its word expires.
    fleet.stop(NodeId(3)).await;
    for id in [1, 2] {
        let refused = Err(Trouble::LowOnSpace);
        assert_eq!(send_until_not(fleet.node(id), &created, refused).await, Ok(()));
    }
    fleet.settings.free_bytes_min = 0;
    fleet.restart(NodeId(3)).await;
    fleet.ready().await;
    for id in 1..=3 {
        assert!(fleet.node(id).send(&created, vec![message(7)]).await[0].is_ok());
    }
}

/// Receives through a node until it says that too many are in flight.
async fn crowd(node: &Node, queue: &Queue) -> Vec<Receipt> {
    let mut receipts = Vec::new();
    let begin = Instant::now();
    loop {
        match node.receive(queue, short_poll()).await {
            Ok(received) => {
                receipts.extend(received.messages.iter().map(|message| message.receipt));
            }
            Err(error) => {
                assert_eq!(error, ReceiveError::TooManyInFlight);
                return receipts;
            }
        }
        assert!(begin.elapsed() < Duration::from_secs(60), "{} in flight", receipts.len());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_poll_at_the_in_flight_limit_goes_on_when_the_number_drops() {
    let settings = Settings { in_flight_max: 12, ..Settings::default() };
    let fleet = Fleet::start_with(3, settings).await;
    for (round, deletes_through) in [1, 2].into_iter().enumerate() {
        let name = format!("crowded-{round}");
        let created = queue(fleet.node(1), &name, &[]).await;
        for number in 0..60 {
            fleet.node(1).send(&created, vec![message(number)]).await[0].clone().unwrap();
        }
        let receipts = crowd(fleet.node(1), &created).await;
        assert!(receipts.len() >= 12, "{} in flight", receipts.len());
        let waiting = {
            let (node, created) = (fleet.node(1).clone(), created.clone());
            let request = ReceiveRequest { wait_seconds: 20, ..short_poll() };
            tokio::spawn(async move { node.receive(&created, request).await.unwrap() })
        };
        // It waits for more than one look of the node, and takes nothing.
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        assert!(!waiting.is_finished());
        let counts = fleet.node(1).counts(&created).await.unwrap();
        assert_eq!(counts.in_flight, receipts.len() as u64);
        let deleted = fleet.node(deletes_through).delete(&created, receipts).await;
        assert!(deleted.iter().all(Result::is_ok));
        assert!(!waiting.await.unwrap().messages.is_empty(), "through node {deletes_through}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_poll_at_the_in_flight_limit_ends_empty_if_the_number_stays() {
    let settings = Settings { in_flight_max: 4, ..Settings::default() };
    let fleet = Fleet::start_with(1, settings).await;
    let created = queue(fleet.node(1), "crowded", &[]).await;
    for number in 0..30 {
        fleet.node(1).send(&created, vec![message(number)]).await[0].clone().unwrap();
    }
    let receipts = crowd(fleet.node(1), &created).await;
    let long = ReceiveRequest { wait_seconds: 2, ..short_poll() };
    assert_eq!(fleet.node(1).receive(&created, long).await.unwrap().messages, []);
    // Made visible again, they count no more: the next poll finds room.
    let changes = receipts.into_iter().map(|receipt| (receipt, 0)).collect();
    let changed = fleet.node(1).change_visibility(&created, changes).await;
    assert!(changed.iter().all(Result::is_ok));
    assert!(!fleet.node(1).receive(&created, long).await.unwrap().messages.is_empty());
}

const GROUPS: u64 = 30;

fn group(number: u64) -> GroupKey {
    // Keys are digests: spread over all bits.
    GroupKey(NonZeroU64::new(number.wrapping_mul(0x9e37_79b9_7f4a_7c15)).unwrap())
}

/// One more message of each group, each through another node; message `n` of group `g` is
/// `1000 g + n`.
async fn send_round(fleet: &Fleet, name: &QueueName, round: u64) {
    for of in 1..=GROUPS {
        let node = fleet.node(1 + (of + round) % 3);
        let queue = node.queue(name).await.unwrap();
        let number = 1_000 * of + round;
        let mut key = [0; 16];
        key[..8].copy_from_slice(&number.to_be_bytes());
        let (in_queue, in_group) = (
            DedupKey(key),
            DedupKey({
                key[15] = 1;
                key
            }),
        );
        let dedup = Some(DedupKeys { in_queue, in_group });
        let outgoing = Outgoing { group: Some(group(of)), dedup, ..message(number) };
        let again = Outgoing { message_id: MessageId([0xff; 16]), ..outgoing.clone() };
        let sent = node.send(&queue, vec![outgoing, again]).await;
        let sent: Vec<_> = sent.into_iter().map(|sent| sent.unwrap().duplicate).collect();
        assert_eq!(sent, [false, true]);
    }
}

/// Receives everything; the shards where it was.
async fn take_in_order(fleet: &Fleet, name: &QueueName, rounds: std::ops::Range<u64>) -> usize {
    let mut next = vec![rounds.start; GROUPS as usize + 1];
    let mut shards: BTreeSet<GroupId> = BTreeSet::new();
    let mut left = GROUPS * (rounds.end - rounds.start);
    while left > 0 {
        let node = fleet.node(1 + left % 3);
        let queue = node.queue(name).await.unwrap();
        let received = node.receive(&queue, short_poll()).await.unwrap();
        for message in &received.messages {
            let number = u64::from_be_bytes(message.message_id.0[..8].try_into().unwrap());
            let (of, round) = ((number / 1_000) as usize, number % 1_000);
            assert_eq!(round, next[of], "group {of}");
            next[of] += 1;
            left -= 1;
            shards.insert(message.receipt.shard);
        }
        let receipts = received.messages.iter().map(|message| message.receipt).collect();
        assert!(node.delete(&queue, receipts).await.into_iter().all(|result| result.is_ok()));
    }
    shards.len()
}

async fn scope(fleet: &Fleet, name: &QueueName, scope: &str) {
    use flotilla_types::attributes::PatchFor;
    let node = fleet.node(2);
    let queue = node.queue(name).await.unwrap();
    let purpose = PatchFor::change(&queue.attributes);
    let patch = AttributePatch::parse([("DeduplicationScope", scope)], purpose).unwrap();
    node.set_attributes(&queue, &patch).await.unwrap();
}

/// Until a queue's shards have all said that no group lives where it should not.
async fn settled(fleet: &Fleet, name: &QueueName) {
    let begin = Instant::now();
    while !fleet.node(3).queue(name).await.unwrap().placement.unsettled.is_empty() {
        assert!(begin.elapsed() < Duration::from_secs(60));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn groups_keep_their_order_when_their_queue_is_placed_anew() {
    let fleet = Fleet::start(3).await;
    let name = QueueName::new("groups.fifo").unwrap();
    queue(fleet.node(1), name.as_str(), &[("FifoQueue", "true")]).await;
    send_round(&fleet, &name, 0).await;
    send_round(&fleet, &name, 1).await;
    scope(&fleet, &name, "messageGroup").await;
    // While a group has messages, further ones go where they are.
    send_round(&fleet, &name, 2).await;
    assert_eq!(take_in_order(&fleet, &name, 0..3).await, 1);
    // Now it moves.
    send_round(&fleet, &name, 3).await;
    // And back before those are received; what comes meanwhile stays with them.
    scope(&fleet, &name, "queue").await;
    send_round(&fleet, &name, 4).await;
    assert_eq!(take_in_order(&fleet, &name, 3..5).await, 4);
    send_round(&fleet, &name, 5).await;
    // A shard settles when the last group has left it, and not within the time of duplicates.
    assert_eq!(fleet.node(1).queue(&name).await.unwrap().placement.unsettled.len(), 4);
    fleet.clock.ahead_ms.store(301_000, Ordering::Relaxed);
    settled(&fleet, &name).await;
    send_round(&fleet, &name, 6).await;
    assert_eq!(take_in_order(&fleet, &name, 5..7).await, 1);
}

/// A group would be on two shards, and its messages handed out by both.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_not_heard_of_a_change_puts_nothing_where_groups_lived_before() {
    let fleet = Fleet::start(3).await;
    let name = QueueName::new("unheard.fifo").unwrap();
    let before = queue(fleet.node(1), name.as_str(), &[("FifoQueue", "true")]).await;
    scope(&fleet, &name, "messageGroup").await;
    let now = fleet.node(2).queue(&name).await.unwrap();
    for number in 0..8 {
        let first = fleet.node(2).send(&now, vec![fifo_message(number)]).await[0].clone().unwrap();
        let second = Outgoing { group: fifo_message(number).group, ..fifo_message(100 + number) };
        let second = fleet.node(1).send(&before, vec![second]).await[0].clone().unwrap();
        let shards = [first.place.unwrap().0, second.place.unwrap().0];
        assert_eq!(shards[0], shards[1], "the group of message {number} is on two shards");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shard_does_not_settle_while_a_group_stays() {
    let fleet = Fleet::start(3).await;
    let name = QueueName::new("staying.fifo").unwrap();
    queue(fleet.node(1), name.as_str(), &[("FifoQueue", "true")]).await;
    send_round(&fleet, &name, 0).await;
    scope(&fleet, &name, "messageGroup").await;
    fleet.clock.ahead_ms.store(301_000, Ordering::Relaxed);
    // The three shards where nothing was settle, the fourth does not.
    let begin = Instant::now();
    let unsettled = async || fleet.node(3).queue(&name).await.unwrap().placement.unsettled.len();
    while unsettled().await > 1 {
        assert!(begin.elapsed() < Duration::from_secs(60));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(unsettled().await, 1);
    send_round(&fleet, &name, 1).await;
    assert_eq!(take_in_order(&fleet, &name, 0..2).await, 1);
    settled(&fleet, &name).await;
}
