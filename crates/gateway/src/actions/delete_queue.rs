//! DeleteQueue.

use flotilla_cluster::api::Cluster;
use serde::Deserialize;

use crate::action::Call;
use crate::error::ApiError;
use crate::shape::Text;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Request<'a> {
    #[serde(borrow)]
    queue_url: Option<Text<'a>>,
}

pub(crate) async fn run<C: Cluster>(
    call: &Call<'_, C>,
    request: Request<'_>,
) -> Result<(), ApiError> {
    let queue = call.queue(request.queue_url.as_ref()).await?;
    call.gateway.cluster.delete_queue(&queue).await?;
    call.gateway.metrics.forget(&queue);
    Ok(())
}
