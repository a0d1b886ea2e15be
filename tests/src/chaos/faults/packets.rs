//! Packets between nodes that the kernel drops.

use rand::RngExt as _;

use crate::chaos::faults::{FaultKind, Nemesis, Struck, partition};

/// All or some of those of one node.
pub(super) async fn strike(nemesis: &mut Nemesis<'_>, kind: FaultKind) -> Struck {
    let ids = nemesis.rotated();
    let (nodes, others) = ids.split_at(1);
    let (ways, share) = match kind {
        FaultKind::DropOneWay => (partition::outward(nodes, others), 1.0),
        FaultKind::PacketLoss => {
            (partition::between(nodes, others), nemesis.dice.random_range(0.01..0.3))
        }
        _ => (partition::between(nodes, others), 1.0),
    };
    let from_us = nemesis.book.now_us();
    nemesis.fleet.lose_packets(&ways, share).await;
    nemesis.works(kind, nodes, from_us).await;
    nemesis.fleet.lose_none();
    nemesis.healed(kind, nodes).await;
    Struck::Installed
}
