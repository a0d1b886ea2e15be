//! Carries out tasks that move dead letters. The node that leads the catalog does it; when another
//! one takes over, it goes on where the messages are.
//!
//! A message moves inside its shard, by one command: whoever moves it, and however often that is
//! tried, it is moved once. So do the dead letters of a FIFO queue that go back to where they were
//! given up. Those whose group lives on another shard in the queue where they go are received, sent
//! under a key made of their place, and deleted; if that is repeated within the deduplication interval,
//! the second send finds the first.

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

use self::pace::Pace;
use self::step::Step;
use crate::api::{MoveFailure, MoveStatus};
use crate::catalog::Command;
use crate::catalog::tasks::{MoveReport, Task};
use crate::node::Node;
use crate::router::LOOK_AGAIN;

pub(crate) use self::step::serve_move;

/// Between two looks for tasks, if nothing changes in the catalog.
const LOOK: Duration = Duration::from_secs(1);
/// Between two reports of how far a task is.
const REPORT: Duration = Duration::from_secs(1);

/// Starts what is to be done here, until the node ends.
pub(crate) async fn run(node: Arc<Node>) {
    let in_work: Arc<Mutex<HashSet<TaskId>>> = Arc::default();
    let mut versions = node.catalog.versions();
    loop {
        for task in node.catalog.active_tasks() {
            let id = task.shown.id;
            if node.leads_catalog() && in_work.lock().insert(id) {
                let (node, in_work) = (node.clone(), in_work.clone());
                tokio::spawn(async move {
                    carry_out(&node, id, task.shown.moved).await;
                    in_work.lock().remove(&id);
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
async fn carry_out(node: &Node, id: TaskId, moved_before: u64) {
    let mut known: HashMap<Bytes, QueueId> = HashMap::new();
    let mut pace: Option<Pace> = None;
    let mut moved = moved_before;
    let mut reported = Instant::now();
    let mut turn = 0;
    while let Some(task) = node.catalog.task(id) {
        if !node.leads_catalog() || node.stopping() {
            return;
        }
        if let Some(end) = end_of(node, &task) {
            return report(node, id, moved, Some(end)).await;
        }
        if task.shown.status != MoveStatus::Running {
            return;
        }
        let pace = pace.get_or_insert_with(|| Pace::new(task.shown.rate));
        let allowed = pace.wait().await;
        turn += 1;
        match step::step(node, &task, turn, allowed, moved, &mut known).await {
            Step::Moved(count) => {
                pace.spend(count);
                moved += count;
            }
            Step::Done => return report(node, id, moved, Some(Ok(()))).await,
            Step::Failed(failure, count) => {
                return report(node, id, moved + count, Some(Err(failure))).await;
            }
            Step::Trouble => sleep(LOOK_AGAIN).await,
        }
        if reported.elapsed() >= REPORT {
            report(node, id, moved, None).await;
            reported = Instant::now();
        }
    }
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
