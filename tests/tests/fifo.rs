//! FIFO queues while nodes are killed: order, exclusivity, no gap and no second copy.

#![allow(clippy::print_stderr, reason = "what a run did is worth reading")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use flotilla_tests::{Client, Fleet, PATIENCE};
use serde_json::{Value, json};
use tokio::sync::Mutex;
use tokio::task::JoinSet;

const GROUPS: usize = 12;
const CONSUMERS: usize = 4;
/// Of a group: a slow machine must not end a run with more than it can take out in time.
const WAITING_MAX: usize = 20;
/// Longer than any stall of the test: nobody may get what somebody holds.
const VISIBILITY_SECONDS: u64 = 20;

/// What is known of one group.
#[derive(Debug, Default)]
struct Group {
    /// The number up to which messages were stored, so far.
    stored: usize,
    /// The number up to which somebody tried to delete them.
    deleted: usize,
    holder: Option<usize>,
}

struct World {
    queue: String,
    endpoints: Vec<String>,
    groups: Vec<Mutex<Group>>,
    /// Messages that were received first.
    received: AtomicUsize,
    duplicates: AtomicUsize,
    stop: AtomicBool,
}

impl World {
    fn client(&self, at: usize) -> Client {
        Client::new(self.endpoints[at % self.endpoints.len()].clone())
    }

    async fn waiting(&self, group: usize) -> usize {
        let group = self.groups[group].lock().await;
        group.stored - group.deleted.min(group.stored)
    }

