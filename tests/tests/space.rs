//! Disks that fill up: sends are refused in time, and nothing else is.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use flotilla_tests::{Client, Failed, Failure, Fleet, Message, PATIENCE, Settings, SmallDisk};
use serde_json::json;
use tokio::time::{Duration, sleep};

/// At a time, of all nodes.
const CLIENTS: u64 = 12;
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// By one client: more than fits on the small disk, which all share.
const TAKEN_BYTES_MAX: usize = 256 << 20;
/// More than any disk has.
const ALWAYS_LOW: &str = "[storage]\nfree_bytes_min = 9223372036854775807\n";

/// Sends through a node until it is refused; how many it took before that.
async fn until_refused(mut client: Client, queue: &str, body: &str) -> usize {
    let mut progress = Instant::now();
    let mut taken = 0;
    loop {
        match client.send(queue, body).await {
            Ok(_) => {
                taken += 1;
                progress = Instant::now();
            }
            Err(failure) if is_busy(&failure) => sleep(LOOK_AGAIN).await,
            Err(failure) => {
                is_refusal(&failure);
                return taken;
            }
        }
        assert!(taken * body.len().max(7_000) < TAKEN_BYTES_MAX, "{taken} sends, none refused");
        assert!(progress.elapsed() < PATIENCE, "{taken} sends, then none answered");
    }
}

/// A slow disk is another matter than a full one; it passes.
fn is_busy(failure: &Failure) -> bool {
    failure.status == Some(503)
        && failure.outcome == Failed::NotApplied
        && failure.text.contains("Too many requests")
}

fn is_refusal(failure: &Failure) {
    assert_eq!(failure.status, Some(503), "{failure}");
    assert_eq!(failure.outcome, Failed::NotApplied, "{failure}");
    assert!(failure.text.contains("low on disk space"), "{failure}");
}

/// Sends through a node until it is taken again; other refusals are not right.
async fn until_taken(fleet: &mut Fleet, id: u64, queue: &str) {
    let mut client = fleet.client(id);
    let begin = Instant::now();
    while let Err(failure) = client.send(queue, "taken again").await {
        is_refusal(&failure);
        // A node that has ended would be noticed here.
        fleet.ready().await;
        assert!(
            begin.elapsed() < PATIENCE,
            "still refused: {:?}",
            (fleet.status(1).await, fleet.status(2).await, fleet.status(3).await)
        );
        sleep(LOOK_AGAIN).await;
    }
}

/// Receives and deletes until `count` messages have come, through all nodes.
async fn drain(fleet: &Fleet, queue: &str, count: usize) {
    let came = Arc::new(AtomicUsize::new(0));
    let taker = |number: u64| {
        let (client, queue) = (fleet.client(1 + number % 3), queue.to_owned());
        tokio::spawn(take(client, queue, came.clone(), count))
    };
    let takers: Vec<_> = (0..CLIENTS).map(taker).collect();
    for taker in takers {
        taker.await.expect("a taker fails only with its test");
    }
    assert_eq!(came.load(Ordering::Relaxed), count);
}

