//! Valid requests of every action, in both protocols: what mutations start from.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::mutate::Rng;
use crate::client::Server;

/// Stands for the handle of a running task. That one differs from run to run; mutations must not.
const TASK_HANDLE: &str = "TASKHANDLE";

pub(super) const FORM: &str = "application/x-www-form-urlencoded";

/// A valid request.
pub(super) struct Seed {
    pub(super) action: &'static str,
    pub(super) body: Value,
}

/// A request as it is sent, valid or not.
#[derive(Clone)]
pub(super) struct Request {
    pub(super) method: &'static str,
    pub(super) target: Vec<u8>,
    pub(super) content_type: Vec<u8>,
    /// Header `X-Amz-Target`.
    pub(super) action: Vec<u8>,
    pub(super) body: Vec<u8>,
}

/// A server with the queues that the seeds name.
pub(super) struct World {
    pub(super) server: Server,
    pub(super) seeds: Vec<Seed>,
    task_handle: String,
}

fn arn(queue: &str) -> String {
    format!("arn:aws:sqs:us-east-1:000000000000:{queue}")
}

fn redrive(dead: &str) -> String {
    json!({"deadLetterTargetArn": arn(dead), "maxReceiveCount": 3}).to_string()
}

impl World {
    pub(super) async fn new() -> Self {
        let server = Server::start().await;
        for queue in ["dead", "dead2", "doomed", "q", "q2"] {
            must(&server, "CreateQueue", json!({"QueueName": queue})).await;
        }
        let fifo = json!({"FifoQueue": "true", "ContentBasedDeduplication": "true"});
        must(&server, "CreateQueue", json!({"QueueName": "q.fifo", "Attributes": fifo})).await;
        for (source, dead) in [("q", "dead"), ("q2", "dead2")] {
            let attributes = json!({"RedrivePolicy": redrive(dead)});
            let set = json!({"QueueUrl": source, "Attributes": attributes});
            must(&server, "SetQueueAttributes", set).await;
        }
        let permission = json!({"QueueUrl": "q", "Label": "old", "AWSAccountIds": ["111111111111"],
            "Actions": ["SendMessage"]});
        must(&server, "AddPermission", permission).await;
        let mut handles = Vec::new();
        for _ in 0..2 {
            server.ok("SendMessage", json!({"MessageBody": "m"})).await;
            handles.push(server.handle(json!({"VisibilityTimeout": 43_200})).await);
        }
        let started =
            must(&server, "StartMessageMoveTask", json!({"SourceArn": arn("dead")})).await;
        let task_handle = started["TaskHandle"].as_str().unwrap().to_owned();
        let mut seeds = of_messages(&handles[0], &handles[1]);
        seeds.extend(of_queues());
        seeds.extend(of_owners());
        Self { server, seeds, task_handle }
    }

    /// A seed that has the chance of every other one.
    pub(super) fn seed(&self, rng: &mut Rng) -> &Seed {
        rng.pick(&self.seeds)
    }

    /// The bytes of a request on a connection that stays open.
    pub(super) fn wire(&self, request: &Request) -> Vec<u8> {
        let body = self.with_handle(&request.body);
        let mut bytes = request.method.as_bytes().to_vec();
        bytes.push(b' ');
        bytes.extend(self.with_handle(&request.target));
        bytes.extend(b" HTTP/1.1\r\nHost: sqs.test:9324\r\n");
        for (name, value) in
            [("Content-Type", &request.content_type), ("X-Amz-Target", &request.action)]
        {
            if !value.is_empty() {
                bytes.extend(name.as_bytes());
                bytes.extend(b": ");
                bytes.extend(value);
                bytes.extend(b"\r\n");
            }
        }
        bytes.extend(format!("Content-Length: {}\r\n\r\n", body.len()).into_bytes());
        bytes.extend(body);
        bytes
    }

    fn with_handle(&self, bytes: &[u8]) -> Vec<u8> {
        let placeholder = TASK_HANDLE.as_bytes();
        // No seed has it later, and bodies can be large.
        let start = &bytes[..bytes.len().min(4_096)];
        match start.windows(placeholder.len()).position(|window| window == placeholder) {
            Some(at) => {
                let rest = &bytes[at + placeholder.len()..];
                [&bytes[..at], self.task_handle.as_bytes(), rest].concat()
            }
            None => bytes.to_vec(),
        }
    }
}

async fn must(server: &Server, action: &str, body: Value) -> Value {
    let answer = server.call(action, body).await;
    assert_eq!(answer.status, 200, "{action}: {answer:?}");
    if answer.body.is_empty() { Value::Null } else { answer.json() }
}

fn seed(action: &'static str, body: Value) -> Seed {
    Seed { action, body }
}

/// In an order in which each is valid after the ones before.
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
        let mut parameters = vec![
            ("Action".to_owned(), self.action.to_owned()),
            ("Version".to_owned(), "2012-11-05".to_owned()),
        ];
        flatten(self.action, "", &self.body, &mut parameters);
        parameters
    }
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

impl Request {
    pub(super) fn json(action: &str, body: Vec<u8>) -> Self {
        Self {
            method: "POST",
            target: b"/".to_vec(),
            content_type: b"application/x-amz-json-1.0".to_vec(),
            action: format!("AmazonSQS.{action}").into_bytes(),
            body,
        }
    }

    pub(super) fn form(body: Vec<u8>) -> Self {
        Self { content_type: FORM.into(), action: Vec::new(), ..Self::json("", body) }
    }

    pub(super) fn get(query: &[u8]) -> Self {
        Self {
            method: "GET",
            target: [b"/?", query].concat(),
            content_type: Vec::new(),
            ..Self::form(Vec::new())
        }
    }
}
