//! Tags of queues in requests.

use std::collections::BTreeMap;

use flotilla_types::limits::{TAG_KEY_CHARS_MAX, TAG_VALUE_CHARS_MAX, TAGS_MAX};
use flotilla_types::names::QueueName;

use crate::error::ApiError;
use crate::message::characters;
use crate::shape::{Map, Text};

const SYMBOLS: &str = "may only contain unicode letters, digits, whitespace, or one of these \
                       symbols: _ . : / = + - @";

/// Checks tags that a queue shall get.
///
/// # Errors
/// `InvalidParameterValue` for the first flaw.
pub(crate) fn check(
    tags: &Map<'_, Text<'_>>,
    queue_name: &QueueName,
) -> Result<BTreeMap<String, String>, ApiError> {
    if tags.total > TAGS_MAX {
        return Err(too_many(queue_name));
    }
    for (key, value) in &tags.items {
        check_key(key)?;
        if key.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("aws:")) {
            return Err(ApiError::invalid("Tag keys must not start with the prefix aws:"));
        }
        check_value(value.as_str())?;
    }
    let owned = tags.items.iter().map(|(key, value)| (key.to_string(), value.0.to_string()));
    Ok(owned.collect())
}

/// What a request is answered with that would give a queue more tags than it may have.
pub(crate) fn too_many(queue_name: &QueueName) -> ApiError {
    ApiError::invalid(format!("Too many tags added for queue {queue_name}."))
}

/// What a key of no or too many characters is answered with, and a request that names none.
pub(crate) fn key_length() -> ApiError {
    ApiError::invalid("Tag keys must be between 1 and 128 characters in length.")
}

/// # Errors
/// `InvalidParameterValue` when no tag can have this key.
pub(crate) fn check_key(key: &str) -> Result<(), ApiError> {
    if key.is_empty() || key.chars().count() > TAG_KEY_CHARS_MAX {
        return Err(key_length());
    }
    if !key.chars().all(is_allowed) {
        return Err(ApiError::invalid(format!("Tag keys {SYMBOLS}")));
    }
    Ok(())
}

fn check_value(value: &str) -> Result<(), ApiError> {
    if value.chars().count() > TAG_VALUE_CHARS_MAX {
        return Err(ApiError::invalid(
            "Tag values must be between 0 and 256 characters in length.",
        ));
    }
    if !value.chars().all(is_allowed) {
        return Err(ApiError::invalid(format!("Tag values {SYMBOLS}")));
    }
    Ok(())
}

fn is_allowed(c: char) -> bool {
    // Whatever white space XML can carry.
    let is_space = c.is_whitespace() && characters::are_allowed(c.encode_utf8(&mut [0; 4]));
    c.is_alphanumeric() || is_space || "_.:/=+-@".contains(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_json(json: &str) -> Result<BTreeMap<String, String>, ApiError> {
        check(&serde_json::from_str(json).unwrap(), &QueueName::new("q").unwrap())
    }

    #[test]
    fn tags() {
        let tags = check_json("{\"team\":\"a b\",\"é_.:/=+-@\":\"\"}").unwrap();
        assert_eq!((tags["team"].as_str(), tags["é_.:/=+-@"].as_str()), ("a b", ""));
        let many = |n: usize| {
            let tags: Vec<_> = (0..n).map(|i| format!("\"k{i}\":\"v\"")).collect();
            check_json(&format!("{{{}}}", tags.join(",")))
        };
        assert!(many(50).is_ok());
        let one = |key: &str, value: &str| check_json(&format!("{{\"{key}\":\"{value}\"}}"));
        assert!(one(&"é".repeat(128), &"é".repeat(256)).is_ok());
        let key_length = "Tag keys must be between 1 and 128 characters in length.";
        let reserved = "Tag keys must not start with the prefix aws:";
        for (refused, text) in [
            (many(51), "Too many tags added for queue q."),
            (one("", ""), key_length),
            (one(&"é".repeat(129), ""), key_length),
            (one("aws:x", ""), reserved),
            (one("AWS:x", ""), reserved),
            (
                one("a!", ""),
                "Tag keys may only contain unicode letters, digits, whitespace, or one of these \
                 symbols: _ . : / = + - @",
            ),
            (
                one("a", &"é".repeat(257)),
                "Tag values must be between 0 and 256 characters in length.",
            ),
            (
                one("a", "(b)"),
                "Tag values may only contain unicode letters, digits, whitespace, or one of these \
                 symbols: _ . : / = + - @",
            ),
        ] {
            assert_eq!(refused.unwrap_err().message, text);
        }
    }
}
