//! Bodies that nobody meant to send: every one gets an answer, none gets a 5xx.

use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Map, Value, json};

use crate::client::{Server, post};

const ACTIONS: &[&str] = &[
    "SendMessage",
    "ReceiveMessage",
    "DeleteMessage",
    "SendMessageBatch",
    "DeleteMessageBatch",
    "ChangeMessageVisibility",
    "ChangeMessageVisibilityBatch",
    "CreateQueue",
    "GetQueueUrl",
    "ListQueues",
    "DeleteQueue",
    "GetQueueAttributes",
    "SetQueueAttributes",
    "PurgeQueue",
    "TagQueue",
];

const MEMBERS: &[&str] = &[
    "QueueUrl",
    "QueueName",
    "MessageBody",
    "DelaySeconds",
    "MessageAttributes",
    "MessageSystemAttributes",
    "AWSTraceHeader",
    "DataType",
    "StringValue",
    "BinaryValue",
    "StringListValues",
    "MessageGroupId",
    "Entries",
    "Id",
    "ReceiptHandle",
    "VisibilityTimeout",
    "WaitTimeSeconds",
    "MaxNumberOfMessages",
    "MessageAttributeNames",
    "AttributeNames",
    "Attributes",
    "RedrivePolicy",
    "Policy",
    "tags",
    "MaxResults",
    "NextToken",
    "QueueNamePrefix",
];

fn leaf() -> impl Strategy<Value = Value> {
    prop_oneof![
        select(vec![
            json!("q"),
            json!(""),
            json!("String"),
            json!("Number.x"),
            json!("Binary"),
            json!("All"),
            json!("{}"),
            json!("AQEBAAAA"),
            json!("Hel.*"),
            json!("1e999"),
            json!(null),
            json!(true),
            json!(-1),
            json!(5),
            json!(1e300),
            json!(u64::MAX),
        ]),
        ".{0,8}".prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
    ]
}

fn tree() -> impl Strategy<Value = Value> {
    leaf().prop_recursive(4, 40, 6, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..12).prop_map(Value::from),
            vec((select(MEMBERS), inner), 0..6).prop_map(|members| {
                let named = members.into_iter().map(|(name, value)| (name.to_owned(), value));
                Value::Object(named.collect::<Map<_, _>>())
            }),
        ]
    })
}

/// A request on queue `q` with some members, perhaps damaged in one place.
fn body() -> impl Strategy<Value = Vec<u8>> {
    let members = vec((select(MEMBERS), tree()), 0..5);
    let damage = proptest::option::of((any::<Index>(), any::<u8>()));
    let request = (members, any::<bool>(), damage).prop_map(|(members, on_queue, damage)| {
        let mut request = json!({});
        for (name, value) in members {
            request[name] = value;
        }
        if on_queue {
            request["QueueUrl"] = "q".into();
        }
        let mut bytes = request.to_string().into_bytes();
        if let Some((at, byte)) = damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes
    });
    prop_oneof![8 => request, 1 => vec(any::<u8>(), 0..64)]
}

#[test]
fn every_body_is_answered() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let server = runtime.block_on(Server::with_queue(json!({})));
    let fake = server.fake.clone();
    // Long polls end, queues can be made again.
    runtime.spawn(async move {
        loop {
            tokio::time::sleep(Duration::from_millis(1)).await;
            fake.advance(60);
        }
    });
    let mut runner = TestRunner::new(Config { cases: 2_000, ..Config::default() });
    let cases = (select(ACTIONS), body());
    let outcome = runner.run(&cases, |(action, body)| {
        let mut request = post(action, "", &"x".repeat(body.len()));
        let head = request.len() - body.len();
        request.truncate(head);
        request.extend_from_slice(&body);
        let answer = runtime.block_on(async {
            server.call("CreateQueue", json!({"QueueName": "q"})).await;
            server.raw(&request).await
        });
        prop_assert!(matches!(answer.status, 200 | 400 | 403 | 404), "{:?}", answer);
        prop_assert!(answer.body.is_empty() || answer.json().is_object());
        Ok(())
    });
    outcome.unwrap();
}
