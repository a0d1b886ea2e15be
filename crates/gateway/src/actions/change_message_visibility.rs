//! ChangeMessageVisibility.

use flotilla_cluster::api::Cluster;
use serde::Deserialize;

use super::{batch, receipts};
use crate::action::Call;
use crate::error::ApiError;
use crate::shape::{Integer, Text};

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Request<'a> {
    #[serde(borrow)]
    queue_url: Option<Text<'a>>,
    #[serde(borrow)]
    receipt_handle: Option<Text<'a>>,
    visibility_timeout: Option<Integer>,
}

pub(crate) async fn run<C: Cluster>(
    call: &Call<'_, C>,
    request: Request<'_>,
) -> Result<(), ApiError> {
    let queue = call.queue(request.queue_url.as_ref()).await?;
    let receipt = receipts::open(call, &queue, request.receipt_handle.as_ref())?;
    let seconds = receipts::visibility(request.visibility_timeout)?;
    let results = call.gateway.cluster.change_visibility(&queue, vec![(receipt, seconds)]).await;
    batch::outcome(results).map_err(|error| {
        let handle = request.receipt_handle.as_ref().map_or("", Text::as_str);
        receipts::visibility_error(error, handle, seconds)
    })
}