async fn take(mut client: Client, queue: String, came: Arc<AtomicUsize>, count: usize) {
    let begin = Instant::now();
    while came.load(Ordering::Relaxed) < count {
        assert!(begin.elapsed() < 2 * PATIENCE, "{came:?} of {count} came");
        let messages = client.receive(&queue, 600, 1).await.unwrap();
        if messages.is_empty() {
            continue;
        }
        let entry = |(id, message): (usize, &Message)| json!({ "Id": id.to_string(), "ReceiptHandle": message.receipt });
        let entries: Vec<_> = messages.iter().enumerate().map(entry).collect();
        let batch = json!({ "QueueUrl": queue, "Entries": entries });
        let answer = client.call("DeleteMessageBatch", &batch).await.unwrap();
        assert_eq!(answer["Successful"].as_array().map(Vec::len), Some(messages.len()));
        came.fetch_add(messages.len(), Ordering::Relaxed);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sends_are_refused_with_503_while_a_node_is_low_on_space() {
    let mut fleet = Fleet::start(3).await;
    let queue = fleet.client(1).create_queue("nearly-full").await.unwrap();
    for number in 0..30 {
        fleet.client(1 + number % 3).send(&queue, "stored before").await.unwrap();
    }
    fleet.stop(3).await;
    fleet.configure(3, ALWAYS_LOW);
    fleet.launch(3);
    // Low on space is ready: everything but sends is served.
    fleet.whole().await;
    let mut stored = 30;
    for id in 1..=3 {
        stored += until_refused(fleet.client(id), &queue, "one more").await;
    }
    let entries = json!([{ "Id": "a", "MessageBody": "m" }]);
    let batch = json!({ "QueueUrl": queue, "Entries": entries });
    let answer = fleet.client(2).call("SendMessageBatch", &batch).await.unwrap();
    assert_eq!(answer["Failed"][0]["Code"], "ServiceUnavailable");

    assert_eq!(fleet.status(3).await["low_on_space"], true);
    assert_eq!(fleet.status(1).await["low_on_space"], false);
    assert_eq!(fleet.status(1).await["low_on_space_elsewhere"], json!([3]));
    assert!(fleet.metrics(3).await.contains("flotilla_low_on_space 1\n"));
    assert!(fleet.metrics(2).await.contains("flotilla_low_on_space 0\n"));

    // A way back into the queue, a way out of it, and a way out for all.
    let mut client = fleet.client(1);
    let messages = client.receive(&queue, 600, 20).await.unwrap();
    let back = json!({
        "QueueUrl": queue,
        "ReceiptHandle": messages[0].receipt,
        "VisibilityTimeout": 0,
    });
    client.call("ChangeMessageVisibility", &back).await.unwrap();
    // The others of that receive stay hidden; the rest can be taken.
    drain(&fleet, &queue, stored - (messages.len() - 1)).await;
    client.call("PurgeQueue", &json!({ "QueueUrl": queue })).await.unwrap();

    fleet.stop(3).await;
    fleet.configure(3, "");
    fleet.launch(3);
    fleet.whole().await;
    for id in 1..=3 {
        until_taken(&mut fleet, id, &queue).await;
    }
    assert_eq!(fleet.log(3).matches("low on space: no new messages").count(), 1);
}

fn incompressible(bytes: usize) -> String {
    (0..bytes).map(|_| char::from(rand::random_range(b'0'..=b'z'))).collect()
}

/// Sends through all nodes until each refuses; how many messages were taken.
async fn fill(fleet: &Fleet, queue: &str, bytes: usize) -> usize {
    let body = incompressible(bytes);
    let sender = |number: u64| {
        let (client, queue, body) = (fleet.client(1 + number % 3), queue.to_owned(), body.clone());
        tokio::spawn(async move { until_refused(client, &queue, &body).await })
    };
    let senders: Vec<_> = (0..CLIENTS).map(sender).collect();
    let mut stored = 0;
    for sender in senders {
        stored += sender.await.expect("a sender fails only with its test");
    }
    stored
}

/// Small files, so that a small disk is soon full and soon free again.
const SMALL_FILES: &str = "[storage]\nlog_segment_bytes = 8388608\nlog_segments_max = 4\n\
     log_cut_after_bytes = 8388608\nlog_keep_entries = 50\nwrite_buffer_bytes = 8388608\n\
     free_bytes_min = 100663296\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_fills_up_stops_sends_and_no_node_and_comes_back() {
    let Some(disk) = SmallDisk::mount(256) else { return };
    let settings =
        Settings { disks: BTreeMap::from([(3, disk.to_path())]), ..Settings::lines(SMALL_FILES) };
    let mut fleet = Fleet::start_with(3, &settings).await;
    // Sizes above and below the one from which on messages lie apart in the state store.
    for (round, (bytes, purge)) in
        [(100_000, false), (100_000, true), (7_000, true)].into_iter().enumerate()
    {
        let queue = fleet.client(1).create_queue(&format!("filling-{round}")).await.unwrap();
        let stored = fill(&fleet, &queue, bytes).await;
        assert!(stored > 0, "round {round}: nothing was taken");
        if purge {
            let input = json!({ "QueueUrl": queue });
            fleet.client(2).call("PurgeQueue", &input).await.unwrap();
        } else {
            drain(&fleet, &queue, stored).await;
        }
        for id in 1..=3 {
            until_taken(&mut fleet, id, &queue).await;
        }
        drain(&fleet, &queue, 3).await;
    }
    assert_eq!(fleet.up(), [1, 2, 3]);
    fleet.whole().await;
}
