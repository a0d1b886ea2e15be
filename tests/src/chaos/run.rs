//! One run from its first request to its verdict.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use flotilla_history::record::Mark;
use flotilla_history::{Answer, Bounds, Checked, Expect, Invariant, Options, Verdict, check_file};
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use tokio::task::JoinSet;

use crate::Fleet;
use crate::chaos::book::{Book, Stage};
use crate::chaos::corners::{self, IN_FLIGHT_MAX, RETENTION_SECONDS};
use crate::chaos::crowd::Crowd;
use crate::chaos::faults::{FaultKind, Ground, Nemesis, Struck};
use crate::chaos::queues::Work;
use crate::chaos::remains::More;
use crate::chaos::{dense, remains};

/// Beyond what hides messages, until a queue that gives nothing is called empty.
pub(super) const MARGIN: Duration = Duration::from_secs(2);
/// How soon a supervisor notices the end of a node.
const SUPERVISED: Duration = Duration::from_millis(500);
/// Of a fault, for it to count: a thousand in three of them. A client that finds nobody tries 20
/// times in a second.
const REQUESTS_MIN: u64 = 334;
/// What every run examines, whatever its faults do: all but what takes time.
const EXAMINED: [Invariant; 32] = [
    Invariant::S1,
    Invariant::S1b,
    Invariant::S2,
    Invariant::S3,
    Invariant::S4,
    Invariant::S5,
    Invariant::S6,
    Invariant::S7,
    Invariant::S8,
    Invariant::S9,
    Invariant::S11,
    Invariant::S12,
    Invariant::S13,
    Invariant::S14,
    Invariant::S15,
    Invariant::S16,
    Invariant::S17,
    Invariant::S18,
    Invariant::S19,
    Invariant::S20,
    Invariant::F1,
    Invariant::F2,
    Invariant::F3,
    Invariant::F4,
    Invariant::F5,
    Invariant::F6,
    Invariant::F7,
    Invariant::F8,
    Invariant::F9,
    Invariant::F10,
    Invariant::F11,
    Invariant::L1,
];
/// And those that do, in runs that take so long. No message is too old before a minute is over; what names
/// and ids that come back do wrong is a part of S14 (after a minute) and F5 (after five).
const EXAMINED_LATER: [(Invariant, Duration); 1] =
    [(Invariant::S10, Duration::from_secs(RETENTION_SECONDS + 15))];
/// How long the load goes on after the last fault for want of acknowledged sends.
const LOAD_GOES_ON_MAX: Duration = Duration::from_secs(300);
/// Faults between two long calms.
const FAULTS_IN_A_ROW: usize = 3;

/// What is to be done in a run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Of everything that is left to chance; times are not.
    pub seed: u64,
    /// Which faults.
    pub faults: Vec<FaultKind>,
    /// Of the fleet.
    pub ground: Ground,
    /// How often each.
    pub times: u64,
    /// How long a fault lasts, about; between two of them it is calm for half as long.
    pub hold: Duration,
    /// So many more clients send batches without any pause, and as many receive.
    pub dense: usize,
    /// The load goes on after the last fault until so many sends were acknowledged, though not for ever.
    pub acknowledged_min: u64,
    /// Where the history is written.
    pub dir: PathBuf,
    /// The command that does the same again, where it is not `scripts/chaos`.
    pub again: Option<String>,
}

impl Plan {
    /// The command that does the same again, as far as it is chosen.
    pub fn replay(&self, nodes: usize) -> String {
        if let Some(again) = &self.again {
            return again.clone();
        }
        let names: Vec<&str> = self.faults.iter().map(|kind| kind.name()).collect();
        format!(
            "scripts/chaos --minutes 0 --faults {} --on {} --nodes {nodes} --seed {} --times {} \
             --hold-ms {} --dense {}",
            names.join(","),
            self.ground,
            self.seed,
            self.times,
            self.hold.as_millis(),
            self.dense,
        )
    }
}

