//! What is done to the nodes of a run.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, Instant};

use flotilla_history::record::FaultPhase;
use rand::RngExt as _;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use tokio::time::sleep;

use crate::chaos::book::Book;
use crate::{Fleet, PATIENCE};

const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
}

impl FaultKind {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::KillOne,
        Self::KillMajority,
        Self::KillAll,
        Self::Pause,
        Self::Partition,
        Self::OneWay,
        Self::Restart,
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
        }
    }

    fn victims(self, nodes: usize) -> usize {
        match self {
            Self::KillOne | Self::Pause | Self::Partition | Self::OneWay => 1,
            Self::KillMajority => nodes / 2 + 1,
            Self::KillAll | Self::Restart => nodes,
        }
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
        found.ok_or_else(|| format!("no fault is called {text}"))
    }
}

/// Makes faults, and writes them down when they are seen to be there, and when they are gone.
pub(super) struct Nemesis<'a> {
    pub(super) book: &'a Book,
    pub(super) fleet: &'a mut Fleet,
    pub(super) dice: StdRng,
    /// A fault lasts for this long at least.
    pub(super) hold: Duration,
    /// And until so many requests were answered or failed in it.
    pub(super) requests_min: u64,
    /// Whose turn it is.
    pub(super) turn: usize,
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

    /// Every node has its turn.
    fn choose(&mut self, kind: FaultKind) -> Vec<u64> {
        let ids = self.fleet.ids();
        self.turn += 1;
        let mut chosen: Vec<u64> =
            (0..kind.victims(ids.len())).map(|it| ids[(self.turn + it) % ids.len()]).collect();
        chosen.sort_unstable();
        chosen
    }

    /// Makes one fault, lets it work, and undoes it.
    ///
    /// # Panics
    /// When it does not work or a node does not come back.
    pub(super) async fn strike(&mut self, kind: FaultKind) {
        let nodes = self.choose(kind);
        let from_us = self.book.now_us();
        if kind == FaultKind::Restart {
            return self.restart(&nodes, from_us).await;
        }
        for id in &nodes {
            match kind {
                FaultKind::Pause => {
                    self.fleet.pause(*id);
                    self.until_paused(*id).await;
                }
                FaultKind::Partition | FaultKind::OneWay => {
                    self.fleet.silence(*id, kind == FaultKind::Partition).await;
                }
                // The process is gone when this returns.
                _ => self.fleet.kill9(*id),
            }
        }
        self.book.fault(kind.name(), &nodes, FaultPhase::Fired, from_us);
        let hold = self.hold.mul_f64(self.dice.random_range(1.0..1.5));
        self.hold(hold).await;
        for id in &nodes {
            match kind {
                FaultKind::Pause => self.fleet.resume(*id),
                FaultKind::Partition | FaultKind::OneWay => self.fleet.rejoin(),
                _ => self.fleet.launch(*id),
            }
        }
        self.healed(kind, &nodes).await;
    }

    async fn restart(&mut self, nodes: &[u64], from_us: u64) {
        for (number, id) in nodes.iter().enumerate() {
            self.fleet.stop(*id).await;
            if number == 0 {
                self.book.fault(FaultKind::Restart.name(), nodes, FaultPhase::Fired, from_us);
            }
            self.fleet.launch(*id);
            self.fleet.whole().await;
        }
        self.hold(Duration::ZERO).await;
        self.healed(FaultKind::Restart, nodes).await;
    }

    /// A node that is started again is one that can serve.
    async fn healed(&mut self, kind: FaultKind, nodes: &[u64]) {
        self.fleet.ready().await;
        let now_us = self.book.now_us();
        self.book.fault(kind.name(), nodes, FaultPhase::Healed, now_us);
    }

    async fn hold(&self, at_least: Duration) {
        let (begin, records) = (Instant::now(), self.book.records());
        sleep(at_least).await;
        while self.book.records() < records + self.requests_min {
            assert!(begin.elapsed() < PATIENCE, "clients do nothing");
            sleep(LOOK_AGAIN).await;
        }
    }

    async fn until_paused(&self, id: u64) {
        let begin = Instant::now();
        while !self.fleet.is_paused(id) {
            assert!(begin.elapsed() < PATIENCE, "node {id} does not stand still");
            sleep(LOOK_AGAIN).await;
        }
    }

    /// Lets everything go well for a while.
    pub(super) async fn calm(&mut self) {
        self.fleet.whole().await;
        self.hold(self.hold / 2).await;
    }
}
