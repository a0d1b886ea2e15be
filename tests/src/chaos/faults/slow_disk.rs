//! A disk that takes long, stands still, or is full.

use std::fs;
use std::time::Duration;

use rand::seq::IndexedRandom as _;
use tokio::time::sleep;

use super::evidence::{Syncs, metric_of_all, within};
use super::machine::Strike;
use super::{FaultKind, Nemesis};
use crate::tool::tool;
use crate::{PATIENCE, Throttle};

/// Writes that the disk takes in a second: a sync takes from 500 to 20 ms.
const WRITES_PER_SECOND: [u32; 4] = [2, 5, 10, 50];
const STALL: Duration = Duration::from_secs(30);
const UNDER_WAY: Duration = Duration::from_secs(1);
/// Sends that were refused because a disk is nearly full.
const REFUSED: &str = "sends_refused_low_on_space_total";

pub(super) async fn strike(nemesis: &mut Nemesis<'_>, strike: &Strike) -> Result<(), String> {
    match strike.kind {
        FaultKind::SlowDisk => slow(nemesis, strike).await,
        FaultKind::StallDisk => stall(nemesis, strike).await,
        _ => full(nemesis, strike).await,
    }
}

async fn slow(nemesis: &mut Nemesis<'_>, strike: &Strike) -> Result<(), String> {
    let writes = *WRITES_PER_SECOND.choose(&mut nemesis.dice).expect("there are some");
    let mut throttles = Vec::new();
    for id in &strike.nodes {
        throttles.push(begin(nemesis, *id, writes).await?);
    }
    nemesis.fired(strike);
    nemesis.hold_for_long().await;
    drop(throttles);
    Ok(())
}

/// A sync takes a second divided by that many writes. Half of that must be seen: some were under way.
pub(super) async fn begin(
    nemesis: &Nemesis<'_>,
    id: u64,
    writes_per_second: u32,
) -> Result<Throttle, String> {
    let fleet = &nemesis.fleet;
    let throttle = fleet.slow_disk(id, writes_per_second)?;
    let before = Syncs::of(fleet, id).await.ok_or("it does not say what syncs take")?;
    let long = Duration::from_secs(1) / writes_per_second / 2;
    let is_slow = within(PATIENCE, async || {
        let now = Syncs::of(fleet, id).await;
        now.and_then(|now| now.mean_since(before)).is_some_and(|mean| mean >= long)
    });
    match is_slow.await {
        true => Ok(throttle),
        false => Err(format!("syncs of node {id} take no {long:?}")),
    }
}

async fn stall(nemesis: &mut Nemesis<'_>, strike: &Strike) -> Result<(), String> {
    for id in &strike.nodes {
        nemesis.fleet.freeze_disk(*id)?;
    }
    // Of what was under way there may be an end.
    sleep(UNDER_WAY).await;
    let mut before = Vec::new();
    for id in &strike.nodes {
        before.push((*id, Syncs::of(nemesis.fleet, *id).await));
    }
    nemesis.fired(strike);
    sleep(STALL).await;
    nemesis.hold_for_long().await;
    for (id, before) in before {
        let now = Syncs::of(nemesis.fleet, id).await;
        nemesis.fleet.thaw_disk(id)?;
        // One that cannot even be asked stands still as well.
        if let (Some(before), Some(now)) = (before, now)
            && now.count > before.count
        {
            return Err(format!("node {id} went on writing"));
        }
    }
    Ok(())
}

/// Something else fills the disk, every other time to the last byte at once.
async fn full(nemesis: &mut Nemesis<'_>, strike: &Strike) -> Result<(), String> {
    let left_kib: u64 = *[0, 200 << 10].choose(&mut nemesis.dice).expect("there are some");
    let filler = |path: &std::path::Path| path.join("filler");
    let before = metric_of_all(nemesis.fleet, REFUSED).await;
    for id in &strike.nodes {
        let path = nemesis.fleet.disk(*id)?.path().to_owned();
        let free = tool("df", &["--output=avail", "-k", &path.to_string_lossy()])?;
        let free_kib: u64 =
            free.lines().last().and_then(|it| it.trim().parse().ok()).ok_or("df says nothing")?;
        let take_kib = free_kib.saturating_sub(left_kib);
        let size = format!("{take_kib}KiB");
        tool("fallocate", &["--length", &size, &filler(&path).to_string_lossy()])?;
    }
    let is_refused =
        within(PATIENCE, async || metric_of_all(nemesis.fleet, REFUSED).await > before).await;
    if is_refused {
        nemesis.fired(strike);
        nemesis.hold_for_long().await;
    }
    for id in &strike.nodes {
        let path = nemesis.fleet.disk(*id)?.path().to_owned();
        fs::remove_file(filler(&path)).map_err(|error| error.to_string())?;
    }
    is_refused.then_some(()).ok_or_else(|| "no send was refused".to_owned())
}
