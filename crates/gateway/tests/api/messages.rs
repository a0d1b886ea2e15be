//! Sending, receiving, deleting, changing visibility.

use serde_json::{Value, json};

use crate::client::{Connection, Server, post};

pub(crate) async fn send(server: &Server, body: &str) -> Value {
    server.ok("SendMessage", json!({"MessageBody": body})).await
}

#[tokio::test]
async fn a_message_goes_through_its_life() {
    let server = Server::with_queue(json!({})).await;
    let sent = send(&server, "hello").await;
    assert_eq!(sent["MD5OfMessageBody"], "5d41402abc4b2a76b9719d911017c592");
    assert_eq!(sent.as_object().unwrap().len(), 2, "{sent}");

    let received = server.ok("ReceiveMessage", json!({"VisibilityTimeout": 30})).await;
    let message = &received["Messages"][0];
    assert_eq!(message["MessageId"], sent["MessageId"]);
    assert_eq!(message["Body"], "hello");
    assert_eq!(message["MD5OfBody"], sent["MD5OfMessageBody"]);
    assert_eq!(message.as_object().unwrap().len(), 4, "{message}");
    let handle = message["ReceiptHandle"].as_str().unwrap();
    assert!(handle.starts_with("AQEB") && handle.len() <= 1_024);

    assert_eq!(server.on_queue("ReceiveMessage", json!({})).await.body, "{}");
    for timeout in [0, 10] {
        let change = json!({"ReceiptHandle": handle, "VisibilityTimeout": timeout});
        let answer = server.on_queue("ChangeMessageVisibility", change).await;
        assert_eq!((answer.status, answer.body.as_str()), (200, ""));
    }
    assert_eq!(server.bodies(json!({})).await, [""; 0]);
    for _ in 0..2 {
        let answer = server.on_queue("DeleteMessage", json!({"ReceiptHandle": handle})).await;
        assert_eq!((answer.status, answer.body.as_str()), (200, ""));
        assert_eq!(answer.headers["content-length"], "0");
    }
    let change = json!({"ReceiptHandle": handle, "VisibilityTimeout": 42});
    assert_eq!(
        server.on_queue("ChangeMessageVisibility", change).await.invalid(),
        format!(
            "Value {handle} for parameter ReceiptHandle is invalid. Reason: Message does not \
             exist or is not available for visibility timeout change."
        )
    );
}

#[tokio::test]
async fn an_expired_receive_can_still_be_changed_and_deleted() {
    let server = Server::with_queue(json!({"VisibilityTimeout": "1"})).await;
    send(&server, "m").await;
    let handle = server.handle(json!({})).await;
    server.fake.advance(2);
    let change = json!({"ReceiptHandle": handle, "VisibilityTimeout": 2});
    server.ok("ChangeMessageVisibility", change).await;
    assert_eq!(server.bodies(json!({})).await, [""; 0]);
    server.fake.advance(2);
    let handle = server.handle(json!({})).await;
    server.fake.advance(1);
    server.ok("DeleteMessage", json!({"ReceiptHandle": handle})).await;
    assert_eq!(server.bodies(json!({})).await, [""; 0]);
}

#[tokio::test]
async fn extended_visibility_hides_until_it_ends() {
    let server = Server::with_queue(json!({"VisibilityTimeout": "2"})).await;
    send(&server, "m").await;
    let handle = server.handle(json!({})).await;
    for _ in 0..4 {
        server.fake.advance(1);
        let change = json!({"ReceiptHandle": handle, "VisibilityTimeout": 2});
        server.ok("ChangeMessageVisibility", change).await;
        assert_eq!(server.bodies(json!({})).await, [""; 0]);
    }
    server.fake.advance(2);
    assert_eq!(server.bodies(json!({})).await, ["m"]);
}

#[tokio::test]
async fn a_first_handle_still_acts_while_a_second_receive_holds_the_message() {
    let server = Server::with_queue(json!({})).await;
    send(&server, "m").await;
    let first = server.handle(json!({"VisibilityTimeout": 0})).await;
    let second = server.handle(json!({"VisibilityTimeout": 3})).await;
    assert_ne!(first, second);
    let change = json!({"ReceiptHandle": first, "VisibilityTimeout": 0});
    server.ok("ChangeMessageVisibility", change).await;
    assert_eq!(server.bodies(json!({"WaitTimeSeconds": 1})).await, ["m"]);
}

