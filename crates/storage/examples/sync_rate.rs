//! How often a second can a batch of 4 KiB be made durable? Compares the log of this crate with a
//! file that grows and with RocksDB's write-ahead log, one after the other in one directory.
//!
//! `cargo run --release -p flotilla-storage --example sync_rate -- [seconds] [directory]`
#![allow(clippy::print_stdout)]

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use flotilla_storage::log::{Engine, LogOptions};
use flotilla_types::ids::GroupId;
use rocksdb::{DB, Options, WriteBatch, WriteOptions};

/// Leaves room for the headers in a block of 4 KiB.
const PAYLOAD_BYTES: usize = 3_900;

type Failed = Box<dyn std::error::Error>;

/// Times of single syncs, and how long all took.
struct Run {
    name: String,
    times: Vec<Duration>,
    all: Duration,
    operations: usize,
}

impl Run {
    fn print(mut self) {
        self.times.sort();
        let at = |part: usize| self.times[(self.times.len() - 1) * part / 100].as_micros();
        let seconds = self.all.as_secs_f64();
        println!(
            "{:<44} {:>9.0} {:>9.0} {:>8} {:>8}",
            self.name,
            self.operations as f64 / seconds,
            self.times.len() as f64 / seconds,
            at(50),
            at(99)
        );
    }
}

/// Repeats until the time is up.
fn repeat(
    name: &str,
    time: Duration,
    mut step: impl FnMut(u64) -> Result<(), Failed>,
) -> Result<Run, Failed> {
    let (begin, mut times) = (Instant::now(), Vec::new());
    while begin.elapsed() < time {
        let before = Instant::now();
        step(times.len() as u64)?;
        times.push(before.elapsed());
    }
    let operations = times.len();
    Ok(Run { name: name.to_owned(), times, all: begin.elapsed(), operations })
}

fn growing_file(dir: &Path, time: Duration) -> Result<Run, Failed> {
    let mut file = File::create(dir.join("growing"))?;
    let block = [7; 4096];
    repeat("file that grows, fdatasync", time, |_| {
        file.write_all(&block)?;
        Ok(file.sync_data()?)
    })
}

fn rocksdb_wal(dir: &Path, time: Duration, recycle: usize) -> Result<Run, Failed> {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.set_recycle_log_file_num(recycle);
    let db = DB::open(&options, dir.join(format!("rocksdb-{recycle}")))?;
    let mut unsynced = WriteOptions::default();
    unsynced.set_sync(false);
    let value = [7; PAYLOAD_BYTES];
    repeat(&format!("RocksDB WAL, flush_wal, recycle {recycle}"), time, |number| {
        let mut batch = WriteBatch::default();
        batch.put(number.to_be_bytes(), value);
        db.write_opt(batch, &unsynced)?;
        Ok(db.flush_wal(true)?)
    })
}

fn engine(dir: &Path) -> Result<Engine, Failed> {
    let on_fatal = Box::new(|error: &std::io::Error| println!("failed: {error}"));
    let (engine, _) = Engine::open(&dir.join("log"), LogOptions::default(), on_fatal)?;
    // Goes through more segments than there are spare ones, so that all are used again.
    let (log, entry) = (engine.group(GroupId(0)), Bytes::from(vec![1; 1 << 20]));
    for index in 0..64 {
        let (sender, receiver) = mpsc::channel();
        let first = log.state().next;
        log.append(first, vec![entry.clone()], Box::new(move |result| drop(sender.send(result))));
        receiver.recv()??;
        log.purge_to(first.max(index), Bytes::new());
    }
    Ok(engine)
}

/// One caller that waits for each append.
fn log_alone(dir: &Path, time: Duration) -> Result<Run, Failed> {
    let engine = engine(dir)?;
    let (log, entry) = (engine.group(GroupId(1)), Bytes::from(vec![7; PAYLOAD_BYTES]));
    repeat("this log, 1 caller", time, |_| {
        let (sender, receiver) = mpsc::channel();
        let first = log.state().next;
        log.append(first, vec![entry.clone()], Box::new(move |result| drop(sender.send(result))));
        receiver.recv()??;
        log.purge_to(first, Bytes::new());
        Ok(())
    })
}

/// Several callers, each for a group of its own: they share syncs.
fn log_shared(dir: &Path, time: Duration, callers: u32) -> Result<Run, Failed> {
    let engine = engine(dir)?;
    let before = engine.metrics();
    let begin = Instant::now();
    let times = std::thread::scope(|scope| {
        let callers: Vec<_> = (0..callers)
            .map(|group| {
                let (log, entry) = (engine.group(GroupId(group + 1)), Bytes::from(vec![7; 256]));
                scope.spawn(move || {
                    repeat("", time, |_| {
                        let (sender, receiver) = mpsc::channel();
                        let first = log.state().next;
                        let done = Box::new(move |result| drop(sender.send(result)));
                        log.append(first, vec![entry.clone()], done);
                        receiver.recv()??;
                        log.purge_to(first, Bytes::new());
                        Ok(())
                    })
                    .map(|run| run.times)
                    .unwrap_or_default()
                })
            })
            .collect();
        callers.into_iter().flat_map(|caller| caller.join().unwrap_or_default()).collect::<Vec<_>>()
    });
    let all = begin.elapsed();
    let after = engine.metrics();
    println!(
        "  ({callers} callers: {:.0} batches a second, {} rotations, {} of them waited)",
        (after.batches - before.batches) as f64 / all.as_secs_f64(),
        after.rotations - before.rotations,
        after.rotation_stalls - before.rotation_stalls,
    );
    let operations = times.len();
    Ok(Run { name: format!("this log, {callers} callers of 256 bytes"), times, all, operations })
}

fn main() -> Result<(), Failed> {
    let mut arguments = std::env::args().skip(1);
    let seconds = arguments.next().map_or(Ok(3), |text| text.parse())?;
    let dir = match arguments.next() {
        Some(parent) => tempfile::tempdir_in(parent)?,
        None => tempfile::tempdir()?,
    };
    let time = Duration::from_secs(seconds);
    println!("{:<44} {:>9} {:>9} {:>8} {:>8}", "", "ops/s", "calls/s", "p50 us", "p99 us");
    growing_file(dir.path(), time)?.print();
    rocksdb_wal(dir.path(), time, 0)?.print();
    rocksdb_wal(dir.path(), time, 4)?.print();
    log_alone(dir.path(), time)?.print();
    log_shared(dir.path(), time, 4)?.print();
    log_shared(dir.path(), time, 32)?.print();
    Ok(())
}