/// A run's verdict and where its evidence is.
#[derive(Debug)]
pub struct Judged {
    /// The judgement.
    pub verdict: Verdict,
    /// The same in words.
    pub report: String,
    /// The history, while it is kept: `flotilla-check` judges it again.
    pub history: PathBuf,
    /// Sends that were answered with success, in the order of [`Work::ALL`].
    pub acknowledged: [u64; Work::ALL.len()],
    /// Faults of which nobody can say whether they were there.
    pub unclear: Vec<String>,
    /// What the nodes hold differently, or take more of than before, when all is over; and their accidents.
    pub left: Vec<String>,
    /// What a node took beyond what it did before the first run, at most.
    pub(crate) more: More,
}

impl Judged {
    /// Whether nothing is wrong and enough was seen.
    pub fn is_good(&self) -> bool {
        self.verdict.answer == Answer::Pass && self.unclear.is_empty() && self.left.is_empty()
    }

    /// Removes the evidence of a good run.
    pub fn forget(&self) {
        for ending in ["", ".verdict.json", ".timeline.html"] {
            // What is not there need not go.
            let _ = std::fs::remove_file(beside(&self.history, ending));
        }
    }
}

/// Clients and faults, on queues of their own; then everything is healed, drained and judged. When
/// the verdict is bad, the nodes' logs are put beside the history.
///
/// # Panics
/// When the nodes do not come back, and when the history cannot be written.
pub async fn run(fleet: &mut Fleet, plan: &Plan) -> Judged {
    std::fs::create_dir_all(&plan.dir).expect("the history's directory can be made");
    let names: Vec<&str> = plan.faults.iter().map(|kind| kind.name()).collect();
    let label = format!("seed {}, {} times {}", plan.seed, plan.times, names.join(", "));
    let path = plan.dir.join(format!("chaos-{}.jsonl", plan.seed));
    let options = options(plan, fleet.shards());
    let book = Book::begin(&path, label, options).expect("the history can be written");
    let book = Arc::new(book);
    let nodes = fleet.ids().into_iter().map(|id| (id, fleet.endpoint(id))).collect();
    let mut crowd = Crowd::new(plan.seed, nodes, book.clone());
    crowd.create().await;
    let (before, accidents) = (fleet.at_first(), remains::accidents(fleet));
    let mut load = crowd.load();
    dense::press(&mut crowd, &mut load, plan.dense);
    let unclear = make_faults(fleet, plan, &book, &mut crowd).await;
    until_acknowledged(&book, plan.acknowledged_min).await;
    book.enter(Stage::Ending);
    ended(&mut load).await;
    fleet.whole().await;
    book.mark(Mark::DrainBegan);
    let mut complete = drain(fleet, &mut crowd).await;
    let mut left = remains::different(fleet).await;
    let (more, too_much) = remains::more(fleet, &before).await;
    left.extend(too_much);
    // What only the nodes' memory said would be otherwise now.
    fleet.ids().into_iter().for_each(|id| fleet.kill9(id));
    fleet.ids().into_iter().for_each(|id| fleet.launch(id));
    fleet.whole().await;
    complete &= drain(fleet, &mut crowd).await;
    left.extend(remains::different(fleet).await);
    left.extend(remains::new_accidents(fleet, &accidents, &plan.faults));
    book.mark(Mark::DrainEnded { complete });
    drop(crowd);
    let book = Arc::into_inner(book).expect("all clients have ended");
    let acknowledged = book.acknowledged();
    let history = book.finish().expect("the history can be written");
    let Judged { verdict, mut report, history, .. } = judge(history).await;
    let judged =
        Judged { verdict, report: String::new(), history, acknowledged, unclear, left, more };
    if !judged.is_good() {
        report.push_str(&evidence(fleet, &judged));
        report.push_str(&format!("again: {}\n", plan.replay(fleet.ids().len())));
    }
    Judged { report, ..judged }
}

