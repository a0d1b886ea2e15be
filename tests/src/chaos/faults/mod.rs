//! What is done to the nodes of a run: one file for each kind of fault, and the table of all.
//!
//! A new fault is a line in [`FaultKind`]'s table, its place in [`Nemesis::strike`], and a file whose
//! `strike` makes it, sees that it is there (`evidence`), says so with [`Nemesis::works`], and undoes it.
//! Those of what a machine gives a node have theirs in `machine`; `ground` says where each can be made.

mod away;
mod clocks;
mod cut;
mod damage;
mod disconnect;
mod evidence;
mod flap;
mod ground;
mod kill;
mod kind;
mod machine;
mod mix;
mod overload;
mod packets;
mod partition;
mod pause;
mod power;
mod resources;
mod restart;
mod rude;
mod segments;
mod slow;
mod slow_disk;
mod syscalls;
mod torn;

pub use ground::{Ground, Possible, Unavailable};
pub use kind::FaultKind;

use std::time::{Duration, Instant};

use flotilla_history::record::FaultPhase;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use tokio::time::sleep;

use crate::chaos::book::Book;
use crate::chaos::crowd::Crowd;
use crate::links::Break;
use crate::{Fleet, PATIENCE};

pub(super) const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// More than what a cluster may take to recover, and the shortest time that judges count as calm.
const LONG_CALM: Duration = Duration::from_secs(12);

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
    /// Mixtures of faults so far.
    pub(super) mixtures: usize,
    /// Whether the fault that is being made was seen to be there.
    pub(super) has_fired: bool,
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
            K::Pause | K::PauseLong | K::PauseAll => pause::strike(self, kind).await,
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
            K::Mix => mix::strike(self).await,
            K::Probe(point, deed) => self.probe(point, deed).await,
            of_machine => machine::strike(self, of_machine).await,
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
        self.book.fault(kind.name(), nodes, FaultPhase::Fired, from_us);
        self.hold_for_long().await;
    }

    /// Differently long each time.
    async fn hold_for_long(&mut self) {
        use rand::RngExt as _;
        let hold = self.hold.mul_f64(self.dice.random_range(1.0..1.5));
        self.hold(hold).await;
    }

    /// Writes down that a fault is undone, and when every node can serve again.
    pub(in crate::chaos) async fn healed(&mut self, kind: FaultKind, nodes: &[u64]) {
        self.well_again(kind.name(), nodes).await;
    }

    async fn well_again(&mut self, name: &str, nodes: &[u64]) {
        self.book.fault(name, nodes, FaultPhase::Healed, self.book.now_us());
        self.fleet.ready().await;
        self.book.fault(name, nodes, FaultPhase::Ready, self.book.now_us());
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

    /// The same for so long that everything must work again, through every node, and does for a while.
    pub(super) async fn long_calm(&mut self) {
        self.fleet.whole().await;
        self.hold(LONG_CALM).await;
    }
}
