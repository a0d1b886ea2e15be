//! Worker processes: what `slots` orders is done here.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::{ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;

use crate::slots::{Order, SlotId};

/// Notices of ends that nobody has looked at yet; more wait.
const ENDS_MAX: usize = 64;
/// A worker is asked to end once and killed once.
const SIGNALS_MAX: usize = 2;

/// A process is gone, or never came.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) id: SlotId,
    pub(crate) how: std::io::Result<ExitStatus>,
}

/// All processes that run.
#[derive(Debug)]
pub(crate) struct Workers {
    command: Vec<String>,
    statsd: Option<SocketAddr>,
    signals: BTreeMap<SlotId, mpsc::Sender<Signal>>,
    ends: (mpsc::Sender<Ended>, mpsc::Receiver<Ended>),
}

impl Workers {
    /// None yet; each will be `command`, and told where to report its processing times.
    pub(crate) fn new(command: Vec<String>, statsd: Option<SocketAddr>) -> Self {
        Self { command, statsd, signals: BTreeMap::new(), ends: mpsc::channel(ENDS_MAX) }
    }

    /// Carries out an order; what comes of it is told by [`Workers::ended`].
    pub(crate) fn carry_out(&mut self, order: Order) {
        match order {
            Order::Spawn(id) => self.spawn(id),
            Order::Terminate(id) => self.signal(id, Signal::TERM),
            Order::Kill(id) => self.signal(id, Signal::KILL),
        }
    }

    /// The next process that is gone. Never ends by itself: `self` holds a sender.
    pub(crate) async fn ended(&mut self) -> Option<Ended> {
        let ended = self.ends.1.recv().await?;
        self.signals.remove(&ended.id);
        Some(ended)
    }

    fn spawn(&mut self, id: SlotId) {
        let (signals, orders) = mpsc::channel(SIGNALS_MAX);
        self.signals.insert(id, signals);
        let child = self.process(id).spawn();
        tokio::spawn(watch(id, child, orders, self.ends.0.clone()));
    }

    fn process(&self, id: SlotId) -> Command {
        let (program, arguments) = self.command.split_first().expect("clap wants a command");
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).env("FLOTILLA_WORKER", id.0.to_string());
        if let Some(statsd) = self.statsd {
            command.env("STATSD_HOST", statsd.ip().to_string());
            command.env("STATSD_PORT", statsd.port().to_string());
        }
        // A group of its own: a command that is a shell is ended with what it started, and the
        // terminal's Ctrl-C reaches workers only as an orderly request to end.
        command.process_group(0).kill_on_drop(true);
        command
    }

    fn signal(&self, id: SlotId, signal: Signal) {
        if let Some(signals) = self.signals.get(&id) {
            // Fails only when the process is gone; each signal is sent once, so there is room.
            let _ = signals.try_send(signal);
        }
    }
}

/// Owns one process until it is gone.
async fn watch(
    id: SlotId,
    child: std::io::Result<Child>,
    mut orders: mpsc::Receiver<Signal>,
    ends: mpsc::Sender<Ended>,
) {
    let how = match child {
        Ok(mut child) => loop {
            tokio::select! {
                how = child.wait() => break how,
                Some(signal) = orders.recv() => send(&child, signal),
            }
        },
        Err(error) => Err(error),
    };
    // Fails only when the controller is gone.
    let _ = ends.send(Ended { id, how }).await;
}

fn send(child: &Child, signal: Signal) {
    // There is an id as long as the process was not waited for, so that it cannot be another's.
    let group = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
    if let Some(group) = group
        && let Err(error) = kill_process_group(group, signal)
    {
        tracing::warn!(%error, process = group.as_raw_pid(), "a worker could not be signalled");
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn workers(script: &str) -> Workers {
        let command = ["sh", "-c", script].map(str::to_owned).to_vec();
        Workers::new(command, Some("127.0.0.1:8125".parse().unwrap()))
    }

    async fn next(workers: &mut Workers) -> (SlotId, std::io::Result<ExitStatus>) {
        let patience = Duration::from_secs(60);
        let ended = tokio::time::timeout(patience, workers.ended()).await.unwrap().unwrap();
        (ended.id, ended.how)
    }

    #[tokio::test]
    async fn workers_know_who_they_are_and_where_to_report() {
        let mut workers = workers("test $FLOTILLA_WORKER = 7 && test $STATSD_PORT = 8125; exit $?");
        workers.carry_out(Order::Spawn(SlotId(7)));
        let (id, how) = next(&mut workers).await;
        assert_eq!((id, how.unwrap().code()), (SlotId(7), Some(0)));
    }

    #[tokio::test]
    async fn a_worker_ends_in_its_own_way_and_takes_what_it_started_with_it() {
        // Ready once it has written; sleep would keep the shell, were it not signalled as well.
        let dir = std::env::temp_dir().join(format!("flotilla-worker-{}", std::process::id()));
        let file = dir.display();
        let mut workers =
            workers(&format!("trap 'wait; exit 3' TERM; sleep 600 & echo > {file}; wait"));
        workers.carry_out(Order::Spawn(SlotId(1)));
        while !dir.exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        std::fs::remove_file(&dir).unwrap();
        workers.carry_out(Order::Terminate(SlotId(1)));
        assert_eq!(next(&mut workers).await.1.unwrap().code(), Some(3));
    }

    #[tokio::test]
    async fn who_does_not_listen_is_killed_and_who_cannot_start_is_gone() {
        let dir = std::env::temp_dir().join(format!("flotilla-deaf-{}", std::process::id()));
        let file = dir.display();
        let mut deaf = workers(&format!("trap '' TERM; echo > {file}; while :; do sleep 1; done"));
        deaf.carry_out(Order::Spawn(SlotId(1)));
        while !dir.exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        std::fs::remove_file(&dir).unwrap();
        deaf.carry_out(Order::Terminate(SlotId(1)));
        deaf.carry_out(Order::Kill(SlotId(1)));
        assert_eq!(next(&mut deaf).await.1.unwrap().code(), None);
        let mut none = Workers::new(vec!["/nonexistent/worker".into()], None);
        none.carry_out(Order::Spawn(SlotId(2)));
        assert!(next(&mut none).await.1.is_err());
    }
}
