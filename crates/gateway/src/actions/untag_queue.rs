//! UntagQueue.

use std::collections::BTreeSet;

use flotilla_cluster::api::Cluster;
use flotilla_types::names::QueueName;
use serde::Deserialize;

use super::tags;
use crate::action::Call;
use crate::error::ApiError;
use crate::shape::{List, Text};

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Request<'a> {
    #[serde(borrow)]
    queue_url: Option<Text<'a>>,
    #[serde(borrow)]
    tag_keys: Option<List<Text<'a>>>,
}

pub(crate) async fn run<C: Cluster>(
    call: &Call<'_, C>,
    request: Request<'_>,
) -> Result<(), ApiError> {
    let queue = call.queue(request.queue_url.as_ref()).await?;
    let keys = request.tag_keys.ok_or_else(|| ApiError::missing("TagKeys"))?;
    let keys = check(&keys, &queue.name)?;
    Ok(call.gateway.cluster.untag_queue(&queue, &keys).await?)
}

fn check(keys: &List<Text<'_>>, queue_name: &QueueName) -> Result<BTreeSet<String>, ApiError> {
    if keys.total == 0 {
        return Err(tags::key_length());
    }
    // Keys that the queue does not have are welcome, but only as many as were kept.
    if keys.total > keys.items.len() {
        return Err(ApiError::invalid(format!("Too many tag keys for queue {queue_name}.")));
    }
    for key in &keys.items {
        tags::check_key(key.as_str())?;
    }
    Ok(keys.items.iter().map(|key| key.0.to_string()).collect())
}
