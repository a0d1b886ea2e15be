//! What the clients of a run do until it ends.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use flotilla_history::record::Delivered;
use flotilla_history::{MessageKey, Outcome};
use rand::RngExt as _;
use tokio::time::sleep;

use crate::chaos::actor::{Actor, Wish};
use crate::chaos::answer::Draft;
use crate::chaos::queues::{HIDDEN_MAX, Place, VISIBILITY_SECONDS};

/// Between two sends of one producer.
pub(super) const PACE: Duration = Duration::from_millis(25);
const GROUPS: u32 = 6;
/// The most that a batch takes.
const BATCH: u32 = 10;
const BETWEEN_MOVES: Duration = Duration::from_millis(700);
const PADDING_MAX: usize = 600;
/// SQS allows one purge of a queue in a minute.
const BETWEEN_PURGES: Duration = Duration::from_secs(61);
/// Handles that are kept until most of their receives are over.
const OLD_HANDLES: usize = 12;
/// More than a lease and what the checker allows clocks.
const PAST_THE_LEASE: Duration = Duration::from_secs(VISIBILITY_SECONDS + 1);

pub(super) struct Pen {
    writer: u32,
    counter: u32,
}

impl Pen {
    pub(super) fn of(actor: &Actor) -> Self {
        Self { writer: actor.process, counter: 0 }
    }

    pub(super) fn draft(&mut self, actor: &mut Actor, queue: &Place) -> Draft {
        self.counter += 1;
        let key = MessageKey { writer: self.writer, counter: self.counter };
        let delayed = !queue.fifo && actor.once_in(8);
        Draft {
            key,
            padding: actor.dice.random_range(0..PADDING_MAX),
            number: actor.once_in(4).then_some(self.counter),
            group: queue.fifo.then(|| format!("group-{}", actor.dice.random_range(0..GROUPS))),
            dedup: queue.fifo.then(|| key.to_string()),
            delay_seconds: delayed.then(|| actor.dice.random_range(1..=2)),
        }
    }

    pub(super) fn drafts(&mut self, actor: &mut Actor, queue: &Place) -> Vec<Draft> {
        let count = if actor.once_in(4) { actor.dice.random_range(2..=6) } else { 1 };
        (0..count).map(|_| self.draft(actor, queue)).collect()
    }
}

/// Sends, alone and in batches. To a FIFO queue each message is repeated under its deduplication id
/// until it is accepted; to others never, since it would be another message.
pub(super) async fn produce(mut actor: Actor, queue: Place, pace: Duration) {
    let mut pen = Pen::of(&actor);
    while actor.book.is_loading() {
        let mut drafts = pen.drafts(&mut actor, &queue);
        loop {
            let results = actor.send(&queue, &drafts).await;
            let mut results = results.iter();
            drafts.retain(|_| !matches!(results.next(), Some(Outcome::Ok(_))));
            if drafts.is_empty() || !queue.fifo || !actor.book.is_loading() {
                break;
            }
        }
        sleep(pace).await;
    }
}

/// Sends to a FIFO queue, one message at a time, each until it is accepted and often once more: the
/// strongest thing that a client can ask is that this is one message.
pub(super) async fn insist(mut actor: Actor, queue: Place) {
    let mut pen = Pen::of(&actor);
    while actor.book.is_loading() {
        let draft = [pen.draft(&mut actor, &queue)];
        while !matches!(actor.send(&queue, &draft).await[..], [Outcome::Ok(_)]) {
            if !actor.book.is_loading() {
                return;
            }
        }
        if actor.once_in(2) {
            // As if the answer had been lost on its way.
            actor.move_on();
            actor.send(&queue, &draft).await;
        }
        sleep(PACE).await;
    }
}

/// Sends full batches.
pub(super) async fn pack(mut actor: Actor, queue: Place) {
    let mut pen = Pen::of(&actor);
    while actor.book.is_loading() {
        let drafts: Vec<_> = (0..BATCH).map(|_| pen.draft(&mut actor, &queue)).collect();
        actor.send(&queue, &drafts).await;
        sleep(4 * PACE).await;
    }
}

