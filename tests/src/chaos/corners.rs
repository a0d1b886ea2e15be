//! Queues and clients for what seldom happens: delays of whole queues, ids that come twice, messages that
//! are too old, queues that are nearly empty or have too much in flight, names that come back, leases that are
//! changed in groups.

use std::collections::VecDeque;
use std::time::Duration;

use flotilla_history::{Outcome, Promises};
use rand::RngExt as _;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::chaos::actor::{Actor, Wish};
use crate::chaos::admin::{DELETED, remove};
use crate::chaos::answer::Draft;
use crate::chaos::clients::{self, PACE, Pen, handles};
use crate::chaos::queues::{self, BRIEF, HIDDEN_MAX, HIGH_THROUGHPUT, Place, VISIBILITY_SECONDS};
use crate::chaos::waiting;

/// Messages of one queue that may be in flight in the fleets of these runs, about; and the lines that say so
/// in their nodes' files.
pub(super) const IN_FLIGHT_MAX: u64 = 400;
pub(super) const LINES: &str = "[polling]\nin_flight_max = 400\n";
/// What the one client that goes there receives in two looks of a node at the others, and more.
const IN_FLIGHT_SLACK: u64 = 200;
/// For which a node believes what another one said of that, five seconds, and a bit.
const IN_FLIGHT_STALE_US: u64 = 6_000_000;
/// The shortest that SQS knows.
pub(super) const RETENTION_SECONDS: u64 = 60;
const DELAY_SECONDS: u64 = 2;
/// Tasks that move messages of FIFO queues receive them and send them again; the node that does it may end in
/// between.
const MOVES_HIDE_US: u64 = 60_000_000;
/// Servers that a short poll asks where nothing else was configured.
const SAMPLE: usize = 3;
/// A node asks every server within so many rounds of samples.
const ROUNDS: usize = 3;
const BATCH: u32 = 10;
/// For which an id is remembered, and a bit.
const REMEMBERED: Duration = Duration::from_secs(302);

/// What a cluster of so many shards promises; `in_flight_max`: if anything, where it has a limit of its own.
pub(super) fn promises(shards: usize, in_flight_max: Option<u64>) -> Promises {
    Promises {
        fifo_delay_retroactive: true,
        tells_all: true,
        fifo_moves_hide_us: Some(MOVES_HIDE_US),
        short_polls_for_all: Some((ROUNDS * shards.div_ceil(SAMPLE)) as u32),
        in_flight_max,
        in_flight_slack: IN_FLIGHT_SLACK,
        in_flight_stale_us: IN_FLIGHT_STALE_US,
        ..Promises::default()
    }
}

/// Which of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Corner {
    /// Delays of whole queues, of both kinds.
    Late,
    /// FIFO: ids that come again.
    Twins,
    /// FIFO: what says the same is the same.
    Echoes,
    /// Messages that become too old.
    Fleeting,
    /// As much in flight as may be.
    Hoarded,
    /// Short polls of one client.
    Glanced,
    /// A queue that comes back under its name.
    Again,
    /// FIFO: leases that are changed, and ids that two groups share.
    Held,
    /// FIFO: purges while sends are repeated.
    Wiped,
}

impl Corner {
    /// All of them.
    pub(crate) const ALL: [Self; 9] = [
        Self::Late,
        Self::Twins,
        Self::Echoes,
        Self::Fleeting,
        Self::Hoarded,
        Self::Glanced,
        Self::Again,
        Self::Held,
        Self::Wiped,
    ];
}

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Corners {
    suffix: String,
    /// Standard, and FIFO: every message is delayed.
    late: Place,
    late_line: Place,
    /// FIFO: ids that come again with another message, and long after.
    twins: Place,
    /// FIFO: what says the same is the same.
    echoes: Place,
    /// Standard: messages live for a minute.
    fleeting: Place,
    /// Standard: as much in flight as may be.
    hoarded: Place,
    /// Standard, for short polls.
    glanced: Place,
    /// FIFO with high throughput: leases are changed, and each id is of two messages, in two groups.
    held: Place,
    /// FIFO, purged in between.
    wiped: Place,
}

