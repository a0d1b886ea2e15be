//! A server with queues, and requests to it as bytes.

use serde_json::{Value, json};

use super::mutate::Rng;
use super::seeds::{self, Seed, TASK_HANDLE, arn, redrive};
use super::words::FORM;
use crate::client::Server;

/// A request as it is sent, valid or not.
#[derive(Clone)]
pub(super) struct Request {
    pub(super) method: &'static str,
    pub(super) target: Vec<u8>,
    pub(super) content_type: Vec<u8>,
    /// Header `X-Amz-Target`.
    pub(super) action: Vec<u8>,
    pub(super) body: Vec<u8>,
}

/// A server with the queues that the seeds name.
pub(super) struct World {
    pub(super) server: Server,
    pub(super) seeds: Vec<Seed>,
    task_handle: String,
}

impl World {
    pub(super) async fn new() -> Self {
        let server = Server::start().await;
        for queue in ["dead", "dead2", "doomed", "q", "q2"] {
            must(&server, "CreateQueue", json!({"QueueName": queue})).await;
        }
        let fifo = json!({"FifoQueue": "true", "ContentBasedDeduplication": "true"});
        must(&server, "CreateQueue", json!({"QueueName": "q.fifo", "Attributes": fifo})).await;
        for (source, dead) in [("q", "dead"), ("q2", "dead2")] {
            let attributes = json!({"RedrivePolicy": redrive(dead)});
            let set = json!({"QueueUrl": source, "Attributes": attributes});
            must(&server, "SetQueueAttributes", set).await;
        }
        let permission = json!({"QueueUrl": "q", "Label": "old", "AWSAccountIds": ["111111111111"],
            "Actions": ["SendMessage"]});
        must(&server, "AddPermission", permission).await;
        let mut handles = Vec::new();
        for _ in 0..2 {
            server.ok("SendMessage", json!({"MessageBody": "m"})).await;
            handles.push(server.handle(json!({"VisibilityTimeout": 43_200})).await);
        }
        let started =
            must(&server, "StartMessageMoveTask", json!({"SourceArn": arn("dead")})).await;
        let task_handle = started["TaskHandle"].as_str().unwrap().to_owned();
        let seeds = seeds::all(&handles[0], &handles[1]);
        Self { server, seeds, task_handle }
    }

    /// A seed that has the chance of every other one.
    pub(super) fn seed(&self, rng: &mut Rng) -> &Seed {
        rng.pick(&self.seeds)
    }

    /// The bytes of a request on a connection that stays open.
    pub(super) fn wire(&self, request: &Request) -> Vec<u8> {
        let body = self.with_handle(&request.body);
        let mut bytes = request.method.as_bytes().to_vec();
        bytes.push(b' ');
        bytes.extend(self.with_handle(&request.target));
        bytes.extend(b" HTTP/1.1\r\nHost: sqs.test:9324\r\n");
        for (name, value) in
            [("Content-Type", &request.content_type), ("X-Amz-Target", &request.action)]
        {
            if !value.is_empty() {
                bytes.extend(name.as_bytes());
                bytes.extend(b": ");
                bytes.extend(value);
                bytes.extend(b"\r\n");
            }
        }
        bytes.extend(format!("Content-Length: {}\r\n\r\n", body.len()).into_bytes());
        bytes.extend(body);
        bytes
    }

    fn with_handle(&self, bytes: &[u8]) -> Vec<u8> {
        let placeholder = TASK_HANDLE.as_bytes();
        // No seed has it later, and bodies can be large.
        let start = &bytes[..bytes.len().min(4_096)];
        match start.windows(placeholder.len()).position(|window| window == placeholder) {
            Some(at) => {
                let rest = &bytes[at + placeholder.len()..];
                [&bytes[..at], self.task_handle.as_bytes(), rest].concat()
            }
            None => bytes.to_vec(),
        }
    }
}

async fn must(server: &Server, action: &str, body: Value) -> Value {
    let answer = server.call(action, body).await;
    assert_eq!(answer.status, 200, "{action}: {answer:?}");
    if answer.body.is_empty() { Value::Null } else { answer.json() }
}

impl Request {
    pub(super) fn json(action: &str, body: Vec<u8>) -> Self {
        Self {
            method: "POST",
            target: b"/".to_vec(),
            content_type: b"application/x-amz-json-1.0".to_vec(),
            action: format!("AmazonSQS.{action}").into_bytes(),
            body,
        }
    }

    pub(super) fn form(body: Vec<u8>) -> Self {
        Self { content_type: FORM.into(), action: Vec::new(), ..Self::json("", body) }
    }

    pub(super) fn get(query: &[u8]) -> Self {
        Self {
            method: "GET",
            target: [b"/?", query].concat(),
            content_type: Vec::new(),
            ..Self::form(Vec::new())
        }
    }
}