/// Receives as many as it gets, and deletes them at once.
pub(super) async fn unpack(mut actor: Actor, queue: Place) {
    while actor.book.is_loading() {
        take(&mut actor, &queue).await;
    }
}

/// Sends without any pause until it is told to stop.
pub(super) async fn flood(mut actor: Actor, queue: Place, stop: Arc<AtomicBool>) {
    let mut pen = Pen::of(&actor);
    while !stop.load(Ordering::SeqCst) {
        let drafts = pen.drafts(&mut actor, &queue);
        actor.send(&queue, &drafts).await;
    }
}

/// Receives and deletes without any pause until it is told to stop.
pub(super) async fn swallow(mut actor: Actor, queue: Place, stop: Arc<AtomicBool>) {
    while !stop.load(Ordering::SeqCst) {
        take(&mut actor, &queue).await;
    }
}

async fn take(actor: &mut Actor, queue: &Place) {
    let wish = Wish { max: BATCH, wait_seconds: 1, ..Wish::default() };
    let messages = actor.receive(queue, &wish).await.unwrap_or_default();
    if !messages.is_empty() {
        actor.delete(queue, &handles(&messages)).await;
    }
}

pub(super) fn handles(messages: &[Delivered]) -> Vec<String> {
    messages.iter().map(|message| message.handle.clone()).collect()
}

/// Receives with long polls, and deletes nearly everything. One in some answers it forgets, or
/// deletes when its lease is over. A receive of a FIFO queue that failed is repeated under its attempt
/// id, by every other client.
pub(super) async fn consume(mut actor: Actor, queue: Place) {
    let mut attempts = 0;
    while actor.book.is_loading() {
        let named = queue.fifo && actor.process.is_multiple_of(2);
        let attempt = named.then(|| format!("{}-{attempts}", actor.process));
        let max = actor.dice.random_range(1..=10);
        let wish = Wish { max, wait_seconds: 1, attempt, ..Wish::default() };
        let Some(messages) = actor.receive(&queue, &wish).await else { continue };
        if named && actor.once_in(8) {
            // As if the answer had been lost: it must come again.
            actor.receive(&queue, &wish).await;
        }
        attempts += 1;
        if messages.is_empty() || actor.once_in(25) {
            continue;
        }
        if actor.once_in(40) {
            sleep(PAST_THE_LEASE).await;
        }
        let handles = handles(&messages);
        if actor.once_in(3) {
            actor.delete(&queue, &handles).await;
        } else {
            for handle in &handles {
                actor.delete(&queue, std::slice::from_ref(handle)).await;
            }
        }
    }
}

/// Does a bit of everything: sends, short polls, other visibility timeouts, deletes, also with the handles
/// of receives that are long over.
pub(super) async fn mix(mut actor: Actor, queue: Place) {
    let mut pen = Pen::of(&actor);
    let mut old: VecDeque<String> = VecDeque::new();
    while actor.book.is_loading() {
        let drafts = pen.drafts(&mut actor, &queue);
        actor.send(&queue, &drafts).await;
        let visibility_seconds = Some(actor.dice.random_range(1..=VISIBILITY_SECONDS));
        let max = actor.dice.random_range(1..=4);
        let wish = Wish { max, visibility_seconds, ..Wish::default() };
        let messages = actor.receive(&queue, &wish).await.unwrap_or_default();
        if messages.len() > 1 && actor.once_in(6) {
            let mut change = |message: &Delivered| {
                (message.handle.clone(), actor.dice.random_range(0..=HIDDEN_MAX.as_secs()))
            };
            let changes: Vec<(String, u64)> = messages.iter().map(&mut change).collect();
            actor.change(&queue, &changes).await;
            continue;
        }
        for message in messages {
            match actor.dice.random_range(0..10) {
                0 => actor.change(&queue, &[(message.handle, 0)]).await,
                1 => {
                    let seconds = actor.dice.random_range(1..=HIDDEN_MAX.as_secs());
                    actor.change(&queue, &[(message.handle, seconds)]).await;
                }
                2 => old.push_back(message.handle),
                _ => actor.delete(&queue, &[message.handle]).await,
            }
        }
        if old.len() > OLD_HANDLES
            && let Some(handle) = old.pop_front()
        {
            actor.delete(&queue, &[handle]).await;
        }
        sleep(PACE).await;
    }
}

