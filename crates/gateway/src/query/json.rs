//! Responses and errors as JSON, for callers of the Query protocol that accept that before XML.

use bytes::Bytes;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::names::{self, Element};
use crate::error::ApiError;
use crate::ids::UuidText;

/// Writes the response of an action; `None`: it has no output.
pub(crate) fn encode<T: Serialize>(
    action: &str,
    response: Option<&T>,
    request_id: UuidText,
) -> Bytes {
    let mut parts = Map::new();
    if let Some(response) = response {
        let response = serde_json::to_value(response)
            .expect("responses have text keys, and nothing in them fails");
        let name = format!("{action}Result");
        let result = structure(&name, response);
        parts.insert(name, result);
    }
    parts.insert("ResponseMetadata".into(), json!({ "RequestId": request_id.as_str() }));
    json!({ (format!("{action}Response")): parts }).to_string().into()
}

/// Body of an error response.
pub(crate) fn encode_error(error: &ApiError, request_id: UuidText) -> Bytes {
    let (code, fault) = (error.kind.code(), error.kind.fault());
    let error = json!({ "Code": code, "Message": error.query_message(), "Type": fault });
    json!({ "Error": error, "RequestId": request_id.as_str() }).to_string().into()
}

/// A value as the service writes it here: maps are lists of pairs, and some members are there also
/// when they hold nothing. `name` is what the value is called, or the list that it is in.
fn structure(name: &str, value: Value) -> Value {
    match value {
        Value::Object(members) => {
            let mut all: Map<_, _> =
                names::always(name).iter().map(|member| ((*member).into(), Value::Null)).collect();
            all.extend(members.into_iter().map(|(member, value)| {
                let name = names::json_member(&member);
                (name.to_owned(), self::member(name, value))
            }));
            Value::Object(all)
        }
        Value::Array(items) => items.into_iter().map(|item| structure(name, item)).collect(),
        plain => plain,
    }
}

fn member(name: &str, value: Value) -> Value {
    match (names::element(name), value) {
        (Element::Pairs { key, .. }, Value::Object(pairs)) => {
            pairs.into_iter().map(|(name, value)| json!({ key: name, "Value": value })).collect()
        }
        (_, value) => structure(name, value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    fn id() -> UuidText {
        UuidText::new([0; 16])
    }

    fn result(action: &str, response: Value) -> Value {
        let text = encode(action, Some(&response), id());
        let answer: Value = serde_json::from_slice(&text).unwrap();
        let answer = &answer[format!("{action}Response")];
        assert_eq!(answer["ResponseMetadata"]["RequestId"], id().as_str());
        answer[format!("{action}Result")].clone()
    }

    #[test]
    fn maps_are_lists_of_pairs() {
        let response = json!({"Attributes": {"DelaySeconds": "0", "QueueArn": "arn"}});
        assert_eq!(
            result("GetQueueAttributes", response),
            json!({"Attributes": [
                {"Name": "DelaySeconds", "Value": "0"}, {"Name": "QueueArn", "Value": "arn"},
            ]})
        );
        let response = json!({"Tags": {"team": "a"}});
        assert_eq!(
            result("ListQueueTags", response),
            json!({"Tags": [{"Key": "team", "Value": "a"}]})
        );
    }

    #[test]
    fn messages_have_all_members() {
        assert_eq!(result("ReceiveMessage", json!({})), json!({"messages": null}));
        let value = json!({"DataType": "String", "StringValue": "v"});
        let response = json!({"Messages": [
            {"MessageId": "m", "ReceiptHandle": "h", "MD5OfBody": "d", "Body": "b\r\"&quot;"},
            {"MessageAttributes": {"n": value}},
        ]});
        assert_eq!(
            result("ReceiveMessage", response),
            json!({"messages": [
                {
                    "Attributes": null, "Body": "b\r\"&quot;", "MD5OfBody": "d",
                    "MD5OfMessageAttributes": null, "MessageAttributes": null,
                    "MessageId": "m", "ReceiptHandle": "h",
                },
                {
                    "Attributes": null, "Body": null, "MD5OfBody": null,
                    "MD5OfMessageAttributes": null,
                    "MessageAttributes": [{"Name": "n", "Value": value}],
                    "MessageId": null, "ReceiptHandle": null,
                },
            ]})
        );
        assert_eq!(
            result("SendMessage", json!({"MD5OfMessageBody": "d", "MessageId": "m"})),
            json!({
                "MD5OfMessageAttributes": null, "MD5OfMessageBody": "d",
                "MD5OfMessageSystemAttributes": null, "MessageId": "m", "SequenceNumber": null,
            })
        );
    }

    #[test]
    fn an_action_without_output_has_no_result() {
        let text = encode::<()>("DeleteMessage", None, id());
        let answer: Value = serde_json::from_slice(&text).unwrap();
        let metadata = json!({"RequestId": id().as_str()});
        assert_eq!(answer, json!({"DeleteMessageResponse": {"ResponseMetadata": metadata}}));
    }

    #[test]
    fn errors() {
        let error = ApiError::new(ErrorKind::QueueDoesNotExist, "<\">");
        let answer: Value = serde_json::from_slice(&encode_error(&error, id())).unwrap();
        assert_eq!(
            answer,
            json!({
                "Error": {
                    "Code": "AWS.SimpleQueueService.NonExistentQueue",
                    "Message": "The specified queue does not exist for this wsdl version.",
                    "Type": "Sender",
                },
                "RequestId": id().as_str(),
            })
        );
    }
}
