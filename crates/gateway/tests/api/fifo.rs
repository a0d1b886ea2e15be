//! FIFO queues: what the front end checks, derives and shows. Order is the cluster's.

use prometheus_client::encoding::text::encode;
use serde_json::{Value, json};

use crate::client::{Answer, Server};
use crate::query::{self, element};

const URL: &str = "http://sqs.test:9324/000000000000/q.fifo";

async fn by_content() -> Server {
    Server::with_fifo_queue(json!({"ContentBasedDeduplication": "true"})).await
}

async fn send(server: &Server, group: &str, body: &str) -> Value {
    server.ok("SendMessage", json!({"MessageBody": body, "MessageGroupId": group})).await
}

/// Attributes of the messages that one receive returns.
async fn attributes(server: &Server, names: Value) -> Vec<Value> {
    let request = json!({"MaxNumberOfMessages": 10, "VisibilityTimeout": 0,
        "MessageSystemAttributeNames": names});
    let answer = server.ok("ReceiveMessage", request).await;
    let messages = answer["Messages"].as_array().cloned().unwrap_or_default();
    messages.into_iter().map(|message| message["Attributes"].clone()).collect()
}

#[track_caller]
fn unknown_attribute(answer: Answer, name: &str) {
    let text = answer.sqs(400, "InvalidAttributeName", "InvalidAttributeName");
    assert_eq!(text, format!("Unknown Attribute {name}."));
}

#[tokio::test]
async fn name_and_attribute_go_together() {
    let server = Server::start().await;
    let create = |name: &str, attributes: Value| {
        server.call("CreateQueue", json!({"QueueName": name, "Attributes": attributes}))
    };
    let no_name = "Can only include alphanumeric characters, hyphens, or underscores. \
                   1 to 80 in length";
    let no_fifo_name = "The name of a FIFO queue can only include alphanumeric characters, \
                        hyphens, or underscores, must end with .fifo suffix and be 1 to 80 in \
                        length.";
    assert_eq!(create("q.fifo", json!({})).await.invalid(), no_name);
    let long = format!("{}.fifo", "x".repeat(76));
    for name in ["q", "q.FIFO", "a b.fifo", &long] {
        assert_eq!(create(name, json!({"FifoQueue": "True"})).await.invalid(), no_fifo_name);
    }
    for name in ["q", "q.fifo"] {
        unknown_attribute(create(name, json!({"FifoQueue": "false"})).await, "FifoQueue");
        let text = create(name, json!({"FifoQueue": "maybe"})).await;
        let text = text.sqs(400, "InvalidAttributeValue", "InvalidAttributeValue");
        assert_eq!(text, "Invalid value for the parameter FifoQueue.");
    }
    let answer = create("q.fifo", json!({"FifoQueue": "True"})).await;
    assert_eq!(answer.json(), json!({"QueueUrl": URL}));
}

#[tokio::test]
async fn creating_again_compares_attributes_of_fifo_queues() {
    let server = by_content().await;
    let create = |content: &str| {
        let attributes = json!({"FifoQueue": "true", "ContentBasedDeduplication": content});
        server.call("CreateQueue", json!({"QueueName": "q.fifo", "Attributes": attributes}))
    };
    assert_eq!(create("True").await.json(), json!({"QueueUrl": URL}));
    assert_eq!(
        create("false").await.sqs(400, "QueueNameExists", "QueueAlreadyExists"),
        "A queue already exists with the same name and a different value for attribute \
         ContentBasedDeduplication"
    );
}

