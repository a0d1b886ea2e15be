//! Worker processes: what `slots` orders is done here.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use rustix::io::Errno;
use rustix::process::{
    Pid, Signal, WaitOptions, kill_process_group, test_kill_process_group, waitpgid,
};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

use crate::slots::{Order, SlotId};

/// Notices of ends that nobody has looked at yet; more wait.
const ENDS_MAX: usize = 64;
/// A worker is asked to end once and killed once.
const SIGNALS_MAX: usize = 2;
/// The kernel tells of the end of a child, not of a group.
const GROUP_LOOK_AGAIN: Duration = Duration::from_millis(50);
/// Killed processes are gone at once, unless a disk does not answer, or nobody asks how they ended.
const KILLED_PATIENCE: Duration = Duration::from_secs(5);

/// A process is gone, or never came.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) id: SlotId,
    pub(crate) how: std::io::Result<ExitStatus>,
}

/// All processes that run, for those who have no time to ask the controller.
#[derive(Clone, Debug, Default)]
pub struct LiveWorkers(Arc<Mutex<BTreeMap<SlotId, Group>>>);

impl LiveWorkers {
    /// Kills them. To be followed by the end of this process, or new ones are started in their places.
    pub fn kill(&self) {
        self.0.lock().values().for_each(|group| group.send(Signal::KILL));
    }
}

/// All processes that run.
#[derive(Debug)]
pub(crate) struct Workers {
    command: Vec<String>,
    statsd: Option<SocketAddr>,
    grace: Duration,
    live: LiveWorkers,
    signals: BTreeMap<SlotId, mpsc::Sender<Signal>>,
    ends: (mpsc::Sender<Ended>, mpsc::Receiver<Ended>),
}

impl Workers {
    /// None yet; each will be `command`, and told where to report its processing times. What one that ends by
    /// itself leaves behind has `grace` to end as well.
    pub(crate) fn new(command: Vec<String>, statsd: Option<SocketAddr>, grace: Duration) -> Self {
        let ends = mpsc::channel(ENDS_MAX);
        let live = LiveWorkers::default();
        Self { command, statsd, grace, live, signals: BTreeMap::new(), ends }
    }

    pub(crate) fn live(&self) -> LiveWorkers {
        self.live.clone()
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
        if let Ok(child) = &child {
            self.live.0.lock().insert(id, Group::of(child));
        }
        let (grace, live, ends) = (self.grace, self.live.clone(), self.ends.0.clone());
        tokio::spawn(async move {
            let how = watch(child, orders, grace).await;
            live.0.lock().remove(&id);
            // Fails only when the controller is gone.
            let _ = ends.send(Ended { id, how }).await;
        });
    }

    fn process(&self, id: SlotId) -> Command {
        let (program, arguments) = self.command.split_first().expect("clap wants a command");
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).env("FLOTILLA_WORKER", id.0.to_string());
        if let Some(statsd) = self.statsd {
            command.env("STATSD_HOST", statsd.ip().to_string());
            command.env("STATSD_PORT", statsd.port().to_string());
        }
        // A group of its own: what a command starts is asked to end with it and counts as long as it is there,
        // and the terminal's Ctrl-C reaches workers only as an orderly request to end.
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

/// Owns one process and its group until both are gone: how the process ended.
async fn watch(
    child: std::io::Result<Child>,
    mut orders: mpsc::Receiver<Signal>,
    grace: Duration,
) -> std::io::Result<ExitStatus> {
    let mut child = child?;
    let group = Group::of(&child);
    let mut asked = None;
    let how = loop {
        tokio::select! {
            how = child.wait() => break how,
            Some(signal) = orders.recv() => {
                asked = Some(signal);
                group.send(signal);
            }
        }
    };
    outlive(group, asked, &mut orders, grace).await;
    how
}

/// A shell that does not `exec` ends at once when it is asked to, and what it started still finishes its
/// message. The worker is gone when the last of its group is.
async fn outlive(
    group: Group,
    asked: Option<Signal>,
    orders: &mut mpsc::Receiver<Signal>,
    grace: Duration,
) {
    if group.is_empty() {
        return;
    }
    if asked.is_none() {
        // Without its leader, nobody else will.
        group.send(Signal::TERM);
    }
    let mut killed = asked == Some(Signal::KILL);
    let mut deadline = Instant::now() + if killed { KILLED_PATIENCE } else { grace };
    while !group.is_empty() {
        let order = tokio::select! {
            () = sleep(GROUP_LOOK_AGAIN) => None,
            Some(signal) = orders.recv() => Some(signal),
        };
        let late = Instant::now() >= deadline;
        if late && killed {
            tracing::warn!(group = group.number(), "killed processes are still there");
            return;
        }
        if (late || order == Some(Signal::KILL)) && !killed {
            killed = true;
            deadline = Instant::now() + KILLED_PATIENCE;
            group.send(Signal::KILL);
        } else if let Some(signal) = order {
            group.send(signal);
        }
    }
}

/// The processes that a worker consists of.
#[derive(Clone, Copy, Debug)]
struct Group(Option<Pid>);

impl Group {
    /// A worker's first process leads its group, which has its id. The id is nobody else's as long as anybody is
    /// in the group, or its leader was not waited for.
    fn of(leader: &Child) -> Self {
        Self(leader.id().and_then(|id| Pid::from_raw(id.cast_signed())))
    }

