//! Queue attributes: their names, checked changes, and the typed values of one queue.
//!
//! Texts become values in one place, [`AttributePatch::parse`]; whoever holds a patch or a
//! [`QueueAttributes`] does not check again. Nothing here knows error codes or texts of a protocol.

mod access;
mod name;
mod patch;
mod policy;
mod redrive;

pub use access::{PolicyFlaw, PolicyPart};
pub use name::{AttributeName, UnknownAttribute};
pub use patch::{AttributeError, AttributePatch, PatchFor};
pub use policy::{GrantError, RevokeError};
pub use redrive::{RedriveAllow, RedriveAllowFlaw, RedriveFlaw, RedrivePermission, RedrivePolicy};

use crate::limits;

/// Data key reuse period that SQS reports when none was set, in seconds.
const KMS_REUSE_SECONDS_DEFAULT: u32 = 300;

/// The settable attributes of one queue. [`Default`] is a fresh standard queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueAttributes {
    /// Delay of messages that bring none, 0 to 900.
    pub delay_seconds: u32,
    /// Largest message, 1,024 to 1,048,576.
    pub max_message_bytes: u32,
    /// Age at which a message is dropped, 60 to 1,209,600.
    pub retention_seconds: u32,
    /// Wait of receives that bring none, 0 to 20.
    pub wait_seconds: u32,
    /// Visibility timeout of receives that bring none, 0 to 43,200.
    pub visibility_seconds: u32,
    /// Whether the queue calls itself encrypted with keys of the service.
    pub sse_managed: bool,
    /// Access policy, as it was given.
    pub policy: Option<String>,
    /// Canonical JSON of a [`RedrivePolicy`].
    pub redrive_policy: Option<String>,
    /// Canonical JSON of a [`RedriveAllow`].
    pub redrive_allow_policy: Option<String>,
    /// Key name, id or ARN; not resolved.
    pub kms_master_key_id: Option<String>,
    /// 60 to 86,400; shown only beside a key.
    pub kms_reuse_seconds: Option<u32>,
    /// What only a FIFO queue has.
    pub fifo: Option<FifoAttributes>,
}

/// The attributes that only a FIFO queue has. [`Default`] is a fresh FIFO queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FifoAttributes {
    /// Whether the digest of the body stands in for a missing deduplication id.
    pub content_based_deduplication: bool,
    /// `DeduplicationScope` is `messageGroup` (not `queue`).
    pub deduplicates_per_group: bool,
    /// `FifoThroughputLimit` is `perMessageGroupId` (not `perQueue`).
    pub limits_per_group: bool,
}

impl FifoAttributes {
    /// These after the change.
    fn with(self, patch: &AttributePatch) -> Self {
        let queue = QueueAttributes { fifo: Some(self), ..QueueAttributes::default() };
        queue.with(patch).fifo.unwrap_or(self)
    }

    /// Whether the values go together: a limit per group is for queues that deduplicate per group.
    pub fn is_legal(self) -> bool {
        self.deduplicates_per_group || !self.limits_per_group
    }
}

impl Default for QueueAttributes {
    fn default() -> Self {
        Self {
            delay_seconds: 0,
            max_message_bytes: limits::MESSAGE_BYTES_MAX as u32,
            retention_seconds: 345_600,
            wait_seconds: 0,
            visibility_seconds: 30,
            sse_managed: true,
            policy: None,
            redrive_policy: None,
            redrive_allow_policy: None,
            kms_master_key_id: None,
            kms_reuse_seconds: None,
            fifo: None,
        }
    }
}

impl QueueAttributes {
    /// How long a message lives, in milliseconds.
    pub fn retention_ms(&self) -> u64 {
        u64::from(self.retention_seconds) * 1_000
    }

