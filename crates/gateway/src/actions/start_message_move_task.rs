//! StartMessageMoveTask.

use flotilla_cluster::api::{Cluster, Queue, StartMoveError};
use flotilla_types::ids::TaskId;
use flotilla_types::limits;
use serde::{Deserialize, Serialize};

use super::{moves, task_handle};
use crate::action::Call;
use crate::error::{ApiError, ErrorKind};
use crate::ids;
use crate::shape::{Integer, Text};

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Request<'a> {
    #[serde(borrow)]
    source_arn: Option<Text<'a>>,
    #[serde(borrow)]
    destination_arn: Option<Text<'a>>,
    max_number_of_messages_per_second: Option<Integer>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Response {
    task_handle: String,
}

pub(crate) async fn run<C: Cluster>(
    call: &Call<'_, C>,
    request: Request<'_>,
) -> Result<Response, ApiError> {
    let source = moves::source(request.source_arn.as_ref())?;
    let destination = moves::optional(moves::DESTINATION, request.destination_arn.as_ref())?;
    let source = moves::find(call, moves::SOURCE, &source).await?;
    let destination = match destination {
        Some(arn) => Some(moves::find(call, moves::DESTINATION, &arn).await?),
        None => None,
    };
    let rate = |given| moves::number("MaxNumberOfMessagesPerSecond", given, limits::MOVE_RATE_MAX);
    let rate = request.max_number_of_messages_per_second.map(rate).transpose()?;
    if let Some(destination) = &destination {
        check_destination(&source, destination)?;
    }
    let task = TaskId(ids::draw());
    let cluster = &call.gateway.cluster;
    let started = cluster.start_move(task, &source, destination.as_deref(), rate).await;
    started.map_err(refusal)?;
    Ok(Response { task_handle: task_handle::seal(task, &moves::arn(call, &source.name)) })
}

fn check_destination(source: &Queue, destination: &Queue) -> Result<(), ApiError> {
    if destination.name == source.name {
        return Err(ApiError::invalid(
            "Source queue arn and destination queue arn cannot be the same.",
        ));
    }
    if destination.name.is_fifo() != source.name.is_fifo() {
        return Err(ApiError::invalid(
            "The source queue and destination queue must be of the same queue type.",
        ));
    }
    Ok(())
}

fn refusal(error: StartMoveError) -> ApiError {
    match error {
        // Both queues were there a moment ago; the task is the source's.
        StartMoveError::NotFound => moves::no_resource(moves::SOURCE),
        StartMoveError::NotDeadLetterQueue => {
            ApiError::invalid("Source queue must be configured as a Dead Letter Queue.")
        }
        StartMoveError::AlreadyRunning => ApiError::invalid(
            "There is already a task running. Only one active task is allowed for a source queue \
             arn at a given time.",
        ),
        StartMoveError::TooMany => ApiError::new(
            ErrorKind::OverLimit,
            "The maximum number of active message move tasks has been reached.",
        ),
        StartMoveError::Trouble(trouble) => trouble.into(),
    }
}
