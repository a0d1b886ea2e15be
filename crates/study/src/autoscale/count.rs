//! Workers scaled by the number of visible messages alone, as a metric of the queue by itself makes
//! a target tracker do it: for comparison. Readings, tolerance, cooldowns and bounds are those of
//! `flotilla autoscale`.

use std::ffi::OsString;
use std::path::Path;
use std::process::Stdio;
use std::time::Instant;

use anyhow::Context as _;
use flotilla_autoscale::{Count, QueueReader, Scaler};
use tokio::process::{Child, Command};

use super::live::{INTERVAL, LiveArgs, end, terminate};
use super::seen::{Moment, Page};

/// See the module.
pub(super) struct Counting {
    reader: QueueReader,
    scaler: Scaler,
    /// What the number is to be.
    target: f64,
    acceptable: f64,
    worker: Vec<OsString>,
    begin: Instant,
    decided: Option<Instant>,
    running: Vec<Child>,
    /// They were asked to end.
    stopping: Vec<Child>,
}

impl Counting {
    pub(super) fn new(args: &LiveArgs, queue: &str, done: &Path) -> anyhow::Result<Self> {
        let (policy, begin) = (args.policy(), Instant::now());
        Ok(Self {
            reader: QueueReader::new(&args.endpoints, queue),
            scaler: Scaler::new(policy, begin.elapsed()),
            target: args.busiest_count(),
            acceptable: policy.acceptable_backlog(args.processing()),
            worker: args.worker(queue, done)?,
            begin,
            decided: None,
            running: Vec::new(),
            stopping: Vec::new(),
        })
    }

    /// Reads the queue, decides if that is due, and says what there is.
    pub(super) async fn at(&mut self, at_s: f64) -> anyhow::Result<Moment> {
        let backlog = self.reader.read().await?;
        if self.decided.is_none_or(|last| last.elapsed() >= INTERVAL) {
            self.decided = Some(Instant::now());
            // What target tracking does with any metric: it takes for granted that twice the
            // instances halve it.
            let ratio = backlog.messages(Count::Waiting) as f64 / self.target;
            let wanted = (f64::from(self.scaler.instances()) * ratio).ceil();
            self.scaler.settle(self.begin.elapsed(), wanted, ratio);
            self.carry_out()?;
        }
        let unfinished = backlog.messages(Count::Unfinished);
        let (running, desired) = (self.running.len(), self.scaler.instances());
        Ok(Page::counted(running, desired, unfinished, self.acceptable).at(at_s))
    }

    fn carry_out(&mut self) -> anyhow::Result<()> {
        let wanted = self.scaler.instances() as usize;
        while self.running.len() < wanted {
            let (program, words) = self.worker.split_first().context("no command line")?;
            let mut command = Command::new(program);
            command.args(words).stdin(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
            self.running.push(command.spawn()?);
        }
        for worker in self.running.drain(wanted.min(self.running.len())..) {
            terminate(&worker)?;
            self.stopping.push(worker);
        }
        // Those that have ended are not waited for any more.
        let mut left = Vec::new();
        for mut worker in self.stopping.drain(..) {
            if worker.try_wait()?.is_none() {
                left.push(worker);
            }
        }
        self.stopping = left;
        Ok(())
    }

    /// All of them, in order.
    pub(super) async fn end(&mut self) -> anyhow::Result<()> {
        for worker in &self.running {
            terminate(worker)?;
        }
        for worker in self.running.iter_mut().chain(&mut self.stopping) {
            end(worker).await?;
        }
        Ok(())
    }
}
