//! Runs chaos for as long as it is told; `scripts/chaos` says how. Each run has queues of its own on
//! the same cluster; after each the totals so far are printed. Exit code 1 when a run was bad, whose
//! evidence is kept.
//!
//! Environment: `FLOTILLA_CHAOS_MINUTES` (10), `_FAULTS` (all, by names with commas between), `_SEED`
//! (any), `_DIR` (where evidence is kept).

#![allow(clippy::print_stdout, reason = "this is what it is for")]

use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;
use std::time::{Duration, Instant};

use flotilla_tests::chaos::{FaultKind, Plan, Totals, run};
use flotilla_tests::{Fleet, Settings};

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

async fn run_all() -> Result<Totals, String> {
    let minutes: u64 = number("MINUTES", 10)?;
    let mut seed: u64 = number("SEED", rand::random_range(0..u64::from(u32::MAX)))?;
    let faults = match setting("FAULTS") {
        Some(names) => names.split(',').map(str::parse).collect::<Result<_, String>>()?,
        None => FaultKind::ALL.to_vec(),
    };
    let dir =
        setting("DIR").map_or_else(|| std::env::temp_dir().join("flotilla-chaos"), PathBuf::from);
    let begin = Instant::now();
    let settings = Settings { links: true, ..Settings::default() };
    let mut fleet = Fleet::start_with(3, &settings).await;
    let mut totals = Totals::default();
    while totals.runs == 0 || begin.elapsed() < Duration::from_secs(60 * minutes) {
        let plan =
            Plan { seed, faults: faults.clone(), times: TIMES, hold: HOLD, dir: dir.clone() };
        let judged = run(&mut fleet, &plan).await;
        totals.add(&judged.verdict);
        if judged.is_good() {
            judged.forget();
        } else {
            println!("{}", judged.report);
        }
        println!("{:>5} s, seed {seed}: {totals}", begin.elapsed().as_secs());
        seed += 1;
    }
    Ok(totals)
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    match run_all().await {
        Ok(totals) if totals.bad == 0 => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            println!("{error}");
            ExitCode::from(2)
        }
    }
}
