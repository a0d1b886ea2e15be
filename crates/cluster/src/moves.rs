//! Carries out tasks that move dead letters. The node that leads the catalog does it; when another
//! one takes over, it goes on where the messages are.
//!
//! A message moves inside its shard, by one command: whoever moves it, and however often that is
//! tried, it is moved once. So do the dead letters of a FIFO queue that go back to where they were
//! given up. Those whose group lives on another shard in the queue where they go are received, sent
//! under a key made of their place, and deleted; if that is repeated within the deduplication interval,
//! the second send finds the first. One of them may be half moved, in both queues and hidden in the old one,
//! when its node is killed or cut off: see [`doubt`]. Whoever cancels the task within that minute, or deletes
//! a queue of it, leaves it so.

mod doubt;
mod pace;
mod step;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use flotilla_probe::failpoint;
use flotilla_types::ids::{QueueId, TaskId};
use flotilla_types::limits::MOVE_TASK_HOURS_MAX;
use parking_lot::Mutex;
use tokio::time::{Instant, sleep};

use self::doubt::Doubt;
use self::pace::Pace;
use self::step::{Limits, Progress, Step};
use crate::api::{Cluster as _, MoveFailure, MoveStatus};
use crate::catalog::Command;
use crate::catalog::tasks::{MoveReport, Task};
use crate::node::Node;
use crate::router::LOOK_AGAIN;

pub(crate) use self::step::serve_move;

/// Between two looks for tasks, if nothing changes in the catalog.
const LOOK: Duration = Duration::from_secs(1);
/// Between two reports of how far a task is.
const REPORT: Duration = Duration::from_secs(1);

/// For so long it is waited for what is being handed out to others at every look: they may go on for ever.
const HELD_MAX: Duration = Duration::from_secs(30);

/// A task, and the term in which it is this node's.
type Assignment = (TaskId, u64);

/// Starts what is to be done here, until the node ends.
pub(crate) async fn run(node: Arc<Node>) {
    let in_work: Arc<Mutex<HashSet<Assignment>>> = Arc::default();
    let mut versions = node.catalog.versions();
    let mut looked_in = None;
    loop {
        let term = node.catalog_term_here();
        // What comes up between two looks in one term was begun by nobody else.
        let taken_over = looked_in != term;
        looked_in = term;
        for task in node.catalog.active_tasks() {
            let Some(term) = term else { break };
            let work = (task.shown.id, term);
            if in_work.lock().insert(work) {
                let (node, in_work) = (node.clone(), in_work.clone());
                tokio::spawn(async move {
                    carry_out(&node, work, task.shown.moved, taken_over).await;
                    in_work.lock().remove(&work);
                });
            }
        }
        tokio::select! {
            _ = tokio::time::timeout(LOOK, versions.changed()) => {}
            () = node.stopped() => return,
        }
    }
}

/// Works on a task until it has ended, or is somebody else's.
async fn carry_out(node: &Node, (id, term): Assignment, moved_before: u64, taken_over: bool) {
    let is_ours = || node.catalog_term_here() == Some(term) && !node.stopping();
    let mut known: HashMap<Bytes, QueueId> = HashMap::new();
    let mut pace: Option<Pace> = None;
    let (mut moved, mut reported) = (moved_before, moved_before);
    let mut reported_at = Instant::now();
    let mut turn = 0;
    let mut doubt = Doubt::default();
    let mut held_since: Option<Instant> = None;
    if taken_over {
        doubt.arises(Instant::now());
    }
    while let Some(task) = node.catalog.task(id)
        && is_ours()
    {
        if let Some(end) = end_of(node, &task) {
            return report(node, id, moved, Some(end)).await;
        }
        if task.shown.status != MoveStatus::Running {
            return;
        }
        let pace = pace.get_or_insert_with(|| Pace::new(task.shown.rate));
        let allowed = pace.wait().await;
        turn += 1;
        // What may be half moved is not among those that are counted.
        let to_move = match doubt.is_recent(Instant::now()) {
            true => u64::MAX,
            false => task.shown.to_move.saturating_sub(moved),
        };
        let limits = Limits { turn, allowed, to_move, term };
        let Progress { step, in_doubt } = step::step(node, &task, limits, &mut known).await;
        if in_doubt {
            doubt.arises(Instant::now());
        }
        held_since = match step {
            Step::Held => held_since.or_else(|| Some(Instant::now())),
            _ => None,
        };
        match step {
            Step::Moved(count) => {
                pace.spend(count);
                moved += count;
            }
            Step::Held if held_since.is_some_and(|since| since.elapsed() < HELD_MAX) => {
                sleep(LOOK_AGAIN).await;
            }
            Step::Done | Step::Held if doubt.is_settled() && is_ours() => {
                return report(node, id, moved, Some(Ok(()))).await;
            }
            Step::Done | Step::Held => {
                let hides = may_hide(node, &task).await;
                if !doubt.looked(Instant::now(), hides) {
                    sleep(LOOK).await;
                }
            }
            Step::Failed(failure, count) => {
                return report(node, id, moved + count, Some(Err(failure))).await;
            }
            Step::Trouble => sleep(LOOK_AGAIN).await,
        }
        if moved > reported && reported_at.elapsed() >= REPORT {
            report(node, id, moved, None).await;
            (reported, reported_at) = (moved, Instant::now());
        }
    }
}

/// Whether the task's queue may have messages that are hidden because they were to be moved: only those
/// of FIFO queues ever are. Consumers' are taken for such, too.
async fn may_hide(node: &Node, task: &Task) -> bool {
    let Some(queue) = node.catalog.queue_by_id(task.source) else { return false };
    let is_fifo = queue.attributes.fifo.is_some();
    is_fifo && node.counts(&queue).await.map_or(true, |counts| counts.in_flight > 0)
}

/// Whether the task ends before everything is moved.
fn end_of(node: &Node, task: &Task) -> Option<Result<(), MoveFailure>> {
    let hours_max_ms = MOVE_TASK_HOURS_MAX * 3_600_000;
    if task.shown.status == MoveStatus::Cancelling {
        return Some(Ok(()));
    }
    if task.shown.started_ms + hours_max_ms <= node.clock.now_ms() {
        return Some(Err(MoveFailure::TimedOut));
    }
    let gone = task.destination.is_some_and(|queue| node.catalog.queue_by_id(queue).is_none());
    gone.then_some(Err(MoveFailure::DestinationGone))
}

/// What cannot be reported now is in a later report; an end is found again by whoever goes on.
async fn report(node: &Node, task: TaskId, moved: u64, end: Option<Result<(), MoveFailure>>) {
    failpoint!(MoveReport);
    let report = MoveReport { task, moved, end };
    if let Err(trouble) = node.decide(Command::ReportMove(report)).await {
        tracing::debug!(?task, %trouble, "a move task's progress was not noted");
    }
}
