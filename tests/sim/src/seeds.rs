//! Seeds in processes of their own, and what they say together.

use std::io::{BufRead as _, BufReader};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::run::Outcome;

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
    seed: u64,
    /// How many.
    #[arg(long, default_value_t = 100)]
    seeds: u64,
    /// No seed begins later than this.
    #[arg(long)]
    minutes: Option<u64>,
    /// Processes at a time.
    #[arg(long, default_value_t = 2)]
    jobs: usize,
}

/// Says what became of a seed: to people and, in one line, to the process that started this one.
pub(crate) fn tell(outcome: &Outcome, keep: bool) -> anyhow::Result<()> {
    print!("{outcome}");
    let coverage = outcome.verdict().map(|verdict| &verdict.coverage);
    let hash = match outcome.verdict() {
        Some(_) => format!("{:016x}", hash(&std::fs::read(&outcome.history)?)),
        None => String::new(),
    };
    let summary = json!({
        "seed": outcome.knobs.seed,
        "good": outcome.is_good(),
        "simulated_ms": outcome.simulated.as_millis() as u64,
        "real_ms": outcome.real.as_millis() as u64,
        "compared": outcome.compared,
        "audited": outcome.audited,
        "records": coverage.map_or(0, |it| it.records),
        "sends": coverage.map_or(0, |it| it.sends),
        "deliveries": coverage.map_or(0, |it| it.deliveries),
        "faults": coverage.map_or(0, |it| it.faults),
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

fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// What one process said.
struct Said {
    seed: u64,
    good: bool,
    text: String,
    summary: Value,
}

fn run_one(seed: u64, dir: &Path) -> anyhow::Result<Said> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("--dir").arg(dir).arg("one").arg(seed.to_string());
    // Many lines for one panic in a task; who repeats a seed may ask for them.
    command.env("RUST_BACKTRACE", "0");
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
        let hangs = status.signal() == Some(libc::SIGALRM);
        text += &format!("{status}{}\n", if hangs { ": it hangs" } else { "" });
    }
    Ok(Said { seed, good: status.success(), text, summary })
}

#[derive(Default)]
struct Totals {
    runs: u64,
    bad: Vec<u64>,
    simulated_ms: u64,
    real_ms: u64,
    sends: u64,
    records: u64,
    faults: u64,
    compared: u64,
    audited: u64,
}

impl Totals {
    fn add(&mut self, said: &Said) {
        self.runs += 1;
        if !said.good {
            self.bad.push(said.seed);
        }
        let number = |name: &str| said.summary[name].as_u64().unwrap_or(0);
        self.simulated_ms += number("simulated_ms");
        self.real_ms += number("real_ms");
        self.sends += number("sends");
        self.records += number("records");
        self.faults += number("faults");
        self.compared += number("compared");
        self.audited += number("audited");
    }

    fn print(&self, began: Instant) {
        let hours = self.simulated_ms as f64 / 3_600_000.0;
        let core_hours = self.real_ms as f64 / 3_600_000.0;
        println!(
            "{} seeds ({} bad) in {:.0} s: {:.2} cluster-hours ({:.1} in a core-hour), {} requests, \
             {} messages acknowledged, {} faults, {} equal states, {} entries durable",
            self.runs,
            self.bad.len(),
            began.elapsed().as_secs_f64(),
            hours,
            hours / core_hours.max(f64::MIN_POSITIVE),
            self.records,
            self.sends,
            self.faults,
            self.compared,
            self.audited,
        );
    }
}

/// Runs seeds until enough, late enough, or for ever if neither was said.
pub(crate) fn many(args: &Args, dir: &Path) -> anyhow::Result<ExitCode> {
    let began = Instant::now();
    let next = AtomicU64::new(args.seed);
    let totals = Mutex::new(Totals::default());
    let failed = AtomicBool::new(false);
    let limit = args.minutes.map(|minutes| Duration::from_secs(60 * minutes));
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            let enough = seed >= args.seed.saturating_add(args.seeds);
            if enough || limit.is_some_and(|limit| began.elapsed() > limit) {
                return;
            }
            let said = match run_one(seed, dir) {
                Ok(said) => said,
                Err(error) => {
                    println!("seed {seed}: {error}");
                    failed.store(true, Ordering::Relaxed);
                    return;
                }
            };
            let mut totals = totals.lock();
            totals.add(&said);
            if !said.good {
                println!("{}", said.text);
                println!("replay: scripts/sim --seed {seed} --seeds 1");
            }
            if !said.good || totals.runs.is_multiple_of(TOTAL_EVERY) {
                totals.print(began);
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..args.jobs.max(1) {
            scope.spawn(work);
        }
    });
    let totals = totals.into_inner();
    totals.print(began);
    if !totals.bad.is_empty() {
        println!("bad seeds: {:?}", totals.bad);
    }
    let good = totals.bad.is_empty() && totals.runs > 0 && !failed.into_inner();
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::from(BAD) })
}

/// Runs each seed twice; what it says and its history must not differ.
pub(crate) fn twice(args: &Args, dir: &Path) -> anyhow::Result<ExitCode> {
    let dirs: [PathBuf; 2] = ["first", "second"].map(|name| dir.join(name));
    let mut differ = 0;
    for seed in args.seed..args.seed.saturating_add(args.seeds) {
        let [first, second] = std::thread::scope(|scope| {
            let both = [&dirs[0], &dirs[1]].map(|dir| scope.spawn(move || run_one(seed, dir)));
            both.map(|run| run.join())
        });
        let told = |said: std::thread::Result<anyhow::Result<Said>>| -> anyhow::Result<_> {
            let mut said = said.map_err(|_| anyhow::anyhow!("a run of seed {seed} panicked"))??;
            // How fast it was is no part of it.
            said.summary["real_ms"] = Value::Null;
            Ok(said)
        };
        let (first, second) = (told(first)?, told(second)?);
        if first.summary != second.summary || first.summary["history"] == "" {
            differ += 1;
            println!("seed {seed} differs:\n{}\n{}", first.summary, second.summary);
        } else {
            println!("seed {seed}: twice the same {} records", first.summary["records"]);
        }
    }
    Ok(if differ == 0 { ExitCode::SUCCESS } else { ExitCode::from(BAD) })
}
