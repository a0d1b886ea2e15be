//! Disks that forget: a flipped byte, half a file, everything.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use flotilla_tests::{Fleet, PATIENCE, Settings};
use tokio::time::sleep;

/// A fleet with acknowledged messages, and their bodies.
async fn filled(name: &str) -> (Fleet, String, Vec<String>) {
    filled_of(Fleet::start(3).await, name).await
}

async fn filled_of(fleet: Fleet, name: &str) -> (Fleet, String, Vec<String>) {
    let queue = fleet.client(1).create_queue(name).await.unwrap();
    let mut sent = Vec::new();
    for number in 0..120 {
        let body = format!("{number} {}", "y".repeat(1_000));
        fleet.client(1 + number % 3).send(&queue, &body).await.unwrap();
        sent.push(body);
    }
    (fleet, queue, sent)
}

/// Segments of a node's log that hold anything, with the length of what they hold.
fn segments(data: &Path) -> Vec<(PathBuf, u64)> {
    let entries = fs::read_dir(data.join("log")).unwrap().map(|entry| entry.unwrap().path());
    entries
        .filter(|path| path.is_file())
        .filter_map(|path| {
            let bytes = fs::read(&path).unwrap();
            // The small files beside the segments are whole in themselves.
            let held = bytes.iter().rposition(|byte| *byte != 0)? as u64 + 1;
            (bytes.len() > 1_000_000).then_some((path, held))
        })
        .collect()
}

/// Starts a damaged node while a peer is away, so that it must wait, then lets it be rebuilt, and
/// finally lets it carry a majority.
async fn is_rebuilt(mut fleet: Fleet, queue: &str, sent: Vec<String>, says: &str) {
    fleet.kill9(1);
    fleet.launch(2);
    // Without node 1's word node 2 takes part in nothing: not a single replica of it votes.
    let begin = Instant::now();
    while !fleet.log(2).contains(says) {
        assert!(begin.elapsed() < PATIENCE, "nothing is said about the loss:\n{}", fleet.log(2));
        sleep(Duration::from_millis(20)).await;
    }
    // Longer than it waits to hear what the others remember of it.
    for _ in 0..60 {
        assert!(!fleet.all_vote(2).await, "it votes before all others have told their votes");
        sleep(Duration::from_millis(50)).await;
    }
    fleet.launch(1);
    fleet.whole().await;
    assert!(fleet.log(2).contains("votes again"), "{}", fleet.log(2));
    // It holds everything that was acknowledged: with node 3 gone it is half of the majority.
    fleet.kill9(3);
    all_come(&mut fleet, 2, queue, sent).await;
}