#[tokio::test]
async fn four_attributes_are_shown_and_changed() {
    let server = Server::with_fifo_queue(json!({})).await;
    let get = |names: Value| server.ok("GetQueueAttributes", json!({"AttributeNames": names}));
    let all = get(json!(["All"])).await;
    assert_eq!(all["Attributes"].as_object().unwrap().len(), 16);
    let names = json!([
        "FifoQueue",
        "ContentBasedDeduplication",
        "DeduplicationScope",
        "FifoThroughputLimit"
    ]);
    assert_eq!(
        get(names.clone()).await["Attributes"],
        json!({"FifoQueue": "true", "ContentBasedDeduplication": "false",
            "DeduplicationScope": "queue", "FifoThroughputLimit": "perQueue"})
    );
    let change = json!({"FifoQueue": "true", "ContentBasedDeduplication": "True",
        "DeduplicationScope": "messageGroup", "FifoThroughputLimit": "perMessageGroupId"});
    server.ok("SetQueueAttributes", json!({"Attributes": change})).await;
    assert_eq!(
        get(names).await["Attributes"],
        json!({"FifoQueue": "true", "ContentBasedDeduplication": "true",
            "DeduplicationScope": "messageGroup", "FifoThroughputLimit": "perMessageGroupId"})
    );
    // It was created with ids that are unique in the queue, so it can have them again.
    let back = json!({"DeduplicationScope": "queue", "FifoThroughputLimit": "perQueue"});
    server.ok("SetQueueAttributes", json!({"Attributes": back})).await;
}

#[tokio::test]
async fn changes_that_are_refused() {
    let scope = json!({"DeduplicationScope": "messageGroup"});
    let server = Server::with_fifo_queue(scope).await;
    let set = |attributes: Value| {
        server.on_queue("SetQueueAttributes", json!({"Attributes": attributes}))
    };
    let value = |answer: Answer| answer.sqs(400, "InvalidAttributeValue", "InvalidAttributeValue");
    assert_eq!(
        value(set(json!({"FifoQueue": "false"})).await),
        "Invalid value for the parameter FifoQueue. Reason: Modifying queue type is not supported."
    );
    for name in ["ContentBasedDeduplication", "DeduplicationScope", "FifoThroughputLimit"] {
        let text = value(set(json!({name: "x"})).await);
        assert_eq!(text, format!("Invalid value for the parameter {name}."));
    }
    let beyond = "The perMessageGroupId value is allowed only when the value for \
                  DeduplicationScope is messageGroup";
    let both = json!({"DeduplicationScope": "queue", "FifoThroughputLimit": "perMessageGroupId"});
    assert_eq!(value(set(both).await), beyond);
    assert_eq!(set(json!({"FifoThroughputLimit": "perMessageGroupId"})).await.status, 200);
    assert_eq!(value(set(json!({"DeduplicationScope": "queue"})).await), beyond);

    let server = Server::with_queue(json!({})).await;
    for (name, given) in
        [("FifoQueue", "true"), ("FifoQueue", "false"), ("ContentBasedDeduplication", "true")]
    {
        let body = json!({"Attributes": {name: given}});
        unknown_attribute(server.on_queue("SetQueueAttributes", body).await, name);
    }
    let body = json!({"Attributes": {"DeduplicationScope": "queue"}});
    let answer = server.on_queue("SetQueueAttributes", body).await;
    assert_eq!(
        answer.sqs(400, "InvalidAttributeName", "InvalidAttributeName"),
        "You can specify the DeduplicationScope only when FifoQueue is set to true."
    );
}

#[tokio::test]
async fn dead_letter_queues_are_of_the_same_type() {
    let server = Server::with_fifo_queue(json!({})).await;
    let standard = json!({"QueueName": "dead"});
    assert_eq!(server.call("CreateQueue", standard).await.status, 200);
    let fifo = json!({"QueueName": "dead.fifo", "Attributes": {"FifoQueue": "true"}});
    assert_eq!(server.call("CreateQueue", fifo).await.status, 200);
    let set = |target: &str| {
        let arn = format!("arn:aws:sqs:us-east-1:000000000000:{target}");
        let policy = json!({"deadLetterTargetArn": arn, "maxReceiveCount": 3}).to_string();
        server.on_queue("SetQueueAttributes", json!({"Attributes": {"RedrivePolicy": policy}}))
    };
    let text = set("dead").await.invalid();
    assert!(text.ends_with("Dead-letter queue must be same type of queue as the source."));
    assert_eq!(set("dead.fifo").await.status, 200);
}

