//! What survives a killed process and a power cut: the effect of a prefix of the commits, across
//! all column families, and nothing that was reported durable is missing.

mod common;
#[path = "common/state_model.rs"]
mod state_model;

use std::fs;
use std::io::{BufRead, BufReader, Write as _};
use std::path::Path;
use std::process::Child;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use bytes::Bytes;
use common::{LoopDisk, env_number, spawn_child};
use flotilla_probe::skip;
use flotilla_storage::state::{GroupState, StateDb, StateOptions};
use flotilla_types::ids::GroupId;
use rand::RngExt;
use state_model::{Model, number, step};

/// Names the directory; set in the child only.
const COMMIT_DIR: &str = "FLOTILLA_TEST_STATE_COMMIT_DIR";
const IMPORT_DIR: &str = "FLOTILLA_TEST_STATE_IMPORT_DIR";
const GROUPS: [GroupId; 2] = [GroupId(1), GroupId(2)];

fn open(dir: &Path) -> StateDb {
    // Small enough that memory pressure flushes many times a second.
    let options = StateOptions { write_buffer_bytes: 512 * 1_024, ..StateOptions::default() };
    StateDb::open(dir, options).expect("opens")
}

fn report(line: std::fmt::Arguments<'_>) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "\n{line}").and_then(|()| out.flush()).expect("the parent listens");
}

/// A child and the lines it reports with a prefix.
struct Watched {
    child: Child,
    lines: Receiver<String>,
}

impl Watched {
    fn start(test: &str, variable: &str, dir: &Path) -> Watched {
        let mut child = spawn_child(test, variable, dir.to_str().expect("a plain path"));
        let out = BufReader::new(child.stdout.take().expect("is piped"));
        let (lines_in, lines) = channel();
        std::thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                if let Some(line) = line.strip_prefix("report ") {
                    let _ = lines_in.send(line.to_owned());
                }
            }
        });
        Watched { child, lines }
    }

    /// Everything reported until the time is over, and at least one line.
    fn lines_for(&self, time: Duration) -> Vec<String> {
        let first = self.lines.recv_timeout(Duration::from_secs(60)).expect("the child works");
        let end = Instant::now() + time;
        let mut lines = vec![first];
        loop {
            match self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) => lines.push(line),
                Err(RecvTimeoutError::Timeout) => return lines,
                Err(RecvTimeoutError::Disconnected) => panic!("the child ended by itself"),
            }
        }
    }

    /// SIGKILL; returns what was still in the pipe.
    fn kill(mut self) -> Vec<String> {
        self.child.kill().expect("kills");
        self.child.wait().expect("ends");
        self.lines.iter().collect()
    }
}

fn random_ms(most: u64) -> Duration {
    Duration::from_millis(rand::rng().random_range(0..most))
}

/// The child: commits to two groups, flushes now and then, reports durable positions.
#[test]
fn child_commits() {
    let Ok(dir) = std::env::var(COMMIT_DIR) else {
        return;
    };
    let db = open(Path::new(&dir));
    let groups = GROUPS.map(|id| db.group(id).expect("opens"));
    let mut models = [Model::of(&groups[0]), Model::of(&groups[1])];
    for round in 1_u64.. {
        for (group, model) in groups.iter().zip(&mut models) {
            let mut batch = group.batch();
            step(model, Some(&mut batch));
            group.commit(batch).expect("commits");
        }
        if round.is_multiple_of(97) {
            db.flush().expect("flushes");
        }
        if round.is_multiple_of(10) {
            for group in &groups {
                if let Some(record) = db.durable_applied(group.id()).expect("reads") {
                    report(format_args!("report {} {}", group.id(), number(&record)));
                }
            }
        }
    }
}

/// Compares what was recovered with the model and returns the model at that step.
fn verify(dir: &Path, models: &mut [Model; 2], reports: &[String]) {
    let db = open(dir);
    for (id, model) in GROUPS.into_iter().zip(models) {
        let recovered = Model::of(&db.group(id).expect("opens"));
        let position = recovered.step_number();
        let prefix = format!("{id} ");
        let reported = reports.iter().filter_map(|line| line.strip_prefix(&prefix));
        let durable = reported.map(|n| n.parse().expect("a number")).max().unwrap_or(0);
        assert!(position >= durable, "group {id}: {durable} was durable, {position} is left");
        assert!(position >= model.step_number(), "group {id}: went back");
        while model.step_number() < position {
            step(model, None);
        }
        assert!(recovered == *model, "group {id}: not the effect of the first {position} commits");
        let durable = db.durable_applied(id).expect("reads");
        assert_eq!(durable, model.applied, "what was recovered is what was on disk");
    }
}

