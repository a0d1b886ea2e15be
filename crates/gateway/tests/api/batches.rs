//! Batches: entries that fail alone, and what fails them all.

use serde_json::{Value, json};

use crate::client::{Server, post};
use crate::messages::send;

#[tokio::test]
async fn send_batches() {
    let server = Server::with_queue(json!({"MaximumMessageSize": "1024"})).await;
    let entry = |id: &str, size: usize| json!({"Id": id, "MessageBody": "x".repeat(size)});
    let entries = json!({"Entries": [entry("a", 1024), entry("b", 1025), {"Id": "c"},
        {"Id": "d", "MessageBody": "\u{1}"}]});
    let answer = server.ok("SendMessageBatch", entries).await;
    assert_eq!(answer["Successful"].as_array().unwrap().len(), 1);
    assert_eq!(answer["Successful"][0]["Id"], "a");
    assert!(answer["Successful"][0]["MessageId"].is_string());
    assert_eq!(
        answer["Failed"][0],
        json!({"Id": "b", "SenderFault": true, "Code": "InvalidParameterValue", "Message":
            "One or more parameters cannot be validated. Reason: Message must be shorter than \
             1024 bytes."})
    );
    let codes: Vec<_> = answer["Failed"].as_array().unwrap().iter().map(|f| &f["Code"]).collect();
    assert_eq!(codes, ["InvalidParameterValue", "MissingParameter", "InvalidMessageContents"]);

    let good = server.ok("SendMessageBatch", json!({"Entries": [entry("a", 1)]})).await;
    assert_eq!(good.get("Failed"), None);
}

/// It is text that no message may have, as other characters are.
#[tokio::test]
async fn half_a_surrogate_pair_is_the_fault_of_its_message_alone() {
    let server = Server::with_queue(json!({})).await;
    let text = "\\ud800 \\ude00\\ud83d";
    let attribute = format!("{{\"a\":{{\"DataType\":\"String\",\"StringValue\":\"{text}\"}}}}");
    for (fields, code) in [
        (format!("\"MessageBody\":\"{text}\""), "InvalidMessageContents"),
        (
            format!("\"MessageBody\":\"m\",\"MessageAttributes\":{attribute}"),
            "InvalidParameterValue",
        ),
        (format!("\"MessageBody\":\"m\",\"MessageGroupId\":\"{text}\""), "InvalidParameterValue"),
    ] {
        let single = format!("{{\"QueueUrl\":\"q\",{fields}}}");
        let answer = server.raw(&post("SendMessage", "", &single)).await;
        assert_eq!(answer.status, 400, "{answer:?}");
        assert_eq!(answer.headers["x-amzn-query-error"], format!("{code};Sender"));
        let good = "\\ud83d\\ude00\\\\ud800";
        let batch = format!(
            "{{\"QueueUrl\":\"q\",\"Entries\":[{{\"Id\":\"a\",\"MessageBody\":\"{good}\"}},\
             {{\"Id\":\"b\",{fields}}}]}}"
        );
        let answer = server.raw(&post("SendMessageBatch", "", &batch)).await.json();
        assert_eq!(answer["Successful"][0]["Id"], "a", "{answer}");
        let failed = answer["Failed"].as_array().unwrap();
        assert_eq!((failed.len(), &failed[0]["Id"]), (1, &json!("b")));
        assert_eq!(failed[0]["Code"], code);
        assert_eq!(server.bodies(json!({})).await, ["\u{1f600}\\ud800"]);
    }
    let still_bad = post("SendMessage", "", &format!("{{\"MessageBody\":\"{text}\",}}"));
    let malformed = "com.amazon.coral.service#SerializationException";
    server.raw(&still_bad).await.refused(400, malformed, "MalformedInput;Sender");
}

#[tokio::test]
async fn the_size_of_a_message_includes_its_attributes() {
    let server = Server::with_queue(json!({"MaximumMessageSize": "2048"})).await;
    // 1 name + 6 type + 1 value.
    let attributes = json!({"n": {"DataType": "String", "StringValue": "v"}});
    let with_body = |size: usize| {
        let body = "x".repeat(size);
        let big = json!({"Id": "a", "MessageBody": body, "MessageAttributes": attributes});
        json!({"Entries": [big, {"Id": "b", "MessageBody": "x"}]})
    };
    let answer = server.ok("SendMessageBatch", with_body(2_040)).await;
    assert_eq!(answer["Successful"].as_array().unwrap().len(), 2, "{answer}");
    let answer = server.ok("SendMessageBatch", with_body(2_041)).await;
    assert_eq!(answer["Failed"][0]["Id"], "a");
}

