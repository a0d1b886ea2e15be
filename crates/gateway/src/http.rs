//! One HTTP request: which protocol, who, what; and its answer.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use flotilla_cluster::api::Cluster;
use flotilla_cluster::request;
use flotilla_cluster::room::Room;
use flotilla_types::ids::RequestId;
use flotilla_types::limits;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body as _, Incoming};
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Method, Request, Response, StatusCode};
use tokio::sync::watch;

use crate::action::{ActionName, Aside, Call};
use crate::actions::{send_message, send_message_batch};
use crate::auth;
use crate::bounds::Work;
use crate::dispatch::dispatch;
use crate::error::{ApiError, ErrorKind};
use crate::gateway::{Gateway, NoRoom};
use crate::ids::{self, UuidText};
use crate::message::draft;
use crate::protocol::{Protocol, Wire, form_of, json_action, query_request};
use crate::query::Format;

/// What is skipped of a body that nobody reads, so that its connection can be used again: so much
/// has most likely come together with the head.
const SKIPPED_BYTES_MAX: u64 = 4_096;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-amzn-requestid");
const QUERY_ERROR: HeaderName = HeaderName::from_static("x-amzn-query-error");
const OUTCOME: HeaderName = HeaderName::from_static("x-flotilla-outcome");
const POLLED: HeaderName = HeaderName::from_static("x-flotilla-polled");
const SHARDS: HeaderName = HeaderName::from_static("x-flotilla-shards");
const EXPLAIN: HeaderName = HeaderName::from_static("x-flotilla-explain");
const TRACE: HeaderName = HeaderName::from_static("x-amzn-trace-id");

type Reply = Response<Full<Bytes>>;

