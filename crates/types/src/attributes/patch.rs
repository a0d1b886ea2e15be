//! A checked change of queue attributes.

use std::collections::BTreeMap;

use thiserror::Error;

use super::{
    AttributeName, FifoAttributes, PolicyFlaw, QueueAttributes, RedriveAllow, RedriveAllowFlaw,
    RedriveFlaw, RedrivePolicy, access,
};
use crate::limits;

const KMS_KEY_BYTES_MAX: usize = 2_048;

/// New values of some attributes: canonical, each valid by itself and with the others. An empty
/// value unsets the attribute.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AttributePatch(BTreeMap<AttributeName, String>);

/// What a patch is for; some names are valid for one only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatchFor {
    /// A new queue, which is a FIFO queue if the patch says so.
    Create,
    /// An existing standard queue.
    Change,
    /// An existing FIFO queue that has these values now.
    ChangeFifo(FifoAttributes),
}

/// What is wrong with a requested change.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum AttributeError {
    /// No such attribute, or not one that can be set here; the text as given.
    #[error("unknown attribute {0}")]
    UnknownName(String),
    /// A value out of range or of another kind.
    #[error("invalid value for {0}")]
    Value(AttributeName),
    /// Both kinds of encryption are switched on at once.
    #[error("two kinds of encryption")]
    TwoEncryptions,
    /// The access policy is wrong.
    #[error("policy: {0}")]
    Policy(PolicyFlaw),
    /// The redrive policy (as given) is wrong.
    #[error("redrive policy {text}: {flaw}")]
    Redrive {
        /// The text as given.
        text: String,
        /// What is wrong.
        flaw: RedriveFlaw,
    },
    /// The redrive allow policy is wrong.
    #[error("redrive allow policy: {0}")]
    RedriveAllow(RedriveAllowFlaw),
    /// An attribute that only a FIFO queue has.
    #[error("{0} is for FIFO queues")]
    FifoOnly(AttributeName),
    /// A FIFO queue shall become a standard queue.
    #[error("the type of a queue stays")]
    TypeChange,
    /// Throughput would be limited per group where deduplication is not per group.
    #[error("a limit per group needs deduplication per group")]
    LimitBeyondScope,
}

impl PatchFor {
    /// A change of a queue with these attributes.
    pub fn change(current: &QueueAttributes) -> Self {
        current.fifo.map_or(Self::Change, Self::ChangeFifo)
    }
}

impl AttributePatch {
    /// Checks names and values as a caller gave them. A name that is given twice keeps its last value.
    ///
    /// # Errors
    /// The first that is found, in the order of the pairs; then those about several attributes.
    pub fn parse<'a>(
        pairs: impl IntoIterator<Item = (&'a str, &'a str)>,
        purpose: PatchFor,
    ) -> Result<Self, AttributeError> {
        let pairs: Vec<_> = pairs.into_iter().collect();
        let asks_for_fifo = || pairs.iter().any(|(name, value)| is_fifo_wish(name, value));
        let current = match purpose {
            PatchFor::Create => asks_for_fifo().then(FifoAttributes::default),
            PatchFor::Change => None,
            PatchFor::ChangeFifo(current) => Some(current),
        };
        let mut values = BTreeMap::new();
        for (name, value) in pairs {
            let name: AttributeName =
                name.parse().map_err(|_| AttributeError::UnknownName(name.to_owned()))?;
            let value = match fifo_only(name, value, purpose, current.is_some()) {
                Some(checked) => checked?,
                None => canonical(name, value)?,
            };
            values.insert(name, value);
        }
        let patch = Self(values);
        if current.is_some_and(|current| !current.with(&patch).is_legal()) {
            return Err(AttributeError::LimitBeyondScope);
        }
        let own = patch.get(AttributeName::SqsManagedSseEnabled) == Some("true");
        let key = patch.get(AttributeName::KmsMasterKeyId).is_some_and(|key| !key.is_empty());
        if own && key {
            return Err(AttributeError::TwoEncryptions);
        }
        Ok(patch)
    }

    /// Takes values that [`AttributePatch::parse`] made canonical, e.g. after a transfer.
    pub fn from_canonical(pairs: impl IntoIterator<Item = (AttributeName, String)>) -> Self {
        Self(pairs.into_iter().collect())
    }

    /// The new value; empty to unset; `None` to leave alone.
    pub fn get(&self, name: AttributeName) -> Option<&str> {
        self.0.get(&name).map(String::as_str)
    }

    /// Names and values in the order of the names.
    pub fn iter(&self) -> impl Iterator<Item = (AttributeName, &str)> {
        self.0.iter().map(|(name, value)| (*name, value.as_str()))
    }

    /// Whether it changes nothing.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn is_fifo_wish(name: &str, value: &str) -> bool {
    name == AttributeName::FifoQueue.as_str() && boolean(value) == Some(true)
}

