//! The wires between nodes: each node reaches each other one through a relay here, which can be told
//! to treat what passes badly, in either direction, without any right that a test does not have.
//!
//! A relay carries bytes, not packets: what a network would lose is held here until a sender of
//! packets would have repeated it. Packets themselves are lost in [`crate::namespaces`].

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, TcpListener as StdListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rand::RngExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

/// From whom to whom bytes flow.
pub type Way = (u64, u64);

/// How a way treats what passes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Condition {
    /// Nothing arrives. What is under way is held, as by a network that loses everything and senders
    /// that repeat it.
    pub shut: bool,
    /// Everything arrives later by so much.
    pub delay: Duration,
    /// And by up to so much more.
    pub jitter: Duration,
    /// The share of pieces that are lost and come when their sender has repeated them.
    pub loss: f64,
}

impl Condition {
    /// Nothing passes.
    pub const SHUT: Self =
        Self { shut: true, delay: Duration::ZERO, jitter: Duration::ZERO, loss: 0.0 };
}

/// How connections end that are open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Break {
    /// Both ends are told.
    Reset,
    /// One end is told; the other believes in the connection for as long as it likes.
    HalfOpen,
}

/// What a sender of packets waits before it repeats the first time; twice as long each further time.
const REPEAT_AFTER: Duration = Duration::from_millis(200);
/// Pieces on their way on a slow wire.
const PIECES_MAX: usize = 256;
const PIECE_BYTES: usize = 16_384;

/// See the module.
#[derive(Debug)]
pub(crate) struct Links {
    ports: BTreeMap<Way, u16>,
    gates: BTreeMap<Way, Arc<Gate>>,
    _relays: JoinSet<()>,
}

#[derive(Debug)]
struct Gate {
    condition: watch::Sender<Condition>,
    /// Counts the orders to break what is open.
    breaks: watch::Sender<(u64, Option<Break>)>,
    /// Pieces that were treated badly, and connections that were broken.
    felt: AtomicU64,
}

