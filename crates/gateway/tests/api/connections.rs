//! Clients that go, and servers that stop.

use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::json;

use crate::client::{Connection, Server, post};

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
