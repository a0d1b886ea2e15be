//! The limit on a queue's messages in flight.

use std::time::{Duration, Instant};

use flotilla_cluster::api::{Cluster as _, Queue, Receipt, ReceiveError, ReceiveRequest, Received};
use flotilla_cluster::node::Node;
use flotilla_types::ids::DedupKey;

use crate::fleet::{Fleet, Settings, fifo_message, message, queue, short_poll};

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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fifo_queue_at_the_in_flight_limit_gives_nothing_until_the_number_drops() {
    let settings = Settings { in_flight_max: 4, ..Settings::default() };
    let fleet = Fleet::start_with(1, settings).await;
    let created = queue(fleet.node(1), "crowded.fifo", &[("FifoQueue", "true")]).await;
    for number in 0..30 {
        fleet.node(1).send(&created, vec![fifo_message(number)]).await[0].clone().unwrap();
    }
    // That it is an error is between node and front end, which tells of it for standard queues only.
    let receipts = crowd(fleet.node(1), &created).await;
    assert!((4..30).contains(&receipts.len()), "{} in flight", receipts.len());
    let long = ReceiveRequest { wait_seconds: 2, ..short_poll() };
    assert_eq!(fleet.node(1).receive(&created, long).await.unwrap().messages, []);
    let deleted = fleet.node(1).delete(&created, receipts).await;
    assert!(deleted.iter().all(Result::is_ok));
    assert!(!fleet.node(1).receive(&created, long).await.unwrap().messages.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_attempt_is_answered_again_also_at_the_in_flight_limit() {
    let settings = Settings { in_flight_max: 4, ..Settings::default() };
    let fleet = Fleet::start_with(1, settings).await;
    let created = queue(fleet.node(1), "again.fifo", &[("FifoQueue", "true")]).await;
    for number in 0..30 {
        fleet.node(1).send(&created, vec![fifo_message(number)]).await[0].clone().unwrap();
    }
    let attempt = Some(DedupKey([7; 16]));
    let request = ReceiveRequest { attempt, wait_seconds: 2, ..short_poll() };
    let first = fleet.node(1).receive(&created, request).await.unwrap();
    assert!(!first.messages.is_empty());
    crowd(fleet.node(1), &created).await;
    let again = fleet.node(1).receive(&created, request).await.unwrap();
    let bodies = |received: &Received| -> Vec<_> {
        received.messages.iter().map(|message| message.content.clone()).collect()
    };
    assert_eq!(bodies(&again), bodies(&first));
    let other = ReceiveRequest { attempt: Some(DedupKey([8; 16])), wait_seconds: 0, ..request };
    let refused = fleet.node(1).receive(&created, other).await;
    assert_eq!(refused.err(), Some(ReceiveError::TooManyInFlight));
}

const LIMIT: usize = 60;
/// What may be taken of the shards of two other nodes just when they speak.
const SLACK: usize = 20;

fn limited() -> Settings {
    Settings { in_flight_max: LIMIT as u32, ..Settings::default() }
}

/// Until a node says that too many are in flight. What it gives out before that is given back.
async fn refuses(node: &Node, queue: &Queue) {
    let begin = Instant::now();
    while let Ok(received) = node.receive(queue, short_poll()).await {
        let back = received.messages.into_iter().map(|message| (message.receipt, 0));
        node.change_visibility(queue, back.collect()).await;
        assert!(begin.elapsed() < Duration::from_secs(60), "it does not hear of the others");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// As many as that on each node would be three times the limit.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_in_flight_limit_is_that_of_the_queue_and_not_of_each_node() {
    let fleet = Fleet::start_with(3, limited()).await;
    let created = queue(fleet.node(1), "whole", &[]).await;
    for batch in 0..60 {
        let messages = (10 * batch..10 * (batch + 1)).map(message).collect();
        let sent = fleet.node(1 + batch % 3).send(&created, messages).await;
        assert!(sent.iter().all(Result::is_ok));
    }
    let receipts = crowd(fleet.node(1), &created).await;
    let taken = receipts.len();
    assert!((LIMIT..=LIMIT + SLACK).contains(&taken), "{taken} in flight");
    // Those who took none of them hear of it.
    for id in [2, 3] {
        refuses(fleet.node(id), &created).await;
        let long = ReceiveRequest { wait_seconds: 1, ..short_poll() };
        assert_eq!(fleet.node(id).receive(&created, long).await.unwrap().messages, []);
    }
    let in_flight = fleet.node(2).counts(&created).await.unwrap().in_flight as usize;
    assert!((LIMIT..=LIMIT + SLACK).contains(&in_flight), "{in_flight} in flight");
    // And of the end of it.
    let deleted = fleet.node(1).delete(&created, receipts).await;
    assert!(deleted.iter().all(Result::is_ok));
    for id in [1, 2, 3] {
        let long = ReceiveRequest { wait_seconds: 20, ..short_poll() };
        assert!(!fleet.node(id).receive(&created, long).await.unwrap().messages.is_empty());
    }
}

/// A FIFO queue lives on one shard, and most gateways lead nothing of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_leads_nothing_of_a_queue_keeps_its_in_flight_limit_too() {
    let fleet = Fleet::start_with(3, limited()).await;
    let created = queue(fleet.node(1), "elsewhere.fifo", &[("FifoQueue", "true")]).await;
    let mut home = None;
    for batch in 0..20 {
        let messages = (10 * batch..10 * (batch + 1)).map(fifo_message).collect();
        for sent in fleet.node(1).send(&created, messages).await {
            home = Some(sent.unwrap().shard);
        }
    }
    let shard = home.unwrap();
    let leads = |id: &u64| {
        let status = fleet.node(*id).status();
        status.groups.iter().any(|group| group.group == shard && group.leads)
    };
    let others: Vec<u64> = (1..=3).filter(|id| !leads(id)).collect();
    let taken = crowd(fleet.node(others[0]), &created).await.len();
    assert!((LIMIT..=LIMIT + SLACK).contains(&taken), "{taken} in flight");
    for id in 1..=3 {
        refuses(fleet.node(id), &created).await;
    }
}
