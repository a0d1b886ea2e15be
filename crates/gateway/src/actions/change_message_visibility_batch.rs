//! ChangeMessageVisibilityBatch.

use flotilla_cluster::api::Cluster;
use serde::Deserialize;

use super::{batch, receipts};
use crate::action::Call;
use crate::error::ApiError;
use crate::shape::{Integer, Text};

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Entry<'a> {
    #[serde(borrow)]
    id: Option<Text<'a>>,
    #[serde(borrow)]
    receipt_handle: Option<Text<'a>>,
    visibility_timeout: Option<Integer>,
}

pub(crate) async fn run<C: Cluster>(
    call: &mut Call<'_, C>,
    request: batch::Request<'_, Entry<'_>>,
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
            Err(error) => response.refuse(call, id, error),
        }
    }
    if changes.is_empty() {
        return Ok(response);
    }
    let results = call.gateway.cluster.change_visibility(&queue, changes).await;
    for ((id, handle, seconds), result) in batch::outcomes(asked, results) {
        match result {
            Ok(()) => response.successful.push(batch::Done { id: id.into_text() }),
            Err(error) => {
                let handle = handle.as_ref().map_or("", Text::as_str);
                response.refuse(call, id, receipts::visibility_error(error, handle, seconds));
            }
        }
    }
    Ok(response)
}