/// Checks an attribute that only FIFO queues have; `None` for others.
fn fifo_only(
    name: AttributeName,
    value: &str,
    purpose: PatchFor,
    is_fifo: bool,
) -> Option<Result<String, AttributeError>> {
    let invalid = AttributeError::Value(name);
    let unknown = || Err(AttributeError::UnknownName(name.to_string()));
    let one_of = |values: [&str; 2]| {
        if !is_fifo {
            Err(AttributeError::FifoOnly(name))
        } else if values.contains(&value) {
            Ok(value.to_owned())
        } else {
            Err(invalid.clone())
        }
    };
    Some(match name {
        AttributeName::FifoQueue if purpose == PatchFor::Change => unknown(),
        AttributeName::FifoQueue => match (boolean(value), purpose) {
            (Some(true), _) => Ok("true".to_owned()),
            (Some(false), PatchFor::Create) => unknown(),
            (Some(false), _) => Err(AttributeError::TypeChange),
            (None, _) => Err(invalid),
        },
        AttributeName::ContentBasedDeduplication if !is_fifo => unknown(),
        AttributeName::ContentBasedDeduplication => {
            boolean(value).map(|on| on.to_string()).ok_or(invalid)
        }
        AttributeName::DeduplicationScope => one_of(["queue", "messageGroup"]),
        AttributeName::FifoThroughputLimit => one_of(["perQueue", "perMessageGroupId"]),
        _ => return None,
    })
}

fn canonical(name: AttributeName, value: &str) -> Result<String, AttributeError> {
    let number = |min: u32, max: u32| {
        let in_range = |number: &u32| (min..=max).contains(number);
        let number = value.parse().ok().filter(in_range).ok_or(AttributeError::Value(name))?;
        Ok(number.to_string())
    };
    match name {
        AttributeName::DelaySeconds => number(0, limits::DELAY_SECONDS_MAX),
        AttributeName::MaximumMessageSize => number(1_024, limits::MESSAGE_BYTES_MAX as u32),
        AttributeName::MessageRetentionPeriod => number(60, 1_209_600),
        AttributeName::ReceiveMessageWaitTimeSeconds => number(0, limits::WAIT_SECONDS_MAX),
        AttributeName::VisibilityTimeout => number(0, limits::VISIBILITY_SECONDS_MAX),
        AttributeName::KmsDataKeyReusePeriodSeconds => number(60, 86_400),
        AttributeName::SqsManagedSseEnabled => {
            boolean(value).map(|on| on.to_string()).ok_or(AttributeError::Value(name))
        }
        AttributeName::KmsMasterKeyId if value.len() <= KMS_KEY_BYTES_MAX => Ok(value.to_owned()),
        AttributeName::KmsMasterKeyId => Err(AttributeError::Value(name)),
        AttributeName::Policy => policy(value),
        AttributeName::RedrivePolicy if value.is_empty() => Ok(String::new()),
        AttributeName::RedrivePolicy => RedrivePolicy::parse(value)
            .map(|policy| policy.to_json())
            .map_err(|flaw| AttributeError::Redrive { text: value.to_owned(), flaw }),
        AttributeName::RedriveAllowPolicy if value.is_empty() => Ok(String::new()),
        AttributeName::RedriveAllowPolicy => RedriveAllow::parse(value)
            .map(|policy| policy.to_json())
            .map_err(AttributeError::RedriveAllow),
        // Those of FIFO queues were checked before.
        AttributeName::FifoQueue
        | AttributeName::ContentBasedDeduplication
        | AttributeName::DeduplicationScope
        | AttributeName::FifoThroughputLimit
        | AttributeName::ApproximateNumberOfMessages
        | AttributeName::ApproximateNumberOfMessagesNotVisible
        | AttributeName::ApproximateNumberOfMessagesDelayed
        | AttributeName::CreatedTimestamp
        | AttributeName::LastModifiedTimestamp
        | AttributeName::QueueArn => Err(AttributeError::UnknownName(name.to_string())),
    }
}

