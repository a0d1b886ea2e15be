//! Nothing that the log acknowledged is lost when its process is killed.
//!
//! `FLOTILLA_LOG_CRASH_ROUNDS` says how often to kill (default 20).

use std::time::Duration;

use log_load::{Record, rounds, start};
use rand::RngExt;

mod log_load;

#[test]
fn child_process() {
    log_load::child();
}

#[test]
fn a_killed_process_loses_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut record = Record::default();
    for round in 1..=rounds("FLOTILLA_LOG_CRASH_ROUNDS", 20) {
        let running = start("child_process", dir.path(), round);
        // How long it runs decides nothing but where the kill hits.
        std::thread::sleep(Duration::from_millis(rand::rng().random_range(0..150)));
        record.note(&running.kill());
        record.check(dir.path());
    }
    assert!(record.acknowledged > 0);
}
