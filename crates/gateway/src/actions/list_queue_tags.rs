//! ListQueueTags.

use std::collections::BTreeMap;

use flotilla_cluster::api::Cluster;
use serde::{Deserialize, Serialize};

use crate::action::Call;
use crate::error::ApiError;
use crate::shape::Text;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Request<'a> {
    #[serde(borrow)]
    queue_url: Option<Text<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Response {
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    tags: BTreeMap<String, String>,
}

pub(crate) async fn run<C: Cluster>(
    call: &Call<'_, C>,
    request: Request<'_>,
) -> Result<Response, ApiError> {
    // Who has just changed a tag through another node reads what it wrote.
    let queue = call.queue_now(request.queue_url.as_ref()).await?;
    Ok(Response { tags: queue.tags.clone() })
}
