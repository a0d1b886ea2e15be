//! Permissions that a queue's owner grants to other accounts.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use thiserror::Error;

use crate::limits::LABEL_CHARS_MAX;
use crate::names::AccountId;

/// Name of a permission within its queue, the `Sid` of its statement: 1 to 80 of `[A-Za-z0-9_-]`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Label(Arc<str>);

/// The text is not a label.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("not a label")]
pub struct BadLabel;

impl Label {
    /// # Errors
    /// When the text is not 1 to 80 of the allowed characters.
    pub fn new(text: &str) -> Result<Self, BadLabel> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        if text.is_empty() || text.len() > LABEL_CHARS_MAX || !text.bytes().all(allowed) {
            return Err(BadLabel);
        }
        Ok(Self(text.into()))
    }

    /// The label as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The text names no action that can be granted.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("not an action that can be granted")]
pub struct NotGrantable;

macro_rules! grantable {
    ($($name:ident = $text:literal),+ $(,)?) => {
        /// An action that other accounts may be allowed. A batch action goes with its single one.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum GrantableAction {
            $(#[doc = $text] $name,)+
        }

        impl GrantableAction {
            /// All of them.
            pub const ALL: &[GrantableAction] = &[$(GrantableAction::$name,)+];

            /// As requests name it.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)+ }
            }

            /// As policies name it.
            pub fn in_policy(self) -> &'static str {
                match self { $(Self::$name => concat!("SQS:", $text),)+ }
            }
        }

        impl FromStr for GrantableAction {
            type Err = NotGrantable;

            fn from_str(text: &str) -> Result<Self, NotGrantable> {
                match text { $($text => Ok(Self::$name),)+ _ => Err(NotGrantable) }
            }
        }
    };
}

grantable! {
    Every = "*",
    ChangeMessageVisibility = "ChangeMessageVisibility",
    DeleteMessage = "DeleteMessage",
    GetQueueAttributes = "GetQueueAttributes",
    GetQueueUrl = "GetQueueUrl",
    ListDeadLetterSourceQueues = "ListDeadLetterSourceQueues",
    PurgeQueue = "PurgeQueue",
    ReceiveMessage = "ReceiveMessage",
    SendMessage = "SendMessage",
}

/// What one call grants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permission {
    /// Its name.
    pub label: Label,
    /// To whom; at least one.
    pub accounts: Vec<AccountId>,
    /// What; at least one.
    pub actions: Vec<GrantableAction>,
    /// ARN of the queue.
    pub queue_arn: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels() {
        for good in ["a", "A-b_9", &"x".repeat(80)] {
            assert_eq!(Label::new(good).unwrap().as_str(), good);
        }
        for bad in ["", "a b", "a.b", "é", &"x".repeat(81)] {
            assert_eq!(Label::new(bad), Err(BadLabel), "{bad}");
        }
    }

    #[test]
    fn actions() {
        for action in GrantableAction::ALL {
            assert_eq!(action.as_str().parse(), Ok(*action));
            assert_eq!(action.in_policy(), format!("SQS:{}", action.as_str()));
        }
        for other in ["", "sendmessage", "SQS:SendMessage", "SendMessageBatch", "DeleteQueue"] {
            assert_eq!(other.parse::<GrantableAction>(), Err(NotGrantable));
        }
    }
}
