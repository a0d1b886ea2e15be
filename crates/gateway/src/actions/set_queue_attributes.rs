//! SetQueueAttributes.

use flotilla_cluster::api::Cluster;
use flotilla_types::attributes::PatchFor;
use serde::Deserialize;

use super::queue_attributes;
use crate::action::Call;
use crate::error::ApiError;
use crate::shape::{Map, Text};

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Request<'a> {
    #[serde(borrow)]
    queue_url: Option<Text<'a>>,
    #[serde(borrow)]
    attributes: Option<Map<'a, Text<'a>>>,
}

pub(crate) async fn run<C: Cluster>(
    call: &Call<'_, C>,
    request: Request<'_>,
) -> Result<(), ApiError> {
    let queue = call.queue(request.queue_url.as_ref()).await?;
    let attributes = request.attributes.ok_or_else(|| ApiError::missing("Attributes"))?;
    let purpose = PatchFor::change(&queue.attributes);
    let patch = queue_attributes::check(call, &queue.name, Some(&attributes), purpose).await?;
    if patch.is_empty() {
        return Ok(());
    }
    Ok(call.gateway.cluster.set_attributes(&queue, &patch).await?)
}
