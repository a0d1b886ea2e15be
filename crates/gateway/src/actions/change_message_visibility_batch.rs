//! ChangeMessageVisibilityBatch.

use flotilla_cluster::api::{Cluster, Trouble};
use serde::Deserialize;

use super::{batch, receipts};
use crate::action::Call;
use crate::error::ApiError;
use crate::shape::{Integer, List, Struct, Text};

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Request<'a> {
    #[serde(borrow)]
    queue_url: Option<Text<'a>>,
    #[serde(borrow)]
    entries: Option<List<Struct<Entry<'a>>>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry<'a> {
    #[serde(borrow)]
    id: Option<Text<'a>>,
    #[serde(borrow)]
    receipt_handle: Option<Text<'a>>,
    visibility_timeout: Option<Integer>,
}

pub(crate) async fn run<C: Cluster>(
    call: &mut Call<'_, C>,
    request: Request<'_>,
) -> Result<batch::Response<batch::Done>, ApiError> {
    let queue = call.queue(request.queue_url.as_ref()).await?;
    let entries = batch::check(request.entries, "ChangeMessageVisibilityBatch", |e| e.id.take())?;
    let mut response = batch::Response::new();
    let (mut asked, mut changes) = (Vec::new(), Vec::new());
    for (id, entry) in entries {
        let change =
            receipts::open(call, &queue, entry.receipt_handle.as_ref()).and_then(|receipt| {
                receipts::visibility(entry.visibility_timeout).map(|s| (receipt, s))
            });
        match change {
            Ok(change) => {
                asked.push((id, entry.receipt_handle, change.1));
                changes.push(change);
            }
            Err(error) => response.fail(id, error),
        }
    }
    if changes.is_empty() {
        return Ok(response);
    }
    let results = call.gateway.cluster.change_visibility(&queue, changes).await;
    let missing = std::iter::repeat(Err(Trouble::Unavailable { maybe_applied: true }.into()));
    for ((id, handle, seconds), result) in asked.into_iter().zip(results.into_iter().chain(missing))
    {
        match result {
            Ok(()) => response.successful.push(batch::Done { id }),
            Err(error) => {
                let handle = handle.as_ref().map_or("", Text::as_str);
                let error = receipts::visibility_error(error, handle, seconds);
                call.note(&error);
                response.fail(id, error);
            }
        }
    }
    Ok(response)
}
