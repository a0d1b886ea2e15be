//! Runs chaos for as long as it is told; `scripts/chaos` says how. Exit code 1 when a run was bad,
//! whose evidence is kept.
//!
//! Environment: `FLOTILLA_CHAOS_MINUTES` (10), `_FAULTS` (all, by names with commas between), `_SEED`
//! (any), `_NODES` (3; with `_FULL` 3 and 5), `_FULL` (each fault alone, once, instead of all together),
//! `_MEASURE` (`failover`, `gray` or `overload` instead), `_TIMES` (of a measurement), `_DIR` (where evidence is
//! kept).

#![allow(clippy::print_stdout, reason = "this is what it is for")]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;
use std::time::{Duration, Instant};

use flotilla_tests::chaos::{FaultKind, Ground, Judged, Matrix, Plan, Totals, run};
use flotilla_tests::{Fleet, measure};

/// How often each fault comes in a run.
const TIMES: u64 = 3;
const HOLD: Duration = Duration::from_secs(3);

fn setting(name: &str) -> Option<String> {
    std::env::var(format!("FLOTILLA_CHAOS_{name}")).ok().filter(|value| !value.is_empty())
}

fn number<T: FromStr>(name: &str, otherwise: T) -> Result<T, String> {
    let Some(value) = setting(name) else { return Ok(otherwise) };
    value.parse().map_err(|_| format!("FLOTILLA_CHAOS_{name} is no number: {value}"))
}

/// What was asked for, and what was found so far.
struct Chaos {
    minutes: u64,
    seed: u64,
    faults: Vec<FaultKind>,
    nodes: Vec<u64>,
    dir: PathBuf,
    begin: Instant,
    totals: Totals,
    matrix: Matrix,
}

impl Chaos {
    fn asked(full: bool) -> Result<Self, String> {
        let nodes = match setting("NODES") {
            None if full => vec![3, 5],
            _ => vec![number("NODES", 3)?],
        };
        if nodes.iter().any(|count| !matches!(count, 3 | 5)) {
            return Err("a cluster has 3 or 5 nodes".to_owned());
        }
        let faults = match setting("FAULTS") {
            Some(names) => names.split(',').map(str::parse).collect::<Result<_, String>>()?,
            None => FaultKind::ALL.to_vec(),
        };
        let dir = std::env::temp_dir().join("flotilla-chaos");
        Ok(Self {
            minutes: number("MINUTES", 10)?,
            seed: number("SEED", rand::random_range(0..u64::from(u32::MAX)))?,
            faults,
            nodes,
            dir: setting("DIR").map_or(dir, PathBuf::from),
            begin: Instant::now(),
            totals: Totals::default(),
            matrix: Matrix::default(),
        })
    }

    /// The faults that can be made with so many nodes; the others are noted.
    fn possible(&mut self, nodes: u64) -> Vec<FaultKind> {
        let (possible, skipped) = FaultKind::possible(&self.faults, nodes as usize);
        for (kind, why) in skipped {
            self.matrix.skip(&format!("{kind}, {nodes} nodes"), &why);
        }
        possible
    }

    /// Each fault alone, in a cluster of its own; then all that go together.
    async fn full(&mut self) {
        for nodes in self.nodes.clone() {
            for kind in self.possible(nodes) {
                self.fresh(&format!("{kind}, {nodes} nodes"), nodes, vec![kind]).await;
            }
            for (ground, name) in [(Ground::Loopback, "all"), (Ground::Machines, "all of machines")]
            {
                let mut together = self.possible(nodes);
                together.retain(|kind| kind.ground() == ground);
                if together.len() > 1 {
                    self.fresh(&format!("{name} in turn, {nodes} nodes"), nodes, together).await;
                }
            }
        }
    }

    /// All faults in turn, again and again on the same clusters.
    async fn again(&mut self) {
        let nodes = self.nodes[0];
        let mut grounds: BTreeMap<Ground, (Option<Fleet>, Vec<FaultKind>)> = BTreeMap::new();
        for kind in self.possible(nodes) {
            grounds.entry(kind.ground()).or_default().1.push(kind);
        }
        let mut times = 0;
        while times == 0 || self.begin.elapsed() < Duration::from_secs(60 * self.minutes) {
            times += 1;
            for (fleet, faults) in grounds.values_mut() {
                let mut used = match fleet.take() {
                    Some(fleet) => fleet,
                    None => Fleet::start_with(nodes, &FaultKind::settings(faults)).await,
                };
                let names: Vec<&str> = faults.iter().map(|kind| kind.name()).collect();
                let plan = self.plan(faults.clone());
                let judged = run(&mut used, &plan).await;
                self.note(&names.join(", "), judged);
                *fleet = Some(used);
            }
        }
    }

    fn plan(&mut self, faults: Vec<FaultKind>) -> Plan {
        self.seed += 1;
        Plan { seed: self.seed - 1, faults, times: TIMES, hold: HOLD, dir: self.dir.clone() }
    }

    async fn fresh(&mut self, name: &str, nodes: u64, faults: Vec<FaultKind>) {
        let settings = FaultKind::settings(&faults);
        let plan = self.plan(faults);
        // What gives up takes only its own cluster with it.
        let judged = tokio::spawn(async move {
            let mut fleet = Fleet::start_with(nodes, &settings).await;
            run(&mut fleet, &plan).await
        });
        match judged.await {
            Ok(judged) => self.note(name, judged),
            Err(error) => self.matrix.broke(name, &error.to_string()),
        }
    }

    fn note(&mut self, name: &str, judged: Judged) {
        self.totals.add(&judged.verdict);
        self.matrix.add(name, &judged);
        if judged.is_good() {
            judged.forget();
        } else {
            println!("{}", judged.report);
        }
        let seed = self.seed - 1;
        println!("{:>5} s, seed {seed}, {name}: {}", self.begin.elapsed().as_secs(), self.totals);
    }
}

async fn run_all() -> Result<bool, String> {
    let times = number("TIMES", 50)?;
    let nodes = number("NODES", 3)?;
    if let Some(what) = setting("MEASURE") {
        let (good, text) = measure::measure(&what, nodes, times).await?;
        println!("{text}");
        return Ok(good);
    }
    let full = setting("FULL").is_some();
    let mut chaos = Chaos::asked(full)?;
    match full {
        true => chaos.full().await,
        false => chaos.again().await,
    }
    println!("\n{}", chaos.matrix);
    Ok(chaos.matrix.is_green())
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    match run_all().await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            println!("{error}");
            ExitCode::from(2)
        }
    }
}