#[tokio::test]
async fn total_visibility_is_limited() {
    let server = Server::with_queue(json!({})).await;
    send(&server, "m").await;
    let handle = server.handle(json!({})).await;
    server.fake.advance(1);
    let change = json!({"ReceiptHandle": handle, "VisibilityTimeout": 43200});
    assert_eq!(
        server.on_queue("ChangeMessageVisibility", change).await.invalid(),
        "Value 43200 for parameter VisibilityTimeout is invalid. Reason: Total VisibilityTimeout \
         for the message is beyond the limit [43200 seconds]"
    );
}

#[tokio::test]
async fn retention_ends_what_is_in_flight() {
    let attributes = json!({"MessageRetentionPeriod": "60", "VisibilityTimeout": "60"});
    let server = Server::with_queue(attributes).await;
    send(&server, "m").await;
    server.fake.advance(5);
    let handle = server.handle(json!({})).await;
    server.fake.advance(61);
    assert_eq!(server.bodies(json!({})).await, [""; 0]);
    server.ok("DeleteMessage", json!({"ReceiptHandle": handle})).await;
}

#[tokio::test]
async fn delays() {
    let server = Server::with_queue(json!({"DelaySeconds": "5"})).await;
    send(&server, "of the queue").await;
    let own = json!({"MessageBody": "own", "DelaySeconds": 0});
    server.ok("SendMessage", own).await;
    assert_eq!(server.bodies(json!({"MaxNumberOfMessages": 10})).await, ["own"]);
    server.fake.advance(5);
    assert_eq!(server.bodies(json!({"MaxNumberOfMessages": 10})).await, ["of the queue"]);
    for delay in [-1, 901, i64::MAX] {
        let body = json!({"MessageBody": "m", "DelaySeconds": delay});
        assert_eq!(
            server.on_queue("SendMessage", body).await.invalid(),
            format!(
                "Value {delay} for parameter DelaySeconds is invalid. Reason: DelaySeconds must \
                 be >= 0 and <= 900."
            )
        );
    }
}

#[tokio::test]
async fn what_a_send_refuses() {
    let server = Server::with_queue(json!({"MaximumMessageSize": "1024"})).await;
    let send = |body: Value| server.on_queue("SendMessage", body);
    for body in [json!({}), json!({"MessageBody": ""}), json!({"MessageBody": null})] {
        let text = send(body).await.missing();
        assert_eq!(text, "The request must contain the parameter MessageBody.");
    }
    let text = send(json!({"MessageBody": "a\u{0}"})).await;
    assert_eq!(
        text.sqs(400, "InvalidMessageContents", "InvalidMessageContents"),
        "Invalid characters found. Valid unicode characters are #x9 | #xA | #xD | #x20 to #xD7FF \
         | #xE000 to #xFFFD | #x10000 to #x10FFFF"
    );
    assert_eq!(send(json!({"MessageBody": "é".repeat(512)})).await.status, 200);
    assert_eq!(
        send(json!({"MessageBody": "x".repeat(1025)})).await.invalid(),
        "One or more parameters are invalid. Reason: Message must be shorter than 1024 bytes."
    );
    for (group, shown) in [("", ""), ("a b", "a b"), ("é", "é")] {
        let body = json!({"MessageBody": "m", "MessageGroupId": group});
        assert_eq!(
            send(body).await.invalid(),
            format!(
                "Value {shown} for parameter MessageGroupId is invalid. Reason: MessageGroupId \
                 can only include alphanumeric and punctuation characters. 1 to 128 in length."
            )
        );
    }
    let body = json!({"MessageBody": "m", "MessageDeduplicationId": "d"});
    assert_eq!(
        send(body).await.invalid(),
        "Value d for parameter MessageDeduplicationId is invalid. Reason: The request include \
         parameter that is not valid for this queue type."
    );
    let list = json!({"n": {"DataType": "String", "StringListValues": ["a"]}});
    let body = json!({"MessageBody": "m", "MessageAttributes": list});
    assert_eq!(
        send(body).await.sqs(
            400,
            "UnsupportedOperation",
            "AWS.SimpleQueueService.UnsupportedOperation"
        ),
        "Message attribute list values in SendMessage operation are not supported."
    );
}

