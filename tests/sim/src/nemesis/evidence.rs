//! Whether a fault that was asked for took place: a fault that nobody saw proves nothing.

use rocksdb::model;

use super::{Fault, Nemesis};
use crate::cluster::SimCluster;
use crate::disk::Happened;
use crate::fault::FaultKind;
use crate::trace::{self, Messages};

/// Messages that are late in one fault, at least.
const LATE_MIN: u64 = 20;

/// What had happened before a fault was made.
pub(super) struct Before {
    messages: Messages,
    disks: Vec<(Happened, model::Happened)>,
}

impl Before {
    pub(super) fn now(cluster: &SimCluster<'_>, nodes: &[u64]) -> Self {
        let disks = nodes.iter().map(|id| cluster.member(*id).disk.happened());
        Self { messages: trace::messages(), disks: disks.collect() }
    }

    /// How often something happened since then, on all disks together.
    fn since(&self, now: &Self, count: impl Fn(&(Happened, model::Happened)) -> u64) -> u64 {
        let sum = |disks: &[(Happened, model::Happened)]| disks.iter().map(&count).sum::<u64>();
        sum(&now.disks) - sum(&self.disks)
    }
}

impl Nemesis {
    /// Writes a fault down as soon as it is seen.
    pub(super) fn look_for_evidence(&mut self, cluster: &SimCluster<'_>) {
        if self.fault.as_ref().is_some_and(|fault| !fault.has_fired && is_seen(fault, cluster)) {
            self.note_fired();
        }
    }

    /// The fault takes place.
    pub(super) fn note_fired(&mut self) {
        let Some(fault) = &mut self.fault else { return };
        if std::mem::replace(&mut fault.has_fired, true) {
            return;
        }
        self.times.entry(fault.kind).or_default().fired += 1;
        self.ledger.fired(fault.kind.name(), &fault.nodes, fault.struck_us);
    }
}

/// What is only known where it is done says so itself.
fn is_seen(fault: &Fault, cluster: &SimCluster<'_>) -> bool {
    let before = &fault.before;
    let now = Before::now(cluster, &fault.nodes);
    let (then, messages) = (before.messages, now.messages);
    match fault.kind {
        FaultKind::TearOne => before.since(&now, |disk| disk.0.torn) > 0,
        FaultKind::WriteError => before.since(&now, |disk| disk.0.writes_failed) > 0,
        FaultKind::ReadError => {
            before.since(&now, |disk| disk.0.reads_failed + disk.1.reads_failed) > 0
        }
        FaultKind::FlushError => before.since(&now, |disk| disk.1.flushes_failed) > 0,
        FaultKind::SlowDisk => before.since(&now, |disk| disk.0.batches) > 0,
        FaultKind::FullDisk => before.since(&now, |disk| disk.0.low) > 0,
        FaultKind::NoRoom => before.since(&now, |disk| disk.0.no_room + disk.1.flushes_failed) > 0,
        FaultKind::Pause => messages.held > then.held,
        FaultKind::Isolate | FaultKind::Mute | FaultKind::Ring | FaultKind::Loss => {
            messages.dropped > then.dropped
        }
        FaultKind::Delay => messages.sent > then.sent + LATE_MIN,
        _ => false,
    }
}