    /// One message after the other, each repeated under its deduplication id until it is stored.
    async fn produce(self: Arc<Self>, group: usize) {
        let mut attempt = group;
        for number in 1.. {
            while self.waiting(group).await >= WAITING_MAX && !self.stop.load(Ordering::Relaxed) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            let input = json!({
                "QueueUrl": self.queue,
                "MessageBody": format!("{group} {number}"),
                "MessageGroupId": format!("group {group}").replace(' ', "-"),
                "MessageDeduplicationId": format!("{group}-{number}"),
            });
            while self.client(attempt).call("SendMessage", &input).await.is_err() {
                attempt += 1;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            self.groups[group].lock().await.stored = number;
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
        }
    }

    async fn consume(self: Arc<Self>, me: usize) {
        let input = json!({
            "QueueUrl": self.queue,
            "MaxNumberOfMessages": 4,
            "VisibilityTimeout": VISIBILITY_SECONDS,
            "WaitTimeSeconds": 1,
        });
        let mut at = me;
        while !self.is_over().await {
            let mut client = self.client(at);
            let Ok(answer) = client.call("ReceiveMessage", &input).await else {
                at += 1;
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            let messages = answer["Messages"].as_array().cloned().unwrap_or_default();
            let mut mine: BTreeMap<usize, Vec<(usize, Value)>> = BTreeMap::new();
            for message in messages {
                let (group, number) = numbers(message["Body"].as_str().unwrap());
                mine.entry(group).or_default().push((number, message["ReceiptHandle"].clone()));
            }
            for (group, messages) in &mine {
                self.take(me, *group, messages).await;
            }
            for (group, messages) in mine {
                let last = messages.len() - 1;
                for (at, (number, handle)) in messages.into_iter().enumerate() {
                    {
                        let mut known = self.groups[group].lock().await;
                        known.deleted = known.deleted.max(number);
                        // The group is free once this is done, before its answer is here.
                        if at == last {
                            known.holder = None;
                        }
                    }
                    let input = json!({ "QueueUrl": self.queue, "ReceiptHandle": handle });
                    // One that fails comes again when its lease is over.
                    let _ = client.call("DeleteMessage", &input).await;
                }
            }
        }
    }

    /// What a receive brought of one group: in order, without a gap, and nobody else's.
    async fn take(&self, me: usize, group: usize, messages: &[(usize, Value)]) {
        let mut known = self.groups[group].lock().await;
        assert_eq!(known.holder, None, "group {group} was handed out twice");
        known.holder = Some(me);
        let numbers: Vec<usize> = messages.iter().map(|(number, _)| *number).collect();
        let mut next = known.deleted + 1;
        for number in &numbers {
            assert!(*number <= next, "{numbers:?} of group {group} after {known:?}");
            if *number == next {
                next += 1;
                self.received.fetch_add(1, Ordering::Relaxed);
            } else {
                // Its deletion failed, or its answer was lost.
                self.duplicates.fetch_add(1, Ordering::Relaxed);
            }
        }
        assert!(numbers.is_sorted_by(|one, other| one < other), "{numbers:?} of group {group}");
    }

    async fn is_over(&self) -> bool {
        if !self.stop.load(Ordering::Relaxed) {
            return false;
        }
        for group in &self.groups {
            let group = group.lock().await;
            if group.deleted < group.stored {
                return false;
            }
        }
        true
    }
}

/// Group and number.
fn numbers(body: &str) -> (usize, usize) {
    let (group, number) = body.split_once(' ').unwrap();
    (group.parse().unwrap(), number.parse().unwrap())
}

async fn until_received(world: &World, more: usize) {
    let wanted = world.received.load(Ordering::Relaxed) + more;
    let begin = Instant::now();
    while world.received.load(Ordering::Relaxed) < wanted {
        assert!(begin.elapsed() < PATIENCE, "no progress");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn scope(per_group: bool) -> Value {
    let (scope, limit) =
        if per_group { ("messageGroup", "perMessageGroupId") } else { ("queue", "perQueue") };
    json!({ "DeduplicationScope": scope, "FifoThroughputLimit": limit })
}

/// Changes where groups live again and again.
async fn change_scopes(world: Arc<World>) -> usize {
    let mut changes = 0;
    while !world.stop.load(Ordering::Relaxed) {
        let attributes = scope(changes % 2 == 1);
        let input = json!({ "QueueUrl": world.queue, "Attributes": attributes });
        let changed = world.client(changes).call("SetQueueAttributes", &input).await;
        changes += usize::from(changed.is_ok());
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    changes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn groups_keep_their_order_while_each_node_is_killed() {
    kill_each_node(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn groups_keep_their_order_while_their_places_change_and_each_node_is_killed() {
    kill_each_node(true).await;
}

async fn kill_each_node(scopes_change: bool) {
    let mut fleet = Fleet::start(3).await;
    let mut attributes = scope(true);
    attributes["FifoQueue"] = json!("true");
    let create = json!({ "QueueName": "groups.fifo", "Attributes": attributes });
    let created = fleet.client(1).call("CreateQueue", &create).await.unwrap();
    let world = Arc::new(World {
        queue: created["QueueUrl"].as_str().unwrap().to_owned(),
        endpoints: fleet.ids().into_iter().map(|id| fleet.endpoint(id)).collect(),
        groups: (0..GROUPS).map(|_| Mutex::default()).collect(),
        received: AtomicUsize::new(0),
        duplicates: AtomicUsize::new(0),
        stop: AtomicBool::new(false),
    });
    let mut producers = JoinSet::new();
    (0..GROUPS).for_each(|group| drop(producers.spawn(world.clone().produce(group))));
    let mut consumers = JoinSet::new();
    (0..CONSUMERS).for_each(|me| drop(consumers.spawn(world.clone().consume(me))));
    let changes = scopes_change.then(|| tokio::spawn(change_scopes(world.clone())));
    for id in fleet.ids() {
        until_received(&world, 200).await;
        fleet.kill9(id);
        until_received(&world, 100).await;
        fleet.launch(id);
        fleet.whole().await;
    }
    until_received(&world, 200).await;
    world.stop.store(true, Ordering::Relaxed);
    while let Some(ended) = producers.join_next().await {
        ended.unwrap();
    }
    let all = async {
        while let Some(ended) = consumers.join_next().await {
            ended.unwrap();
        }
    };
    tokio::time::timeout(PATIENCE, all).await.expect("everything stored is received");
    let mut stored = 0;
    for group in &world.groups {
        stored += group.lock().await.stored;
    }
    assert_eq!(world.received.load(Ordering::Relaxed), stored);
    if let Some(changes) = changes {
        eprintln!("the scope was changed {} times", changes.await.unwrap());
    }
    let again = world.duplicates.load(Ordering::Relaxed);
    eprintln!("{stored} messages of {GROUPS} groups, {again} handed out again");
}
