//! The wires between nodes: each node reaches each other one through a relay here, which can be made
//! to fall silent in either direction, without any right that a test does not have.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, TcpListener as StdListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// From whom to whom bytes flow.
type Way = (u64, u64);

/// See the module.
#[derive(Debug)]
pub(crate) struct Links {
    ports: BTreeMap<Way, u16>,
    gates: BTreeMap<Way, Arc<Gate>>,
    _relays: JoinSet<()>,
}

#[derive(Debug)]
struct Gate {
    open: watch::Sender<bool>,
    /// Pieces that came while it was closed.
    held: AtomicU64,
}

impl Links {
    /// Between nodes that listen on these ports.
    pub(crate) fn new(nodes: &[(u64, u16)]) -> Self {
        let ways = nodes.iter().flat_map(|from| nodes.iter().map(move |to| (*from, *to)));
        let ways: Vec<_> = ways.filter(|(from, to)| from != to).collect();
        let gate = || Arc::new(Gate { open: watch::Sender::new(true), held: AtomicU64::new(0) });
        let gates: BTreeMap<Way, _> =
            ways.iter().map(|(from, to)| ((from.0, to.0), gate())).collect();
        let (mut ports, mut relays) = (BTreeMap::new(), JoinSet::new());
        for ((from, _), (to, port)) in ways {
            let listener = StdListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
            listener.set_nonblocking(true).expect("a new socket can be set up");
            let at = listener.local_addr().expect("a bound socket has an address").port();
            let listener = TcpListener::from_std(listener).expect("a new socket can be watched");
            ports.insert((from, to), at);
            let both = (gates[&(from, to)].clone(), gates[&(to, from)].clone());
            relays.spawn(accept(listener, port, both));
        }
        Self { ports, gates, _relays: relays }
    }

    /// Where a node reaches another.
    pub(crate) fn port(&self, from: u64, to: u64) -> u16 {
        self.ports[&(from, to)]
    }

    /// What a node says arrives nowhere; if `both`, nothing reaches it either. What is under way is
    /// held, as by a network that loses everything and senders that repeat it.
    pub(crate) fn silence(&self, node: u64, both: bool) {
        for ((from, to), gate) in &self.gates {
            if *from == node || (both && *to == node) {
                gate.held.store(0, Ordering::SeqCst);
                gate.open.send_replace(false);
            }
        }
    }

    /// Whether somebody has tried to get through each closed gate of a node's own words.
    pub(crate) fn is_felt(&self, node: u64) -> bool {
        let own = self.gates.iter().filter(|(way, _)| way.0 == node);
        own.into_iter().all(|(_, gate)| gate.held.load(Ordering::SeqCst) > 0)
    }

    /// Everything gets through again.
    pub(crate) fn heal(&self) {
        for gate in self.gates.values() {
            gate.open.send_replace(true);
        }
    }
}

async fn accept(listener: TcpListener, port: u16, (there, back): (Arc<Gate>, Arc<Gate>)) {
    let mut connections = JoinSet::new();
    while let Ok((near, _)) = listener.accept().await {
        let (there, back) = (there.clone(), back.clone());
        connections.spawn(async move {
            // A refusal is told by closing: it is what a node that is down looks like.
            if !there.pass().await {
                return;
            }
            let Ok(far) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await else { return };
            if near.set_nodelay(true).and(far.set_nodelay(true)).is_err() {
                return;
            }
            let (near_read, near_write) = near.into_split();
            let (far_read, far_write) = far.into_split();
            // When one direction ends the other ends with it, as when a process dies.
            tokio::select! {
                () = relay(near_read, far_write, &there) => {}
                () = relay(far_read, near_write, &back) => {}
            }
        });
        while connections.try_join_next().is_some() {}
    }
}

impl Gate {
    /// Waits until it is open; `false` when there is no use in it any more.
    async fn pass(&self) -> bool {
        let mut open = self.open.subscribe();
        if !*open.borrow_and_update() {
            self.held.fetch_add(1, Ordering::SeqCst);
        }
        open.wait_for(|open| *open).await.is_ok()
    }
}

async fn relay(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, gate: &Gate) {
    let mut piece = vec![0; 16_384];
    while let Ok(length @ 1..) = from.read(&mut piece).await {
        if !gate.pass().await || to.write_all(&piece[..length]).await.is_err() {
            return;
        }
    }
}
