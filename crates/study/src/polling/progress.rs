//! How far the study is, and how long it still takes.

use std::io::{self, IsTerminal as _, Write as _};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Of a terminal that is not asked.
const LINE_CHARS: usize = 78;

/// What is to be done, in order: each name, and how long that took elsewhere.
pub(super) type Plan = Vec<(&'static str, Duration)>;

/// One line on standard error, if a person may read it; else a line for each experiment.
#[derive(Debug)]
pub(super) struct Progress {
    live: bool,
    begin: Instant,
    now: Now,
    /// Where the experiment is.
    what: Mutex<String>,
}

/// The experiment that runs.
#[derive(Debug, Default)]
struct Now {
    bar: String,
    name: &'static str,
    /// What all before it took, and what they and what is not done yet took elsewhere.
    took: Duration,
    before: Duration,
    this: Duration,
    after: Duration,
}

impl Now {
    fn of(plan: &Plan, index: usize, took: Duration) -> Self {
        let bar = (0..plan.len()).map(|i| if i <= index { '#' } else { '.' }).collect();
        let sum = |plan: &[(&str, Duration)]| plan.iter().map(|(_, expected)| *expected).sum();
        let (name, this) = plan[index];
        let (before, after) = (sum(&plan[..index]), sum(&plan[index + 1..]));
        Self { bar, name, took, before, this, after }
    }

    /// What is left, at the pace so far. `elapsed` since all began.
    fn left(&self, elapsed: Duration) -> Duration {
        let pace = match self.before.is_zero() {
            true => 1.0,
            false => self.took.as_secs_f64() / self.before.as_secs_f64(),
        };
        let rest = self.this.mul_f64(pace).saturating_sub(elapsed.saturating_sub(self.took));
        rest + self.after.mul_f64(pace)
    }
}

/// In the unit of which a person would speak.
fn about(left: Duration) -> String {
    match left.as_secs() {
        seconds @ 0..90 => format!("{seconds} s"),
        seconds => format!("{} min", (seconds + 30) / 60),
    }
}

impl Progress {
    pub(super) fn new() -> Self {
        let (live, begin) = (io::stderr().is_terminal(), Instant::now());
        Self { live, begin, now: Now::default(), what: Mutex::default() }
    }

    pub(super) fn begin(&mut self, plan: &Plan, index: usize) {
        let elapsed = self.begin.elapsed();
        self.now = Now::of(plan, index, elapsed);
        if self.live {
            self.tell("");
        } else {
            let Now { bar, name, .. } = &self.now;
            let left = about(self.now.left(elapsed));
            // Nothing is lost if nobody can read it.
            let _ = writeln!(
                io::stderr(),
                "[{bar}] {name} ({} s, about {left} left)",
                elapsed.as_secs()
            );
        }
    }

    pub(super) fn tell(&self, what: &str) {
        what.clone_into(&mut self.what.lock().unwrap_or_else(PoisonError::into_inner));
        self.refresh();
    }

    /// Time goes on while there is nothing new to say.
    pub(super) fn refresh(&self) {
        if !self.live {
            return;
        }
        let Now { bar, name, .. } = &self.now;
        let left = about(self.now.left(self.begin.elapsed()));
        let what = self.what.lock().unwrap_or_else(PoisonError::into_inner);
        let mut line = format!("[{bar}] {left} left, {name} {what}");
        line.truncate(line.char_indices().nth(LINE_CHARS).map_or(line.len(), |(at, _)| at));
        let _ = write!(io::stderr(), "\r{line:LINE_CHARS$}");
    }

    pub(super) fn clear(&self) {
        if self.live {
            let _ = writeln!(io::stderr(), "\r{:LINE_CHARS$}", "");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn what_is_left_follows_the_pace_so_far() {
        let plan = vec![("a", s(100)), ("b", s(50)), ("c", s(200))];
        let first = Now::of(&plan, 0, s(0));
        assert_eq!(first.left(s(10)), s(340));
        // Slower than expected: never less than what is certainly to come.
        assert_eq!(first.left(s(1_000)), s(250));
        // The first took twice as long as elsewhere; so will the others.
        let second = Now::of(&plan, 1, s(200));
        assert_eq!((second.left(s(200)), second.left(s(260))), (s(500), s(440)));
        let last = Now::of(&plan, 2, s(300));
        assert_eq!(
            (last.bar.as_str(), last.left(s(300)), last.left(s(900))),
            ("###", s(400), s(0))
        );
    }

    #[test]
    fn time_is_said_in_seconds_or_minutes() {
        assert_eq!([about(s(12)), about(s(89)), about(s(91))], ["12 s", "89 s", "2 min"]);
        assert_eq!(about(s(2_700)), "45 min");
    }
}
