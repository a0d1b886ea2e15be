//! TagQueue.

use flotilla_cluster::api::{Cluster, TagError};
use flotilla_types::names::QueueName;
use serde::Deserialize;

use super::tags;
use crate::action::Call;
use crate::error::ApiError;
use crate::shape::{Map, Text};

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Request<'a> {
    #[serde(borrow)]
    queue_url: Option<Text<'a>>,
    #[serde(borrow)]
    tags: Option<Map<'a, Text<'a>>>,
}

pub(crate) async fn run<C: Cluster>(
    call: &Call<'_, C>,
    request: Request<'_>,
) -> Result<(), ApiError> {
    let queue = call.queue(request.queue_url.as_ref()).await?;
    let tags = request.tags.filter(|tags| tags.total > 0);
    let tags = tags::check(&tags.ok_or_else(|| ApiError::missing("Tags"))?, &queue.name)?;
    let tagged = call.gateway.cluster.tag_queue(&queue, &tags).await;
    tagged.map_err(|error| refusal(error, &queue.name))
}

fn refusal(error: TagError, queue_name: &QueueName) -> ApiError {
    match error {
        TagError::NotFound => ApiError::no_such_queue(),
        TagError::TooMany => tags::too_many(queue_name),
        TagError::Trouble(trouble) => trouble.into(),
    }
}