#[tokio::test]
async fn what_a_send_needs() {
    let server = Server::with_fifo_queue(json!({})).await;
    let send = |body: Value| server.on_queue("SendMessage", body);
    let text = send(json!({})).await.missing();
    assert_eq!(text, "The request must contain the parameter MessageBody.");
    let no_group = json!({"MessageBody": "m", "MessageDeduplicationId": "d"});
    assert_eq!(
        send(no_group).await.missing(),
        "The request must contain the parameter MessageGroupId."
    );
    assert_eq!(
        send(json!({"MessageBody": "m", "MessageGroupId": "g"})).await.invalid(),
        "The queue should either have ContentBasedDeduplication enabled or \
         MessageDeduplicationId provided explicitly"
    );
    for (parameter, other) in
        [("MessageGroupId", "MessageDeduplicationId"), ("MessageDeduplicationId", "MessageGroupId")]
    {
        for id in ["", "a b"] {
            let body = json!({"MessageBody": "m", parameter: id, other: "x"});
            assert_eq!(
                send(body).await.invalid(),
                format!(
                    "Value {id} for parameter {parameter} is invalid. Reason: {parameter} can \
                     only include alphanumeric and punctuation characters. 1 to 128 in length."
                )
            );
        }
    }
    let delayed = |delay: i64| {
        json!({"MessageBody": "m", "MessageGroupId": "g", "MessageDeduplicationId": "d",
            "DelaySeconds": delay})
    };
    for delay in [5, 901] {
        assert_eq!(
            send(delayed(delay)).await.invalid(),
            format!(
                "Value {delay} for parameter DelaySeconds is invalid. Reason: The request include \
                 parameter that is not valid for this queue type."
            )
        );
    }
    let text = send(delayed(-1)).await.invalid();
    assert!(text.ends_with("DelaySeconds must be >= 0 and <= 900."));
    assert_eq!(send(delayed(0)).await.status, 200);
}

#[tokio::test]
async fn the_delay_of_the_queue_holds_for_all() {
    let server =
        Server::with_fifo_queue(json!({"DelaySeconds": "2", "ContentBasedDeduplication": "true"}))
            .await;
    let body = json!({"MessageBody": "m", "MessageGroupId": "g", "DelaySeconds": 0});
    server.ok("SendMessage", body).await;
    assert_eq!(server.bodies(json!({})).await, [""; 0]);
    server.fake.advance(2);
    assert_eq!(server.bodies(json!({})).await, ["m"]);
}

#[tokio::test]
async fn sequence_numbers_are_the_same_in_both_answers() {
    let server = by_content().await;
    let first = send(&server, "g", "one").await;
    let second = send(&server, "g", "two").await;
    let numbers = [&first, &second].map(|sent| sent["SequenceNumber"].as_str().unwrap());
    assert!(numbers.iter().all(|n| n.len() == 20 && n.bytes().all(|b| b.is_ascii_digit())));
    assert!(numbers[0] < numbers[1]);
    let received = attributes(&server, json!(["SequenceNumber"])).await;
    let expected = numbers.map(|number| json!({"SequenceNumber": number}));
    assert_eq!(received, expected);

    let standard = Server::with_queue(json!({})).await;
    let sent = send(&standard, "tenant", "m").await;
    assert_eq!(sent.get("SequenceNumber"), None);
    let all = attributes(&standard, json!(["All"])).await;
    assert_eq!(all[0]["MessageGroupId"], "tenant");
    assert_eq!(all[0].as_object().unwrap().len(), 5, "{all:?}");
}

