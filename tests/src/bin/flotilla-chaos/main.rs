//! Runs chaos for as long as it is told; `scripts/chaos` says how. Exit code 1 when a run was bad,
//! whose evidence is kept.
//!
//! Environment, each beginning with `FLOTILLA_CHAOS_`: `MINUTES` (10; with `FULL` no bound), `FAULTS` (all, by names with commas
//! between), `ON` (a ground for all of them), `SEED` (any), `NODES` (3; with `FULL` 3 and 5), `TIMES` (of
//! each fault in a run, 3; of a measurement, 50), `HOLD_MS` (3000), `DENSE` (more clients, 0), `FULL` (each
//! fault alone, then all together), `JOBS` (of `FULL` at a time, 1), `ALLOW_SKIPS` (a full run in which a
//! fault cannot be made is good), `SLICE` (three faults by the seed), `FLOOR` (fewer acknowledged
//! messages are bad), `MEASURE` (`failover`, `gray` or `overload` instead), `DIR` (where evidence is kept),
//! `RECORD` (a file in which `FULL` goes on), `COMMIT` (of the program, for that file).

#![allow(clippy::print_stdout, reason = "this is what it is for")]

mod board;
mod record;
mod settings;

use std::collections::{BTreeMap, VecDeque};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use flotilla_probe::skip;
use flotilla_tests::chaos::{FaultKind, Ground, Plan, run};
use flotilla_tests::{Fleet, measure};
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;

use board::{Board, alone};
use record::{Record, Row};
use settings::{Mode, Settings};

/// A run of its own.
struct Job {
    name: String,
    nodes: u64,
    plan: Plan,
}

/// What takes longer than a slice may.
const LONG: [FaultKind; 5] = [
    FaultKind::PauseLong,
    FaultKind::Overload,
    FaultKind::StallDisk,
    FaultKind::StayAway,
    FaultKind::Mix,
];
/// Faults of a slice.
const TAKEN: usize = 3;

/// Each fault alone, in a cluster of its own; then all that go together. What is recorded is not made again, and counts.
fn full(settings: &Settings, board: &mut Board, done: &[Row]) -> VecDeque<Job> {
    let mut jobs = VecDeque::new();
    for nodes in settings.nodes.clone() {
        let mut add = |board: &mut Board, name: &str, ground, faults: Vec<FaultKind>| {
            let mut plan = board.plan(settings, ground, faults);
            // Each mixture comes.
            if plan.faults == [FaultKind::Mix] {
                plan.times = plan.times.max(FaultKind::MIXTURES);
            }
            jobs.push_back(Job { name: name.to_owned(), nodes, plan });
        };
        for (ground, faults) in settings.wanted() {
            let possible = board.possible(&faults, nodes, ground);
            for kind in &possible {
                add(board, kind.name(), ground, vec![*kind]);
            }
            if possible.len() > 1 && matches!(ground, Ground::Loopback | Ground::Machines) {
                add(board, &format!("all of {ground} in turn"), ground, possible);
            }
        }
        if settings.faults.is_none() && settings.ground.is_none() {
            let apart: Vec<_> =
                FaultKind::ALL.iter().copied().filter(|kind| kind.goes_on(Ground::Apart)).collect();
            let possible = FaultKind::possible(&apart, nodes as usize, Ground::Apart);
            if let Some((_, why)) = possible.skipped.first() {
                board.matrix.skip(APART, nodes, why);
            } else {
                add(board, APART, Ground::Apart, possible.faults);
            }
        }
    }
    // All of them have had their seeds by now, whatever is done.
    for Job { name, nodes, .. } in &jobs {
        board.matrix.expect(name, *nodes);
    }
    for row in done {
        jobs.retain(|job| (&job.name, job.nodes) != (&row.name, row.nodes));
        board.recall(row);
    }
    jobs
}

const APART: &str = "network, kills and power cuts in turn, namespaces and disks of their own";

