//! A cluster that cannot do what it is asked to.

use std::time::Duration;

use flotilla_cluster::api::{Cluster as _, Trouble};
use flotilla_types::limits;
use serde_json::json;

use crate::client::Server;
use crate::messages::send;
use crate::query;

#[tokio::test]
async fn trouble_says_whether_anything_was_done() {
    let server = Server::with_queue(json!({})).await;
    send(&server, "m").await;
    let handle = server.handle(json!({})).await;
    for (trouble, status, shape, code, outcome) in [
        (
            Trouble::Unavailable { maybe_applied: false },
            503,
            "ServiceUnavailable",
            "ServiceUnavailable",
            "not-applied",
        ),
        (Trouble::Overloaded, 503, "ServiceUnavailable", "ServiceUnavailable", "not-applied"),
        (Trouble::LowOnSpace, 503, "ServiceUnavailable", "ServiceUnavailable", "not-applied"),
        (
            Trouble::Unavailable { maybe_applied: true },
            500,
            "InternalFailure",
            "InternalError",
            "unknown",
        ),
    ] {
        server.fake.fail(Some(trouble));
        for (action, body) in [
            ("SendMessage", json!({"MessageBody": "m"})),
            ("ReceiveMessage", json!({})),
            ("DeleteMessage", json!({"ReceiptHandle": handle})),
            ("ChangeMessageVisibility", json!({"ReceiptHandle": handle, "VisibilityTimeout": 1})),
        ] {
            let answer = server.on_queue(action, body).await;
            let shape = format!("com.amazon.coral.service#{shape}");
            answer.refused(status, &shape, &format!("{code};Receiver"));
            assert_eq!(answer.headers["x-flotilla-outcome"], outcome);
        }
        for (action, entry) in [
            ("SendMessageBatch", json!({"Id": "a", "MessageBody": "m"})),
            ("DeleteMessageBatch", json!({"Id": "a", "ReceiptHandle": handle})),
            (
                "ChangeMessageVisibilityBatch",
                json!({"Id": "a", "ReceiptHandle": handle, "VisibilityTimeout": 1}),
            ),
        ] {
            let answer = server.on_queue(action, json!({"Entries": [entry]})).await;
            assert_eq!(answer.status, 200);
            assert_eq!(answer.json()["Failed"][0]["SenderFault"], false);
            assert_eq!(answer.json()["Failed"][0]["Code"], code);
            assert_eq!(answer.headers["x-flotilla-outcome"], outcome);
        }
        let form = "Action=SendMessage&MessageBody=m";
        let answer = query::post(&server, "/000000000000/q", form).await;
        assert_eq!(answer.status, status);
        let told = ["Type", "Code"].map(|name| query::element(&answer, name));
        assert_eq!(told, ["Receiver", code]);
        assert_eq!(answer.headers["x-flotilla-outcome"], outcome);
    }
}

/// What is received has taken its room before, and what changed something is answered in any case.
#[tokio::test]
async fn long_answers_are_refused_while_there_is_no_room_for_them() {
    let server = Server::with_queue(json!({})).await;
    for number in 0..60 {
        let name = format!("{}-{number}", "long".repeat(15));
        assert_eq!(server.call("CreateQueue", json!({ "QueueName": name })).await.status, 200);
    }
    let mut room = server.fake.answers().room();
    room.hold(limits::ANSWER_BYTES_MAX);
    let refused = server.call("ListQueues", json!({})).await;
    assert_eq!(refused.status, 503);
    assert_eq!(refused.headers["x-flotilla-outcome"], "not-applied");
    let short = server.call("ListQueues", json!({ "QueueNamePrefix": "q" })).await;
    assert_eq!(short.status, 200);
    send(&server, &"m".repeat(10_000)).await;
    assert_eq!(server.bodies(json!({})).await.len(), 1);
    drop(room);
    assert_eq!(server.call("ListQueues", json!({})).await.status, 200);
    // Nothing is kept of what was written.
    let given_back = async {
        while server.fake.answers().taken() > 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), given_back).await.unwrap();
}

#[tokio::test]
async fn a_batch_says_what_is_known_of_its_failures() {
    let server = Server::with_queue(json!({})).await;
    let batch = |body: &str| {
        let good = json!({"Id": "a", "MessageBody": "m"});
        json!({"Entries": [good, {"Id": "b", "MessageBody": body}]})
    };
    let answer = server.on_queue("SendMessageBatch", batch("m")).await;
    assert!(!answer.headers.contains_key("x-flotilla-outcome"), "nothing failed");
    let answer = server.on_queue("SendMessageBatch", batch("")).await;
    assert_eq!(answer.json()["Failed"][0]["Id"], "b");
    assert_eq!(answer.headers["x-flotilla-outcome"], "not-applied");
    server.fake.fail(Some(Trouble::Unavailable { maybe_applied: true }));
    let answer = server.on_queue("SendMessageBatch", batch("")).await;
    assert_eq!(answer.json()["Failed"].as_array().unwrap().len(), 2);
    assert_eq!(answer.headers["x-flotilla-outcome"], "unknown", "of one of the two");
}

/// Whoever counts receives, or waits for a message that should be there, must know.
#[tokio::test]
async fn a_receive_says_when_it_may_have_hidden_more_than_it_brings() {
    let server = Server::with_queue(json!({})).await;
    send(&server, "m").await;
    let answer = server.on_queue("ReceiveMessage", json!({"VisibilityTimeout": 0})).await;
    assert!(!answer.headers.contains_key("x-flotilla-outcome"));
    server.fake.lose();
    let answer = server.on_queue("ReceiveMessage", json!({})).await;
    assert_eq!((answer.status, answer.headers["x-flotilla-outcome"].as_str()), (200, "unknown"));
}
