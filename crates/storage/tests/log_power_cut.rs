//! Nothing that the log acknowledged is lost when the power goes.
//!
//! Skipped where there is no disk whose power can be cut. `FLOTILLA_POWER_CUT_ROUNDS` says how often to cut
//! (default 6).
#![allow(clippy::print_stderr)]

use std::time::Duration;

use flotilla_probe::skip;
use log_load::{Record, rounds, start};
use loop_disk::Disk;
use rand::RngExt;

mod log_load;
mod loop_disk;

#[test]
fn child_process() {
    log_load::child();
}

#[test]
fn a_power_cut_loses_nothing() {
    let mut disk = match Disk::make() {
        Ok(disk) => disk,
        Err(why) => return skip("power cuts of a log", &why),
    };
    let dir = disk.mount_point.join("log");
    let mut record = Record::default();
    for round in 1..=rounds("FLOTILLA_POWER_CUT_ROUNDS", 6) {
        let running = start("child_process", &dir, round);
        // How long it runs decides nothing but where the cut hits.
        std::thread::sleep(Duration::from_millis(rand::rng().random_range(0..400)));
        let cut = disk.cut_power();
        record.note(&running.kill());
        if let Err(why) = cut {
            return skip("power cuts of a log", &why);
        }
        disk.unmount().expect("unmounts");
        disk.mount().expect("mounts again");
        record.check(&dir);
    }
    assert!(record.acknowledged > 0);
    eprintln!("{} acknowledged operations, none lost", record.acknowledged);
}
