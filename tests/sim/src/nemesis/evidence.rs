//! Whether a fault that was asked for took place: a fault that nobody saw proves nothing.
//!
//! Where that comes in degrees, the little that there is excuses clients, and only what cannot be missed counts.

use std::collections::VecDeque;
use std::time::Duration;

use rocksdb::model;

use super::{Fault, Nemesis};
use crate::cluster::SimCluster;
use crate::disk::Happened;
use crate::fault::FaultKind;
use crate::trace::{self, Messages};

/// Messages that are on their way at one moment, for longer than any without a fault.
const LATE_MIN: u64 = 5;
/// Clocks that jump by less do what they do anyway.
const JUMP_SEEN_MS: u64 = 50;

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

/// Follows how many messages take longer than any does without a fault.
#[derive(Default)]
pub(super) struct Late {
    /// At each of the last steps: how many had been sent.
    sent: VecDeque<(Duration, u64)>,
    /// The most of one moment.
    most: u64,
    /// Messages to a node that is down arrive nowhere.
    is_void: bool,
}

impl Late {
    /// Looks at the network of a step. What was on its way when the fault began counts as what was sent since then
    /// when it arrives, so that this is rather too little than too much.
    fn look(&mut self, now: Duration, usual: Duration, then: Messages, messages: Messages) {
        self.sent.push_back((now, messages.sent - then.sent));
        while self.sent.get(1).is_some_and(|(at, _)| *at + usual < now) {
            self.sent.pop_front();
        }
        if self.is_void {
            return;
        }
        let arrived = messages.delivered + messages.dropped - then.delivered - then.dropped;
        if let Some((_, sent)) = self.sent.front().filter(|(at, _)| *at + usual < now) {
            self.most = self.most.max(sent.saturating_sub(arrived));
        }
    }
}

impl Nemesis {
    /// Writes a fault down as soon as it is seen.
    pub(super) fn look_for_evidence(&mut self, cluster: &SimCluster<'_>) {
        let is_down = cluster.ids().into_iter().any(|id| cluster.is_down(id));
        if let Some(fault) = self.fault.as_mut().filter(|it| it.kind == FaultKind::Delay) {
            let usual_ms = cluster.knobs.latency_ms.1 + 2 * cluster.knobs.tick_ms;
            let usual = Duration::from_millis(usual_ms);
            fault.late.is_void |= is_down;
            fault.late.look(cluster.now(), usual, fault.before.messages, trace::messages());
        }
        if self.fault.as_ref().is_some_and(|fault| !fault.has_fired && is_seen(fault, cluster)) {
            self.note_fired();
        }
        let shows =
            |fault: &&mut Fault| fault.has_fired && !fault.is_shown && is_plain(fault, cluster);
        if let Some(fault) = self.fault.as_mut().filter(shows) {
            fault.is_shown = true;
            self.times.entry(fault.kind).or_default().fired += 1;
        }
    }

    /// The fault takes place.
    pub(super) fn note_fired(&mut self) {
        let Some(fault) = &mut self.fault else { return };
        if std::mem::replace(&mut fault.has_fired, true) {
            return;
        }
        if !comes_in_degrees(fault.kind) {
            fault.is_shown = true;
            self.times.entry(fault.kind).or_default().fired += 1;
        }
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
        FaultKind::Delay => messages.sent > then.sent,
        _ => false,
    }
}

fn comes_in_degrees(kind: FaultKind) -> bool {
    matches!(kind, FaultKind::SlowDisk | FaultKind::Delay | FaultKind::ClockJump)
}

/// Of those that come in degrees: whether there was as much of it as it is made for.
fn is_plain(fault: &Fault, cluster: &SimCluster<'_>) -> bool {
    match fault.kind {
        FaultKind::SlowDisk => {
            let now = Before::now(cluster, &fault.nodes);
            fault.before.since(&now, |disk| disk.0.slow) > 0
        }
        FaultKind::Delay => fault.late.most >= LATE_MIN,
        FaultKind::ClockJump => {
            let is_seen = |id: &u64| cluster.member(*id).clock.looks() > 0;
            fault.jump_ms >= JUMP_SEEN_MS && fault.nodes.iter().all(is_seen)
        }
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn late_is_what_was_sent_so_long_ago_and_has_not_arrived() {
        let then = Messages { sent: 100, delivered: 90, ..Messages::default() };
        let ms = Duration::from_millis;
        let look = |late: &mut Late, at: u64, sent: u64, delivered: u64, dropped: u64| {
            late.look(ms(at), ms(20), then, Messages { sent, delivered, dropped, held: 0 });
        };
        let mut late = Late::default();
        look(&mut late, 0, 110, 95, 0);
        look(&mut late, 10, 120, 95, 0);
        assert_eq!(late.most, 0, "nothing is old enough");
        look(&mut late, 21, 130, 96, 1);
        assert_eq!(late.most, 10 - 7, "of the first ten");
        look(&mut late, 31, 130, 120, 2);
        assert_eq!(late.most, 3, "all but what was sent last arrived in time");
    }
}
