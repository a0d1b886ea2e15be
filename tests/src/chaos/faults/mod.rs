//! What is done to the nodes of a run: one file for each kind of fault, and the table of all.
//!
//! A new fault is a line in [`FaultKind`]'s table, its place in [`Nemesis::strike`], and a file whose
//! `strike` makes it, sees that it is there, says so with [`Nemesis::works`], and undoes it.

mod cut;
mod flap;
mod kill;
mod overload;
mod packets;
mod partition;
mod pause;
mod restart;
mod rude;
mod slow;

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, Instant};

use flotilla_history::record::FaultPhase;
use flotilla_probe::Point;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use tokio::time::sleep;

use crate::chaos::book::Book;
use crate::chaos::crowd::Crowd;
use crate::links::Break;
use crate::{Fleet, PATIENCE, Settings};

pub(super) const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FaultKind {
    /// SIGKILL of one node.
    KillOne,
    /// SIGKILL of the smallest majority.
    KillMajority,
    /// SIGKILL of all nodes.
    KillAll,
    /// SIGSTOP of one node, and SIGCONT.
    Pause,
    /// Nothing passes between one node and the others.
    Partition,
    /// Nothing that one node says reaches the others; it hears them.
    OneWay,
    /// SIGTERM of each node, one after the other, each started again before the next.
    Restart,
    /// Nothing passes between a minority and the others.
    Halves,
    /// Two halves that only one node between them hears.
    Bridge,
    /// Each node hears only its two neighbours in a circle.
    Ring,
    /// One node is cut off and joined again, three times.
    Flap,
    /// What one node says and hears comes 50 ms to 4 s later.
    Delay,
    /// A share of what one node says and hears comes only when it is repeated.
    Loss,
    /// All connections of one node are reset, four times.
    Reset,
    /// Connections of one node end, and only one of the two sides is told.
    HalfOpen,
    /// Ten times as many clients, without any pause.
    Overload,
    /// Clients that die while they receive, read slowly, or never delete.
    RudeClients,
    /// The kernel drops all packets between one node and the others.
    Drop,
    /// All that one node sends to the others.
    DropOneWay,
    /// Some of those between one node and the others.
    PacketLoss,
    /// One node ends at a failpoint. Only with builds that have those.
    Crash(Point),
}

impl FaultKind {
    /// All that every build has.
    pub const ALL: [Self; 20] = [
        Self::KillOne,
        Self::KillMajority,
        Self::KillAll,
        Self::Pause,
        Self::Partition,
        Self::OneWay,
        Self::Restart,
        Self::Halves,
        Self::Bridge,
        Self::Ring,
        Self::Flap,
        Self::Delay,
        Self::Loss,
        Self::Reset,
        Self::HalfOpen,
        Self::Overload,
        Self::RudeClients,
        Self::Drop,
        Self::DropOneWay,
        Self::PacketLoss,
    ];

    /// As it is called in histories and on command lines.
    pub fn name(self) -> &'static str {
        match self {
            Self::KillOne => "kill-one",
            Self::KillMajority => "kill-majority",
            Self::KillAll => "kill-all",
            Self::Pause => "pause",
            Self::Partition => "partition",
            Self::OneWay => "one-way",
            Self::Restart => "restart",
            Self::Halves => "halves",
            Self::Bridge => "bridge",
            Self::Ring => "ring",
            Self::Flap => "flap",
            Self::Delay => "delay",
            Self::Loss => "loss",
            Self::Reset => "reset",
            Self::HalfOpen => "half-open",
            Self::Overload => "overload",
            Self::RudeClients => "rude-clients",
            Self::Drop => "drop",
            Self::DropOneWay => "drop-one-way",
            Self::PacketLoss => "packet-loss",
            Self::Crash(_) => "crash",
        }
    }
}

/// Faults of one ground can be made in the same fleet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ground {
    /// Nodes that listen on this machine's loopback.
    Loopback,
    /// Nodes in network namespaces of their own.
    Namespaces,
}

impl FaultKind {
    /// Where it can be made.
    pub fn ground(self) -> Ground {
        match self {
            Self::Drop | Self::DropOneWay | Self::PacketLoss => Ground::Namespaces,
            _ => Ground::Loopback,
        }
    }

    /// What a fleet must have for these faults, which are of one ground.
    pub fn settings(kinds: &[Self]) -> Settings {
        use FaultKind as K;
        let wires = |kind: &Self| {
            matches!(kind, K::Partition | K::OneWay | K::Halves | K::Bridge | K::Ring)
                || matches!(kind, K::Flap | K::Delay | K::Loss | K::Reset | K::HalfOpen)
        };
        Settings {
            links: kinds.iter().any(wires),
            namespaces: kinds.iter().any(|kind| kind.ground() == Ground::Namespaces),
            ..Settings::default()
        }
    }