#[tokio::test]
async fn what_a_receive_refuses() {
    let server = Server::with_queue(json!({})).await;
    for (name, value, reason) in [
        ("MaxNumberOfMessages", 0, "Must be between 1 and 10, if provided."),
        ("MaxNumberOfMessages", 11, "Must be between 1 and 10, if provided."),
        ("WaitTimeSeconds", -1, "Must be >= 0 and <= 20, if provided."),
        ("WaitTimeSeconds", 21, "Must be >= 0 and <= 20, if provided."),
        ("VisibilityTimeout", 43_201, "Must be >= 0 and <= 43200, if provided."),
    ] {
        assert_eq!(
            server.on_queue("ReceiveMessage", json!({name: value})).await.invalid(),
            format!("Value {value} for parameter {name} is invalid. Reason: {reason}")
        );
    }
    send(&server, "m").await;
    server.fake.limit_in_flight(0);
    let refused = server.on_queue("ReceiveMessage", json!({})).await;
    refused.sqs(403, "OverLimit", "OverLimit");
}

#[tokio::test]
async fn handles_that_are_none() {
    let server = Server::with_queue(json!({})).await;
    send(&server, "m").await;
    let handle = server.handle(json!({})).await;
    server.call("CreateQueue", json!({"QueueName": "other"})).await;
    let foreign = json!({"QueueUrl": "other", "ReceiptHandle": handle});
    assert_eq!(
        server.call("DeleteMessage", foreign).await.sqs(
            404,
            "ReceiptHandleIsInvalid",
            "ReceiptHandleIsInvalid"
        ),
        format!("The input receipt handle \"{handle}\" is not a valid receipt handle.")
    );
    let garbage = json!({"ReceiptHandle": "garbage", "VisibilityTimeout": 1});
    for action in ["DeleteMessage", "ChangeMessageVisibility"] {
        let answer = server.on_queue(action, garbage.clone()).await;
        answer.sqs(404, "ReceiptHandleIsInvalid", "ReceiptHandleIsInvalid");
        let text = server.on_queue(action, json!({})).await.missing();
        assert_eq!(text, "The request must contain the parameter ReceiptHandle.");
    }
    let answer = server.on_queue("ChangeMessageVisibility", json!({"ReceiptHandle": handle}));
    let text = answer.await.missing();
    assert_eq!(text, "The request must contain the parameter VisibilityTimeout.");
    let change = json!({"ReceiptHandle": handle, "VisibilityTimeout": 43201});
    assert_eq!(
        server.on_queue("ChangeMessageVisibility", change).await.invalid(),
        "Value 43201 for parameter VisibilityTimeout is invalid. \
         Reason: Must be between 0 and 43200."
    );
    // The queue is looked at before the handle.
    let missing = json!({"QueueUrl": "nope", "ReceiptHandle": "garbage"});
    let answer = server.call("DeleteMessage", missing).await;
    answer.sqs(400, "QueueDoesNotExist", "AWS.SimpleQueueService.NonExistentQueue");
}

