//! Every kind of client on every kind of queue while nodes are killed, stopped and paused.
//!
//! How to read and replay what a bad verdict prints: `flotilla_tests::chaos`. For hours instead of a
//! minute: `scripts/chaos`.

#![allow(clippy::print_stderr, reason = "what a run saw is worth reading")]

use std::path::PathBuf;
use std::time::Duration;

use flotilla_tests::Fleet;
use flotilla_tests::chaos::{FaultKind, Plan, Totals, run};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_doubled_or_disordered_while_nodes_are_killed_and_paused() {
    let mut fleet = Fleet::start(3).await;
    let plan = Plan {
        seed: rand::random_range(0..u64::from(u32::MAX)),
        faults: vec![
            FaultKind::KillOne,
            FaultKind::Pause,
            FaultKind::KillMajority,
            FaultKind::KillAll,
        ],
        times: 3,
        hold: Duration::from_millis(1_500),
        dir: PathBuf::from(env!("CARGO_TARGET_TMPDIR")),
    };
    let judged = run(&mut fleet, &plan).await;
    eprintln!("{}", judged.report);
    let mut totals = Totals::default();
    totals.add(&judged.verdict);
    assert!(judged.is_good(), "{totals}");
    eprintln!("{totals}");
    judged.forget();
}
