//! Single lines of the documents that nothing else here would notice if they were broken.

use serde_json::{Value, json};

use crate::both;
use crate::client::{Answer, Server, post};
use crate::messages::send;
use crate::{moves, query};

const NO_QUEUE: &str = "AWS.SimpleQueueService.NonExistentQueue";

async fn create(server: &Server, name: &str, attributes: Value) -> Answer {
    server.call("CreateQueue", json!({"QueueName": name, "Attributes": attributes})).await
}

/// The path of a JSON request says nothing: its body does.
#[tokio::test]
async fn the_queue_of_a_json_request_is_that_of_its_body() {
    let server = Server::with_queue(json!({})).await;
    assert_eq!(create(&server, "other", json!({})).await.status, 200);
    let to_path = |body: &str| {
        let request = String::from_utf8(post("SendMessage", "", body)).unwrap();
        request.replacen("POST / ", "POST /000000000000/other ", 1).into_bytes()
    };
    let named = "{\"QueueUrl\":\"http://sqs.test:9324/000000000000/q\",\"MessageBody\":\"m\"}";
    assert_eq!(server.raw(&to_path(named)).await.status, 200);
    assert_eq!(server.bodies(json!({})).await, ["m"]);
    let unnamed = server.raw(&to_path("{\"MessageBody\":\"m\"}")).await;
    unnamed.sqs(400, "QueueDoesNotExist", NO_QUEUE);
}

#[tokio::test]
async fn attributes_count_for_the_size_of_a_batch_and_the_queues_maximum_does_not() {
    let server = Server::with_queue(json!({"MaximumMessageSize": "1024"})).await;
    let entry = |id: &str, bytes: usize| json!({"Id": id, "MessageBody": "x".repeat(bytes)});
    let too_long = |answer: &Answer, bytes: usize| {
        let code = "AWS.SimpleQueueService.BatchRequestTooLong";
        let text = answer.sqs(400, "BatchRequestTooLong", code);
        assert!(text.ends_with(&format!("You have sent {bytes} bytes.")), "{text}");
    };
    // Name, type and value of the attribute: 1 + 6 + 1 bytes.
    let mut entries = json!([entry("a", 524_288), entry("b", 524_288)]);
    entries[1]["MessageAttributes"] = json!({"a": {"DataType": "String", "StringValue": "b"}});
    let batch = json!({ "Entries": entries });
    too_long(&server.on_queue("SendMessageBatch", batch).await, 1_048_584);
    let batch = json!({"Entries": [entry("a", 1_048_576), entry("b", 1)]});
    too_long(&server.on_queue("SendMessageBatch", batch).await, 1_048_577);
    let batch = json!({"Entries": [entry("a", 1_048_575), entry("b", 1)]});
    let answer = server.ok("SendMessageBatch", batch).await;
    assert_eq!(
        (answer["Failed"][0]["Id"].as_str(), answer["Successful"][0]["Id"].as_str()),
        (Some("a"), Some("b"))
    );
}

/// Whatever else is wrong with a request.
#[tokio::test]
async fn that_there_is_no_such_queue_is_said_first() {
    let server = Server::start().await;
    for (action, body) in [
        ("SendMessage", json!({})),
        ("SendMessageBatch", json!({"Entries": []})),
        ("ReceiveMessage", json!({"MaxNumberOfMessages": 11})),
        ("DeleteMessageBatch", json!({"Entries": []})),
        ("ChangeMessageVisibilityBatch", json!({"Entries": []})),
        ("GetQueueAttributes", json!({"AttributeNames": ["Nope"]})),
        ("SetQueueAttributes", json!({"Attributes": {"VisibilityTimeout": "x"}})),
    ] {
        server.on_queue(action, body).await.sqs(400, "QueueDoesNotExist", NO_QUEUE);
    }
    for action in ["ReceiveMessage", "PurgeQueue", "GetQueueAttributes"] {
        let answer = query::post(&server, "/", &format!("Action={action}")).await;
        let text = query::refused(&answer, 400, NO_QUEUE);
        assert_eq!(text, "The specified queue does not exist for this wsdl version.");
    }
    let (there, not_there) = (moves::arn("q"), moves::arn("nope"));
    assert_eq!(create(&server, "q", json!({})).await.status, 200);
    let task = moves::handle(moves::UNKNOWN_TASK, &not_there);
    let rate = "MaxNumberOfMessagesPerSecond";
    for (action, body, parameter) in [
        ("StartMessageMoveTask", json!({"SourceArn": not_there, rate: 501}), "SourceArn"),
        (
            "StartMessageMoveTask",
            json!({"SourceArn": there, "DestinationArn": not_there, rate: 501}),
            "DestinationArn",
        ),
        ("ListMessageMoveTasks", json!({"SourceArn": not_there, "MaxResults": 11}), "SourceArn"),
        ("CancelMessageMoveTask", json!({"TaskHandle": task}), "SourceArn"),
    ] {
        let (status, code, text) = both::refused(&server, action, body).await;
        assert_eq!((status, code.as_str()), (404, "ResourceNotFoundException"), "{action}");
        assert_eq!(text, moves::no_resource(parameter), "{action}");
    }
}