#[tokio::test]
async fn message_attributes_are_selected_and_digested() {
    let server = Server::with_queue(json!({"VisibilityTimeout": "0"})).await;
    let text = |value: &str| json!({"DataType": "String", "StringValue": value});
    let body = json!({"MessageBody": "m", "MessageAttributes": {
        "Hello": text("a"), "General": text("b"), "Help.Me": text("c")}});
    let sent = server.ok("SendMessage", body).await;
    for (wanted, expected) in [
        (json!([]), vec![]),
        (json!(["All"]), vec!["General", "Hello", "Help.Me"]),
        (json!(["*"]), vec!["General", "Hello", "Help.Me"]),
        (json!([".*"]), vec!["General", "Hello", "Help.Me"]),
        (json!(["Foo", "Help"]), vec![]),
        (json!(["Hello", "General"]), vec!["General", "Hello"]),
        (json!(["Hel.*"]), vec!["Hello", "Help.Me"]),
        (json!(["AWS."]), vec![]),
        (json!(["..foo"]), vec![]),
    ] {
        let answer = server.ok("ReceiveMessage", json!({"MessageAttributeNames": wanted})).await;
        let message = &answer["Messages"][0];
        let attributes = message["MessageAttributes"].as_object().cloned().unwrap_or_default();
        assert_eq!(attributes.keys().collect::<Vec<_>>(), expected, "{wanted}");
        let digest = &message["MD5OfMessageAttributes"];
        match expected.len() {
            0 => assert_eq!((digest, message.get("MessageAttributes")), (&Value::Null, None)),
            3 => assert_eq!(*digest, sent["MD5OfMessageAttributes"]),
            _ => assert!(digest.is_string() && *digest != sent["MD5OfMessageAttributes"]),
        }
    }
    let binary = json!({"MessageBody": "b", "MessageAttributes": {
        "blob": {"DataType": "Binary", "BinaryValue": "AQID"},
        "color": text("blue"), "count": {"DataType": "Number", "StringValue": "3"}}});
    let sent = server.ok("SendMessage", binary).await;
    assert_eq!(sent["MD5OfMessageAttributes"], "d838729972a4b70e2d2acd9d59ac847c");
    let wanted = json!({"MaxNumberOfMessages": 10, "MessageAttributeNames": ["blob"]});
    let answer = server.ok("ReceiveMessage", wanted).await;
    assert_eq!(
        answer["Messages"][1]["MessageAttributes"],
        json!({"blob": {"BinaryValue": "AQID", "DataType": "Binary"}})
    );
}

#[tokio::test]
async fn system_attributes() {
    let server = Server::with_queue(json!({"VisibilityTimeout": "0"})).await;
    send(&server, "plain").await;
    let all = json!({"AttributeNames": ["SenderId"], "MessageSystemAttributeNames": ["All"]});
    let answer = server.ok("ReceiveMessage", all.clone()).await;
    assert_eq!(
        answer["Messages"][0]["Attributes"],
        json!({"SenderId": "000000000000", "SentTimestamp": "1700000000000",
            "ApproximateReceiveCount": "1", "ApproximateFirstReceiveTimestamp": "1700000000000"})
    );
    server.ok("PurgeQueue", json!({})).await;

    let trace = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1";
    let body = json!({"MessageBody": "m", "MessageGroupId": "tenant", "MessageSystemAttributes":
        {"AWSTraceHeader": {"DataType": "String", "StringValue": trace}}});
    let sent = server.ok("SendMessage", body).await;
    assert_eq!(sent["MD5OfMessageSystemAttributes"], "5ae4d5d7636402d80f4eb6d213245a88");
    let answer = server.ok("ReceiveMessage", all.clone()).await;
    assert_eq!(answer["Messages"][0]["Attributes"]["AWSTraceHeader"], trace);
    assert_eq!(answer["Messages"][0]["Attributes"]["MessageGroupId"], "tenant");
    assert_eq!(answer["Messages"][0].get("MD5OfMessageAttributes"), None);
    server.fake.advance(60);
    server.ok("PurgeQueue", json!({})).await;

    let body = json!({"QueueUrl": "q", "MessageBody": "m"}).to_string();
    let answer = server.raw(&post("SendMessage", "X-Amzn-Trace-Id: Root=2\r\n", &body)).await;
    assert_eq!(answer.json().get("MD5OfMessageSystemAttributes"), None);
    let wanted = json!({"MessageSystemAttributeNames": ["AWSTraceHeader", "SequenceNumber"]});
    let answer = server.ok("ReceiveMessage", wanted).await;
    assert_eq!(answer["Messages"][0]["Attributes"], json!({"AWSTraceHeader": "Root=2"}));
    // For every entry of a batch that brings none of its own. (The message before is visible again.)
    let entries = json!([{"Id": "a", "MessageBody": "m"}, {"Id": "b", "MessageBody": "m",
        "MessageSystemAttributes": {"AWSTraceHeader": {"DataType": "String", "StringValue": "Root=3"}}}]);
    let body = json!({"QueueUrl": "q", "Entries": entries}).to_string();
    let answer = server.raw(&post("SendMessageBatch", "X-Amzn-Trace-Id: Root=2\r\n", &body)).await;
    assert_eq!(answer.json()["Successful"].as_array().unwrap().len(), 2, "{answer:?}");
    let wanted = json!({"MessageSystemAttributeNames": ["All"], "MaxNumberOfMessages": 10});
    let answer = server.ok("ReceiveMessage", wanted).await;
    let traces = answer["Messages"].as_array().unwrap().iter();
    let traces = traces.map(|message| &message["Attributes"]["AWSTraceHeader"]);
    assert_eq!(traces.collect::<Vec<_>>(), ["Root=2", "Root=2", "Root=3"]);
}

