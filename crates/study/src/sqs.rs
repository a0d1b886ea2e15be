//! The few SQS calls that a load needs, as JSON 1.0 over one connection.

use std::borrow::Cow;
use std::io::Write as _;

use flotilla_client::{CallError, Caller, Endpoint};
use serde::Deserialize;
use serde_json::Value;

use crate::message::Stamp;

/// Far longer than from a receipt to its deletion, and what a final check may have to wait for.
pub(crate) const VISIBILITY_TIMEOUT_S: u32 = 60;

/// A queue's URL as a JSON string, quotes included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct QueueUrl(String);

impl QueueUrl {
    fn new(url: &str) -> Self {
        Self(Value::from(url).to_string())
    }
}

/// A message that was handed out.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Received {
    /// `None` when the body is none that could have been sent.
    pub(crate) stamp: Option<Stamp>,
    /// As JSON, quotes included, ready for a deletion.
    handle_json: String,
}

/// What became of the entries of a request.
#[derive(Debug, PartialEq, Eq, Default)]
pub(crate) struct Outcome {
    /// Indices of the entries that succeeded.
    pub(crate) succeeded: Vec<usize>,
    /// Of those that did not: the code of one.
    pub(crate) failure: Option<String>,
}

/// Speaks with one endpoint, one request at a time.
#[derive(Debug)]
pub(crate) struct Client {
    caller: Caller,
    /// Of a FIFO queue.
    groups: Option<u64>,
    body: Vec<u8>,
}

impl Client {
    pub(crate) fn new(endpoint: &Endpoint, groups: Option<u64>) -> Self {
        Self { caller: Caller::new(endpoint), groups, body: Vec::new() }
    }

    pub(crate) async fn create_queue(&mut self, name: &str) -> Result<QueueUrl, CallError> {
        let mut attributes =
            serde_json::json!({ "VisibilityTimeout": VISIBILITY_TIMEOUT_S.to_string() });
        if self.groups.is_some() {
            attributes["FifoQueue"] = "true".into();
            attributes["DeduplicationScope"] = "messageGroup".into();
            attributes["FifoThroughputLimit"] = "perMessageGroupId".into();
        }
        let input = serde_json::json!({ "QueueName": name, "Attributes": attributes });
        self.body = input.to_string().into_bytes();
        self.queue_url("CreateQueue").await
    }

    /// Also opens the connection, before anything is timed.
    pub(crate) async fn find_queue(&mut self, name: &str) -> Result<QueueUrl, CallError> {
        self.body = serde_json::json!({ "QueueName": name }).to_string().into_bytes();
        self.queue_url("GetQueueUrl").await
    }

    pub(crate) async fn delete_queue(&mut self, queue: &QueueUrl) -> Result<(), CallError> {
        self.body = format!(r#"{{"QueueUrl":{}}}"#, queue.0).into_bytes();
        self.call("DeleteQueue").await.map(drop)
    }

    /// One message is a SendMessage, more are a SendMessageBatch.
    pub(crate) async fn send(
        &mut self,
        queue: &QueueUrl,
        stamps: &[Stamp],
    ) -> Result<Outcome, CallError> {
        self.body.clear();
        if let [stamp] = stamps {
            write_send(&mut self.body, queue, stamp, self.groups);
            self.call("SendMessage").await?;
            return Ok(Outcome { succeeded: vec![0], failure: None });
        }
        write_send_batch(&mut self.body, queue, stamps, self.groups);
        self.batch("SendMessageBatch").await
    }

    /// `batch` of 1 to 10 messages at most, waiting up to `wait_s` seconds for the first.
    pub(crate) async fn receive(
        &mut self,
        queue: &QueueUrl,
        batch: usize,
        wait_s: u32,
    ) -> Result<Vec<Received>, CallError> {
        const ACTION: &str = "ReceiveMessage";
        self.body = format!(
            r#"{{"QueueUrl":{},"MaxNumberOfMessages":{batch},"WaitTimeSeconds":{wait_s}}}"#,
            queue.0
        )
        .into_bytes();
        let answer = self.call(ACTION).await?;
        read_received(answer).map_err(|error| CallError::Malformed { action: ACTION, error })
    }

    /// One message is a DeleteMessage, more are a DeleteMessageBatch.
    pub(crate) async fn delete(
        &mut self,
        queue: &QueueUrl,
        messages: &[Received],
    ) -> Result<Outcome, CallError> {
        self.body.clear();
        if let [message] = messages {
            write_delete(&mut self.body, queue, message);
            self.call("DeleteMessage").await?;
            return Ok(Outcome { succeeded: vec![0], failure: None });
        }
        write_delete_batch(&mut self.body, queue, messages);
        self.batch("DeleteMessageBatch").await
    }

    async fn queue_url(&mut self, action: &'static str) -> Result<QueueUrl, CallError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Answer {
            queue_url: String,
        }
        let answer: Answer = serde_json::from_slice(self.call(action).await?)
            .map_err(|error| CallError::Malformed { action, error })?;
        Ok(QueueUrl::new(&answer.queue_url))
    }

