//! Seeds in processes of their own, one after the other.

use std::collections::HashSet;
use std::io::{BufRead as _, BufReader};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::probes;
use crate::record::Record;
use crate::run::Outcome;
use crate::totals::{Minimum, Totals};

/// Exit code of a seed that found something.
pub(crate) const BAD: u8 = 3;
/// Before the one line that is for this module.
const SUMMARY: &str = "summary ";
/// Between two totals.
const TOTAL_EVERY: u64 = 20;

/// Which seeds.
#[derive(clap::Args, Clone)]
pub(crate) struct Args {
    /// The first.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// How many.
    #[arg(long, default_value_t = 100)]
    pub(crate) seeds: u64,
    /// A file with a seed in each line, to be run before all others; what follows the number says why.
    #[arg(long)]
    also: Option<std::path::PathBuf>,
    /// No seed begins later than this.
    #[arg(long)]
    minutes: Option<u64>,
    /// Processes at a time.
    #[arg(long, default_value_t = 2)]
    jobs: usize,
    /// Ends with the first seed that finds something.
    #[arg(long)]
    until_bad: bool,
    /// Fails when fewer cluster-hours were simulated, rests not counted.
    #[arg(long)]
    hours_min: Option<f64>,
    /// Fails when a rule, a kind of fault or a state that must be reached was not seen in any seed.
    #[arg(long)]
    everything: bool,
    /// A file in which each seed is written down when it has ended: those that are in it count and do not run again.
    #[arg(long, requires = "commit")]
    record: Option<std::path::PathBuf>,
    /// Of what is simulated: a record is of one only.
    #[arg(long)]
    commit: Option<String>,
}

/// Says what became of a seed: to people and, in one line, to the process that started this one.
pub(crate) fn tell(outcome: &Outcome, keep: bool) -> anyhow::Result<()> {
    print!("{outcome}");
    let verdict = outcome.verdict();
    let coverage = verdict.map(|verdict| &verdict.coverage);
    let hash = match verdict {
        Some(_) => format!("{:016x}", hash(&std::fs::read(&outcome.history)?)),
        None => String::new(),
    };
    let examined: serde_json::Map<String, Value> = verdict
        .into_iter()
        .flat_map(|verdict| &verdict.tallies)
        .map(|tally| (tally.invariant.id().to_owned(), json!(tally.examined)))
        .collect();
    let faults: serde_json::Map<String, Value> = outcome
        .times
        .iter()
        .map(|(kind, times)| (kind.name().to_owned(), json!([times.asked, times.fired])))
        .collect();
    let summary = json!({
        "seed": outcome.knobs.seed,
        "good": outcome.is_good(),
        "simulated_ms": outcome.simulated.as_millis() as u64,
        "rested_ms": outcome.rested.as_millis() as u64,
        "real_ms": outcome.real.as_millis() as u64,
        "applied": outcome.looked.applied,
        "compared": outcome.looked.compared,
        "durable": outcome.looked.durable,
        "stream": format!("{:016x}", outcome.looked.stream),
        "audited": outcome.audited,
        "checks": outcome.checks,
        "records": coverage.map_or(0, |it| it.records),
        "sends": coverage.map_or(0, |it| it.sends),
        "deliveries": coverage.map_or(0, |it| it.deliveries),
        "faults": faults,
        "examined": examined,
        "probes": probes::report(),
        "history": hash,
        "broken": outcome.broken,
    });
    println!("{SUMMARY}{summary}");
    if outcome.is_good() && !keep {
        for ending in ["", ".verdict.json", ".timeline.html"] {
            let mut path = outcome.history.clone().into_os_string();
            path.push(ending);
            // What is not there need not go.
            let _ = std::fs::remove_file(path);
        }
    }
    Ok(())
}

pub(crate) fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// What one process said.
pub(crate) struct Said {
    pub(crate) seed: u64,
    pub(crate) good: bool,
    pub(crate) text: String,
    pub(crate) summary: Value,
}

