//! Makes faults, one after the other, undoes them, and writes down those that were seen to take place.
//!
//! Start with [`Nemesis::step`]; `strike` makes faults, `undo` ends them, `links` is the network, and
//! `evidence` says whether what was asked for happened.

mod evidence;
mod links;
mod strike;
mod undo;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::chaos::Ledger;
use crate::cluster::SimCluster;
use crate::disk::{Copy, Cut};
use crate::fault::FaultKind;
use crate::oracle::Oracle;
use crate::probes;

use evidence::{Before, Late};

/// What failed in a fault's last moment is noticed so much later at most.
const NOTICED: Duration = Duration::from_secs(1);
/// Everything must work again so soon after a fault was undone.
const RECOVERY_MAX: Duration = Duration::from_secs(10);
/// The same when replicas must be rebuilt from others.
const REBUILD_MAX: Duration = Duration::from_secs(30);
/// Begins the reason for which a node ends that hears, later than at its start, that it held more.
const OLDER: &str = "the log is older than what this node told a peer";

/// What is being done.
#[derive(Debug)]
enum Phase {
    Calm {
        until: Duration,
    },
    Fault {
        until: Duration,
    },
    /// Everything is undone; all nodes come back.
    Recovery {
        since: Duration,
    },
    Over,
}

/// A fault that is there.
struct Fault {
    kind: FaultKind,
    nodes: Vec<u64>,
    /// How the disks of nodes that are down end.
    cut: Cut,
    /// Latencies that were there before.
    disk_ms: (u64, u64),
    /// Disks as they were, to be put back.
    copies: BTreeMap<u64, Copy>,
    struck_us: u64,
    before: Before,
    /// Where messages take long.
    late: Late,
    /// By how much a clock jumped.
    jump_ms: u64,
    has_fired: bool,
    /// It counts.
    is_shown: bool,
    /// It took nodes away and did nothing else.
    is_crash: bool,
}

/// A node that ended by itself.
struct Ended {
    /// When it is started again.
    until: Duration,
    /// A fault of its own, that is over then.
    kind: Option<FaultKind>,
}

/// How often each kind of fault was made, and seen to take place.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Times {
    pub(crate) asked: u64,
    pub(crate) fired: u64,
}

/// See the module.
pub(crate) struct Nemesis {
    dice: StdRng,
    phase: Phase,
    todo: Vec<FaultKind>,
    fault: Option<Fault>,
    /// Faults that are written down and not seen to be over: nodes are being rebuilt.
    healing: Vec<(FaultKind, Vec<u64>)>,
    /// Nodes that ended by themselves.
    ended: BTreeMap<u64, Ended>,
    /// Nodes of which a step failed in the life that they are in.
    failing: BTreeSet<u64>,
    /// Nodes whose disks are not what they wrote, until all is well.
    damaged: BTreeSet<u64>,
    /// When the last fault was undone.
    undone: Duration,
    /// Nodes that may have met it right before that, and not have noticed yet; and until when they will.
    aftermath: Option<(Duration, Vec<u64>)>,
    ledger: Ledger,
    oracle: Oracle,
    times: BTreeMap<FaultKind, Times>,
    notes: Vec<String>,
    /// Nodes that may not know their votes any more, since they were last asked for.
    forgetful: Vec<u64>,
}

impl Nemesis {
    pub(crate) fn new(cluster: &SimCluster<'_>, ledger: Ledger, oracle: Oracle) -> Self {
        let mut todo = cluster.knobs.faults.clone();
        todo.reverse();
        Self {
            dice: StdRng::seed_from_u64(cluster.knobs.seed ^ 0xfa17),
            phase: Phase::Calm { until: cluster.now() },
            todo,
            fault: None,
            healing: Vec::new(),
            ended: BTreeMap::new(),
            failing: BTreeSet::new(),
            damaged: BTreeSet::new(),
            undone: Duration::ZERO,
            aftermath: None,
            ledger,
            oracle,
            times: BTreeMap::new(),
            notes: Vec::new(),
            forgetful: Vec::new(),
        }
    }

