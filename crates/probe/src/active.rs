//! Test builds: what is planted, what points do, and what was reached.

use std::fs::File;
use std::io::{self, Write as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime};

use crate::action::{Action, When, parse};
use crate::{Plant, Point, Sight};

/// How soon a paused point notices that it was told something else.
const LOOK_AGAIN: Duration = Duration::from_millis(10);
/// Of a program that was asked for something unknown.
const USAGE: i32 = 2;

/// See [`decide_with`].
pub type Decide = Box<dyn Fn(Point) -> io::Result<()> + Send + Sync>;

static DECIDE: OnceLock<Decide> = OnceLock::new();
static POINTS: [AtomicU64; Point::ALL.len()] = [const { AtomicU64::new(0) }; Point::ALL.len()];
static SIGHTS: [AtomicU64; Sight::ALL.len()] = [const { AtomicU64::new(0) }; Sight::ALL.len()];

/// What one point is told.
#[derive(Clone, Copy)]
struct Told {
    action: Action,
    when: When,
    /// Times since then.
    times: u64,
    /// It was said that it is done.
    is_said: bool,
}

struct Active {
    plant: Option<Plant>,
    seen: Option<Mutex<File>>,
    told: Mutex<[Option<Told>; Point::ALL.len()]>,
}

fn active() -> &'static Active {
    static ACTIVE: OnceLock<Active> = OnceLock::new();
    ACTIVE.get_or_init(|| Active::from_environment().unwrap_or_else(|error| refuse(&error)))
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn say(text: &str) {
    // Where nobody listens nothing is to be done about it.
    let _ = writeln!(io::stderr(), "probes: {text}");
}

fn refuse(error: &str) -> ! {
    say(error);
    std::process::exit(USAGE)
}

impl Active {
    fn from_environment() -> Result<Self, String> {
        let plant = variable("FLOTILLA_PLANTED")
            .map(|name| Plant::named(&name).ok_or_else(|| format!("no bug is called {name}")))
            .transpose()?;
        let seen = variable("FLOTILLA_PROBES_SEEN")
            .map(|path| {
                let file = File::options().create(true).append(true).open(&path);
                file.map(Mutex::new).map_err(|error| format!("{path}: {error}"))
            })
            .transpose()?;
        let active = Self { plant, seen, told: Mutex::new([None; Point::ALL.len()]) };
        active.tell(&variable("FLOTILLA_FAILPOINTS").unwrap_or_default())?;
        if let Some(plant) = plant {
            say(&format!("planted: {}", plant.name()));
        }
        Ok(active)
    }

    fn tell(&self, orders: &str) -> Result<(), String> {
        let orders = parse(orders)?;
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        for (point, what) in orders {
            told[point as usize] = what.map(|(action, when)| {
                let (times, is_said) = (0, false);
                Told { action, when, times, is_said }
            });
        }
        Ok(())
    }

    /// One write per line: it is whole, whoever else writes to the file, and out before a crash.
    fn note(&self, name: &str) {
        if let Some(seen) = &self.seen {
            let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            if let Err(error) = seen.write_all(format!("{name}\n").as_bytes()) {
                refuse(&format!("what was seen cannot be noted: {error}"));
            }
        }
    }

    /// What is to be done now; says so the first time after it was ordered, which is how others know that it
    /// was.
    fn due(&self, point: Point) -> Option<Action> {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let now = told[point as usize].as_mut()?;
        now.times += 1;
        let due = match now.when {
            When::Always => true,
            When::Chance(chance) => draw() < chance,
            When::Nth(nth) => now.times == nth,
        };
        if !due {
            return None;
        }
        let (action, is_said) = (now.action, std::mem::replace(&mut now.is_said, true));
        drop(told);
        if !is_said {
            say(&format!("failpoint {}: {}", point.name(), action.name()));
        }
        Some(action)
    }

    fn is_paused(&self, point: Point) -> bool {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told[point as usize].is_some_and(|told| told.action == Action::Pause)
    }
}

/// Good enough for chances: the clock's nanoseconds, spread.
fn draw() -> f64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let spread = (now.as_nanos() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (spread >> 11) as f64 / (1u64 << 53) as f64
}

/// Reads what is asked for; ends the program when that is not known.
pub fn begin() {
    active();
}

/// For [`crate::planted!`].
pub fn is_planted(plant: Plant) -> bool {
    active().plant == Some(plant)
}

/// For [`crate::failpoint!`].
pub fn reach(point: Point) {
    // A point that cannot fail is never told to.
    let _ = may_fail(point);
}

/// For [`crate::failable!`].
///
/// # Errors
/// When it was told to.
pub fn may_fail(point: Point) -> io::Result<()> {
    let active = active();
    if POINTS[point as usize].fetch_add(1, Ordering::Relaxed) == 0 {
        active.note(point.name());
    }
    if let Some(decide) = DECIDE.get() {
        return decide(point);
    }
    match active.due(point) {
        None => Ok(()),
        Some(Action::Crash) => std::process::abort(),
        Some(Action::Error) => Err(io::Error::other(format!("failpoint {}", point.name()))),
        Some(Action::Delay(time)) => {
            thread::sleep(time);
            Ok(())
        }
        Some(Action::Pause) => {
            while active.is_paused(point) {
                thread::sleep(LOOK_AGAIN);
            }
            Ok(())
        }
    }
}

/// From now on this decides what happens at every point, and orders do not: for a simulator, in whose
/// process there are many nodes, so that a node's end is not the end of the process. Once.
pub fn decide_with(decide: Decide) {
    // The first one stays.
    let _ = DECIDE.set(decide);
}

/// For [`crate::sometimes!`].
pub fn saw(sight: Sight) {
    if SIGHTS[sight as usize].fetch_add(1, Ordering::Relaxed) == 0 {
        active().note(sight.name());
    }
}

/// What was reached, as JSON: the planted bug, how often each point and each sight.
pub fn report() -> String {
    fn counts(all: impl Iterator<Item = (&'static str, u64)>) -> String {
        let all: Vec<String> = all.map(|(name, count)| format!("\"{name}\":{count}")).collect();
        format!("{{{}}}", all.join(","))
    }
    let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let points = Point::ALL.iter().map(|point| (point.name(), of(&POINTS[*point as usize])));
    let sights = Sight::ALL.iter().map(|sight| (sight.name(), of(&SIGHTS[*sight as usize])));
    let plant = active().plant.map_or("null".into(), |plant| format!("\"{}\"", plant.name()));
    format!("{{\"planted\":{plant},\"points\":{},\"sights\":{}}}\n", counts(points), counts(sights))
}

/// Changes what failpoints do; see the crate.
///
/// # Errors
/// When it is not understood; nothing is changed then.
pub fn set(orders: &str) -> Result<(), String> {
    active().tell(orders)
}