/// Answers a request. Dropping the future abandons it: no receive outlives its caller.
pub(crate) async fn answer<C: Cluster>(
    gateway: &Gateway<C>,
    stopping: watch::Receiver<bool>,
    request: Request<Incoming>,
) -> Result<Reply, Infallible> {
    let id = ids::draw();
    let request_id = UuidText::new(id);
    let (head, body) = request.into_parts();
    let timeout = gateway.config.timeouts.body;
    let mut body = Body { incoming: body, timeout, read: false, too_large: false };
    let cross_origin = head.headers.contains_key(header::ORIGIN);
    let mut reply = match head.method {
        Method::POST | Method::GET => {
            let work = act(gateway, stopping, &head, &mut body, request_id);
            request::scope(RequestId(id), work).await
        }
        Method::OPTIONS => preflight(&head.headers),
        _ => failure(&ApiError::no_action(), Protocol::Query(Format::Xml), request_id),
    };
    let is_refused = !body.read && reply.status() == StatusCode::SERVICE_UNAVAILABLE;
    if body.too_large || is_refused {
        body.drain(head.headers.contains_key(header::EXPECT)).await;
    }
    let headers = reply.headers_mut();
    let keeps_open = !headers.contains_key(header::CONNECTION);
    if body.too_large || (keeps_open && !body.skip().await) {
        // A caller that is not told loses its next request, for which the rest would be taken.
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    if let Ok(value) = HeaderValue::from_str(request_id.as_str()) {
        headers.insert(REQUEST_ID, value);
    }
    if cross_origin {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        headers.insert(
            header::ACCESS_CONTROL_EXPOSE_HEADERS,
            HeaderValue::from_static(
                "x-amzn-RequestId,x-amzn-query-error,x-flotilla-outcome,x-flotilla-polled,\
                 x-flotilla-shards",
            ),
        );
    }
    Ok(reply)
}

async fn act<C: Cluster>(
    gateway: &Gateway<C>,
    stopping: watch::Receiver<bool>,
    head: &Parts,
    body: &mut Body,
    request_id: UuidText,
) -> Reply {
    let begin = Instant::now();
    let protocol = Protocol::of(head);
    // A JSON request has a name for the metrics even if its body is never read.
    let named = (protocol == Protocol::Json).then(|| json_action(&head.headers));
    let action = named.as_ref().and_then(|named| named.as_ref().ok().copied());
    let mut extra = Extra { action, ..Extra::default() };
    let result = carry_out(gateway, stopping, head, body, named, request_id, &mut extra).await;
    let is_read = extra.action.is_some_and(ActionName::is_read);
    let result = result.and_then(|answer| {
        let held = gateway.hold(answer, extra.room.take(), is_read);
        held.map_err(|NoRoom| ApiError::overloaded())
    });
    let took = begin.elapsed();
    let action = extra.action;
    let code = result.as_ref().err().map(|error| error.kind.code());
    gateway.metrics.answered(action, code, took);
    let reply = match &result {
        Ok(body) => success(body.clone(), protocol, extra.aside),
        Err(error) => failure(error, protocol, request_id),
    };
    let name = action.map_or("(unknown)", ActionName::as_str);
    let (status, micros) = (reply.status().as_u16(), took.as_micros() as u64);
    match result {
        // A full disk is made no fuller by a line for every send.
        Err(error) if status >= 500 && error.kind != ErrorKind::LowOnSpace => tracing::warn!(
            %request_id, action = name, status, micros, code = error.kind.code(),
            message = %error.message, "request failed"
        ),
        _ => tracing::debug!(%request_id, action = name, status, micros, "request"),
    }
    reply
}

/// What becomes known of a request beside its result.
#[derive(Default)]
struct Extra {
    action: Option<ActionName>,
    aside: Aside,
    room: Option<Room>,
}

async fn carry_out<C: Cluster>(
    gateway: &Gateway<C>,
    stopping: watch::Receiver<bool>,
    head: &Parts,
    body: &mut Body,
    named: Option<Result<ActionName, ApiError>>,
    request_id: UuidText,
    extra: &mut Extra,
) -> Result<Bytes, ApiError> {
    let headers = &head.headers;
    let mut work = gateway.bounds.enter().map_err(|_| ApiError::overloaded())?;
    let announced = body.incoming.size_hint().lower();
    let body = body.read(&mut work).await.map_err(|error| match &named {
        Some(Ok(action)) => too_large_for(*action, error, announced),
        _ => error,
    })?;
    let caller = auth::authenticate(headers, &gateway.config.account)?;
    let form;
    let (action, wire) = match named {
        Some(action) => (action?, Wire::Json(&body)),
        None => {
            let query = head.uri.query().unwrap_or_default();
            let form_body = form_of(headers, &body);
            let (action, asked) = query_request(head.uri.path(), query, form_body)?;
            form = asked;
            (action, Wire::Query { form: &form, format: Format::accepted(headers), request_id })
        }
    };
    extra.action = Some(action);
    let mut call = Call {
        gateway,
        caller,
        host: text(headers, &header::HOST),
        trace_header: text(headers, &TRACE).filter(|trace| is_trace(trace)),
        explain: text(headers, &EXPLAIN) == Some("1"),
        stopping,
        work,
        room: None,
        aside: Aside::default(),
    };
    let result = dispatch(&mut call, action, wire).await;
    (extra.aside, extra.room) = (call.aside, call.room);
    result
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// A longer header is not one of X-Ray's; the message is stored without it.
fn is_trace(text: &str) -> bool {
    (1..=limits::TRACE_HEADER_BYTES_MAX).contains(&text.len())
}

/// The body of a request, and whether it was read to its end.
struct Body {
    incoming: Incoming,
    /// How long it may take to arrive.
    timeout: Duration,
    read: bool,
    too_large: bool,
}

impl Body {
    async fn read(&mut self, work: &mut Work) -> Result<Bytes, ApiError> {
        let read_all = read(&mut self.incoming, work);
        let whole = tokio::time::timeout(self.timeout, read_all).await.unwrap_or_else(|_| {
            let text = "The request body did not arrive in time.";
            Err(ApiError::new(ErrorKind::RequestTimeout, text))
        });
        self.too_large =
            whole.as_ref().is_err_and(|error| error.kind == ErrorKind::RequestTooLarge);
        let whole = whole?;
        self.read = true;
        Ok(whole)
    }

    /// Skips what was not read, unless that is much; tells whether all is read.
    async fn skip(&mut self) -> bool {
        let rest = self.incoming.size_hint().exact();
        if self.read || rest.is_none_or(|rest| rest > SKIPPED_BYTES_MAX) {
            return self.read;
        }
        let skip_all = async {
            while let Some(frame) = self.incoming.frame().await {
                if frame.is_err() {
                    return false;
                }
            }
            true
        };
        tokio::time::timeout(self.timeout, skip_all).await.unwrap_or(false)
    }

    /// Reads on in a body that is too large, or that there was no room for, within bounds of bytes and time: a caller that looks
    /// for the answer only when it has sent everything would not see it, but a broken pipe.
    async fn drain(&mut self, waits_for_leave: bool) {
        let announced = self.incoming.size_hint().lower();
        let untouched = announced > limits::HTTP_BODY_BYTES_MAX as u64;
        // Reading would be the leave that this caller waits for.
        let waits = waits_for_leave && (untouched || !self.too_large);
        let mut left = limits::HTTP_BODY_BYTES_DRAINED_MAX as u64;
        if waits || announced > left {
            return;
        }
        let drain_all = async {
            while let Some(Ok(frame)) = self.incoming.frame().await {
                let bytes = frame.data_ref().map_or(0, Bytes::len) as u64;
                match left.checked_sub(bytes) {
                    Some(rest) => left = rest,
                    None => break,
                }
            }
        };
        // Out of time: the answer is sent all the same.
        let _ = tokio::time::timeout(self.timeout, drain_all).await;
    }
}

/// Reads the body; every part of it is counted before it is kept.
async fn read(body: &mut Incoming, work: &mut Work) -> Result<Bytes, ApiError> {
    let announced = body.size_hint();
    let too_large = || {
        let text =
            format!("The request must be no longer than {} bytes.", limits::HTTP_BODY_BYTES_MAX);
        ApiError::new(ErrorKind::RequestTooLarge, text)
    };
    if announced.lower() > limits::HTTP_BODY_BYTES_MAX as u64 {
        return Err(too_large());
    }
    let mut whole = Bytes::new();
    let mut joined = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| {
            ApiError::new(ErrorKind::Serialization, "The request body ended early.")
        })?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        if whole.len() + joined.len() + data.len() > limits::HTTP_BODY_BYTES_MAX {
            return Err(too_large());
        }
        work.keep(data.len()).map_err(|_| ApiError::overloaded())?;
        if whole.is_empty() && joined.is_empty() {
            // Most bodies are one frame and need no copy.
            whole = data;
        } else {
            joined.extend_from_slice(&std::mem::take(&mut whole));
            joined.extend_from_slice(&data);
        }
    }
    Ok(if joined.is_empty() { whole } else { joined.freeze() })
}

