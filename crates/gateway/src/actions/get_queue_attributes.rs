//! GetQueueAttributes.

use std::collections::{BTreeMap, BTreeSet};

use flotilla_cluster::api::{Cluster, Counts, Queue};
use flotilla_types::attributes::AttributeName;
use serde::{Deserialize, Serialize};

use super::selection;
use crate::action::Call;
use crate::error::{ApiError, ErrorKind, shown};
use crate::shape::{Names, Text};
use crate::urls;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Request<'a> {
    #[serde(borrow)]
    queue_url: Option<Text<'a>>,
    #[serde(borrow)]
    attribute_names: Option<Names<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Response {
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    attributes: BTreeMap<&'static str, String>,
}

pub(crate) async fn run<C: Cluster>(
    call: &Call<'_, C>,
    request: Request<'_>,
) -> Result<Response, ApiError> {
    // Who has just changed an attribute through another node reads what it wrote.
    let queue = call.queue_now(request.queue_url.as_ref()).await?;
    let wanted = wanted(request.attribute_names.as_ref())?;
    // Counting asks every shard: only when somebody wants to know.
    let counts = if wanted.iter().any(|name| is_count(*name)) {
        call.gateway.cluster.counts(&queue).await?
    } else {
        Counts::default()
    };
    let arn = urls::arn(&call.gateway.config.region, &call.caller.account, queue.name.as_str());
    let mut values = values(&queue, counts, arn);
    values.retain(|(name, _)| wanted.contains(name));
    Ok(Response { attributes: values.into_iter().map(|(n, v)| (n.as_str(), v)).collect() })
}

fn wanted(names: Option<&Names<'_>>) -> Result<BTreeSet<AttributeName>, ApiError> {
    selection::check("AttributeNames", names)?;
    let mut wanted = BTreeSet::new();
    for name in names.into_iter().flat_map(|list| &list.items) {
        if name.as_str() == "All" {
            wanted.extend(AttributeName::ALL);
            continue;
        }
        wanted.insert(name.as_str().parse().map_err(|_| {
            let text = format!("Unknown Attribute {}.", shown(name.as_str()));
            ApiError::new(ErrorKind::InvalidAttributeName, text)
        })?);
    }
    Ok(wanted)
}

fn is_count(name: AttributeName) -> bool {
    matches!(
        name,
        AttributeName::ApproximateNumberOfMessages
            | AttributeName::ApproximateNumberOfMessagesNotVisible
            | AttributeName::ApproximateNumberOfMessagesDelayed
    )
}

fn values(queue: &Queue, counts: Counts, arn: String) -> Vec<(AttributeName, String)> {
    let mut values = queue.attributes.shown();
    values.extend([
        (AttributeName::ApproximateNumberOfMessages, counts.visible.to_string()),
        (AttributeName::ApproximateNumberOfMessagesNotVisible, counts.in_flight.to_string()),
        (AttributeName::ApproximateNumberOfMessagesDelayed, counts.delayed.to_string()),
        (AttributeName::CreatedTimestamp, queue.created_s.to_string()),
        (AttributeName::LastModifiedTimestamp, queue.modified_s.to_string()),
        (AttributeName::QueueArn, arn),
    ]);
    values
}
