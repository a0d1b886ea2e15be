//! The autoscaler at an endpoint such as AWS's: with TLS, and with requests that must be signed.

use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use aws_sdk_sqs::config::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use flotilla_tests::{Connection, PATIENCE, binary, free_ports};
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::PrivatePkcs8KeyDer;

const KEY: &str = "AKIDEXAMPLE";
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
const TOKEN: &str = "a session's token";
const REGION: &str = "eu-central-1";
const VISIBLE: u32 = 7;
/// Between the clocks of two processes on one machine, and what a request takes.
const SECONDS_APART: u64 = 30;

/// An endpoint whose certificate was signed by an authority that nobody else knows.
struct Endpoint {
    url: String,
    /// The authority's certificate.
    authority: String,
}

async fn endpoint() -> Endpoint {
    let authority_key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = params.self_signed(&authority_key).unwrap();
    let key = KeyPair::generate().unwrap();
    let own = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let own = own.signed_by(&key, &authority, &authority_key).unwrap();
    let key = PrivatePkcs8KeyDer::from(key.serialize_der());
    let config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![own.der().clone()], key.into())
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = format!("localhost:{}", listener.local_addr().unwrap().port());
    let url = format!("https://{host}");
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(serve(acceptor.clone(), stream, host.clone()));
        }
    });
    Endpoint { url, authority: authority.pem() }
}

/// One request after the other, as long as they are signed as they should be.
async fn serve(acceptor: TlsAcceptor, stream: TcpStream, host: String) {
    // Somebody who does not trust this endpoint hangs up.
    let Ok(mut stream) = acceptor.accept(stream).await else { return };
    let mut read = Vec::new();
    while stream.read_buf(&mut read).await.is_ok_and(|count| count > 0) {
        if !read.ends_with(b"}") {
            continue;
        }
        let request = String::from_utf8(std::mem::take(&mut read)).unwrap();
        let (head, body) = request.split_once("\r\n\r\n").unwrap();
        let (status, answer) = match is_signed(head, body, &host) {
            false => ("403 Forbidden", r#"{"__type":"SignatureDoesNotMatch"}"#.to_owned()),
            true => ("200 OK", answer(head)),
        };
        let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n", answer.len());
        stream.write_all((head + &answer).as_bytes()).await.unwrap();
        stream.flush().await.unwrap();
    }
}

fn answer(head: &str) -> String {
    if head.contains("AmazonSQS.GetQueueUrl") {
        return r#"{"QueueUrl":"https://q"}"#.to_owned();
    }
    format!(
        r#"{{"Attributes":{{"ApproximateNumberOfMessages":"{VISIBLE}",
        "ApproximateNumberOfMessagesNotVisible":"0"}}}}"#
    )
}

/// Whether somebody who knows the secret, and uses AWS's own code, comes to the same signature.
fn is_signed(head: &str, body: &str, host: &str) -> bool {
    let header = |name: &str| {
        let lines = head.lines().filter_map(|line| line.split_once(": "));
        lines.into_iter().find(|(known, _)| *known == name).map(|(_, value)| value)
    };
    let authorization = header("authorization").unwrap();
    assert!(authorization.contains(&format!("Credential={KEY}/")), "{authorization}");
    assert_eq!(header("x-amz-security-token"), Some(TOKEN));
    let (_, said) = authorization.rsplit_once("Signature=").unwrap();
    let identity =
        Credentials::new(KEY, SECRET, Some(TOKEN.to_owned()), None, "of the test").into();
    let headers = ["content-type", "host", "x-amz-target"];
    let headers: Vec<_> = headers.iter().map(|name| (*name, header(name).unwrap())).collect();
    let now = SystemTime::now();
    (0..=SECONDS_APART).any(|seconds| {
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region(REGION)
            .name("sqs")
            .time(now - Duration::from_secs(seconds))
            .settings(SigningSettings::default())
            .build()
            .unwrap()
            .into();
        let url = format!("https://{host}/");
        let body = SignableBody::Bytes(body.as_bytes());
        let request = SignableRequest::new("POST", url, headers.iter().copied(), body).unwrap();
        sign(request, &params).unwrap().signature() == said
    })
}

/// A controller that only looks, and ends with its test.
struct Watching {
    process: Child,
    page: Connection,
    _dir: TempDir,
}

impl Watching {
    fn begin(endpoint: &str, authority: &str, secret: &str) -> Self {
        let listen = format!("127.0.0.1:{}", free_ports(1)[0]);
        let dir = tempfile::tempdir().unwrap();
        let roots = dir.path().join("authority.pem");
        std::fs::write(&roots, authority).unwrap();
        let mut command = Command::new(binary());
        command
            .args(["autoscale", "--endpoint", endpoint, "--queue", "q", "--processing-ms", "100"])
            .args(["--interval-ms", "50", "--dry-run", "--listen", &listen])
            .env("SSL_CERT_FILE", roots)
            .env_remove("SSL_CERT_DIR")
            .env("AWS_ACCESS_KEY_ID", KEY)
            .env("AWS_SECRET_ACCESS_KEY", secret)
            .env("AWS_SESSION_TOKEN", TOKEN)
            .env("AWS_REGION", REGION)
            .stdin(Stdio::null());
        let process = command.spawn().unwrap();
        Self { process, page: Connection::new(listen), _dir: dir }
    }

    async fn until(&mut self, name: &str, holds: impl Fn(f64) -> bool) {
        let begin = Instant::now();
        loop {
            let page = self.page.get("/metrics").await.map(|answer| answer.body);
            let page = page.unwrap_or_default();
            let line = page.lines().find(|line| line.starts_with(&format!("{name}{{")));
            let number = line.and_then(|line| line.rsplit(' ').next()?.parse().ok());
            if number.is_some_and(&holds) {
                return;
            }
            assert!(begin.elapsed() < PATIENCE, "{name} is {number:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queues_are_read_over_tls_by_requests_that_are_signed() {
    const MESSAGES: &str = "flotilla_autoscale_visible_messages";
    const FAILURES: &str = "flotilla_autoscale_read_failures_total";
    let endpoint = endpoint().await;
    let mut watching = Watching::begin(&endpoint.url, &endpoint.authority, SECRET);
    watching.until(MESSAGES, |count| count == f64::from(VISIBLE)).await;
    drop(watching);

    // With another secret nothing is answered, and nothing is said to somebody else's endpoint.
    let mut watching = Watching::begin(&endpoint.url, &endpoint.authority, "another");
    watching.until(FAILURES, |count| count >= 3.0).await;
    watching.until(MESSAGES, f64::is_nan).await;
    drop(watching);
    let stranger = self::endpoint().await;
    let mut watching = Watching::begin(&endpoint.url, &stranger.authority, SECRET);
    watching.until(FAILURES, |count| count >= 3.0).await;
    watching.until(MESSAGES, f64::is_nan).await;
}