impl Links {
    /// Between nodes that listen on these ports.
    pub(crate) fn new(nodes: &[(u64, u16)]) -> Self {
        let ways = nodes.iter().flat_map(|from| nodes.iter().map(move |to| (*from, *to)));
        let ways: Vec<_> = ways.filter(|(from, to)| from != to).collect();
        let gates: BTreeMap<Way, _> =
            ways.iter().map(|(from, to)| ((from.0, to.0), Arc::new(Gate::new()))).collect();
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

    /// From now on these ways are so.
    pub(crate) fn set(&self, ways: &[Way], condition: Condition) {
        for way in ways {
            self.gates[way].felt.store(0, Ordering::SeqCst);
            self.gates[way].condition.send_replace(condition);
        }
    }

    /// Ends the connections that the first of each way has opened to the second.
    pub(crate) fn cut(&self, ways: &[Way], how: Break) {
        for way in ways {
            self.gates[way].felt.store(0, Ordering::SeqCst);
            self.gates[way]
                .breaks
                .send_modify(|(count, last)| (*count, *last) = (*count + 1, Some(how)));
        }
    }

    /// Those of these ways on which nobody has met what was last done to them.
    pub(crate) fn unfelt(&self, ways: &[Way]) -> Vec<Way> {
        let felt = |way: &&Way| self.gates[way].felt.load(Ordering::SeqCst) > 0;
        ways.iter().filter(|way| !felt(way)).copied().collect()
    }

    /// Everything gets through again, and half connections end.
    pub(crate) fn heal(&self) {
        for gate in self.gates.values() {
            gate.condition.send_replace(Condition::default());
            gate.breaks.send_modify(|(_, last)| *last = None);
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
            if near.set_nodelay(true).and(far.set_nodelay(true)).is_ok() {
                connected(near, far, &there, &back).await;
            }
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn connected(near: TcpStream, far: TcpStream, there: &Gate, back: &Gate) {
    let mut breaks = there.breaks.subscribe();
    breaks.mark_unchanged();
    let (mut near_read, mut near_write) = near.into_split();
    let (mut far_read, mut far_write) = far.into_split();
    // When one direction ends the other ends with it, as when a process dies.
    let broken = tokio::select! {
        () = relay(&mut near_read, &mut far_write, there) => None,
        () = relay(&mut far_read, &mut near_write, back) => None,
        how = told_to_break(&mut breaks) => how,
    };
    let Some(how) = broken else { return };
    there.felt.fetch_add(1, Ordering::SeqCst);
    // So that closing says "reset". If it cannot, it says "closed", which is as good.
    let _ = near_read.as_ref().set_zero_linger();
    let _ = far_read.as_ref().set_zero_linger();
    if how == Break::HalfOpen {
        // Either end may be the one that does not know.
        match rand::random_bool(0.5) {
            true => drop((near_read, near_write)),
            false => drop((far_read, far_write)),
        }
        let _ = breaks.wait_for(|(_, last)| last.is_none()).await;
    }
}

async fn told_to_break(breaks: &mut watch::Receiver<(u64, Option<Break>)>) -> Option<Break> {
    loop {
        breaks.changed().await.ok()?;
        if let (_, Some(how)) = *breaks.borrow_and_update() {
            return Some(how);
        }
    }
}

impl Gate {
    fn new() -> Self {
        Self {
            condition: watch::Sender::new(Condition::default()),
            breaks: watch::Sender::new((0, None)),
            felt: AtomicU64::new(0),
        }
    }

    /// Waits until it is open; `false` when there is no use in it any more.
    async fn pass(&self) -> bool {
        let mut condition = self.condition.subscribe();
        if condition.borrow_and_update().shut {
            self.felt.fetch_add(1, Ordering::SeqCst);
        }
        condition.wait_for(|condition| !condition.shut).await.is_ok()
    }

    /// By how much a piece is late that comes now.
    fn lateness(&self) -> Duration {
        let Condition { delay, jitter, loss, .. } = *self.condition.borrow();
        let mut dice = rand::rng();
        let mut late = delay + jitter.mul_f64(dice.random_range(0.0..=1.0));
        let mut repeat = REPEAT_AFTER;
        while loss > 0.0 && dice.random_bool(loss.min(0.9)) {
            late += repeat;
            repeat *= 2;
        }
        if !late.is_zero() {
            self.felt.fetch_add(1, Ordering::SeqCst);
        }
        late
    }
}

/// A piece and when it arrives.
type Due = (Instant, Vec<u8>);

async fn relay(from: &mut OwnedReadHalf, to: &mut OwnedWriteHalf, gate: &Gate) {
    let (tx, rx) = mpsc::channel::<Due>(PIECES_MAX);
    let writing = write(to, rx, gate);
    tokio::pin!(writing);
    tokio::select! {
        // What was said before the end arrives before it.
        () = read(from, tx, gate) => writing.await,
        () = &mut writing => {}
    }
}

async fn read(from: &mut OwnedReadHalf, pieces: mpsc::Sender<Due>, gate: &Gate) {
    let mut piece = vec![0; PIECE_BYTES];
    let mut last = Instant::now();
    while let Ok(length @ 1..) = from.read(&mut piece).await {
        // What comes later waits for what is late before it: a connection keeps its order.
        last = last.max(Instant::now() + gate.lateness());
        if pieces.send((last, piece[..length].to_vec())).await.is_err() {
            return;
        }
    }
}

async fn write(to: &mut OwnedWriteHalf, mut pieces: mpsc::Receiver<Due>, gate: &Gate) {
    while let Some((due, piece)) = pieces.recv().await {
        sleep_until(due).await;
        if !gate.pass().await || to.write_all(&piece).await.is_err() {
            return;
        }
    }
    // The end is news as well.
    gate.pass().await;
}