#[tokio::test]
async fn a_duplicate_is_answered_with_the_first_message() {
    let server = by_content().await;
    let first = send(&server, "g", "same").await;
    assert_eq!(send(&server, "other", "same").await, first);
    assert_eq!(server.bodies(json!({"MaxNumberOfMessages": 10})).await, ["same"]);
    // An explicit id may be that of an earlier body, and goes before that of its own.
    let of_body = "0967115f2813a3541eaef77de9d9d5773f1c0c04314b0bbfe4ff3b3b1c55b5d5";
    let with_id = |body: &str, id: &str| {
        let body =
            json!({"MessageBody": body, "MessageGroupId": "g", "MessageDeduplicationId": id});
        server.ok("SendMessage", body)
    };
    assert_eq!(with_id("else", of_body).await["MessageId"], first["MessageId"]);
    assert_ne!(with_id("same", "else").await["MessageId"], first["MessageId"]);

    let mut text = String::new();
    encode(&mut text, &server.registry).unwrap();
    for line in [
        "sqs_NumberOfMessagesSent_total{queue_name=\"q.fifo\"} 2",
        "sqs_NumberOfDeduplicatedSentMessages_total{queue_name=\"q.fifo\"} 2",
        "sqs_SentMessageSize_count{queue_name=\"q.fifo\"} 2",
    ] {
        assert!(text.lines().any(|got| got == line), "{line} is not in\n{text}");
    }

    server.fake.advance(300);
    assert_ne!(send(&server, "g", "same").await["MessageId"], first["MessageId"]);
    server.ok("PurgeQueue", json!({})).await;
    send(&server, "g", "same").await;
    assert_eq!(server.bodies(json!({"MaxNumberOfMessages": 10})).await, ["same"]);
}

#[tokio::test]
async fn ids_count_in_their_scope() {
    let scope = json!({"DeduplicationScope": "messageGroup", "ContentBasedDeduplication": "true"});
    let server = Server::with_fifo_queue(scope).await;
    let first = send(&server, "g1", "same").await;
    assert_eq!(send(&server, "g1", "same").await, first);
    assert_ne!(send(&server, "g2", "same").await["MessageId"], first["MessageId"]);
}

