//! The log on a modelled disk and the log on a real one give the same with the same operations and power
//! cuts: real ones, of a file system that loses all that was not synced, also in the middle of a write.
//!
//! Needs root, a free loop device and mkfs.ext4, and is skipped where these are missing.

#![allow(clippy::print_stderr, reason = "how much was tested is said to whoever runs it")]

#[allow(dead_code, unreachable_pub, reason = "it is a part of a library there")]
#[path = "../../../src/loop_disk.rs"]
mod loop_disk;

use std::time::{Duration, Instant};

use flotilla_probe::skip;
use proptest::strategy::{Strategy as _, ValueTree as _};
use proptest::test_runner::TestRunner;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use self::loop_disk::LoopDisk;
use super::tests::{Log, Step, WRITER, end_without_newest, new_disk, step};
use super::{Cut, SimDisk};

const CUTS: usize = 16;
/// A power cut comes so soon after a write was asked for: before it, in it or after it.
const SOON_US: u64 = 400;

/// Both logs as they are found after the power was cut.
fn found(
    real: Log,
    modelled: Log,
    real_disk: &mut LoopDisk,
    disk: &SimDisk,
    keep: u32,
) -> [Log; 2] {
    let counter = modelled.counter;
    drop(real);
    real_disk.restore().expect("nobody uses it any more");
    disk.switch_off();
    WRITER.set(None);
    drop(modelled);
    disk.restart(Cut::Power { keep });
    let mut both = [Log::real(&real_disk.path().join("log")), Log::modelled(disk)];
    both.iter_mut().for_each(|log| log.counter = counter);
    both
}

/// The newest entry of the first group, which nobody was told of, is there or not.
fn without_newest(log: &Log) {
    use flotilla_types::ids::GroupId;
    log.engine.group(GroupId(0)).truncate_from(end_without_newest(log));
}

#[test]
fn the_modelled_disk_loses_what_a_power_cut_loses() {
    let mut real_disk = match LoopDisk::make() {
        Ok(disk) => disk,
        Err(why) => return skip("power cuts of the modelled disk", &why),
    };
    let disk = new_disk();
    let mut runner = TestRunner::deterministic();
    let mut dice = StdRng::seed_from_u64(1);
    let (mut real, mut modelled) = (Log::real(&real_disk.path().join("log")), Log::modelled(&disk));
    let (mut cuts, mut torn) = (0, 0);
    while cuts < CUTS {
        let step = step().new_tree(&mut runner).unwrap().current();
        let (Step::Crash { keep } | Step::Tear { keep, .. }) = step else {
            real.ask(&step);
            modelled.ask(&step);
            assert!(real.settle() && modelled.settle());
            assert_eq!(real.look(), modelled.look(), "after {cuts} cuts");
            continue;
        };
        assert!(real.settle_all() && modelled.settle_all());
        let before = modelled.look();
        let mut was_told = false;
        if let Step::Tear { bytes, .. } = step {
            let append = Step::Append { group: 0, count: 1, bytes };
            disk.cut_at_next_write();
            modelled.ask(&append);
            assert!(!modelled.settle(), "the power was cut");
            real.ask(&append);
            let soon = Duration::from_micros(dice.random_range(0..SOON_US));
            let began = Instant::now();
            while began.elapsed() < soon {
                std::hint::spin_loop();
            }
            torn += 1;
        }
        if let Err(why) = real_disk.cut_power() {
            return skip("power cuts of the modelled disk", &why);
        }
        if matches!(step, Step::Tear { .. }) {
            was_told = real.settle();
        }
        cuts += 1;
        [real, modelled] = found(real, modelled, &mut real_disk, &disk, keep);
        if was_told {
            assert_ne!(real.look(), before, "an entry is gone that was acknowledged");
        }
        if let Step::Tear { .. } = step {
            without_newest(&real);
            without_newest(&modelled);
        }
        assert_eq!(real.look(), before, "after {cuts} cuts, on the real disk");
        assert_eq!(modelled.look(), before, "after {cuts} cuts, on the modelled disk");
    }
    WRITER.set(None);
    eprintln!("{cuts} power cuts, {torn} of them in a write");
    assert!(torn > 0);
}
