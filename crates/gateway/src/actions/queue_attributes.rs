//! Attributes of queues in requests: checks beyond those of a value, and texts of errors.

use std::borrow::Cow;
use std::sync::Arc;

use flotilla_cluster::api::{Cluster, Queue, QueueError};
use flotilla_types::attributes::{
    AttributeError, AttributeName, AttributePatch, PatchFor, PolicyFlaw, PolicyPart,
    RedriveAllowFlaw, RedriveFlaw, RedrivePolicy,
};
use flotilla_types::names::{AccountId, QueueName};

use crate::action::Call;
use crate::error::{ApiError, ErrorKind, shown};
use crate::shape::{Map, Text};
use crate::urls::{self, Arn};

/// Checks attributes that a queue shall get.
///
/// # Errors
/// Those of section "value errors" of the attributes, and those about the dead-letter target.
pub(crate) async fn check<C: Cluster>(
    call: &Call<'_, C>,
    queue_name: &QueueName,
    attributes: Option<&Map<'_, Text<'_>>>,
    purpose: PatchFor,
) -> Result<AttributePatch, ApiError> {
    let items = attributes.map_or(&[][..], |attributes| &attributes.items);
    let pairs = items.iter().map(|(name, value)| (name.as_ref(), value.as_str()));
    let own_arn = arn(call, &call.caller.account, queue_name);
    // To create a queue again is to ask for its URL: what it has is as right as it was.
    let creates = purpose == PatchFor::Create;
    let parsed = match AttributePatch::parse(pairs.clone(), purpose) {
        Err(AttributeError::LimitBeyondScope) if creates => {
            let existing = existing(call, queue_name).await?;
            let purpose = existing.map_or(purpose, |queue| PatchFor::change(&queue.attributes));
            AttributePatch::parse(pairs, purpose)
        }
        parsed => parsed,
    };
    let patch = parsed.map_err(refusal)?;
    if let Some(policy) = patch.get(AttributeName::RedrivePolicy)
        && !policy.is_empty()
        && !(creates && has_already(call, queue_name, policy).await?)
    {
        check_target(call, queue_name, &own_arn, policy).await?;
    }
    Ok(patch)
}

/// The queue of that name, if there is one.
async fn existing<C: Cluster>(
    call: &Call<'_, C>,
    queue_name: &QueueName,
) -> Result<Option<Arc<Queue>>, ApiError> {
    match call.gateway.cluster.queue_now(queue_name).await {
        Ok(queue) => Ok(Some(queue)),
        Err(QueueError::NotFound) => Ok(None),
        Err(QueueError::Trouble(trouble)) => Err(trouble.into()),
    }
}

async fn has_already<C: Cluster>(
    call: &Call<'_, C>,
    queue_name: &QueueName,
    policy: &str,
) -> Result<bool, ApiError> {
    let queue = existing(call, queue_name).await?;
    Ok(queue.is_some_and(|queue| queue.attributes.redrive_policy.as_deref() == Some(policy)))
}

/// The dead-letter target must exist, belong to the caller, and allow this queue.
async fn check_target<C: Cluster>(
    call: &Call<'_, C>,
    queue_name: &QueueName,
    own_arn: &str,
    policy_text: &str,
) -> Result<(), ApiError> {
    let refuse =
        |reason: &str| ApiError::invalid_value(shown(policy_text), "RedrivePolicy", reason);
    let policy = RedrivePolicy::parse(policy_text)
        .map_err(|_| ApiError::new(ErrorKind::InternalFailure, "A checked policy is not one."))?;
    let missing = || refuse("Dead letter target does not exist.");
    let Some(target) = Arn::parse(&policy.dead_letter_target_arn) else {
        return Err(refuse(&redrive_reason(RedriveFlaw::NotAnArn)));
    };
    if target.account != call.caller.account.as_str() {
        return Err(refuse("Dead-letter target owner should be same as the source."));
    }
    if target.service != "sqs" || target.region != call.gateway.config.region {
        return Err(missing());
    }
    let name = QueueName::new(target.resource).map_err(|_| missing())?;
    // Its owner may have withdrawn the permission through another node.
    let target = match call.gateway.cluster.queue_now(&name).await {
        Ok(target) => target,
        Err(QueueError::NotFound) => return Err(missing()),
        Err(QueueError::Trouble(trouble)) => return Err(trouble.into()),
    };
    if target.name.is_fifo() != queue_name.is_fifo() {
        return Err(refuse("Dead-letter queue must be same type of queue as the source."));
    }
    if !target.attributes.allows_source(|arn| arn == own_arn) {
        return Err(refuse("Dead-letter target does not allow this queue as a source."));
    }
    Ok(())
}

