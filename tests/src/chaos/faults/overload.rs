//! Ten times as many clients for a while, none of whom ever pauses.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;

use crate::chaos::clients;
use crate::chaos::faults::{FaultKind, Nemesis, Struck};

/// Ten times those who send; and as many who receive as they need.
const SENDERS: usize = 120;
const RECEIVERS: usize = 40;
/// So many times as long as other faults: 60 s for those of 3 s.
const TIMES_LONGER: u32 = 20;
const LONGEST: Duration = Duration::from_secs(60);

pub(super) async fn strike(nemesis: &mut Nemesis<'_>) -> Struck {
    let from_us = nemesis.book.now_us();
    let (queues, stop) = (nemesis.crowd.queues(), Arc::new(AtomicBool::new(false)));
    let before = nemesis.book.records();
    let mut tasks = JoinSet::new();
    for number in 0..SENDERS {
        let queue = [&queues.orders, &queues.lanes, &queues.timed][number % 3].clone();
        tasks.spawn(clients::flood(nemesis.crowd.actor(), queue, stop.clone()));
    }
    for number in 0..RECEIVERS {
        let queue = [&queues.orders, &queues.lanes, &queues.timed][number % 3].clone();
        tasks.spawn(clients::swallow(nemesis.crowd.actor(), queue, stop.clone()));
    }
    let nodes = nemesis.fleet.ids();
    nemesis.works(FaultKind::Overload, &nodes, from_us).await;
    nemesis.hold((nemesis.hold * TIMES_LONGER).min(LONGEST)).await;
    stop.store(true, Ordering::SeqCst);
    while let Some(ended) = tasks.join_next().await {
        ended.expect("clients do not fail by themselves");
    }
    nemesis.healed(FaultKind::Overload, &nodes).await;
    match nemesis.book.records() - before {
        few if few < SENDERS as u64 => Struck::Indeterminate(format!("only {few} requests")),
        _ => Struck::Installed,
    }
}
