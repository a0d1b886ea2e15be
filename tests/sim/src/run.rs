//! One seed, from an empty cluster to its verdict.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use flotilla_history::{
    Answer, Bounds, Checked, Expect, Invariant, Options, Promises, Verdict, check_file,
};
use tokio::sync::watch;

use crate::audit::Audit;
use crate::chaos::{self, Ledger, Progress};
use crate::cluster::{CLIENTS, SimCluster};
use crate::fault::FaultKind;
use crate::knobs::Knobs;
use crate::machine;
use crate::nemesis::Nemesis;
use crate::watch::Watch;

/// Between two looks at all replicas.
const LOOK: Duration = Duration::from_millis(50);
/// Between two comparisons of their states.
const COMPARE: Duration = Duration::from_millis(250);
/// Between two looks at what their disks hold.
const AUDIT: Duration = Duration::from_secs(1);
/// How long everything goes on after the last fault: all that must happen after it has to happen in
/// this time. Every client finds its old connections to nodes that were away broken, one by one.
const AFTERMATH: Duration = Duration::from_secs(8);
/// Longer than the longest of all runs that end.
const LIMIT: Duration = Duration::from_secs(400);

/// What became of a seed.
pub(crate) struct Outcome {
    pub(crate) knobs: Arc<Knobs>,
    /// What a replica or a node did that it must not.
    pub(crate) broken: Option<String>,
    /// What clients saw, judged; none if the run did not come so far.
    pub(crate) checked: Option<Checked>,
    pub(crate) history: PathBuf,
    pub(crate) notes: Vec<String>,
    pub(crate) simulated: Duration,
    pub(crate) real: Duration,
    pub(crate) compared: u64,
    pub(crate) audited: u64,
}

impl Outcome {
    pub(crate) fn is_good(&self) -> bool {
        let passed = |checked: &Checked| checked.verdict.answer == Answer::Pass;
        self.broken.is_none() && self.checked.as_ref().is_some_and(passed)
    }

    pub(crate) fn verdict(&self) -> Option<&Verdict> {
        self.checked.as_ref().map(|checked| &checked.verdict)
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.knobs)?;
        for note in &self.notes {
            writeln!(f, "  {note}")?;
        }
        if let Some(broken) = &self.broken {
            writeln!(f, "BROKEN: {broken}")?;
        }
        if let Some(checked) = self.checked.as_ref().filter(|_| !self.is_good()) {
            writeln!(f, "{}", checked.report)?;
            writeln!(f, "history: {}", self.history.display())?;
        }
        Ok(())
    }
}

/// Runs a seed. Once in a process: clocks and random numbers are taken over for good.
pub(crate) fn run(knobs: Knobs, dir: &Path) -> anyhow::Result<Outcome> {
    let began = machine::real_now();
    std::fs::create_dir_all(dir)?;
    machine::take_over(knobs.seed);
    let knobs = Arc::new(knobs);
    let history = dir.join(format!("sim-{}.jsonl", knobs.seed));
    let ledger = Ledger::begin(&history, knobs.to_string(), options(&knobs))?;
    let mut stage = Stage::new(&knobs, ledger);
    let played = stage.play();
    let notes = stage.nemesis.notes().to_vec();
    let simulated = stage.cluster.now();
    let (compared, audited) = (stage.watch.compared, stage.audit.audited);
    let broken = played.err();
    let ledger = stage.close();
    let checked = match broken {
        None => {
            ledger.finish()?;
            Some(check_file(&history)?)
        }
        Some(_) => None,
    };
    let real = machine::real_now() - began;
    Ok(Outcome { knobs, broken, checked, history, notes, simulated, real, compared, audited })
}

/// Everything that a run is made of.
struct Stage {
    cluster: SimCluster<'static>,
    nemesis: Nemesis,
    watch: Watch,
    audit: Audit,
    ledger: Ledger,
    progress: watch::Receiver<Progress>,
    stop: watch::Sender<bool>,
}

