//! DeleteMessage.

use flotilla_cluster::api::Cluster;
use serde::Deserialize;

use super::{batch, receipts};
use crate::action::Call;
use crate::error::ApiError;
use crate::shape::Text;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Request<'a> {
    #[serde(borrow)]
    queue_url: Option<Text<'a>>,
    #[serde(borrow)]
    receipt_handle: Option<Text<'a>>,
}

pub(crate) async fn run<C: Cluster>(
    call: &Call<'_, C>,
    request: Request<'_>,
) -> Result<(), ApiError> {
    let queue = call.queue(request.queue_url.as_ref()).await?;
    let receipt = receipts::open(call, &queue, request.receipt_handle.as_ref())?;
    batch::outcome(call.gateway.cluster.delete(&queue, vec![receipt]).await).map_err(|error| {
        let handle = request.receipt_handle.as_ref().map_or("", Text::as_str);
        receipts::delete_error(error, handle)
    })?;
    call.gateway.metrics.queue(&queue).deleted.inc();
    Ok(())
}