/// Until there was work enough. Who wants so much says so when it was less.
async fn until_acknowledged(book: &Book, acknowledged_min: u64) {
    let begin = Instant::now();
    while book.acknowledged().iter().sum::<u64>() < acknowledged_min
        && begin.elapsed() < LOAD_GOES_ON_MAX
    {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Takes everything out of all queues; whether all is empty then.
async fn drain(fleet: &mut Fleet, crowd: &mut Crowd) -> bool {
    let mut drained = std::pin::pin!(crowd.drain());
    loop {
        // Damage that nobody has read until now ends a node now.
        tokio::select! {
            complete = &mut drained => return complete,
            () = tokio::time::sleep(SUPERVISED) => fleet.revive(),
        }
    }
}

/// One after the other; what is not known of some.
async fn make_faults(
    fleet: &mut Fleet,
    plan: &Plan,
    book: &Book,
    crowd: &mut Crowd,
) -> Vec<String> {
    let dice = StdRng::seed_from_u64(plan.seed);
    let turn = plan.seed as usize % fleet.ids().len();
    let (hold, requests_min) = (plan.hold, REQUESTS_MIN);
    let mut nemesis = Nemesis {
        book,
        fleet,
        crowd,
        dice,
        hold,
        requests_min,
        turn,
        moves: 0,
        mixtures: turn,
        has_fired: false,
    };
    let mut unclear = Vec::new();
    for (number, kind) in nemesis.shuffled(&plan.faults, plan.times).into_iter().enumerate() {
        match number % FAULTS_IN_A_ROW {
            0 if number > 0 => nemesis.long_calm().await,
            _ => nemesis.calm().await,
        }
        if let Struck::Indeterminate(why) = nemesis.strike(kind).await {
            unclear.push(format!("{kind}: {why}"));
        }
    }
    nemesis.long_calm().await;
    unclear
}

fn options(plan: &Plan, shards: usize) -> Options {
    let later = |(invariant, after): &(Invariant, Duration)| (*invariant, after.as_micros() as u64);
    // Containers have the limits of their configuration files.
    let limited = plan.ground != Ground::Compose;
    let examined = |it: &Invariant| limited || *it != Invariant::S19;
    let expect = Expect {
        invariants: EXAMINED.into_iter().filter(examined).collect(),
        later: EXAMINED_LATER.iter().map(later).collect(),
        sends_min: 1_000,
        deliveries_min: 1_000,
        faults: plan.faults.iter().map(|kind| kind.name().to_owned()).collect(),
        fault_times_min: plan.times.max(3),
        fault_requests_min: REQUESTS_MIN,
        no_drain: false,
    };
    let promises = corners::promises(shards, limited.then_some(IN_FLIGHT_MAX));
    let bounds = Bounds {
        // Each shard's leader counts what it has at that moment.
        counts_us: 0,
        ..Bounds::default()
    };
    Options { bounds, promises, expect }
}

async fn ended(clients: &mut JoinSet<()>) {
    while let Some(client) = clients.join_next().await {
        client.expect("clients do not fail by themselves");
    }
}

async fn judge(history: PathBuf) -> Judged {
    let path = history.clone();
    let checked = tokio::task::spawn_blocking(move || check_file(&path)).await;
    let Checked { verdict, report, .. } = checked
        .expect("the checker does not fail by itself")
        .expect("what was just written can be read");
    let (unclear, left, more) = (Vec::new(), Vec::new(), More::default());
    Judged { verdict, report, history, acknowledged: Default::default(), unclear, left, more }
}

/// Keeps the nodes' logs; says what is wrong beside the findings, and where everything is.
fn evidence(fleet: &Fleet, judged: &Judged) -> String {
    let Judged { history, unclear, left, .. } = judged;
    let mut text = String::new();
    for line in unclear.iter().chain(left) {
        text.push_str(&format!("\n{line}\n"));
    }
    text.push_str(&format!("\nhistory: {} (flotilla-check judges it again)\n", history.display()));
    let timeline = beside(history, ".timeline.html");
    if timeline.exists() {
        text.push_str(&format!("timeline: {}\n", timeline.display()));
    }
    for id in fleet.ids() {
        let log = history.with_extension(format!("node-{id}.log"));
        if std::fs::write(&log, fleet.log(id)).is_ok() {
            text.push_str(&format!("log of node {id}: {}\n", log.display()));
        }
    }
    text
}

fn beside(history: &Path, ending: &str) -> PathBuf {
    let mut path = history.to_owned().into_os_string();
    path.push(ending);
    path.into()
}