/// Or the request is refused, when there are more of them than anybody has.
#[tokio::test]
async fn every_name_of_a_long_list_counts() {
    let server = Server::with_queue(json!({"VisibilityTimeout": "0"})).await;
    let attribute = json!({"DataType": "String", "StringValue": "v"});
    let body = json!({"MessageBody": "m", "MessageAttributes": {"a": attribute}});
    server.ok("SendMessage", body).await;
    let names = |first: &str, count: usize, last: &str| {
        let mut names: Vec<_> = (0..count).map(|_| json!(first)).collect();
        names.push(json!(last));
        json!(names)
    };
    for (list, shown) in [
        ("AttributeNames", "SentTimestamp"),
        ("MessageSystemAttributeNames", "SentTimestamp"),
        ("MessageAttributeNames", "MD5OfMessageAttributes"),
    ] {
        for answer in
            both::ok(&server, "ReceiveMessage", json!({list: names("b", 299, "All")})).await
        {
            assert!(answer.body.contains(shown), "{list}: {answer:?}");
        }
        let answer = server.on_queue("ReceiveMessage", json!({list: names("b", 4_096, "All")}));
        let text = answer.await.invalid();
        assert_eq!(text, format!("Too many names in parameter {list}."));
    }
    let last = json!({"AttributeNames": names("All", 299, "Nope")});
    let (status, code, text) = both::refused(&server, "GetQueueAttributes", last).await;
    assert_eq!((status, code.as_str()), (400, "InvalidAttributeName"));
    assert_eq!(text, "Unknown Attribute Nope.");
    let more = json!({"AttributeNames": names("All", 4_096, "All")});
    let text = server.on_queue("GetQueueAttributes", more).await.invalid();
    assert_eq!(text, "Too many names in parameter AttributeNames.");
}

#[tokio::test]
async fn lists_in_attributes_are_not_supported() {
    let server = Server::with_queue(json!({})).await;
    for attribute in [
        json!({"DataType": "String", "StringListValues": ["a"]}),
        json!({"DataType": "Binary", "BinaryListValues": ["YQ=="]}),
    ] {
        let body = json!({"MessageBody": "m", "MessageAttributes": {"a": attribute}});
        let answer = server.on_queue("SendMessage", body).await;
        assert_eq!(answer.status, 400, "{answer:?}");
        let code = answer.headers["x-amzn-query-error"].clone();
        let (name, value) = match attribute["DataType"].as_str() {
            Some("String") => ("StringListValue.1", "a"),
            _ => ("BinaryListValue.1", "YQ%3D%3D"),
        };
        let form = format!(
            "Action=SendMessage&MessageBody=m&MessageAttribute.1.Name=a&MessageAttribute.1.Value.DataType={}\
             &MessageAttribute.1.Value.{name}={value}",
            attribute["DataType"].as_str().unwrap()
        );
        let answer = query::post(&server, "/000000000000/q", &form).await;
        assert_eq!(answer.status, 400, "{answer:?}");
        assert_eq!(format!("{};Sender", query::element(&answer, "Code")), code);
    }
    assert_eq!(server.bodies(json!({})).await, [""; 0]);
}

