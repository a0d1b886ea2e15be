//! What every answer must be, whatever was asked.

use serde_json::Value;

use super::corpus::Request;
use super::words::FORM;
use crate::client::Answer;

/// An error repeats some of what it refuses, but an answer stays small.
const ERROR_BYTES_MAX: usize = 16 * 1024;

/// How a request went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Done,
    Refused,
    /// It was no HTTP, and the connection ends.
    NotHttp,
}

/// # Errors
/// What is wrong with the answer.
pub(super) fn check(request: &Request, answer: &Answer) -> Result<Verdict, String> {
    if !answer.headers.contains_key("x-amzn-requestid") {
        let refused = matches!(answer.status, 400 | 414 | 431) && answer.body.is_empty();
        return match refused && !is_plain(&request.target) {
            true => Ok(Verdict::NotHttp),
            false => Err("no request id".to_owned()),
        };
    }
    let acts = matches!(request.method, "POST" | "GET");
    if acts && ends_connection(answer) {
        return Err("the connection ends".to_owned());
    }
    if request.method == "OPTIONS" {
        return if answer.status == 200 { Ok(Verdict::Done) } else { Err("preflight".to_owned()) };
    }
    let is_json = request.method == "POST" && !is_query(request);
    let kind = if is_json { "application/x-amz-json-1.0" } else { "text/xml" };
    if answer.headers.get("content-type").is_none_or(|given| given != kind) {
        return Err(format!("not {kind}"));
    }
    match answer.status {
        200 if is_json => check_json(&answer.body).map(|()| Verdict::Done),
        200 => check_xml(&answer.body, "Response").map(|()| Verdict::Done),
        400 | 403 | 404 => {
            let query_error = answer.headers.get("x-amzn-query-error");
            if query_error.is_none_or(|error| error.len() < 8 || !error.ends_with(";Sender")) {
                return Err("no code in the head".to_owned());
            }
            if answer.body.len() > ERROR_BYTES_MAX {
                return Err(format!("an error of {} bytes", answer.body.len()));
            }
            let checked = if is_json { json_error(answer) } else { xml_error(&answer.body) };
            checked.map(|()| Verdict::Refused)
        }
        status => Err(format!("status {status}")),
    }
}

/// Whether a POST is one of the Query protocol.
fn is_query(request: &Request) -> bool {
    let kind = request.content_type.trim_ascii().to_ascii_lowercase();
    let target = request.target.split(|b| *b == b'#').next().unwrap_or_default();
    let mut parts = target.splitn(2, |b| *b == b'?');
    let names_action = parts
        .nth(1)
        .is_some_and(|query| form_urlencoded::parse(query).any(|(name, _)| name == "Action"));
    let says_json = kind.starts_with(b"application/x-amz-json-1") || !request.action.is_empty();
    kind.starts_with(FORM.as_bytes()) || (names_action && !says_json)
}

pub(super) fn ends_connection(answer: &Answer) -> bool {
    answer.headers.get("connection").is_some_and(|connection| connection == "close")
}

/// Whether the target is one that HTTP can carry.
fn is_plain(target: &[u8]) -> bool {
    let plain = |b: &u8| b.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/?%".contains(b);
    target.starts_with(b"/") && target.iter().all(plain)
}

fn check_json(body: &str) -> Result<(), String> {
    let whole =
        body.is_empty() || serde_json::from_str(body).is_ok_and(|body: Value| body.is_object());
    if whole { Ok(()) } else { Err("not a JSON object".to_owned()) }
}

fn json_error(answer: &Answer) -> Result<(), String> {
    let body: Value = serde_json::from_str(&answer.body).map_err(|error| error.to_string())?;
    let shape = body["__type"].as_str().and_then(|shape| shape.split_once('#'));
    if shape.is_none_or(|(space, name)| space.is_empty() || name.is_empty()) {
        return Err("no type of error".to_owned());
    }
    if body["message"].as_str().is_none_or(str::is_empty) {
        return Err("no message".to_owned());
    }
    Ok(())
}

fn xml_error(body: &str) -> Result<(), String> {
    if body == "<UnknownOperationException/>\n" {
        return Ok(());
    }
    check_xml(body, "ErrorResponse")?;
    let code = body.split_once("<Code>").and_then(|(_, rest)| rest.split_once("</Code>"));
    if code.is_none_or(|(code, _)| code.is_empty()) || !body.contains("<Type>Sender</Type>") {
        return Err("no code".to_owned());
    }
    Ok(())
}

/// The XML that answers use: no comments, no sections, attributes at the root only.
fn check_xml(body: &str, root: &str) -> Result<(), String> {
    let wrong = |what: &str| Err(format!("XML: {what}"));
    let Some(mut rest) = body.strip_prefix("<?xml version=\"1.0\"?>\n<") else {
        return wrong("prolog");
    };
    let mut open: Vec<&str> = Vec::new();
    let mut elements = 0;
    loop {
        let Some((tag, after)) = rest.split_once('>') else {
            return wrong("an open tag");
        };
        if let Some(name) = tag.strip_prefix('/') {
            if open.pop() != Some(name) {
                return wrong("a closing tag");
            }
        } else {
            let name = tag.trim_end_matches('/').split(' ').next().unwrap_or_default();
            if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric()) {
                return wrong("the name of an element");
            }
            if elements == 0 && !name.ends_with(root) {
                return wrong("the root");
            }
            elements += 1;
            if !tag.ends_with('/') {
                open.push(name);
            }
        }
        let (text, next) = after.split_once('<').unwrap_or((after, ""));
        if !is_xml_text(text) {
            return wrong("text");
        }
        if open.is_empty() {
            return if text == "\n" && next.is_empty() { Ok(()) } else { wrong("the end") };
        }
        rest = next;
    }
}

fn is_xml_text(text: &str) -> bool {
    let entities = ["amp;", "lt;", "gt;", "quot;", "#xD;"];
    text.split('&').skip(1).all(|rest| entities.iter().any(|entity| rest.starts_with(entity)))
        && text.chars().all(|c| {
            matches!(c, '\t' | '\n' | ' '..='\u{D7FF}' | '\u{E000}'..='\u{FFFD}' | '\u{10000}'..)
                && c != '>'
        })
}

#[test]
fn xml_that_is_none() {
    let with = |inside: &str| {
        format!("<?xml version=\"1.0\"?>\n<AResponse x=\"y\">{inside}</AResponse>\n")
    };
    for good in ["", "<b>&amp;&#xD;</b><c/>", "<b><b></b></b>text"] {
        assert_eq!(check_xml(&with(good), "Response"), Ok(()), "{good}");
    }
    for bad in ["<b>", "</b>", "&", "&x;", "<b></c>", "\u{1}", "a > b", "<>", "<b c"] {
        assert!(check_xml(&with(bad), "Response").is_err(), "{bad}");
    }
    for bad in ["", "<AResponse/>\n", "<?xml version=\"1.0\"?>\n<B/>\n"] {
        assert!(check_xml(bad, "Response").is_err(), "{bad}");
    }
}