impl Corners {
    /// Creates the queues, with names that end alike.
    ///
    /// # Panics
    /// When one cannot be created.
    pub(super) async fn create(actor: &mut Actor, suffix: &str) -> Self {
        let fifo = ("FifoQueue", "true");
        let delay = DELAY_SECONDS.to_string();
        let delay = ("DelaySeconds", delay.as_str());
        let by_content = ("ContentBasedDeduplication", "true");
        let retention = RETENTION_SECONDS.to_string();
        let retention = ("MessageRetentionPeriod", retention.as_str());
        let name = |name: &str| format!("{name}-{suffix}");
        let fifo_name = |name: &str| format!("{name}-{suffix}.fifo");
        Self {
            suffix: suffix.to_owned(),
            late: queues::create(actor, name("late"), &[delay]).await,
            late_line: queues::create(actor, fifo_name("late"), &[fifo, delay]).await,
            twins: queues::create(actor, fifo_name("twins"), &[fifo]).await,
            echoes: queues::create(actor, fifo_name("echoes"), &[fifo, by_content]).await,
            fleeting: queues::create(actor, name("fleeting"), &[retention]).await,
            hoarded: queues::create(actor, name("hoarded"), &[]).await,
            glanced: queues::create(actor, name("glanced"), &[]).await,
            held: queues::create(actor, fifo_name("held"), &HIGH_THROUGHPUT).await,
            wiped: queues::create(actor, fifo_name("wiped"), &[fifo]).await,
        }
    }

    pub(super) fn all(&self) -> [&Place; 9] {
        let Self { late, late_line, twins, echoes, fleeting, hoarded, glanced, .. } = self;
        let Self { held, wiped, .. } = self;
        [late, late_line, twins, echoes, fleeting, hoarded, glanced, held, wiped]
    }
}

/// Lets those loose who go there.
pub(super) fn load(
    all: &Corners,
    corner: Corner,
    mut actor: impl FnMut() -> Actor,
    tasks: &mut JoinSet<()>,
) {
    match corner {
        Corner::Late => {
            for queue in [&all.late, &all.late_line] {
                tasks.spawn(clients::produce(actor(), queue.clone(), 8 * PACE));
                tasks.spawn(clients::consume(actor(), queue.clone()));
            }
        }
        Corner::Twins => {
            tasks.spawn(twin(actor(), all.twins.clone()));
            tasks.spawn(clients::consume(actor(), all.twins.clone()));
        }
        Corner::Echoes => {
            tasks.spawn(echo(actor(), all.echoes.clone()));
            tasks.spawn(clients::consume(actor(), all.echoes.clone()));
        }
        Corner::Fleeting => {
            tasks.spawn(linger(actor(), all.fleeting.clone()));
        }
        Corner::Hoarded => {
            tasks.spawn(hoard(actor(), all.hoarded.clone()));
        }
        Corner::Glanced => {
            tasks.spawn(waiting::trickle(actor(), all.glanced.clone()));
            tasks.spawn(glance(actor(), all.glanced.clone()));
        }
        Corner::Again => {
            tasks.spawn(come_back(actor(), all.suffix.clone()));
        }
        Corner::Held => {
            tasks.spawn(hold(actor(), all.held.clone()));
        }
        Corner::Wiped => {
            tasks.spawn(clients::insist(actor(), all.wiped.clone()));
            tasks.spawn(clients::consume(actor(), all.wiped.clone()));
            tasks.spawn(clients::purge(actor(), all.wiped.clone()));
        }
    }
}

/// Sends until it is accepted; `false` when the load ends before that.
async fn insist(actor: &mut Actor, queue: &Place, draft: &Draft) -> bool {
    loop {
        let results = actor.send(queue, std::slice::from_ref(draft)).await;
        if matches!(results[..], [Outcome::Ok(_)]) {
            return true;
        }
        if !actor.book.is_loading() {
            return false;
        }
    }
}

