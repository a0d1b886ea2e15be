//! Dead letters on their way to their queue and back, while nodes are killed.

#![allow(clippy::print_stderr, reason = "what a failover took is worth reading")]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use flotilla_tests::{Client, Fleet, PATIENCE};
use serde_json::{Value, json};

const MESSAGES: usize = 400;

/// Dead-letter queue and its source, which gives up a message after one receive.
async fn queues(client: &mut Client, suffix: &str, attributes: Value) -> (String, String) {
    let create = |name: &str, more: Value| {
        let mut attributes = attributes.clone();
        let object = attributes.as_object_mut().unwrap();
        object.extend(more.as_object().unwrap().clone());
        json!({ "QueueName": format!("{name}{suffix}"), "Attributes": attributes })
    };
    let url = |answer: Value| answer["QueueUrl"].as_str().unwrap().to_owned();
    let dead = url(client.call("CreateQueue", &create("dead", json!({}))).await.unwrap());
    let policy = json!({
        "deadLetterTargetArn": arn(&format!("dead{suffix}")),
        "maxReceiveCount": 1,
    });
    let more = json!({ "RedrivePolicy": policy.to_string(), "VisibilityTimeout": "0" });
    let source = url(client.call("CreateQueue", &create("source", more)).await.unwrap());
    (dead, source)
}

fn arn(name: &str) -> String {
    format!("arn:aws:sqs:us-east-1:000000000000:{name}")
}

/// Visible messages of a queue.
async fn count(client: &mut Client, queue: &str) -> usize {
    let input = json!({
        "QueueUrl": queue,
        "AttributeNames": ["ApproximateNumberOfMessages"],
    });
    let answer = client.call("GetQueueAttributes", &input).await.unwrap();
    let text = answer["Attributes"]["ApproximateNumberOfMessages"].as_str().unwrap().to_owned();
    text.parse().unwrap()
}

/// Receives until all messages were given up: nothing is deleted.
async fn give_up(client: &mut Client, source: &str, dead: &str) {
    let begin = Instant::now();
    while count(client, dead).await < MESSAGES {
        assert!(begin.elapsed() < PATIENCE, "{} given up", count(client, dead).await);
        // Refused while there is no leader.
        let _ = client.receive(source, 0, 1).await;
    }
}

/// Bodies and how often each came.
async fn drain(client: &mut Client, queue: &str) -> BTreeMap<String, usize> {
    let mut bodies = BTreeMap::new();
    let mut idle = 0;
    while idle < 3 {
        let messages = client.receive(queue, 60, 1).await.unwrap();
        idle = if messages.is_empty() { idle + 1 } else { 0 };
        for message in messages {
            client.delete(queue, &message.receipt).await.unwrap();
            *bodies.entry(message.body).or_insert(0) += 1;
        }
    }
    bodies
}

/// To one queue, or each message back to its own.
async fn start_move(client: &mut Client, suffix: &str, destination: Option<&str>) {
    let mut input = json!({
        "SourceArn": arn(&format!("dead{suffix}")),
        "MaxNumberOfMessagesPerSecond": 50,
    });
    if let Some(name) = destination {
        input["DestinationArn"] = arn(name).into();
    }
    client.call("StartMessageMoveTask", &input).await.unwrap();
}

async fn task(client: &mut Client, suffix: &str) -> Value {
    let input = json!({ "SourceArn": arn(&format!("dead{suffix}")) });
    client.call("ListMessageMoveTasks", &input).await.unwrap()["Results"][0].clone()
}

