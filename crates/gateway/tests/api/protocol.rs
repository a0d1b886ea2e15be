//! What AWS JSON 1.0 and HTTP ask for beside the actions.

use prometheus_client::encoding::text::encode;
use serde_json::{Value, json};

use crate::client::{Answer, Connection, Server, post};

const UNKNOWN: &str = "com.amazon.coral.service#UnknownOperationException";
const MALFORMED: &str = "com.amazon.coral.service#SerializationException";

const ACTIONS: [&str; 23] = [
    "AddPermission",
    "CancelMessageMoveTask",
    "ChangeMessageVisibility",
    "ChangeMessageVisibilityBatch",
    "CreateQueue",
    "DeleteMessage",
    "DeleteMessageBatch",
    "DeleteQueue",
    "GetQueueAttributes",
    "GetQueueUrl",
    "ListDeadLetterSourceQueues",
    "ListMessageMoveTasks",
    "ListQueueTags",
    "ListQueues",
    "PurgeQueue",
    "ReceiveMessage",
    "RemovePermission",
    "SendMessage",
    "SendMessageBatch",
    "SetQueueAttributes",
    "StartMessageMoveTask",
    "TagQueue",
    "UntagQueue",
];

fn malformed(answer: &Answer) -> String {
    answer.refused(400, MALFORMED, "MalformedInput;Sender")
}

#[tokio::test]
async fn only_unknown_operations_are_refused() {
    let server = Server::start().await;
    for action in ["Nope", "", "sendmessage"] {
        server.call(action, json!({})).await.refused(400, UNKNOWN, "InvalidAction;Sender");
    }
    let bare = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\n{}";
    server.raw(bare).await.refused(400, UNKNOWN, "InvalidAction;Sender");
    for action in ACTIONS {
        let answer = server.call(action, json!({})).await;
        let kind = answer.headers.get("x-amzn-query-error").map_or("", String::as_str);
        assert!(
            !kind.contains("UnsupportedOperation") && !kind.contains("InvalidAction"),
            "{answer:?}"
        );
    }
}

#[tokio::test]
async fn malformed_bodies() {
    let server = Server::with_queue(json!({})).await;
    for body in ["", "x", "[]", "\"{}\"", "{", "{}x", "{\"a\":1,}", "null", "5"] {
        malformed(&server.raw(&post("SendMessage", "", body)).await);
    }
    for (action, body, text) in [
        ("SendMessage", json!({"MessageBody": 5}), "NUMBER_VALUE can not be converted to a String"),
        (
            "SendMessage",
            json!({"MessageBody": {}}),
            "Start of structure or map found where not expected.",
        ),
        ("SendMessage", json!({"MessageBody": []}), "Start of list found where not expected"),
        (
            "SendMessage",
            json!({"DelaySeconds": "5"}),
            "STRING_VALUE can not be converted to an Integer",
        ),
        (
            "SendMessage",
            json!({"DelaySeconds": 5.0}),
            "NUMBER_VALUE can not be converted to an Integer",
        ),
        (
            "SendMessage",
            json!({"DelaySeconds": u64::MAX}),
            "NUMBER_VALUE can not be converted to an Integer",
        ),
        (
            "SendMessage",
            json!({"MessageAttributes": "x"}),
            "Unrecognized collection type class java.lang.String",
        ),
        (
            "SendMessage",
            json!({"MessageAttributes": {"a": ["String", "x"]}}),
            "Start of list found where not expected",
        ),
        (
            "SendMessageBatch",
            json!({"Entries": "x"}),
            "Unrecognized collection type class java.lang.String",
        ),
        (
            "SendMessageBatch",
            json!({"Entries": {}}),
            "Start of structure or map found where not expected.",
        ),
        (
            "SendMessageBatch",
            json!({"Entries": [["a", "b"]]}),
            "Start of list found where not expected",
        ),
        (
            "CreateQueue",
            json!({"QueueName": "x", "Attributes": {"DelaySeconds": 5}}),
            "NUMBER_VALUE can not be converted to a String",
        ),
    ] {
        assert_eq!(malformed(&server.call(action, body.clone()).await), text, "{body}");
    }
    let twice = "{\"QueueUrl\":\"q\",\"MessageBody\":\"a\",\"MessageBody\":\"b\"}";
    malformed(&server.raw(&post("SendMessage", "", twice)).await);
    let deep = format!("{{\"x\":{}", "[".repeat(1_000_000));
    malformed(&server.raw(&post("SendMessage", "", &deep)).await);
    let unknown = json!({"MessageBody": "m", "Unknown": {"a": [1, null]}, "DelaySeconds": null});
    server.ok("SendMessage", unknown).await;
    let last = "{\"QueueName\":\"n\",\"Attributes\":{\"DelaySeconds\":\"1\",\
                \"DelaySeconds\":\"2\"}}";
    assert_eq!(server.raw(&post("CreateQueue", "", last)).await.status, 200);
    let get = json!({"QueueUrl": "n", "AttributeNames": ["DelaySeconds"]});
    let got = server.call("GetQueueAttributes", get).await.json();
    assert_eq!(got["Attributes"]["DelaySeconds"], "2");
}

