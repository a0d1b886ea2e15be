//! Links between hosts, cut and mended.

use crate::cluster::{CLIENTS, SimCluster};
use crate::fault::FaultKind;
use crate::node::host;

fn others(cluster: &SimCluster<'_>, id: u64) -> Vec<String> {
    let nodes = cluster.ids().into_iter().filter(|it| *it != id).map(host);
    nodes.chain([CLIENTS.to_owned()]).collect()
}

pub(super) fn cut_off(cluster: &SimCluster<'_>, kind: FaultKind, id: u64) {
    for other in others(cluster, id) {
        match kind {
            FaultKind::Pause => cluster.sim.hold(host(id), other),
            FaultKind::Isolate => cluster.sim.partition(host(id), other),
            _ => cluster.sim.partition_oneway(host(id), other),
        }
    }
}

pub(super) fn rejoin(cluster: &SimCluster<'_>, kind: FaultKind, id: u64) {
    for other in others(cluster, id) {
        match kind {
            FaultKind::Pause => cluster.sim.release(host(id), other),
            FaultKind::Isolate => cluster.sim.repair(host(id), other),
            _ => cluster.sim.repair_oneway(host(id), other),
        }
    }
}

/// Cuts or mends all links between nodes that are no neighbours; of three nodes, one link.
pub(super) fn ring(cluster: &SimCluster<'_>, cut: bool) {
    let ids = cluster.ids();
    let count = ids.len();
    for (place, id) in ids.iter().enumerate() {
        for (other_place, other) in ids.iter().enumerate().skip(place + 1) {
            let apart = other_place - place;
            let neighbours = if count == 3 { apart == 1 } else { apart == 1 || apart == count - 1 };
            match (neighbours, cut) {
                (true, _) => {}
                (false, true) => cluster.sim.partition(host(*id), host(*other)),
                (false, false) => cluster.sim.repair(host(*id), host(*other)),
            }
        }
    }
}

pub(super) fn repair_all(cluster: &SimCluster<'_>) {
    for id in cluster.ids() {
        for other in others(cluster, id) {
            cluster.sim.repair(host(id), other);
        }
    }
}
