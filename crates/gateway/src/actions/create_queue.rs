//! CreateQueue.

use flotilla_cluster::api::{Cluster, CreateError};
use flotilla_types::attributes::{AttributeName, PatchFor};
use flotilla_types::names::QueueName;
use serde::{Deserialize, Serialize};

use super::{queue_attributes, tags};
use crate::action::Call;
use crate::error::{ApiError, ErrorKind};
use crate::shape::{Map, Text};

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Request<'a> {
    #[serde(borrow)]
    queue_name: Option<Text<'a>>,
    #[serde(borrow)]
    attributes: Option<Map<'a, Text<'a>>>,
    #[serde(borrow, rename = "tags")]
    tags: Option<Map<'a, Text<'a>>>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Response {
    queue_url: String,
}

pub(crate) async fn run<C: Cluster>(
    call: &Call<'_, C>,
    request: Request<'_>,
) -> Result<Response, ApiError> {
    let name = check_name(request.queue_name.as_ref(), fifo_queue(request.attributes.as_ref()))?;
    let purpose = PatchFor::Create;
    let patch = queue_attributes::check(call, &name, request.attributes.as_ref(), purpose).await?;
    // A map without entries cannot be told from no map in a form, and is none in JSON either.
    let tags = request.tags.as_ref().filter(|tags| tags.total > 0);
    let tags = tags.map(|tags| tags::check(tags, &name)).transpose()?;
    let created = call.gateway.cluster.create_queue(&name, &patch, tags.as_ref()).await;
    let queue = created.map_err(refusal)?;
    Ok(Response { queue_url: call.url(queue.name.as_str()) })
}

fn fifo_queue<'a>(attributes: Option<&'a Map<'_, Text<'_>>>) -> Option<&'a str> {
    let mut items = attributes?.items.iter().rev();
    let (_, value) = items.find(|(name, _)| name == AttributeName::FifoQueue.as_str())?;
    Some(value.as_str())
}

/// The name must be that of a queue of the type that the attribute asks for.
fn check_name(name: Option<&Text<'_>>, fifo: Option<&str>) -> Result<QueueName, ApiError> {
    let name = name.map_or("", Text::as_str);
    if name.is_empty() {
        return Err(no_name());
    }
    let asked_for = fifo.is_some_and(|value| value.eq_ignore_ascii_case("true"));
    // Another value than true is left to the check of the attributes, which refuses it.
    let type_is_known = asked_for || fifo.is_none();
    let is_of_type = |name: &QueueName| !type_is_known || name.is_fifo() == asked_for;
    QueueName::new(name).ok().filter(is_of_type).ok_or_else(|| {
        ApiError::invalid(if asked_for {
            "The name of a FIFO queue can only include alphanumeric characters, hyphens, or \
             underscores, must end with .fifo suffix and be 1 to 80 in length."
        } else {
            "Can only include alphanumeric characters, hyphens, or underscores. \
             1 to 80 in length"
        })
    })
}

/// What a request without a name is answered with.
pub(crate) fn no_name() -> ApiError {
    ApiError::invalid(
        "Value for parameter QueueName is invalid. Reason: Must specify a queue name.",
    )
}

fn refusal(error: CreateError) -> ApiError {
    match error {
        CreateError::AttributeDiffers(name) => ApiError::new(
            ErrorKind::QueueNameExists,
            format!(
                "A queue already exists with the same name and a different value for attribute \
                 {name}"
            ),
        ),
        CreateError::TagsDiffer => ApiError::new(
            ErrorKind::QueueNameExists,
            "A queue already exists with the same name and different values for tags",
        ),
        CreateError::DeletedRecently => ApiError::new(
            ErrorKind::QueueDeletedRecently,
            "You must wait 60 seconds after deleting a queue before you can create another with \
             the same name.",
        ),
        CreateError::TooMany => {
            ApiError::new(ErrorKind::OverLimit, "The maximum number of queues has been reached.")
        }
        CreateError::Trouble(trouble) => trouble.into(),
    }
}
