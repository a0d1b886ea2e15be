//! More work than the usual clients make, so that more messages meet each fault: batches without any pause.

use tokio::task::JoinSet;

use crate::chaos::actor::Actor;
use crate::chaos::clients::{self, Pen};
use crate::chaos::crowd::Crowd;
use crate::chaos::queues::Place;

/// The most that a batch takes.
const BATCH: usize = 10;

/// So many who send and as many who receive, until the load ends.
pub(super) fn press(crowd: &mut Crowd, tasks: &mut JoinSet<()>, count: usize) {
    let queues = crowd.queues();
    let places = [&queues.cartons, &queues.orders, &queues.lanes];
    for queue in places.into_iter().cycle().take(count) {
        tasks.spawn(send(crowd.actor(), queue.clone()));
        tasks.spawn(clients::unpack(crowd.actor(), queue.clone()));
    }
}

async fn send(mut actor: Actor, queue: Place) {
    let mut pen = Pen::of(&actor);
    while actor.book.is_loading() {
        let drafts: Vec<_> = (0..BATCH).map(|_| pen.draft(&mut actor, &queue)).collect();
        actor.send(&queue, &drafts).await;
    }
}
