//! Faults of what a machine, or a container, gives a node: its disk, its clock, its network, and how much
//! there is of everything.
//!
//! Each is made by tools of the system, which can fail, and works on a node that may end over it: what
//! was not seen to be there is [`Struck::Indeterminate`].

use flotilla_history::record::FaultPhase;

use super::{
    FaultKind, Nemesis, Struck, away, clocks, damage, disconnect, power, resources, slow_disk,
    syscalls, torn,
};
use crate::Fleet;

/// What a fault is called that was asked for and not seen to be there.
pub(super) const INDETERMINATE: &str = "indeterminate";

/// A fault that is being made.
pub(super) struct Strike {
    pub(super) kind: FaultKind,
    pub(super) nodes: Vec<u64>,
    from_us: u64,
}

pub(super) async fn strike(nemesis: &mut Nemesis<'_>, kind: FaultKind) -> Struck {
    use FaultKind as K;
    let count = victims(kind, nemesis.fleet.ids().len());
    let nodes = nemesis.choose(count);
    let from_us = nemesis.book.now_us();
    let strike = Strike { kind, nodes: nodes.clone(), from_us };
    nemesis.has_fired = false;
    let struck = match kind {
        K::PowerCutOne | K::PowerCutMinority | K::PowerCutAll | K::PowerCutStaggered => {
            power::strike(nemesis, &strike).await
        }
        K::EioReadOnce
        | K::EioRead
        | K::EioWriteOnce
        | K::EioWrite
        | K::EioSyncOnce
        | K::EioSync => syscalls::strike(nemesis, &strike).await,
        K::TornWrite => torn::strike(nemesis, &strike).await,
        K::Disconnect => disconnect::strike(nemesis, &strike).await,
        K::ReadOnly => syscalls::read_only(nemesis, &strike).await,
        K::SlowDisk | K::StallDisk | K::DiskFull => slow_disk::strike(nemesis, &strike).await,
        K::ClockJump | K::ClockDrift | K::ClockStrobe | K::ClockAtStart | K::TimerDrift => {
            clocks::strike(nemesis, &strike).await
        }
        K::Descriptors | K::Threads | K::OutOfMemory | K::StarveCpu => {
            resources::strike(nemesis, &strike).await
        }
        K::StayAway => away::strike(nemesis, &strike).await,
        _ => damage::strike(nemesis, &strike).await,
    };
    // Something may have been there all the same: what clients saw meanwhile is judged as seen in a
    // fault, which counts as no time of any kind.
    let name = if nemesis.has_fired { kind.name() } else { INDETERMINATE };
    if !nemesis.has_fired {
        nemesis.book.fault(name, &nodes, FaultPhase::Fired, from_us);
    }
    nodes.iter().for_each(|id| bring_back(nemesis.fleet, *id));
    nemesis.well_again(name, &nodes).await;
    match struck {
        Ok(()) => Struck::Installed,
        Err(why) => Struck::Indeterminate(format!("nodes {nodes:?}: {why}")),
    }
}

/// Whatever became of the fault, the node runs afterwards, on its disk.
pub(super) fn bring_back(fleet: &mut Fleet, id: u64) {
    if fleet.disk(id).is_ok_and(|disk| disk.is_shut()) {
        // It may go on there all the same.
        fleet.kill9(id);
    }
    if let Ok(disk) = fleet.disk(id) {
        disk.restore().expect("a disk that could be taken away can be brought back");
    }
    if !fleet.up().contains(&id) {
        fleet.launch(id);
    }
}

fn victims(kind: FaultKind, nodes: usize) -> usize {
    match kind {
        FaultKind::PowerCutAll | FaultKind::PowerCutStaggered => nodes,
        FaultKind::PowerCutMinority => (nodes - 1) / 2,
        _ => 1,
    }
}

impl Nemesis<'_> {
    /// The fault is there.
    pub(super) fn fired(&mut self, strike: &Strike) {
        self.has_fired = true;
        self.book.fault(strike.kind.name(), &strike.nodes, FaultPhase::Fired, strike.from_us);
    }
}
