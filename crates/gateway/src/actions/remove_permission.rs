//! RemovePermission.

use flotilla_cluster::api::{Cluster, RemovePermissionError};
use flotilla_types::attributes::RevokeError;
use flotilla_types::permission::Label;
use serde::Deserialize;

use super::add_permission;
use crate::action::Call;
use crate::error::ApiError;
use crate::shape::Text;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Request<'a> {
    #[serde(borrow)]
    queue_url: Option<Text<'a>>,
    #[serde(borrow)]
    label: Option<Text<'a>>,
}

pub(crate) async fn run<C: Cluster>(
    call: &Call<'_, C>,
    request: Request<'_>,
) -> Result<(), ApiError> {
    let queue = call.queue(request.queue_url.as_ref()).await?;
    let label = add_permission::check_label(request.label.as_ref())?;
    let removed = call.gateway.cluster.remove_permission(&queue, &label).await;
    removed.map_err(|error| refusal(error, &label))
}

fn refusal(error: RemovePermissionError, label: &Label) -> ApiError {
    let unknown = |reason| ApiError::invalid_value(label, "Label", reason);
    match error {
        RemovePermissionError::NotFound => ApiError::no_such_queue(),
        RemovePermissionError::Refused(RevokeError::NoPolicy) => unknown("can't find label."),
        RemovePermissionError::Refused(RevokeError::NoSuchLabel) => {
            unknown("can't find label on existing policy.")
        }
        RemovePermissionError::Trouble(trouble) => trouble.into(),
    }
}