/// Sends two messages under one id: the second is a duplicate of the first. After a while the id comes once
/// more, when most such messages are deleted; and at last when it is forgotten.
async fn twin(mut actor: Actor, queue: Place) {
    const AGAIN: Duration = Duration::from_secs(4);
    let mut pen = Pen::of(&actor);
    let mut soon: VecDeque<(Instant, Draft)> = VecDeque::new();
    let mut later: VecDeque<(Instant, Draft)> = VecDeque::new();
    while actor.book.is_loading() {
        let first = pen.draft(&mut actor, &queue);
        let second = Draft { dedup: first.dedup.clone(), ..pen.draft(&mut actor, &queue) };
        for draft in [&first, &second] {
            if !insist(&mut actor, &queue, draft).await {
                return;
            }
            actor.move_on();
        }
        soon.push_back((Instant::now(), second));
        // Each again with a key of its own.
        if soon.front().is_some_and(|it| it.0.elapsed() > AGAIN)
            && let Some((sent, draft)) = soon.pop_front()
        {
            let third = Draft { dedup: draft.dedup, ..pen.draft(&mut actor, &queue) };
            if !insist(&mut actor, &queue, &third).await {
                return;
            }
            later.push_back((sent, third));
        }
        if later.front().is_some_and(|it| it.0.elapsed() > REMEMBERED)
            && let Some((_, draft)) = later.pop_front()
        {
            let last = Draft { dedup: draft.dedup, ..pen.draft(&mut actor, &queue) };
            if !insist(&mut actor, &queue, &last).await {
                return;
            }
        }
        sleep(4 * PACE).await;
    }
}

/// Sends two messages under one id to two groups, each of which has ids of its own; and changes the leases of some
/// of what comes: their groups wait for them.
async fn hold(mut actor: Actor, queue: Place) {
    const PAIRS: u32 = 6;
    let mut pen = Pen::of(&actor);
    while actor.book.is_loading() {
        let pair = actor.dice.random_range(0..PAIRS);
        let group = |number: u32| Some(format!("group-{number}"));
        let first = Draft { group: group(pair), ..pen.draft(&mut actor, &queue) };
        let dedup = first.dedup.clone();
        let second = Draft { group: group(PAIRS + pair), dedup, ..pen.draft(&mut actor, &queue) };
        for draft in [&first, &second] {
            if !insist(&mut actor, &queue, draft).await {
                return;
            }
        }
        let visibility_seconds = Some(actor.dice.random_range(1..=VISIBILITY_SECONDS));
        let wish = Wish { max: BATCH, visibility_seconds, ..Wish::default() };
        for message in actor.receive(&queue, &wish).await.unwrap_or_default() {
            match actor.dice.random_range(0..40) {
                0 => actor.change(&queue, &[(message.handle, 0)]).await,
                1 => {
                    let seconds = actor.dice.random_range(1..=HIDDEN_MAX.as_secs());
                    actor.change(&queue, &[(message.handle, seconds)]).await;
                }
                2 => {}
                _ => actor.delete(&queue, &[message.handle]).await,
            }
        }
        sleep(4 * PACE).await;
    }
}

/// Sends messages without ids, each until it is accepted and once more: they are the same because they
/// say the same.
async fn echo(mut actor: Actor, queue: Place) {
    let mut pen = Pen::of(&actor);
    while actor.book.is_loading() {
        let draft = Draft { dedup: None, ..pen.draft(&mut actor, &queue) };
        if !insist(&mut actor, &queue, &draft).await {
            return;
        }
        actor.move_on();
        actor.send(&queue, &[draft]).await;
        sleep(4 * PACE).await;
    }
}

/// Receives the same messages again and again, until they are too old; deletes few.
async fn linger(mut actor: Actor, queue: Place) {
    let mut pen = Pen::of(&actor);
    while actor.book.is_loading() {
        // Between the slow sends of those that will be old one day.
        if actor.once_in(2) {
            let draft = Draft { delay_seconds: None, ..pen.draft(&mut actor, &queue) };
            actor.send(&queue, &[draft]).await;
        }
        let wish = Wish { max: BATCH, visibility_seconds: Some(3), ..Wish::default() };
        let messages = actor.receive(&queue, &wish).await.unwrap_or_default();
        if let Some(message) = messages.first().filter(|_| actor.once_in(8)) {
            actor.delete(&queue, std::slice::from_ref(&message.handle)).await;
        }
        sleep(12 * PACE).await;
    }
}

