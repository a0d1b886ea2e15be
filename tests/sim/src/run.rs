//! One seed, from an empty cluster to its verdict.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use flotilla_history::{Answer, Bounds, Checked, Expect, Options, Verdict, check_file};
use tokio::sync::watch;

use crate::audit::Audit;
use crate::chaos::{self, Ledger, Progress};
use crate::cluster::{CLIENTS, SimCluster};
use crate::fault::FaultKind;
use crate::growth;
use crate::knobs::Knobs;
use crate::nemesis::{Nemesis, Times};
use crate::oracle::Looked;
use crate::watch::Watch;
use crate::{machine, probes, trace};

/// Between two looks at what nodes keep in memory, and at how their logs would be recovered.
const AUDIT: Duration = Duration::from_secs(2);
/// How long everything goes on after the last fault is undone: every kind of request must work again
/// within ten seconds, and nobody knows before.
const AFTERMATH: Duration = Duration::from_millis(10_500);
/// Longer than the longest of all runs that end, but for what a load was told to last.
const LIMIT: Duration = Duration::from_secs(520);

/// After a second of silence a link is asked whether anybody is there, and is dead after another one.
const LINK_DEAD: Duration = Duration::from_secs(2);

/// What became of a seed.
pub(crate) struct Outcome {
    pub(crate) knobs: Arc<Knobs>,
    /// What a replica or a node did that it must not.
    pub(crate) broken: Option<String>,
    /// What clients saw, judged; none if the run did not come so far.
    pub(crate) checked: Option<Checked>,
    pub(crate) history: PathBuf,
    pub(crate) notes: Vec<String>,
    pub(crate) times: BTreeMap<FaultKind, Times>,
    /// Without the rest.
    pub(crate) simulated: Duration,
    pub(crate) rested: Duration,
    pub(crate) real: Duration,
    pub(crate) looked: Looked,
    /// Entries that the log's recovery was seen to find.
    pub(crate) audited: u64,
    /// Times that memory was held against rows.
    pub(crate) checks: u64,
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
            for tally in checked.verdict.tallies.iter().filter(|tally| tally.found > 0) {
                writeln!(f, "FOUND {} {} times", tally.invariant, tally.found)?;
            }
            writeln!(f, "{}", checked.report)?;
            writeln!(f, "history: {}", self.history.display())?;
        }
        Ok(())
    }
}

/// Runs a seed. Once in a process: clocks and random numbers are taken over for good.
pub(crate) fn run(knobs: Knobs, dir: &Path, keep: &trace::Keep) -> anyhow::Result<Outcome> {
    let began = machine::real_now();
    std::fs::create_dir_all(dir)?;
    trace::begin(keep)?;
    probes::begin();
    machine::take_over(knobs.seed);
    let knobs = Arc::new(knobs);
    let history = dir.join(format!("sim-{}.jsonl", knobs.seed));
    let ledger = Ledger::begin(&history, knobs.to_string(), options(&knobs))?;
    let mut stage = Stage::new(&knobs, ledger);
    let played = stage.play();
    let (notes, times) = (stage.nemesis.notes().to_vec(), stage.nemesis.times().clone());
    let (simulated, rested) = (stage.cluster.now() - stage.rested, stage.rested);
    let (looked, audited, checks) =
        (stage.cluster.oracle.looked(), stage.audit.entries, stage.checks);
    let broken = played.err();
    let ledger = stage.close();
    trace::end();
    let checked = match broken {
        None => {
            ledger.finish()?;
            Some(check_file(&history)?)
        }
        Some(_) => None,
    };
    let real = machine::real_now() - began;
    Ok(Outcome {
        knobs,
        broken,
        checked,
        history,
        notes,
        times,
        simulated,
        rested,
        real,
        looked,
        audited,
        checks,
    })
}

/// Everything that a run is made of.
struct Stage {
    cluster: SimCluster<'static>,
    nemesis: Nemesis,
    watch: Watch,
    ledger: Ledger,
    progress: watch::Receiver<Progress>,
    stop: watch::Sender<bool>,
    audit: Audit,
    checks: u64,
    rested: Duration,
}

