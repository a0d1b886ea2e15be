//! An SQS client that repeats nothing and says exactly what it knows.

use std::fmt;
use std::time::Duration;

use serde_json::{Value, json};

use crate::http::{Connection, HttpError};

/// Long polls last up to 20 s.
const REQUEST_PATIENCE: Duration = Duration::from_secs(30);

/// What is known of a request that did not succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failed {
    /// Certainly nothing was done.
    NotApplied,
    /// It may have taken effect, or may still.
    Unknown,
}

/// A request that did not succeed.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Whether anything was done.
    pub outcome: Failed,
    /// HTTP status, if there was an answer at all.
    pub status: Option<u16>,
    /// For humans.
    pub text: String,
}

impl Failure {
    /// Whether an SDK would try again by itself.
    pub fn is_retryable(&self) -> bool {
        self.status.is_none_or(|status| status >= 500)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} ({:?}): {}", self.outcome, self.status, self.text)
    }
}

/// A received message.
#[derive(Clone, Debug)]
pub struct Message {
    /// Its id.
    pub id: String,
    /// What to delete it with.
    pub receipt: String,
    /// What was sent.
    pub body: String,
}

/// Speaks to one node, one request at a time.
#[derive(Debug)]
pub struct Client {
    connection: Connection,
}

impl Client {
    /// For the node at `host:port`.
    pub fn new(address: impl Into<String>) -> Self {
        Self { connection: Connection::new(address) }
    }

    /// One action.
    ///
    /// # Errors
    /// Everything but status 200.
    pub async fn call(&mut self, action: &str, input: &Value) -> Result<Value, Failure> {
        let head = format!(
            "POST / HTTP/1.1\r\ncontent-type: application/x-amz-json-1.0\r\n\
             x-amz-target: AmazonSQS.{action}"
        );
        let answer = self.connection.request(&head, &input.to_string(), REQUEST_PATIENCE).await;
        let answer = answer.map_err(|error| match error {
            HttpError::NotSent(text) => Failure { outcome: Failed::NotApplied, status: None, text },
            HttpError::NoAnswer(text) => Failure { outcome: Failed::Unknown, status: None, text },
        })?;
        let not_applied = answer.header("x-flotilla-outcome") == Some("not-applied");
        if answer.status != 200 {
            let outcome = if not_applied { Failed::NotApplied } else { Failed::Unknown };
            return Err(Failure { outcome, status: Some(answer.status), text: answer.body });
        }
        if answer.body.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_str(&answer.body).map_err(|error| Failure {
            outcome: Failed::Unknown,
            status: Some(answer.status),
            text: format!("not JSON ({error}): {}", answer.body),
        })
    }

    /// Creates a queue; its URL, which is good at every node.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn create_queue(&mut self, name: &str) -> Result<String, Failure> {
        let created = self.call("CreateQueue", &json!({ "QueueName": name })).await?;
        Ok(text(&created["QueueUrl"]))
    }

    /// Sends; the message's id.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn send(&mut self, queue: &str, body: &str) -> Result<String, Failure> {
        let input = json!({ "QueueUrl": queue, "MessageBody": body });
        let sent = self.call("SendMessage", &input).await?;
        Ok(text(&sent["MessageId"]))
    }

    /// Receives up to ten messages.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn receive(
        &mut self,
        queue: &str,
        visibility_seconds: u32,
        wait_seconds: u32,
    ) -> Result<Vec<Message>, Failure> {
        let input = json!({
            "QueueUrl": queue,
            "MaxNumberOfMessages": 10,
            "VisibilityTimeout": visibility_seconds,
            "WaitTimeSeconds": wait_seconds,
        });
        let received = self.call("ReceiveMessage", &input).await?;
        let messages = received["Messages"].as_array().cloned().unwrap_or_default();
        Ok(messages
            .iter()
            .map(|message| Message {
                id: text(&message["MessageId"]),
                receipt: text(&message["ReceiptHandle"]),
                body: text(&message["Body"]),
            })
            .collect())
    }

    /// Deletes.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn delete(&mut self, queue: &str, receipt: &str) -> Result<(), Failure> {
        let input = json!({ "QueueUrl": queue, "ReceiptHandle": receipt });
        self.call("DeleteMessage", &input).await.map(|_| ())
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
