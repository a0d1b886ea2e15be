//! Names of queue attributes.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// The text names no queue attribute.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("no such attribute")]
pub struct UnknownAttribute;

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {
        /// A queue attribute. Prints as, and is read from, exactly the SQS name.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum AttributeName {
            $($(#[$doc])* $name,)+
        }

        impl AttributeName {
            /// All names, settable ones first.
            pub const ALL: &[AttributeName] = &[$(AttributeName::$name,)+];

            /// The SQS name.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(AttributeName::$name => stringify!($name),)+
                }
            }
        }

        impl FromStr for AttributeName {
            type Err = UnknownAttribute;

            fn from_str(text: &str) -> Result<Self, UnknownAttribute> {
                match text {
                    $(stringify!($name) => Ok(AttributeName::$name),)+
                    _ => Err(UnknownAttribute),
                }
            }
        }
    };
}

names! {
    /// Seconds for which a new message stays hidden.
    DelaySeconds,
    /// Bytes of the largest message.
    MaximumMessageSize,
    /// Seconds after which a message is dropped.
    MessageRetentionPeriod,
    /// Seconds for which a receive waits.
    ReceiveMessageWaitTimeSeconds,
    /// Seconds for which a received message stays hidden.
    VisibilityTimeout,
    /// Encryption with keys of the service.
    SqsManagedSseEnabled,
    /// Access policy, JSON.
    Policy,
    /// Dead-letter target and receive count, JSON.
    RedrivePolicy,
    /// Which queues may use this one as their dead-letter target, JSON.
    RedriveAllowPolicy,
    /// Encryption with a key of the customer.
    KmsMasterKeyId,
    /// Seconds for which a data key is used again.
    KmsDataKeyReusePeriodSeconds,
    /// Type of the queue; at creation only.
    FifoQueue,
    /// FIFO only.
    ContentBasedDeduplication,
    /// FIFO only.
    DeduplicationScope,
    /// FIFO only.
    FifoThroughputLimit,
    /// Read-only: visible messages.
    ApproximateNumberOfMessages,
    /// Read-only: messages in flight.
    ApproximateNumberOfMessagesNotVisible,
    /// Read-only: messages not yet due.
    ApproximateNumberOfMessagesDelayed,
    /// Read-only: Unix seconds.
    CreatedTimestamp,
    /// Read-only: Unix seconds.
    LastModifiedTimestamp,
    /// Read-only.
    QueueArn,
}

impl AttributeName {
    /// Those with a value of their own in [`super::QueueAttributes`], in order.
    pub const SETTABLE: [AttributeName; 15] = [
        Self::DelaySeconds,
        Self::MaximumMessageSize,
        Self::MessageRetentionPeriod,
        Self::ReceiveMessageWaitTimeSeconds,
        Self::VisibilityTimeout,
        Self::SqsManagedSseEnabled,
        Self::Policy,
        Self::RedrivePolicy,
        Self::RedriveAllowPolicy,
        Self::KmsMasterKeyId,
        Self::KmsDataKeyReusePeriodSeconds,
        Self::FifoQueue,
        Self::ContentBasedDeduplication,
        Self::DeduplicationScope,
        Self::FifoThroughputLimit,
    ];
}

impl fmt::Display for AttributeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        assert_eq!(AttributeName::ALL.len(), 21);
        for name in AttributeName::ALL {
            assert_eq!(name.to_string().parse(), Ok(*name));
        }
        assert_eq!(AttributeName::SETTABLE, AttributeName::ALL[..15]);
        for other in ["All", "delayseconds", ""] {
            assert_eq!(other.parse::<AttributeName>(), Err(UnknownAttribute));
        }
    }
}
