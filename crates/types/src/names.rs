//! Names with checked constructors.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use thiserror::Error;

/// Name of a queue: 1 to 80 of `[A-Za-z0-9_-]`; a FIFO queue's ends in `.fifo`, which counts.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueueName(Arc<str>);

/// The text is not a queue name.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("not a queue name")]
pub struct BadQueueName;

impl QueueName {
    /// # Errors
    /// When the text is not 1 to 80 of the allowed characters (suffix `.fifo` included).
    pub fn new(text: &str) -> Result<Self, BadQueueName> {
        let stem = text.strip_suffix(".fifo").unwrap_or(text);
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        if stem.is_empty() || text.len() > 80 || !stem.bytes().all(allowed) {
            return Err(BadQueueName);
        }
        Ok(Self(text.into()))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the name is that of a FIFO queue.
    pub fn is_fifo(&self) -> bool {
        self.0.ends_with(".fifo")
    }
}

impl Borrow<str> for QueueName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for QueueName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for QueueName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// An AWS account id: 12 digits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AccountId(Arc<str>);

/// The text is not an account id.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("an account id is 12 digits")]
pub struct BadAccountId;

impl AccountId {
    /// # Errors
    /// When the text is not 12 digits.
    pub fn new(text: &str) -> Result<Self, BadAccountId> {
        if text.len() != 12 || !text.bytes().all(|b| b.is_ascii_digit()) {
            return Err(BadAccountId);
        }
        Ok(Self(text.into()))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for AccountId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queue_names() {
        for good in
            ["a", "A-b_9", "orders.fifo", &"x".repeat(80), &format!("{}.fifo", "x".repeat(75))]
        {
            assert!(QueueName::new(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            ".fifo",
            "a.b",
            "a b",
            "é",
            "a.fifo.fifo",
            &"x".repeat(81),
            &format!("{}.fifo", "x".repeat(76)),
        ] {
            assert!(QueueName::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn account_ids() {
        assert!(AccountId::new("000000000000").is_ok());
        assert!(AccountId::new("00000000000").is_err());
        assert!(AccountId::new("00000000000x").is_err());
    }
}