/// Kills the catalog's leader, which carries the task out, and then the next one.
async fn kill_leaders_twice(fleet: &mut Fleet, suffix: &str) {
    for round in 1..=2 {
        let begin = Instant::now();
        let progress = 60 * round;
        while task(&mut fleet.client(1), suffix).await["ApproximateNumberOfMessagesMoved"]
            .as_u64()
            .is_none_or(|moved| moved < progress)
        {
            assert!(
                begin.elapsed() < PATIENCE,
                "no progress: {:?}",
                task(&mut fleet.client(1), suffix).await
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let leader = fleet.catalog_leader().await;
        eprintln!("the task moves on at node {leader}, which is killed");
        fleet.kill9(leader);
        tokio::time::sleep(Duration::from_secs(1)).await;
        fleet.launch(leader);
        fleet.whole().await;
    }
    completed(fleet, suffix).await;
}

async fn completed(fleet: &Fleet, suffix: &str) {
    let begin = Instant::now();
    loop {
        let task = task(&mut fleet.client(1), suffix).await;
        if task["Status"] == "COMPLETED" {
            return;
        }
        assert!(begin.elapsed() < PATIENCE, "{task}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Message `n` is of group `n % 8`.
async fn send_in_groups(client: &mut Client, queue: &str) {
    for number in 0..MESSAGES {
        let group = format!("g{}", number % 8);
        let body = format!("{group}-{number:03}");
        let input = json!({
            "QueueUrl": queue,
            "MessageBody": body,
            "MessageGroupId": group,
            "MessageDeduplicationId": body,
        });
        client.call("SendMessage", &input).await.unwrap();
    }
}

/// Receives and deletes every message of those groups: each once, each group in order.
async fn take_groups(client: &mut Client, queue: &str) {
    let begin = Instant::now();
    let mut last: BTreeMap<String, String> = BTreeMap::new();
    let mut seen = 0;
    while seen < MESSAGES {
        assert!(begin.elapsed() < Duration::from_secs(90), "{seen}");
        for message in client.receive(queue, 60, 1).await.unwrap() {
            let group = message.body.split('-').next().unwrap().to_owned();
            let before = last.insert(group, message.body.clone());
            assert!(
                before.as_ref().is_none_or(|before| *before < message.body),
                "{before:?} before {}",
                message.body
            );
            client.delete(queue, &message.receipt).await.unwrap();
            seen += 1;
        }
    }
    assert_eq!(drain(client, queue).await, BTreeMap::new());
}

fn spread() -> Value {
    json!({
        "FifoQueue": "true",
        "DeduplicationScope": "messageGroup",
        "FifoThroughputLimit": "perMessageGroupId",
    })
}

/// Of a standard queue, and of a FIFO queue whose dead letters go back to it: both by one command each.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_letters_go_there_and_back_and_none_is_lost_or_doubled() {
    let mut fleet = Fleet::start(3).await;
    let mut client = fleet.client(1);
    let (dead, source) = queues(&mut client, "", json!({})).await;
    let (dead_fifo, source_fifo) = queues(&mut client, ".fifo", spread()).await;
    for number in 0..MESSAGES {
        client.send(&source, &format!("m{number}")).await.unwrap();
    }
    send_in_groups(&mut client, &source_fifo).await;
    give_up(&mut client, &source, &dead).await;
    give_up(&mut client, &source_fifo, &dead_fifo).await;
    start_move(&mut client, "", None).await;
    start_move(&mut client, ".fifo", None).await;
    kill_leaders_twice(&mut fleet, "").await;
    completed(&fleet, ".fifo").await;

    let mut client = fleet.client(1);
    for source in [&source, &source_fifo] {
        let unset = json!({ "QueueUrl": source, "Attributes": { "RedrivePolicy": "" } });
        client.call("SetQueueAttributes", &unset).await.unwrap();
        assert_eq!(count(&mut client, source).await, MESSAGES);
    }
    let bodies = drain(&mut client, &source).await;
    assert_eq!(bodies.len(), MESSAGES);
    assert!(bodies.values().all(|count| *count == 1), "{bodies:?}");
    take_groups(&mut client, &source_fifo).await;
    assert_eq!(drain(&mut client, &dead).await, BTreeMap::new());
    assert_eq!(drain(&mut client, &dead_fifo).await, BTreeMap::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_letters_of_a_fifo_queue_go_elsewhere_in_order_although_leaders_die() {
    let mut fleet = Fleet::start(3).await;
    let mut client = fleet.client(1);
    let (dead, source) = queues(&mut client, ".fifo", spread()).await;
    let create = json!({ "QueueName": "elsewhere.fifo", "Attributes": spread() });
    let elsewhere = client.call("CreateQueue", &create).await.unwrap();
    let elsewhere = elsewhere["QueueUrl"].as_str().unwrap().to_owned();
    send_in_groups(&mut client, &source).await;
    give_up(&mut client, &source, &dead).await;
    start_move(&mut client, ".fifo", Some("elsewhere.fifo")).await;
    kill_leaders_twice(&mut fleet, ".fifo").await;

    // What a killed node had received is hidden for a minute and comes with the next task.
    let mut client = fleet.client(1);
    let begin = Instant::now();
    while count(&mut client, &elsewhere).await < MESSAGES {
        let there = count(&mut client, &elsewhere).await;
        assert!(begin.elapsed() < Duration::from_secs(150), "{there}");
        let input =
            json!({ "SourceArn": arn("dead.fifo"), "DestinationArn": arn("elsewhere.fifo") });
        let _ = client.call("StartMessageMoveTask", &input).await;
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
    take_groups(&mut client, &elsewhere).await;
    assert_eq!(drain(&mut client, &dead).await, BTreeMap::new());
}
