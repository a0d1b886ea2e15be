//! ListQueues.

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
    queue_name_prefix: Option<Text<'a>>,
    max_results: Option<Integer>,
    #[serde(borrow)]
    next_token: Option<Text<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Response {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    queue_urls: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_token: Option<String>,
}

pub(crate) async fn run<C: Cluster>(
    call: &Call<'_, C>,
    request: Request<'_>,
) -> Result<Response, ApiError> {
    let prefix = request.queue_name_prefix.as_ref().map_or("", Text::as_str);
    let listing = Listing::Queues { prefix };
    let page = Page::of(listing, request.max_results, request.next_token.as_ref())?;
    let names = call.gateway.cluster.list_queues(prefix, page.after(), page.limit()).await?;
    let (names, next_token) = page.cut(names);
    let queue_urls = names.iter().map(|name| call.url(name.as_str())).collect();
    Ok(Response { queue_urls, next_token })
}
