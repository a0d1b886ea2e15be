//! DeleteMessageBatch.

use flotilla_cluster::api::{Cluster, Trouble};
use serde::Deserialize;

use super::{batch, receipts};
use crate::action::Call;
use crate::error::ApiError;
use crate::shape::{List, Struct, Text};

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
}

pub(crate) async fn run<C: Cluster>(
    call: &mut Call<'_, C>,
    request: Request<'_>,
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
            Err(error) => response.fail(id, error),
        }
    }
    if opened.is_empty() {
        return Ok(response);
    }
    let results = call.gateway.cluster.delete(&queue, opened).await;
    let metrics = call.gateway.metrics.queue(&queue);
    let missing = std::iter::repeat(Err(Trouble::Unavailable { maybe_applied: true }));
    for (id, result) in ids.into_iter().zip(results.into_iter().chain(missing)) {
        match result {
            Ok(()) => {
                metrics.deleted.inc();
                response.successful.push(batch::Done { id });
            }
            Err(trouble) => {
                let error = trouble.into();
                call.note(&error);
                response.fail(id, error);
            }
        }
    }
    Ok(response)
}
