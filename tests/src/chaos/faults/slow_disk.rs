//! A disk that takes long, stands still, or is full.

use std::fs;
use std::time::Duration;

use rand::seq::IndexedRandom as _;
use tokio::time::sleep;

use super::machine::Strike;
use super::{FaultKind, Nemesis};
use crate::loop_disk::tool;

/// Writes that the disk takes in a second: a sync takes from 500 to 20 ms.
const WRITES_PER_SECOND: [u32; 4] = [2, 5, 10, 50];
const STALL: Duration = Duration::from_secs(30);

pub(super) async fn strike(nemesis: &mut Nemesis<'_>, strike: &Strike) -> Result<(), String> {
    match strike.kind {
        FaultKind::SlowDisk => slow(nemesis, strike).await,
        FaultKind::StallDisk => stall(nemesis, strike).await,
        _ => full(nemesis, strike).await,
    }
}

async fn slow(nemesis: &mut Nemesis<'_>, strike: &Strike) -> Result<(), String> {
    let writes = WRITES_PER_SECOND.choose(&mut nemesis.dice).expect("there are some");
    let mut throttles = Vec::new();
    for id in &strike.nodes {
        throttles.push(nemesis.fleet.slow_disk(*id, *writes)?);
    }
    nemesis.fired(strike);
    nemesis.hold_for_long().await;
    drop(throttles);
    Ok(())
}

async fn stall(nemesis: &mut Nemesis<'_>, strike: &Strike) -> Result<(), String> {
    for id in &strike.nodes {
        nemesis.fleet.freeze_disk(*id)?;
    }
    nemesis.fired(strike);
    sleep(STALL).await;
    nemesis.hold_for_long().await;
    for id in &strike.nodes {
        nemesis.fleet.thaw_disk(*id)?;
    }
    Ok(())
}

/// Something else fills the disk, every other time to the last byte at once.
async fn full(nemesis: &mut Nemesis<'_>, strike: &Strike) -> Result<(), String> {
    let left_kib: u64 = *[0, 200 << 10].choose(&mut nemesis.dice).expect("there are some");
    let filler = |path: &std::path::Path| path.join("filler");
    for id in &strike.nodes {
        let path = nemesis.fleet.disk(*id)?.path().to_owned();
        let free = tool("df", &["--output=avail", "-k", &path.to_string_lossy()])?;
        let free_kib: u64 =
            free.lines().last().and_then(|it| it.trim().parse().ok()).ok_or("df says nothing")?;
        let take_kib = free_kib.saturating_sub(left_kib);
        let size = format!("{take_kib}KiB");
        tool("fallocate", &["--length", &size, &filler(&path).to_string_lossy()])?;
    }
    nemesis.fired(strike);
    nemesis.hold_for_long().await;
    for id in &strike.nodes {
        let path = nemesis.fleet.disk(*id)?.path().to_owned();
        fs::remove_file(filler(&path)).map_err(|error| error.to_string())?;
    }
    Ok(())
}
