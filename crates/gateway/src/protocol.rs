//! The two protocols: how a request says what it wants, and how its response is written.

use bytes::Bytes;
use hyper::Method;
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use serde::{Deserialize, Serialize};

use crate::action::ActionName;
use crate::bounds::Work;
use crate::error::{ApiError, ErrorKind, shown};
use crate::ids::UuidText;
use crate::json;
use crate::query::{self, Form, Format};

const TARGET: HeaderName = HeaderName::from_static("x-amz-target");
const FORM: &str = "application/x-www-form-urlencoded";

/// AWS JSON 1.0, or Query with what its answers are written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Json,
    Query(Format),
}

impl Protocol {
    pub(crate) fn of(head: &Parts) -> Self {
        let headers = &head.headers;
        // Without a word about JSON, a query string with an action is enough.
        let asks_in_target = || {
            !is_of_type(headers, "application/x-amz-json-1")
                && !headers.contains_key(TARGET)
                && head.uri.query().is_some_and(names_action)
        };
        if head.method == Method::GET || is_of_type(headers, FORM) || asks_in_target() {
            Self::Query(Format::accepted(headers))
        } else {
            Self::Json
        }
    }

    pub(crate) fn content_type(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Json => "application/x-amz-json-1.0",
            Self::Query(format) => format.content_type(),
        })
    }

    pub(crate) fn content_type_of_error(self, kind: ErrorKind) -> HeaderValue {
        match (self, kind) {
            (Self::Query(_), ErrorKind::NoAction) => Self::Query(Format::Xml).content_type(),
            _ => self.content_type(),
        }
    }

    pub(crate) fn encode_error(self, error: &ApiError, request_id: UuidText) -> Bytes {
        match (self, error.kind) {
            (Self::Json, _) => json::encode_error(error),
            // Whatever is accepted.
            (Self::Query(_), ErrorKind::NoAction) => {
                Bytes::from_static(b"<UnknownOperationException/>\n")
            }
            (Self::Query(format), _) => format.encode_error(error, request_id),
        }
    }
}

/// Whether a request says that its body is of a type that begins like this.
fn is_of_type(headers: &HeaderMap, start: &str) -> bool {
    let given = headers.get(header::CONTENT_TYPE).map_or(&[][..], HeaderValue::as_bytes);
    given.get(..start.len()).is_some_and(|given| given.eq_ignore_ascii_case(start.as_bytes()))
}

fn names_action(query: &str) -> bool {
    form_urlencoded::parse(query.as_bytes()).any(|(name, _)| name == "Action")
}

/// What of a Query request's body are parameters: nothing, if it says that it is something else.
pub(crate) fn form_of<'a>(headers: &HeaderMap, body: &'a [u8]) -> &'a [u8] {
    let is_form = !headers.contains_key(header::CONTENT_TYPE) || is_of_type(headers, FORM);
    if is_form { body } else { &[] }
}

/// The action that a JSON request names.
///
/// # Errors
/// `UnknownOperationException`.
pub(crate) fn json_action(headers: &HeaderMap) -> Result<ActionName, ApiError> {
    headers
        .get(TARGET)
        .and_then(|target| target.to_str().ok())
        .and_then(|target| target.strip_prefix("AmazonSQS."))
        .and_then(ActionName::parse)
        .ok_or_else(|| ApiError::new(ErrorKind::UnknownOperation, "The operation is not known."))
}

/// The parameters of a Query request and the action that they name. The path is the URL of the
/// queue, unless a parameter names another one.
///
/// # Errors
/// No action, one that is not known, or one that is not valid at the URL of a queue; malformed
/// parameters.
pub(crate) fn query_request<'a>(
    path: &'a str,
    query: &'a str,
    body: &'a [u8],
) -> Result<(ActionName, Form<'a>), ApiError> {
    let mut form = Form::read(query, body)?;
    let Some(name) = form.get("Action") else {
        return Err(ApiError::no_action());
    };
    let at_queue = path.trim_matches('/').contains('/');
    let not_here =
        |action| at_queue && matches!(action, ActionName::CreateQueue | ActionName::ListQueues);
    let Some(action) = ActionName::parse(name).filter(|action| !not_here(*action)) else {
        let text = format!("The action {} is not valid for this endpoint.", shown(name));
        return Err(ApiError::new(ErrorKind::UnknownOperation, text));
    };
    if at_queue {
        form.default("QueueUrl", path);
    }
    Ok((action, form))
}

/// What a request asks with, and what its response is written to.
pub(crate) enum Wire<'a> {
    Json(&'a [u8]),
    Query { form: &'a Form<'a>, format: Format, request_id: UuidText },
}

impl<'a> Wire<'a> {
    /// Reads the request.
    ///
    /// # Errors
    /// `SerializationException`, in Query called `MalformedInput`.
    pub(crate) fn decode<T: Deserialize<'a>>(&self) -> Result<T, ApiError> {
        match *self {
            Self::Json(body) => json::decode(body),
            Self::Query { form, .. } => query::decode(form),
        }
    }

    /// Reads a request that brings messages: half a surrogate pair in one makes that message wrong, not the JSON.
    /// `other` is for the body without it.
    ///
    /// # Errors
    /// Those of [`Wire::decode`]; `ServiceUnavailable` when there is no room for `other`.
    pub(crate) fn decode_messages<'b, T: Deserialize<'b>>(
        &self,
        work: &mut Work,
        other: &'b mut Vec<u8>,
    ) -> Result<T, ApiError>
    where
        'a: 'b,
    {
        let wire: &Wire<'b> = self;
        match (wire.decode(), wire) {
            (Err(error), Wire::Json(body)) => {
                work.keep(body.len()).map_err(|_| ApiError::overloaded())?;
                other.extend_from_slice(body);
                if json::replace_lone_surrogates(other) { json::decode(other) } else { Err(error) }
            }
            (decoded, _) => decoded,
        }
    }

    /// Writes a response.
    pub(crate) fn encode<T: Serialize>(
        &self,
        action: ActionName,
        response: &T,
        capacity: usize,
    ) -> Bytes {
        match self {
            Self::Json(_) => json::encode(response, capacity),
            Self::Query { format, request_id, .. } => {
                format.encode(action.as_str(), Some(response), *request_id, capacity)
            }
        }
    }

    /// The answer of an action without output.
    pub(crate) fn done(&self, action: ActionName) -> Bytes {
        match self {
            Self::Json(_) => Bytes::new(),
            Self::Query { format, request_id, .. } => {
                format.encode::<()>(action.as_str(), None, *request_id, 0)
            }
        }
    }
}
