//! GetQueueUrl.

use flotilla_cluster::api::Cluster;
use flotilla_types::names::QueueName;
use serde::{Deserialize, Serialize};

use super::create_queue::no_name;
use crate::action::Call;
use crate::error::ApiError;
use crate::shape::Text;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Request<'a> {
    #[serde(borrow)]
    queue_name: Option<Text<'a>>,
    #[serde(borrow, rename = "QueueOwnerAWSAccountId")]
    owner: Option<Text<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Response {
    queue_url: String,
}

pub(crate) async fn run<C: Cluster>(
    call: &Call<'_, C>,
    request: Request<'_>,
) -> Result<Response, ApiError> {
    let name = request.queue_name.as_ref().map_or("", Text::as_str);
    if name.is_empty() {
        return Err(no_name());
    }
    let foreign = |owner: Text<'_>| owner.as_str() != call.caller.account.as_str();
    if request.owner.is_some_and(foreign) {
        return Err(ApiError::no_such_queue());
    }
    let name = QueueName::new(name).map_err(|_| ApiError::no_such_queue())?;
    let queue = call.gateway.cluster.queue(&name).await?;
    Ok(Response { queue_url: call.url(queue.name.as_str()) })
}
