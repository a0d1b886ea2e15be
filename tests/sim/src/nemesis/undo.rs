//! Ends a fault.

use std::time::Duration;

use rand::RngExt as _;

use super::{Fault, NOTICED, Nemesis, Phase, links};
use crate::cluster::SimCluster;
use crate::disk::Cut;
use crate::fault::FaultKind;

impl Nemesis {
    pub(super) fn undo(&mut self, cluster: &mut SimCluster<'_>) -> Result<(), String> {
        let now = cluster.now();
        self.phase = Phase::Recovery { since: now };
        if self.fault.as_ref().is_some_and(|fault| fault.kind == FaultKind::Rollback) {
            self.roll_back(cluster)?;
        }
        let Some(fault) = self.fault.take() else { return Ok(()) };
        let (kind, nodes) = (fault.kind, fault.nodes.clone());
        let (has_fired, is_crash) = (fault.has_fired, fault.is_crash);
        let what = if has_fired { "undone" } else { "undone; it did not take place" };
        self.note(cluster, &format!("{} {nodes:?}: {what}", kind.name()));
        self.aftermath = kind.ends_nodes().then(|| (now + NOTICED, nodes.clone()));
        self.mend(cluster, fault)?;
        if is_crash {
            self.ledger.healed(FaultKind::Crash.name(), &nodes);
        }
        self.undone = now;
        self.oracle.thaw();
        if kind.loses() && has_fired {
            // It is over when what was lost is there again.
            self.healing.push((kind, nodes));
        } else if has_fired {
            self.ledger.healed(kind.name(), &nodes);
        }
        // Sometimes the next fault does not wait until everything works again.
        let impatient = !kind.loses() && !self.todo.is_empty() && self.dice.random_range(0..3) == 0;
        if impatient {
            self.phase = Phase::Calm { until: now + self.between(cluster.knobs.calm_ms) };
        }
        Ok(())
    }

    fn mend(&mut self, cluster: &mut SimCluster<'_>, fault: Fault) -> Result<(), String> {
        let Fault { kind, nodes, cut, disk_ms, copies, has_fired, .. } = fault;
        match kind {
            FaultKind::Ring => links::ring(cluster, false),
            FaultKind::Loss => {
                cluster.sim.set_fail_rate(0.0);
                links::repair_all(cluster);
            }
            FaultKind::Delay => {
                let (_, most_ms) = cluster.knobs.latency_ms;
                cluster.sim.set_max_message_latency(Duration::from_millis(most_ms));
            }
            _ => {}
        }
        for (id, copy) in copies {
            cluster.stop(id);
            cluster.member(id).disk.put_back(copy);
        }
        for id in &nodes {
            let disk = cluster.member(*id).disk.clone();
            let mut ends_here = false;
            match kind {
                FaultKind::SlowDisk => {
                    disk.set_latency_ms(disk_ms);
                }
                FaultKind::FullDisk | FaultKind::NoRoom => disk.set_room(None),
                FaultKind::Pause | FaultKind::Isolate | FaultKind::Mute => {
                    links::rejoin(cluster, kind, *id);
                }
                // If it did nothing meanwhile that could fail, it ends here, and that is a fault as well.
                FaultKind::TearOne
                | FaultKind::WriteError
                | FaultKind::ReadError
                | FaultKind::FlushError => {
                    if !has_fired {
                        let now_us = self.ledger.now_us();
                        self.ledger.fired(FaultKind::Crash.name(), &[*id], now_us);
                    }
                    ends_here = !has_fired;
                    cluster.stop(*id);
                }
                _ => {}
            }
            if cluster.is_down(*id) {
                // What was damaged is not cut once more.
                let cut = if kind.loses() { Cut::Process } else { cut };
                self.start(cluster, *id, cut)?;
            }
            if ends_here {
                self.ledger.healed(FaultKind::Crash.name(), &[*id]);
            }
        }
        Ok(())
    }

    /// Stops a node and puts its disk back to what it was when the fault began.
    fn roll_back(&mut self, cluster: &mut SimCluster<'_>) -> Result<(), String> {
        let Some(fault) = &self.fault else { return Ok(()) };
        let id = fault.nodes[0];
        cluster.stop(id);
        self.oracle.excuse(id);
        self.damaged.insert(id);
        self.forgetful.push(id);
        // The copy that it holds is put back when it is mended.
        self.note_fired();
        Ok(())
    }
}
