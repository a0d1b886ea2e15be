//! One keep-alive connection that carries one request at a time.

use std::fmt;
use std::io;
use std::str::FromStr;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::head::{self, HeadError};
use crate::tls;

const PLAIN: &str = "http://";
const SECURE: &str = "https://";
const SECURE_PORT: u16 = 443;

/// Twice what a long poll may take: an answer later than this is none.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(40);
const READ_BYTES: usize = 16 * 1024;

/// Where a server is: `http://host:port`, `https://host` or `https://host:port`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    authority: String,
    host: String,
    port: u16,
    tls: bool,
}

impl Endpoint {
    /// `host:port`, or `host` where the port is the scheme's own: as a host header needs it.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// Without the port.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Whether the server must prove who it is.
    pub fn is_secure(&self) -> bool {
        self.tls
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { SECURE } else { PLAIN };
        write!(f, "{scheme}{}", self.authority)
    }
}

/// The text is none of what an [`Endpoint`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an endpoint is http://host:port, https://host or https://host:port")]
pub struct EndpointError;

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        let (rest, tls) = match (text.strip_prefix(PLAIN), text.strip_prefix(SECURE)) {
            (Some(rest), _) => (rest, false),
            (None, Some(rest)) => (rest, true),
            (None, None) => return Err(EndpointError),
        };
        let authority = rest.trim_end_matches('/');
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) => (host, port.parse().map_err(|_| EndpointError)?),
            None if tls => (authority, SECURE_PORT),
            None => return Err(EndpointError),
        };
        let plain = host.bytes().all(|byte| byte.is_ascii_graphic() && !b"/?#@".contains(&byte));
        if host.is_empty() || !plain {
            return Err(EndpointError);
        }
        // Who leaves the port out says the host alone, and so do signatures.
        let authority = if tls && port == SECURE_PORT { host } else { authority };
        Ok(Self { authority: authority.to_owned(), host: host.to_owned(), port, tls })
    }
}

/// Why there is no answer. Whether the server did what was asked is unknown.
#[derive(Debug, thiserror::Error)]
pub enum ExchangeError {
    /// The connection failed or ended.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// What came is no answer that can be read.
    #[error(transparent)]
    Head(#[from] HeadError),
    /// Nothing came.
    #[error("no answer within {} s", ANSWER_TIMEOUT.as_secs())]
    Timeout,
}

/// An answer: the status, and the body as it came.
#[derive(Debug)]
pub struct Answer<'a> {
    /// HTTP status.
    pub status: u16,
    /// As it came.
    pub body: &'a [u8],
}

/// What bytes go over, plain or not.
trait Wire: AsyncRead + AsyncWrite + fmt::Debug + Send + Sync + Unpin {}

impl<T: AsyncRead + AsyncWrite + fmt::Debug + Send + Sync + Unpin> Wire for T {}

/// A connection that is opened when it is first needed, and again after an error.
#[derive(Debug)]
pub struct Connection {
    endpoint: Endpoint,
    stream: Option<Box<dyn Wire>>,
    buffer: Vec<u8>,
}

impl Connection {
    /// Not yet open.
    pub fn new(endpoint: Endpoint) -> Self {
        Self { endpoint, stream: None, buffer: Vec::with_capacity(READ_BYTES) }
    }

    /// Sends a whole request and waits for its answer. A future that is dropped closes the
    /// connection, because the answer that is still to come would be taken for the next one's.
    ///
    /// # Errors
    /// When there is no whole answer.
    pub async fn exchange(&mut self, request: &[u8]) -> Result<Answer<'_>, ExchangeError> {
        let whole = async {
            let mut stream = match self.stream.take() {
                Some(stream) => stream,
                None => open(&self.endpoint).await?,
            };
            stream.write_all(request).await?;
            // TLS keeps what the socket did not take at once.
            stream.flush().await?;
            let head = read_answer(&mut *stream, &mut self.buffer).await?;
            if !head.closes {
                self.stream = Some(stream);
            }
            Ok::<_, ExchangeError>(head)
        };
        let head = match tokio::time::timeout(ANSWER_TIMEOUT, whole).await {
            Ok(result) => result?,
            Err(_) => return Err(ExchangeError::Timeout),
        };
        let body = &self.buffer[head.head_len..head.head_len + head.body_len];
        Ok(Answer { status: head.status, body })
    }
}

