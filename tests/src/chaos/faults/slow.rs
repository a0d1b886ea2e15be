//! Wires that bring everything, later.

use std::time::Duration;

use rand::RngExt as _;

use crate::chaos::faults::{FaultKind, Nemesis, Struck, partition};
use crate::links::Condition;

/// All of one node's wires are slow, by a different amount each time, or lose some of what passes.
pub(super) async fn strike(nemesis: &mut Nemesis<'_>, kind: FaultKind) -> Struck {
    let ids = nemesis.rotated();
    let (nodes, ways) = (&ids[..1], partition::between(&ids[..1], &ids[1..]));
    let condition = match kind {
        FaultKind::Loss => {
            Condition { loss: nemesis.dice.random_range(0.05..0.3), ..Condition::default() }
        }
        _ => {
            // From what a bad line has to what no link survives.
            let delay = [50, 200, 700, 2_500, 6_500][nemesis.dice.random_range(0..5)];
            let delay = Duration::from_millis(delay);
            Condition { delay, jitter: delay / 2, ..Condition::default() }
        }
    };
    let from_us = nemesis.book.now_us();
    nemesis.fleet.impair(&ways, condition).await;
    nemesis.works(kind, nodes, from_us).await;
    nemesis.fleet.rejoin();
    nemesis.healed(kind, nodes).await;
    Struck::Installed
}
