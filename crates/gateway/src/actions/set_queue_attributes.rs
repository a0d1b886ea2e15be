//! SetQueueAttributes.

use flotilla_cluster::api::{Cluster, SetAttributesError};
use flotilla_types::attributes::{AttributeError, PatchFor};
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
    // What is set must go with what the queue has, which another node may have changed just now.
    let queue = call.queue_now(request.queue_url.as_ref()).await?;
    let attributes = request.attributes.ok_or_else(|| ApiError::missing("Attributes"))?;
    let purpose = PatchFor::change(&queue.attributes);
    let patch = queue_attributes::check(call, &queue.name, Some(&attributes), purpose).await?;
    if patch.is_empty() {
        return Ok(());
    }
    call.gateway.cluster.set_attributes(&queue, &patch).await.map_err(refusal)
}

fn refusal(error: SetAttributesError) -> ApiError {
    match error {
        SetAttributesError::NotFound => ApiError::no_such_queue(),
        SetAttributesError::LimitBeyondScope => {
            queue_attributes::refusal(AttributeError::LimitBeyondScope)
        }
        SetAttributesError::Trouble(trouble) => trouble.into(),
    }
}