async fn open(endpoint: &Endpoint) -> io::Result<Box<dyn Wire>> {
    let host = endpoint.host();
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let stream = TcpStream::connect((address, endpoint.port)).await?;
    stream.set_nodelay(true)?;
    if !endpoint.tls {
        return Ok(Box::new(stream));
    }
    Ok(Box::new(tls::wrap(stream, address).await?))
}

async fn read_answer(
    stream: &mut (impl AsyncRead + Unpin + ?Sized),
    buffer: &mut Vec<u8>,
) -> Result<head::Head, ExchangeError> {
    buffer.clear();
    let mut head = None;
    loop {
        if head.is_none() {
            head = head::parse(buffer)?;
        }
        if let Some(head) = head {
            let len = head.head_len + head.body_len;
            if buffer.len() >= len {
                return Ok(head);
            }
            buffer.reserve(len - buffer.len());
        } else {
            buffer.reserve(READ_BYTES);
        }
        if stream.read_buf(buffer).await? == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::BufStream;
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn endpoints_are_read() {
        let endpoint: Endpoint = "http://127.0.0.1:9324/".parse().unwrap();
        assert_eq!(endpoint.authority(), "127.0.0.1:9324");
        assert_eq!(endpoint.to_string(), "http://127.0.0.1:9324");
        assert!(!endpoint.is_secure());
        for wrong in ["http://a", "http://:1", "http://a:x", "http://a/b:1", "a:1", "https://"] {
            assert_eq!(wrong.parse::<Endpoint>(), Err(EndpointError), "{wrong}");
        }
    }

    #[test]
    fn secure_endpoints_may_leave_out_their_port() {
        for text in
            ["https://sqs.eu-west-1.amazonaws.com/", "https://sqs.eu-west-1.amazonaws.com:443"]
        {
            let endpoint: Endpoint = text.parse().unwrap();
            assert_eq!(endpoint.authority(), "sqs.eu-west-1.amazonaws.com");
            assert_eq!(endpoint.host(), endpoint.authority());
            assert!(endpoint.is_secure() && endpoint.port == 443);
        }
        let endpoint: Endpoint = "https://[::1]:8443".parse().unwrap();
        assert_eq!((endpoint.host(), endpoint.port), ("[::1]", 8443));
        assert_eq!(endpoint.to_string(), "https://[::1]:8443");
    }

    /// Serves one answer in the given pieces, each after a request or at once.
    async fn serve(listener: TcpListener, connections: Vec<Vec<&'static str>>) {
        for answers in connections {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 4];
            for answer in answers {
                stream.read_exact(&mut request).await.unwrap();
                for piece in answer.split('|') {
                    stream.write_all(piece.as_bytes()).await.unwrap();
                    tokio::task::yield_now().await;
                }
            }
        }
    }

    #[tokio::test]
    async fn a_connection_is_kept_until_it_ends_and_is_opened_again() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = tokio::spawn(serve(
            listener,
            vec![
                vec![
                    "HTTP/1.1 200 OK\r\nconte|nt-length: 4\r\n\r\nab|cd",
                    "HTTP/1.1 400 Bad\r\ncontent-length: 1\r\nconnection: close\r\n\r\nx",
                ],
                vec!["HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nshort"],
                vec!["HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"],
            ],
        ));
        let mut connection = Connection::new(format!("http://127.0.0.1:{port}").parse().unwrap());
        let answer = connection.exchange(b"one.").await.unwrap();
        assert_eq!((answer.status, answer.body), (200, &b"abcd"[..]));
        let answer = connection.exchange(b"two.").await.unwrap();
        assert_eq!((answer.status, answer.body), (400, &b"x"[..]));
        let cut = connection.exchange(b"cut.").await.unwrap_err();
        assert!(matches!(cut, ExchangeError::Io(_)), "{cut}");
        assert_eq!(connection.exchange(b"end.").await.unwrap().body, b"");
        server.await.unwrap();
    }

    #[tokio::test]
    async fn nothing_of_a_request_stays_in_a_buffer() {
        let (near, mut far) = tokio::io::duplex(64);
        let mut connection = Connection::new("http://a:1".parse().unwrap());
        connection.stream = Some(Box::new(BufStream::new(near)));
        let server = async {
            far.read_exact(&mut [0; 4]).await.unwrap();
            far.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        };
        let both = async { tokio::join!(connection.exchange(b"one."), server) };
        let (answer, ()) = tokio::time::timeout(Duration::from_secs(10), both).await.unwrap();
        assert_eq!(answer.unwrap().status, 200);
    }
}
