//! Every kind of client on every kind of queue while nodes are killed, stopped and paused, and while the
//! network between them fails.
//!
//! How to read and replay what a bad verdict prints: `flotilla_tests::chaos`. For hours instead of a
//! minute: `scripts/chaos`.

#![allow(clippy::print_stderr, reason = "what a run saw is worth reading")]

use std::path::PathBuf;
use std::time::Duration;

use flotilla_probe::skip;
use flotilla_tests::Fleet;
use flotilla_tests::chaos::{FaultKind, Ground, Plan, Totals, run};
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

async fn survive(nodes: u64, ground: Ground, faults: Vec<FaultKind>) {
    let mut fleet = Fleet::start_with(nodes, &FaultKind::settings(&faults, ground)).await;
    let plan = Plan {
        seed: rand::random_range(0..u64::from(u32::MAX)),
        faults,
        ground,
        times: 3,
        hold: Duration::from_millis(1_500),
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_doubled_or_disordered_while_nodes_are_killed_and_paused() {
    use FaultKind as K;
    survive(3, Ground::Loopback, vec![K::KillOne, K::Pause, K::KillMajority, K::KillAll]).await;
}

/// Wires of five nodes, or packets of three where that is allowed (it takes root): each run takes one of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_doubled_or_disordered_while_the_network_fails() {
    let kinds = [FaultKind::Drop, FaultKind::DropOneWay, FaultKind::PacketLoss];
    let packets = FaultKind::possible(&kinds, 3, Ground::Namespaces);
    for (kind, why) in packets.skipped {
        skip(kind.name(), &why);
    }
    if !packets.faults.is_empty() && rand::random() {
        return survive(3, Ground::Namespaces, packets.faults).await;
    }
    let wires = ROTATING.sample(&mut rand::rng(), TAKEN).copied().collect();
    survive(5, Ground::Loopback, wires).await;
}