#[tokio::test]
async fn batches_of_sends() {
    let server = Server::with_fifo_queue(json!({})).await;
    let entry = |id: &str, group: Value, dedup: Value| {
        json!({"Id": id, "MessageBody": "m", "MessageGroupId": group,
            "MessageDeduplicationId": dedup})
    };
    let batch = |entries: Value| server.on_queue("SendMessageBatch", json!({"Entries": entries}));
    let good = || entry("good", "g".into(), "1".into());
    let no_group = json!([good(), entry("bad", Value::Null, "2".into())]);
    assert_eq!(
        batch(no_group).await.invalid(),
        "The request must contain the parameter MessageGroupId."
    );
    let no_id = json!([good(), entry("bad", "g".into(), Value::Null)]);
    assert_eq!(
        batch(no_id).await.invalid(),
        "The queue should either have ContentBasedDeduplication enabled or \
         MessageDeduplicationId provided explicitly"
    );
    assert_eq!(server.bodies(json!({})).await, [""; 0]);

    let mut delayed = entry("delayed", "g".into(), "3".into());
    delayed["DelaySeconds"] = 5.into();
    let entries = json!([
        good(),
        entry("odd", "a b".into(), "2".into()),
        delayed,
        entry("again", "g".into(), "1".into()),
        entry("next", "g".into(), "4".into())
    ]);
    let answer = batch(entries).await.json();
    let ids = |list: &str| {
        let entries = answer[list].as_array().unwrap().iter();
        entries.map(|entry| entry["Id"].as_str().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(ids("Successful"), ["good", "again", "next"]);
    assert_eq!(ids("Failed"), ["odd", "delayed"]);
    let done = &answer["Successful"];
    for field in ["MessageId", "SequenceNumber", "MD5OfMessageBody"] {
        assert_eq!(done[0][field], done[1][field], "{field}");
    }
    assert!(done[0]["SequenceNumber"].as_str() < done[2]["SequenceNumber"].as_str());
}

#[tokio::test]
async fn system_attributes() {
    let server = by_content().await;
    let body = json!({"MessageBody": "m", "MessageGroupId": "g!", "MessageDeduplicationId": "d~"});
    server.ok("SendMessage", body).await;
    send(&server, "h", "same").await;
    let names = json!(["MessageGroupId", "MessageDeduplicationId"]);
    let of_body = "0967115f2813a3541eaef77de9d9d5773f1c0c04314b0bbfe4ff3b3b1c55b5d5";
    assert_eq!(
        attributes(&server, names).await,
        [
            json!({"MessageGroupId": "g!", "MessageDeduplicationId": "d~"}),
            json!({"MessageGroupId": "h", "MessageDeduplicationId": of_body}),
        ]
    );
    let all = attributes(&server, json!(["All"])).await;
    assert_eq!(all[0].as_object().unwrap().len(), 7, "{all:?}");
}

#[tokio::test]
async fn a_dead_letter_has_its_identity_for_a_deduplication_id() {
    let server = by_content().await;
    let dead = json!({"QueueName": "dead.fifo", "Attributes": {"FifoQueue": "true"}});
    assert_eq!(server.call("CreateQueue", dead).await.status, 200);
    let sent = send(&server, "g", "m").await;
    server.fake.give_up("q.fifo", "dead.fifo");
    let receive = json!({"QueueUrl": "dead.fifo", "MessageSystemAttributeNames": ["All"]});
    let answer = server.call("ReceiveMessage", receive).await.json();
    let message = &answer["Messages"][0];
    assert_eq!(message["MessageId"], sent["MessageId"]);
    let attributes = &message["Attributes"];
    assert_eq!(attributes["MessageDeduplicationId"], sent["MessageId"]);
    assert_eq!(attributes["MessageGroupId"], "g");
    assert!(attributes["SequenceNumber"].as_str() > sent["SequenceNumber"].as_str());
    assert_eq!(attributes["DeadLetterQueueSourceArn"], "arn:aws:sqs:us-east-1:000000000000:q.fifo");
}

#[tokio::test]
async fn a_receive_that_is_tried_again_gets_the_same() {
    let server = by_content().await;
    send(&server, "g", "m").await;
    let handle = |id: &str| server.handle(json!({"ReceiveRequestAttemptId": id}));
    assert_eq!(handle("try-1").await, handle("try-1").await);
    assert_eq!(server.bodies(json!({"ReceiveRequestAttemptId": "try-2"})).await, [""; 0]);
    for id in ["", "a b", &"x".repeat(129)] {
        let body = json!({"ReceiveRequestAttemptId": id});
        assert_eq!(
            server.on_queue("ReceiveMessage", body).await.invalid(),
            format!(
                "Value {id} for parameter ReceiveRequestAttemptId is invalid. Reason: \
                 ReceiveRequestAttemptId can only include alphanumeric and punctuation \
                 characters. 1 to 128 in length."
            )
        );
    }
    let standard = Server::with_queue(json!({})).await;
    let body = json!({"ReceiveRequestAttemptId": "try-1"});
    assert_eq!(
        standard.on_queue("ReceiveMessage", body).await.invalid(),
        "Value try-1 for parameter ReceiveRequestAttemptId is invalid. Reason: The request include \
         parameter that is not valid for this queue type."
    );
}

#[tokio::test]
async fn too_many_in_flight_look_like_an_empty_queue() {
    let server = by_content().await;
    send(&server, "g", "m").await;
    server.fake.limit_in_flight(0);
    assert_eq!(server.on_queue("ReceiveMessage", json!({})).await.body, "{}");
}

#[tokio::test]
async fn expired_handles_delete_nothing() {
    let server = Server::with_fifo_queue(
        json!({"VisibilityTimeout": "1", "ContentBasedDeduplication": "true"}),
    )
    .await;
    send(&server, "g", "m").await;
    let handle = server.handle(json!({})).await;
    server.fake.advance(1);
    let delete = |handle: &str| server.on_queue("DeleteMessage", json!({"ReceiptHandle": handle}));
    assert_eq!(
        delete(&handle).await.invalid(),
        format!(
            "Value {handle} for parameter ReceiptHandle is invalid. Reason: The receipt handle \
             has expired."
        )
    );
    let next = server.handle(json!({})).await;
    let entries = json!({"Entries": [
        {"Id": "old", "ReceiptHandle": handle}, {"Id": "new", "ReceiptHandle": next}]});
    let answer = server.ok("DeleteMessageBatch", entries).await;
    assert_eq!(answer["Successful"], json!([{"Id": "new"}]));
    assert_eq!(
        answer["Failed"],
        json!([{"Id": "old", "SenderFault": true, "Code": "ReceiptHandleIsInvalid",
            "Message": "The receipt handle has expired"}])
    );
    assert_eq!(delete(&next).await.status, 200, "deleting again succeeds");

    send(&server, "g", "extended").await;
    let handle = server.handle(json!({})).await;
    let change = json!({"ReceiptHandle": handle, "VisibilityTimeout": 5});
    server.ok("ChangeMessageVisibility", change).await;
    server.fake.advance(2);
    assert_eq!(delete(&handle).await.status, 200);
}

#[tokio::test]
async fn over_the_query_protocol() {
    let server = Server::start().await;
    let create = "Action=CreateQueue&QueueName=q.fifo&Attribute.1.Name=FifoQueue&\
                  Attribute.1.Value=true&Attribute.2.Name=ContentBasedDeduplication&\
                  Attribute.2.Value=true";
    let created = query::post(&server, "/", create).await;
    assert_eq!(element(&created, "QueueUrl"), URL);
    let post = |form: &'static str| query::post(&server, "/000000000000/q.fifo", form);

    let lonely = post("Action=SendMessage&MessageBody=m").await;
    assert_eq!(
        query::refused(&lonely, 400, "MissingParameter"),
        "The request must contain the parameter MessageGroupId."
    );
    let entries = "Action=SendMessageBatch&SendMessageBatchRequestEntry.1.Id=a&\
                   SendMessageBatchRequestEntry.1.MessageBody=m";
    query::refused(&post(entries).await, 400, "InvalidParameterValue");

    let sent = post("Action=SendMessage&MessageBody=m&MessageGroupId=g").await;
    query::ok(&sent, "SendMessage");
    let number = element(&sent, "SequenceNumber");
    assert_eq!(number.len(), 20);
    let entries = "Action=SendMessageBatch&SendMessageBatchRequestEntry.1.Id=a&\
                   SendMessageBatchRequestEntry.1.MessageBody=m&\
                   SendMessageBatchRequestEntry.1.MessageGroupId=g&\
                   SendMessageBatchRequestEntry.2.Id=b&\
                   SendMessageBatchRequestEntry.2.MessageBody=m&\
                   SendMessageBatchRequestEntry.2.MessageGroupId=g&\
                   SendMessageBatchRequestEntry.2.MessageDeduplicationId=d";
    let again = post(entries).await;
    query::ok(&again, "SendMessageBatch");
    assert_eq!(element(&again, "SequenceNumber"), number, "a duplicate");
    assert_eq!(again.body.matches("<SequenceNumber>").count(), 2);

    let receive = "Action=ReceiveMessage&VisibilityTimeout=1&AttributeName.1=SequenceNumber&\
                   ReceiveRequestAttemptId=try-1";
    let received = post(receive).await;
    query::ok(&received, "ReceiveMessage");
    let shown =
        format!("<Attribute><Name>SequenceNumber</Name><Value>{number}</Value></Attribute>");
    assert!(received.body.contains(&shown), "{received:?}");
    server.fake.advance(1);
    let handle = element(&received, "ReceiptHandle");
    let delete = format!("Action=DeleteMessage&ReceiptHandle={handle}");
    let expired = query::post(&server, "/000000000000/q.fifo", &delete).await;
    let text = query::refused(&expired, 400, "InvalidParameterValue");
    assert!(text.ends_with("The receipt handle has expired."), "{text}");
}
