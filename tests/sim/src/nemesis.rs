//! Makes faults, one after the other, and undoes them.

use std::sync::atomic::Ordering;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::chaos::Ledger;
use crate::cluster::{CLIENTS, SimCluster};
use crate::disk::Cut;
use crate::fault::FaultKind;
use crate::knobs::pick;
use crate::node::host;

/// Everything must work again so soon after a fault.
const RECOVERY_MAX: Duration = Duration::from_secs(30);
/// Clocks jump by as much at least, when they jump.
const JUMP_MS: i64 = 300;

/// What is being done.
#[derive(Debug)]
enum Phase {
    Calm {
        until: Duration,
    },
    Fault {
        fault: Fault,
        until: Duration,
    },
    /// Everything is undone; all nodes come back.
    Recovery {
        since: Duration,
    },
    Over,
}

/// A fault that is there.
#[derive(Debug)]
struct Fault {
    kind: FaultKind,
    nodes: Vec<u64>,
    /// How the disks of nodes that are down end.
    cut: Cut,
    /// Latencies that were there before.
    disk_ms: (u64, u64),
}

/// See the module.
pub(crate) struct Nemesis {
    dice: StdRng,
    phase: Phase,
    todo: Vec<FaultKind>,
    /// Faults that are undone and not seen to be over.
    healing: Vec<(FaultKind, Vec<u64>)>,
    ledger: Ledger,
    notes: Vec<String>,
    /// Nodes that may not know their terms any more, since they were last asked for.
    forgetful: Vec<u64>,
}

impl Nemesis {
    pub(crate) fn new(cluster: &SimCluster<'_>, ledger: Ledger) -> Self {
        let mut todo = cluster.knobs.faults.clone();
        todo.reverse();
        Self {
            dice: StdRng::seed_from_u64(cluster.knobs.seed ^ 0xfa17),
            phase: Phase::Calm { until: cluster.now() },
            todo,
            healing: Vec::new(),
            ledger,
            notes: Vec::new(),
            forgetful: Vec::new(),
        }
    }

