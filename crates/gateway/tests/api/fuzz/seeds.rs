//! Valid requests of every action, as JSON and as parameters of the Query protocol.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

/// Stands for the handle of a running task. That one differs from run to run; mutations must not.
pub(super) const TASK_HANDLE: &str = "TASKHANDLE";

/// A valid request.
pub(super) struct Seed {
    pub(super) action: &'static str,
    pub(super) body: Value,
}

pub(super) fn arn(queue: &str) -> String {
    format!("arn:aws:sqs:us-east-1:000000000000:{queue}")
}

pub(super) fn redrive(dead: &str) -> String {
    json!({"deadLetterTargetArn": arn(dead), "maxReceiveCount": 3}).to_string()
}

/// All of them, in an order in which each is valid after the ones before. Two receipt handles.
pub(super) fn all(handle: &str, other: &str) -> Vec<Seed> {
    let mut seeds = of_messages(handle, other);
    seeds.extend(of_queues());
    seeds.extend(of_owners());
    seeds
}

fn seed(action: &'static str, body: Value) -> Seed {
    Seed { action, body }
}

fn of_messages(handle: &str, other: &str) -> Vec<Seed> {
    let url = "http://sqs.test:9324/000000000000/q";
    let fifo = "http://sqs.test:9324/000000000000/q.fifo";
    let attributes = json!({
        "color": {"DataType": "String", "StringValue": "blue"},
        "size": {"DataType": "Number.int", "StringValue": "-1.5e3"},
        "blob": {"DataType": "Binary", "BinaryValue": "AQID"},
    });
    let trace = json!({"AWSTraceHeader": {"DataType": "String", "StringValue": "Root=1"}});
    let entries = json!([
        {"Id": "a", "MessageBody": "one", "DelaySeconds": 5, "MessageAttributes": attributes},
        {"Id": "b", "MessageBody": "two", "MessageSystemAttributes": trace},
    ]);
    let handles = |extra: Option<u32>| {
        let entry = |(id, handle)| match extra {
            Some(seconds) => {
                json!({"Id": id, "ReceiptHandle": handle, "VisibilityTimeout": seconds})
            }
            None => json!({"Id": id, "ReceiptHandle": handle}),
        };
        Value::from([("a", handle), ("b", other)].map(entry).to_vec())
    };
    let names = ["All", "SentTimestamp"];
    vec![
        seed(
            "SendMessage",
            json!({"QueueUrl": url, "MessageBody": "a \u{e9} <b>&\r\n", "DelaySeconds": 0,
                "MessageAttributes": attributes, "MessageSystemAttributes": trace}),
        ),
        seed(
            "SendMessage",
            json!({"QueueUrl": fifo, "MessageBody": "m", "MessageGroupId": "g",
                "MessageDeduplicationId": "d"}),
        ),
        seed("SendMessageBatch", json!({"QueueUrl": url, "Entries": entries})),
        seed(
            "ReceiveMessage",
            json!({"QueueUrl": url, "MaxNumberOfMessages": 10, "VisibilityTimeout": 1,
                "WaitTimeSeconds": 1, "AttributeNames": names,
                "MessageSystemAttributeNames": names, "MessageAttributeNames": ["col.*", "blob"]}),
        ),
        seed(
            "ReceiveMessage",
            json!({"QueueUrl": fifo, "ReceiveRequestAttemptId": "x", "AttributeNames": ["All"]}),
        ),
        seed(
            "ChangeMessageVisibility",
            json!({"QueueUrl": url, "ReceiptHandle": handle, "VisibilityTimeout": 30}),
        ),
        seed(
            "ChangeMessageVisibilityBatch",
            json!({"QueueUrl": url, "Entries": handles(Some(30))}),
        ),
        seed("DeleteMessage", json!({"QueueUrl": url, "ReceiptHandle": handle})),
        seed("DeleteMessageBatch", json!({"QueueUrl": url, "Entries": handles(None)})),
        seed("PurgeQueue", json!({"QueueUrl": url})),
    ]
}

