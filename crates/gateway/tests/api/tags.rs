//! Tags of queues.

use serde_json::{Value, json};

use crate::both;
use crate::client::{Answer, Server};

fn no_queue(answer: &Answer) {
    let code = "AWS.SimpleQueueService.NonExistentQueue";
    assert_eq!(answer.sqs(400, "QueueDoesNotExist", code), "The specified queue does not exist.");
}

#[tokio::test]
async fn tags_come_and_go() {
    let server = Server::start().await;
    let create = json!({"QueueName": "q", "tags": {"team": "a"}});
    assert_eq!(server.call("CreateQueue", create).await.status, 200);
    let list = || server.ok("ListQueueTags", json!({}));
    assert_eq!(list().await, json!({"Tags": {"team": "a"}}));
    let tag = |tags: Value| server.on_queue("TagQueue", json!({"Tags": tags}));
    let answer = tag(json!({"team": "b", "Team": "", "é": "x y"})).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, ""));
    assert_eq!(list().await, json!({"Tags": {"team": "b", "Team": "", "é": "x y"}}));
    assert_eq!(tag(json!({"team": "b"})).await.status, 200);
    let untag = |keys: Value| server.on_queue("UntagQueue", json!({"TagKeys": keys}));
    let answer = untag(json!(["team", "unknown", "é"])).await;
    assert_eq!((answer.status, answer.body.as_str()), (200, ""));
    assert_eq!(list().await, json!({"Tags": {"Team": ""}}));
    for _ in 0..2 {
        assert_eq!(untag(json!(["Team", "Team"])).await.status, 200);
        assert_eq!(server.on_queue("ListQueueTags", json!({})).await.body, "{}");
    }
}

#[tokio::test]
async fn refused_tags() {
    let server = Server::with_queue(json!({})).await;
    let missing = |parameter| format!("The request must contain the parameter {parameter}.");
    for body in [json!({}), json!({"Tags": null}), json!({"Tags": {}})] {
        assert_eq!(server.on_queue("TagQueue", body).await.missing(), missing("Tags"));
    }
    let answer = server.on_queue("UntagQueue", json!({})).await;
    assert_eq!(answer.missing(), missing("TagKeys"));
    let tag = |tags: Value| server.on_queue("TagQueue", json!({"Tags": tags}));
    let untag = |keys: Value| server.on_queue("UntagQueue", json!({"TagKeys": keys}));
    let length = "Tag keys must be between 1 and 128 characters in length.";
    let symbols = "Tag keys may only contain unicode letters, digits, whitespace, or one of these \
                   symbols: _ . : / = + - @";
    for keys in [json!([]), json!([""]), json!(["k", "x".repeat(129)])] {
        assert_eq!(untag(keys).await.invalid(), length);
    }
    assert_eq!(untag(json!(["a!"])).await.invalid(), symbols);
    let keys: Vec<String> = (0..257).map(|n| n.to_string()).collect();
    assert_eq!(untag(json!(keys)).await.invalid(), "Too many tag keys for queue q.");
    assert_eq!(untag(json!(keys[..256])).await.status, 200);
    assert_eq!(tag(json!({"": "v"})).await.invalid(), length);
    assert_eq!(tag(json!({"good": "v", "a!": "v"})).await.invalid(), symbols);
    let reserved = "Tag keys must not start with the prefix aws:";
    assert_eq!(tag(json!({"aws:x": "v"})).await.invalid(), reserved);
    assert_eq!(server.ok("ListQueueTags", json!({})).await, json!({}));
}

/// A tag must not be given such a key; that a queue has none of it is no error.
#[tokio::test]
async fn reserved_keys_may_be_taken_away() {
    let server = Server::with_queue(json!({})).await;
    server.ok("TagQueue", json!({"Tags": {"k": "v", "l": "v"}})).await;
    for keys in [json!(["aws:x", "k"]), json!(["AWS:cloudformation:stack-name"])] {
        both::ok(&server, "UntagQueue", json!({ "TagKeys": keys })).await;
    }
    assert_eq!(server.ok("ListQueueTags", json!({})).await, json!({"Tags": {"l": "v"}}));
}

#[tokio::test]
async fn fifty_tags_and_no_more() {
    let server = Server::with_queue(json!({})).await;
    let tag = |from: usize, to: usize| {
        let tags: serde_json::Map<_, _> =
            (from..to).map(|n| (format!("k{n}"), json!("v"))).collect();
        server.on_queue("TagQueue", json!({"Tags": tags}))
    };
    let too_many = "Too many tags added for queue q.";
    assert_eq!(tag(0, 51).await.invalid(), too_many);
    assert_eq!(tag(0, 30).await.status, 200);
    assert_eq!(tag(20, 51).await.invalid(), too_many);
    assert_eq!(tag(20, 50).await.status, 200);
    let tags = server.ok("ListQueueTags", json!({})).await;
    assert_eq!(tags["Tags"].as_object().unwrap().len(), 50);
}

#[tokio::test]
async fn tags_of_no_queue() {
    let server = Server::start().await;
    for body in [json!({"QueueUrl": "nope"}), json!({"QueueUrl": ""}), json!({})] {
        for action in ["TagQueue", "UntagQueue", "ListQueueTags"] {
            no_queue(&server.call(action, body.clone()).await);
        }
    }
}
