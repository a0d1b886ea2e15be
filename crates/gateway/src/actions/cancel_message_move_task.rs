//! CancelMessageMoveTask.

use flotilla_cluster::api::{CancelMoveError, Cluster};
use serde::{Deserialize, Serialize};

use super::{moves, task_handle};
use crate::action::Call;
use crate::error::ApiError;
use crate::shape::Text;
use crate::urls::Arn;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Request<'a> {
    #[serde(borrow)]
    task_handle: Option<Text<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Response {
    approximate_number_of_messages_moved: u64,
}

pub(crate) async fn run<C: Cluster>(
    call: &Call<'_, C>,
    request: Request<'_>,
) -> Result<Response, ApiError> {
    let handle = request.task_handle.filter(|handle| !handle.0.is_empty());
    let handle = handle.ok_or_else(|| ApiError::missing("TaskHandle"))?;
    let invalid = || ApiError::invalid("Value for parameter TaskHandle is invalid.");
    let (task, source_arn) = task_handle::open(handle.as_str()).ok_or_else(invalid)?;
    let source = Arn::parse(&source_arn).ok_or_else(invalid)?;
    let source = moves::find(call, moves::SOURCE, &source).await?;
    let cancelled = call.gateway.cluster.cancel_move(&source, task).await;
    let approximate_number_of_messages_moved = cancelled.map_err(refusal)?;
    Ok(Response { approximate_number_of_messages_moved })
}

fn refusal(error: CancelMoveError) -> ApiError {
    match error {
        CancelMoveError::NotFound => moves::no_task(),
        CancelMoveError::NotRunning => ApiError::invalid("Only active tasks can be cancelled."),
        CancelMoveError::Trouble(trouble) => trouble.into(),
    }
}
