//! A node that is cut off and joined again every few moments.

use std::time::{Duration, Instant};

use flotilla_history::record::FaultPhase;
use rand::RngExt as _;
use tokio::time::sleep;

use crate::chaos::faults::{FaultKind, Nemesis, Struck, partition};
use crate::links::Condition;

/// Times within one fault.
const TIMES: u32 = 3;

pub(super) async fn strike(nemesis: &mut Nemesis<'_>) -> Struck {
    let ids = nemesis.rotated();
    let (nodes, ways) = (&ids[..1], partition::between(&ids[..1], &ids[1..]));
    let from_us = nemesis.book.now_us();
    for time in 0..TIMES {
        let begin = Instant::now();
        nemesis.fleet.impair(&ways, Condition::SHUT).await;
        if time == 0 {
            nemesis.book.fault(FaultKind::Flap.name(), nodes, FaultPhase::Fired, from_us);
        }
        // One to five seconds of either, as elections take about one.
        sleep(some_time(nemesis).saturating_sub(begin.elapsed())).await;
        nemesis.fleet.rejoin();
        sleep(some_time(nemesis)).await;
    }
    nemesis.hold(Duration::ZERO).await;
    nemesis.healed(FaultKind::Flap, nodes).await;
    Struck::Installed
}

fn some_time(nemesis: &mut Nemesis<'_>) -> Duration {
    Duration::from_secs_f64(nemesis.dice.random_range(1.0..5.0_f64).min(nemesis.hold.as_secs_f64()))
}