    async fn batch(&mut self, action: &'static str) -> Result<Outcome, CallError> {
        let answer = self.call(action).await?;
        read_outcome(answer).map_err(|error| CallError::Malformed { action, error })
    }

    async fn call(&mut self, action: &'static str) -> Result<&[u8], CallError> {
        self.caller.call(action, &self.body).await
    }
}

fn put(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("writing into memory does not fail");
}

fn write_send(out: &mut Vec<u8>, queue: &QueueUrl, stamp: &Stamp, groups: Option<u64>) {
    put(out, format_args!(r#"{{"QueueUrl":{},"MessageBody":""#, queue.0));
    write_message(out, stamp, groups);
}

/// From the body on.
fn write_message(out: &mut Vec<u8>, stamp: &Stamp, groups: Option<u64>) {
    stamp.write_body(out);
    out.push(b'"');
    if let Some(groups) = groups {
        let (sequence, group) = (stamp.sequence.0, stamp.sequence.0 % groups);
        put(
            out,
            format_args!(r#","MessageGroupId":"{group}","MessageDeduplicationId":"{sequence}""#),
        );
    }
    out.push(b'}');
}

fn write_send_batch(out: &mut Vec<u8>, queue: &QueueUrl, stamps: &[Stamp], groups: Option<u64>) {
    put(out, format_args!(r#"{{"QueueUrl":{},"Entries":["#, queue.0));
    for (index, stamp) in stamps.iter().enumerate() {
        let comma = if index == 0 { "" } else { "," };
        put(out, format_args!(r#"{comma}{{"Id":"{index}","MessageBody":""#));
        write_message(out, stamp, groups);
    }
    out.extend_from_slice(b"]}");
}

fn write_delete(out: &mut Vec<u8>, queue: &QueueUrl, message: &Received) {
    put(out, format_args!(r#"{{"QueueUrl":{},"ReceiptHandle":{}}}"#, queue.0, message.handle_json));
}

fn write_delete_batch(out: &mut Vec<u8>, queue: &QueueUrl, messages: &[Received]) {
    put(out, format_args!(r#"{{"QueueUrl":{},"Entries":["#, queue.0));
    for (index, message) in messages.iter().enumerate() {
        let comma = if index == 0 { "" } else { "," };
        let handle = &message.handle_json;
        put(out, format_args!(r#"{comma}{{"Id":"{index}","ReceiptHandle":{handle}}}"#));
    }
    out.extend_from_slice(b"]}");
}

fn read_received(answer: &[u8]) -> Result<Vec<Received>, serde_json::Error> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Answer<'a> {
        #[serde(borrow, default)]
        messages: Vec<Message<'a>>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Message<'a> {
        #[serde(borrow)]
        body: Cow<'a, str>,
        #[serde(borrow)]
        receipt_handle: Cow<'a, str>,
    }
    let answer: Answer<'_> = serde_json::from_slice(answer)?;
    let received = |message: Message<'_>| {
        Ok(Received {
            stamp: Stamp::read_body(&message.body),
            handle_json: serde_json::to_string(&message.receipt_handle)?,
        })
    };
    answer.messages.into_iter().map(received).collect()
}

fn read_outcome(answer: &[u8]) -> Result<Outcome, serde_json::Error> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Answer<'a> {
        #[serde(borrow, default)]
        successful: Vec<Success<'a>>,
        #[serde(default)]
        failed: Vec<Failure>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Success<'a> {
        #[serde(borrow)]
        id: Cow<'a, str>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Failure {
        code: String,
    }
    let answer: Answer<'_> = serde_json::from_slice(answer)?;
    let index = |success: &Success<'_>| success.id.parse().map_err(serde::de::Error::custom);
    Ok(Outcome {
        succeeded: answer.successful.iter().map(index).collect::<Result<_, _>>()?,
        failure: answer.failed.into_iter().next().map(|failure| failure.code),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{RunId, Sequence};

    fn stamp(sequence: u64) -> Stamp {
        Stamp { run: RunId(1), sequence: Sequence(sequence), moment_us: 5 }
    }

    fn queue() -> QueueUrl {
        QueueUrl::new(r#"http://h:1/0/a"b"#)
    }

    fn received(handle: &str) -> Received {
        Received { stamp: None, handle_json: Value::from(handle).to_string() }
    }

    fn parsed(write: impl FnOnce(&mut Vec<u8>)) -> Value {
        let mut body = Vec::new();
        write(&mut body);
        serde_json::from_slice(&body).unwrap()
    }

    #[test]
    fn a_send_is_json() {
        let body = parsed(|out| write_send(out, &queue(), &stamp(3), None));
        assert_eq!(body["QueueUrl"], r#"http://h:1/0/a"b"#);
        assert_eq!(Stamp::read_body(body["MessageBody"].as_str().unwrap()), Some(stamp(3)));
        assert_eq!(body.as_object().unwrap().len(), 2);
    }

    #[test]
    fn messages_of_fifo_queues_have_ids() {
        let body = parsed(|out| write_send(out, &queue(), &stamp(13), Some(10)));
        assert_eq!(
            (&body["MessageGroupId"], &body["MessageDeduplicationId"]),
            (&"3".into(), &"13".into())
        );
        let stamps = [stamp(19), stamp(20)];
        let body = parsed(|out| write_send_batch(out, &queue(), &stamps, Some(10)));
        assert_eq!(body["Entries"][1]["MessageGroupId"], "0");
    }

    #[test]
    fn a_batch_has_an_entry_for_each() {
        let stamps = [stamp(7), stamp(8), stamp(9)];
        let body = parsed(|out| write_send_batch(out, &queue(), &stamps, None));
        let entries = body["Entries"].as_array().unwrap();
        assert_eq!(entries.len(), 3);
        for (index, entry) in entries.iter().enumerate() {
            assert_eq!(entry["Id"], index.to_string());
            let body = entry["MessageBody"].as_str().unwrap();
            assert_eq!(Stamp::read_body(body), Some(stamps[index]));
        }
    }

    #[test]
    fn deletions_carry_the_handles_as_they_came() {
        let one = received("a\"\\b");
        let body = parsed(|out| write_delete(out, &queue(), &one));
        assert_eq!(body["ReceiptHandle"], "a\"\\b");
        let body = parsed(|out| write_delete_batch(out, &queue(), &[one, received("c")]));
        assert_eq!(body["Entries"][0]["ReceiptHandle"], "a\"\\b");
        assert_eq!(body["Entries"][1]["ReceiptHandle"], "c");
        assert_eq!(body["Entries"][1]["Id"], "1");
    }

    #[test]
    fn received_messages_are_read() {
        let mut body = Vec::new();
        stamp(4).write_body(&mut body);
        let body = String::from_utf8(body).unwrap();
        let answer = serde_json::json!({"Messages": [
            {"MessageId": "x", "ReceiptHandle": "h\n", "MD5OfBody": "y", "Body": body},
            {"MessageId": "x", "ReceiptHandle": "i", "MD5OfBody": "y", "Body": "else\n"},
        ]});
        let messages = read_received(answer.to_string().as_bytes()).unwrap();
        assert_eq!(messages.len(), 2);
        assert_eq!(messages[0].stamp, Some(stamp(4)));
        assert_eq!(messages[0].handle_json, r#""h\n""#);
        assert_eq!(messages[1].stamp, None);
        assert_eq!(read_received(b"{}").unwrap(), []);
        assert!(read_received(b"<xml/>").is_err());
    }

    #[test]
    fn batches_succeed_in_parts() {
        let answer = br#"{"Successful":[{"Id":"2","MessageId":"x"},{"Id":"0"}],
            "Failed":[{"Id":"1","Code":"InternalError","SenderFault":false}]}"#;
        let outcome = read_outcome(answer).unwrap();
        assert_eq!(outcome.succeeded, [2, 0]);
        assert_eq!(outcome.failure.as_deref(), Some("InternalError"));
        assert!(read_outcome(br#"{"Successful":[{"Id":"x"}]}"#).is_err());
    }
}
