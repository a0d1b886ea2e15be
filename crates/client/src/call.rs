//! An action and its answer.

use std::io::Write as _;
use std::time::SystemTime;

use serde_json::Value;

use crate::connection::{Connection, Endpoint, ExchangeError};
use crate::sign::Signing;

const CONTENT_TYPE: &str = "application/x-amz-json-1.0";

/// Of a refusal's body, as much as a person reads.
const REFUSAL_BYTES: usize = 300;

/// Why a call did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// No answer.
    #[error(transparent)]
    Exchange(#[from] ExchangeError),
    /// An answer that says no.
    #[error("{action}: {status} {body}")]
    Refused {
        /// What was asked.
        action: &'static str,
        /// HTTP status.
        status: u16,
        /// The beginning of the answer's body, which names the error.
        body: String,
    },
    /// Success, and then something else than what was asked for.
    #[error("{action}: the answer is not understood: {error}")]
    Malformed {
        /// What was asked.
        action: &'static str,
        /// Where reading it ended.
        error: serde_json::Error,
    },
}

/// Speaks with one endpoint, one request at a time.
#[derive(Debug)]
pub struct Caller {
    connection: Connection,
    authority: String,
    signing: Option<Signing>,
    head: Vec<u8>,
    request: Vec<u8>,
}

impl Caller {
    /// Connects when the first request is made.
    pub fn new(endpoint: &Endpoint) -> Self {
        let head = format!(
            "POST / HTTP/1.1\r\nhost: {}\r\ncontent-type: {CONTENT_TYPE}\r\n\
             x-amz-target: AmazonSQS.",
            endpoint.authority()
        );
        Self {
            connection: Connection::new(endpoint.clone()),
            authority: endpoint.authority().to_owned(),
            signing: None,
            head: head.into_bytes(),
            request: Vec::new(),
        }
    }

    /// The same, and every request is signed; if there is something to sign with.
    pub fn signed(endpoint: &Endpoint, signing: Option<Signing>) -> Self {
        Self { signing, ..Self::new(endpoint) }
    }

    /// The body of the answer to `action`, if its status is 200.
    ///
    /// # Errors
    /// Without an answer, and when it is another one.
    pub async fn call(&mut self, action: &'static str, body: &[u8]) -> Result<&[u8], CallError> {
        self.request.clear();
        self.request.extend_from_slice(&self.head);
        let signed = self.signing.as_ref().map(|signing| {
            let target = format!("AmazonSQS.{action}");
            let headers = [
                ("content-type", CONTENT_TYPE),
                ("host", &self.authority),
                ("x-amz-target", &target),
            ];
            signing.lines(&headers, body, SystemTime::now())
        });
        let (signed, length) = (signed.unwrap_or_default(), body.len());
        write!(self.request, "{action}\r\n{signed}content-length: {length}\r\n\r\n")
            .expect("writing into memory does not fail");
        self.request.extend_from_slice(body);
        let answer = self.connection.exchange(&self.request).await?;
        if answer.status == 200 {
            return Ok(answer.body);
        }
        let body = &answer.body[..answer.body.len().min(REFUSAL_BYTES)];
        let body = String::from_utf8_lossy(body).into_owned();
        Err(CallError::Refused { action, status: answer.status, body })
    }

    /// The same for those who are in no hurry. An empty answer is null.
    ///
    /// # Errors
    /// As [`Caller::call`], and when the answer is no JSON.
    pub async fn ask(&mut self, action: &'static str, input: &Value) -> Result<Value, CallError> {
        let answer = self.call(action, input.to_string().as_bytes()).await?;
        if answer.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(answer).map_err(|error| CallError::Malformed { action, error })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    /// One request to a server that gives `answer`, and what the server read.
    async fn asked(answer: &'static str) -> (Result<Value, CallError>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut read = Vec::new();
            while !read.ends_with(b"}") {
                stream.read_buf(&mut read).await.unwrap();
            }
            stream.write_all(answer.as_bytes()).await.unwrap();
            String::from_utf8(read).unwrap()
        });
        let result = Caller::new(&endpoint).ask("GetQueueUrl", &json!({"QueueName": "q"})).await;
        (result, server.await.unwrap())
    }

    #[tokio::test]
    async fn an_action_is_named_in_the_head() {
        let (result, request) =
            asked("HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\n{\"a\":1}").await;
        assert_eq!(result.unwrap(), json!({"a": 1}));
        assert!(request.contains("\r\nx-amz-target: AmazonSQS.GetQueueUrl\r\n"), "{request}");
        assert!(request.ends_with("content-length: 17\r\n\r\n{\"QueueName\":\"q\"}"), "{request}");
        let (result, _) = asked("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
        assert_eq!(result.unwrap(), Value::Null);
    }

    #[tokio::test]
    async fn refusals_say_what_the_server_said() {
        let (result, _) = asked("HTTP/1.1 400 Bad\r\ncontent-length: 4\r\n\r\nnope").await;
        assert_eq!(result.unwrap_err().to_string(), "GetQueueUrl: 400 nope");
        let (result, _) = asked("HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n<").await;
        assert!(matches!(result, Err(CallError::Malformed { .. })));
    }
}
