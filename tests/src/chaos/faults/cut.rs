//! Connections between nodes that end at once, for both sides or for one.

use std::time::Duration;

use flotilla_history::record::FaultPhase;
use tokio::time::sleep;

use crate::chaos::faults::{FaultKind, Nemesis, Struck, partition};
use crate::links::Break;

/// Again and again within one fault, since a new connection is soon made.
const TIMES: u32 = 4;

/// All connections of one node, either way.
pub(super) async fn strike(nemesis: &mut Nemesis<'_>, kind: FaultKind, how: Break) -> Struck {
    let ids = nemesis.rotated();
    let (nodes, ways) = (&ids[..1], partition::between(&ids[..1], &ids[1..]));
    let from_us = nemesis.book.now_us();
    for time in 0..TIMES {
        nemesis.fleet.cut(&ways, how).await;
        if time == 0 {
            nemesis.book.fault(kind.name(), nodes, FaultPhase::Fired, from_us);
        }
        sleep(nemesis.hold / TIMES).await;
    }
    nemesis.hold(Duration::ZERO).await;
    nemesis.fleet.rejoin();
    nemesis.healed(kind, nodes).await;
    Struck::Installed
}
