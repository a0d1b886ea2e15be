//! Tests of the whole log; those of a single part are beside it.

use std::io;
use std::path::Path;
use std::sync::mpsc;

use bytes::Bytes;
use flotilla_types::ids::GroupId;
use tempfile::TempDir;

use crate::disk::Machine;

use super::{Damage, Done, Engine, GroupLog, GroupState, LogOptions};

mod basic;
mod damage;
mod model;
mod recycling;
mod version;

const A: GroupId = GroupId(1);
const B: GroupId = GroupId(2);
const ALL: usize = usize::MAX;

/// The smallest segments, so that tests see many.
fn options() -> LogOptions {
    LogOptions { segment_bytes: 64 << 10, segments_max: 4, cache_bytes: 32 << 10 }
}

fn open_with(dir: &Path, options: LogOptions) -> (Engine, Vec<Damage>) {
    Engine::open(dir, options, Box::new(|_| {})).unwrap()
}

/// Opens a log that must be in order.
fn open(dir: &Path) -> Engine {
    let (engine, damage) = open_with(dir, options());
    assert_eq!(damage, []);
    engine
}

/// A callback, and the way to wait for it.
fn waiter() -> (Done, mpsc::Receiver<io::Result<()>>) {
    let (sender, receiver) = mpsc::channel();
    (Box::new(move |result| drop(sender.send(result))), receiver)
}

fn append(log: &GroupLog, first: u64, entries: &[Bytes]) -> io::Result<()> {
    let (done, wait) = waiter();
    log.append(first, entries.to_vec(), done);
    wait.recv().unwrap()
}

fn vote(log: &GroupLog, vote: &'static [u8]) -> io::Result<()> {
    let (done, wait) = waiter();
    log.save_vote(Bytes::from_static(vote), done);
    wait.recv().unwrap()
}

fn reset(log: &GroupLog) -> io::Result<()> {
    let (done, wait) = waiter();
    log.reset(done);
    wait.recv().unwrap()
}

/// An entry that is like no other.
fn entry(group: GroupId, index: u64, bytes: usize) -> Bytes {
    let seed = format!("{group}:{index}:");
    Bytes::from(seed.bytes().cycle().take(bytes.max(seed.len())).collect::<Vec<_>>())
}

fn entries(group: GroupId, range: std::ops::Range<u64>, bytes: usize) -> Vec<Bytes> {
    range.map(|index| entry(group, index, bytes)).collect()
}

/// The files as a crash of the process would leave them now. What says how far the log goes comes first: an
/// idle log may write meanwhile.
fn image(dir: &Path) -> TempDir {
    let copy = tempfile::tempdir().unwrap();
    let mut names: Vec<_> =
        std::fs::read_dir(dir).unwrap().map(|item| item.unwrap().file_name()).collect();
    names.sort_by_key(|name| name.to_string_lossy().starts_with("segment-"));
    for name in names {
        match std::fs::copy(dir.join(&name), copy.path().join(&name)) {
            // A spare segment that was given back while we looked.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            copied => {
                copied.unwrap();
            }
        }
    }
    copy
}

/// State and entries of a group.
fn content(engine: &Engine, group: GroupId) -> (GroupState, Vec<Bytes>) {
    let log = engine.group(group);
    let state = log.state();
    let entries = log.read(state.first, state.next, ALL).unwrap();
    assert_eq!(entries.len() as u64, state.next - state.first);
    (state, entries)
}