#[tokio::test]
async fn every_answer_names_its_request() {
    let server = Server::with_queue(json!({})).await;
    let body = json!({"QueueUrl": "q", "MessageBody": "m"}).to_string();
    let on_path = String::from_utf8(post("SendMessage", "", &body)).unwrap();
    let on_path = on_path.replace("POST / ", "POST /000000000000/q ");
    let ok = server.raw(on_path.as_bytes()).await;
    assert_eq!(ok.headers["content-type"], "application/x-amz-json-1.0");
    assert!(!ok.headers.contains_key("access-control-allow-origin"));
    let error = server.call("Nope", json!({})).await;
    for answer in [&ok, &error] {
        assert_eq!(answer.headers["x-amzn-requestid"].len(), 36);
    }
    assert_ne!(ok.headers["x-amzn-requestid"], error.headers["x-amzn-requestid"]);
    assert_eq!(error.headers["x-flotilla-outcome"], "not-applied");
}

#[tokio::test]
async fn other_methods() {
    let server = Server::start().await;
    for path in ["/", "/000000000000/q"] {
        let get = format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n");
        let answer = server.raw(get.as_bytes()).await;
        assert_eq!((answer.status, answer.body.trim()), (404, "<UnknownOperationException/>"));
    }
    let preflight = b"OPTIONS / HTTP/1.1\r\nHost: h\r\nOrigin: http://page\r\n\
        Access-Control-Request-Method: POST\r\n\
        Access-Control-Request-Headers: authorization,x-amz-target\r\n\r\n";
    let answer = server.raw(preflight).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.headers["access-control-allow-origin"], "*");
    assert_eq!(answer.headers["access-control-allow-headers"], "authorization,x-amz-target");
    assert!(answer.headers["access-control-allow-methods"].contains("POST"));
    let answer = server.raw(&post("ListQueues", "Origin: http://page\r\n", "{}")).await;
    assert_eq!(answer.headers["access-control-allow-origin"], "*");
    assert!(answer.headers["access-control-expose-headers"].contains("x-amzn-query-error"));
}

/// The head of a request whose body is larger than any may be.
fn too_large(headers: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: h\r\nX-Amz-Target: AmazonSQS.ListQueues\r\n{headers}\r\n")
}

#[track_caller]
fn is_refused(answer: &Answer) {
    answer.refused(413, MALFORMED, "MalformedInput;Sender");
    assert_eq!(answer.headers["connection"], "close");
}