/// Receives, and deletes only half: the rest becomes dead letters.
pub(super) async fn fumble(mut actor: Actor, queue: Place) {
    while actor.book.is_loading() {
        let wish = Wish { max: 10, wait_seconds: 1, ..Wish::default() };
        let messages = actor.receive(&queue, &wish).await.unwrap_or_default();
        for message in messages {
            match actor.dice.random_range(0..4) {
                0 => actor.change(&queue, &[(message.handle, 0)]).await,
                // A group waits for what nobody gives back.
                1 if queue.fifo && !actor.once_in(8) => {
                    actor.change(&queue, &[(message.handle, 0)]).await;
                }
                1 => {}
                _ => actor.delete(&queue, &[message.handle]).await,
            }
        }
    }
}

/// Moves dead letters back to `home`, where all come from, named or not, asks how that goes, and ends
/// some tasks.
pub(super) async fn revive(mut actor: Actor, source: Place, home: Place) {
    let mut task = None;
    while actor.book.is_loading() {
        sleep(BETWEEN_MOVES).await;
        match actor.dice.random_range(0..5) {
            0 => task = actor.start_move(&source, None).await.or(task),
            1 => task = actor.start_move(&source, Some(&home)).await.or(task),
            2 => {
                if let Some(task) = task.take() {
                    actor.cancel_move(&source, &task).await;
                }
            }
            _ => actor.list_moves(&source).await,
        }
    }
}

/// Purges as often as is allowed, from soon after the beginning.
pub(super) async fn purge(mut actor: Actor, queue: Place) {
    const LOOK: Duration = Duration::from_millis(200);
    let mut wait = Duration::from_secs(8);
    while actor.book.is_loading() {
        if wait.is_zero() {
            let done = actor.purge(&queue).await;
            wait = if done { BETWEEN_PURGES } else { Duration::from_secs(1) };
        }
        sleep(LOOK).await;
        wait = wait.saturating_sub(LOOK);
    }
}

/// Reads attributes, among them the counts.
pub(super) async fn look(mut actor: Actor, queues: Vec<Place>) {
    while actor.book.is_loading() {
        for queue in &queues {
            actor.attributes(queue).await;
            sleep(10 * PACE).await;
        }
    }
}

/// Receives and deletes, through every node in turn, until nothing has come from any queue for so
/// long that nothing can be hidden any more, and the queue says itself that it is empty. `false`
/// when that does not happen.
pub(super) async fn drain(
    mut actor: Actor,
    queue: Place,
    quiet: Duration,
    limit: Duration,
) -> bool {
    let begin_us = actor.book.now_us();
    loop {
        let wish = Wish { max: 10, wait_seconds: 1, ..Wish::default() };
        let messages = actor.receive(&queue, &wish).await;
        if let Some(messages) = messages.as_ref().filter(|messages| !messages.is_empty()) {
            actor.delete(&queue, &handles(messages)).await;
        }
        // A poll that failed has seen nothing.
        let empty = messages.is_some_and(|it| it.is_empty());
        if empty && actor.book.quiet(begin_us) > quiet && says_empty(&mut actor, &queue).await {
            return true;
        }
        if actor.book.now_us() - begin_us > limit.as_micros() as u64 {
            return false;
        }
        actor.move_on();
    }
}

async fn says_empty(actor: &mut Actor, queue: &Place) -> bool {
    let Some(attributes) = actor.attributes(queue).await else { return false };
    let mut counts = attributes.iter().filter(|(name, _)| name.starts_with("ApproximateNumber"));
    counts.all(|(_, count)| count == "0")
}
