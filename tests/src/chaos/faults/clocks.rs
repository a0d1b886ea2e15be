//! Clocks that are wrong. What is faked is the time of day; the timers of a machine go on, but for those
//! of one fault.

use std::time::{Duration, Instant};

use rand::RngExt as _;
use rand::seq::IndexedRandom as _;

use super::evidence::{ahead_ms, leads, within};
use super::machine::Strike;
use super::{FaultKind, Nemesis};
use crate::PATIENCE;

const JUMPS_SECONDS: [i64; 8] = [-3_600, -60, -10, -1, 1, 10, 60, 3_600];
/// A clock that is asked over a connection is known to within this.
const ASKED_MS: i64 = 300;
/// What a drift must have come to.
const DRIFTED_MS: i64 = 100;
/// Of strobes that were seen, there and back.
const STROBES_MIN: u32 = 2;
/// Without its rate the library would go on with the last one.
pub(super) const RIGHT: &str = "+0 x1";

pub(super) async fn strike(nemesis: &mut Nemesis<'_>, strike: &Strike) -> Result<(), String> {
    match strike.kind {
        FaultKind::ClockJump => jump(nemesis, strike).await,
        FaultKind::ClockStrobe => strobe(nemesis, strike).await,
        FaultKind::ClockDrift => drift(nemesis, strike).await,
        FaultKind::ClockAtStart => at_start(nemesis, strike).await,
        _ => timers(nemesis, strike).await,
    }
}

fn some_jump(nemesis: &mut Nemesis<'_>) -> i64 {
    *JUMPS_SECONDS.choose(&mut nemesis.dice).expect("there are some")
}

fn some_rate(nemesis: &mut Nemesis<'_>) -> &'static str {
    if nemesis.dice.random_range(0..2) == 0 { "+0 x1.05" } else { "+0 x0.95" }
}

/// Sets a clock of a running node; whether the node is seen to have another time then.
pub(super) async fn set(nemesis: &Nemesis<'_>, id: u64, seconds: i64) -> Result<(), String> {
    nemesis.fleet.set_clock(id, &format!("{seconds:+} x1"));
    until_ahead(nemesis, id, seconds).await
}

async fn until_ahead(nemesis: &Nemesis<'_>, id: u64, seconds: i64) -> Result<(), String> {
    let is_there = within(PATIENCE, async || {
        let ahead = ahead_ms(nemesis.fleet, id).await;
        ahead.is_some_and(|ahead| (ahead - 1_000 * seconds).abs() <= ASKED_MS)
    });
    match is_there.await {
        true => Ok(()),
        false => Err(format!("the clock of node {id} is not {seconds} s ahead")),
    }
}

/// Whether a clock goes as it was told to.
async fn until_drifted(nemesis: &Nemesis<'_>, id: u64, ahead: bool) -> Result<(), String> {
    let is_there = within(PATIENCE, async || {
        let by = ahead_ms(nemesis.fleet, id).await.unwrap_or(0);
        if ahead { by >= DRIFTED_MS } else { by <= -DRIFTED_MS }
    });
    match is_there.await {
        true => Ok(()),
        false => Err(format!("the clock of node {id} does not drift")),
    }
}

async fn jump(nemesis: &mut Nemesis<'_>, strike: &Strike) -> Result<(), String> {
    let seconds = some_jump(nemesis);
    for id in &strike.nodes {
        set(nemesis, *id, seconds).await?;
    }
    nemesis.fired(strike);
    nemesis.hold_for_long().await;
    right(nemesis, strike).await
}

async fn right(nemesis: &Nemesis<'_>, strike: &Strike) -> Result<(), String> {
    for id in &strike.nodes {
        set(nemesis, *id, 0).await?;
    }
    Ok(())
}

async fn strobe(nemesis: &mut Nemesis<'_>, strike: &Strike) -> Result<(), String> {
    let (begin, mut times) = (Instant::now(), 0);
    while times < STROBES_MIN || begin.elapsed() < 2 * nemesis.hold {
        let seconds = some_jump(nemesis);
        for id in &strike.nodes {
            set(nemesis, *id, seconds).await?;
        }
        if times == 0 {
            nemesis.fired(strike);
        }
        right(nemesis, strike).await?;
        times += 1;
    }
    nemesis.hold(Duration::ZERO).await;
    Ok(())
}

async fn drift(nemesis: &mut Nemesis<'_>, strike: &Strike) -> Result<(), String> {
    let rate = some_rate(nemesis);
    for id in &strike.nodes {
        nemesis.fleet.set_clock(*id, rate);
        until_drifted(nemesis, *id, rate.ends_with("x1.05")).await?;
    }
    nemesis.fired(strike);
    nemesis.hold_for_long().await;
    right(nemesis, strike).await
}

/// It was down while its clock was set. It must lead something before that says anything.
async fn at_start(nemesis: &mut Nemesis<'_>, strike: &Strike) -> Result<(), String> {
    let seconds = some_jump(nemesis);
    for id in &strike.nodes {
        if nemesis.dice.random_range(0..2) == 0 {
            nemesis.fleet.kill9(*id);
        } else {
            nemesis.fleet.stop(*id).await;
        }
        nemesis.fleet.set_clock(*id, &format!("{seconds:+} x1"));
        nemesis.fleet.launch(*id);
        until_ahead(nemesis, *id, seconds).await?;
    }
    nemesis.fired(strike);
    for id in &strike.nodes {
        if !within(PATIENCE, async || leads(nemesis.fleet, *id).await > 0).await {
            return Err(format!("node {id} leads nothing"));
        }
    }
    nemesis.hold_for_long().await;
    right(nemesis, strike).await
}

/// Also what its timers go by: its leases are as wrong as its clock is fast.
async fn timers(nemesis: &mut Nemesis<'_>, strike: &Strike) -> Result<(), String> {
    let rate = some_rate(nemesis);
    for id in &strike.nodes {
        restart(nemesis, *id, true, rate).await;
        until_drifted(nemesis, *id, rate.ends_with("x1.05")).await?;
    }
    nemesis.fired(strike);
    nemesis.hold_for_long().await;
    for id in &strike.nodes {
        restart(nemesis, *id, false, RIGHT).await;
    }
    Ok(())
}

async fn restart(nemesis: &mut Nemesis<'_>, id: u64, own_timers: bool, clock: &str) {
    nemesis.fleet.stop(id).await;
    nemesis.fleet.set_own_timers(id, own_timers);
    nemesis.fleet.set_clock(id, clock);
    nemesis.fleet.launch(id);
    nemesis.fleet.whole().await;
}
