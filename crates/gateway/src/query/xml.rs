//! XML of responses and errors.

use std::fmt::Write as _;

use bytes::Bytes;
use serde::Serialize;
use serde_json::Value;

use super::names::{self, Element};
use crate::error::ApiError;
use crate::ids::UuidText;

const NAMESPACE: &str = "http://queue.amazonaws.com/doc/2012-11-05/";
const PROLOG: &str = "<?xml version=\"1.0\"?>\n";

/// Writes the response of an action; `None`: it has no output.
pub(crate) fn encode<T: Serialize>(
    action: &str,
    response: Option<&T>,
    request_id: UuidText,
    capacity: usize,
) -> Bytes {
    let mut out = String::with_capacity(capacity + 256);
    // Writing to a string does not fail.
    let _ = write!(out, "{PROLOG}<{action}Response xmlns=\"{NAMESPACE}\">");
    if let Some(response) = response {
        let response = serde_json::to_value(response)
            .expect("responses have text keys, and nothing in them fails");
        write(&mut out, action, &format!("{action}Result"), &response);
    }
    let request_id = request_id.as_str();
    let _ = writeln!(
        out,
        "<ResponseMetadata><RequestId>{request_id}</RequestId></ResponseMetadata>\
         </{action}Response>"
    );
    out.into()
}

/// Body of an error response.
pub(crate) fn encode_error(error: &ApiError, request_id: UuidText) -> Bytes {
    let (fault, code) = (error.kind.fault(), error.kind.code());
    let request_id = request_id.as_str();
    let mut out = format!(
        "{PROLOG}<ErrorResponse xmlns=\"{NAMESPACE}\"><Error><Type>{fault}</Type>\
         <Code>{code}</Code><Message>"
    );
    escape(&mut out, error.query_message());
    let _ = writeln!(
        out,
        "</Message><Detail/></Error><RequestId>{request_id}</RequestId></ErrorResponse>"
    );
    out.into()
}

/// Besides what XML demands: quotes, as the service does, and what readers would change or refuse.
fn escape(out: &mut String, text: &str) {
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\r' => out.push_str("&#xD;"),
            '\t' | '\n' | ' '..='\u{FFFD}' | '\u{10000}'.. => out.push(character),
            _ => out.push('\u{FFFD}'),
        }
    }
}

/// Writes a value as the element `name`; a list as one such element per item.
fn write(out: &mut String, action: &str, name: &str, value: &Value) {
    match value {
        Value::Null => {}
        Value::Bool(_) | Value::Number(_) => {
            let _ = write!(out, "<{name}>{value}</{name}>");
        }
        Value::String(text) => {
            let _ = write!(out, "<{name}>");
            escape(out, text);
            let _ = write!(out, "</{name}>");
        }
        Value::Array(items) => {
            for item in items {
                write(out, action, name, item);
            }
        }
        Value::Object(members) if members.is_empty() => {
            let _ = write!(out, "<{name}/>");
        }
        Value::Object(members) => {
            let _ = write!(out, "<{name}>");
            for (member, value) in members {
                write_member(out, action, member, value);
            }
            let _ = write!(out, "</{name}>");
        }
    }
}

