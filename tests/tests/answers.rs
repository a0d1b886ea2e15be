//! Clients that take messages and do not read them.

#![allow(clippy::print_stderr, reason = "how much memory it took is worth reading")]

use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use flotilla_tests::{Failure, Fleet, PATIENCE};
use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpSocket, TcpStream};

/// Messages of the largest size; a receive takes ten of them.
const LARGE: usize = 24;
const LARGE_BYTES: usize = 1_000_000;
/// Clients of one node that do not read: without a bound they would have a gigabyte of answers there.
const RUDE: usize = 120;
/// What a node may take at most: the room for answers and that for claims (384 MiB), the messages of one
/// answer once more while it is written, the log's and the state's caches, and what the allocator keeps.
const RESIDENT_MAX_KIB: u64 = 700 * 1_024;

/// The most that a process ever had in memory.
fn peak_kib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches("kB").trim().parse().unwrap()
}

/// Asks for ten messages, and reads nothing.
async fn rude(address: SocketAddr, queue: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    // What the kernel takes for it does not wait in the node.
    socket.set_recv_buffer_size(4_096).unwrap();
    let mut stream = socket.connect(address).await.unwrap();
    // It waits until nobody else is just being given them.
    let body = json!({
        "QueueUrl": queue,
        "MaxNumberOfMessages": 10,
        "VisibilityTimeout": 0,
        "WaitTimeSeconds": 20,
    });
    let body = body.to_string();
    let request = format!(
        "POST / HTTP/1.1\r\nhost: rude\r\ncontent-type: application/x-amz-json-1.0\r\n\
         x-amz-target: AmazonSQS.ReceiveMessage\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

/// Where all nodes share two cores, a request among so many may be too late, and is repeated.
fn done<T>(result: Result<T, Failure>) -> Option<T> {
    match result {
        Ok(done) => Some(done),
        Err(failure) => {
            assert!(failure.is_retryable(), "{failure}");
            eprintln!("{failure}");
            None
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_do_not_read_take_no_memory_and_hold_up_nobody() {
    let fleet = Fleet::start(3).await;
    let large = fleet.client(1).create_queue("large").await.unwrap();
    let small = fleet.client(1).create_queue("small").await.unwrap();
    let body = "m".repeat(LARGE_BYTES);
    for number in 0..LARGE {
        fleet.client(1 + number as u64 % 3).send(&large, &body).await.unwrap();
    }
    // Somebody with small messages, all the time.
    let (goes_on, served) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicUsize::new(0)));
    let polite: Vec<_> = (1..=3)
        .map(|id| {
            let (mut client, queue) = (fleet.client(id), small.clone());
            let (goes_on, served) = (goes_on.clone(), served.clone());
            tokio::spawn(async move {
                while goes_on.load(Ordering::SeqCst) {
                    done(client.send(&queue, "small").await);
                    for message in done(client.receive(&queue, 60, 1).await).unwrap_or_default() {
                        if done(client.delete(&queue, &message.receipt).await).is_some() {
                            served.fetch_add(1, Ordering::SeqCst);
                        }
                    }
                }
            })
        })
        .collect();
    let mut silent = Vec::new();
    let address = fleet.endpoint(1).parse().unwrap();
    for _ in 0..RUDE {
        silent.push(rude(address, &large).await);
    }
    // Each has its answer: what it asked for, or that there is no room for it.
    for stream in &silent {
        let answered = tokio::time::timeout(PATIENCE, stream.readable()).await;
        answered.expect("everybody is answered").unwrap();
    }
    // While they are there.
    let before = served.load(Ordering::SeqCst);
    let begin = Instant::now();
    while served.load(Ordering::SeqCst) < before + 60 {
        assert!(begin.elapsed() < PATIENCE, "small messages are held up");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // And somebody who reads gets large ones as well: who does not read loses its connection.
    for id in 1..=3 {
        let mut client = fleet.client(id);
        let begin = Instant::now();
        loop {
            match client.receive(&large, 0, 1).await {
                Ok(messages) if !messages.is_empty() => break,
                Ok(_) => {}
                Err(failure) => assert_eq!(failure.status, Some(503), "{failure}"),
            }
            assert!(begin.elapsed() < PATIENCE, "large messages are held up");
        }
    }
    goes_on.store(false, Ordering::SeqCst);
    for task in polite {
        task.await.unwrap();
    }
    for id in 1..=3 {
        let peak = peak_kib(fleet.pid(id).unwrap());
        eprintln!("node {id}: {peak} KiB at most");
        assert!(peak < RESIDENT_MAX_KIB, "node {id} had {peak} KiB in memory");
    }
    drop(silent);
}
