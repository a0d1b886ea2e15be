//! Crashes a node at each failpoint under chaos' clients, and lets steps of others fail, be slow and stand
//! still; `scripts/failpoints` says how. Exit code 1 when the run was bad or a point was not reached.
//!
//! Arguments: names of points, or `--rotate N` for N of them. Environment: `FLOTILLA_PROBES_SEEN` (where
//! the nodes note what they reach), `FLOTILLA_CHAOS_SEED`, `FLOTILLA_CHAOS_DIR`.

#![allow(clippy::print_stdout, reason = "this is what it is for")]

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use flotilla_probe::point::Stage;
use flotilla_probe::{Point, Sight};
use flotilla_tests::Fleet;
use flotilla_tests::chaos::{Deed, FaultKind, Ground, Plan, Totals, found, run};
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;

/// How long a crashed node stays away at least.
const HOLD: Duration = Duration::from_millis(500);
/// Of crashes in a run: a shorter one does not come to everything that is judged.
const TIMES_MIN: usize = 8;
/// Small enough that logs are cut and segments change all the time.
const LINES: &str = "[storage]\nlog_segment_bytes = 8388608\nlog_cut_after_bytes = 65536\n\
                     log_keep_entries = 20\n";

/// Steps that do each of the other things, in a run of all crashes and in one of some.
const DEEDS_OF_ALL: usize = 8;
const DEEDS_OF_SOME: usize = 2;

fn setting(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn chosen(arguments: &[String], seed: u64) -> Result<Vec<Point>, String> {
    match arguments.first().map(String::as_str) {
        None => Ok(Point::ALL.to_vec()),
        Some("--rotate") => {
            let count = arguments.get(1).and_then(|count| count.parse().ok());
            let mut all = Point::ALL.to_vec();
            all.shuffle(&mut StdRng::seed_from_u64(seed));
            all.truncate(count.ok_or("--rotate wants a number")?);
            Ok(all)
        }
        Some(_) => {
            let named = |name: &String| Point::named(name).ok_or(format!("no failpoint: {name}"));
            arguments.iter().map(named).collect()
        }
    }
}

/// Steps that shall fail, be slow and stand still: such as nodes come to under load.
fn deeds(count: usize, seed: u64) -> Vec<FaultKind> {
    let dice = &mut StdRng::seed_from_u64(!seed);
    let under_load = |point: &Point| point.stage() == Stage::Load;
    let mut faults = Vec::new();
    for deed in Deed::ALL {
        let can = |point: &Point| deed != Deed::Fail || point.can_fail();
        let mut points: Vec<Point> =
            Point::ALL.iter().copied().filter(under_load).filter(can).collect();
        points.shuffle(dice);
        faults.extend(points.into_iter().take(count).map(|point| FaultKind::Probe(point, deed)));
    }
    faults
}

/// What the crashes at all failpoints must come to, and did not.
fn unseen(seen: &BTreeSet<&str>) -> Vec<Sight> {
    let here = Sight::ALL.iter().copied().filter(|sight| sight.is_crashed_into());
    here.filter(|sight| !seen.contains(sight.name())).collect()
}

async fn crash_all(arguments: &[String], seed: u64) -> Result<bool, String> {
    let points = &chosen(arguments, seed)?[..];
    let deeds = &match arguments.first().map(String::as_str) {
        None => deeds(DEEDS_OF_ALL, seed),
        Some("--rotate") => deeds(DEEDS_OF_SOME, seed),
        Some(_) => Vec::new(),
    }[..];
    let seen = PathBuf::from(setting("FLOTILLA_PROBES_SEEN").ok_or("FLOTILLA_PROBES_SEEN?")?);
    let dir = setting("FLOTILLA_CHAOS_DIR")
        .map_or_else(|| std::env::temp_dir().join("flotilla-chaos"), PathBuf::from);
    let begin = Instant::now();
    let mut settings = FaultKind::settings(&[], Ground::Loopback);
    settings.lines.push_str(LINES);
    let mut fleet = Fleet::start_with(3, &settings).await;
    let founds = |point: &Point| matches!(point.stage(), Stage::Formation | Stage::Founder);
    let (at_first, later): (Vec<_>, Vec<_>) = points.iter().copied().partition(founds);
    for point in &at_first {
        found(&mut fleet, *point).await;
        println!("{:>5} s, formed with a crash at {}", begin.elapsed().as_secs(), point.name());
    }
    // Without load nothing of what follows would happen.
    let mut faults: Vec<_> = later.into_iter().map(FaultKind::Crash).collect();
    // A fault that came less often proves nothing.
    let times = TIMES_MIN.div_ceil(faults.len().max(1)) as u64;
    faults.extend(deeds);
    for fault in deeds {
        println!("also: {fault:?}");
    }
    let (ground, dense) = (Ground::Loopback, 0);
    let acknowledged_min = 0;
    let again =
        Some(format!("FLOTILLA_CHAOS_SEED={seed} scripts/failpoints {}", arguments.join(" ")));
    let plan =
        Plan { seed, faults, ground, times, hold: HOLD, dense, acknowledged_min, dir, again };
    let judged = run(&mut fleet, &plan).await;
    let mut totals = Totals::default();
    totals.add(&judged.verdict);
    if judged.is_good() {
        judged.forget();
    } else {
        println!("{}", judged.report);
    }
    println!("{:>5} s, seed {seed}: {totals}", begin.elapsed().as_secs());
    let seen = std::fs::read_to_string(&seen).map_err(|error| error.to_string())?;
    let seen: BTreeSet<&str> = seen.lines().collect();
    let missing: Vec<_> = points.iter().filter(|point| !seen.contains(point.name())).collect();
    println!("{} of {} failpoints reached", points.len() - missing.len(), points.len());
    for point in &missing {
        println!("never reached: {}", point.name());
    }
    // A few crashes need not come to everything.
    let all = points.len() == Point::ALL.len();
    let unseen = if all { unseen(&seen) } else { Vec::new() };
    for sight in &unseen {
        println!("not seen: {}", sight.name());
    }
    let is_whole = missing.is_empty() && unseen.is_empty();
    if judged.is_good() && !is_whole {
        println!("again: {}", plan.replay(3));
    }
    Ok(judged.is_good() && is_whole)
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let seed = setting("FLOTILLA_CHAOS_SEED").and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| rand::random_range(0..u64::from(u32::MAX)));
    match crash_all(&arguments, seed).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            println!("{error}");
            ExitCode::from(2)
        }
    }
}
