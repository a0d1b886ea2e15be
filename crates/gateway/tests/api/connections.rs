//! Clients that go, and servers that stop.

use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::json;

use crate::client::{Connection, Server, post};
use crate::query;

pub(crate) fn receiving(server: &Server) -> usize {
    server.fake.receiving.load(Ordering::SeqCst)
}

/// Waits for something that must happen.
pub(crate) async fn until(happened: impl Fn() -> bool) {
    let wait = async {
        while !happened() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), wait).await.expect("it happens in the end");
}

fn poll() -> Vec<u8> {
    let body = json!({"QueueUrl": "q", "WaitTimeSeconds": 20, "VisibilityTimeout": 600});
    post("ReceiveMessage", "", &body.to_string())
}

#[tokio::test]
async fn nothing_is_leased_for_a_caller_that_has_gone() {
    let server = Server::with_queue(json!({})).await;
    // On a fresh connection, on a used one, and with the sending half closed only.
    for way in 0..3 {
        let mut connection = Connection::open(&server.address).await;
        if way == 1 {
            connection.write(&post("ListQueues", "", "{}")).await;
            assert_eq!(connection.read().await.status, 200);
        }
        connection.write(&poll()).await;
        until(|| receiving(&server) == 1).await;
        let kept = match way {
            2 => {
                connection.half_close().await;
                Some(connection)
            }
            _ => {
                drop(connection);
                None
            }
        };
        until(|| receiving(&server) == 0).await;
        drop(kept);
    }
    server.ok("SendMessage", json!({"MessageBody": "m"})).await;
    assert_eq!(server.bodies(json!({})).await, ["m"]);
}

#[tokio::test]
async fn stopping_ends_long_polls_and_idle_connections() {
    let server = Server::with_queue(json!({})).await;
    let mut waiting = Connection::open(&server.address).await;
    waiting.write(&poll()).await;
    until(|| receiving(&server) == 1).await;
    server.stop.send(true).unwrap();
    let answer = waiting.read().await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "{}"));
    // The connection that created the queue is idle and open; serving ends all the same.
    let stopped = tokio::time::timeout(Duration::from_secs(10), server.served).await;
    stopped.expect("it stops").unwrap();
}

/// Found by chaos with nodes that are restarted: messages that were being taken stayed hidden, and a
/// receive that was repeated under its attempt id was told that there is nothing.
#[tokio::test]
async fn what_a_poll_finds_while_the_server_stops_is_answered() {
    let server = Server::with_queue(json!({})).await;
    server.ok("SendMessage", json!({"MessageBody": "late", "DelaySeconds": 5})).await;
    let mut waiting = Connection::open(&server.address).await;
    waiting.write(&poll()).await;
    until(|| receiving(&server) == 1).await;
    server.stop.send(true).unwrap();
    server.fake.advance(5);
    let answer = waiting.read().await;
    assert!(answer.status == 200 && answer.body.contains("late"), "{}", answer.body);
}

#[tokio::test]
async fn requests_on_one_connection_are_answered_in_order() {
    let server = Server::with_queue(json!({})).await;
    let mut connection = Connection::open(&server.address).await;
    let mut both = post("GetQueueUrl", "", "{\"QueueName\":\"q\"}");
    both.extend(post("ListQueues", "", "{\"QueueNamePrefix\":\"x\"}"));
    connection.write(&both).await;
    assert!(connection.read().await.body.contains("QueueUrl"));
    assert_eq!(connection.read().await.body, "{}");
}

