//! ListMessageMoveTasks.

use flotilla_cluster::api::{Cluster, MoveFailure, MoveStatus, MoveTask};
use flotilla_types::limits;
use serde::{Deserialize, Serialize};

use super::{moves, task_handle};
use crate::action::Call;
use crate::error::{ApiError, ErrorKind};
use crate::shape::{Integer, Text};

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Request<'a> {
    #[serde(borrow)]
    source_arn: Option<Text<'a>>,
    max_results: Option<Integer>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Response {
    /// There also when it is empty.
    results: Vec<Entry>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    /// Of a task that runs: there is nothing to do with the handle of another one.
    #[serde(skip_serializing_if = "Option::is_none")]
    task_handle: Option<String>,
    status: &'static str,
    source_arn: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    destination_arn: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_number_of_messages_per_second: Option<u32>,
    approximate_number_of_messages_moved: u64,
    approximate_number_of_messages_to_move: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    failure_reason: Option<&'static str>,
    started_timestamp: u64,
}

pub(crate) async fn run<C: Cluster>(
    call: &Call<'_, C>,
    request: Request<'_>,
) -> Result<Response, ApiError> {
    let source = moves::source(request.source_arn.as_ref())?;
    let source = moves::find(call, moves::SOURCE, &source).await?;
    let max = limits::MOVE_TASKS_LISTED_MAX;
    let limit =
        request.max_results.map_or(Ok(1), |given| moves::number("MaxResults", given, max))?;
    let tasks = call.gateway.cluster.move_tasks(&source, limit).await?;
    Ok(Response { results: tasks.into_iter().map(|task| entry(call, &task)).collect() })
}

fn entry<C>(call: &Call<'_, C>, task: &MoveTask) -> Entry {
    let source_arn = moves::arn(call, &task.source);
    let running = task.status == MoveStatus::Running;
    Entry {
        task_handle: running.then(|| task_handle::seal(task.id, &source_arn)),
        status: status(task.status),
        source_arn,
        destination_arn: task.destination.as_ref().map(|queue_name| moves::arn(call, queue_name)),
        max_number_of_messages_per_second: task.rate,
        approximate_number_of_messages_moved: task.moved,
        approximate_number_of_messages_to_move: task.to_move,
        failure_reason: task.failure.map(failure_reason),
        started_timestamp: task.started_ms,
    }
}

fn status(status: MoveStatus) -> &'static str {
    match status {
        MoveStatus::Running => "RUNNING",
        MoveStatus::Completed => "COMPLETED",
        MoveStatus::Cancelling => "CANCELLING",
        MoveStatus::Cancelled => "CANCELLED",
        MoveStatus::Failed => "FAILED",
    }
}

fn failure_reason(failure: MoveFailure) -> &'static str {
    match failure {
        MoveFailure::DestinationGone => ErrorKind::QueueDoesNotExist.code(),
        MoveFailure::NoSource => "CouldNotDetermineMessageSource",
        MoveFailure::SourceForbidden => "AccessDenied",
        MoveFailure::TimedOut => "TimedOut",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_of_failures() {
        for (failure, reason) in [
            (MoveFailure::DestinationGone, "AWS.SimpleQueueService.NonExistentQueue"),
            (MoveFailure::NoSource, "CouldNotDetermineMessageSource"),
            (MoveFailure::SourceForbidden, "AccessDenied"),
            (MoveFailure::TimedOut, "TimedOut"),
        ] {
            assert_eq!(failure_reason(failure), reason);
        }
    }
}
