//! DeleteMessageBatch.

use flotilla_cluster::api::Cluster;
use flotilla_probe::planted;
use serde::Deserialize;

use super::{batch, receipts};
use crate::action::Call;
use crate::error::ApiError;
use crate::shape::Text;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Entry<'a> {
    #[serde(borrow)]
    id: Option<Text<'a>>,
    #[serde(borrow)]
    receipt_handle: Option<Text<'a>>,
}

pub(crate) async fn run<C: Cluster>(
    call: &mut Call<'_, C>,
    request: batch::Request<'_, Entry<'_>>,
) -> Result<batch::Response<batch::Done>, ApiError> {
    let queue = call.queue(request.queue_url.as_ref()).await?;
    let entries = batch::check(request.entries, "DeleteMessageBatchRequestEntry", |e| e.id.take())?;
    let mut response = batch::Response::new();
    let (mut ids, mut opened) = (Vec::new(), Vec::new());
    for (id, entry) in entries {
        match receipts::open(call, &queue, entry.receipt_handle.as_ref()) {
            Ok(receipt) => {
                ids.push(id);
                opened.push(receipt);
            }
            Err(error) => response.refuse(call, id, error),
        }
    }
    if opened.is_empty() {
        return Ok(response);
    }
    let results = call.gateway.cluster.delete(&queue, opened).await;
    let metrics = call.gateway.metrics.queue(&queue);
    for (id, result) in batch::outcomes(ids, results) {
        match result {
            Err(_) if planted!(BatchSaysOk) => {
                response.successful.push(batch::Done { id: id.into_text() })
            }
            Ok(()) => {
                metrics.deleted.inc();
                response.successful.push(batch::Done { id: id.into_text() });
            }
            Err(error) => response.refuse(call, id, receipts::delete_entry_error(error)),
        }
    }
    Ok(response)
}
