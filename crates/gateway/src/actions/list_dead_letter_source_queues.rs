//! ListDeadLetterSourceQueues.

use flotilla_cluster::api::Cluster;
use serde::{Deserialize, Serialize};

use super::pages::{Listing, Page};
use crate::action::Call;
use crate::error::ApiError;
use crate::shape::{Integer, Text};

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Request<'a> {
    #[serde(borrow)]
    queue_url: Option<Text<'a>>,
    max_results: Option<Integer>,
    #[serde(borrow)]
    next_token: Option<Text<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Response {
    /// There also when it is empty: SQS's model calls it required.
    #[serde(rename = "queueUrls")]
    queue_urls: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_token: Option<String>,
}

pub(crate) async fn run<C: Cluster>(
    call: &Call<'_, C>,
    request: Request<'_>,
) -> Result<Response, ApiError> {
    let queue = call.queue(request.queue_url.as_ref()).await?;
    let listing = Listing::DeadLetterSources { of: &queue.name };
    let page = Page::of(listing, request.max_results, request.next_token.as_ref())?;
    let cluster = &call.gateway.cluster;
    let names = cluster.dead_letter_sources(&queue, page.after(), page.limit()).await?;
    let (names, next_token) = page.cut(names);
    let queue_urls = names.iter().map(|name| call.url(name.as_str())).collect();
    Ok(Response { queue_urls, next_token })
}