#[test]
fn a_killed_process_leaves_a_prefix() {
    let dir = tempfile::tempdir().unwrap();
    let mut models = [Model::default(), Model::default()];
    for _ in 0..env_number("FLOTILLA_TEST_KILL_ROUNDS", 15) {
        let child = Watched::start("child_commits", COMMIT_DIR, dir.path());
        let mut reports = child.lines_for(random_ms(400));
        reports.extend(child.kill());
        verify(dir.path(), &mut models, &reports);
    }
    assert!(models.iter().all(|model| model.step_number() > 100), "the rounds did work");
}

#[test]
fn a_power_cut_leaves_a_prefix() {
    let Some(disk) = LoopDisk::new(512) else {
        return skip(
            "power cuts of a state",
            "no ext4 can be mounted over a loop device (as root)",
        );
    };
    let dir = disk.path().join("state");
    let mut models = [Model::default(), Model::default()];
    for _ in 0..env_number("FLOTILLA_TEST_CUT_ROUNDS", 8) {
        let child = Watched::start("child_commits", COMMIT_DIR, &dir);
        let mut reports = child.lines_for(random_ms(400));
        disk.cut_power().expect("cuts");
        // Reports after the cut are about syncs that failed or came before it: both must hold.
        reports.extend(child.kill());
        disk.power_on();
        verify(&dir, &mut models, &reports);
    }
}

/// Two exported states to import in turn, as files next to the store.
fn write_exports(dir: &Path) -> [Model; 2] {
    let db = open(&dir.join("source"));
    [0_usize, 1].map(|i| {
        let group = db.group(GroupId(i as u32 + 1)).expect("opens");
        let mut model = Model::default();
        for _ in 0..150 + 150 * i {
            let mut batch = group.batch();
            step(&mut model, Some(&mut batch));
            group.commit(batch).expect("commits");
        }
        let chunks = group.export().expect("exports");
        for (n, chunk) in chunks.enumerate() {
            fs::write(dir.join(format!("chunk-{i}-{n:04}")), chunk.expect("reads"))
                .expect("writes");
        }
        model
    })
}

fn import(group: &GroupState, dir: &Path, round: u64) {
    let mut import = group.import().expect("starts");
    let source = round % 2;
    for n in 0.. {
        let Ok(chunk) = fs::read(dir.join(format!("chunk-{source}-{n:04}"))) else {
            break;
        };
        import.chunk(chunk.into()).expect("is good");
    }
    import.finish(Bytes::copy_from_slice(&round.to_be_bytes())).expect("finishes");
}

/// The child: imports two states in turn, commits in between, reports each finished import.
#[test]
fn child_imports() {
    let Ok(dir) = std::env::var(IMPORT_DIR) else {
        return;
    };
    let dir = Path::new(&dir);
    let db = open(&dir.join("target"));
    let group = db.group(GROUPS[0]).expect("opens");
    let first = group.applied().expect("reads").map_or(0, |record| number(&record)) + 1;
    for round in first.. {
        import(&group, dir, round);
        report(format_args!("report {round}"));
    }
}

#[test]
fn a_process_killed_while_importing_leaves_one_whole_state() {
    let dir = tempfile::tempdir().unwrap();
    let states = write_exports(dir.path());
    for _ in 0..env_number("FLOTILLA_TEST_KILL_ROUNDS", 15) {
        let child = Watched::start("child_imports", IMPORT_DIR, dir.path());
        let mut reports = child.lines_for(random_ms(150));
        reports.extend(child.kill());
        let finished: u64 = reports.last().expect("one at least").parse().expect("a number");
        let db = open(&dir.path().join("target"));
        let mut state = Model::of(&db.group(GROUPS[0]).expect("opens"));
        let round = state.step_number();
        assert!(round == finished || round == finished + 1, "{round} after {finished}");
        state.applied.clone_from(&states[round as usize % 2].applied);
        assert!(state == states[round as usize % 2], "import {round} is not whole");
    }
}
