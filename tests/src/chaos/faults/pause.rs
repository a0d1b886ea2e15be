//! SIGSTOP of one node or of all, and SIGCONT.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;

use super::evidence::within;
use crate::PATIENCE;
use crate::chaos::actor::{Actor, Wish};
use crate::chaos::faults::{FaultKind, Nemesis, Struck};
use crate::chaos::queues::Place;

/// Longer than every lease, and than everything else that anybody waits for.
const LONG: Duration = Duration::from_secs(60);
/// Clients that do not wait for long: while all nodes stand still others do hardly anything.
const IMPATIENT: usize = 20;
const PATIENT_FOR: Duration = Duration::from_millis(300);

pub(super) async fn strike(nemesis: &mut Nemesis<'_>, kind: FaultKind) -> Struck {
    let count = if kind == FaultKind::PauseAll { nemesis.fleet.ids().len() } else { 1 };
    let nodes = nemesis.choose(count);
    let from_us = nemesis.book.now_us();
    nodes.iter().for_each(|id| nemesis.fleet.pause(*id));
    for id in &nodes {
        let is_still = within(PATIENCE, async || nemesis.fleet.is_paused(*id)).await;
        assert!(is_still, "node {id} does not stand still");
    }
    let (stop, mut tasks) = (Arc::new(AtomicBool::new(false)), JoinSet::new());
    if kind == FaultKind::PauseAll {
        let orders = nemesis.crowd.queues().orders;
        for _ in 0..IMPATIENT {
            tasks.spawn(hurry(nemesis.crowd.actor(), orders.clone(), stop.clone()));
        }
    }
    nemesis.works(kind, &nodes, from_us).await;
    if kind == FaultKind::PauseLong {
        nemesis.hold(LONG).await;
    }
    nodes.iter().for_each(|id| nemesis.fleet.resume(*id));
    stop.store(true, Ordering::SeqCst);
    while let Some(ended) = tasks.join_next().await {
        ended.expect("clients do not fail by themselves");
    }
    nemesis.healed(kind, &nodes).await;
    Struck::Installed
}

/// Asks for messages and gives up soon.
async fn hurry(mut actor: Actor, queue: Place, stop: Arc<AtomicBool>) {
    while !stop.load(Ordering::SeqCst) {
        let wish = Wish { max: 1, patience: Some(PATIENT_FOR), ..Wish::default() };
        actor.receive(&queue, &wish).await;
    }
}
