//! The power goes: what was not on the disk is not there when the node comes back.

use std::time::Duration;

use rand::RngExt as _;
use tokio::time::sleep;

use super::machine::Strike;
use super::{FaultKind, Nemesis};

/// Between the first disk that stops and the end of its process: it may see that writes fail, and must
/// not tell anybody something else.
const AGONY_MS_MAX: u64 = 20;
/// Between two nodes of a staggered cut.
const STAGGER_MS_MAX: u64 = 1_000;

pub(super) async fn strike(nemesis: &mut Nemesis<'_>, strike: &Strike) -> Result<(), String> {
    let mut pauses_ms: Vec<u64> = Vec::new();
    for _ in &strike.nodes {
        let staggered = strike.kind == FaultKind::PowerCutStaggered;
        let pause_ms = nemesis.dice.random_range(0..STAGGER_MS_MAX);
        pauses_ms.push(if staggered { pause_ms } else { 0 });
    }
    // All disks first: what one node says while it dies must not reach a disk that still works.
    for (id, pause_ms) in strike.nodes.iter().zip(&pauses_ms) {
        sleep(Duration::from_millis(*pause_ms)).await;
        nemesis.fleet.disk(*id)?.cut_power()?;
    }
    sleep(Duration::from_millis(nemesis.dice.random_range(0..AGONY_MS_MAX))).await;
    for id in &strike.nodes {
        nemesis.fleet.kill9(*id);
        nemesis.fleet.disk(*id)?.unmount()?;
    }
    nemesis.fired(strike);
    nemesis.hold_for_long().await;
    for (id, pause_ms) in strike.nodes.iter().zip(pauses_ms) {
        sleep(Duration::from_millis(pause_ms)).await;
        nemesis.fleet.disk(*id)?.mount()?;
        nemesis.fleet.launch(*id);
    }
    Ok(())
}
