//! Clients that nobody wants: they die while they receive, read slowly, or never delete.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use rand::RngExt as _;
use tokio::task::JoinSet;

use crate::chaos::actor::{Actor, Wish};
use crate::chaos::clients;
use crate::chaos::faults::{FaultKind, Nemesis, Struck};
use crate::chaos::queues::Place;

/// Of each kind, for each queue.
const CLIENTS: usize = 2;
/// Deaths, for the fault to count.
const DEATHS_MIN: u64 = 10;

pub(super) async fn strike(nemesis: &mut Nemesis<'_>) -> Struck {
    let from_us = nemesis.book.now_us();
    let (stop, deaths) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let queues = nemesis.crowd.queues();
    let mut tasks = JoinSet::new();
    for queue in [&queues.orders, &queues.lines, &queues.lanes, &queues.flaky, &queues.waited] {
        for _ in 0..CLIENTS {
            let die = die(nemesis.crowd.actor(), queue.clone(), stop.clone(), deaths.clone());
            tasks.spawn(die);
            tasks.spawn(forget(nemesis.crowd.actor(), queue.clone(), stop.clone()));
            let mut slow = nemesis.crowd.actor();
            slow.read_slowly();
            tasks.spawn(clients::swallow(slow, queue.clone(), stop.clone()));
        }
    }
    nemesis.works(FaultKind::RudeClients, &[], from_us).await;
    stop.store(true, Ordering::SeqCst);
    while let Some(ended) = tasks.join_next().await {
        ended.expect("clients do not fail by themselves");
    }
    nemesis.healed(FaultKind::RudeClients, &[]).await;
    match deaths.load(Ordering::SeqCst) {
        few if few < DEATHS_MIN => Struck::Indeterminate(format!("only {few} clients died")),
        _ => Struck::Installed,
    }
}

/// Asks for messages and is gone before they come: its connection ends.
async fn die(mut actor: Actor, queue: Place, stop: Arc<AtomicBool>, deaths: Arc<AtomicU64>) {
    while !stop.load(Ordering::SeqCst) {
        let patience = Duration::from_millis(actor.dice.random_range(1..60));
        let wish = Wish { max: 10, wait_seconds: 5, patience: Some(patience), ..Wish::default() };
        match actor.receive(&queue, &wish).await {
            None => {
                deaths.fetch_add(1, Ordering::SeqCst);
            }
            // Also when the answer was faster than its end: it is gone.
            Some(_) => tokio::time::sleep(patience).await,
        }
    }
}

/// Receives a little and never deletes.
async fn forget(mut actor: Actor, queue: Place, stop: Arc<AtomicBool>) {
    while !stop.load(Ordering::SeqCst) {
        let wish = Wish { max: 2, wait_seconds: 1, ..Wish::default() };
        actor.receive(&queue, &wish).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}