#[tokio::test]
async fn bodies_beyond_the_limit_are_read_before_they_are_refused() {
    const PIECE: &[u8] = &[b'x'; 1 << 20];
    let server = Server::start().await;
    // Written to its end before anything is read, which takes a server that takes it all.
    let mut connection = Connection::open(&server.address).await;
    connection.write(too_large("Content-Length: 33554432\r\n").as_bytes()).await;
    for _ in 0..32 {
        connection.write(PIECE).await;
    }
    is_refused(&connection.read().await);
    // A body that announces no length is counted as it comes.
    let mut connection = Connection::open(&server.address).await;
    connection.write(too_large("Transfer-Encoding: chunked\r\n").as_bytes()).await;
    for _ in 0..32 {
        connection.write(b"100000\r\n").await;
        connection.write(PIECE).await;
        connection.write(b"\r\n").await;
    }
    connection.write(b"0\r\n\r\n").await;
    is_refused(&connection.read().await);
    let mut connection = Connection::open(&server.address).await;
    connection.write(too_large("Transfer-Encoding: chunked\r\n").as_bytes()).await;
    connection.write(b"1\r\n{\r\n1\r\n}\r\n0\r\n\r\n").await;
    assert_eq!(connection.read().await.body, "{}");
}

/// Whoever splits batches that are too long knows them by their code.
#[tokio::test]
async fn ten_of_the_largest_messages_are_refused_as_the_batch_that_they_are() {
    let server = Server::with_queue(json!({})).await;
    let body = "x".repeat(1 << 20);
    let entries: Vec<_> =
        (0..10).map(|n| json!({"Id": n.to_string(), "MessageBody": body})).collect();
    let answer = server.on_queue("SendMessageBatch", json!({"Entries": entries})).await;
    let code = "AWS.SimpleQueueService.BatchRequestTooLong";
    let text = answer.sqs(400, "BatchRequestTooLong", code);
    assert!(
        text.starts_with("Batch requests cannot be longer than 1048576 bytes. You have sent 10")
    );
    assert_eq!(answer.headers["connection"], "close");
    let server = Server::with_queue(json!({})).await;
    let answer = server.on_queue("SendMessage", json!({"MessageBody": body.repeat(9)})).await;
    let text = answer.invalid();
    assert!(text.ends_with("Message must be shorter than 1048576 bytes."), "{text}");
}

#[tokio::test]
async fn nobody_is_told_to_send_a_body_that_is_refused() {
    let server = Server::start().await;
    for headers in [
        // It would be read to its end.
        "Content-Length: 8388609\r\nExpect: 100-continue\r\n",
        // It would not.
        "Content-Length: 67108865\r\n",
    ] {
        let mut connection = Connection::open(&server.address).await;
        connection.write(too_large(headers).as_bytes()).await;
        is_refused(&connection.read().await);
    }
}

#[tokio::test]
async fn numbers_for_operators() {
    let server = Server::with_queue(json!({})).await;
    server.ok("SendMessage", json!({"MessageBody": "hello"})).await;
    let handle = server.handle(json!({})).await;
    server.ok("ReceiveMessage", json!({})).await;
    server.ok("DeleteMessage", json!({"ReceiptHandle": handle})).await;
    server.on_queue("DeleteMessage", json!({"ReceiptHandle": "x"})).await;
    let mut text = String::new();
    encode(&mut text, &server.registry).unwrap();
    for line in [
        "sqs_NumberOfMessagesSent_total{queue_name=\"q\"} 1",
        "sqs_NumberOfMessagesReceived_total{queue_name=\"q\"} 1",
        "sqs_NumberOfMessagesDeleted_total{queue_name=\"q\"} 1",
        "sqs_NumberOfEmptyReceives_total{queue_name=\"q\"} 1",
        "sqs_SentMessageSize_sum{queue_name=\"q\"} 5.0",
        "sqs_short_polls_total 2",
        "sqs_short_polls_empty_total 1",
        "sqs_requests_total{action=\"SendMessage\",code=\"OK\"} 1",
        "sqs_requests_total{action=\"DeleteMessage\",code=\"ReceiptHandleIsInvalid\"} 1",
        "sqs_request_seconds_count{action=\"ReceiveMessage\"} 2",
        "sqs_requests_in_work 0",
        "sqs_request_bytes_in_work 0",
    ] {
        assert!(text.lines().any(|got| got == line), "{line} is not in\n{text}");
    }
    server.ok("DeleteQueue", json!({})).await;
    let mut text = String::new();
    encode(&mut text, &server.registry).unwrap();
    assert!(!text.contains("queue_name=\"q\""), "{text}");
    let _: Value = server.call("ListQueues", json!({})).await.json();
}