#[tokio::test]
async fn a_connection_ends_with_a_body_that_is_not_read_and_says_so() {
    let server = Server::with_queue(json!({})).await;
    for (method, bytes, ends) in
        [("PUT", 100_000, true), ("OPTIONS", 100_000, true), ("PUT", 100, false)]
    {
        let mut connection = Connection::open(&server.address).await;
        let head = format!("{method} / HTTP/1.1\r\nHost: h\r\nContent-Length: {bytes}\r\n\r\n");
        connection.write(head.as_bytes()).await;
        if !ends {
            // What is skipped need not come with the head.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        connection.write(&vec![b'x'; bytes]).await;
        let answer = connection.read().await;
        assert_eq!(answer.headers.contains_key("connection"), ends, "{method} {bytes}");
        if !ends {
            connection.write(&post("ListQueues", "", "{}")).await;
            assert_eq!(connection.read().await.status, 200);
        }
    }
    // One that announces no length is read all the same.
    let mut connection = Connection::open(&server.address).await;
    for _ in 0..2 {
        let head = "POST / HTTP/1.1\r\nHost: h\r\nX-Amz-Target: AmazonSQS.ListQueues\r\n";
        let chunked = format!("{head}Transfer-Encoding: chunked\r\n\r\n2\r\n{{}}\r\n0\r\n\r\n");
        connection.write(chunked.as_bytes()).await;
        let answer = connection.read().await;
        assert_eq!((answer.status, answer.headers.get("connection")), (200, None));
    }
}

const SOON: Duration = Duration::from_millis(150);

#[tokio::test]
async fn a_body_that_does_not_arrive_in_time_is_refused_and_its_connection_ends() {
    let server = Server::start_with(|config| config.timeouts.body = SOON).await;
    let json = "Content-Type: application/x-amz-json-1.0\r\nX-Amz-Target: AmazonSQS.ListQueues";
    let form = "Content-Type: application/x-www-form-urlencoded";
    for (headers, lengths) in [
        (json, "Content-Length: 10"),
        (json, "Transfer-Encoding: chunked"),
        (form, "Content-Length: 10"),
    ] {
        let mut connection = Connection::open(&server.address).await;
        let head = format!("POST / HTTP/1.1\r\nHost: h\r\n{headers}\r\n{lengths}\r\n\r\n");
        connection.write(head.as_bytes()).await;
        // What comes piece by piece has no more time than the rest.
        let piece: &[u8] = if lengths.ends_with("chunked") { b"1\r\n{\r\n" } else { b"{" };
        connection.write(piece).await;
        let answer = connection.read().await;
        assert_eq!(answer.headers["x-flotilla-outcome"], "not-applied");
        assert_eq!(answer.headers["connection"], "close");
        let text = "The request body did not arrive in time.";
        if headers == json {
            let shape = "com.amazon.coral.service#RequestTimeoutException";
            assert_eq!(answer.refused(408, shape, "RequestTimeout;Sender"), text);
        } else {
            assert_eq!(query::refused(&answer, 408, "RequestTimeout"), text);
        }
        assert!(connection.rest().await.is_empty());
    }
}

#[tokio::test]
async fn a_connection_that_brings_no_request_in_time_ends() {
    let server = Server::start_with(|config| config.timeouts.head = SOON).await;
    let mut slow = Connection::open(&server.address).await;
    slow.write(b"POST / HTTP/1.1\r\nHost: h\r\nX-Amz-Ta").await;
    let mut idle = Connection::open(&server.address).await;
    idle.write(&post("ListQueues", "", "{}")).await;
    assert_eq!(idle.read().await.status, 200);
    // Neither is answered, and no request of either is lost.
    for connection in [&mut slow, &mut idle] {
        let rest = tokio::time::timeout(Duration::from_secs(20), connection.rest()).await;
        assert!(rest.expect("the connection is closed").is_empty());
    }
    let mut next = Connection::open(&server.address).await;
    next.write(&post("ListQueues", "", "{}")).await;
    assert_eq!(next.read().await.status, 200);
}

#[tokio::test]
async fn a_connection_beyond_the_bound_is_told_so_and_ends() {
    let server = Server::start_with(|config| config.capacity.connections = 1).await;
    let mut first = Connection::open(&server.address).await;
    let mut second = Connection::open(&server.address).await;
    let answer = second.read().await;
    assert_eq!((answer.status, answer.body.as_str()), (503, ""));
    assert_eq!(answer.headers["x-amzn-requestid"].len(), 36);
    assert_eq!(answer.headers["x-flotilla-outcome"], "not-applied");
    assert!(second.rest().await.is_empty());
    first.write(&post("ListQueues", "", "{}")).await;
    assert_eq!(first.read().await.status, 200);
    drop(first);
    // It takes a moment until the server knows. Who is taken hears nothing before it asks.
    let mut next = Connection::open(&server.address).await;
    while tokio::time::timeout(SOON, next.read()).await.is_ok() {
        next = Connection::open(&server.address).await;
    }
    next.write(&post("ListQueues", "", "{}")).await;
    assert_eq!(next.read().await.status, 200);
}

#[tokio::test]
async fn requests_beyond_the_bound_are_refused_at_once() {
    let server = Server::start_with(|config| config.capacity.requests = 1).await;
    let mut slow = Connection::open(&server.address).await;
    let request = post("ListQueues", "", "{}");
    let (begin, end) = request.split_at(request.len() - 1);
    slow.write(begin).await;
    // Until that one is in work.
    let mut answer = server.raw(&request).await;
    while answer.status == 200 {
        answer = server.raw(&request).await;
    }
    assert_eq!(answer.status, 503, "{answer:?}");
    assert_eq!(answer.headers["x-flotilla-outcome"], "not-applied");
    slow.write(end).await;
    assert_eq!(slow.read().await.status, 200);
    assert_eq!(server.raw(&request).await.status, 200);
}

#[tokio::test]
async fn bodies_beyond_the_bound_are_refused() {
    let server = Server::start_with(|config| config.capacity.request_bytes = 100).await;
    for (bytes, status) in [(100, 503), (50, 200)] {
        let mut connection = Connection::open(&server.address).await;
        let body = format!("{{}}{}", " ".repeat(bytes));
        connection.write(&post("ListQueues", "", &body)).await;
        let answer = connection.read().await;
        assert_eq!(answer.status, status, "{answer:?}");
        let outcome = answer.headers.get("x-flotilla-outcome").map(String::as_str);
        assert_eq!(outcome, (status == 503).then_some("not-applied"));
    }
}

/// It saw a broken pipe: the connection was closed over what it was still writing.
#[tokio::test]
async fn who_is_refused_while_it_writes_sees_the_answer() {
    let server = Server::start_with(|config| config.capacity.request_bytes = 100).await;
    let mut connection = Connection::open(&server.address).await;
    let request = post("ListQueues", "", &" ".repeat(1_000_000));
    let (begin, end) = request.split_at(request.len() / 2);
    connection.write(begin).await;
    tokio::time::sleep(SOON).await;
    connection.write(end).await;
    let answer = connection.read().await;
    assert_eq!(answer.status, 503, "{answer:?}");
    assert_eq!(answer.headers["x-flotilla-outcome"], "not-applied");
    connection.write(&post("ListQueues", "", "{}")).await;
    assert_eq!(connection.read().await.status, 200, "nothing of it is left in between");
}
