//! Every kind of client on every kind of queue while nodes are killed, stopped and paused, and while the
//! network between them fails.
//!
//! How to read and replay what a bad verdict prints: `flotilla_tests::chaos`. For hours instead of a
//! minute: `scripts/chaos`.

#![allow(clippy::print_stderr, reason = "what a run saw is worth reading")]

use std::path::PathBuf;
use std::time::Duration;

use flotilla_tests::Fleet;
use flotilla_tests::chaos::{FaultKind, Plan, Totals, run};
use rand::seq::IndexedRandom as _;

/// Of the network, and of clients; each run takes some of them.
const ROTATING: [FaultKind; 11] = [
    FaultKind::Partition,
    FaultKind::OneWay,
    FaultKind::Bridge,
    FaultKind::Halves,
    FaultKind::Ring,
    FaultKind::Flap,
    FaultKind::Delay,
    FaultKind::Loss,
    FaultKind::Reset,
    FaultKind::HalfOpen,
    FaultKind::RudeClients,
];
const TAKEN: usize = 3;

async fn survive(nodes: u64, faults: Vec<FaultKind>) {
    let mut fleet = Fleet::start_with(nodes, &FaultKind::settings(&faults)).await;
    let plan = Plan {
        seed: rand::random_range(0..u64::from(u32::MAX)),
        faults,
        times: 3,
        hold: Duration::from_millis(1_500),
        dir: PathBuf::from(env!("CARGO_TARGET_TMPDIR")),
    };
    let judged = run(&mut fleet, &plan).await;
    eprintln!("{}", judged.report);
    let mut totals = Totals::default();
    totals.add(&judged.verdict);
    assert!(judged.is_good(), "{totals}; {:?}", judged.unclear);
    eprintln!("{totals}");
    judged.forget();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_doubled_or_disordered_while_nodes_are_killed_and_paused() {
    use FaultKind as K;
    survive(3, vec![K::KillOne, K::Pause, K::KillMajority, K::KillAll]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_doubled_or_disordered_while_the_network_of_five_nodes_fails() {
    let faults = ROTATING.sample(&mut rand::rng(), TAKEN).copied().collect();
    survive(5, faults).await;
}

/// Where that is allowed: it takes root.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_doubled_or_disordered_while_packets_are_lost() {
    let kinds = [FaultKind::Drop, FaultKind::DropOneWay, FaultKind::PacketLoss];
    let (faults, skipped) = FaultKind::possible(&kinds, 3);
    for (kind, why) in skipped {
        eprintln!("skipped: {kind}: {why}");
    }
    if !faults.is_empty() {
        survive(3, faults).await;
    }
}
