//! The Query protocol: parameters of a form or a query string in, XML out, or JSON where the caller
//! prefers that.
//!
//! `form` reads the parameters into a tree, `decode` makes typed requests of it, `xml` and `json`
//! write typed responses, `names` knows what members are called here and in the requests and
//! responses.

mod decode;
mod form;
mod json;
mod names;
mod xml;

use bytes::Bytes;
pub(crate) use decode::decode;
pub(crate) use form::Form;
use hyper::header::{self, HeaderMap};
use serde::Serialize;

use crate::error::ApiError;
use crate::ids::UuidText;

/// How answers are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Xml,
    Json,
}

impl Format {
    /// The one that header `Accept` names first. `*/*`, with which most clients come, names none.
    pub(crate) fn accepted(headers: &HeaderMap) -> Self {
        headers
            .get_all(header::ACCEPT)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|text| text.split(','))
            .find_map(|part| match part.split(';').next().unwrap_or_default().trim() {
                "application/json" => Some(Self::Json),
                "application/xml" | "text/xml" => Some(Self::Xml),
                _ => None,
            })
            .unwrap_or(Self::Xml)
    }

    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::Xml => "text/xml",
            Self::Json => "application/json",
        }
    }

    /// Writes the response of an action; `None`: it has no output.
    pub(crate) fn encode<T: Serialize>(
        self,
        action: &str,
        response: Option<&T>,
        request_id: UuidText,
        capacity: usize,
    ) -> Bytes {
        match self {
            Self::Xml => xml::encode(action, response, request_id, capacity),
            Self::Json => json::encode(action, response, request_id),
        }
    }

    /// Body of an error response.
    pub(crate) fn encode_error(self, error: &ApiError, request_id: UuidText) -> Bytes {
        match self {
            Self::Xml => xml::encode_error(error, request_id),
            Self::Json => json::encode_error(error, request_id),
        }
    }
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    #[test]
    fn the_format_is_what_is_accepted_first() {
        let accepted = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, HeaderValue::from_static(text));
            Format::accepted(&headers)
        };
        assert_eq!(Format::accepted(&HeaderMap::new()), Format::Xml);
        for xml in ["", "*/*", "text/html, application/xml;q=0.9, application/json", "text/json"] {
            assert_eq!(accepted(xml), Format::Xml, "{xml}");
        }
        for json in ["application/json", "*/*, application/json; q=1", "application/json,text/xml"]
        {
            assert_eq!(accepted(json), Format::Json, "{json}");
        }
    }
}
