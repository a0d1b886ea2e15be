//! Fair queues: while one tenant floods a queue, the others' messages do not wait behind its
//! backlog. Dwell time is counted in receives, which does not depend on the machine.

#![allow(clippy::print_stderr, reason = "the dwell times are worth reading")]

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use flotilla_tests::{Client, Fleet, PATIENCE};
use serde_json::{Value, json};

/// In entries of ten: 300 receives deep.
const FLOOD_BATCHES: usize = 300;
/// Messages that the consumers hold at a time; they delete the oldest when they get more.
const HELD: usize = 60;
const QUIET_TENANTS: usize = 8;
/// Three rounds of all shards: within this a short poll's sample has asked every one.
const SHARDS_SEEN_WITHIN: usize = 24;

/// Through every node: sends go to the shards that are near.
async fn flood(clients: &mut [Client], queue: &str) {
    let nodes = clients.len();
    for batch in 0..FLOOD_BATCHES {
        let client = &mut clients[batch % nodes];
        let entry = |at: usize| {
            json!({
                "Id": at.to_string(),
                "MessageBody": format!("flood {batch} {at}"),
                "MessageGroupId": "flooder",
            })
        };
        let entries: Vec<Value> = (0..10).map(entry).collect();
        let input = json!({ "QueueUrl": queue, "Entries": entries });
        let answer = client.call("SendMessageBatch", &input).await.unwrap();
        assert_eq!(answer["Successful"].as_array().unwrap().len(), 10);
    }
}

/// Consumers that go around the nodes.
struct Consumers {
    clients: Vec<Client>,
    queue: String,
    held: VecDeque<String>,
    turn: usize,
}

impl Consumers {
    /// One receive; the bodies.
    async fn receive(&mut self, wait_seconds: u64) -> Vec<String> {
        self.turn = (self.turn + 1) % self.clients.len();
        let client = &mut self.clients[self.turn];
        let input = json!({
            "QueueUrl": self.queue,
            "MaxNumberOfMessages": 10,
            "WaitTimeSeconds": wait_seconds,
            "VisibilityTimeout": 600,
        });
        let answer = client.call("ReceiveMessage", &input).await.unwrap();
        let mut bodies = Vec::new();
        for message in answer["Messages"].as_array().into_iter().flatten() {
            bodies.push(message["Body"].as_str().unwrap().to_owned());
            self.held.push_back(message["ReceiptHandle"].as_str().unwrap().to_owned());
        }
        while self.held.len() > HELD {
            let handle = self.held.pop_front().unwrap();
            let input = json!({ "QueueUrl": self.queue, "ReceiptHandle": handle });
            client.call("DeleteMessage", &input).await.unwrap();
        }
        bodies
    }

    /// After how many receives a message came that is sent now.
    async fn dwell(&mut self, tenant: usize, wait_seconds: u64) -> usize {
        let body = format!("quiet {tenant}");
        let input = json!({
            "QueueUrl": self.queue,
            "MessageBody": body,
            "MessageGroupId": format!("tenant-{}", tenant % QUIET_TENANTS),
        });
        self.clients[tenant % 3].call("SendMessage", &input).await.unwrap();
        for receives in 1..=FLOOD_BATCHES {
            if self.receive(wait_seconds).await.contains(&body) {
                return receives;
            }
        }
        panic!("the message never came");
    }
}

/// 0 where nobody has heard of the queue yet.
fn gauge(metrics: &str, name: &str) -> u64 {
    let start = format!("flotilla_sqs_{name}{{queue_name=\"tenants\"}} ");
    let value = metrics.lines().find_map(|line| line.strip_prefix(start.as_str()));
    value.map_or(0, |value| value.parse().unwrap())
}

/// Nodes judge once a second.
async fn until_noisy(fleet: &Fleet, id: u64) {
    let begin = Instant::now();
    while gauge(&fleet.metrics(id).await, "ApproximateNumberOfNoisyGroups") == 0 {
        assert!(begin.elapsed() < PATIENCE, "node {id} never says that the flooder is noisy");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn quiet_tenants_do_not_wait_behind_a_flood() {
    let fleet = Fleet::start(3).await;
    let queue = fleet.client(1).create_queue("tenants").await.unwrap();
    let mut clients: Vec<_> = fleet.ids().into_iter().map(|id| fleet.client(id)).collect();
    flood(&mut clients, &queue).await;
    let mut consumers = Consumers { clients, queue: queue.clone(), held: VecDeque::new(), turn: 0 };
    for _ in 0..HELD / 10 {
        consumers.receive(1).await;
    }
    for id in fleet.ids() {
        until_noisy(&fleet, id).await;
    }
    // Each front end learns from its answers that some have to wait.
    for _ in 0..HELD / 10 {
        consumers.receive(1).await;
    }
    let mut dwells = [Vec::new(), Vec::new()];
    for tenant in 0..2 * QUIET_TENANTS {
        for (wait_seconds, dwells) in [1, 0].into_iter().zip(&mut dwells) {
            dwells.push(consumers.dwell(tenant, wait_seconds).await);
        }
    }
    let mut metrics = Vec::new();
    for id in fleet.ids() {
        metrics.push(fleet.metrics(id).await);
    }
    let [long, short] = dwells;
    eprintln!("receives until a quiet tenant's message came: long polls {long:?}, short {short:?}");
    assert!(long.iter().all(|receives| *receives == 1), "a long poll asks all: {long:?}");
    let seen = |receives: &usize| *receives <= SHARDS_SEEN_WITHIN;
    assert!(short.iter().all(seen), "a short poll asks each shard in turn: {short:?}");

    // Which shards the last receives were answered by is chance: of all nodes together most of what is
    // held is the flooder's.
    let all = |name: &str| metrics.iter().map(|it| gauge(it, name)).sum::<u64>();
    assert_eq!(gauge(&metrics[1], "ApproximateNumberOfNoisyGroups"), 1);
    assert_eq!(all("ApproximateNumberOfMessagesVisibleInQuietGroups"), 0);
    let left = gauge(&metrics[1], "ApproximateNumberOfMessagesVisible");
    assert!(left > 300, "its part of the flood is left");
    let quiet = all("ApproximateNumberOfMessagesNotVisibleInQuietGroups");
    assert!(quiet < all("ApproximateNumberOfMessagesNotVisible"), "{quiet} in flight");
}
