//! Steps of a node that fail, are slow or stand still without the node ending: the other things that a
//! failpoint can be told.
//!
//! Only with a build that has probes.

use std::time::{Duration, Instant};

use flotilla_history::record::FaultPhase;
use flotilla_probe::Point;
use serde_json::Value;
use tokio::time::sleep;

use crate::Fleet;
use crate::chaos::crash::tell;
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

    fn action(self) -> &'static str {
        match self {
            Self::Fail => "error@1",
            Self::Slow => "delay(20)",
            Self::Stand => "pause",
        }
    }
}

/// How often a node came to a point; `None`: it does not say so.
async fn reached(fleet: &Fleet, id: u64, point: Point) -> Option<u64> {
    let answer = Connection::new(fleet.admin(id)).get("/probes").await.ok()?;
    let counts: Value = serde_json::from_str(&answer.body).ok()?;
    counts["points"][point.name()].as_u64()
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
            self.let_go(id, point).await;
            self.healed(kind, &[id]).await;
            return Struck::Installed;
        }
        Struck::Indeterminate(format!("nobody came to {}", point.name()))
    }

    /// Whether the step took place and was not as it should be.
    async fn comes_to(&mut self, id: u64, point: Point, deed: Deed) -> bool {
        let Some(before) = reached(self.fleet, id, point).await else { return false };
        tell(self.fleet, id, &format!("{}={}", point.name(), deed.action())).await;
        let begin = Instant::now();
        while begin.elapsed() < TURN {
            // One that stands still may not be able to say that it does.
            let now = reached(self.fleet, id, point).await;
            if self.fleet.has_ended(id) || now.is_none_or(|now| now > before) {
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