    /// These attributes after the change. Setting a key switches the service's own encryption off;
    /// removing the key does not switch it on again; switching it on removes the key.
    pub fn with(&self, patch: &AttributePatch) -> Self {
        let mut changed = self.clone();
        for (name, value) in patch.iter() {
            changed.apply(name, value);
        }
        let gives_key =
            patch.get(AttributeName::KmsMasterKeyId).is_some_and(|value| !value.is_empty());
        if gives_key {
            changed.sse_managed = false;
        } else if patch.get(AttributeName::SqsManagedSseEnabled) == Some("true") {
            changed.kms_master_key_id = None;
        }
        changed
    }

    /// The first attribute of the patch whose value is not the current one. What is unset counts as
    /// its default, or as empty if it has none.
    pub fn first_difference(&self, patch: &AttributePatch) -> Option<AttributeName> {
        patch.iter().find(|(name, value)| self.text(*name) != *value).map(|(name, _)| name)
    }

    /// Every value that differs from "unset", canonical, in the order of the names. Reading them
    /// back with [`QueueAttributes::from_pairs`] gives the same attributes.
    pub fn to_pairs(&self) -> Vec<(AttributeName, String)> {
        let kept = |name: &AttributeName| match name {
            AttributeName::KmsDataKeyReusePeriodSeconds => self.kms_reuse_seconds.is_some(),
            _ => true,
        };
        AttributeName::SETTABLE
            .into_iter()
            .filter(kept)
            .map(|name| (name, self.text(name)))
            .filter(|(_, value)| !value.is_empty())
            .collect()
    }

    /// The values that a reader of the queue is shown: as [`QueueAttributes::to_pairs`], but the
    /// reuse period exactly when there is a key.
    pub fn shown(&self) -> Vec<(AttributeName, String)> {
        AttributeName::SETTABLE
            .into_iter()
            .filter(|name| {
                *name != AttributeName::KmsDataKeyReusePeriodSeconds
                    || self.kms_master_key_id.is_some()
            })
            .map(|name| (name, self.text(name)))
            .filter(|(_, value)| !value.is_empty())
            .collect()
    }