    fn number(self) -> i32 {
        self.0.map_or(0, Pid::as_raw_pid)
    }

    fn send(self, signal: Signal) {
        if let Some(group) = self.0
            && let Err(error) = kill_process_group(group, signal)
            && error != Errno::SRCH
        {
            tracing::warn!(%error, group = self.number(), "a worker could not be signalled");
        }
    }

    fn is_empty(self) -> bool {
        let Some(group) = self.0 else { return true };
        // In a container this may be the process that orphans are left to; unless it asks, they stay.
        while let Ok(Some(_)) = waitpgid(group, WaitOptions::NOHANG) {}
        test_kill_process_group(group) == Err(Errno::SRCH)
    }
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::*;

    const GRACE: Duration = Duration::from_secs(30);

    fn workers(script: &str) -> Workers {
        let command = ["sh", "-c", script].map(str::to_owned).to_vec();
        Workers::new(command, Some("127.0.0.1:8125".parse().unwrap()), GRACE)
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
        let mut none = Workers::new(vec!["/nonexistent/worker".into()], None, GRACE);
        none.carry_out(Order::Spawn(SlotId(2)));
        assert!(next(&mut none).await.1.is_err());
    }

    /// What the file says, once it says something; the file is removed.
    async fn said(file: &Path) -> String {
        loop {
            let text = std::fs::read_to_string(file).unwrap_or_default();
            if text.ends_with('\n') {
                std::fs::remove_file(file).unwrap();
                return text.trim().to_owned();
            }
            sleep(Duration::from_millis(5)).await;
        }
    }

    fn file(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("flotilla-{name}-{}", std::process::id()))
    }

    /// A shell that waits for another, which does this at SIGTERM. They say who the other is.
    fn wrapper(at_term: &str, ready: &Path) -> String {
        let inner = format!("trap '{at_term}' TERM; echo $$ > {}; ", ready.display());
        // Not for ever: when the test fails, nobody ends it.
        let inner = inner + "for _ in $(seq 3000); do sleep 0.02; done";
        format!("sh -c \"{}\" & wait", inner.replace('$', "\\$"))
    }

    /// Or nothing of it is left but how it ended.
    fn is_gone(pid: &str) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
        !stat.is_ok_and(|stat| !stat.contains(") Z "))
    }

    #[tokio::test]
    async fn a_worker_is_there_until_what_its_shell_started_has_finished() {
        let (ready, done) = (file("wrapped"), file("wrapped-done"));
        let script = wrapper(&format!("sleep 0.3; echo done > {}; exit", done.display()), &ready);
        let mut workers = workers(&script);
        workers.carry_out(Order::Spawn(SlotId(1)));
        said(&ready).await;
        workers.carry_out(Order::Terminate(SlotId(1)));
        // The shell itself has ended by the signal.
        assert_eq!(next(&mut workers).await.1.unwrap().code(), None);
        assert!(done.exists());
        std::fs::remove_file(&done).unwrap();
    }

    #[tokio::test]
    async fn what_a_shell_leaves_behind_is_killed_when_its_time_is_over() {
        let ready = file("left-behind");
        let mut workers = workers(&wrapper("", &ready));
        workers.carry_out(Order::Spawn(SlotId(1)));
        let pid = said(&ready).await;
        workers.carry_out(Order::Terminate(SlotId(1)));
        let early = tokio::time::timeout(Duration::from_millis(300), workers.ended()).await;
        assert!(early.is_err() && !is_gone(&pid));
        workers.carry_out(Order::Kill(SlotId(1)));
        assert!(next(&mut workers).await.1.is_ok());
        assert!(is_gone(&pid));
    }

    #[tokio::test]
    async fn what_a_shell_that_crashes_leaves_behind_is_ended_too() {
        let ready = file("orphan");
        let script = wrapper("", &ready).replace("wait", "sleep 0.5; exit 7");
        let mut workers = workers(&script);
        workers.grace = Duration::from_millis(100);
        workers.carry_out(Order::Spawn(SlotId(1)));
        let pid = said(&ready).await;
        assert_eq!(next(&mut workers).await.1.unwrap().code(), Some(7));
        assert!(is_gone(&pid));
    }
}