fn write_member(out: &mut String, action: &str, member: &str, value: &Value) {
    match (names::element(member), value) {
        (Element::Named(name), _) => write(out, action, name, value),
        (Element::ResultEntry, _) => write(out, action, &format!("{action}ResultEntry"), value),
        (Element::Pairs { element, key }, Value::Object(pairs)) => {
            for (name, value) in pairs {
                let _ = write!(out, "<{element}><{key}>");
                escape(out, name);
                let _ = write!(out, "</{key}>");
                write(out, action, "Value", value);
                let _ = write!(out, "</{element}>");
            }
        }
        (Element::Pairs { element, .. }, _) => write(out, action, element, value),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::error::ErrorKind;

    fn id() -> UuidText {
        UuidText::new([0; 16])
    }

    fn result(action: &str, response: Value) -> String {
        let xml = encode(action, Some(&response), id(), 0);
        let xml = std::str::from_utf8(&xml).unwrap();
        let (_, rest) = xml.split_once("2012-11-05/\">").unwrap();
        let (result, _) = rest.split_once("<ResponseMetadata>").unwrap();
        result.to_owned()
    }

    #[test]
    fn lists_and_maps_are_flattened() {
        let response = json!({"Messages": [{
            "Attributes": {"SenderId": "a", "SentTimestamp": "1"},
            "Body": "b",
            "MessageAttributes": {"n": {"DataType": "String", "StringValue": "v"}},
        }, {"Body": ""}]});
        assert_eq!(
            result("ReceiveMessage", response),
            "<ReceiveMessageResult><Message>\
             <Attribute><Name>SenderId</Name><Value>a</Value></Attribute>\
             <Attribute><Name>SentTimestamp</Name><Value>1</Value></Attribute><Body>b</Body>\
             <MessageAttribute><Name>n</Name><Value><DataType>String</DataType>\
             <StringValue>v</StringValue></Value></MessageAttribute></Message>\
             <Message><Body></Body></Message></ReceiveMessageResult>"
        );
        assert_eq!(result("ReceiveMessage", json!({})), "<ReceiveMessageResult/>");
        assert_eq!(
            result("ListQueueTags", json!({"Tags": {"k": "v"}})),
            "<ListQueueTagsResult><Tag><Key>k</Key><Value>v</Value></Tag></ListQueueTagsResult>"
        );
    }

    #[test]
    fn entries_of_batches() {
        let failed = json!({"Id": "2", "SenderFault": true, "Code": "C", "Message": "m"});
        assert_eq!(
            result("DeleteMessageBatch", json!({"Successful": [{"Id": "1"}], "Failed": [failed]})),
            "<DeleteMessageBatchResult><BatchResultErrorEntry><Code>C</Code><Id>2</Id>\
             <Message>m</Message><SenderFault>true</SenderFault></BatchResultErrorEntry>\
             <DeleteMessageBatchResultEntry><Id>1</Id></DeleteMessageBatchResultEntry>\
             </DeleteMessageBatchResult>"
        );
    }

    #[test]
    fn an_action_without_output_has_no_result() {
        assert_eq!(
            std::str::from_utf8(&encode::<()>("DeleteMessage", None, id(), 0)).unwrap(),
            "<?xml version=\"1.0\"?>\n\
             <DeleteMessageResponse xmlns=\"http://queue.amazonaws.com/doc/2012-11-05/\">\
             <ResponseMetadata><RequestId>00000000-0000-0000-0000-000000000000</RequestId>\
             </ResponseMetadata></DeleteMessageResponse>\n"
        );
    }

    #[test]
    fn text_survives_readers() {
        let mut out = String::new();
        escape(&mut out, "{\"a\": \"<b>&\r\n\t\"}\u{1}\u{FFFE}\u{10000}");
        assert_eq!(
            out,
            "{&quot;a&quot;: &quot;&lt;b&gt;&amp;&#xD;\n\t&quot;}\u{FFFD}\u{FFFD}\u{10000}"
        );
    }

    #[test]
    fn errors() {
        let error = ApiError::invalid("a < b");
        let xml = encode_error(&error, id());
        assert_eq!(
            std::str::from_utf8(&xml).unwrap(),
            "<?xml version=\"1.0\"?>\n\
             <ErrorResponse xmlns=\"http://queue.amazonaws.com/doc/2012-11-05/\">\
             <Error><Type>Sender</Type><Code>InvalidParameterValue</Code>\
             <Message>a &lt; b</Message><Detail/></Error>\
             <RequestId>00000000-0000-0000-0000-000000000000</RequestId></ErrorResponse>\n"
        );
        let gone = encode_error(&ApiError::no_such_queue(), id());
        assert!(std::str::from_utf8(&gone).unwrap().contains("exist for this wsdl version."));
        let ours = encode_error(&ApiError::new(ErrorKind::InternalFailure, ""), id());
        assert!(std::str::from_utf8(&ours).unwrap().contains("<Type>Receiver</Type>"));
    }
}
