//! SIGSTOP of one node, and SIGCONT.

use std::time::Instant;

use tokio::time::sleep;

use crate::PATIENCE;
use crate::chaos::faults::{FaultKind, LOOK_AGAIN, Nemesis, Struck};

pub(super) async fn strike(nemesis: &mut Nemesis<'_>) -> Struck {
    let nodes = nemesis.choose(1);
    let (begin, from_us) = (Instant::now(), nemesis.book.now_us());
    nemesis.fleet.pause(nodes[0]);
    while !nemesis.fleet.is_paused(nodes[0]) {
        assert!(begin.elapsed() < PATIENCE, "node {} does not stand still", nodes[0]);
        sleep(LOOK_AGAIN).await;
    }
    nemesis.works(FaultKind::Pause, &nodes, from_us).await;
    nemesis.fleet.resume(nodes[0]);
    nemesis.healed(FaultKind::Pause, &nodes).await;
    Struck::Installed
}