/// Runs a seed in a process of its own; what it says goes into a file, if one is named.
pub(crate) fn run_one(seed: u64, dir: &Path, trace: Option<&Path>) -> anyhow::Result<Said> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("--dir").arg(dir).arg("one").arg(seed.to_string());
    if let Some(trace) = trace {
        command.arg("--trace").arg(trace);
    }
    // Many lines for one panic in a task; who repeats a seed may ask for them.
    command.env("RUST_BACKTRACE", "0").env_remove("RUST_LOG");
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let (out, errors) = (child.stdout.take(), child.stderr.take());
    let errors = std::thread::spawn(move || {
        let lines = errors.into_iter().flat_map(|errors| BufReader::new(errors).lines());
        lines.map_while(Result::ok).collect::<Vec<_>>()
    });
    let (mut text, mut summary) = (String::new(), Value::Null);
    for line in out.into_iter().flat_map(|out| BufReader::new(out).lines()) {
        let line = line?;
        match line.strip_prefix(SUMMARY) {
            Some(found) => summary = serde_json::from_str(found)?,
            None => text += &format!("{line}\n"),
        }
    }
    let errors = errors.join().unwrap_or_default();
    let status = child.wait()?;
    if !status.success() {
        let last = errors.len().saturating_sub(30);
        text += &errors[last..].iter().map(|line| format!("{line}\n")).collect::<String>();
        let signal = status.signal();
        let hangs = [libc::SIGALRM, libc::SIGXCPU, libc::SIGKILL].map(Some).contains(&signal);
        text += &format!("{status}{}\n", if hangs { ": it hangs" } else { "" });
    }
    Ok(Said { seed, good: status.success(), text, summary })
}

/// Seeds of a file: the first word of each line.
fn listed(path: &Path) -> anyhow::Result<Vec<u64>> {
    let text = std::fs::read_to_string(path)?;
    let lines = text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#'));
    let number = |line: &str| line.split_whitespace().next().unwrap_or_default().parse();
    lines.map(|line| number(line).map_err(Into::into)).collect()
}

/// Runs seeds until enough, late enough, or for ever if neither was said.
pub(crate) fn many(args: &Args, dir: &Path) -> anyhow::Result<ExitCode> {
    let began = Instant::now();
    let mut seeds = args.also.as_deref().map(listed).transpose()?.unwrap_or_default();
    seeds.extend(args.seed..args.seed.saturating_add(args.seeds));
    let mut totals = Totals::default();
    let commit = args.commit.as_deref().unwrap_or_default();
    let record = args.record.as_deref().map(|path| Record::open(path, commit)).transpose()?;
    let record = record.map(|(record, before)| {
        let done: HashSet<u64> = before.iter().map(|said| said.seed).collect();
        seeds.retain(|seed| !done.contains(seed));
        before.iter().for_each(|said| totals.add(said));
        record
    });
    let next = AtomicU64::new(0);
    let totals = Mutex::new(totals);
    let stop = AtomicBool::new(false);
    let limit = args.minutes.map(|minutes| Duration::from_secs(60 * minutes));
    let work = || {
        loop {
            let Some(seed) = seeds.get(next.fetch_add(1, Ordering::Relaxed) as usize) else {
                return;
            };
            let late = limit.is_some_and(|limit| began.elapsed() > limit);
            if late || stop.load(Ordering::Relaxed) {
                return;
            }
            let said = run_one(*seed, dir, None).and_then(|said| {
                record.iter().try_for_each(|record| record.add(&said))?;
                Ok(said)
            });
            let said = match said {
                Ok(said) => said,
                Err(error) => {
                    println!("seed {seed}: {error}");
                    totals.lock().broke(*seed);
                    continue;
                }
            };
            let mut totals = totals.lock();
            totals.add(&said);
            if !said.good {
                println!("{}", said.text);
                println!("replay: scripts/sim --seed {seed} --seeds 1");
                stop.fetch_or(args.until_bad, Ordering::Relaxed);
            }
            if !said.good || totals.runs().is_multiple_of(TOTAL_EVERY) {
                totals.print(began.elapsed());
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..args.jobs.max(1) {
            scope.spawn(work);
        }
    });
    let totals = totals.into_inner();
    totals.print(began.elapsed());
    let minimum = Minimum { hours: args.hours_min.unwrap_or(0.0), everything: args.everything };
    let good = totals.conclude(&minimum);
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::from(BAD) })
}