#[tokio::test]
async fn batches_that_fail_as_a_whole() {
    let server = Server::with_queue(json!({})).await;
    let entry = |id: &str| json!({"Id": id, "MessageBody": "m", "ReceiptHandle": "h"});
    for (action, name) in [
        ("SendMessageBatch", "SendMessageBatchRequestEntry"),
        ("DeleteMessageBatch", "DeleteMessageBatchRequestEntry"),
        ("ChangeMessageVisibilityBatch", "ChangeMessageVisibilityBatch"),
    ] {
        let refused = |entries: Value, shape: &'static str| {
            let answer = server.on_queue(action, json!({"Entries": entries}));
            async move { answer.await.sqs(400, shape, &format!("AWS.SimpleQueueService.{shape}")) }
        };
        assert_eq!(
            refused(json!([]), "EmptyBatchRequest").await,
            format!("There should be at least one {name} in the request.")
        );
        let many: Vec<_> = (0..300).map(|i| entry(&i.to_string())).collect();
        assert_eq!(
            refused(json!(many), "TooManyEntriesInBatchRequest").await,
            "Maximum number of entries per request are 10. You have sent 300."
        );
        let twice = json!([entry("a"), entry("a")]);
        assert_eq!(refused(twice, "BatchEntryIdsNotDistinct").await, "Id a repeated.");
        for id in ["", "a b", "é", &"x".repeat(81)] {
            assert_eq!(
                refused(json!([entry(id)]), "InvalidBatchEntryId").await,
                "A batch entry id can only contain alphanumeric characters, hyphens and \
                 underscores. It can be at most 80 letters long."
            );
        }
    }
    let half = "x".repeat(524_288);
    let entries = json!([{"Id": "a", "MessageBody": half}, {"Id": "b", "MessageBody": half + "x"}]);
    let answer = server.on_queue("SendMessageBatch", json!({"Entries": entries})).await;
    assert_eq!(
        answer.sqs(400, "BatchRequestTooLong", "AWS.SimpleQueueService.BatchRequestTooLong"),
        "Batch requests cannot be longer than 1048576 bytes. You have sent 1048577 bytes."
    );
    assert_eq!(server.bodies(json!({})).await, [""; 0]);
}

#[tokio::test]
async fn delete_and_change_batches() {
    let server = Server::with_queue(json!({})).await;
    send(&server, "m").await;
    let handle = server.handle(json!({})).await;
    let entries = json!({"Entries": [
        {"Id": "good", "ReceiptHandle": handle, "VisibilityTimeout": 5},
        {"Id": "bad", "ReceiptHandle": "x", "VisibilityTimeout": 5},
        {"Id": "none", "ReceiptHandle": handle},
        {"Id": "far", "ReceiptHandle": handle, "VisibilityTimeout": 43201}]});
    let answer = server.ok("ChangeMessageVisibilityBatch", entries).await;
    assert_eq!(answer["Successful"], json!([{"Id": "good"}]));
    let codes: Vec<_> = answer["Failed"].as_array().unwrap().iter().map(|f| &f["Code"]).collect();
    assert_eq!(codes, ["ReceiptHandleIsInvalid", "MissingParameter", "InvalidParameterValue"]);
    let entries = json!({"Entries": [
        {"Id": "bad", "ReceiptHandle": "x"}, {"Id": "good", "ReceiptHandle": handle}]});
    let answer = server.ok("DeleteMessageBatch", entries).await;
    assert_eq!(answer["Successful"], json!([{"Id": "good"}]));
    assert_eq!(answer["Failed"][0]["SenderFault"], true);
    let entries = json!({"Entries": [
        {"Id": "gone", "ReceiptHandle": handle, "VisibilityTimeout": 5}]});
    let answer = server.ok("ChangeMessageVisibilityBatch", entries).await;
    assert_eq!(answer.get("Successful"), None);
    assert_eq!(answer["Failed"][0]["Code"], "InvalidParameterValue");
    // In the request's order, whoever refuses them.
    let entries = json!({"Entries": [
        {"Id": "gone", "ReceiptHandle": handle, "VisibilityTimeout": 5},
        {"Id": "bad", "ReceiptHandle": "x", "VisibilityTimeout": 5},
        {"Id": "gone-too", "ReceiptHandle": handle, "VisibilityTimeout": 5}]});
    let answer = server.ok("ChangeMessageVisibilityBatch", entries).await;
    let ids: Vec<_> = answer["Failed"].as_array().unwrap().iter().map(|f| &f["Id"]).collect();
    assert_eq!(ids, ["gone", "bad", "gone-too"]);
}
