//! What the crash tests share: a child process that uses the log hard and says what was
//! acknowledged, and the parent's record of what must be there afterwards.
//!
//! The child is this test binary again, started for one test of its own. It reports on its
//! standard output, one line per event: an acknowledgement after it came, a removal before it is
//! asked for.

use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;

use bytes::Bytes;
use flotilla_storage::log::{Engine, GroupLog, LogOptions};
use flotilla_types::ids::GroupId;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

const DIR: &str = "FLOTILLA_LOG_LOAD_DIR";
const ROUND: &str = "FLOTILLA_LOG_LOAD_ROUND";
const GROUPS: u32 = 4;
/// Appends of one group that wait for their acknowledgement.
const IN_FLIGHT: usize = 4;

fn options() -> LogOptions {
    LogOptions { segment_bytes: 256 << 10, segments_max: 5, cache_bytes: 64 << 10 }
}

/// An entry that tells where it belongs, of a size that follows from that.
fn entry(group: u32, index: u64, term: u64) -> Bytes {
    let text = format!("{group}/{index}/{term};");
    let bytes = (index.wrapping_mul(7919).wrapping_add(term * 31) % 3_000) as usize;
    text.bytes().cycle().take(bytes.max(text.len())).collect()
}

fn term_of(entry: &[u8]) -> Option<u64> {
    let text = entry.split(|byte| *byte == b';').next()?;
    std::str::from_utf8(text).ok()?.rsplit('/').next()?.parse().ok()
}

fn say(line: String) {
    // Written at once and as a whole: the process may be gone after the next instruction.
    let line = line + "\n";
    std::io::stdout().lock().write_all(line.as_bytes()).expect("the parent listens");
    std::io::stdout().lock().flush().expect("the parent listens");
}

/// Body of the child's test; does nothing when run as an ordinary test.
pub(crate) fn child() {
    let (Ok(dir), Ok(round)) = (std::env::var(DIR), std::env::var(ROUND)) else {
        return;
    };
    let round: u64 = round.parse().expect("a number");
    let on_fatal = Box::new(|_: &std::io::Error| std::process::exit(3));
    let (engine, damage) = Engine::open(Path::new(&dir), options(), on_fatal).expect("opens");
    assert_eq!(damage, []);
    // Ends the line that the test harness has begun.
    say(String::new());
    std::thread::scope(|scope| {
        for group in 0..GROUPS {
            let log = engine.group(GroupId(group));
            scope.spawn(move || use_group(&log, group, round));
        }
    });
}

/// Never ends by itself. Group 0 purges seldom, so that its entries are carried forward.
fn use_group(log: &GroupLog, group: u32, round: u64) {
    let mut random = StdRng::seed_from_u64(round << 8 | u64::from(group));
    let mut term = round * 1_000_000;
    let mut waiting: VecDeque<mpsc::Receiver<()>> = VecDeque::new();
    loop {
        let state = log.state();
        match random.random_range(0..100) {
            0..2 => {
                term += 1;
                let (sender, receiver) = mpsc::channel();
                log.save_vote(
                    Bytes::from(term.to_string()),
                    Box::new(move |result| {
                        if result.is_ok() {
                            say(format!("vote {group} {term}"));
                        }
                        drop(sender);
                    }),
                );
                waiting.push_back(receiver);
            }
            2..4 => {
                for wait in waiting.drain(..) {
                    // Ends with an error when the callback is through: nothing is sent.
                    let _ = wait.recv();
                }
                let index = state.next.saturating_sub(random.random_range(0..5)).max(state.first);
                term += 1;
                say(format!("truncate {group} {index}"));
                log.truncate_from(index);
            }
            4..8 if group != 0 || state.next - state.first > 300 => {
                let index = state.next.saturating_sub(random.random_range(0..20));
                say(format!("purge {group} {index}"));
                log.purge_to(index, Bytes::from(index.to_string()));
            }
            8..20 => log.save_committed(Bytes::from(state.next.to_string())),
            _ => {
                let count = random.random_range(1..5);
                let entries = (state.next..state.next + count).map(|i| entry(group, i, term));
                let (sender, receiver) = mpsc::channel();
                let first = state.next;
                log.append(
                    first,
                    entries.collect(),
                    Box::new(move |result| {
                        if result.is_ok() {
                            say(format!("append {group} {first} {count} {term}"));
                        }
                        drop(sender);
                    }),
                );
                waiting.push_back(receiver);
            }
        }
        while waiting.len() > IN_FLIGHT {
            let _ = waiting.pop_front().map(|wait| wait.recv());
        }
    }
}

