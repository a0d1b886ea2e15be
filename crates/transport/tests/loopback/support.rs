//! Nodes that answer in ways that tests can steer.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use flotilla_transport::{
    Handler, Lane, LinkPhase, LocalIdentity, PeerConfig, PeerStream, Transport,
};
use flotilla_types::ids::{GroupId, NodeId};
use futures::future::BoxFuture;
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};
use tokio_util::sync::CancellationToken;

pub(crate) const ONE: NodeId = NodeId(1);
pub(crate) const TWO: NodeId = NodeId(2);
/// Far more than anything here takes.
pub(crate) const LONG: Duration = Duration::from_secs(60);

pub(crate) const ECHO: u32 = 1;
/// Answers when the gate opens; as a stream: reads and echoes only from then on.
pub(crate) const HELD: u32 = 2;
pub(crate) const REFUSED: u32 = 3;
/// Gives the call up without an answer.
pub(crate) const LOST: u32 = 4;
/// Answers with much more than was asked with.
pub(crate) const LARGE: u32 = 5;
pub(crate) const LARGE_BYTES: usize = 8 * 1_048_576;

pub(crate) struct Gated {
    pub(crate) gate: watch::Sender<bool>,
}

impl Gated {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { gate: watch::channel(false).0 })
    }

    pub(crate) fn open(&self) {
        self.gate.send_replace(true);
    }
}

impl Handler for Gated {
    fn call(
        &self,
        from: NodeId,
        group: GroupId,
        method: u32,
        payload: Bytes,
    ) -> BoxFuture<'static, Result<Bytes, String>> {
        let mut gate = self.gate.subscribe();
        Box::pin(async move {
            match method {
                ECHO => Ok(payload),
                HELD => {
                    gate.wait_for(|open| *open).await.unwrap();
                    Ok(payload)
                }
                LARGE => Ok(vec![0; LARGE_BYTES].into()),
                REFUSED => Err(format!("not for {from} in {group}")),
                _ => panic!("a handler that dies"),
            }
        })
    }

    fn stream(&self, _: NodeId, _: GroupId, method: u32, mut stream: PeerStream) {
        let mut gate = self.gate.subscribe();
        if method == REFUSED {
            return stream.refuse("no streams today");
        }
        tokio::spawn(async move {
            if method == HELD {
                gate.wait_for(|open| *open).await.unwrap();
            }
            while let Some(Ok(payload)) = stream.rx.next().await {
                if stream.tx.send(payload).await.is_err() {
                    break;
                }
            }
        });
    }
}

pub(crate) fn transport(local: NodeId, peer: NodeId, address: &str) -> Transport {
    with_identity(local, peer, address, "cluster", "token")
}

pub(crate) fn with_identity(
    local: NodeId,
    peer: NodeId,
    address: &str,
    cluster: &str,
    token: &str,
) -> Transport {
    let me = LocalIdentity { cluster: cluster.into(), token: token.into() };
    let peers = vec![PeerConfig { node: peer, address: address.into() }];
    Transport::new(local, Arc::new(move || me.clone()), peers)
}

/// Node 2, that answers.
pub(crate) struct Answering {
    pub(crate) transport: Transport,
    pub(crate) handler: Arc<Gated>,
    pub(crate) address: String,
    stop: CancellationToken,
    serving: JoinHandle<()>,
}

impl Answering {
    pub(crate) async fn start() -> Self {
        Self::start_at("127.0.0.1:0").await
    }

    pub(crate) async fn start_at(address: &str) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        // Nobody listens where it dials node 1: not what is tested here.
        let transport = transport(TWO, ONE, "127.0.0.1:9");
        let handler = Gated::new();
        assert!(transport.set_handler(handler.clone()));
        assert!(!transport.set_handler(handler.clone()), "only the first counts");
        let stop = CancellationToken::new();
        let serving = tokio::spawn({
            let (transport, stop) = (transport.clone(), stop.clone());
            async move { transport.serve(listener, stop.cancelled_owned()).await.unwrap() }
        });
        Self { transport, handler, address, stop, serving }
    }

    /// Ends it; the address is free afterwards.
    pub(crate) async fn stop(self) -> String {
        self.stop.cancel();
        self.serving.await.unwrap();
        self.transport.close();
        self.address
    }
}

/// Node 1 that asks node 2.
pub(crate) async fn pair() -> (Transport, Answering) {
    let answering = Answering::start().await;
    (transport(ONE, TWO, &answering.address), answering)
}

pub(crate) async fn wait_for(
    transport: &Transport,
    lane: Lane,
    mut wanted: impl FnMut(&LinkPhase) -> bool,
) -> LinkPhase {
    let mut phase = transport.watch(TWO, lane).unwrap();
    let reached = tokio::time::timeout(LONG, phase.wait_for(|phase| wanted(phase))).await;
    reached.expect("reached in time").unwrap().clone()
}

pub(crate) fn is_down(phase: &LinkPhase) -> bool {
    matches!(phase, LinkPhase::Down(_))
}

/// Waits until a condition on counters or tables holds.
pub(crate) async fn eventually(mut holds: impl FnMut() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(LONG, waiting).await.expect("holds in time");
}