/// Receives and does not delete until no more is given, then deletes some, and goes on. Alone in its
/// queue, and not faster than a node hears how much is in flight elsewhere.
async fn hoard(mut actor: Actor, queue: Place) {
    let mut pen = Pen::of(&actor);
    let mut held: VecDeque<String> = VecDeque::new();
    while actor.book.is_loading() {
        let full = held.len() as u64 >= IN_FLIGHT_MAX + IN_FLIGHT_SLACK;
        if full || actor.once_in(40) {
            delete_some(&mut actor, &queue, &mut held).await;
        }
        let draft = |actor: &mut Actor, pen: &mut Pen| Draft {
            delay_seconds: None,
            padding: 0,
            ..pen.draft(actor, &queue)
        };
        let drafts: Vec<_> = (0..BATCH).map(|_| draft(&mut actor, &mut pen)).collect();
        actor.send(&queue, &drafts).await;
        let wish = Wish { max: BATCH, visibility_seconds: Some(HELD_SECONDS), ..Wish::default() };
        match actor.receive(&queue, &wish).await {
            Some(messages) => held.extend(handles(&messages)),
            None => delete_some(&mut actor, &queue, &mut held).await,
        }
        sleep(3 * PACE).await;
    }
    while !held.is_empty() {
        delete_some(&mut actor, &queue, &mut held).await;
    }
}

/// Longer than it takes to be at the limit.
const HELD_SECONDS: u64 = 20;

async fn delete_some(actor: &mut Actor, queue: &Place, held: &mut VecDeque<String>) {
    for _ in 0..5 {
        let some: Vec<String> = held.drain(..held.len().min(BATCH as usize)).collect();
        if !some.is_empty() {
            actor.delete(queue, &some).await;
        }
    }
}

/// Polls shortly, with room for all that can be there, mostly through one node.
async fn glance(mut actor: Actor, queue: Place) {
    while actor.book.is_loading() {
        let wish = Wish { max: BATCH, ..Wish::default() };
        let messages = actor.receive(&queue, &wish).await.unwrap_or_default();
        if !messages.is_empty() {
            actor.delete(&queue, &handles(&messages)).await;
        }
        sleep(PACE).await;
    }
}

/// Waits long and lets the first half of what comes go again at once: others wait at the same time, and get
/// it then.
pub(super) async fn let_go(mut actor: Actor, queue: Place) {
    while actor.book.is_loading() {
        let visibility_seconds = Some(1);
        let wish = Wish { max: BATCH, wait_seconds: 4, visibility_seconds, ..Wish::default() };
        let messages = actor.receive(&queue, &wish).await.unwrap_or_default();
        if !messages.is_empty() && actor.once_in(2) {
            actor.delete(&queue, &handles(&messages)).await;
        }
    }
}

/// Creates a FIFO queue, uses it, deletes it, and creates it again as soon as that is allowed: its old
/// messages must be gone, its old handles and ids mean nothing.
async fn come_back(mut actor: Actor, suffix: String) {
    let mut pen = Pen::of(&actor);
    let name = format!("{BRIEF}-{suffix}-{}-again.fifo", actor.process);
    let mut ids: VecDeque<String> = VecDeque::new();
    let mut old: VecDeque<String> = VecDeque::new();
    while actor.book.is_loading() {
        let attributes = queues::attributes(&[("FifoQueue", "true")]);
        let Some(url) = actor.create(&name, &attributes).await else {
            sleep(Duration::from_secs(1)).await;
            continue;
        };
        let queue = Place { name: name.clone(), url, arn: String::new(), fifo: true };
        for _ in 0..8 {
            let draft = pen.draft(&mut actor, &queue);
            let dedup = ids.pop_front().or_else(|| draft.dedup.clone());
            let draft = Draft { dedup, ..draft };
            actor.send(&queue, std::slice::from_ref(&draft)).await;
            ids.extend(draft.dedup);
        }
        for handle in old.drain(..) {
            actor.delete(&queue, &[handle]).await;
        }
        for _ in 0..3 {
            let wish = Wish { max: 2, wait_seconds: 1, ..Wish::default() };
            let messages = actor.receive(&queue, &wish).await.unwrap_or_default();
            old.extend(handles(&messages));
        }
        if let Some(handle) = old.pop_front() {
            actor.delete(&queue, &[handle]).await;
        }
        let life = actor.dice.random_range(500..3_000);
        sleep(Duration::from_millis(life)).await;
        remove(&mut actor, &queue).await;
        let gone = Instant::now();
        while actor.book.is_loading() && gone.elapsed() < DELETED {
            sleep(8 * PACE).await;
        }
    }
    let url = format!("http://127.0.0.1/000000000000/{name}");
    remove(&mut actor, &Place { name, url, arn: String::new(), fifo: true }).await;
}