fn arn<C>(call: &Call<'_, C>, account: &AccountId, queue_name: &QueueName) -> String {
    urls::arn(&call.gateway.config.region, account, queue_name.as_str())
}

/// Code and text of a refused attribute.
pub(crate) fn refusal(error: AttributeError) -> ApiError {
    let value_error = |message: String| ApiError::new(ErrorKind::InvalidAttributeValue, message);
    let name_error =
        |message: Cow<'static, str>| ApiError::new(ErrorKind::InvalidAttributeName, message);
    match error {
        AttributeError::UnknownName(name) => {
            name_error(format!("Unknown Attribute {}.", shown(&name)).into())
        }
        AttributeError::Value(name) => {
            value_error(format!("Invalid value for the parameter {name}."))
        }
        AttributeError::TwoEncryptions => name_error(
            "You can use one type of server-side encryption (SSE) at one time. \
             You can either enable KMS SSE or SQS SSE."
                .into(),
        ),
        AttributeError::Policy(PolicyFlaw::Malformed) => {
            value_error(format!("Invalid value for the parameter {}.", AttributeName::Policy))
        }
        AttributeError::Policy(PolicyFlaw::TooMany(part, number)) => ApiError::new(
            ErrorKind::OverLimit,
            format!(
                "{number} {} were found in the submitted policy, max allowed is {}",
                part_name(part),
                part.max()
            ),
        ),
        AttributeError::Redrive { flaw: RedriveFlaw::NotAMap, .. } => value_error(
            "Invalid value for the parameter RedrivePolicy. \
             Reason: Redrive policy is not a valid JSON map."
                .into(),
        ),
        AttributeError::Redrive { text, flaw } => {
            ApiError::invalid_value(shown(&text), "RedrivePolicy", &redrive_reason(flaw))
        }
        AttributeError::RedriveAllow(flaw) => ApiError::invalid(format!(
            "Invalid value for the parameter RedriveAllowPolicy. Reason: {}",
            redrive_allow_reason(flaw)
        )),
        AttributeError::FifoOnly(name) => name_error(
            format!("You can specify the {name} only when FifoQueue is set to true.").into(),
        ),
        AttributeError::TypeChange => value_error(
            "Invalid value for the parameter FifoQueue. \
             Reason: Modifying queue type is not supported."
                .into(),
        ),
        AttributeError::LimitBeyondScope => value_error(
            "The perMessageGroupId value is allowed only when the value for DeduplicationScope \
             is messageGroup"
                .into(),
        ),
    }
}

fn part_name(part: PolicyPart) -> &'static str {
    match part {
        PolicyPart::Bytes => "bytes",
        PolicyPart::Statements => "statements",
        PolicyPart::Principals => "principals",
        PolicyPart::Actions => "actions",
        PolicyPart::Conditions => "conditions",
    }
}

fn redrive_reason(flaw: RedriveFlaw) -> String {
    match flaw {
        RedriveFlaw::NotAMap => "Redrive policy is not a valid JSON map.".to_owned(),
        RedriveFlaw::Missing(member) => {
            format!("Redrive policy does not contain mandatory attribute: {member}.")
        }
        RedriveFlaw::Extra => {
            "Only following attributes are supported: [maxReceiveCount, deadLetterTargetArn]."
                .to_owned()
        }
        RedriveFlaw::Count(count) => format!(
            "Invalid value for maxReceiveCount: {}, \
             valid values are from 1 to 1000 both inclusive.",
            shown(&count)
        ),
        RedriveFlaw::NotAnArn => "Invalid value for deadLetterTargetArn.".to_owned(),
    }
}

