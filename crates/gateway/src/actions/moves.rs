//! What the actions on move tasks share: queues named by ARN, and numbers in a range.

use std::fmt::Display;
use std::sync::Arc;

use flotilla_cluster::api::{Cluster, Queue, QueueError};
use flotilla_types::names::QueueName;

use crate::action::Call;
use crate::error::{ApiError, ErrorKind};
use crate::shape::{Integer, Text};
use crate::urls::{self, Arn};

/// Parameters that name queues.
pub(crate) const SOURCE: &str = "SourceArn";
pub(crate) const DESTINATION: &str = "DestinationArn";

/// The dead-letter queue that a request names, not looked up yet.
///
/// # Errors
/// `MissingParameter`; `InvalidParameterValue` when it is no ARN.
pub(crate) fn source<'a>(given: Option<&'a Text<'_>>) -> Result<Arn<'a>, ApiError> {
    optional(SOURCE, given)?.ok_or_else(|| ApiError::missing(SOURCE))
}

/// The queue that a request names, if it names one, not looked up yet. An empty ARN names none.
///
/// # Errors
/// `InvalidParameterValue` when it is no ARN.
pub(crate) fn optional<'a>(
    parameter: &str,
    given: Option<&'a Text<'_>>,
) -> Result<Option<Arn<'a>>, ApiError> {
    let text = given.map(Text::as_str).filter(|text| !text.is_empty());
    let parse = |text| {
        Arn::parse(text).ok_or_else(|| {
            ApiError::invalid(format!(
                "You must use this format to specify the {parameter}: \
                 arn:<partition>:<service>:<region>:<account-id>:<resource-id>"
            ))
        })
    };
    text.map(parse).transpose()
}

/// Looks a queue up.
///
/// # Errors
/// `ResourceNotFoundException`, also for a queue elsewhere or of another account; trouble.
pub(crate) async fn find<C: Cluster>(
    call: &Call<'_, C>,
    parameter: &str,
    arn: &Arn<'_>,
) -> Result<Arc<Queue>, ApiError> {
    let here = arn.service == "sqs"
        && arn.region == call.gateway.config.region
        && arn.account == call.caller.account.as_str();
    let name = QueueName::new(arn.resource).ok().filter(|_| here);
    let name = name.ok_or_else(|| no_resource(parameter))?;
    match call.gateway.cluster.queue(&name).await {
        Ok(queue) => Ok(queue),
        Err(QueueError::NotFound) => Err(no_resource(parameter)),
        Err(QueueError::Trouble(trouble)) => Err(trouble.into()),
    }
}

/// ARN of a queue of the caller.
pub(crate) fn arn<C>(call: &Call<'_, C>, queue_name: &QueueName) -> String {
    urls::arn(&call.gateway.config.region, &call.caller.account, queue_name.as_str())
}

pub(crate) fn no_resource(parameter: &str) -> ApiError {
    not_found(format!(
        "The resource that you specified for the {parameter} parameter doesn't exist."
    ))
}

pub(crate) fn no_task() -> ApiError {
    not_found("Task does not exist.".to_owned())
}

fn not_found(message: String) -> ApiError {
    ApiError::new(ErrorKind::ResourceNotFound, message)
}

/// Checks a number from 1 to `max`.
///
/// # Errors
/// `InvalidParameterValue`.
pub(crate) fn number<N: TryFrom<i64> + From<u8> + PartialOrd + Display>(
    parameter: &str,
    Integer(given): Integer,
    max: N,
) -> Result<N, ApiError> {
    let in_range = |number: &N| *number >= N::from(1) && *number <= max;
    N::try_from(given).ok().filter(in_range).ok_or_else(|| {
        ApiError::invalid(format!(
            "Value for parameter {parameter} is invalid. \
             Reason: You must enter a number that's between 1 and {max}."
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_their_range_only() {
        for good in [1, 10] {
            assert_eq!(number("N", Integer(good), 10_u32), Ok(u32::try_from(good).unwrap()));
        }
        for bad in [i64::MIN, -1, 0, 11, i64::MAX] {
            assert_eq!(
                number("N", Integer(bad), 10_u32).unwrap_err().message,
                "Value for parameter N is invalid. \
                 Reason: You must enter a number that's between 1 and 10."
            );
        }
    }

    #[test]
    fn a_source_is_required_and_a_destination_is_not() {
        let empty = Text("".into());
        for given in [None, Some(&empty)] {
            assert_eq!(source(given).unwrap_err(), ApiError::missing("SourceArn"));
            assert_eq!(optional(DESTINATION, given), Ok(None));
        }
        let bad = Text("arn:aws:sqs".into());
        for (parameter, refused) in [
            (SOURCE, source(Some(&bad)).unwrap_err()),
            (DESTINATION, optional(DESTINATION, Some(&bad)).unwrap_err()),
        ] {
            assert_eq!(refused.kind, ErrorKind::InvalidParameterValue);
            assert_eq!(
                refused.message,
                format!(
                    "You must use this format to specify the {parameter}: \
                     arn:<partition>:<service>:<region>:<account-id>:<resource-id>"
                )
            );
        }
    }
}