async fn all_come(fleet: &mut Fleet, through: u64, queue: &str, mut sent: Vec<String>) {
    fleet.whole().await;
    let mut client = fleet.client(through);
    let mut came = Vec::new();
    let begin = Instant::now();
    while came.len() < sent.len() {
        assert!(begin.elapsed() < PATIENCE, "{} of {} came", came.len(), sent.len());
        let Ok(messages) = client.receive(queue, 600, 1).await else {
            continue;
        };
        for message in messages {
            client.delete(queue, &message.receipt).await.unwrap();
            came.push(message.body);
        }
    }
    came.sort();
    sent.sort();
    assert!(came == sent, "other messages than those sent");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flipped_byte_in_the_log_is_noticed_and_mended() {
    let (mut fleet, queue, sent) = filled("flipped").await;
    fleet.stop(2).await;
    flip(&fleet.data(2));
    is_rebuilt(fleet, &queue, sent, "the log is damaged").await;
}

fn flip(data: &Path) {
    let segments = segments(data);
    let (path, held) = segments.iter().max_by_key(|(_, held)| *held).unwrap();
    let file = File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    // In the middle of what it holds, in a byte that means something.
    let place = (held / 2..*held)
        .find(|place| file.read_exact_at(&mut byte, *place).is_ok() && byte[0] == b'y')
        .expect("bodies are in the log");
    file.write_all_at(b"z", place).unwrap();
}

/// A bit in each body: shards of which nothing is damaged go on.
fn flip_all(data: &Path) {
    for (path, _) in segments(data) {
        let mut bytes = fs::read(&path).unwrap();
        for place in (0..bytes.len() - 8).step_by(500) {
            if bytes[place..place + 8] == *b"yyyyyyyy" {
                bytes[place] ^= 1;
            }
        }
        fs::write(path, bytes).unwrap();
    }
}

/// Of these nodes only the catalog, which all five have, has two replicas: the shards are on 1, 2 and 3, and
/// on 2, 3 and 4.
const APART: [u64; 2] = [1, 4];

async fn five_nodes() -> Fleet {
    Fleet::start_with(5, &Settings { shards: Some(2), ..Settings::default() }).await
}

/// Each waited for the other's word for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_of_five_logs_are_rebuilt_together() {
    let (mut fleet, queue, sent) = filled_of(five_nodes().await, "two-of-five").await;
    for id in APART {
        fleet.stop(id).await;
        for (path, held) in segments(&fleet.data(id)) {
            File::options().write(true).open(path).unwrap().set_len(held / 2).unwrap();
        }
    }
    are_rebuilt(&mut fleet, &queue, sent).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_of_five_lost_disks_are_rebuilt_together() {
    let (mut fleet, queue, sent) = filled_of(five_nodes().await, "two-disks-of-five").await;
    for id in APART {
        fleet.kill9(id);
    }
    for id in APART {
        fs::remove_dir_all(fleet.data(id)).unwrap();
    }
    are_rebuilt(&mut fleet, &queue, sent).await;
}

/// Starts the damaged nodes, and lets them be half of each shard's majority once they are whole.
async fn are_rebuilt(fleet: &mut Fleet, queue: &str, sent: Vec<String>) {
    for id in APART {
        fleet.launch(id);
    }
    fleet.whole().await;
    for id in APART {
        assert!(fleet.log(id).contains("votes again"), "{}", fleet.log(id));
    }
    // Also the nodes without a replica of what it led find who leads now, before anybody asks them.
    fleet.kill9(2);
    all_come(fleet, APART[0], queue, sent).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_a_log_file_is_noticed_and_mended() {
    let (mut fleet, queue, sent) = filled("half").await;
    fleet.stop(2).await;
    for (path, held) in segments(&fleet.data(2)) {
        File::options().write(true).open(path).unwrap().set_len(held / 2).unwrap();
    }
    is_rebuilt(fleet, &queue, sent, "the log is damaged").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_disk_is_noticed_and_mended() {
    let (mut fleet, queue, sent) = filled("lost").await;
    fleet.kill9(2);
    fs::remove_dir_all(fleet.data(2)).unwrap();
    is_rebuilt(fleet, &queue, sent, "not part of a cluster yet").await;
}

/// Found by chaos with bits that turned over in small files: the node ended at it, at every start.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_cannot_read_to_which_cluster_it_belongs_is_told_by_the_others() {
    let (mut fleet, queue, sent) = filled("whose").await;
    fleet.stop(2).await;
    let file = fleet.data(2).join("cluster");
    let mut bytes = fs::read(&file).unwrap();
    bytes[30] ^= 1;
    fs::write(file, bytes).unwrap();
    is_rebuilt(fleet, &queue, sent, "to which cluster this node belongs is damaged").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_log_is_noticed_and_mended() {
    let (mut fleet, queue, sent) = filled("log-lost").await;
    fleet.kill9(2);
    fs::remove_dir_all(fleet.data(2).join("log")).unwrap();
    is_rebuilt(fleet, &queue, sent, "the log is gone").await;
}

/// Found by chaos with directories that were put back: they are whole in themselves, and the node
/// went on with them, without entries that it had acknowledged and votes that it had given.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_copy_of_the_disk_is_noticed_and_mended() {
    let (mut fleet, queue, mut sent) = filled("older").await;
    fleet.stop(2).await;
    let (data, copy) = (fleet.data(2), fleet.data(2).with_extension("old"));
    let copied = std::process::Command::new("cp").arg("-a").arg(&data).arg(&copy).status().unwrap();
    assert!(copied.success());
    fleet.launch(2);
    fleet.whole().await;
    for number in 0..60 {
        let body = format!("later {number}");
        fleet.client(1 + number % 3).send(&queue, &body).await.unwrap();
        sent.push(body);
    }
    // What is said of the log is said a few times a second.
    sleep(Duration::from_secs(2)).await;
    fleet.kill9(2);
    fs::remove_dir_all(&data).unwrap();
    fs::rename(&copy, &data).unwrap();
    is_rebuilt(fleet, &queue, sent, "older than what this node told its peers").await;
}

/// Short logs, so that what a node lost is not in its own.
const SHORT_LOGS: &str = "[storage]\nlog_segment_bytes = 8388608\nlog_segments_max = 4\n\
     log_cut_after_bytes = 65536\nlog_keep_entries = 5\n";

/// Less than what is sent to each shard.
const SENT_BYTES: u64 = 100_000;

/// A fleet whose logs, on every node, do not reach back to the first of the messages.
async fn with_short_logs(name: &str) -> (Fleet, String, Vec<String>) {
    let fleet = Fleet::start_with(3, &Settings::lines(SHORT_LOGS)).await;
    let queue = fleet.client(1).create_queue(name).await.unwrap();
    let mut sent = Vec::new();
    let body = |number: u64| format!("{number} {}", "y".repeat(5_000));
    for number in 0..200 {
        let body = body(number);
        fleet.client(1 + number % 3).send(&queue, &body).await.unwrap();
        sent.push(body);
    }
    let begin = Instant::now();
    for id in 1..=3 {
        while !fleet.logs_are_below(id, SENT_BYTES).await {
            assert!(begin.elapsed() < PATIENCE, "the logs are not cut");
            // They are cut behind what comes later.
            let body = body(sent.len() as u64);
            fleet.client(id).send(&queue, &body).await.unwrap();
            sent.push(body);
            sleep(Duration::from_millis(100)).await;
        }
    }
    (fleet, queue, sent)
}

/// Of a node that has ended in order.
fn damage_state(data: &Path) {
    let tables: Vec<PathBuf> = fs::read_dir(data.join("state"))
        .unwrap()
        .map(|it| it.unwrap().path())
        .filter(|path| path.extension().is_some_and(|it| it == "sst"))
        .collect();
    assert!(!tables.is_empty(), "nothing was flushed");
    for path in tables {
        let mut bytes = fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 4;
        bytes.truncate(bytes.len() - 1);
        fs::write(path, bytes).unwrap();
    }
}

/// Found by chaos with bits that turned over: the node ended at the damaged file, at every start.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damaged_state_is_put_aside_and_rebuilt() {
    let (mut fleet, queue, mut sent) = with_short_logs("state").await;
    fleet.stop(2).await;
    damage_state(&fleet.data(2));
    fleet.launch(2);
    fleet.whole().await;
    assert!(fleet.log(2).contains("the state is damaged"), "{}", fleet.log(2));
    // It is half of the majority, and leads what node 3 led.
    fleet.kill9(3);
    fleet.whole().await;
    let mut client = fleet.client(2);
    let begin = Instant::now();
    while !sent.is_empty() {
        assert!(begin.elapsed() < PATIENCE, "{} did not come", sent.len());
        let Ok(messages) = client.receive(&queue, 600, 1).await else { continue };
        for message in messages {
            let place = sent.iter().position(|body| *body == message.body).expect("sent, and once");
            sent.swap_remove(place);
            client.delete(&queue, &message.receipt).await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_everywhere_is_said_and_nothing_is_served() {
    let (mut fleet, queue, _) = filled("everywhere").await;
    // All at once: one that comes back earlier is rebuilt by those that are whole.
    (1..=3).for_each(|id| fleet.kill9(id));
    for id in 1..=3 {
        for (path, held) in segments(&fleet.data(id)) {
            File::options().write(true).open(path).unwrap().set_len(held / 2).unwrap();
        }
    }
    nothing_is_served(fleet, &queue, "the log is damaged").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flipped_bits_in_every_log_are_said_and_nothing_is_served() {
    let (mut fleet, queue, _) = filled("flipped-everywhere").await;
    (1..=3).for_each(|id| fleet.kill9(id));
    (1..=3).for_each(|id| flip_all(&fleet.data(id)));
    nothing_is_served(fleet, &queue, "the log is damaged").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_of_every_state_that_no_log_replaces_is_said_and_nothing_is_served() {
    let (mut fleet, queue, _) = with_short_logs("no-state").await;
    for id in 1..=3 {
        fleet.stop(id).await;
    }
    (1..=3).for_each(|id| damage_state(&fleet.data(id)));
    nothing_is_served(fleet, &queue, "the state is older than the log").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_of_every_state_is_mended_from_the_logs() {
    let (mut fleet, queue, sent) = filled("every-state").await;
    for id in 1..=3 {
        fleet.stop(id).await;
    }
    (1..=3).for_each(|id| damage_state(&fleet.data(id)));
    (1..=3).for_each(|id| fleet.launch(id));
    all_come(&mut fleet, 2, &queue, sent).await;
    for id in 1..=3 {
        assert!(fleet.log(id).contains("the state is damaged"), "{}", fleet.log(id));
    }
}

/// Starts nodes that have all lost something, none of which knows what was acknowledged.
async fn nothing_is_served(mut fleet: Fleet, queue: &str, says: &str) {
    (1..=3).for_each(|id| fleet.launch(id));
    let begin = Instant::now();
    for id in 1..=3 {
        for what in [says, "this replica serves nothing before"] {
            while !fleet.log(id).contains(what) {
                assert!(begin.elapsed() < PATIENCE, "nothing is said:\n{}", fleet.log(id));
                sleep(Duration::from_millis(20)).await;
            }
        }
    }
    for _ in 0..20 {
        for id in 1..=3 {
            assert!(!fleet.all_vote(id).await, "node {id} believes what it has");
        }
        sleep(Duration::from_millis(50)).await;
    }
    let send = async |id: u64| {
        let mut client = fleet.client(id);
        let sent = client.send(queue, "to nobody");
        // A node that never answers has not lied either.
        if let Ok(sent) = tokio::time::timeout(PATIENCE / 6, sent).await {
            assert!(sent.is_err(), "node {id} took a message");
        }
    };
    tokio::join!(send(1), send(2), send(3));
}
