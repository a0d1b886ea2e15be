//! Nodes that end and come back: in order, all at once, and one that was away for long.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use flotilla_probe::skip;
use flotilla_tests::{Client, Condition, Fleet, Load, PATIENCE, Plan, Settings};
use tokio::time::sleep;

const LEASE_SECONDS: u32 = 600;
/// `LEASE` in `crates/consensus`: who heard its leader gives nobody else its vote before. A shard whose leader
/// ends without handing over has none for longer.
const ELECTION_MIN: Duration = Duration::from_millis(500);

/// Sends `count` messages, leases some of them for long, and says which are visible and which not.
async fn fill(fleet: &Fleet, queue: &str, round: &str, count: usize) -> (Vec<String>, Vec<String>) {
    let mut hidden = Vec::new();
    for number in 0..count {
        let mut client = fleet.client(1 + number as u64 % 3);
        client.send(queue, &format!("{round} {number}")).await.unwrap();
    }
    let mut client = fleet.client(2);
    while hidden.len() < count / 2 {
        let messages = client.receive(queue, LEASE_SECONDS, 1).await.unwrap();
        hidden.extend(messages.into_iter().map(|message| message.body));
    }
    let all = (0..count).map(|number| format!("{round} {number}"));
    let visible = all.filter(|body| !hidden.contains(body)).collect();
    (visible, hidden)
}

