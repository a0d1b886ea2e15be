//! A queue that is nearly always empty, and those who wait for what comes.

use rand::RngExt as _;
use tokio::time::{Duration, sleep};

use crate::chaos::actor::{Actor, Wish};
use crate::chaos::clients::{Pen, handles};
use crate::chaos::queues::Place;

/// Longer than elections, so that polls live through them.
const WAIT_SECONDS_MAX: u64 = 8;

/// Sends one message now and then.
pub(super) async fn trickle(mut actor: Actor, queue: Place) {
    let mut pen = Pen::of(&actor);
    while actor.book.is_loading() {
        let draft = [pen.draft(&mut actor, &queue)];
        actor.send(&queue, &draft).await;
        sleep(Duration::from_millis(actor.dice.random_range(100..1_000))).await;
    }
}

/// Waits, long or not at all, and deletes what came.
pub(super) async fn wait(mut actor: Actor, queue: Place) {
    while actor.book.is_loading() {
        let short = actor.once_in(4);
        let wait_seconds = if short { 0 } else { actor.dice.random_range(2..=WAIT_SECONDS_MAX) };
        let wish = Wish { max: 10, wait_seconds, ..Wish::default() };
        let messages = actor.receive(&queue, &wish).await.unwrap_or_default();
        if !messages.is_empty() {
            actor.delete(&queue, &handles(&messages)).await;
        }
    }
}
