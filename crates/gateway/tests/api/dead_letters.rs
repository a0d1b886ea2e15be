//! Dead-letter queues and their sources.

use serde_json::{Value, json};

use crate::client::Server;

/// With dead-letter queue `dead` of sources `s1` to `s3`, and `q`, which has another one.
async fn with_sources() -> Server {
    let server = Server::with_queue(json!({})).await;
    server.call("CreateQueue", json!({"QueueName": "dead"})).await;
    let policy = |target: &str| {
        let arn = format!("arn:aws:sqs:us-east-1:000000000000:{target}");
        json!({"deadLetterTargetArn": arn, "maxReceiveCount": 3}).to_string()
    };
    for source in ["s3", "s1", "s2"] {
        let attributes = json!({"RedrivePolicy": policy("dead")});
        let create = json!({"QueueName": source, "Attributes": attributes});
        assert_eq!(server.call("CreateQueue", create).await.status, 200);
    }
    server.ok("SetQueueAttributes", json!({"Attributes": {"RedrivePolicy": policy("q")}})).await;
    server
}

fn names(page: &Value) -> Vec<String> {
    let urls = page["queueUrls"].as_array().expect("always there").iter();
    let name = |url: &Value| {
        let url = url.as_str().unwrap();
        url.strip_prefix("http://sqs.test:9324/000000000000/").expect("a URL").to_owned()
    };
    urls.map(name).collect()
}

#[tokio::test]
async fn sources_of_a_queue() {
    let server = with_sources().await;
    let list = |queue: &str| server.call("ListDeadLetterSourceQueues", json!({"QueueUrl": queue}));
    let all = list("dead").await.json();
    assert_eq!(
        (names(&all), all.get("NextToken")),
        (vec!["s1".into(), "s2".into(), "s3".into()], None)
    );
    assert_eq!(names(&list("q").await.json()), ["q"], "its own dead-letter queue");
    assert_eq!(list("s1").await.body, "{\"queueUrls\":[]}");
    let unset = json!({"QueueUrl": "s2", "Attributes": {"RedrivePolicy": ""}});
    assert_eq!(server.call("SetQueueAttributes", unset).await.status, 200);
    assert_eq!(server.call("DeleteQueue", json!({"QueueUrl": "s3"})).await.status, 200);
    assert_eq!(names(&list("dead").await.json()), ["s1"]);
    let code = "AWS.SimpleQueueService.NonExistentQueue";
    list("nope").await.sqs(400, "QueueDoesNotExist", code);
}

#[tokio::test]
async fn pages_of_sources() {
    let server = with_sources().await;
    let list = |mut body: Value| {
        body["QueueUrl"] = "dead".into();
        server.call("ListDeadLetterSourceQueues", body)
    };
    let first = list(json!({"MaxResults": 2})).await.json();
    assert_eq!(names(&first), ["s1", "s2"]);
    let token = &first["NextToken"];
    let rest = list(json!({"MaxResults": 2, "NextToken": token})).await.json();
    assert_eq!((names(&rest), rest.get("NextToken")), (vec!["s3".into()], None));
    let unpaged = list(json!({"NextToken": token})).await.json();
    assert_eq!(names(&unpaged), ["s3"]);
    let exact = list(json!({"MaxResults": 3})).await.json();
    assert_eq!((names(&exact).len(), exact.get("NextToken")), (3, None));

    for max in [0, -1, 1001] {
        assert_eq!(
            list(json!({"MaxResults": max})).await.invalid(),
            "Value for parameter MaxResults is invalid. Reason: MaxResults must be an integer \
             between 1 and 1000."
        );
    }
    let bad = "Invalid or expired next token.";
    assert_eq!(list(json!({"NextToken": "?"})).await.invalid(), bad);
    let elsewhere = json!({"QueueUrl": "q", "NextToken": token});
    let answer = server.call("ListDeadLetterSourceQueues", elsewhere).await;
    assert!(answer.invalid().starts_with("Invalid NextToken value."));
    assert_eq!(server.call("ListQueues", json!({"NextToken": token})).await.invalid(), bad);
}