fn of_queues() -> Vec<Seed> {
    let token = URL_SAFE_NO_PAD.encode(b"\x01doomed/");
    let sources = URL_SAFE_NO_PAD.encode(b"\x02a/dead");
    let attributes = json!({"VisibilityTimeout": "40", "MaximumMessageSize": "262144"});
    let policy = json!({"redrivePermission": "byQueue", "sourceQueueArns": [arn("q")]});
    vec![
        seed(
            "CreateQueue",
            json!({"QueueName": "new", "Attributes": attributes, "tags": {"team": "a", "x": ""}}),
        ),
        seed("GetQueueUrl", json!({"QueueName": "q", "QueueOwnerAWSAccountId": "000000000000"})),
        seed("ListQueues", json!({"QueueNamePrefix": "", "MaxResults": 2, "NextToken": token})),
        seed(
            "GetQueueAttributes",
            json!({"QueueUrl": "q", "AttributeNames": ["QueueArn", "Policy", "All"]}),
        ),
        seed(
            "SetQueueAttributes",
            json!({"QueueUrl": "q2", "Attributes": {
                "RedrivePolicy": redrive("dead2"), "DelaySeconds": "0",
                "ReceiveMessageWaitTimeSeconds": "1", "MessageRetentionPeriod": "86400",
            }}),
        ),
        seed(
            "SetQueueAttributes",
            json!({"QueueUrl": "dead", "Attributes": {"RedriveAllowPolicy": policy.to_string()}}),
        ),
        seed(
            "ListDeadLetterSourceQueues",
            json!({"QueueUrl": "dead", "MaxResults": 1, "NextToken": sources}),
        ),
        seed("DeleteQueue", json!({"QueueUrl": "doomed"})),
    ]
}

/// Tags, permissions, move tasks.
fn of_owners() -> Vec<Seed> {
    let policy = json!({"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Principal": "*", "Action": "SQS:*", "Resource": arn("q2")}]});
    vec![
        seed("TagQueue", json!({"QueueUrl": "q", "Tags": {"team": "a", "\u{e9}": "x y"}})),
        seed("UntagQueue", json!({"QueueUrl": "q", "TagKeys": ["team", "none"]})),
        seed("ListQueueTags", json!({"QueueUrl": "q"})),
        seed(
            "AddPermission",
            json!({"QueueUrl": "q", "Label": "new", "AWSAccountIds": ["222222222222"],
                "Actions": ["SendMessage", "*"]}),
        ),
        seed("RemovePermission", json!({"QueueUrl": "q", "Label": "old"})),
        seed(
            "SetQueueAttributes",
            json!({"QueueUrl": "q2", "Attributes": {"Policy": policy.to_string()}}),
        ),
        seed(
            "StartMessageMoveTask",
            json!({"SourceArn": arn("dead2"), "DestinationArn": arn("q"),
                "MaxNumberOfMessagesPerSecond": 5}),
        ),
        seed("ListMessageMoveTasks", json!({"SourceArn": arn("dead"), "MaxResults": 5})),
        seed("CancelMessageMoveTask", json!({"TaskHandle": TASK_HANDLE})),
    ]
}

impl Seed {
    /// The parameters of the Query protocol.
    pub(super) fn parameters(&self) -> Vec<(String, String)> {
        parameters(self.action, &self.body)
    }
}

/// A request of the Query protocol.
pub(crate) fn parameters(action: &str, body: &Value) -> Vec<(String, String)> {
    let mut parameters = vec![
        ("Action".to_owned(), action.to_owned()),
        ("Version".to_owned(), "2012-11-05".to_owned()),
    ];
    flatten(action, "", body, &mut parameters);
    parameters
}

fn flatten(action: &str, path: &str, value: &Value, out: &mut Vec<(String, String)>) {
    match value {
        Value::Object(members) => {
            for (member, value) in members {
                let (name, key) = flat_name(action, member);
                let path = format!("{path}{name}");
                match (key, value) {
                    (Some(key), Value::Object(pairs)) => {
                        for (at, (name, value)) in pairs.iter().enumerate() {
                            let path = format!("{path}.{}", at + 1);
                            out.push((format!("{path}.{key}"), name.clone()));
                            flatten_at(action, &format!("{path}.Value"), value, out);
                        }
                    }
                    _ => flatten_at(action, &path, value, out),
                }
            }
        }
        Value::Array(items) => {
            for (at, item) in items.iter().enumerate() {
                flatten_at(action, &format!("{path}{}", at + 1), item, out);
            }
        }
        Value::String(text) => out.push((path.to_owned(), text.clone())),
        other => out.push((path.to_owned(), other.to_string())),
    }
}

fn flatten_at(action: &str, path: &str, value: &Value, out: &mut Vec<(String, String)>) {
    match value {
        Value::Object(_) | Value::Array(_) => flatten(action, &format!("{path}."), value, out),
        _ => flatten(action, path, value, out),
    }
}

/// The name of a member and, when it is a map, that of its keys.
fn flat_name(action: &str, member: &str) -> (String, Option<&'static str>) {
    match member {
        "Entries" => (format!("{action}RequestEntry"), None),
        "tags" | "Tags" => ("Tag".to_owned(), Some("Key")),
        "Attributes" | "MessageAttributes" | "MessageSystemAttributes" => {
            (member.trim_end_matches('s').to_owned(), Some("Name"))
        }
        "Actions" => ("ActionName".to_owned(), None),
        _ => match member.strip_suffix('s') {
            Some(one) if one.ends_with("Name") || one == "AWSAccountId" || one == "TagKey" => {
                (one.to_owned(), None)
            }
            _ => (member.to_owned(), None),
        },
    }
}
