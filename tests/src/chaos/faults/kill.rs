//! SIGKILL: whatever is not on disk is lost.

use crate::chaos::faults::{FaultKind, Nemesis, Struck};

/// Of so many nodes at once.
pub(super) async fn strike(nemesis: &mut Nemesis<'_>, kind: FaultKind, count: usize) -> Struck {
    let nodes = nemesis.choose(count);
    let from_us = nemesis.book.now_us();
    // Each process is gone when this returns.
    nodes.iter().for_each(|id| nemesis.fleet.kill9(*id));
    nemesis.works(kind, &nodes, from_us).await;
    nodes.iter().for_each(|id| nemesis.fleet.launch(*id));
    nemesis.healed(kind, &nodes).await;
    Struck::Installed
}
