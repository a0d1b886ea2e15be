//! A server on loopback and the smallest client for it.

use std::collections::BTreeMap;
use std::sync::Arc;

use flotilla_gateway::{Capacity, Config, Gateway, Timeouts, serve};
use flotilla_types::names::AccountId;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::fake::Fake;

pub(crate) struct Server {
    pub(crate) fake: Arc<Fake>,
    pub(crate) address: String,
    pub(crate) stop: watch::Sender<bool>,
    pub(crate) served: JoinHandle<()>,
    pub(crate) registry: Registry,
    queue: &'static str,
    connection: tokio::sync::Mutex<Option<Connection>>,
}

pub(crate) struct Connection(BufReader<TcpStream>);

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("not JSON: {self:?}"))
    }

    /// Asserts an error and gives its text.
    #[track_caller]
    pub(crate) fn refused(&self, status: u16, shape: &str, query_error: &str) -> String {
        let body = self.json();
        assert_eq!((self.status, body["__type"].as_str()), (status, Some(shape)), "{self:?}");
        assert_eq!(self.headers["x-amzn-query-error"], query_error);
        assert_eq!(self.headers["content-type"], "application/x-amz-json-1.0");
        assert!(self.headers.contains_key("x-flotilla-outcome"));
        body["message"].as_str().unwrap().to_owned()
    }

    #[track_caller]
    pub(crate) fn invalid(&self) -> String {
        self.refused(
            400,
            "com.amazon.coral.service#InvalidParameterValueException",
            "InvalidParameterValue;Sender",
        )
    }

    #[track_caller]
    pub(crate) fn missing(&self) -> String {
        self.refused(
            400,
            "com.amazon.coral.service#MissingRequiredParameterException",
            "MissingParameter;Sender",
        )
    }

    #[track_caller]
    pub(crate) fn sqs(&self, status: u16, shape: &str, code: &str) -> String {
        let query_error = format!("{code};Sender");
        self.refused(status, &format!("com.amazonaws.sqs#{shape}"), &query_error)
    }
}

impl Connection {
    pub(crate) async fn open(address: &str) -> Self {
        Self(BufReader::new(TcpStream::connect(address).await.unwrap()))
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) {
        self.0.get_mut().write_all(bytes).await.unwrap();
    }

    /// Closes the sending half only.
    pub(crate) async fn half_close(&mut self) {
        self.0.get_mut().shutdown().await.unwrap();
    }

    /// What still comes until the server closes the connection.
    pub(crate) async fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        self.0.read_to_end(&mut rest).await.unwrap();
        rest
    }

    pub(crate) async fn read(&mut self) -> Answer {
        let mut line = String::new();
        self.0.read_line(&mut line).await.unwrap();
        let status = line.split(' ').nth(1).unwrap_or_else(|| panic!("{line:?}")).parse().unwrap();
        let mut headers = BTreeMap::new();
        loop {
            line.clear();
            self.0.read_line(&mut line).await.unwrap();
            let Some((name, value)) = line.trim_end().split_once(": ") else {
                break;
            };
            headers.insert(name.to_ascii_lowercase(), value.to_owned());
        }
        let length = headers.get("content-length").map_or(0, |text| text.parse().unwrap());
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).await.unwrap();
        Answer { status, headers, body: String::from_utf8(body).unwrap() }
    }
}

pub(crate) fn post(action: &str, headers: &str, body: &str) -> Vec<u8> {
    format!(
        "POST / HTTP/1.1\r\nHost: sqs.test:9324\r\nContent-Type: application/x-amz-json-1.0\r\n\
         X-Amz-Target: AmazonSQS.{action}\r\n{headers}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    /// With another configuration than usual.
    pub(crate) async fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let fake = Arc::new(Fake::default());
        let mut config = Config {
            account: AccountId::new("000000000000").unwrap(),
            region: "us-east-1".into(),
            public_url: None,
            timeouts: Timeouts::default(),
            capacity: Capacity::default(),
        };
        change(&mut config);
        let mut registry = Registry::default();
        let gateway = Arc::new(Gateway::new(config, fake.clone(), &mut registry));
        let (stop, stopped) = watch::channel(false);
        let served = tokio::spawn(serve(gateway, listener, stopped));
        Self { fake, address, stop, served, registry, queue: "q", connection: None.into() }
    }

    /// With a queue `q`.
    pub(crate) async fn with_queue(attributes: Value) -> Self {
        let server = Self::start().await;
        server.create(attributes).await;
        server
    }

    /// With a FIFO queue `q.fifo`, which takes the place of `q` in all that follows.
    pub(crate) async fn with_fifo_queue(mut attributes: Value) -> Self {
        let server = Self { queue: "q.fifo", ..Self::start().await };
        attributes["FifoQueue"] = "true".into();
        server.create(attributes).await;
        server
    }

    async fn create(&self, attributes: Value) {
        let body = json!({"QueueName": self.queue, "Attributes": attributes});
        let answer = self.call("CreateQueue", body).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }

    /// One request on the connection that all requests of this kind use.
    pub(crate) async fn raw(&self, bytes: &[u8]) -> Answer {
        let mut connection = self.connection.lock().await;
        if connection.is_none() {
            *connection = Some(Connection::open(&self.address).await);
        }
        let open = connection.as_mut().unwrap();
        open.write(bytes).await;
        open.read().await
    }

    pub(crate) async fn call(&self, action: &str, body: Value) -> Answer {
        self.raw(&post(action, "", &body.to_string())).await
    }

    /// An action on queue `q` that must succeed.
    #[track_caller]
    pub(crate) fn ok(&self, action: &str, body: Value) -> impl Future<Output = Value> {
        let caller = std::panic::Location::caller();
        let request = self.on_queue(action, body);
        async move {
            let answer = request.await;
            assert_eq!(answer.status, 200, "{caller}: {answer:?}");
            if answer.body.is_empty() { Value::Null } else { answer.json() }
        }
    }

    /// An action on queue `q`.
    pub(crate) async fn on_queue(&self, action: &str, mut body: Value) -> Answer {
        body["QueueUrl"] = format!("http://sqs.test:9324/000000000000/{}", self.queue).into();
        self.call(action, body).await
    }

    /// Bodies of what one receive returns.
    pub(crate) async fn bodies(&self, request: Value) -> Vec<String> {
        let answer = self.ok("ReceiveMessage", request).await;
        let messages = answer["Messages"].as_array().cloned().unwrap_or_default();
        messages.iter().map(|message| message["Body"].as_str().unwrap().to_owned()).collect()
    }

    /// Handle of the single message that one receive returns.
    pub(crate) async fn handle(&self, request: Value) -> String {
        let answer = self.ok("ReceiveMessage", request).await;
        answer["Messages"][0]["ReceiptHandle"].as_str().expect("a message").to_owned()
    }
}
