//! Disks that fail, lie and forget under load; each fault is described in `tests/README.md`.
//!
//! For hours instead of a minute: `scripts/chaos --faults power-cut,rollback,...`.

#![allow(clippy::print_stderr, reason = "what a run saw is worth reading")]

use std::path::PathBuf;
use std::time::Duration;

use flotilla_probe::skip;
use flotilla_tests::chaos::{FaultKind, Ground, Plan, Totals, run};
use flotilla_tests::{Fleet, PATIENCE, Settings};
use rand::seq::IndexedRandom as _;
use tokio::time::{Instant, sleep};

/// Each run takes one of these beside a power cut,
const CORRUPTION: [FaultKind; 6] = [
    FaultKind::FlipLog,
    FaultKind::FlipState,
    FaultKind::Truncate,
    FaultKind::LoseFile,
    FaultKind::LoseDisk,
    FaultKind::Rollback,
];
/// and one of these.
const ROTATING: [FaultKind; 11] = [
    FaultKind::PowerCutAll,
    FaultKind::PowerCutStaggered,
    FaultKind::EioWriteOnce,
    FaultKind::EioWrite,
    FaultKind::EioSync,
    FaultKind::ReadOnly,
    FaultKind::SlowDisk,
    FaultKind::DiskFull,
    FaultKind::ClockJump,
    FaultKind::OutOfMemory,
    FaultKind::StarveCpu,
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_when_the_power_goes_or_a_disk_lies() {
    let mut dice = rand::rng();
    let mut of = |kinds: &[FaultKind]| *kinds.choose(&mut dice).expect("there are some");
    let wanted = [FaultKind::PowerCutOne, of(&CORRUPTION), of(&ROTATING)];
    let ground = Ground::Machines;
    let possible = FaultKind::possible(&wanted, 3, ground);
    for (kind, why) in possible.skipped {
        skip(kind.name(), &why);
    }
    let faults = possible.faults;
    if faults.is_empty() {
        return;
    }
    let mut fleet = Fleet::start_with(3, &FaultKind::settings(&faults, ground)).await;
    let plan = Plan {
        seed: rand::random_range(0..u64::from(u32::MAX)),
        faults,
        ground,
        times: 3,
        hold: Duration::from_millis(1_000),
        dense: 0,
        acknowledged_min: 0,
        dir: PathBuf::from(env!("CARGO_TARGET_TMPDIR")),
        again: None,
    };
    let judged = run(&mut fleet, &plan).await;
    eprintln!("{}", judged.report);
    let mut totals = Totals::default();
    totals.add(&judged.verdict);
    assert!(judged.is_good(), "{totals}; {:?} {:?}", judged.unclear, judged.left);
    eprintln!("{totals}");
    judged.forget();
}

/// Found by chaos with writes that fail: the line that says why a node must end could not be
/// written either, the thread that tried panicked over that, and the node stayed, without a log.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_words_cannot_be_written_serves_all_the_same() {
    let settings = Settings { log_to: Some(PathBuf::from("/dev/full")), ..Settings::default() };
    let mut fleet = Fleet::start_with(1, &settings).await;
    fleet.whole().await;
    let queue = fleet.client(1).create_queue("mute").await.unwrap();
    fleet.client(1).send(&queue, "a message").await.unwrap();
    fleet.stop(1).await;
}

async fn leads(fleet: &Fleet, id: u64) -> usize {
    let status = fleet.status(id).await;
    let groups = status["groups"].as_array().cloned().unwrap_or_default();
    groups.iter().filter(|group| group["leads"] == true).count()
}

/// Sends, so that there is something to sync, until a node leads something or nothing.
async fn until_leads(fleet: &Fleet, id: u64, queue: &str, wanted: bool) {
    let mut client = fleet.client(id % 3 + 1);
    let begin = Instant::now();
    while (leads(fleet, id).await > 0) != wanted {
        assert!(begin.elapsed() < PATIENCE, "node {id} leads {}", leads(fleet, id).await);
        // Whether it is taken in time is not what is looked at.
        let _ = client.send(queue, "something to sync").await;
        sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_disk_is_slow_gives_its_leaderships_away_until_it_is_quick_again() {
    if let Err(why) = FaultKind::SlowDisk.available(3, Ground::Machines) {
        return skip(FaultKind::SlowDisk.name(), &why.to_string());
    }
    let settings = Settings { loop_disks: true, ..Settings::default() };
    let mut fleet = Fleet::start_with(3, &settings).await;
    fleet.whole().await;
    let queue = fleet.client(1).create_queue("slow").await.unwrap();
    until_leads(&fleet, 3, &queue, true).await;
    let limit = fleet.slow_disk(3, 2).unwrap();
    until_leads(&fleet, 3, &queue, false).await;
    assert!(fleet.log(3).contains("much slower"), "{}", fleet.log(3));
    drop(limit);
    until_leads(&fleet, 3, &queue, true).await;
}

/// Found by chaos with disks that stand still: a leader that could not write down that another was
/// elected answered for 20 s with counts from before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_whose_disk_stands_still_does_not_count() {
    if let Err(why) = FaultKind::StallDisk.available(3, Ground::Machines) {
        return skip(FaultKind::StallDisk.name(), &why.to_string());
    }
    let settings = Settings { loop_disks: true, ..Settings::default() };
    let mut fleet = Fleet::start_with(3, &settings).await;
    fleet.whole().await;
    let queue = fleet.client(1).create_queue("counted").await.unwrap();
    until_leads(&fleet, 3, &queue, true).await;
    let before = count(&fleet, 1, &queue).await.expect("a whole cluster counts");
    fleet.freeze_disk(3).unwrap();
    let (mut sent, mut sent_since) = (0, 0);
    let (mut client, begin) = (fleet.client(1), Instant::now());
    // So many reach every shard, also what node 3 led and another leads now.
    while sent_since < 200 {
        assert!(begin.elapsed() < PATIENCE, "{sent} were sent, {sent_since} after the change");
        let is_changed = !led_by(&fleet, 1).await.contains(&3);
        let taken = u64::from(client.send(&queue, "one more").await.is_ok());
        sent += taken;
        sent_since += if is_changed { taken } else { 0 };
    }
    for id in 1..=3 {
        // One that does not know says so.
        if let Some(counted) = count(&fleet, id, &queue).await {
            assert!(counted >= before + sent, "node {id}: {counted} of {before} + {sent}");
        }
    }
    fleet.thaw_disk(3).unwrap();
}

/// Who leads the groups, as a node knows.
async fn led_by(fleet: &Fleet, id: u64) -> Vec<u64> {
    let status = fleet.status(id).await;
    let groups = status["groups"].as_array().cloned().unwrap_or_default();
    groups.iter().filter_map(|group| group["leader"].as_u64()).collect()
}

async fn count(fleet: &Fleet, id: u64, queue: &str) -> Option<u64> {
    let name = "ApproximateNumberOfMessages";
    let input = serde_json::json!({ "QueueUrl": queue, "AttributeNames": [name] });
    let answer = fleet.client(id).call("GetQueueAttributes", &input).await.ok()?;
    answer["Attributes"][name].as_str()?.parse().ok()
}
