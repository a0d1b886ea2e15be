//! What a link costs over loopback, both nodes in one process: calls and stream frames per
//! second, CPU time per item (both sides together). Run with `--release`.
#![allow(clippy::print_stdout)]

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use flotilla_transport::{Handler, Lane, LocalIdentity, PeerConfig, PeerStream, Transport};
use flotilla_types::ids::{GroupId, NodeId};
use futures::future::BoxFuture;

const CALLS: usize = 300_000;
const FRAMES: usize = 1_000_000;
const BULK_FRAMES: usize = 4_000;

struct Echo;

impl Handler for Echo {
    fn call(
        &self,
        _: NodeId,
        _: GroupId,
        _: u32,
        payload: Bytes,
    ) -> BoxFuture<'static, Result<Bytes, String>> {
        Box::pin(std::future::ready(Ok(payload)))
    }

    fn stream(&self, _: NodeId, _: GroupId, _: u32, mut stream: PeerStream) {
        tokio::spawn(async move {
            while let Some(Ok(payload)) = stream.rx.next().await {
                if stream.tx.send(payload).await.is_err() {
                    break;
                }
            }
        });
    }
}

/// CPU time of this process so far, in seconds.
fn cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(") ").next().unwrap_or_default().split(' ');
    // utime and stime, in clock ticks of 10 ms.
    fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
}

struct Meter(Instant, f64);

impl Meter {
    fn start() -> Self {
        Self(Instant::now(), cpu())
    }

    fn report(self, what: &str, items: usize, transport: &Transport, lane: Lane) {
        let (seconds, cpu_seconds) = (self.0.elapsed().as_secs_f64(), cpu() - self.1);
        let counters = *transport.counters().lane(lane);
        println!(
            "{what:32} {:>9.0}/s  {:>6.2} us CPU each  ({:.1} frames per batch so far)",
            items as f64 / seconds,
            cpu_seconds * 1e6 / items as f64,
            counters.frames_sent as f64 / counters.batches_sent.max(1) as f64,
        );
    }
}

async fn calls(transport: &Transport, callers: usize, bytes: usize, total: usize) {
    let payload = Bytes::from(vec![7; bytes]);
    let meter = Meter::start();
    let tasks: Vec<_> = (0..callers)
        .map(|_| {
            let (transport, payload) = (transport.clone(), payload.clone());
            tokio::spawn(async move {
                for _ in 0..total / callers {
                    let timeout = Duration::from_secs(10);
                    transport
                        .call(NodeId(2), Lane::Forward, GroupId(1), 1, payload.clone(), timeout)
                        .await
                        .expect("the peer is in this process");
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("callers do not panic");
    }
    meter.report(&format!("calls, {callers} callers, {bytes} B"), total, transport, Lane::Forward);
}

async fn stream(transport: &Transport, lane: Lane, bytes: usize, total: usize) {
    let PeerStream { mut tx, mut rx } =
        transport.open(NodeId(2), lane, GroupId(1), 1).await.expect("the peer is in this process");
    let payload = Bytes::from(vec![7; bytes]);
    let meter = Meter::start();
    tokio::spawn(async move {
        for _ in 0..total {
            tx.send(payload.clone()).await.expect("the peer is in this process");
        }
    });
    for _ in 0..total {
        rx.next().await.expect("all come back").expect("the peer is in this process");
    }
    meter.report(&format!("stream frames and back, {bytes} B"), total, transport, lane);
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?.to_string();
    let identity: flotilla_transport::Identity = Arc::new(LocalIdentity::default);
    let peer = |node, address: &str| PeerConfig { node: NodeId(node), address: address.into() };
    // Node 2 only answers: nobody listens where it dials node 1.
    let answering = Transport::new(NodeId(2), identity.clone(), vec![peer(1, "127.0.0.1:9")]);
    answering.set_handler(Arc::new(Echo));
    tokio::spawn(answering.serve(listener, std::future::pending()));
    let asking = Transport::new(NodeId(1), identity, vec![peer(2, &address)]);

    calls(&asking, 1, 200, CALLS / 10).await;
    calls(&asking, 16, 200, CALLS).await;
    calls(&asking, 256, 200, CALLS).await;
    calls(&asking, 256, 4_096, CALLS / 4).await;
    stream(&asking, Lane::Log, 200, FRAMES).await;
    stream(&asking, Lane::Bulk, 262_144, BULK_FRAMES).await;
    Ok(())
}
