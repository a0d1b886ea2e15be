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
