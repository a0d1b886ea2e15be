//! The power goes in the middle of a write: a part of it is on the disk, and whoever wrote does not hear
//! of that.
//!
//! The thread that writes the log is stopped at a write (ptrace), which is made shorter; when that is done
//! the process is killed before it knows. Then its disk loses what it had not synced.

use rand::RngExt as _;

use super::Nemesis;
use super::machine::Strike;
use crate::ptrace;

/// What a disk writes as a whole.
const SECTOR_BYTES: u64 = 512;

pub(super) fn available() -> Result<(), String> {
    ptrace::available()
}

pub(super) async fn strike(nemesis: &mut Nemesis<'_>, strike: &Strike) -> Result<(), String> {
    for id in &strike.nodes {
        let process = nemesis.fleet.process(*id)?;
        let share = nemesis.dice.random_range(0.0..1.0);
        let shorter = move |bytes: u64| {
            let sectors = bytes / SECTOR_BYTES;
            // Neither nothing nor everything.
            (sectors > 1).then(|| (((sectors as f64 * share) as u64).max(1)) * SECTOR_BYTES)
        };
        let torn = tokio::task::spawn_blocking(move || ptrace::tear_a_write(process, shorter));
        let torn = torn.await.expect("a thread ends by itself");
        nemesis.fleet.disk(*id)?.cut_power()?;
        nemesis.fleet.kill9(*id);
        nemesis.fleet.disk(*id)?.unmount()?;
        torn?;
    }
    nemesis.fired(strike);
    nemesis.hold_for_long().await;
    for id in &strike.nodes {
        nemesis.fleet.disk(*id)?.mount()?;
        nemesis.fleet.launch(*id);
    }
    Ok(())
}