/// A body beyond the bound holds more than any message or batch may have, however it is written: where the
/// action is known, it is refused as the message or the batch would be.
fn too_large_for(action: ActionName, error: ApiError, announced: u64) -> ApiError {
    match (error.kind, action) {
        (ErrorKind::RequestTooLarge, ActionName::SendMessage) => {
            draft::too_long(send_message::TOO_LONG, limits::MESSAGE_BYTES_MAX)
        }
        (ErrorKind::RequestTooLarge, ActionName::SendMessageBatch) => {
            send_message_batch::too_long(announced.max(limits::HTTP_BODY_BYTES_MAX as u64 + 1))
        }
        _ => error,
    }
}

fn success(body: Bytes, protocol: Protocol, aside: Aside) -> Reply {
    let mut reply = Response::new(Full::new(body));
    let headers = reply.headers_mut();
    headers.insert(header::CONTENT_TYPE, protocol.content_type());
    if let Some(outcome) = aside.outcome {
        headers.insert(OUTCOME, HeaderValue::from_static(outcome.as_str()));
    }
    for (name, text) in [(POLLED, aside.polled), (SHARDS, aside.shards)] {
        if let Some(value) = text.and_then(|text| HeaderValue::from_str(&text).ok()) {
            headers.insert(name, value);
        }
    }
    reply
}

fn failure(error: &ApiError, protocol: Protocol, request_id: UuidText) -> Reply {
    let mut reply = Response::new(Full::new(protocol.encode_error(error, request_id)));
    *reply.status_mut() = StatusCode::from_u16(error.kind.status())
        .expect("the table of errors holds valid statuses only");
    let headers = reply.headers_mut();
    headers.insert(header::CONTENT_TYPE, protocol.content_type_of_error(error.kind));
    let query_error = format!("{};{}", error.kind.code(), error.kind.fault());
    if let Ok(value) = HeaderValue::from_str(&query_error) {
        headers.insert(QUERY_ERROR, value);
    }
    headers.insert(OUTCOME, HeaderValue::from_static(error.outcome.as_str()));
    if error.kind == ErrorKind::RequestTimeout {
        // The rest of the body would be taken for the next request.
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    reply
}

/// Browsers may call from everywhere: what a call may do depends on its signature alone.
fn preflight(asked: &HeaderMap) -> Reply {
    let mut reply = Response::new(Full::new(Bytes::new()));
    let headers = reply.headers_mut();
    headers.insert(
        header::ACCESS_CONTROL_ALLOW_METHODS,
        HeaderValue::from_static("GET,HEAD,POST,OPTIONS"),
    );
    // A star would not cover Authorization.
    if let Some(wanted) = asked.get(header::ACCESS_CONTROL_REQUEST_HEADERS) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, wanted.clone());
    }
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("172800"));
    reply
}