/// A child that runs, and what it has said.
pub(crate) struct Running {
    pub(crate) child: Child,
    lines: std::thread::JoinHandle<Vec<String>>,
}

/// Starts the child's test and waits until it is at work.
pub(crate) fn start(test: &str, dir: &Path, round: u64) -> Running {
    let mut child = Command::new(std::env::current_exe().expect("known"))
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(DIR, dir)
        .env(ROUND, round.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("starts");
    let mut output = BufReader::new(child.stdout.take().expect("piped"));
    let mut lines = Vec::new();
    while !lines.last().is_some_and(|line: &String| line.starts_with("append")) {
        let mut line = String::new();
        assert_ne!(output.read_line(&mut line).expect("reads"), 0, "the child gave up");
        lines.push(line.trim().to_owned());
    }
    let lines = std::thread::spawn(move || {
        // A last line that was cut off was not said.
        let mut bytes = Vec::new();
        while output.read_until(b'\n', &mut bytes).is_ok_and(|n| n > 0) && bytes.ends_with(b"\n") {
            lines.push(String::from_utf8_lossy(&bytes).trim().to_owned());
            bytes.clear();
        }
        lines
    });
    Running { child, lines }
}

impl Running {
    /// Kills the child with SIGKILL and returns what it had said.
    pub(crate) fn kill(mut self) -> Vec<String> {
        self.child.kill().expect("kills");
        self.child.wait().expect("waits");
        self.lines.join().expect("reads")
    }
}

/// What must be there. Kept over all rounds.
#[derive(Default)]
pub(crate) struct Record {
    /// Terms of the acknowledged entries that nobody has asked to remove, by group and index.
    entries: BTreeMap<u32, BTreeMap<u64, u64>>,
    /// How far a purge was asked for: an acknowledgement may come after it.
    purged: BTreeMap<u32, u64>,
    votes: BTreeMap<u32, u64>,
    /// Acknowledgements, for the test to say how much it has seen.
    pub(crate) acknowledged: u64,
}

impl Record {
    pub(crate) fn note(&mut self, lines: &[String]) {
        for line in lines {
            let words: Vec<_> = line.split(' ').collect();
            let numbers: Vec<u64> = words[1..].iter().map_while(|word| word.parse().ok()).collect();
            match (words[0], &numbers[..]) {
                ("append", [group, first, count, term]) => {
                    let entries = self.entries.entry(*group as u32).or_default();
                    let purged = self.purged.get(&(*group as u32)).copied();
                    let kept = (*first..first + count).filter(|index| Some(*index) > purged);
                    entries.extend(kept.map(|index| (index, *term)));
                    self.acknowledged += 1;
                }
                ("vote", [group, term]) => {
                    self.votes.insert(*group as u32, *term);
                    self.acknowledged += 1;
                }
                ("truncate", [group, index]) => {
                    self.entries.entry(*group as u32).or_default().split_off(index);
                }
                ("purge", [group, index]) => {
                    let entries = self.entries.entry(*group as u32).or_default();
                    *entries = entries.split_off(&(index + 1));
                    let purged = self.purged.entry(*group as u32).or_default();
                    *purged = (*purged).max(*index);
                }
                _ => {}
            }
        }
    }

    /// Opens the log and compares.
    pub(crate) fn check(&self, dir: &Path) {
        let (engine, damage) =
            Engine::open(dir, options(), Box::new(|_| {})).expect("opens after the crash");
        assert_eq!(damage, [], "a crash is not damage");
        for (group, expected) in &self.entries {
            let log = engine.group(GroupId(*group));
            let state = log.state();
            let found = log.read(state.first, state.next, usize::MAX).expect("readable");
            assert_eq!(found.len() as u64, state.next - state.first, "group {group}: {state:?}");
            for (index, bytes) in (state.first..).zip(&found) {
                let term = term_of(bytes).expect("an entry of ours");
                assert!(*bytes == entry(*group, index, term), "entry {index} of group {group}");
            }
            for (index, term) in expected {
                let at = index.checked_sub(state.first).map(|at| at as usize);
                let bytes = at.and_then(|at| found.get(at));
                let bytes = bytes.unwrap_or_else(|| panic!("{index} of {group} lost: {state:?}"));
                assert_eq!(term_of(bytes), Some(*term), "entry {index} of group {group}");
            }
        }
        for (group, expected) in &self.votes {
            let vote = engine.group(GroupId(*group)).state().vote.expect("voted");
            let term: u64 = std::str::from_utf8(&vote).expect("text").parse().expect("a number");
            assert!(term >= *expected, "group {group} voted {expected}, remembers {term}");
        }
    }
}

/// Rounds to run: the default or what the variable says.
pub(crate) fn rounds(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}
