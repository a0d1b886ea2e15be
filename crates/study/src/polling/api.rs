//! The SQS calls of the study. Like the load generator's, but answers are read whole, and a receive
//! says which shards it asked.

use std::time::Duration;

use anyhow::Context as _;
use flotilla_tests::Connection;
use serde_json::{Value, json};

/// What a request may take beyond the time that it asked to wait.
const PATIENCE: Duration = Duration::from_secs(15);
/// What a request may take that sets something up, repetitions included.
const SETUP_PATIENCE: Duration = Duration::from_secs(60);

/// No success.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum ApiError {
    #[error("no answer: {0}")]
    NoAnswer(String),
    #[error("{action}: {status} {body}")]
    Refused { action: &'static str, status: u16, body: String },
}

/// How to receive.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ask {
    pub(super) max: u32,
    pub(super) wait_s: u32,
    /// Of what is received; the queue's if `None`.
    pub(super) visibility_s: Option<u32>,
}

impl Ask {
    pub(super) const SHORT: Self = Self { max: 10, wait_s: 0, visibility_s: None };

    pub(super) fn long(wait_s: u32) -> Self {
        Self { wait_s, ..Self::SHORT }
    }
}

/// A received message.
#[derive(Clone, Debug)]
pub(super) struct Letter {
    pub(super) body: String,
    receipt: String,
}

/// The answer to a receive.
#[derive(Clone, Debug, Default)]
pub(super) struct Answer {
    pub(super) letters: Vec<Letter>,
    /// Which shards were asked, in order, and how many messages each gave; nothing at other
    /// servers.
    pub(super) asked: Vec<(u32, u32)>,
    /// How many there are.
    pub(super) shards: Option<usize>,
}

/// One connection to one node.
#[derive(Debug)]
pub(super) struct Api {
    connection: Connection,
    patience: Duration,
}

impl Api {
    /// For the node at `host:port`.
    pub(super) fn new(node: &str) -> Self {
        Self { connection: Connection::new(node), patience: PATIENCE }
    }

    /// One that gives up so soon.
    pub(super) fn impatient(node: &str, patience: Duration) -> Self {
        Self { connection: Connection::new(node), patience }
    }