fn boolean(text: &str) -> Option<bool> {
    if text.eq_ignore_ascii_case("true") {
        Some(true)
    } else if text.eq_ignore_ascii_case("false") {
        Some(false)
    } else {
        None
    }
}

/// An access policy is kept as it was given.
fn policy(text: &str) -> Result<String, AttributeError> {
    if !text.is_empty() {
        access::check(text).map_err(AttributeError::Policy)?;
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attributes::PolicyPart;

    const ARN: &str = "arn:aws:sqs:us-east-1:000000000000:q";

    fn one(name: &str, value: &str) -> Result<String, AttributeError> {
        let patch = AttributePatch::parse([(name, value)], PatchFor::Change)?;
        Ok(patch.get(name.parse().unwrap()).unwrap().to_owned())
    }

    #[test]
    fn ranges() {
        for (name, min, max) in [
            ("DelaySeconds", 0, 900),
            ("MaximumMessageSize", 1_024, 1_048_576),
            ("MessageRetentionPeriod", 60, 1_209_600),
            ("ReceiveMessageWaitTimeSeconds", 0, 20),
            ("VisibilityTimeout", 0, 43_200),
            ("KmsDataKeyReusePeriodSeconds", 60, 86_400),
        ] {
            let bad = Err(AttributeError::Value(name.parse().unwrap()));
            for number in [min, max] {
                assert_eq!(one(name, &number.to_string()), Ok(number.to_string()));
            }
            for number in [min - 1, max + 1] {
                assert_eq!(one(name, &number.to_string()), bad);
            }
            for text in ["", "x", "5.0", " 5", "99999999999999999999"] {
                assert_eq!(one(name, text), bad);
            }
        }
    }

    #[test]
    fn names_that_cannot_be_set() {
        for name in ["QueueArn", "FifoQueue", "ContentBasedDeduplication", "All", "Nope"] {
            assert_eq!(one(name, "true"), Err(AttributeError::UnknownName(name.into())));
        }
        for (name, value) in [("DeduplicationScope", "queue"), ("FifoThroughputLimit", "perQueue")]
        {
            let only = Err(AttributeError::FifoOnly(name.parse().unwrap()));
            assert_eq!(one(name, value), only);
            let create = AttributePatch::parse([(name, value)], PatchFor::Create);
            assert_eq!(create.map(|_| String::new()), only);
        }
        let create = [("ContentBasedDeduplication", "true")];
        assert_eq!(
            AttributePatch::parse(create, PatchFor::Create),
            Err(AttributeError::UnknownName("ContentBasedDeduplication".into()))
        );
    }

    #[test]
    fn the_type_of_a_queue_is_decided_when_it_is_created() {
        let fifo_queue = |value, purpose| {
            let patch = AttributePatch::parse([("FifoQueue", value)], purpose)?;
            Ok(patch.get(AttributeName::FifoQueue).unwrap().to_owned())
        };
        let unknown = || Err(AttributeError::UnknownName("FifoQueue".into()));
        let invalid = || Err(AttributeError::Value(AttributeName::FifoQueue));
        let fifo = PatchFor::ChangeFifo(FifoAttributes::default());
        for (purpose, on, off, other) in [
            (PatchFor::Create, Ok("true".to_owned()), unknown(), invalid()),
            (PatchFor::Change, unknown(), unknown(), unknown()),
            (fifo, Ok("true".to_owned()), Err(AttributeError::TypeChange), invalid()),
        ] {
            assert_eq!(fifo_queue("True", purpose), on, "{purpose:?}");
            assert_eq!(fifo_queue("false", purpose), off, "{purpose:?}");
            assert_eq!(fifo_queue("maybe", purpose), other, "{purpose:?}");
        }
    }

    #[test]
    fn values_of_fifo_queues() {
        let fifo = PatchFor::change(&QueueAttributes {
            fifo: Some(FifoAttributes { deduplicates_per_group: true, ..Default::default() }),
            ..Default::default()
        });
        for (name, given, kept) in [
            ("ContentBasedDeduplication", "True", "true"),
            ("ContentBasedDeduplication", "false", "false"),
            ("DeduplicationScope", "queue", "queue"),
            ("DeduplicationScope", "messageGroup", "messageGroup"),
            ("FifoThroughputLimit", "perQueue", "perQueue"),
            ("FifoThroughputLimit", "perMessageGroupId", "perMessageGroupId"),
        ] {
            let patch = AttributePatch::parse([(name, given)], fifo).unwrap();
            assert_eq!(patch.get(name.parse().unwrap()), Some(kept));
            let create =
                [(name, given), ("DeduplicationScope", "messageGroup"), ("FifoQueue", "true")];
            assert!(AttributePatch::parse(create, PatchFor::Create).is_ok(), "{name}");
            for bad in ["", "yes", "Queue", "perqueue"] {
                assert_eq!(
                    AttributePatch::parse([(name, bad)], fifo),
                    Err(AttributeError::Value(name.parse().unwrap()))
                );
            }
        }
        assert_eq!(PatchFor::change(&QueueAttributes::default()), PatchFor::Change);
    }

    #[test]
    fn a_limit_per_group_needs_deduplication_per_group() {
        let per_group = FifoAttributes { deduplicates_per_group: true, ..Default::default() };
        let fast = FifoAttributes { limits_per_group: true, ..per_group };
        let limit = ("FifoThroughputLimit", "perMessageGroupId");
        let scope = |value| ("DeduplicationScope", value);
        let beyond = Err(AttributeError::LimitBeyondScope);
        for (purpose, pairs, legal) in [
            (PatchFor::Create, vec![limit, ("FifoQueue", "true")], false),
            (PatchFor::Create, vec![limit, ("FifoQueue", "true"), scope("queue")], false),
            (PatchFor::Create, vec![limit, ("FifoQueue", "true"), scope("messageGroup")], true),
            (PatchFor::ChangeFifo(FifoAttributes::default()), vec![limit], false),
            (PatchFor::ChangeFifo(per_group), vec![limit], true),
            (PatchFor::ChangeFifo(per_group), vec![limit, scope("queue")], false),
            (PatchFor::ChangeFifo(fast), vec![scope("queue")], false),
            (
                PatchFor::ChangeFifo(fast),
                vec![scope("queue"), ("FifoThroughputLimit", "perQueue")],
                true,
            ),
        ] {
            let parsed = AttributePatch::parse(pairs.clone(), purpose);
            assert_eq!(parsed.is_ok(), legal, "{purpose:?} {pairs:?}");
            assert!(legal || parsed == beyond, "{purpose:?} {pairs:?}");
        }
    }

    #[test]
    fn encryption() {
        assert_eq!(one("SqsManagedSseEnabled", "True").unwrap(), "true");
        assert!(one("SqsManagedSseEnabled", "yes").is_err());
        let both = [("SqsManagedSseEnabled", "true"), ("KmsMasterKeyId", "x")];
        assert_eq!(
            AttributePatch::parse(both, PatchFor::Create),
            Err(AttributeError::TwoEncryptions)
        );
        let swap = [("SqsManagedSseEnabled", "true"), ("KmsMasterKeyId", "")];
        assert!(AttributePatch::parse(swap, PatchFor::Create).is_ok());
    }

    #[test]
    fn a_policy_is_kept_as_given_if_it_is_one() {
        let statement = |arn| {
            format!(
                "{{ \"Effect\":\"Allow\",\"Principal\":\"*\",\
                 \"Action\":\"sqs:*\",\"Resource\":\"{arn}\"}}"
            )
        };
        let policy =
            |n: usize, arn| format!("{{\"Statement\":[{}]}}", vec![statement(arn); n].join(" , "));
        assert_eq!(one("Policy", &policy(2, ARN)).unwrap(), policy(2, ARN));
        assert_eq!(one("Policy", "").unwrap(), "");
        for (text, flaw) in [
            (policy(21, ARN), PolicyFlaw::TooMany(PolicyPart::Statements, 21)),
            ("x".to_owned(), PolicyFlaw::Malformed),
        ] {
            assert_eq!(one("Policy", &text), Err(AttributeError::Policy(flaw)));
        }
    }
}