#[tokio::test]
async fn a_long_poll_ends_with_a_message_or_with_its_time() {
    let server = Server::with_queue(json!({"ReceiveMessageWaitTimeSeconds": "20"})).await;
    let mut poll = Connection::open(&server.address).await;
    let request = post("ReceiveMessage", "", &json!({"QueueUrl": "q"}).to_string());
    poll.write(&request).await;
    crate::connections::until(|| crate::connections::receiving(&server) == 1).await;
    send(&server, "m").await;
    assert_eq!(poll.read().await.json()["Messages"][0]["Body"], "m");
    poll.write(&request).await;
    crate::connections::until(|| crate::connections::receiving(&server) == 1).await;
    server.fake.advance(20);
    assert_eq!(poll.read().await.body, "{}");
    // An explicit zero goes before the queue's wait.
    assert_eq!(server.bodies(json!({"WaitTimeSeconds": 0})).await, [""; 0]);
}

#[tokio::test]
async fn a_receive_can_say_whom_it_asked() {
    let server = Server::with_queue(json!({})).await;
    let body = json!({"QueueUrl": "q"}).to_string();
    let answer = server.raw(&post("ReceiveMessage", "x-flotilla-explain: 1\r\n", &body)).await;
    assert_eq!(answer.headers["x-flotilla-polled"], "shards=1; asked=1:0/0");
    let answer = server.raw(&post("ReceiveMessage", "", &body)).await;
    assert!(!answer.headers.contains_key("x-flotilla-polled"));
}

#[tokio::test]
async fn answers_can_say_where_their_messages_are() {
    let server = Server::with_queue(json!({})).await;
    let entry = |id: &str| json!({"Id": id, "MessageBody": "m"});
    let batch = json!({"QueueUrl": "q", "Entries": [entry("a"), entry("b")]});
    for (action, body, shards) in [
        ("ReceiveMessage", json!({"QueueUrl": "q"}), None),
        ("SendMessage", json!({"QueueUrl": "q", "MessageBody": "m"}), Some("1")),
        ("SendMessageBatch", batch, Some("1,1")),
        ("ReceiveMessage", json!({"QueueUrl": "q", "MaxNumberOfMessages": 3}), Some("1,1,1")),
    ] {
        let body = body.to_string();
        let answer = server.raw(&post(action, "x-flotilla-explain: 1\r\n", &body)).await;
        assert_eq!(answer.headers.get("x-flotilla-shards").map(String::as_str), shards, "{action}");
        let answer = server.raw(&post(action, "", &body)).await;
        assert!(!answer.headers.contains_key("x-flotilla-shards"), "{action}");
    }
}

#[tokio::test]
async fn bodies_come_back_unchanged() {
    let server = Server::with_queue(json!({})).await;
    for body in ["{\"foo\": \"ba\\rr\"}", "\"&quot;&quot;\"\r", "h\u{e9}\u{10ffff}\u{7f}\t\n"] {
        send(&server, body).await;
        assert_eq!(server.bodies(json!({})).await, [body]);
    }
}
