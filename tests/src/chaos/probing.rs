//! Steps of a node that fail, are slow or stand still without the node ending: the other things that a
//! failpoint can be told.
//!
//! Only with a build that has probes.

use std::time::{Duration, Instant};

use flotilla_history::record::FaultPhase;
use flotilla_probe::Point;
use tokio::time::sleep;

use crate::chaos::crash::{done, tell};
use crate::chaos::faults::{FaultKind, Nemesis, Struck};
use crate::http::Connection;

/// How long one node is given to come to a point before it is another one's turn.
const TURN: Duration = Duration::from_secs(8);
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// What a step does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Deed {
    /// It fails, once; whether the node can go on is its own business.
    Fail,
    /// It takes 20 ms longer each time.
    Slow,
    /// It does not come to its end.
    Stand,
}

impl Deed {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Fail, Self::Slow, Self::Stand];

    /// As the fault is called in histories.
    pub fn name(self) -> &'static str {
        match self {
            Self::Fail => "step-fails",
            Self::Slow => "step-slow",
            Self::Stand => "step-stands",
        }
    }

    /// The order, and what is said when it is done.
    fn order(self) -> (&'static str, &'static str) {
        match self {
            Self::Fail => ("error@1", "error"),
            Self::Slow => ("delay(20)", "delay"),
            Self::Stand => ("pause", "pause"),
        }
    }
}

impl Nemesis<'_> {
    /// Lets a step of one node fail, be slow or stand still for a while.
    ///
    /// # Panics
    /// When the node does not come back.
    pub(super) async fn probe(&mut self, point: Point, deed: Deed) -> Struck {
        let mut ids = self.fleet.ids();
        self.turn += 1;
        let turn = self.turn % ids.len();
        ids.rotate_left(turn);
        for id in ids {
            let from_us = self.book.now_us();
            if !self.comes_to(id, point, deed).await {
                continue;
            }
            let kind = FaultKind::Probe(point, deed);
            self.book.fault(kind.name(), &[id], FaultPhase::Fired, from_us);
            self.hold(self.hold).await;
            let ended = deed == Deed::Slow && self.fleet.has_ended(id);
            assert!(!ended, "node {id} ended because {} was slow", point.name());
            self.let_go(id, point).await;
            self.healed(kind, &[id]).await;
            return Struck::Installed;
        }
        Struck::Indeterminate(format!("nobody came to {}", point.name()))
    }

    /// Whether the step took place and was not as it should be.
    async fn comes_to(&mut self, id: u64, point: Point, deed: Deed) -> bool {
        let (order, said) = deed.order();
        let before = done(self.fleet, id, point, said);
        tell(self.fleet, id, &format!("{}={order}", point.name())).await;
        let begin = Instant::now();
        while begin.elapsed() < TURN {
            if done(self.fleet, id, point, said) > before {
                return true;
            }
            sleep(LOOK_AGAIN).await;
        }
        tell(self.fleet, id, &format!("{}=off", point.name())).await;
        false
    }

    /// The node goes on; one that does not hear so is ended and started again, as one that ended by itself.
    async fn let_go(&mut self, id: u64, point: Point) {
        let off = format!("/probes/{}=off", point.name());
        if Connection::new(self.fleet.admin(id)).get(&off).await.is_err() {
            self.fleet.kill9(id);
        }
        for id in self.fleet.ids() {
            if !self.fleet.up().contains(&id) {
                self.fleet.launch(id);
            }
        }
    }
}
