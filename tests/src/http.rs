//! The least of HTTP/1.1 that a test needs, so that it knows what happened to each request.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use tokio::io::{AsyncRead as _, AsyncReadExt as _, AsyncWriteExt as _, ReadBuf};
use tokio::time::{sleep, timeout};

use crate::net::TcpStream;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// An answer as it came.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    headers: Vec<(String, String)>,
    /// Body as text; this API knows no other.
    pub body: String,
}

impl Answer {
    /// A header's value; `name` in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }
}

/// No answer.
#[derive(Clone, Debug)]
pub enum HttpError {
    /// The request never left.
    NotSent(String),
    /// It may have arrived.
    NoAnswer(String),
}

/// One connection to one address, made when it is needed.
#[derive(Debug)]
pub struct Connection {
    address: String,
    stream: Option<TcpStream>,
    slowly: bool,
}

impl Connection {
    /// To `host:port`.
    pub fn new(address: impl Into<String>) -> Self {
        Self { address: address.into(), stream: None, slowly: false }
    }

    /// From now on takes answers in small pieces, with pauses.
    pub fn read_slowly(&mut self) {
        self.slowly = true;
    }

    /// Where to.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// One request and its answer.
    ///
    /// # Errors
    /// Without an answer within `patience`; the connection is closed then.
    pub async fn request(
        &mut self,
        head: &str,
        body: &str,
        patience: Duration,
    ) -> Result<Answer, HttpError> {
        let mut stream = match self.kept().await {
            Some(stream) => stream,
            None => connect(&self.address).await?,
        };
        let host = &self.address;
        let length = body.len();
        let request = format!("{head}\r\nhost: {host}\r\ncontent-length: {length}\r\n\r\n{body}");
        let no_answer = |error: &dyn std::fmt::Display| HttpError::NoAnswer(error.to_string());
        let exchange = async {
            stream.write_all(request.as_bytes()).await?;
            read_answer(&mut stream, self.slowly).await
        };
        let answer = match timeout(patience, exchange).await {
            Ok(answer) => answer.map_err(|error| no_answer(&error))?,
            Err(_) => return Err(no_answer(&format!("nothing within {patience:?}"))),
        };
        if answer.header("connection") != Some("close") {
            self.stream = Some(stream);
        }
        Ok(answer)
    }

    /// The connection of the request before, if nobody closed it meanwhile: a request on one that is closed
    /// leaves open what became of it, for nothing.
    async fn kept(&mut self) -> Option<TcpStream> {
        let mut stream = self.stream.take()?;
        let mut byte = [0];
        let silent = poll_fn(|context| {
            let read = Pin::new(&mut stream).poll_read(context, &mut ReadBuf::new(&mut byte));
            Poll::Ready(read.is_pending())
        });
        silent.await.then_some(stream)
    }

    /// `GET`.
    ///
    /// # Errors
    /// As [`Connection::request`].
    pub async fn get(&mut self, path: &str) -> Result<Answer, HttpError> {
        self.request(&format!("GET {path} HTTP/1.1"), "", Duration::from_secs(3)).await
    }
}

async fn connect(address: &str) -> Result<TcpStream, HttpError> {
    let stream = match timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(HttpError::NotSent(error.to_string())),
        Err(_) => return Err(HttpError::NotSent("no connection in time".into())),
    };
    // Small requests must not wait for each other's acknowledgements.
    stream.set_nodelay(true).map_err(|error| HttpError::NotSent(error.to_string()))?;
    Ok(stream)
}

/// What a slow reader takes at once, and what it waits before that.
const SLOW_BYTES: usize = 256;
const SLOW_PAUSE: Duration = Duration::from_millis(20);

async fn read_some(
    stream: &mut TcpStream,
    read: &mut Vec<u8>,
    slowly: bool,
) -> std::io::Result<usize> {
    if !slowly {
        return stream.read_buf(read).await;
    }
    sleep(SLOW_PAUSE).await;
    let mut some = [0; SLOW_BYTES];
    let count = stream.read(&mut some).await?;
    read.extend_from_slice(&some[..count]);
    Ok(count)
}

async fn read_answer(stream: &mut TcpStream, slowly: bool) -> std::io::Result<Answer> {
    let bad = |what: &str| std::io::Error::new(std::io::ErrorKind::InvalidData, what.to_owned());
    let mut read = Vec::with_capacity(4_096);
    let head_end = loop {
        if let Some(end) = read.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            break end;
        }
        if read_some(stream, &mut read, slowly).await? == 0 {
            return Err(bad("closed before the answer"));
        }
    };
    let head = std::str::from_utf8(&read[..head_end]).map_err(|_| bad("head is not text"))?;
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok());
    let status = status.ok_or_else(|| bad("no status"))?;
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let length: usize = length.and_then(|(_, value)| value.parse().ok()).unwrap_or(0);
    let mut body = read.split_off(head_end + 4);
    while body.len() < length {
        if read_some(stream, &mut body, slowly).await? == 0 {
            return Err(bad("closed within the answer"));
        }
    }
    let body = String::from_utf8(body).map_err(|_| bad("body is not text"))?;
    Ok(Answer { status, headers, body })
}