impl Stage {
    fn new(knobs: &Arc<Knobs>, ledger: Ledger) -> Self {
        let (least, most) = knobs.latency_ms;
        let sim = turmoil::Builder::new()
            .rng_seed(knobs.seed)
            .epoch(UNIX_EPOCH + machine::time_of_day())
            .simulation_duration(2 * (LIMIT + knobs.lasts + growth::REST))
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
        let nemesis = Nemesis::new(&cluster, ledger.clone(), cluster.oracle.clone());
        Self {
            cluster,
            nemesis,
            watch: Watch::default(),
            ledger,
            progress,
            stop,
            audit: Audit::default(),
            checks: 0,
            rested: Duration::ZERO,
        }
    }

    fn at(&self) -> Progress {
        *self.progress.borrow()
    }

    /// Lets everything happen.
    fn play(&mut self) -> Result<(), String> {
        while self.at() == Progress::Begins {
            self.step()?;
        }
        let loaded = self.cluster.now() + self.cluster.knobs.lasts;
        while !self.nemesis.is_over() {
            self.nemesis.step(&mut self.cluster)?;
            for node in self.nemesis.take_forgetful() {
                self.watch.forget_votes(node);
            }
            self.step()?;
        }
        let until = (self.nemesis.undone() + AFTERMATH).max(loaded);
        while self.cluster.now() < until {
            self.step()?;
        }
        self.stop.send_replace(true);
        while self.at() != Progress::Ended {
            self.step()?;
        }
        self.look_closely()?;
        if self.cluster.knobs.rests {
            let ended = self.cluster.now();
            while self.cluster.now() < ended + growth::REST {
                self.step()?;
            }
            self.rested = self.cluster.now() - ended;
            growth::look(&self.cluster)?;
        }
        Ok(())
    }

    fn step(&mut self) -> Result<(), String> {
        let now = self.cluster.now();
        machine::set_now(now);
        let limit = LIMIT + self.cluster.knobs.lasts;
        if now > limit && self.at() != Progress::Ended {
            return Err(format!("clients still at {:?} after {} s", self.at(), limit.as_secs()));
        }
        self.cluster.sim.step().map_err(|error| format!("a host failed: {error}"))?;
        machine::set_now(self.cluster.now());
        if let Some(what) = machine::panicked() {
            return Err(format!("something panicked: {what}"));
        }
        self.cluster.oracle.look()?;
        self.watch.look(&self.cluster, &self.cluster.oracle)?;
        let tick = Duration::from_millis(self.cluster.knobs.tick_ms);
        let is_busy = self.at() != Progress::Ended;
        if is_busy
            && now.as_millis() / AUDIT.as_millis() != (now + tick).as_millis() / AUDIT.as_millis()
        {
            self.look_closely()?;
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

    /// What takes too long to be looked at all the time.
    fn look_closely(&mut self) -> Result<(), String> {
        self.audit.look(&self.cluster)?;
        for (id, node) in self.cluster.running() {
            // A disk that fails a read is somebody else's.
            let Ok(found) = node.check() else { continue };
            self.checks += 1;
            if let Some(what) = found {
                return Err(format!("node {id}: {what}"));
            }
        }
        Ok(())
    }

    /// Ends all hosts; the ledger is nobody else's then.
    fn close(self) -> Ledger {
        let Self { cluster, nemesis, ledger, .. } = self;
        cluster.oracle.end();
        for member in &cluster.members {
            member.disk.switch_off();
            member.running.lock().take();
        }
        drop((cluster, nemesis));
        ledger
    }
}

fn options(knobs: &Knobs) -> Options {
    let expect = Expect {
        // What a run of few kinds of work and of drawn faults comes to is not known beforehand: what
        // all of them come to together is looked at by `totals`.
        invariants: Vec::new(),
        sends_min: 1,
        deliveries_min: 1,
        faults: Vec::new(),
        fault_times_min: 1,
        fault_requests_min: 0,
        no_drain: false,
        ..Expect::default()
    };
    let promises = chaos::promises(knobs.shards as usize, knobs.in_flight_max());
    let bounds = Bounds::default();
    // A wake-up is told and asked for over this network.
    let told_us = 4_000 * knobs.latency_ms.1;
    // What is lost is not repeated here: the connection stands still until it is found to be dead.
    let is_lossy = knobs.faults.contains(&FaultKind::Loss);
    let found_us = if is_lossy { LINK_DEAD.as_micros() as u64 } else { 0 };
    let bounds = Bounds {
        clock_us: knobs.clock_bound().as_micros() as u64,
        wakeup_us: bounds.wakeup_us + told_us,
        wakeup_faulty_us: bounds.wakeup_faulty_us + told_us + found_us,
        ..bounds
    };
    Options { bounds, promises, expect }
}
