//! Nodes that end at a step of their own choosing: a crash at every failpoint of the product.
//!
//! Only with a build that has probes. Whoever comes to the point first of those who can, one node at
//! a time, ends there, is away for a while, and is started again.

use std::path::Path;
use std::time::{Duration, Instant};

use flotilla_history::record::FaultPhase;
use flotilla_probe::Point;
use flotilla_probe::point::Stage;
use rand::RngExt as _;
use serde_json::json;
use tokio::time::sleep;

use crate::chaos::faults::{FaultKind, Nemesis, Struck};
use crate::http::Connection;
use crate::{Fleet, PATIENCE};

/// How long one node is given to come to a point before it is another one's turn.
const TURN: Duration = Duration::from_secs(8);
/// For how long a node stays away so that the others cut their logs, at first.
const AWAY: Duration = Duration::from_secs(6);
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// Rounds over all nodes until nobody is said to come to a point.
const ROUNDS: u32 = 3;
/// The crash comes at one of the first times.
const NTH_MAX: u64 = 3;

fn order(point: Point, nth: u64) -> String {
    format!("{}=crash@{nth}", point.name())
}

/// Tells the failpoints of a running node what to do.
pub(super) async fn tell(fleet: &Fleet, id: u64, order: &str) {
    let answer = Connection::new(fleet.admin(id)).get(&format!("/probes/{order}")).await;
    // It may have ended meanwhile.
    if let Ok(answer) = answer {
        assert_eq!(answer.status, 200, "node {id} has no failpoints: {}", answer.body);
    }
}

/// How often a node has said that it did this at a point.
pub(super) fn done(fleet: &Fleet, id: u64, point: Point, action: &str) -> usize {
    let words = format!("failpoint {}: {action}\n", point.name());
    fleet.log(id).matches(&words).count()
}

async fn has_ended(fleet: &mut Fleet, id: u64, patience: Duration) -> bool {
    let begin = Instant::now();
    while !fleet.has_ended(id) {
        if begin.elapsed() > patience {
            return false;
        }
        sleep(LOOK_AGAIN).await;
    }
    true
}

/// Starts a node that ends at the point; whether it did.
async fn started_in_vain(fleet: &mut Fleet, id: u64, point: Point, patience: Duration) -> bool {
    fleet.launch_with(id, &[("FLOTILLA_FAILPOINTS", &order(point, 1))]);
    has_ended(fleet, id, patience).await
}

/// Makes a cluster of empty nodes out of the fleet, in which one ends at the point. Everything that
/// the nodes held is gone.
///
/// # Panics
/// When no node comes to the point, and when the cluster is not formed all the same.
pub async fn found(fleet: &mut Fleet, point: Point) {
    for id in fleet.ids() {
        fleet.kill9(id);
        // A node that was never asked to write has none.
        let _ = std::fs::remove_dir_all(fleet.data(id));
    }
    let mut ids = fleet.ids();
    ids.sort_unstable();
    // The founder is the first; who else it is changes from point to point.
    let place = match point.stage() {
        Stage::Founder => 0,
        _ => point as usize % ids.len(),
    };
    let victim = ids[place];
    let before = done(fleet, victim, point, "crash");
    for id in &ids {
        if *id == victim {
            fleet.launch_with(*id, &[("FLOTILLA_FAILPOINTS", &order(point, 1))]);
        } else {
            fleet.launch(*id);
        }
    }
    let ended = has_ended(fleet, victim, PATIENCE).await;
    assert!(ended, "node {victim} never comes to {} when a cluster is formed", point.name());
    let crashed = done(fleet, victim, point, "crash") > before;
    assert!(crashed, "node {victim} ended, and not at {}", point.name());
    fleet.launch(victim);
    fleet.whole().await;
}

