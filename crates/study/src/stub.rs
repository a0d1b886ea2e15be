//! A queue in memory behind a socket, which can be told to misbehave: what the judge is tested with.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use flotilla_client::Endpoint;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// What is wrong with a stub.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    /// The message with this number is acknowledged and dropped.
    Lose(u64),
    /// It is handed out twice.
    Repeat(u64),
    /// A letter of its body is another one.
    Damage(u64),
    /// It is refused with a status of 503, and dropped.
    Refuse(u64),
}

#[derive(Debug)]
struct Stub {
    fault: Fault,
    sent: u64,
    waiting: VecDeque<String>,
}

/// Serves on the current `LocalSet` until that ends.
pub(crate) async fn start(fault: Fault) -> Endpoint {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    let stub = Rc::new(RefCell::new(Stub { fault, sent: 0, waiting: VecDeque::new() }));
    tokio::task::spawn_local(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::task::spawn_local(serve(stub.clone(), stream));
        }
    });
    endpoint
}

async fn serve(stub: Rc<RefCell<Stub>>, mut stream: TcpStream) {
    let mut bytes = Vec::new();
    while let Some((action, body)) = read_request(&mut stream, &mut bytes).await {
        let answer = stub.borrow_mut().answer(&action, &body);
        let (status, body) = match answer {
            Some(body) => ("200 OK", body.to_string()),
            None => ("503 Busy", String::new()),
        };
        if body == "{}" {
            // A long poll that finds nothing takes a while.
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        stream.write_all(answer.as_bytes()).await.unwrap();
    }
}

async fn read_request(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> Option<(String, Value)> {
    loop {
        let text = String::from_utf8_lossy(bytes).into_owned();
        if let Some((head, rest)) = text.split_once("\r\n\r\n") {
            let header = |name: &str| {
                let value = head.lines().find_map(|line| line.strip_prefix(name));
                value.unwrap().trim().to_owned()
            };
            let len: usize = header("content-length:").parse().unwrap();
            if rest.len() >= len {
                bytes.drain(..head.len() + 4 + len);
                let action = header("x-amz-target: AmazonSQS.");
                return Some((action, serde_json::from_str(&rest[..len]).unwrap()));
            }
        }
        if stream.read_buf(bytes).await.ok()? == 0 {
            return None;
        }
    }
}

impl Stub {
    fn answer(&mut self, action: &str, body: &Value) -> Option<Value> {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let entries = || body["Entries"].as_array().unwrap();
        let all = |entries: &Vec<Value>| {
            let ids: Vec<Value> = entries.iter().map(|entry| json!({"Id": entry["Id"]})).collect();
            Some(json!({ "Successful": ids }))
        };
        match action {
            "CreateQueue" | "GetQueueUrl" => Some(json!({"QueueUrl": "http://stub/0/queue"})),
            "SendMessage" => self.take(text(&body["MessageBody"])).then(|| json!({"ok": true})),
            "SendMessageBatch" => {
                entries().iter().for_each(|entry| {
                    self.take(text(&entry["MessageBody"]));
                });
                all(entries())
            }
            "ReceiveMessage" => {
                let most = body["MaxNumberOfMessages"].as_u64().unwrap() as usize;
                let most = most.min(self.waiting.len());
                let message = |body| json!({"Body": body, "ReceiptHandle": "h\"1"});
                let messages: Vec<Value> = self.waiting.drain(..most).map(message).collect();
                Some(if messages.is_empty() { json!({}) } else { json!({"Messages": messages}) })
            }
            "DeleteMessageBatch" => {
                assert!(entries().iter().all(|entry| entry["ReceiptHandle"] == "h\"1"));
                all(entries())
            }
            "DeleteMessage" | "DeleteQueue" => Some(json!({})),
            other => panic!("{other} is not expected"),
        }
    }

    /// Whether the message is acknowledged.
    fn take(&mut self, body: String) -> bool {
        let number = self.sent;
        self.sent += 1;
        match self.fault {
            Fault::Lose(at) if at == number => {}
            Fault::Refuse(at) if at == number => return false,
            Fault::Damage(at) if at == number => self.waiting.push_back(body.replace('z', "Z")),
            Fault::Repeat(at) if at == number => {
                self.waiting.push_back(body.clone());
                self.waiting.push_back(body);
            }
            _ => self.waiting.push_back(body),
        }
        true
    }
}
