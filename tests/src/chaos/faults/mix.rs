//! Two or three faults at the same time, each of another node: what each alone cannot do to a majority.
//!
//! One mixture after the other, for about a minute each, the last quarter of which is calm.

use std::time::Duration;

use flotilla_history::record::FaultPhase;
use rand::RngExt as _;
use tokio::time::sleep;

use super::evidence::within;
use super::machine::{INDETERMINATE, bring_back};
use super::{FaultKind, Nemesis, Struck, clocks, partition, slow_disk};
use crate::{PATIENCE, Throttle};

/// So many times as long as other faults: 45 s and 15 s for those of 3 s.
const HOLDS: u32 = 15;
const CALM_HOLDS: u32 = 5;
/// What is seen to be there again and again would be noticed by nobody in between.
const PARTS_APART: Duration = Duration::from_millis(700);
const WRITES_PER_SECOND: u32 = 5;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Cut,
    Kill,
    Pause,
    PowerCut,
    WrongClock,
    Restart,
    SlowDisk,
}

use Part as P;

const MIXTURES: [&[Part]; 7] = [
    &[P::Cut, P::Kill],
    &[P::Pause, P::Kill],
    &[P::PowerCut, P::Pause],
    &[P::WrongClock, P::Restart],
    &[P::SlowDisk, P::Cut],
    &[P::WrongClock, P::PowerCut, P::Cut],
    &[P::SlowDisk, P::Pause, P::Kill],
];

/// In so many times each mixture comes once.
pub(super) const ROUND: u64 = MIXTURES.len() as u64;

/// A fault that is there.
struct There {
    part: Part,
    node: u64,
    /// Ends with this.
    throttle: Option<Throttle>,
}

/// What was seen of a mixture; all of it ends, whatever becomes of some.
pub(super) async fn strike(nemesis: &mut Nemesis<'_>) -> Struck {
    let mixture = MIXTURES[nemesis.mixtures % MIXTURES.len()];
    nemesis.mixtures += 1;
    let mut nodes = nemesis.rotated();
    nodes.truncate(mixture.len());
    let from_us = nemesis.book.now_us();
    let (mut there, mut failed) = (Vec::new(), None);
    for (part, node) in mixture.iter().zip(&nodes) {
        match begin(nemesis, *part, *node).await {
            Ok(one) => there.push(one),
            Err(why) => failed = Some(format!("{part:?} of node {node}: {why}")),
        }
        sleep(nemesis.dice.random_range(Duration::ZERO..PARTS_APART)).await;
    }
    let name = if failed.is_none() { FaultKind::Mix.name() } else { INDETERMINATE };
    nemesis.book.fault(name, &nodes, FaultPhase::Fired, from_us);
    nemesis.hold(nemesis.hold * HOLDS).await;
    // Not in the order in which they came.
    while !there.is_empty() {
        let place = nemesis.dice.random_range(0..there.len());
        let one = there.swap_remove(place);
        let what = format!("{:?} of node {}", one.part, one.node);
        if let Err(why) = end(nemesis, one).await {
            failed = Some(format!("{what}: {why}"));
        }
        sleep(nemesis.dice.random_range(Duration::ZERO..PARTS_APART)).await;
    }
    nemesis.fleet.rejoin();
    nodes.iter().for_each(|id| bring_back(nemesis.fleet, *id));
    nemesis.well_again(name, &nodes).await;
    nemesis.fleet.whole().await;
    nemesis.hold(nemesis.hold * CALM_HOLDS).await;
    match failed {
        None => Struck::Installed,
        Some(why) => Struck::Indeterminate(why),
    }
}

/// Makes a fault; returns when it was seen.
async fn begin(nemesis: &mut Nemesis<'_>, part: Part, node: u64) -> Result<There, String> {
    let mut throttle = None;
    match part {
        Part::Cut => {
            let others: Vec<u64> =
                nemesis.fleet.ids().into_iter().filter(|id| *id != node).collect();
            let ways = partition::between(&[node], &others);
            nemesis.fleet.shut(&ways);
            // Of those that run somebody speaks; nobody else is heard anyway.
            let is_felt = within(PATIENCE, async || nemesis.fleet.is_any_felt(&ways)).await;
            is_felt.then_some(()).ok_or("nothing was held")?;
        }
        Part::Kill => nemesis.fleet.kill9(node),
        Part::Pause => {
            nemesis.fleet.pause(node);
            let is_still = within(PATIENCE, async || nemesis.fleet.is_paused(node)).await;
            is_still.then_some(()).ok_or("it does not stand still")?;
        }
        Part::PowerCut => {
            nemesis.fleet.disk(node)?.cut_power()?;
            nemesis.fleet.kill9(node);
            nemesis.fleet.disk(node)?.unmount()?;
        }
        Part::WrongClock => {
            let seconds = if nemesis.dice.random_range(0..2) == 0 { 60 } else { -60 };
            clocks::set(nemesis, node, seconds).await?;
        }
        Part::Restart => {
            nemesis.fleet.stop(node).await;
            nemesis.fleet.launch(node);
        }
        Part::SlowDisk => {
            throttle = Some(slow_disk::begin(nemesis, node, WRITES_PER_SECOND).await?);
        }
    }
    Ok(There { part, node, throttle })
}

async fn end(nemesis: &mut Nemesis<'_>, there: There) -> Result<(), String> {
    let There { part, node, throttle } = there;
    drop(throttle);
    match part {
        Part::Cut => nemesis.fleet.rejoin(),
        Part::Kill => nemesis.fleet.launch(node),
        Part::Pause => nemesis.fleet.resume(node),
        Part::PowerCut => {
            nemesis.fleet.disk(node)?.mount()?;
            nemesis.fleet.launch(node);
        }
        Part::WrongClock => nemesis.fleet.set_clock(node, clocks::RIGHT),
        Part::Restart | Part::SlowDisk => {}
    }
    Ok(())
}