    /// Everything was done, undone, and is seen to work again.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Over)
    }

    /// When the last fault was undone.
    pub(crate) fn undone(&self) -> Duration {
        self.undone
    }

    /// Nodes that may have forgotten their votes since the last call.
    pub(crate) fn take_forgetful(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.forgetful)
    }

    /// How often each kind was made.
    pub(crate) fn times(&self) -> &BTreeMap<FaultKind, Times> {
        &self.times
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
        self.note_failpoint(cluster);
        self.bury(cluster)?;
        self.supervise(cluster)?;
        self.look_for_evidence(cluster);
        let now = cluster.now();
        match self.phase {
            Phase::Calm { until } if now >= until => match self.todo.pop() {
                Some(kind) => self.strike(cluster, kind)?,
                None => self.phase = Phase::Recovery { since: now },
            },
            Phase::Fault { until } if now >= until => self.undo(cluster)?,
            Phase::Recovery { since } => self.recover(cluster, since)?,
            _ => {}
        }
        Ok(())
    }

    fn recover(&mut self, cluster: &SimCluster<'_>, since: Duration) -> Result<(), String> {
        let now = cluster.now();
        let rebuilds = !self.healing.is_empty();
        let may_end = self.aftermath.as_ref().is_some_and(|(until, _)| now <= *until);
        if !may_end
            && self.ended.is_empty()
            && cluster.is_ready()
            && !(rebuilds && cluster.is_rebuilding())
        {
            self.healed(cluster);
            self.phase = match self.todo.is_empty() {
                true => {
                    // Whoever did not come by until now need not.
                    probes::tell(None);
                    Phase::Over
                }
                false => Phase::Calm { until: now + self.between(cluster.knobs.long_calm_ms()) },
            };
            return Ok(());
        }
        let most = if rebuilds { REBUILD_MAX } else { RECOVERY_MAX };
        match now.saturating_sub(since.max(self.undone)) > most {
            true => Err(format!("not ready {} s after a fault", most.as_secs())),
            false => Ok(()),
        }
    }

    /// Replicas that had to be rebuilt are.
    fn healed(&mut self, cluster: &SimCluster<'_>) {
        for (kind, nodes) in std::mem::take(&mut self.healing) {
            self.ledger.healed(kind.name(), &nodes);
            self.note(cluster, &format!("{} {nodes:?}: over", kind.name()));
        }
        for node in std::mem::take(&mut self.damaged) {
            self.oracle.is_whole(node);
        }
    }

    /// A step of a node was told to end or to fail, and did.
    fn note_failpoint(&mut self, cluster: &SimCluster<'_>) {
        let Some((id, order)) = probes::take_fired() else { return };
        let kind = if order.fails { FaultKind::Fail } else { FaultKind::Crash };
        self.note(cluster, &format!("{} of node {id} at {}", kind.name(), order.point.name()));
        self.times.entry(kind).or_default().fired += 1;
        let now_us = self.ledger.now_us();
        self.ledger.fired(kind.name(), &[id], now_us);
        if order.fails {
            self.failing.insert(id);
            self.ledger.healed(kind.name(), &[id]);
            self.undone = cluster.now();
        }
    }

    /// Whether a node may only notice now what a fault that is undone did to it.
    fn is_aftermath(&self, id: u64, now: Duration) -> bool {
        self.aftermath.as_ref().is_some_and(|(until, nodes)| now <= *until && nodes.contains(&id))
    }

    /// Nodes that ended themselves are gone.
    fn bury(&mut self, cluster: &mut SimCluster<'_>) -> Result<(), String> {
        for id in cluster.ids() {
            let Some(reason) = cluster.member(id).ended.lock().clone() else { continue };
            self.note(cluster, &format!("node {id} ended itself: {reason}"));
            let fault = self.fault.as_ref();
            let of_fault = fault.is_some_and(|it| it.kind.ends_nodes() && it.nodes.contains(&id));
            let of_failpoint = reason.contains(probes::REASON) || self.failing.contains(&id);
            let of_damage = !self.damaged.is_empty() && reason.starts_with(OLDER);
            let is_known = of_fault || of_failpoint || of_damage;
            let of_last = !is_known && self.is_aftermath(id, cluster.now());
            if !is_known && !of_last {
                return Err(format!("node {id} ended itself: {reason}"));
            }
            if of_damage {
                self.oracle.excuse(id);
                self.damaged.insert(id);
                self.forgetful.push(id);
            }
            cluster.stop(id);
            let until = cluster.now() + self.between((50, 1_500));
            if of_last {
                // That one is over, as far as everybody knows.
                self.ledger.fired(FaultKind::Crash.name(), &[id], self.ledger.now_us());
            }
            let is_crash = of_last || reason.starts_with(probes::REASON);
            let kind = is_crash.then_some(FaultKind::Crash);
            self.ended.insert(id, Ended { until, kind });
        }
        Ok(())
    }

    /// Starts nodes again that ended by themselves.
    fn supervise(&mut self, cluster: &mut SimCluster<'_>) -> Result<(), String> {
        let now = cluster.now();
        let due = self.ended.iter().filter(|(_, ended)| ended.until <= now).map(|(id, _)| *id);
        for id in due.collect::<Vec<_>>() {
            let cut = self.fault.as_ref().filter(|fault| fault.nodes.contains(&id));
            let cut = cut.map_or(Cut::Process, |fault| fault.cut);
            self.start(cluster, id, cut)?;
        }
        Ok(())
    }

    fn start(&mut self, cluster: &mut SimCluster<'_>, id: u64, cut: Cut) -> Result<(), String> {
        if let Some(kind) = self.ended.remove(&id).and_then(|ended| ended.kind) {
            self.ledger.healed(kind.name(), &[id]);
        }
        self.failing.remove(&id);
        self.undone = cluster.now();
        cluster.start(id, cut)
    }
}