    /// Reads what [`QueueAttributes::to_pairs`] gave. Values that it cannot have given are ignored.
    pub fn from_pairs<'a>(pairs: impl IntoIterator<Item = (AttributeName, &'a str)>) -> Self {
        let mut attributes = Self::default();
        for (name, value) in pairs {
            attributes.apply(name, value);
        }
        attributes
    }

    /// Takes over one canonical value; others change nothing, so that applying a patch cannot fail.
    fn apply(&mut self, name: AttributeName, value: &str) {
        let number = |field: &mut u32| {
            if let Ok(value) = value.parse() {
                *field = value;
            }
        };
        let text = || (!value.is_empty()).then(|| value.to_owned());
        match name {
            AttributeName::DelaySeconds => number(&mut self.delay_seconds),
            AttributeName::MaximumMessageSize => number(&mut self.max_message_bytes),
            AttributeName::MessageRetentionPeriod => number(&mut self.retention_seconds),
            AttributeName::ReceiveMessageWaitTimeSeconds => number(&mut self.wait_seconds),
            AttributeName::VisibilityTimeout => number(&mut self.visibility_seconds),
            AttributeName::SqsManagedSseEnabled => self.sse_managed = value == "true",
            AttributeName::Policy => self.policy = text(),
            AttributeName::RedrivePolicy => self.redrive_policy = text(),
            AttributeName::RedriveAllowPolicy => self.redrive_allow_policy = text(),
            AttributeName::KmsMasterKeyId => self.kms_master_key_id = text(),
            AttributeName::KmsDataKeyReusePeriodSeconds => {
                self.kms_reuse_seconds = value.parse().ok();
            }
            AttributeName::FifoQueue => {
                if value == "true" {
                    self.fifo.get_or_insert_default();
                }
            }
            AttributeName::ContentBasedDeduplication => {
                self.fifo.get_or_insert_default().content_based_deduplication = value == "true";
            }
            AttributeName::DeduplicationScope => {
                self.fifo.get_or_insert_default().deduplicates_per_group = value == "messageGroup";
            }
            AttributeName::FifoThroughputLimit => {
                self.fifo.get_or_insert_default().limits_per_group = value == "perMessageGroupId";
            }
            AttributeName::ApproximateNumberOfMessages
            | AttributeName::ApproximateNumberOfMessagesNotVisible
            | AttributeName::ApproximateNumberOfMessagesDelayed
            | AttributeName::CreatedTimestamp
            | AttributeName::LastModifiedTimestamp
            | AttributeName::QueueArn => {}
        }
    }

    /// Canonical text of one value; empty when it is unset or not one of these attributes.
    fn text(&self, name: AttributeName) -> String {
        let fifo = |of: fn(&FifoAttributes) -> &'static str| {
            self.fifo.as_ref().map(of).unwrap_or_default().to_owned()
        };
        match name {
            AttributeName::DelaySeconds => self.delay_seconds.to_string(),
            AttributeName::MaximumMessageSize => self.max_message_bytes.to_string(),
            AttributeName::MessageRetentionPeriod => self.retention_seconds.to_string(),
            AttributeName::ReceiveMessageWaitTimeSeconds => self.wait_seconds.to_string(),
            AttributeName::VisibilityTimeout => self.visibility_seconds.to_string(),
            AttributeName::SqsManagedSseEnabled => self.sse_managed.to_string(),
            AttributeName::Policy => self.policy.clone().unwrap_or_default(),
            AttributeName::RedrivePolicy => self.redrive_policy.clone().unwrap_or_default(),
            AttributeName::RedriveAllowPolicy => {
                self.redrive_allow_policy.clone().unwrap_or_default()
            }
            AttributeName::KmsMasterKeyId => self.kms_master_key_id.clone().unwrap_or_default(),
            AttributeName::KmsDataKeyReusePeriodSeconds => {
                self.kms_reuse_seconds.unwrap_or(KMS_REUSE_SECONDS_DEFAULT).to_string()
            }
            AttributeName::FifoQueue => fifo(|_| "true"),
            AttributeName::ContentBasedDeduplication => {
                fifo(|fifo| if fifo.content_based_deduplication { "true" } else { "false" })
            }
            AttributeName::DeduplicationScope => {
                fifo(|fifo| if fifo.deduplicates_per_group { "messageGroup" } else { "queue" })
            }
            AttributeName::FifoThroughputLimit => {
                fifo(|fifo| if fifo.limits_per_group { "perMessageGroupId" } else { "perQueue" })
            }
            AttributeName::ApproximateNumberOfMessages
            | AttributeName::ApproximateNumberOfMessagesNotVisible
            | AttributeName::ApproximateNumberOfMessagesDelayed
            | AttributeName::CreatedTimestamp
            | AttributeName::LastModifiedTimestamp
            | AttributeName::QueueArn => String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patch(pairs: &[(&str, &str)]) -> AttributePatch {
        AttributePatch::parse(pairs.iter().copied(), PatchFor::Change).unwrap()
    }

    fn shown(attributes: &QueueAttributes, name: AttributeName) -> Option<String> {
        attributes.shown().into_iter().find(|(n, _)| *n == name).map(|(_, value)| value)
    }

    #[test]
    fn fresh_queue_shows_the_six_that_are_always_there() {
        let pairs = QueueAttributes::default().shown();
        let pairs: Vec<_> = pairs.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        let expected = [
            ("DelaySeconds", "0"),
            ("MaximumMessageSize", "1048576"),
            ("MessageRetentionPeriod", "345600"),
            ("ReceiveMessageWaitTimeSeconds", "0"),
            ("VisibilityTimeout", "30"),
            ("SqsManagedSseEnabled", "true"),
        ];
        assert_eq!(pairs, expected);
    }

    #[test]
    fn a_fifo_queue_shows_four_more() {
        let create = |pairs: &[(&str, &str)]| {
            let patch = AttributePatch::parse(pairs.iter().copied(), PatchFor::Create).unwrap();
            QueueAttributes::default().with(&patch)
        };
        let four = |attributes: &QueueAttributes| {
            let pairs = attributes.shown().into_iter().skip(6);
            pairs.map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>()
        };
        let fresh = create(&[("FifoQueue", "true")]);
        assert_eq!(
            four(&fresh),
            [
                "FifoQueue=true",
                "ContentBasedDeduplication=false",
                "DeduplicationScope=queue",
                "FifoThroughputLimit=perQueue",
            ]
        );
        let fast = create(&[
            ("FifoThroughputLimit", "perMessageGroupId"),
            ("DeduplicationScope", "messageGroup"),
            ("ContentBasedDeduplication", "TRUE"),
            ("FifoQueue", "True"),
        ]);
        assert_eq!(
            four(&fast),
            [
                "FifoQueue=true",
                "ContentBasedDeduplication=true",
                "DeduplicationScope=messageGroup",
                "FifoThroughputLimit=perMessageGroupId",
            ]
        );
        let again = [("FifoQueue", "true"), ("ContentBasedDeduplication", "true")];
        let again = AttributePatch::parse(again, PatchFor::Create).unwrap();
        assert_eq!(fast.first_difference(&again), None);
        assert_eq!(fresh.first_difference(&again), Some(AttributeName::ContentBasedDeduplication));
    }

    #[test]
    fn a_key_switches_own_encryption_off_and_its_removal_does_not_switch_it_on() {
        let fresh = QueueAttributes::default();
        let keyed = fresh
            .with(&patch(&[("KmsMasterKeyId", "x"), ("KmsDataKeyReusePeriodSeconds", "6000")]));
        assert!(!keyed.sse_managed);
        assert_eq!(shown(&keyed, AttributeName::KmsMasterKeyId).unwrap(), "x");
        assert_eq!(shown(&keyed, AttributeName::KmsDataKeyReusePeriodSeconds).unwrap(), "6000");
        let bare =
            keyed.with(&patch(&[("KmsMasterKeyId", ""), ("KmsDataKeyReusePeriodSeconds", "300")]));
        assert!(!bare.sse_managed);
        assert_eq!(shown(&bare, AttributeName::KmsMasterKeyId), None);
        assert_eq!(shown(&bare, AttributeName::KmsDataKeyReusePeriodSeconds), None);
        let own = keyed.with(&patch(&[("SqsManagedSseEnabled", "true")]));
        assert!(own.sse_managed && own.kms_master_key_id.is_none());
    }

    #[test]
    fn differences_are_found_against_current_values() {
        let queue = QueueAttributes::default().with(&patch(&[("DelaySeconds", "1")]));
        assert_eq!(queue.first_difference(&patch(&[])), None);
        assert_eq!(queue.first_difference(&patch(&[("DelaySeconds", "1")])), None);
        assert_eq!(queue.first_difference(&patch(&[("VisibilityTimeout", "030")])), None);
        assert_eq!(queue.first_difference(&patch(&[("Policy", "")])), None);
        assert_eq!(
            queue.first_difference(&patch(&[("DelaySeconds", "2")])),
            Some(AttributeName::DelaySeconds)
        );
    }

    #[test]
    fn pairs_round_trip() {
        let full = QueueAttributes {
            delay_seconds: 5,
            policy: Some("{}".into()),
            redrive_policy: Some("{\"a\":1}".into()),
            kms_master_key_id: Some("alias/x".into()),
            kms_reuse_seconds: Some(60),
            sse_managed: false,
            fifo: Some(FifoAttributes {
                content_based_deduplication: true,
                deduplicates_per_group: true,
                limits_per_group: false,
            }),
            ..QueueAttributes::default()
        };
        for attributes in [full, QueueAttributes::default()] {
            let pairs = attributes.to_pairs();
            let back = QueueAttributes::from_pairs(pairs.iter().map(|(n, v)| (*n, v.as_str())));
            assert_eq!(back, attributes);
        }
    }
}