    pub(super) async fn create_queue(&mut self, name: &str) -> anyhow::Result<String> {
        let begin = std::time::Instant::now();
        // Its messages stay hidden for longer than any experiment takes.
        let input = json!({ "QueueName": name, "Attributes": { "VisibilityTimeout": "3600" } });
        loop {
            match self.call("CreateQueue", &input, Duration::ZERO).await {
                Ok((created, _)) => {
                    let url = created["QueueUrl"].as_str().context("a queue without an URL")?;
                    return Ok(url.to_owned());
                }
                Err(error) if begin.elapsed() > SETUP_PATIENCE => return Err(error.into()),
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    pub(super) async fn delete_queue(&mut self, queue: &str) -> Result<(), ApiError> {
        self.call("DeleteQueue", &json!({ "QueueUrl": queue }), Duration::ZERO).await.map(drop)
    }

    pub(super) async fn send(&mut self, queue: &str, body: &str) -> Result<(), ApiError> {
        let input = json!({ "QueueUrl": queue, "MessageBody": body });
        self.call("SendMessage", &input, Duration::ZERO).await.map(drop)
    }

    /// Ten messages at most.
    pub(super) async fn send_batch(&mut self, queue: &str, count: u32) -> anyhow::Result<()> {
        let entry = |id| json!({ "Id": format!("{id}"), "MessageBody": "of a batch" });
        let entries: Vec<Value> = (0..count).map(entry).collect();
        let input = json!({ "QueueUrl": queue, "Entries": entries });
        let (sent, _) = self.call("SendMessageBatch", &input, Duration::ZERO).await?;
        let failed = sent["Failed"].as_array().map_or(0, Vec::len);
        anyhow::ensure!(failed == 0, "of a batch {failed} were not sent");
        Ok(())
    }

    pub(super) async fn receive(&mut self, queue: &str, ask: Ask) -> Result<Answer, ApiError> {
        let mut input = json!({
            "QueueUrl": queue,
            "MaxNumberOfMessages": ask.max,
            "WaitTimeSeconds": ask.wait_s,
        });
        if let Some(seconds) = ask.visibility_s {
            input["VisibilityTimeout"] = seconds.into();
        }
        let wait = Duration::from_secs(ask.wait_s.into());
        let (received, polled) = self.call("ReceiveMessage", &input, wait).await?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let letter =
            |one: &Value| Letter { body: text(&one["Body"]), receipt: text(&one["ReceiptHandle"]) };
        let letters = received["Messages"].as_array().map_or(&[][..], Vec::as_slice);
        Ok(Answer {
            letters: letters.iter().map(letter).collect(),
            asked: polled.as_deref().map(asked).unwrap_or_default(),
            shards: polled.as_deref().and_then(shards),
        })
    }

    /// Ten messages at most.
    pub(super) async fn delete(&mut self, queue: &str, letters: &[Letter]) -> Result<(), ApiError> {
        if let [letter] = letters {
            let input = json!({ "QueueUrl": queue, "ReceiptHandle": letter.receipt });
            return self.call("DeleteMessage", &input, Duration::ZERO).await.map(drop);
        }
        let entry = |(id, letter): (usize, &Letter)| json!({ "Id": format!("{id}"), "ReceiptHandle": letter.receipt });
        let entries: Vec<Value> = letters.iter().enumerate().map(entry).collect();
        let input = json!({ "QueueUrl": queue, "Entries": entries });
        self.call("DeleteMessageBatch", &input, Duration::ZERO).await.map(drop)
    }

    /// The answer, and what it says of shards.
    async fn call(
        &mut self,
        action: &'static str,
        input: &Value,
        wait: Duration,
    ) -> Result<(Value, Option<String>), ApiError> {
        let head = format!(
            "POST / HTTP/1.1\r\ncontent-type: application/x-amz-json-1.0\r\n\
             x-flotilla-explain: 1\r\nx-amz-target: AmazonSQS.{action}"
        );
        let answer = self.connection.request(&head, &input.to_string(), wait + self.patience).await;
        let answer = answer.map_err(|error| ApiError::NoAnswer(format!("{error:?}")))?;
        if answer.status != 200 {
            return Err(ApiError::Refused { action, status: answer.status, body: answer.body });
        }
        let polled = answer.header("x-flotilla-polled").map(str::to_owned);
        let value = match answer.body.as_str() {
            "" => Value::Null,
            body => serde_json::from_str(body)
                .map_err(|error| ApiError::NoAnswer(format!("{action}: {error}")))?,
        };
        Ok((value, polled))
    }
}

/// Reads the first part of `shards=8; asked=3:2`.
fn shards(polled: &str) -> Option<usize> {
    polled.strip_prefix("shards=")?.split(';').next()?.trim().parse().ok()
}

/// Reads `shards=8; asked=3:2,5:0/17,7:unreachable`; what a shard has left, behind a slash, and
/// shards that did not answer are left out.
fn asked(polled: &str) -> Vec<(u32, u32)> {
    let Some((_, list)) = polled.split_once("asked=") else { return Vec::new() };
    let one = |pair: &str| {
        let (shard, said) = pair.split_once(':')?;
        let count = said.split('/').next()?;
        Some((shard.trim().parse().ok()?, count.trim().parse().ok()?))
    };
    list.split(',').filter_map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_asked_is_read() {
        let polled = "shards=8; asked=3:2,5:0,7:unreachable";
        assert_eq!(asked(polled), [(3, 2), (5, 0)]);
        assert_eq!(asked("shards=8; asked=3:2/17,5:0/0"), [(3, 2), (5, 0)]);
        assert_eq!((shards(polled), shards("else")), (Some(8), None));
        assert_eq!(asked("shards=8; asked="), []);
        assert_eq!(asked("else"), []);
    }
}