    /// Whether it can be made with so many nodes on this machine.
    ///
    /// # Errors
    /// With the reason why not.
    pub fn available(self, nodes: usize) -> Result<(), String> {
        match self {
            Self::Halves | Self::Ring if nodes < 5 => {
                Err("takes five nodes to differ from others".to_owned())
            }
            kind if kind.ground() == Ground::Namespaces => Fleet::can_have_namespaces(),
            _ => Ok(()),
        }
    }

    /// Those of these that can be made so, and why the others cannot.
    pub fn possible(kinds: &[Self], nodes: usize) -> (Vec<Self>, Vec<(Self, String)>) {
        let (mut possible, mut skipped) = (Vec::new(), Vec::new());
        for kind in kinds {
            match kind.available(nodes) {
                Ok(()) => possible.push(*kind),
                Err(why) => skipped.push((*kind, why)),
            }
        }
        (possible, skipped)
    }
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for FaultKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|kind| kind.name() == text);
        found.ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            format!("no fault is called {text}; there are {names}")
        })
    }
}

/// What became of a fault that was to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Struck {
    /// It was seen to be there, and undone.
    Installed,
    /// It was made, and nobody can say whether it was there.
    Indeterminate(String),
}

/// Makes faults, and writes them down when they are seen to be there, and when they are gone.
pub(super) struct Nemesis<'a> {
    pub(super) book: &'a Book,
    pub(super) fleet: &'a mut Fleet,
    pub(super) crowd: &'a mut Crowd,
    pub(super) dice: StdRng,
    /// A fault lasts for this long at least.
    pub(super) hold: Duration,
    /// And until so many requests were answered or failed in it.
    pub(super) requests_min: u64,
    /// Whose turn it is.
    pub(super) turn: usize,
    /// FIFO queues whose dead letters were moved.
    pub(super) moves: u64,
}

impl Nemesis<'_> {
    /// The faults in an order of their own, each so many times.
    pub(super) fn shuffled(&mut self, kinds: &[FaultKind], times: u64) -> Vec<FaultKind> {
        let mut all = Vec::new();
        for _ in 0..times {
            let mut round = kinds.to_vec();
            round.shuffle(&mut self.dice);
            all.extend(round);
        }
        all
    }

    /// Makes one fault, lets it work, and undoes it.
    ///
    /// # Panics
    /// When it does not work or a node does not come back.
    pub(super) async fn strike(&mut self, kind: FaultKind) -> Struck {
        use FaultKind as K;
        let nodes = self.fleet.ids().len();
        match kind {
            K::KillOne => kill::strike(self, kind, 1).await,
            K::KillMajority => kill::strike(self, kind, nodes / 2 + 1).await,
            K::KillAll => kill::strike(self, kind, nodes).await,
            K::Pause => pause::strike(self).await,
            K::Restart => restart::strike(self).await,
            K::Partition | K::OneWay | K::Halves | K::Bridge | K::Ring => {
                partition::strike(self, kind).await
            }
            K::Flap => flap::strike(self).await,
            K::Delay | K::Loss => slow::strike(self, kind).await,
            K::Reset => cut::strike(self, kind, Break::Reset).await,
            K::HalfOpen => cut::strike(self, kind, Break::HalfOpen).await,
            K::Overload => overload::strike(self).await,
            K::RudeClients => rude::strike(self).await,
            K::Drop | K::DropOneWay | K::PacketLoss => packets::strike(self, kind).await,
            K::Crash(point) => self.crash(point).await,
        }
    }

    /// All nodes, from the one whose turn it is.
    fn rotated(&mut self) -> Vec<u64> {
        let mut ids = self.fleet.ids();
        self.turn += 1;
        let turn = self.turn % ids.len();
        ids.rotate_left(turn);
        ids
    }

    /// Every node has its turn.
    fn choose(&mut self, count: usize) -> Vec<u64> {
        let mut chosen = self.rotated();
        chosen.truncate(count);
        chosen.sort_unstable();
        chosen
    }

    /// Writes down that a fault is there that was made from `from_us` on, and lets it work.
    async fn works(&mut self, kind: FaultKind, nodes: &[u64], from_us: u64) {
        use rand::RngExt as _;
        self.book.fault(kind.name(), nodes, FaultPhase::Fired, from_us);
        let hold = self.hold.mul_f64(self.dice.random_range(1.0..1.5));
        self.hold(hold).await;
    }

    /// Writes down that a fault is gone. A node that is started again is one that can serve.
    pub(in crate::chaos) async fn healed(&mut self, kind: FaultKind, nodes: &[u64]) {
        self.fleet.ready().await;
        let now_us = self.book.now_us();
        self.book.fault(kind.name(), nodes, FaultPhase::Healed, now_us);
    }

    pub(in crate::chaos) async fn hold(&self, at_least: Duration) {
        let (begin, records) = (Instant::now(), self.book.records());
        sleep(at_least).await;
        while self.book.records() < records + self.requests_min {
            assert!(begin.elapsed() < PATIENCE, "clients do nothing");
            sleep(LOOK_AGAIN).await;
        }
    }

    /// Lets everything go well for a while.
    pub(super) async fn calm(&mut self) {
        self.fleet.whole().await;
        self.hold(self.hold / 2).await;
    }
}