/// So many at a time, until the time is over.
async fn all(jobs: VecDeque<Job>, at_a_time: usize, board: Board) -> Board {
    let (jobs, board) = (Arc::new(Mutex::new(jobs)), Arc::new(Mutex::new(board)));
    let mut workers = tokio::task::JoinSet::new();
    for _ in 0..at_a_time {
        let (jobs, board) = (jobs.clone(), board.clone());
        workers.spawn(async move {
            while !board.lock().unwrap_or_else(PoisonError::into_inner).is_over() {
                let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                let Some(Job { name, nodes, plan }) = job else { return };
                let judged = alone(nodes, plan.clone()).await;
                let mut board = board.lock().unwrap_or_else(PoisonError::into_inner);
                match judged {
                    Ok(judged) => board.note(&name, nodes, &plan, &judged),
                    Err(why) => board.broke(&name, nodes, &plan, &why),
                }
            }
        });
    }
    while workers.join_next().await.is_some() {}
    let board = Arc::into_inner(board).expect("all workers have ended");
    board.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// All faults in turn, again and again on the same clusters.
async fn again(settings: &Settings, board: &mut Board) {
    let nodes = settings.nodes[0];
    let mut grounds: BTreeMap<Ground, (Option<Fleet>, Vec<FaultKind>)> = BTreeMap::new();
    for (ground, faults) in settings.wanted() {
        let possible = board.possible(&faults, nodes, ground);
        if !possible.is_empty() {
            grounds.insert(ground, (None, possible));
        }
    }
    let mut times = 0;
    while times == 0 || !board.is_over() {
        times += 1;
        for (ground, (fleet, faults)) in &mut grounds {
            let mut used = match fleet.take() {
                Some(fleet) => fleet,
                None => Fleet::start_with(nodes, &FaultKind::settings(faults, *ground)).await,
            };
            let plan = board.plan(settings, *ground, faults.clone());
            let judged = run(&mut used, &plan).await;
            let names: Vec<&str> = faults.iter().map(|kind| kind.name()).collect();
            board.note(&format!("{ground}: {}", names.join(", ")), nodes, &plan, &judged);
            *fleet = Some(used);
        }
    }
}

/// Three faults of one ground, others for each seed.
fn slice(settings: &Settings, board: &mut Board) -> VecDeque<Job> {
    let nodes = settings.nodes[0];
    let mut all: Vec<(Ground, FaultKind)> = Vec::new();
    for (ground, faults) in settings.wanted() {
        all.extend(faults.into_iter().filter(|kind| !LONG.contains(kind)).map(|it| (ground, it)));
    }
    all.shuffle(&mut StdRng::seed_from_u64(settings.seed));
    // A ground comes as often as it has faults.
    let Some((ground, _)) = all.first().copied() else { return VecDeque::new() };
    let makes_sense = |kind: &FaultKind| {
        FaultKind::possible(&[*kind], nodes as usize, ground).pointless.is_empty()
    };
    let of_ground = all.into_iter().filter(|it| it.0 == ground).map(|it| it.1);
    let taken: Vec<FaultKind> = of_ground.filter(makes_sense).take(TAKEN).collect();
    let possible = board.possible(&taken, nodes, ground);
    if possible.is_empty() {
        return VecDeque::new();
    }
    let names: Vec<&str> = possible.iter().map(|kind| kind.name()).collect();
    let plan = board.plan(settings, ground, possible.clone());
    let plan = Plan { acknowledged_min: settings.floor, ..plan };
    VecDeque::from([Job { name: names.join(", "), nodes, plan }])
}

async fn run_all(mut settings: Settings) -> Result<bool, String> {
    if let Mode::Measure(what) = &settings.mode {
        let (good, text) = measure::measure(what, settings.nodes[0], settings.kills).await?;
        println!("{text}");
        return Ok(good);
    }
    let (record, done) = match settings.record.clone() {
        Some(path) => {
            let (record, done) = Record::open(&path, &mut settings)?;
            (Some(record), done)
        }
        None => (None, Vec::new()),
    };
    let mut board = Board::new(&settings, record);
    let board = match &settings.mode {
        Mode::Full => {
            let jobs = full(&settings, &mut board, &done);
            all(jobs, settings.jobs.max(1), board).await
        }
        Mode::Slice => {
            let jobs = slice(&settings, &mut board);
            all(jobs, 1, board).await
        }
        Mode::Again | Mode::Measure(_) => {
            again(&settings, &mut board).await;
            board
        }
    };
    println!("\n{}", board.matrix);
    Ok(judge(&settings, &board))
}

/// Whether what was asked for was made, and broke nothing.
fn judge(settings: &Settings, board: &Board) -> bool {
    let skipped = board.matrix.skipped();
    let mut good = board.matrix.is_green();
    let is_slice = matches!(settings.mode, Mode::Slice);
    if is_slice {
        // Where everything has to be tested this ends the program.
        skipped.iter().for_each(|what| skip("faults", what));
    }
    let missing = board.matrix.missing();
    if missing > 0 {
        let how = if settings.record.is_some() { ": the same command goes on" } else { "" };
        println!("\n{missing} runs are missing{how}");
    }
    let all_must_be =
        matches!(settings.mode, Mode::Full) || (!is_slice && settings.faults.is_some());
    if all_must_be && !skipped.is_empty() && !settings.allow_skips {
        println!("\n{} faults were skipped (--allow-skips accepts that)", skipped.len());
        good = false;
    }
    if !is_slice && board.totals.runs == 0 {
        println!("\nnothing was broken");
        good = false;
    }
    let acknowledged = board.totals.acknowledged;
    if acknowledged < settings.floor && skipped.len() < TAKEN {
        println!("\nonly {acknowledged} messages were acknowledged, not {}", settings.floor);
        good = false;
    }
    good
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    let outcome = match Settings::read() {
        Ok(settings) => run_all(settings).await,
        Err(error) => Err(error),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            println!("{error}");
            ExitCode::from(2)
        }
    }
}
