//! CreateQueue.

use std::collections::BTreeMap;

use flotilla_cluster::api::{Cluster, CreateError};
use flotilla_types::attributes::PatchFor;
use flotilla_types::limits;
use flotilla_types::names::QueueName;
use serde::{Deserialize, Serialize};

use super::queue_attributes;
use crate::action::Call;
use crate::error::{ApiError, ErrorKind};
use crate::shape::{Map, Text};

const TAG_KEY_CHARS_MAX: usize = 128;
const TAG_VALUE_CHARS_MAX: usize = 256;

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
    let name = check_name(request.queue_name.as_ref())?;
    let purpose = PatchFor::Create;
    let patch = queue_attributes::check(call, &name, request.attributes.as_ref(), purpose).await?;
    let tags = request.tags.as_ref().map(|tags| check_tags(tags, &name)).transpose()?;
    let created = call.gateway.cluster.create_queue(&name, &patch, tags.as_ref()).await;
    let queue = created.map_err(refusal)?;
    Ok(Response { queue_url: call.url(queue.name.as_str()) })
}

fn check_name(name: Option<&Text<'_>>) -> Result<QueueName, ApiError> {
    let name = name.map_or("", Text::as_str);
    if name.is_empty() {
        return Err(no_name());
    }
    let name = QueueName::new(name).map_err(|_| {
        ApiError::invalid(
            "Can only include alphanumeric characters, hyphens, or underscores. \
             1 to 80 in length",
        )
    })?;
    if name.is_fifo() {
        return Err(ApiError::unsupported(queue_attributes::NO_FIFO));
    }
    Ok(name)
}

/// What a request without a name is answered with.
pub(crate) fn no_name() -> ApiError {
    ApiError::invalid(
        "Value for parameter QueueName is invalid. Reason: Must specify a queue name.",
    )
}

fn check_tags(
    tags: &Map<'_, Text<'_>>,
    queue_name: &QueueName,
) -> Result<BTreeMap<String, String>, ApiError> {
    if tags.total > limits::TAGS_MAX {
        return Err(ApiError::invalid(format!("Too many tags added for queue {queue_name}.")));
    }
    let allowed = |c: char| c.is_alphanumeric() || c.is_whitespace() || "_.:/=+-@".contains(c);
    let symbols = "may only contain unicode letters, digits, whitespace, or one of these symbols: \
                   _ . : / = + - @";
    for (key, value) in &tags.items {
        if key.is_empty() || key.chars().count() > TAG_KEY_CHARS_MAX {
            return Err(ApiError::invalid(
                "Tag keys must be between 1 and 128 characters in length.",
            ));
        }
        if !key.chars().all(allowed) {
            return Err(ApiError::invalid(format!("Tag keys {symbols}")));
        }
        if key.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("aws:")) {
            return Err(ApiError::invalid("Tag keys must not start with the prefix aws:"));
        }
        if value.0.chars().count() > TAG_VALUE_CHARS_MAX {
            return Err(ApiError::invalid(
                "Tag values must be between 0 and 256 characters in length.",
            ));
        }
        if !value.0.chars().all(allowed) {
            return Err(ApiError::invalid(format!("Tag values {symbols}")));
        }
    }
    let owned = tags.items.iter().map(|(key, value)| (key.to_string(), value.0.to_string()));
    Ok(owned.collect())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags() {
        let check = |json: &str| {
            check_tags(&serde_json::from_str(json).unwrap(), &QueueName::new("q").unwrap())
        };
        let tags = check("{\"team\":\"a b\",\"é_.:/=+-@\":\"\"}").unwrap();
        assert_eq!(tags["team"], "a b");
        let many = |n: usize| {
            let tags: Vec<_> = (0..n).map(|i| format!("\"k{i}\":\"v\"")).collect();
            check(&format!("{{{}}}", tags.join(",")))
        };
        assert!(many(50).is_ok());
        for (refused, text) in [
            (many(51), "Too many tags added for queue q."),
            (check("{\"\":\"\"}"), "Tag keys must be between 1 and 128 characters in length."),
            (check("{\"aws:x\":\"\"}"), "Tag keys must not start with the prefix aws:"),
            (
                check("{\"a!\":\"\"}"),
                "Tag keys may only contain unicode letters, digits, whitespace, or one of these \
                 symbols: _ . : / = + - @",
            ),
        ] {
            assert_eq!(refused.unwrap_err().message, text);
        }
    }
}
