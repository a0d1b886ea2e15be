//! A cluster that cannot do what it is asked to.

use flotilla_cluster::api::Trouble;
use serde_json::json;

use crate::client::Server;
use crate::messages::send;

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
        let entries = json!({"Entries": [{"Id": "a", "MessageBody": "m"}]});
        let answer = server.on_queue("SendMessageBatch", entries).await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.json()["Failed"][0]["SenderFault"], false);
        assert_eq!(answer.json()["Failed"][0]["Code"], code);
        let unknown = answer.headers.get("x-flotilla-outcome").map(String::as_str);
        assert_eq!(unknown, (outcome == "unknown").then_some("unknown"));
    }
}