impl Nemesis<'_> {
    /// Lets one node end at the point, and starts it again.
    ///
    /// # Panics
    /// When no node comes to the point, and when one does not come back.
    pub(super) async fn crash(&mut self, point: Point) -> Struck {
        let from_us = self.book.now_us();
        let Some(node) = self.crash_somebody(point).await else {
            panic!("nobody comes to {}", point.name());
        };
        let kind = FaultKind::Crash(point);
        self.book.fault(kind.name(), &[node], FaultPhase::Fired, from_us);
        self.hold(self.hold).await;
        for id in self.fleet.ids() {
            if !self.fleet.up().contains(&id) {
                self.fleet.launch(id);
            }
        }
        self.healed(kind, &[node]).await;
        Struck::Installed
    }

    async fn crash_somebody(&mut self, point: Point) -> Option<u64> {
        for round in 0..ROUNDS {
            let mut ids = self.fleet.ids();
            self.turn += 1;
            let turn = self.turn % ids.len();
            ids.rotate_left(turn);
            for id in ids {
                let before = done(self.fleet, id, point, "crash");
                let ended = match point.stage() {
                    Stage::Load => self.crash_under_load(id, point, round).await,
                    Stage::Election => self.crash_in_election(id, point).await,
                    Stage::FifoMove => self.crash_in_move(id, point).await,
                    Stage::Leave => self.crash_on_leaving(id, point, before).await,
                    Stage::Start => self.crash_on_start(id, point, |_| {}).await,
                    Stage::Rebirth => self.crash_on_start(id, point, lose_log).await,
                    Stage::Snapshot => self.crash_behind(id, point, AWAY * (round + 1)).await,
                    Stage::SnapshotSend => self.crash_ahead(id, point, AWAY * (round + 1)).await,
                    Stage::Formation | Stage::Founder => {
                        panic!("{} is for `found`", point.name())
                    }
                };
                if ended {
                    let crashed = done(self.fleet, id, point, "crash") > before;
                    assert!(crashed, "node {id} ended, and not at {}", point.name());
                    return Some(id);
                }
                self.fleet.whole().await;
            }
        }
        None
    }

    /// What is rare gets more time, and is not waited for twice.
    async fn crash_under_load(&mut self, id: u64, point: Point, round: u32) -> bool {
        let nth = if round == 0 { self.dice.random_range(1..=NTH_MAX) } else { 1 };
        tell(self.fleet, id, &order(point, nth)).await;
        let ended = has_ended(self.fleet, id, TURN * (round + 1)).await;
        ended || self.is_late(id, point).await
    }

    /// Takes the order back; whether the node ended just before that.
    async fn is_late(&mut self, id: u64, point: Point) -> bool {
        tell(self.fleet, id, &format!("{}=off", point.name())).await;
        self.fleet.has_ended(id)
    }

    /// The others must choose leaders while one of them says nothing.
    async fn crash_in_election(&mut self, id: u64, point: Point) -> bool {
        let others: Vec<u64> = self.fleet.ids().into_iter().filter(|other| *other != id).collect();
        let silent = others[self.turn % others.len()];
        tell(self.fleet, id, &order(point, 1)).await;
        self.fleet.pause(silent);
        let ended = has_ended(self.fleet, id, TURN).await;
        self.fleet.resume(silent);
        ended || self.is_late(id, point).await
    }

    /// The node that leads the catalog carries tasks out.
    async fn crash_in_move(&mut self, id: u64, point: Point) -> bool {
        if self.fleet.catalog_leader().await != id {
            return false;
        }
        self.moves += 1;
        let begun = begin_move(self.fleet, id, self.moves, async || {
            tell(self.fleet, id, &order(point, 1)).await;
        });
        begun.await;
        let ended = has_ended(self.fleet, id, TURN).await;
        ended || self.is_late(id, point).await
    }

    /// `before`: how often it had crashed there.
    async fn crash_on_leaving(&mut self, id: u64, point: Point, before: usize) -> bool {
        tell(self.fleet, id, &order(point, 1)).await;
        self.fleet.terminate(id);
        let ended = has_ended(self.fleet, id, PATIENCE).await;
        assert!(ended, "node {id} does not end");
        let crashed = done(self.fleet, id, point, "crash") > before;
        if !crashed {
            self.fleet.launch(id);
        }
        crashed
    }

    async fn crash_on_start(&mut self, id: u64, point: Point, first: impl Fn(&Path)) -> bool {
        self.fleet.kill9(id);
        first(&self.fleet.data(id));
        started_in_vain(self.fleet, id, point, PATIENCE).await
    }

    /// Away until the others have cut their logs.
    async fn crash_behind(&mut self, id: u64, point: Point, away: Duration) -> bool {
        self.fleet.kill9(id);
        self.hold(away).await;
        started_in_vain(self.fleet, id, point, TURN).await || self.is_late(id, point).await
    }

    /// The same, and one of the others ends.
    async fn crash_ahead(&mut self, id: u64, point: Point, away: Duration) -> bool {
        let others: Vec<u64> = self.fleet.ids().into_iter().filter(|other| *other != id).collect();
        let behind = others[self.turn % others.len()];
        self.fleet.kill9(behind);
        self.hold(away).await;
        tell(self.fleet, id, &order(point, 1)).await;
        self.fleet.launch(behind);
        let ended = has_ended(self.fleet, id, TURN).await;
        ended || self.is_late(id, point).await
    }
}

fn lose_log(data: &Path) {
    // That it is not there any more is what is wanted.
    let _ = std::fs::remove_dir_all(data.join("log"));
}

/// Puts dead letters into a FIFO queue and has them moved; calls before the move begins.
async fn begin_move(fleet: &Fleet, id: u64, number: u64, then: impl AsyncFnOnce()) {
    let mut client = fleet.client(id);
    let (dead, source) = (format!("crash-dead-{number}.fifo"), format!("crash-{number}.fifo"));
    let arn = |name: &str| format!("arn:aws:sqs:us-east-1:000000000000:{name}");
    let fifo = |more: serde_json::Value| {
        let mut attributes = json!({ "FifoQueue": "true", "ContentBasedDeduplication": "true" });
        if let Some(more) = more.as_str() {
            attributes["RedrivePolicy"] = json!(more);
        }
        attributes
    };
    let policy = json!({ "deadLetterTargetArn": arn(&dead), "maxReceiveCount": 1 }).to_string();
    let queues = [(&dead, fifo(json!(null))), (&source, fifo(json!(policy)))];
    let mut urls = Vec::new();
    for (name, attributes) in queues {
        let input = json!({ "QueueName": name, "Attributes": attributes });
        // Whatever fails here leaves nothing to be moved, and it is another node's turn.
        let Ok(answer) = client.call("CreateQueue", &input).await else { return };
        urls.push(answer["QueueUrl"].clone());
    }
    for message in 0..20 {
        let body = format!("dead letter {message}");
        let input = json!({ "QueueUrl": urls[0], "MessageBody": body, "MessageGroupId": "g" });
        let _ = client.call("SendMessage", &input).await;
    }
    then().await;
    let input = json!({ "SourceArn": arn(&dead), "DestinationArn": arn(&source) });
    let _ = client.call("StartMessageMoveTask", &input).await;
}
