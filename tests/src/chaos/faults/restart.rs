//! SIGTERM of each node, one after the other, each started again before the next.

use std::time::Duration;

use flotilla_history::record::FaultPhase;

use crate::chaos::faults::{FaultKind, Nemesis, Struck};

pub(super) async fn strike(nemesis: &mut Nemesis<'_>) -> Struck {
    let nodes = nemesis.choose(nemesis.fleet.ids().len());
    let from_us = nemesis.book.now_us();
    for (number, id) in nodes.iter().enumerate() {
        nemesis.fleet.stop(*id).await;
        if number == 0 {
            let name = FaultKind::Restart.name();
            nemesis.book.fault(name, &nodes, FaultPhase::Fired, from_us);
        }
        nemesis.fleet.launch(*id);
        nemesis.fleet.whole().await;
    }
    nemesis.hold(Duration::ZERO).await;
    nemesis.healed(FaultKind::Restart, &nodes).await;
    Struck::Installed
}
