//! Clients that make, change and remove queues.

use rand::RngExt as _;
use tokio::time::{Duration, Instant, sleep};

use flotilla_history::Outcome;

use crate::PATIENCE;
use crate::chaos::actor::{Actor, Wish};
use crate::chaos::clients::Pen;
use crate::chaos::queues::{self, BRIEF, Place};

const PAUSE: Duration = Duration::from_millis(300);
/// SQS wants a minute between a queue and the next one of its name.
pub(super) const DELETED: Duration = Duration::from_secs(61);
/// As every SDK of AWS, and the code of the newer protocol.
const NO_QUEUE: [&str; 2] = ["QueueDoesNotExist", "AWS.SimpleQueueService.NonExistentQueue"];

/// Creates a queue, uses it, deletes it and sees that it is gone; then the next. Several clients come to
/// the same names, and want different attributes.
pub(super) async fn come_and_go(mut actor: Actor, suffix: String) {
    let mut pen = Pen::of(&actor);
    let mut number = 0;
    while actor.book.is_loading() {
        number += 1;
        let name = format!("{BRIEF}-{suffix}-{number}");
        let size = format!("{}", 2_000 + actor.process);
        let attributes = queues::attributes(&[("MaximumMessageSize", &size)]);
        let Some(url) = actor.create(&name, &attributes).await else {
            // Somebody else's, gone again, or nobody can tell: it must not stay with messages.
            let url = format!("http://127.0.0.1/000000000000/{name}");
            remove(&mut actor, &Place { name, url, arn: String::new(), fifo: false }).await;
            continue;
        };
        let queue = Place { name, url, arn: String::new(), fifo: false };
        for _ in 0..actor.dice.random_range(1..4) {
            let drafts = pen.drafts(&mut actor, &queue);
            actor.send(&queue, &drafts).await;
        }
        let wish = Wish { max: 2, wait_seconds: 1, ..Wish::default() };
        actor.receive(&queue, &wish).await;
        if actor.once_in(2) {
            actor.purge(&queue).await;
            let drafts = pen.drafts(&mut actor, &queue);
            actor.send(&queue, &drafts).await;
            actor.receive(&queue, &wish).await;
        }
        sleep(PAUSE).await;
        remove(&mut actor, &queue).await;
        // Through all nodes: nobody may know it any more.
        for _ in 0..2 {
            actor.move_on();
            let draft = [pen.draft(&mut actor, &queue)];
            actor.send(&queue, &draft).await;
            actor.receive(&queue, &wish).await;
        }
        if actor.once_in(3) {
            // Too soon: see `DELETED`.
            actor.create(&queue.name, &attributes).await;
            remove(&mut actor, &queue).await;
        }
    }
}

/// Until it is certainly gone.
pub(super) async fn remove(actor: &mut Actor, queue: &Place) {
    let begin = Instant::now();
    while begin.elapsed() < PATIENCE {
        match actor.delete_queue(queue).await {
            Outcome::Ok(()) => return,
            Outcome::Fail(code) if NO_QUEUE.contains(&&*code) => return,
            _ => {}
        }
    }
}

/// Changes attributes, each time to what they never were, and reads them.
pub(super) async fn tune(mut actor: Actor, queue: Place) {
    let mut size = 20_000 + u64::from(actor.process);
    while actor.book.is_loading() {
        size += 100;
        let wanted = [("MaximumMessageSize".to_owned(), size.to_string())];
        actor.set_attributes(&queue, wanted.into()).await;
        actor.move_on();
        actor.attributes(&queue).await;
        sleep(PAUSE).await;
    }
}
