//! The autoscaler with real workers at a real cluster, under a load that rises, bursts and falls.

#![allow(clippy::print_stderr, reason = "what a run saw is worth reading")]

use std::collections::BTreeMap;
use std::process::Command;

use flotilla_tests::{Fleet, binary};

/// What the study says of a run.
async fn live(fleet: &Fleet) -> BTreeMap<String, f64> {
    let endpoints: Vec<String> =
        fleet.ids().into_iter().map(|id| format!("http://{}", fleet.endpoint(id))).collect();
    let study = binary().with_file_name("flotilla-study");
    assert!(study.is_file(), "{} is missing: build the package flotilla-study", study.display());
    let out = tempfile::tempdir().unwrap();
    let mut command = Command::new(study);
    command
        .args(["autoscale-live", "--endpoints", &endpoints.join(",")])
        .args(["--work-ms", "50", "--peak", "60", "--rise-s", "6"])
        .args(["--acceptable-latency-s", "3"])
        .arg("--flotilla")
        .arg(binary())
        .arg("--out")
        .arg(out.path());
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    let log = String::from_utf8_lossy(&output.stderr);
    let report = String::from_utf8_lossy(&output.stdout);
    eprintln!("{log}\n{report}");
    assert!(matches!(output.status.code(), Some(0 | 3)), "{}", output.status);
    assert!(out.path().join("autoscale-live.svg").is_file());
    assert!(out.path().join("autoscale-live.png").is_file());
    report
        .lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(name, value)| (name.to_owned(), value.parse().unwrap()))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_follow_a_load_and_lose_nothing_when_they_are_ended() {
    let fleet = Fleet::start(3).await;
    let report = live(&fleet).await;
    assert!(report["sent"] > 500.0);
    assert_eq!(report["lost"], 0.0);
    // Delivery is at least once; but an end in order is no reason for once more.
    assert!(report["done-more-than-once"] <= 0.01 * report["sent"]);
    // What an ended worker drops is hidden for a minute before it comes to another.
    assert!(report["latency-max-s"] < 60.0);
    // All ended in order, and by themselves only when asked to.
    assert_eq!((report["crashes"], report["kills"]), (0.0, 0.0));
    assert!(report["most-instances"] >= 4.0);
    assert_eq!(report["last-instances"], 1.0);
    // Up with the rise, up with the burst, down: not one change after the other.
    assert!(report["turns"] <= 4.0);
    assert!(report["part-near-target"] >= 0.8);
    // And not because there were always enough.
    assert!(report["busy-part"] >= 0.15);
}
