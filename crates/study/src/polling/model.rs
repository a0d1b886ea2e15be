//! What consumers would see if the servers did what they are said to do: messages that arrive by
//! chance, polls, and the memory of each polled node, in simulated time.
//!
//! It has no queue in a server, no disk and no network: requests and sends take as long as it is told. So
//! it says what follows from the rules of polling alone.

use std::cmp::Ordering;
use std::collections::{BinaryHeap, VecDeque};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::deck::{Deck, look_round, place, taken};
use super::traffic::{Outcome, Seen, Style};

/// A measurement that is so many times a model's, or so little of it, has to be explained.
pub(super) const FAR: f64 = 1.5;
/// Messages of an answer.
const MAX: usize = 10;
/// A long poll begins with shards that were passed over for so many rounds of all shards.
const LONG_PATIENCE: usize = 16;
/// Or for so long.
const LONG_PATIENCE_S: f64 = 0.2;

/// Somebody who polls queues in turn.
#[derive(Clone, Debug)]
pub(super) struct Poller {
    pub(super) node: usize,
    /// By number.
    pub(super) queues: Vec<usize>,
    pub(super) style: Style,
    pub(super) delay_s: f64,
}

/// How long requests take that do not wait, seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Times {
    /// To an answer that is empty.
    empty_s: f64,
    /// To one that has messages, whose leases are decided by a majority first.
    hit_s: f64,
}

impl Times {
    /// Where none was measured.
    const ELSE_S: f64 = 0.002;

    /// Each from the first of these in which there were any.
    pub(super) fn of<'a>(seen: impl IntoIterator<Item = &'a Seen>) -> Self {
        let (mut empty_s, mut hit_s) = (f64::NAN, f64::NAN);
        for seen in seen {
            let or_of = |known: f64, outcome| match known.is_finite() {
                true => known,
                false => seen.request_s(outcome),
            };
            empty_s = or_of(empty_s, Outcome::Empty);
            hit_s = or_of(hit_s, Outcome::Messages);
        }
        let known = |time: f64| if time.is_finite() { time } else { Self::ELSE_S };
        Self { empty_s: known(empty_s), hit_s: known(hit_s) }
    }

    /// From one poll to the next one, after an empty answer.
    pub(super) fn poll_s(self, style: Style) -> f64 {
        self.empty_s + style.pause_after(0).as_secs_f64()
    }
}

/// What there is.
#[derive(Clone, Debug)]
pub(super) struct World {
    /// The node that leads each shard.
    pub(super) leaders: Vec<usize>,
    /// Shards that a short poll asks.
    pub(super) k: usize,
    pub(super) queues: usize,
    /// Of all queues together; each message goes to one of them by chance.
    pub(super) rate_per_s: f64,
    pub(super) pollers: Vec<Poller>,
    pub(super) times: Times,
    /// From when a message is due until it is there.
    pub(super) send_s: f64,
    pub(super) messages: usize,
    pub(super) seed: u64,
}

/// What was seen.
#[derive(Clone, Debug, Default)]
pub(super) struct Forecast {
    /// From when a message is due to the answer that brings it.
    pub(super) latencies_ms: Vec<f64>,
    empties: u64,
    hits: u64,
}

impl Forecast {
    /// Another run of the same.
    pub(super) fn add(&mut self, other: Self) {
        self.latencies_ms.extend(other.latencies_ms);
        self.empties += other.empties;
        self.hits += other.hits;
    }

    pub(super) fn empties_per_message(&self) -> f64 {
        self.empties as f64 / self.latencies_ms.len() as f64
    }

    pub(super) fn requests_per_message(&self) -> f64 {
        (self.empties + self.hits) as f64 / self.latencies_ms.len() as f64
    }

    pub(super) fn mean_ms(&self) -> f64 {
        self.latencies_ms.iter().sum::<f64>() / self.latencies_ms.len() as f64
    }