fn redrive_allow_reason(flaw: RedriveAllowFlaw) -> &'static str {
    match flaw {
        RedriveAllowFlaw::Format => {
            "Amazon SQS can't create the redrive allow policy, as it’s in an unsupported format."
        }
        RedriveAllowFlaw::NoSources => {
            "When you specify the byQueue permission type, you must also specify one or more \
             sourceQueueArns values."
        }
        RedriveAllowFlaw::UselessSources => {
            "To specify one or more source queue ARNs, you must set redrivePermission to byQueue."
        }
        RedriveAllowFlaw::TooManySources => {
            "The maximum number of source queue ARNs you can specify is 10."
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_has_its_code_and_text() {
        let text = || "{}".to_owned();
        for (error, kind, message) in [
            (
                AttributeError::UnknownName("X".into()),
                ErrorKind::InvalidAttributeName,
                "Unknown Attribute X.",
            ),
            (
                AttributeError::Value(AttributeName::VisibilityTimeout),
                ErrorKind::InvalidAttributeValue,
                "Invalid value for the parameter VisibilityTimeout.",
            ),
            (
                AttributeError::TwoEncryptions,
                ErrorKind::InvalidAttributeName,
                "You can use one type of server-side encryption (SSE) at one time. You can either \
                 enable KMS SSE or SQS SSE.",
            ),
            (
                AttributeError::Policy(PolicyFlaw::TooMany(PolicyPart::Statements, 21)),
                ErrorKind::OverLimit,
                "21 statements were found in the submitted policy, max allowed is 20",
            ),
            (
                AttributeError::Policy(PolicyFlaw::TooMany(PolicyPart::Bytes, 9_000)),
                ErrorKind::OverLimit,
                "9000 bytes were found in the submitted policy, max allowed is 8192",
            ),
            (
                AttributeError::Policy(PolicyFlaw::Malformed),
                ErrorKind::InvalidAttributeValue,
                "Invalid value for the parameter Policy.",
            ),
            (
                AttributeError::Redrive { text: text(), flaw: RedriveFlaw::NotAMap },
                ErrorKind::InvalidAttributeValue,
                "Invalid value for the parameter RedrivePolicy. Reason: Redrive policy is not a \
                 valid JSON map.",
            ),
            (
                AttributeError::Redrive {
                    text: text(),
                    flaw: RedriveFlaw::Missing("maxReceiveCount"),
                },
                ErrorKind::InvalidParameterValue,
                "Value {} for parameter RedrivePolicy is invalid. Reason: Redrive policy does not \
                 contain mandatory attribute: maxReceiveCount.",
            ),
            (
                AttributeError::Redrive { text: text(), flaw: RedriveFlaw::Count("0".into()) },
                ErrorKind::InvalidParameterValue,
                "Value {} for parameter RedrivePolicy is invalid. Reason: Invalid value for \
                 maxReceiveCount: 0, valid values are from 1 to 1000 both inclusive.",
            ),
            (
                AttributeError::FifoOnly(AttributeName::DeduplicationScope),
                ErrorKind::InvalidAttributeName,
                "You can specify the DeduplicationScope only when FifoQueue is set to true.",
            ),
            (
                AttributeError::TypeChange,
                ErrorKind::InvalidAttributeValue,
                "Invalid value for the parameter FifoQueue. Reason: Modifying queue type is not \
                 supported.",
            ),
            (
                AttributeError::LimitBeyondScope,
                ErrorKind::InvalidAttributeValue,
                "The perMessageGroupId value is allowed only when the value for \
                 DeduplicationScope is messageGroup",
            ),
        ] {
            let refused = refusal(error);
            assert_eq!((refused.kind, refused.message.as_ref()), (kind, message));
        }
    }

    #[test]
    fn a_long_policy_is_not_repeated_whole() {
        let long = "x".repeat(100_000);
        let flaw = RedriveFlaw::Count(long.clone());
        let refused = refusal(AttributeError::Redrive { text: long, flaw });
        assert!(refused.message.len() < 1_000, "{}", refused.message);
    }
}
