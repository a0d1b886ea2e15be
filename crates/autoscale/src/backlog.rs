//! How many messages a queue has that are not finished.

use std::time::Duration;

use flotilla_client::{CallError, Caller, Endpoint, ExchangeError, Signing};
use serde_json::{Value, json};
use tokio::time::timeout;

/// An endpoint that says nothing for so long is left for the next one, where there is one.
const SILENCE: Duration = Duration::from_secs(2);
const VISIBLE: &str = "ApproximateNumberOfMessages";
const IN_FLIGHT: &str = "ApproximateNumberOfMessagesNotVisible";

/// Which messages count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Count {
    /// Those that wait and those that somebody works on: what is not finished.
    #[default]
    Unfinished,
    /// Only those that wait. Long jobs then look like no work at all.
    Waiting,
}

/// What a queue says of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Messages that can be received.
    pub visible: u64,
    /// Messages that were received and not yet deleted.
    pub in_flight: u64,
}

impl Backlog {
    /// The messages that count.
    pub fn messages(&self, count: Count) -> u64 {
        match count {
            Count::Unfinished => self.visible.saturating_add(self.in_flight),
            Count::Waiting => self.visible,
        }
    }
}

/// Why a queue's backlog is not known.
#[derive(Debug, thiserror::Error)]
pub enum BacklogError {
    /// The endpoint did not do what was asked.
    #[error(transparent)]
    Call(#[from] CallError),
    /// It did, and left something out.
    #[error("the endpoint's answer has no {0}")]
    Missing(&'static str),
    /// It says nothing.
    #[error("no answer within {} s", SILENCE.as_secs())]
    Silent,
}

impl BacklogError {
    /// Whether another endpoint may do better.
    fn is_of_endpoint(&self) -> bool {
        match self {
            Self::Call(CallError::Exchange(_)) | Self::Silent => true,
            Self::Call(CallError::Refused { status, .. }) => *status >= 500,
            Self::Call(CallError::Malformed { .. }) | Self::Missing(_) => false,
        }
    }

    /// Servers close connections over which nothing came for a while.
    fn is_closed(&self) -> bool {
        matches!(self, Self::Call(CallError::Exchange(ExchangeError::Io(_))))
    }
}

/// Reads one queue's backlog, at one of several endpoints: at the next one when that does not answer.
#[derive(Debug)]
pub struct QueueReader {
    callers: Vec<Caller>,
    /// Which of them is asked.
    turn: usize,
    name: String,
    url: Option<String>,
}

impl QueueReader {
    /// Of the queue with this name at these endpoints, whether or not there is one yet. Signs with what
    /// the environment has.
    pub fn new(endpoints: &[Endpoint], name: &str) -> Self {
        let caller =
            |endpoint: &Endpoint| Caller::signed(endpoint, Signing::from_environment(endpoint));
        let callers = endpoints.iter().map(caller).collect();
        Self { callers, turn: 0, name: name.to_owned(), url: None }
    }

    /// What the queue says now.
    ///
    /// # Errors
    /// When it cannot be asked anywhere, or does not exist.
    pub async fn read(&mut self) -> Result<Backlog, BacklogError> {
        let mut left = self.callers.len();
        loop {
            let error = match self.read_here(left == 1).await {
                Err(error) if error.is_of_endpoint() => error,
                read => return read,
            };
            left = left.saturating_sub(1);
            if left == 0 {
                return Err(error);
            }
            self.turn = (self.turn + 1) % self.callers.len();
        }
    }

    async fn read_here(&mut self, is_last: bool) -> Result<Backlog, BacklogError> {
        let reads = async {
            match self.read_once().await {
                // Reading twice does no harm.
                Err(error) if error.is_closed() => self.read_once().await,
                read => read,
            }
        };
        if is_last {
            return reads.await;
        }
        timeout(SILENCE, reads).await.unwrap_or(Err(BacklogError::Silent))
    }

    async fn ask(&mut self, action: &'static str, input: &Value) -> Result<Value, CallError> {
        self.callers[self.turn].ask(action, input).await
    }

    async fn read_once(&mut self) -> Result<Backlog, BacklogError> {
        // Asked for again after an error: the queue may have been made anew.
        let url = match self.url.take() {
            Some(url) => url,
            None => self.find().await?,
        };
        let input = json!({ "QueueUrl": url, "AttributeNames": [VISIBLE, IN_FLIGHT] });
        let answer = self.ask("GetQueueAttributes", &input).await?;
        let backlog =
            Backlog { visible: number(&answer, VISIBLE)?, in_flight: number(&answer, IN_FLIGHT)? };
        self.url = Some(url);
        Ok(backlog)
    }

    async fn find(&mut self) -> Result<String, BacklogError> {
        let input = json!({ "QueueName": self.name });
        let answer = self.ask("GetQueueUrl", &input).await?;
        let url = answer["QueueUrl"].as_str().ok_or(BacklogError::Missing("QueueUrl"))?;
        Ok(url.to_owned())
    }
}

fn number(answer: &Value, name: &'static str) -> Result<u64, BacklogError> {
    let text = answer["Attributes"][name].as_str();
    text.and_then(|text| text.parse().ok()).ok_or(BacklogError::Missing(name))
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    /// Answers two requests on each connection, and closes it.
    async fn forgetful(listener: TcpListener) {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            for _ in 0..2 {
                let mut asked = Vec::new();
                while !asked.ends_with(b"}") {
                    stream.read_buf(&mut asked).await.unwrap();
                }
                let body = format!(
                    r#"{{"QueueUrl":"u","Attributes":{{"{VISIBLE}":"3","{IN_FLIGHT}":"1"}}}}"#
                );
                let length = body.len();
                let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{body}");
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        }
    }

    async fn listen() -> (TcpListener, Endpoint) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        (listener, endpoint)
    }

    const SAID: Backlog = Backlog { visible: 3, in_flight: 1 };

    #[tokio::test]
    async fn a_connection_that_was_closed_meanwhile_is_no_failure() {
        let (listener, endpoint) = listen().await;
        tokio::spawn(forgetful(listener));
        let mut reader = QueueReader::new(&[endpoint], "q");
        for _ in 0..3 {
            assert_eq!(reader.read().await.unwrap(), SAID);
        }
    }

    #[tokio::test]
    async fn an_endpoint_that_is_gone_or_silent_is_left_for_the_next_one() {
        let (gone, first) = listen().await;
        drop(gone);
        // Takes connections, and does not answer.
        let (silent, second) = listen().await;
        let (listener, third) = listen().await;
        let server = tokio::spawn(forgetful(listener));
        let mut reader = QueueReader::new(&[first, second, third], "q");
        assert_eq!(reader.read().await.unwrap(), SAID);
        // It stays where it is answered.
        assert_eq!((reader.turn, reader.read().await.unwrap()), (2, SAID));
        server.abort();
        drop((server.await, silent));
        assert!(reader.read().await.unwrap_err().is_of_endpoint(), "nobody is left");
    }

    /// What one endpoint of a service says, all others would say.
    #[test]
    fn who_is_refused_does_not_ask_elsewhere() {
        let refused = |status| CallError::Refused { action: "x", status, body: String::new() };
        assert!(!BacklogError::from(refused(400)).is_of_endpoint());
        assert!(BacklogError::from(refused(503)).is_of_endpoint());
    }

    #[test]
    fn numbers_are_texts() {
        let answer = json!({ "Attributes": { VISIBLE: "12", IN_FLIGHT: "x" } });
        assert_eq!(number(&answer, VISIBLE).unwrap(), 12);
        assert!(matches!(number(&answer, IN_FLIGHT), Err(BacklogError::Missing(IN_FLIGHT))));
        assert!(number(&json!({}), VISIBLE).is_err());
    }

    #[test]
    fn what_is_worked_on_counts_unless_told_otherwise() {
        let backlog = Backlog { visible: 3, in_flight: 4 };
        assert_eq!(backlog.messages(Count::default()), 7);
        assert_eq!(backlog.messages(Count::Waiting), 3);
    }
}
