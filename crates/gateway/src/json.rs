//! AWS JSON 1.0: bodies of requests and responses.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::error::{ApiError, ErrorKind};

/// Reads a request.
///
/// # Errors
/// `SerializationException` when the body is not one JSON object of this shape, or names a member
/// of a structure twice. Unknown members are ignored.
pub(crate) fn decode<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, ApiError> {
    // A derived structure would also accept a list of its members.
    let first = body.iter().find(|byte| !byte.is_ascii_whitespace());
    if first != Some(&b'{') {
        return Err(ApiError::new(
            ErrorKind::Serialization,
            "The request body is not a JSON object.",
        ));
    }
    serde_json::from_slice(body).map_err(|error| {
        let text = if error.is_data() {
            let text = error.to_string();
            match text.rfind(" at line ") {
                Some(end) => text[..end].to_owned(),
                None => text,
            }
        } else {
            "The request body is not valid JSON.".to_owned()
        };
        ApiError::new(ErrorKind::Serialization, text)
    })
}

/// Has every escape of half a surrogate pair stand for U+FFFF instead: bad JSON becomes a text that the field which it
/// is in refuses, as no message may have that character either. Tells whether there was one.
pub(crate) fn replace_lone_surrogates(body: &mut [u8]) -> bool {
    let unit = |body: &[u8], at: usize| {
        let digits = body.get(at..at + 6)?.strip_prefix(b"\\u")?;
        u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
    };
    let (mut at, mut found) = (0, false);
    while let Some(next) = body.get(at..).and_then(|rest| rest.iter().position(|b| *b == b'\\')) {
        at += next;
        at += match (unit(body, at), unit(body, at + 6)) {
            (Some(0xd800..=0xdbff), Some(0xdc00..=0xdfff)) => 12,
            (Some(0xd800..=0xdfff), _) => {
                body[at + 2..at + 6].copy_from_slice(b"ffff");
                found = true;
                6
            }
            _ => 2,
        };
    }
    found
}

/// Writes a response.
pub(crate) fn encode<T: Serialize>(response: &T, capacity: usize) -> Bytes {
    let mut body = Vec::with_capacity(capacity);
    serde_json::to_writer(&mut body, response)
        .expect("responses have text keys, and a vector takes every byte");
    body.into()
}

/// Body of an error response.
pub(crate) fn encode_error(error: &ApiError) -> Bytes {
    #[derive(Serialize)]
    struct Body<'a> {
        #[serde(rename = "__type")]
        shape: &'a str,
        message: &'a str,
    }
    encode(&Body { shape: error.kind.shape(), message: &error.message }, 256)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lone_surrogates_only() {
        for (before, after) in [
            ("", ""),
            ("\\ud83d\\ude00 \\u00e9 \\\\ud800 \\n", ""),
            ("a\\ud800", "a\\uffff"),
            ("\\uDC00b", "\\uffffb"),
            ("\\ude00\\ud83d\\\"", "\\uffff\\uffff\\\""),
            ("\\ud83d\\ud83d\\ude00", "\\uffff\\ud83d\\ude00"),
            ("\\\\\\ud800x", "\\\\\\uffffx"),
            ("\\ud8", ""),
            ("\\", ""),
        ] {
            let mut text = before.as_bytes().to_vec();
            assert_eq!(replace_lone_surrogates(&mut text), !after.is_empty(), "{before}");
            let expected = if after.is_empty() { before } else { after };
            assert_eq!(String::from_utf8(text).unwrap(), expected);
        }
    }

    proptest! {
        #[test]
        fn any_escapes_become_text(
            escapes in "(\\\\u([dD][89a-fA-F]|00)[0-9a-f]{2}|\\\\[\\\\n\"]|[ud8]){0,12}", garbage: Vec<u8>,
        ) {
            let text = format!("\"{escapes}\"");
            let mut body = text.clone().into_bytes();
            let found = replace_lone_surrogates(&mut body);
            prop_assert_eq!(found, serde_json::from_str::<String>(&text).is_err());
            prop_assert!(serde_json::from_slice::<String>(&body).is_ok());
            let mut garbage = garbage;
            replace_lone_surrogates(&mut garbage);
        }
    }
}