/// Exactly the visible ones come, and nothing else.
async fn take(fleet: &Fleet, queue: &str, mut visible: Vec<String>) {
    let mut came = Vec::new();
    for id in fleet.up() {
        let mut client = fleet.client(id);
        let begin = Instant::now();
        // A long poll asks every shard; what one finds empty through each node is empty.
        loop {
            let messages = client.receive(queue, LEASE_SECONDS, 1).await.unwrap();
            if messages.is_empty() {
                break;
            }
            assert!(begin.elapsed() < PATIENCE, "there is no end of messages");
            for message in messages {
                client.delete(queue, &message.receipt).await.unwrap();
                came.push(message.body);
            }
        }
    }
    came.sort();
    visible.sort();
    assert_eq!(came, visible);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_and_leases_outlive_every_order_of_restarts() {
    let mut fleet = Fleet::start(3).await;
    let queue = fleet.client(1).create_queue("orders").await.unwrap();
    // In turn, in order and in reverse; together, by signal and by force.
    let orders: [&[u64]; 2] = [&[1, 2, 3], &[3, 2, 1]];
    for (round, order) in orders.into_iter().enumerate() {
        let (visible, _hidden) = fill(&fleet, &queue, &format!("in turn {round}"), 20).await;
        for id in order {
            fleet.stop(*id).await;
            fleet.launch(*id);
            fleet.whole().await;
        }
        take(&fleet, &queue, visible).await;
    }
    let starts: [&[u64]; 3] = [&[2, 3, 1], &[3, 1, 2], &[1, 3, 2]];
    for (round, order) in starts.into_iter().enumerate() {
        let (visible, _hidden) = fill(&fleet, &queue, &format!("together {round}"), 20).await;
        for id in order {
            match round {
                // The last one to end has nobody to hand over to.
                0 => fleet.stop(*id).await,
                _ => fleet.kill9(*id),
            }
        }
        for id in order {
            fleet.launch(*id);
        }
        fleet.whole().await;
        take(&fleet, &queue, visible).await;
    }
}

/// How long some group was seen to be led by none of these nodes, which are all that there are. A look that is
/// late makes that shorter, never longer.
async fn unled_since_now(fleet: &Fleet, nodes: &[u64]) -> Duration {
    let begin = Instant::now();
    let mut unled = Duration::ZERO;
    loop {
        let looked = begin.elapsed();
        let mut led = BTreeMap::new();
        for id in nodes {
            let status = fleet.status(*id).await;
            for group in status["groups"].as_array().into_iter().flatten() {
                *led.entry(group["group"].to_string()).or_insert(false) |= group["leads"] == true;
            }
        }
        if !led.is_empty() && led.values().all(|led| *led) {
            return unled;
        }
        unled = looked;
        assert!(begin.elapsed() < PATIENCE, "no leaders: {led:?}");
        sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_ends_in_order_hands_over_first() {
    let mut fleet = Fleet::start(3).await;
    let queue = fleet.client(1).create_queue("handed-over").await.unwrap();
    let plan = Plan { producers: vec![2, 2, 3, 3], consumers: vec![2, 3], visibility_seconds: 10 };
    let load = Load::start(&fleet, &queue, &plan);
    let begin = Instant::now();
    while load.stored().await < 100 {
        assert!(begin.elapsed() < PATIENCE, "no progress");
        sleep(Duration::from_millis(20)).await;
    }
    // Exit code 0 is what `stop` demands.
    fleet.stop(1).await;
    let unled = unled_since_now(&fleet, &[2, 3]).await;
    assert!(unled < ELECTION_MIN, "shards had no leader for {unled:?} after node 1 had ended");
    let then = load.stored().await;
    let begin = Instant::now();
    while load.stored().await < then + 100 {
        assert!(begin.elapsed() < PATIENCE, "no progress without node 1");
        sleep(Duration::from_millis(20)).await;
    }
    let history = load.finish().await;
    // Nobody was sent away, and nobody left in doubt.
    assert_eq!((history.refused(), history.unknown()), (0, 0));
}

/// Less than what was sent to each shard.
const SENT_BYTES: u64 = 100_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_was_away_for_long_comes_back_by_snapshot() {
    let settings = "[storage]\nlog_cut_after_bytes = 65536\nlog_keep_bytes = 262144\n";
    let mut fleet = Fleet::start_with(3, &Settings::lines(settings)).await;
    let queue = fleet.client(1).create_queue("away").await.unwrap();
    fleet.kill9(3);
    let mut sent = Vec::new();
    let padding = "x".repeat(2_000);
    let mut client = fleet.client(1);
    for number in 0..400 {
        let body = format!("{number} {padding}");
        // While node 3's shards find new leaders some sends may fail.
        if client.send(&queue, &body).await.is_ok() {
            sent.push(body);
        }
    }
    assert!(sent.len() > 300, "only {} sends came through", sent.len());
    // Cut, on both: a second round of the janitor has passed behind the last entries.
    let begin = Instant::now();
    while !(fleet.logs_are_below(1, SENT_BYTES).await && fleet.logs_are_below(2, SENT_BYTES).await)
    {
        assert!(begin.elapsed() < PATIENCE, "the logs are not cut");
        client.send(&queue, &padding).await.unwrap();
        sent.push(padding.clone());
        // Slower than logs are cut, however quick the machine is.
        sleep(Duration::from_millis(100)).await;
    }
    fleet.launch(3);
    fleet.whole().await;
    let begin = Instant::now();
    while !fleet.log(3).contains("installing a snapshot") {
        assert!(begin.elapsed() < PATIENCE, "no snapshot is installed:\n{}", fleet.log(3));
        sleep(Duration::from_millis(20)).await;
    }
    // It has everything: alone with node 2 it serves what was sent without it. Node 2 hands over what it
    // leads, so that this is not node 2's doing.
    fleet.kill9(1);
    fleet.whole().await;
    fleet.stop(2).await;
    fleet.launch(2);
    fleet.whole().await;
    let groups = fleet.status(3).await["groups"].as_array().cloned().unwrap_or_default();
    let led = groups.iter().filter(|group| group["leads"] == true && group["group"] != "catalog");
    assert!(led.count() > 0, "node 3 leads no shard: {groups:?}");
    let mut client = fleet.client(3);
    let mut came = Vec::new();
    let begin = Instant::now();
    while came.len() < sent.len() {
        assert!(begin.elapsed() < PATIENCE, "{} of {} came", came.len(), sent.len());
        let Ok(messages) = client.receive(&queue, LEASE_SECONDS, 1).await else {
            continue;
        };
        for message in messages {
            client.delete(&queue, &message.receipt).await.unwrap();
            came.push(message.body);
        }
    }
    came.sort();
    sent.sort();
    assert!(came == sent, "other messages than those sent");
}

/// A leader that began with a clock that was an hour ahead ended every shorter lease of its shards.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_start_with_clocks_that_are_ahead_end_no_lease() {
    if let Err(why) = Fleet::can_set_clocks() {
        return skip("nodes that start with a wrong clock", &why);
    }
    let settings = Settings { clocks: true, ..Settings::default() };
    let mut fleet = Fleet::start_with(3, &settings).await;
    let queue = fleet.client(1).create_queue("ahead").await.unwrap();
    let (visible, _hidden) = fill(&fleet, &queue, "leased", 20).await;
    // One by one, so that the others know what time it is; whoever leads then began with a wrong one.
    for id in 1..=3 {
        fleet.stop(id).await;
        fleet.set_clock(id, "+3600 x1");
        fleet.launch(id);
        fleet.whole().await;
    }
    for id in 1..=3 {
        let status = fleet.status(id).await;
        let ms = |name: &str| status[name].as_u64().unwrap();
        let ahead_ms = ms("time_of_day_ms").saturating_sub(ms("clock_ms"));
        assert!((3_500_000..3_700_000).contains(&ahead_ms), "node {id}: {status}");
    }
    take(&fleet, &queue, visible).await;
}

/// Few, which are large soon.
const SHARDS: usize = 2;
/// What a shard holds, of which a slow wire passes on so much at a time: a snapshot takes seconds.
const HELD_BYTES: usize = 40_000_000;
const SENDERS: u64 = 12;
const SLOW_WIRE: Duration = Duration::from_millis(200);

/// Sends one message after the other until it is told to end.
async fn send_on(mut client: Client, queue: String, go_on: Arc<AtomicBool>) {
    let body = "x".repeat(2_000);
    while go_on.load(Ordering::Relaxed) {
        // While shards find leaders some sends may fail.
        let _ = client.send(&queue, &body).await;
    }
}

/// The log was cut behind a snapshot while that was on its way, so its receiver needed another one, and for as long as
/// much was sent it never became whole.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_snapshot_is_enough_although_the_log_goes_on() {
    let lines = "[storage]\nlog_cut_after_bytes = 65536\nlog_keep_entries = 20\n";
    let settings = Settings { links: true, shards: Some(SHARDS), ..Settings::lines(lines) };
    let mut fleet = Fleet::start_with(3, &settings).await;
    let queue = fleet.client(1).create_queue("held").await.unwrap();
    let body = "x".repeat(100_000);
    for _ in 0..SHARDS * HELD_BYTES / body.len() {
        fleet.client(1).send(&queue, &body).await.unwrap();
    }
    fleet.kill9(3);
    std::fs::remove_dir_all(fleet.data(3)).unwrap();
    let go_on = Arc::new(AtomicBool::new(true));
    let sender = |id| tokio::spawn(send_on(fleet.client(id), queue.clone(), go_on.clone()));
    let senders: Vec<_> = (0..SENDERS).map(|number| sender(1 + number % 2)).collect();
    fleet.launch(3);
    fleet.impair(&[(1, 3), (2, 3)], Condition { delay: SLOW_WIRE, ..Condition::default() }).await;
    fleet.whole().await;
    go_on.store(false, Ordering::Relaxed);
    for sender in senders {
        sender.await.unwrap();
    }
    // A replica votes again before it has what came meanwhile.
    let begin = Instant::now();
    while fleet.digests(1).await != fleet.digests(3).await {
        assert!(begin.elapsed() < PATIENCE, "node 3 does not hold what node 1 holds");
        sleep(Duration::from_millis(100)).await;
    }
    let installed = fleet.log(3).matches("installing a snapshot").count();
    // And perhaps one of the catalog.
    assert!((SHARDS..=SHARDS + 1).contains(&installed), "{installed} snapshots of {SHARDS} shards");
}