impl Stage {
    fn new(knobs: &Arc<Knobs>, ledger: Ledger) -> Self {
        let (least, most) = knobs.latency_ms;
        let sim = turmoil::Builder::new()
            .rng_seed(knobs.seed)
            .epoch(UNIX_EPOCH + Duration::from_millis(machine::unix_ms()))
            .simulation_duration(2 * LIMIT)
            .tick_duration(Duration::from_millis(knobs.tick_ms))
            .min_message_latency(Duration::from_millis(least))
            .max_message_latency(Duration::from_millis(most))
            .repair_rate(0.2)
            .tcp_capacity(1 << 16)
            .enable_random_order()
            .build();
        let mut cluster = SimCluster::new(sim, knobs);
        let (stop, stopped) = watch::channel(false);
        let (tell, progress) = watch::channel(Progress::Begins);
        cluster.sim.client(CLIENTS, chaos::run(knobs.clone(), ledger.clone(), stopped, tell));
        let nemesis = Nemesis::new(&cluster, ledger.clone());
        let (watch, audit) = (Watch::default(), Audit::default());
        Self { cluster, nemesis, watch, audit, ledger, progress, stop }
    }

    fn at(&self) -> Progress {
        *self.progress.borrow()
    }

    /// Lets everything happen.
    fn play(&mut self) -> Result<(), String> {
        while self.at() == Progress::Begins {
            self.step()?;
        }
        while !self.nemesis.is_over() {
            self.nemesis.step(&mut self.cluster)?;
            for node in self.nemesis.take_forgetful() {
                self.watch.forget_terms(node);
                self.audit.excuse(node);
            }
            self.step()?;
        }
        let until = self.cluster.now() + AFTERMATH;
        while self.cluster.now() < until {
            self.step()?;
        }
        self.stop.send_replace(true);
        while self.at() != Progress::Ended {
            self.step()?;
        }
        self.watch.look(&self.cluster)?;
        self.watch.compare(&self.cluster)?;
        self.audit.look(&self.cluster, self.watch.applied())
    }

    fn step(&mut self) -> Result<(), String> {
        let now = self.cluster.now();
        machine::set_now(now);
        if now > LIMIT {
            return Err(format!("clients still at {:?} after {} s", self.at(), LIMIT.as_secs()));
        }
        self.cluster.sim.step().map_err(|error| format!("a host failed: {error}"))?;
        machine::set_now(self.cluster.now());
        if let Some(what) = machine::panicked() {
            return Err(format!("something panicked: {what}"));
        }
        let every = |period: Duration| {
            let tick = Duration::from_millis(self.cluster.knobs.tick_ms);
            now.as_millis() / period.as_millis() != (now + tick).as_millis() / period.as_millis()
        };
        if every(LOOK) {
            self.watch.look(&self.cluster)?;
            self.audit.note_homes(&self.cluster);
        }
        if every(COMPARE) {
            self.watch.compare(&self.cluster)?;
        }
        if every(AUDIT) {
            self.audit.look(&self.cluster, self.watch.applied())?;
        }
        for member in &self.cluster.members {
            let ended = member.ended.lock().clone();
            // While faults are made, these know who may end itself.
            if let Some(reason) = ended.filter(|_| self.nemesis.is_over()) {
                return Err(format!("node {} ended itself: {reason}", member.id));
            }
        }
        Ok(())
    }

    /// Ends all hosts; the ledger is nobody else's then.
    fn close(self) -> Ledger {
        let Self { cluster, nemesis, ledger, .. } = self;
        for member in &cluster.members {
            member.disk.switch_off();
            member.running.lock().take();
        }
        drop((cluster, nemesis));
        ledger
    }
}

fn options(knobs: &Knobs) -> Options {
    let mut faults: Vec<String> = knobs.faults.iter().map(|kind| kind.name().to_owned()).collect();
    faults.sort();
    faults.dedup();
    let expect = Expect {
        invariants: vec![Invariant::S1, Invariant::S2],
        // A run may have few, if its network is bad for long; all of them together have not.
        sends_min: 1,
        deliveries_min: 1,
        faults,
        fault_times_min: 1,
        fault_requests_min: 0,
        no_drain: false,
        ..Expect::default()
    };
    let promises = Promises {
        // As for real clusters.
        fifo_delay_retroactive: true,
        fifo_moves_hide_us: Some(60_000_000),
        ..Promises::default()
    };
    let jumps = knobs.faults.contains(&FaultKind::ClockJump);
    let off_ms = if jumps { knobs.skew_ms.max(300) } else { 0 };
    let bounds = Bounds::default();
    // A wake-up is told and asked for over this network.
    let told_us = 4_000 * knobs.latency_ms.1;
    let bounds = Bounds {
        clock_us: bounds.clock_us + 2_000 * off_ms,
        wakeup_us: bounds.wakeup_us + told_us,
        wakeup_faulty_us: bounds.wakeup_faulty_us + told_us,
        ..bounds
    };
    Options { bounds, promises, expect }
}