/// However it is spelled, and whatever became of its target.
#[tokio::test]
async fn a_redrive_policy_is_the_same_in_every_spelling() {
    let server = Server::with_queue(json!({})).await;
    let arn = "arn:aws:sqs:us-east-1:000000000000:q";
    let compact = format!("{{\"deadLetterTargetArn\":\"{arn}\",\"maxReceiveCount\":3}}");
    let spellings = [
        compact.clone(),
        format!("{{ \"maxReceiveCount\" : \"3\", \"deadLetterTargetArn\" : \"{arn}\" }}"),
    ];
    for policy in &spellings {
        let answer = create(&server, "source", json!({ "RedrivePolicy": policy })).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    let get = json!({"QueueUrl": "source", "AttributeNames": ["RedrivePolicy"]});
    let shown = server.call("GetQueueAttributes", get).await.json();
    assert_eq!(shown["Attributes"]["RedrivePolicy"], compact);
    server.ok("DeleteQueue", json!({})).await;
    for policy in &spellings {
        let answer = create(&server, "source", json!({ "RedrivePolicy": policy })).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
}

#[tokio::test]
async fn a_redrive_allow_policy_is_shown_compact() {
    let server = Server::with_queue(json!({})).await;
    let arn = "arn:aws:sqs:us-east-1:000000000000:s";
    let given =
        format!("{{ \"sourceQueueArns\" : [ \"{arn}\" ], \"redrivePermission\" : \"byQueue\" }}");
    server.ok("SetQueueAttributes", json!({"Attributes": {"RedriveAllowPolicy": given}})).await;
    let names = json!({"AttributeNames": ["RedriveAllowPolicy"]});
    let shown = server.ok("GetQueueAttributes", names).await;
    assert_eq!(
        shown["Attributes"]["RedriveAllowPolicy"],
        format!("{{\"redrivePermission\":\"byQueue\",\"sourceQueueArns\":[\"{arn}\"]}}")
    );
}

/// Again, naming a part of what it has: to be judged beside the rest of it.
#[tokio::test]
async fn a_fifo_queue_is_created_again_by_a_part_of_its_attributes() {
    let server = Server::start().await;
    let high = json!({
        "FifoQueue": "true",
        "DeduplicationScope": "messageGroup",
        "FifoThroughputLimit": "perMessageGroupId",
    });
    let part = json!({"FifoQueue": "true", "FifoThroughputLimit": "perMessageGroupId"});
    let refused = create(&server, "q.fifo", part.clone()).await;
    assert_eq!(refused.status, 400, "there is none yet: {refused:?}");
    assert_eq!(create(&server, "q.fifo", high).await.status, 200);
    let again = create(&server, "q.fifo", part.clone()).await;
    assert_eq!(again.status, 200, "{again:?}");
    let plain = json!({"FifoQueue": "true"});
    assert_eq!(create(&server, "p.fifo", plain).await.status, 200);
    assert_eq!(create(&server, "p.fifo", part).await.status, 400);
}

#[tokio::test]
async fn no_tags_are_no_other_tags() {
    let server = Server::start().await;
    for tags in [json!({"team": "a"}), json!({}), json!({"team": "a"})] {
        both::ok(&server, "CreateQueue", json!({"QueueName": "q", "tags": tags})).await;
    }
    for tag in ["\u{b}", "a\u{c}"] {
        let answer = server.on_queue("TagQueue", json!({"Tags": {tag: "v"}})).await;
        assert!(answer.invalid().contains("may only contain unicode letters"), "{answer:?}");
    }
}

#[tokio::test]
async fn a_key_at_creation_takes_the_place_of_the_services_own() {
    let server = Server::start().await;
    for _ in 0..2 {
        let answer = create(&server, "q", json!({"KmsMasterKeyId": "alias/x"})).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    let names = json!({"AttributeNames": ["SqsManagedSseEnabled", "KmsMasterKeyId"]});
    let shown = server.ok("GetQueueAttributes", names).await;
    let expected = json!({"SqsManagedSseEnabled": "false", "KmsMasterKeyId": "alias/x"});
    assert_eq!(shown["Attributes"], expected);
}

#[tokio::test]
async fn ids_of_entries_up_to_their_limit() {
    let server = Server::with_queue(json!({})).await;
    let long = format!("{}-_", "aZ".repeat(39));
    let ids = [long.as_str(), "a", "A", "0"];
    let entries: Vec<_> = ids.iter().map(|id| json!({"Id": id, "MessageBody": "m"})).collect();
    let answer = server.ok("SendMessageBatch", json!({ "Entries": entries })).await;
    let sent = answer["Successful"].as_array().unwrap();
    assert_eq!(sent.iter().map(|it| it["Id"].as_str().unwrap()).collect::<Vec<_>>(), ids);
}

#[tokio::test]
async fn prefixes_of_names_and_the_longest_page() {
    let server = Server::start().await;
    for name in ["Ab", "ab", "aB"] {
        assert_eq!(create(&server, name, json!({})).await.status, 200);
    }
    let list = json!({"QueueNamePrefix": "A", "MaxResults": 1000});
    let page = server.call("ListQueues", list).await.json();
    assert_eq!(page["QueueUrls"], json!(["http://sqs.test:9324/000000000000/Ab"]));
}

#[tokio::test]
async fn the_longest_times_of_a_receive() {
    let server = Server::with_queue(json!({})).await;
    send(&server, "m").await;
    let negative = json!({"VisibilityTimeout": -1});
    assert_eq!(server.on_queue("ReceiveMessage", negative).await.status, 400);
    let longest = json!({"VisibilityTimeout": 43_200, "WaitTimeSeconds": 20});
    assert_eq!(server.bodies(longest).await, ["m"]);
}

/// Under the name that SDKs have written since there are two.
#[tokio::test]
async fn system_attributes_of_a_form_by_their_newer_name() {
    let server = Server::with_queue(json!({})).await;
    send(&server, "m").await;
    let form = "Action=ReceiveMessage&MessageSystemAttributeName.1=ApproximateReceiveCount";
    let answer = query::post(&server, "/000000000000/q", form).await;
    query::ok(&answer, "ReceiveMessage");
    let count = "<Attribute><Name>ApproximateReceiveCount</Name><Value>1</Value></Attribute>";
    assert!(answer.body.contains(count), "{answer:?}");
    assert_eq!(answer.body.matches("<Attribute>").count(), 1, "{answer:?}");
}

#[tokio::test]
async fn a_page_of_another_origin_may_read_errors() {
    let server = Server::start().await;
    for body in ["{", "{\"QueueUrl\":\"none\",\"MessageBody\":\"m\"}"] {
        let answer = server.raw(&post("SendMessage", "Origin: http://page\r\n", body)).await;
        assert_eq!(answer.status, 400, "{answer:?}");
        assert_eq!(answer.headers["access-control-allow-origin"], "*");
        let readable = &answer.headers["access-control-expose-headers"];
        assert!(readable.contains("x-amzn-query-error"), "{readable}");
    }
}
