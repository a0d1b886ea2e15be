//! The history of a run, shared by all of its clients.

use std::fs::File;
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use flotilla_history::record::{Fault, FaultPhase, Mark};
use flotilla_history::{Clock, Header, Op, Options, Record, Recorder};

use crate::chaos::queues::Work;

/// Client number of the harness itself.
const HARNESS: u32 = 0;

/// How far a run has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(super) enum Stage {
    /// Everybody does what they do.
    Load,
    /// No new messages; what is under way is finished.
    Ending,
}

/// See the module.
pub(super) struct Book {
    recorder: Recorder<BufWriter<File>>,
    clock: Clock,
    path: PathBuf,
    stage: AtomicU8,
    /// When a message was last received, by the clock.
    delivered_us: AtomicU64,
    /// Acknowledged sends, by their queues' work.
    acknowledged: [AtomicU64; Work::ALL.len()],
}

impl Book {
    /// Begins a file.
    pub(super) fn begin(path: &Path, label: String, options: Options) -> io::Result<Self> {
        let clock = Clock::start();
        let wall_zero_ms = Some(clock.wall_zero_ms());
        let header = Header { label, wall_zero_ms, options, ..Header::default() };
        Ok(Self {
            recorder: Recorder::new(&header, BufWriter::new(File::create(path)?))?,
            clock,
            path: path.to_owned(),
            stage: AtomicU8::new(Stage::Load as u8),
            delivered_us: AtomicU64::new(0),
            acknowledged: Default::default(),
        })
    }

    pub(super) fn now_us(&self) -> u64 {
        self.clock.now_us()
    }

    /// Requests and events so far.
    pub(super) fn records(&self) -> u64 {
        self.recorder.records()
    }

    pub(super) fn record(&self, record: &Record) {
        if let Op::Receive(receive) = &record.op
            && receive.result.ok().is_some_and(|messages| !messages.is_empty())
        {
            self.delivered_us.fetch_max(record.returned_us, Ordering::Relaxed);
        }
        if let Op::Send(send) = &record.op {
            let stored = send.entries.iter().filter(|entry| entry.result.ok().is_some()).count();
            let work = Work::of(&send.queue) as usize;
            self.acknowledged[work].fetch_add(stored as u64, Ordering::Relaxed);
        }
        self.recorder.record(record);
    }

    /// Sends that were answered with success so far, in the order of [`Work::ALL`].
    pub(super) fn acknowledged(&self) -> [u64; Work::ALL.len()] {
        std::array::from_fn(|work| self.acknowledged[work].load(Ordering::Relaxed))
    }

    /// How long nothing has been received from any queue, if it is since `from_us`.
    pub(super) fn quiet(&self, from_us: u64) -> Duration {
        let last = self.delivered_us.load(Ordering::Relaxed).max(from_us);
        Duration::from_micros(self.now_us().saturating_sub(last))
    }

    pub(super) fn enter(&self, stage: Stage) {
        self.stage.store(stage as u8, Ordering::SeqCst);
    }

    pub(super) fn is_loading(&self) -> bool {
        self.stage.load(Ordering::SeqCst) == Stage::Load as u8
    }

    /// A fault that was made between `from_us` and now, or that is over now.
    pub(super) fn fault(&self, name: &str, nodes: &[u64], phase: FaultPhase, from_us: u64) {
        let nodes = nodes.iter().map(|id| *id as u32).collect();
        self.event(from_us, Op::Fault(Fault { name: name.to_owned(), nodes, phase }));
    }

    pub(super) fn mark(&self, mark: Mark) {
        self.event(self.now_us(), Op::Mark(mark));
    }

    fn event(&self, from_us: u64, op: Op) {
        self.record(&Record {
            process: HARNESS,
            node: 0,
            invoked_us: from_us,
            returned_us: self.now_us(),
            status: None,
            request_id: None,
            op,
        });
    }

    /// Ends the file, when every client has ended.
    pub(super) fn finish(self) -> io::Result<PathBuf> {
        self.recorder.finish()?;
        Ok(self.path)
    }
}