    pub(super) fn quantile_ms(&self, share: f64) -> f64 {
        super::stats::quantile(&self.latencies_ms, share)
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum What {
    Arrival,
    /// A poller asks.
    Poll(usize),
    /// A poller has waited for as long as it wanted to, unless it did something since.
    Give {
        up: usize,
        since: u64,
    },
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Event {
    at_s: f64,
    what: What,
}

impl Eq for Event {}

impl PartialOrd for Event {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Event {
    /// The earliest is the greatest: a heap gives that first.
    fn cmp(&self, other: &Self) -> Ordering {
        other.at_s.total_cmp(&self.at_s)
    }
}

struct Queue {
    /// When each message was sent, by shard.
    shards: Vec<VecDeque<f64>>,
    /// Of each node.
    decks: Vec<Deck>,
    /// Pollers that wait.
    parked: VecDeque<usize>,
}

struct Running<'a> {
    world: &'a World,
    rng: StdRng,
    queues: Vec<Queue>,
    /// Of each poller, the place of the queue whose turn it is.
    turns: Vec<usize>,
    /// Of each poller, what it has done so far.
    deeds: Vec<u64>,
    events: BinaryHeap<Event>,
    arrived: usize,
    forecast: Forecast,
}

/// Runs of the same, each with other dice, until so many messages have come: measured runs begin with an empty queue
/// and with pollers in step, too, and what grows in them has no more time than there.
pub(super) fn forecasts(world: &World, messages: usize) -> Forecast {
    let mut all = Forecast::default();
    for run in 0..messages.div_ceil(world.messages.max(1)) {
        let seed = world.seed.wrapping_add(run as u64 * 7_919);
        all.add(forecast(&World { seed, ..world.clone() }));
    }
    all
}

/// Lets so many messages arrive, and come.
fn forecast(world: &World) -> Forecast {
    let n = world.leaders.len();
    let nodes = world.leaders.iter().max().map_or(1, |most| most + 1);
    let queue = |number: usize| Queue {
        shards: vec![VecDeque::new(); n],
        decks: (0..nodes)
            .map(|node| Deck::new(n, world.seed ^ (((number * nodes + node + 1) as u64) << 8)))
            .collect(),
        parked: VecDeque::new(),
    };
    let mut running = Running {
        world,
        rng: StdRng::seed_from_u64(world.seed),
        queues: (0..world.queues).map(queue).collect(),
        turns: vec![0; world.pollers.len()],
        deeds: vec![0; world.pollers.len()],
        events: BinaryHeap::new(),
        arrived: 0,
        forecast: Forecast::default(),
    };
    for (poller, one) in world.pollers.iter().enumerate() {
        running.events.push(Event { at_s: one.delay_s, what: What::Poll(poller) });
    }
    running.arrive_later(0.0);
    while running.forecast.latencies_ms.len() < world.messages {
        let Some(Event { at_s, what }) = running.events.pop() else { break };
        match what {
            What::Arrival => running.arrive(at_s),
            What::Poll(poller) => running.poll(at_s, poller),
            What::Give { up, since } => running.give_up(at_s, up, since),
        }
    }
    running.forecast
}

impl Running<'_> {
    fn arrive_later(&mut self, now_s: f64) {
        let gap_s = -(1.0 - self.rng.random::<f64>()).ln() / self.world.rate_per_s;
        self.events.push(Event { at_s: now_s + gap_s, what: What::Arrival });
    }

    fn arrive(&mut self, now_s: f64) {
        let number = self.rng.random_range(0..self.queues.len());
        let queue = &mut self.queues[number];
        // Sent through all nodes in turn.
        let sender = self.arrived % queue.decks.len();
        let shard = place(&self.world.leaders, sender, &mut self.rng);
        queue.shards[shard].push_back(now_s);
        queue.decks[sender].note_sent(shard, 1);
        self.arrived += 1;
        if self.arrived < self.world.messages {
            self.arrive_later(now_s);
        }
        if let Some(poller) = self.queues[number].parked.pop_front() {
            self.deeds[poller] += 1;
            let order: Vec<usize> = vec![shard];
            self.take(now_s, poller, number, &order);
        }
    }

    fn queue_of(&self, poller: usize) -> usize {
        let queues = &self.world.pollers[poller].queues;
        queues[self.turns[poller] % queues.len()]
    }

    fn poll(&mut self, now_s: f64, poller: usize) {
        let number = self.queue_of(poller);
        let node = self.world.pollers[poller].node;
        let style = self.world.pollers[poller].style;
        let k = self.world.k;
        match style {
            Style::Short { pause } => {
                let order = self.queues[number].decks[node].sample(k);
                if self.take(now_s, poller, number, &order) == 0 {
                    self.forecast.empties += 1;
                    self.next(now_s + pause.as_secs_f64(), poller);
                }
            }
            Style::Long { wait_s } | Style::Collect { wait_s, .. } => {
                let turn = self.rng.random_range(0..self.queues[number].decks.len());
                let mut rounds = look_round(&self.world.leaders, node, turn);
                let patience = LONG_PATIENCE * self.world.leaders.len();
                let first =
                    self.queues[number].decks[node].neglected(patience, now_s - LONG_PATIENCE_S);
                if let Some(own) = rounds.first_mut() {
                    own.retain(|shard| !first.contains(shard));
                    own.splice(0..0, first);
                }
                let found = rounds.iter().any(|order| self.take(now_s, poller, number, order) > 0);
                if !found {
                    self.deeds[poller] += 1;
                    self.queues[number].parked.push_back(poller);
                    let what = What::Give { up: poller, since: self.deeds[poller] };
                    self.events.push(Event { at_s: now_s + f64::from(wait_s), what });
                }
            }
        }
    }

    fn give_up(&mut self, now_s: f64, poller: usize, since: u64) {
        if self.deeds[poller] != since {
            return;
        }
        self.deeds[poller] += 1;
        let number = self.queue_of(poller);
        self.queues[number].parked.retain(|parked| *parked != poller);
        self.forecast.empties += 1;
        self.next(now_s, poller);
    }

    /// What shards that are asked in this order give; the poller goes on if there was something.
    fn take(&mut self, now_s: f64, poller: usize, number: usize, order: &[usize]) -> usize {
        let Poller { node, style, .. } = self.world.pollers[poller];
        let queue = &mut self.queues[number];
        let given = taken(order, &self.world.leaders, |shard| queue.shards[shard].len(), MAX);
        let answer_s = now_s + self.world.times.hit_s;
        for (shard, count) in &given {
            for sent_s in queue.shards[*shard].drain(..*count) {
                self.forecast.latencies_ms.push(1_000.0 * (self.world.send_s + answer_s - sent_s));
            }
            queue.decks[node].note_left(*shard, queue.shards[*shard].len());
        }
        let asked: Vec<usize> = given.iter().map(|(shard, _)| *shard).collect();
        queue.decks[node].asked_at(&asked, now_s);
        let count = given.iter().map(|(_, count)| count).sum();
        if count > 0 {
            self.forecast.hits += 1;
            // What was received is deleted, which is a request of its own.
            let pause_s = style.pause_after(count).as_secs_f64();
            self.next(answer_s + pause_s, poller);
        }
        count
    }

    /// To the next queue, when what the poller did last is answered.
    fn next(&mut self, at_s: f64, poller: usize) {
        self.turns[poller] += 1;
        self.events.push(Event { at_s: at_s + self.world.times.empty_s, what: What::Poll(poller) });
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::polling::deck::leaders;
    use crate::polling::theory;
    use crate::polling::traffic::Request;

    const ASK_ALL: usize = 8;

    fn world(style: Style, rate_per_s: f64, k: usize) -> World {
        World {
            leaders: leaders(&[3, 3, 2]),
            k,
            queues: 1,
            rate_per_s,
            pollers: vec![Poller { node: 1, queues: vec![0], style, delay_s: 0.0 }],
            times: Times::default(),
            send_s: 0.0,
            messages: 6_000,
            seed: 5,
        }
    }

    fn short(ms: u64) -> Style {
        Style::Short { pause: Duration::from_millis(ms) }
    }

    #[test]
    fn a_message_is_late_by_as_much_as_sending_it_takes() {
        let world = world(short(100), 1.0, ASK_ALL);
        let (soon, late) = (forecast(&world), forecast(&World { send_s: 0.01, ..world.clone() }));
        assert!((late.mean_ms() - soon.mean_ms() - 10.0).abs() < 1e-6);
        assert_eq!(late.empties_per_message(), soon.empties_per_message());
    }

    #[test]
    fn who_asks_everybody_waits_for_half_a_pause() {
        let seen = forecast(&world(short(1_000), 0.1, ASK_ALL));
        assert!((seen.mean_ms() - 500.0).abs() < 20.0, "{}", seen.mean_ms());
        // Every pause ends in an empty answer sooner or later.
        let expected = theory::short_empties(0.1, 1.0);
        assert!((seen.empties_per_message() / expected - 1.0).abs() < 0.05);
    }

    #[test]
    fn rare_messages_wait_as_the_closed_form_says() {
        // Of the memory's misses, as seen by a message that appears at a random moment.
        let mut deck = Deck::new(8, 0);
        let (mut last, mut misses, mut waits) = ([None; 8], 0.0, 0.0);
        for poll in 0..50_000 {
            for shard in deck.poll(3) {
                if let Some(before) = last[shard].replace(poll) {
                    let gap = f64::from(poll - before);
                    misses += gap * (gap - 1.0) / 2.0;
                    waits += gap;
                }
            }
        }
        let expected_s = theory::short_latency_s(1.0, 2.0 / 3.0 * misses / waits);
        let seen = forecast(&world(short(1_000), 0.01, 3));
        assert!((seen.mean_ms() / 1_000.0 / expected_s - 1.0).abs() < 0.06, "{}", seen.mean_ms());
    }

    #[test]
    fn hits_in_a_row_make_messages_wait_for_less() {
        let rare = forecast(&world(short(1_000), 0.02, 3)).mean_ms();
        let often = forecast(&world(short(1_000), 1.0, 3)).mean_ms();
        assert!(often < 0.8 * rare, "{often} {rare}");
    }

    #[test]
    fn long_polls_are_empty_as_often_as_nothing_comes() {
        let seen = forecast(&world(Style::Long { wait_s: 1 }, 0.5, 3));
        let expected = theory::long_empties(0.5, 1.0);
        assert!((seen.empties_per_message() / expected - 1.0).abs() < 0.05);
        assert_eq!(seen.mean_ms(), 0.0);
    }

    /// Others' messages do not wait until there are none here.
    #[test]
    fn who_collects_waits_for_little_more_than_a_pause() {
        let pause = Duration::from_secs(1);
        let seen = forecast(&world(Style::Collect { wait_s: 20, pause }, 5.0, 3));
        assert!(seen.quantile_ms(0.99) < 2_500.0, "{}", seen.quantile_ms(0.99));
    }

    #[test]
    fn each_time_is_of_the_first_who_has_it() {
        let request =
            |took_s, outcome| Request { run: 0, begin_s: 1.0, end_s: 1.0 + took_s, outcome };
        let seen = |requests: &[Request]| Seen { requests: requests.to_vec(), ..Seen::default() };
        let own = seen(&[request(0.25, Outcome::Messages)]);
        let other = seen(&[request(0.5, Outcome::Messages), request(0.125, Outcome::Empty)]);
        assert_eq!(Times::of([&own, &other]), Times { empty_s: 0.125, hit_s: 0.25 });
        assert_eq!(Times::of([&own]), Times { empty_s: Times::ELSE_S, hit_s: 0.25 });
        assert_eq!(Times::of([]), Times { empty_s: Times::ELSE_S, hit_s: Times::ELSE_S });
    }

    #[test]
    fn consumers_share_the_work_of_finding_a_message() {
        let many = |count: usize| {
            let poller = |number: usize| Poller {
                node: number % 3,
                queues: vec![0],
                style: short(1_000),
                delay_s: number as f64 / count as f64,
            };
            World { pollers: (0..count).map(poller).collect(), ..world(short(0), 1.0, ASK_ALL) }
        };
        let (one, ten) = (forecast(&many(1)), forecast(&many(10)));
        assert!(ten.mean_ms() < 0.15 * one.mean_ms(), "{} {}", ten.mean_ms(), one.mean_ms());
        let ratio = ten.empties_per_message() / one.empties_per_message();
        assert!((ratio - 10.0).abs() < 0.5, "{ratio}");
    }

    #[test]
    fn queues_in_turn_wait_for_the_round() {
        let queues = 4;
        let poller = Poller {
            queues: (0..queues).collect(),
            ..world(short(100), 1.0, 8).pollers[0].clone()
        };
        let seen = forecast(&World { queues, pollers: vec![poller], ..world(short(100), 0.1, 8) });
        assert!((seen.mean_ms() - 200.0).abs() < 15.0, "{}", seen.mean_ms());
    }

    #[test]
    fn the_same_seed_gives_the_same() {
        let world = world(short(100), 10.0, 3);
        assert_eq!(forecast(&world).latencies_ms, forecast(&world).latencies_ms);
    }
}