    /// Everything was done, undone, and is seen to work again.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Over)
    }

    /// Nodes that may have forgotten their terms since the last call.
    pub(crate) fn take_forgetful(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.forgetful)
    }

    /// What was done and when.
    pub(crate) fn notes(&self) -> &[String] {
        &self.notes
    }

    fn note(&mut self, cluster: &SimCluster<'_>, what: &str) {
        self.notes.push(format!("{:>9.3} s  {what}", cluster.now().as_secs_f64()));
    }

    fn between(&mut self, ms: (u64, u64)) -> Duration {
        Duration::from_millis(self.dice.random_range(ms.0..=ms.1))
    }

    /// Called between two steps.
    ///
    /// # Errors
    /// When a node ended itself for no reason, or does not come back.
    pub(crate) fn step(&mut self, cluster: &mut SimCluster<'_>) -> Result<(), String> {
        self.bury(cluster)?;
        let now = cluster.now();
        match &self.phase {
            Phase::Calm { until } if now >= *until => match self.todo.pop() {
                Some(kind) => self.strike(cluster, kind),
                None => self.phase = Phase::Recovery { since: now },
            },
            Phase::Fault { until, .. } if now >= *until => self.undo(cluster),
            Phase::Recovery { since } => {
                if cluster.is_ready() {
                    self.healed(cluster);
                    self.phase = match self.todo.is_empty() {
                        true => Phase::Over,
                        false => Phase::Calm { until: now + self.between(cluster.knobs.calm_ms) },
                    };
                } else if now - *since > RECOVERY_MAX {
                    return Err(format!("not ready {} s after a fault", RECOVERY_MAX.as_secs()));
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Nodes that ended themselves are gone.
    fn bury(&mut self, cluster: &mut SimCluster<'_>) -> Result<(), String> {
        for id in cluster.ids() {
            let Some(reason) = cluster.member(id).ended.lock().clone() else { continue };
            self.note(cluster, &format!("node {id} ended itself: {reason}"));
            let expected = match &self.phase {
                Phase::Fault { fault, .. } => {
                    matches!(fault.kind, FaultKind::TearOne | FaultKind::WriteError)
                        && fault.nodes.contains(&id)
                }
                _ => false,
            };
            if !expected {
                return Err(format!("node {id} ended itself: {reason}"));
            }
            cluster.stop(id);
        }
        Ok(())
    }

    fn healed(&mut self, cluster: &SimCluster<'_>) {
        for (kind, nodes) in std::mem::take(&mut self.healing) {
            self.ledger.healed(kind.name(), &nodes);
            self.note(cluster, &format!("{} {nodes:?}: over", kind.name()));
        }
    }

    fn strike(&mut self, cluster: &mut SimCluster<'_>, kind: FaultKind) {
        let all = cluster.members.len();
        let count = match kind {
            FaultKind::CutMajority => all / 2 + 1,
            FaultKind::CutAll | FaultKind::Loss | FaultKind::Delay | FaultKind::Ring => all,
            _ => 1,
        };
        let nodes = cluster.choose(count, &mut self.dice);
        self.note(cluster, &format!("{} {nodes:?}", kind.name()));
        let cut = match kind {
            FaultKind::KillOne => Cut::Process,
            _ => Cut::Power { keep: *pick(&mut self.dice, &[0, 10, 50, 90, 100]) },
        };
        let mut disk_ms = cluster.knobs.disk_ms;
        for id in &nodes {
            let disk = cluster.member(*id).disk.clone();
            match kind {
                FaultKind::KillOne
                | FaultKind::CutOne
                | FaultKind::CutMajority
                | FaultKind::CutAll
                | FaultKind::FlipBit
                | FaultKind::LoseDisk => cluster.stop(*id),
                FaultKind::TearOne => disk.cut_at_next_write(),
                FaultKind::WriteError => disk.fail_after(self.dice.random_range(0..20)),
                FaultKind::SlowDisk => disk_ms = disk.set_latency_ms((50, 600)),
                FaultKind::FullDisk => disk.set_full(true),
                FaultKind::ClockJump => self.jump(cluster, *id),
                FaultKind::Pause | FaultKind::Isolate | FaultKind::Mute => {
                    cut_off(cluster, kind, *id);
                }
                FaultKind::Ring | FaultKind::Loss | FaultKind::Delay => {}
            }
        }
        match kind {
            FaultKind::Ring => ring(cluster, true),
            FaultKind::Loss => {
                let rate = *pick(&mut self.dice, &[0.002, 0.01, 0.03]);
                cluster.sim.set_fail_rate(rate);
            }
            FaultKind::Delay => {
                let most_ms = self.dice.random_range(100..600);
                cluster.sim.set_max_message_latency(Duration::from_millis(most_ms));
            }
            FaultKind::FlipBit => {
                let member = cluster.member(nodes[0]);
                member.disk.restart(cut);
                let flipped = member.disk.flip_bit(&member.log_dir());
                member.disk.switch_off();
                self.note(cluster, &flipped.unwrap_or_default());
            }
            FaultKind::LoseDisk => cluster.member(nodes[0]).disk.lose(),
            _ => {}
        }
        if kind.loses() {
            self.forgetful.extend(&nodes);
        }
        self.ledger.fired(kind.name(), &nodes);
        let until = cluster.now() + self.between(cluster.knobs.hold_ms);
        self.phase = Phase::Fault { fault: Fault { kind, nodes, cut, disk_ms }, until };
    }

    fn jump(&mut self, cluster: &SimCluster<'_>, id: u64) {
        let most = JUMP_MS.max(cluster.knobs.skew_ms as i64);
        let skew_ms = self.dice.random_range(-most..=most);
        cluster.member(id).skew_ms.store(skew_ms, Ordering::Relaxed);
    }

    fn undo(&mut self, cluster: &mut SimCluster<'_>) {
        let now = cluster.now();
        let phase = std::mem::replace(&mut self.phase, Phase::Recovery { since: now });
        let Phase::Fault { fault, .. } = phase else { return };
        let Fault { kind, nodes, cut, disk_ms } = fault;
        self.note(cluster, &format!("{} {nodes:?}: undone", kind.name()));
        for id in &nodes {
            let disk = cluster.member(*id).disk.clone();
            match kind {
                FaultKind::KillOne
                | FaultKind::CutOne
                | FaultKind::CutMajority
                | FaultKind::CutAll
                | FaultKind::LoseDisk => cluster.start(*id, cut),
                FaultKind::FlipBit => cluster.start(*id, Cut::Process),
                FaultKind::TearOne | FaultKind::WriteError => {
                    // If it wrote nothing meanwhile, it ends here.
                    cluster.stop(*id);
                    cluster.start(*id, cut);
                }
                FaultKind::SlowDisk => {
                    disk.set_latency_ms(disk_ms);
                }
                FaultKind::FullDisk => disk.set_full(false),
                FaultKind::Pause | FaultKind::Isolate | FaultKind::Mute => {
                    rejoin(cluster, kind, *id);
                }
                FaultKind::Ring | FaultKind::Loss | FaultKind::Delay | FaultKind::ClockJump => {}
            }
        }
        match kind {
            FaultKind::Ring => ring(cluster, false),
            FaultKind::Loss => {
                cluster.sim.set_fail_rate(0.0);
                repair_all(cluster);
            }
            FaultKind::Delay => {
                let (_, most_ms) = cluster.knobs.latency_ms;
                cluster.sim.set_max_message_latency(Duration::from_millis(most_ms));
            }
            _ => {}
        }
        self.healing.push((kind, nodes));
        // Sometimes the next fault does not wait until everything works again.
        let impatient = !self.todo.is_empty() && self.dice.random_range(0..3) == 0;
        if impatient {
            self.phase = Phase::Calm { until: now + self.between(cluster.knobs.calm_ms) };
        }
    }
}

fn others(cluster: &SimCluster<'_>, id: u64) -> Vec<String> {
    let nodes = cluster.ids().into_iter().filter(|it| *it != id).map(host);
    nodes.chain([CLIENTS.to_owned()]).collect()
}

fn cut_off(cluster: &SimCluster<'_>, kind: FaultKind, id: u64) {
    for other in others(cluster, id) {
        match kind {
            FaultKind::Pause => cluster.sim.hold(host(id), other),
            FaultKind::Isolate => cluster.sim.partition(host(id), other),
            _ => cluster.sim.partition_oneway(host(id), other),
        }
    }
}

fn rejoin(cluster: &SimCluster<'_>, kind: FaultKind, id: u64) {
    for other in others(cluster, id) {
        match kind {
            FaultKind::Pause => cluster.sim.release(host(id), other),
            FaultKind::Isolate => cluster.sim.repair(host(id), other),
            _ => cluster.sim.repair_oneway(host(id), other),
        }
    }
}

/// Cuts or mends all links between nodes that are no neighbours; of three nodes, one link.
fn ring(cluster: &SimCluster<'_>, cut: bool) {
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

fn repair_all(cluster: &SimCluster<'_>) {
    for id in cluster.ids() {
        for other in others(cluster, id) {
            cluster.sim.repair(host(id), other);
        }
    }
}
