//! Messages that arrive by chance, consumers that poll for them, and what both saw.
//!
//! Every acknowledged message has to come, or the run is not sound.

mod seen;

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use super::api::{Answer, Api, Ask};
pub(super) use seen::{Delivery, Outcome, Request, Seen};

/// How a consumer polls.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Style {
    /// At once again after an answer with messages; after another one, later.
    Short { pause: Duration },
    /// At once again, always.
    Long { wait_s: u32 },
    /// The same after an empty answer and a full one; after another one, later: what comes
    /// meanwhile comes together.
    Collect { wait_s: u32, pause: Duration },
}

/// Of messages.
const FULL: usize = Ask::SHORT.max as usize;

impl Style {
    pub(super) fn ask(self) -> Ask {
        match self {
            Self::Short { .. } => Ask::SHORT,
            Self::Long { wait_s } | Self::Collect { wait_s, .. } => Ask::long(wait_s),
        }
    }

    /// After an answer with so many messages.
    pub(super) fn pause_after(self, messages: usize) -> Duration {
        match self {
            Self::Short { pause } if messages == 0 => pause,
            Self::Collect { pause, .. } if (1..FULL).contains(&messages) => pause,
            Self::Short { .. } | Self::Long { .. } | Self::Collect { .. } => Duration::ZERO,
        }
    }

    /// What consumer `number` of `count` waits before it begins, so that they do not poll in step,
    /// as consumers that were not started together do not either.
    pub(super) fn delay(self, number: usize, count: usize) -> Duration {
        match self {
            Self::Short { pause } | Self::Collect { pause, .. } => {
                pause.mul_f64(number as f64 / count as f64)
            }
            // Who waits is in nobody's step.
            Self::Long { .. } => Duration::ZERO,
        }
    }
}

/// Somebody who polls queues in turn.
#[derive(Clone, Debug)]
pub(super) struct Consumer {
    pub(super) node: String,
    pub(super) queues: Vec<String>,
    pub(super) style: Style,
    /// Before the first poll.
    pub(super) delay: Duration,
}

/// What happens in a run.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) queues: Vec<String>,
    /// Through which messages are sent, in turn.
    pub(super) senders: Vec<String>,
    /// Of all queues together; each message goes to one of them by chance.
    pub(super) rate_per_s: f64,
    pub(super) seconds: f64,
    pub(super) seed: u64,
    pub(super) consumers: Vec<Consumer>,
    /// What a request may take beyond its wait before its client gives up.
    pub(super) patience: Duration,
    /// Of what is received, where answers may get lost: those messages come again. Else the
    /// queue's.
    pub(super) visibility_s: Option<u32>,
    /// How long after the last send messages may still come.
    pub(super) drain: Duration,
}

/// What senders and consumers write to.
#[derive(Default)]
struct Ledger {
    seen: Seen,
    acknowledged: HashSet<usize>,
    received: HashSet<usize>,
}

struct Run {
    begin: Instant,
    seconds: f64,
    ledger: Mutex<Ledger>,
}

impl Run {
    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        // What a panic left behind is not used: it ends the study.
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now_s(&self) -> f64 {
        self.begin.elapsed().as_secs_f64()
    }
}

/// From a run's call to its begin: consumers are there first.
pub(super) const LEAD: Duration = Duration::from_millis(200);
/// Timers are late by as much, which is not the message's fault.
const TIMER: Duration = Duration::from_millis(2);

/// Runs a plan to its end.
pub(super) async fn run(plan: Plan) -> anyhow::Result<Seen> {
    let begin = Instant::now() + LEAD;
    let run = Arc::new(Run { begin, seconds: plan.seconds, ledger: Mutex::default() });
    let mut consumers = JoinSet::new();
    for consumer in plan.consumers.clone() {
        let ask = Ask { visibility_s: plan.visibility_s, ..consumer.style.ask() };
        consumers.spawn(consume(run.clone(), consumer, ask, plan.patience));
    }
    let arrivals = Arc::new(arrivals(&plan));
    let next = Arc::new(AtomicUsize::new(0));
    let mut senders = JoinSet::new();
    // Enough that none is late because the one before it is not answered yet.
    let count = plan.senders.len() * (1 + plan.rate_per_s as usize / 10);
    for sender in 0..count {
        let api = Api::impatient(&plan.senders[sender % plan.senders.len()], plan.patience);
        senders.spawn(send(run.clone(), api, arrivals.clone(), next.clone()));
    }
    while let Some(ended) = senders.join_next().await {
        ended?;
    }
    sleep_until(begin + Duration::from_secs_f64(plan.seconds)).await;
    let end = Instant::now() + plan.drain;
    loop {
        let complete = {
            let ledger = run.ledger();
            ledger.acknowledged.is_subset(&ledger.received)
        };
        if complete || Instant::now() >= end {
            break;
        }
        sleep(Duration::from_millis(20)).await;
    }
    consumers.shutdown().await;
    let mut ledger = run.ledger();
    let mut seen = std::mem::take(&mut ledger.seen);
    (seen.seconds, seen.runs) = (plan.seconds, 1);
    seen.acknowledged = ledger.acknowledged.len() as u64;
    seen.lost = ledger.acknowledged.difference(&ledger.received).count() as u64;
    Ok(seen)
}

/// Of a message: when, and to which queue.
type Arrival = (Duration, String);

fn arrivals(plan: &Plan) -> Vec<Arrival> {
    let mut rng = StdRng::seed_from_u64(plan.seed);
    let (mut at, mut all) = (0.0, Vec::new());
    loop {
        at -= (1.0 - rng.random::<f64>()).ln() / plan.rate_per_s;
        if at >= plan.seconds {
            return all;
        }
        let queue = &plan.queues[rng.random_range(0..plan.queues.len())];
        all.push((Duration::from_secs_f64(at), queue.clone()));
    }
}

async fn send(run: Arc<Run>, mut api: Api, arrivals: Arc<Vec<Arrival>>, next: Arc<AtomicUsize>) {
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        let Some((due, queue)) = arrivals.get(number) else { return };
        sleep_until(run.begin + *due).await;
        // A message that could not be sent when it was due has been waiting since then.
        let due = run.begin + *due;
        let late = due.elapsed() > TIMER;
        let at_s = if late { (due - run.begin).as_secs_f64() } else { run.now_s() };
        let begin = Instant::now();
        let sent = api.send(queue, &format!("{number} {at_s:.6}")).await;
        let took_s = begin.elapsed().as_secs_f64();
        let mut ledger = run.ledger();
        match sent {
            Ok(()) => {
                ledger.acknowledged.insert(number);
                ledger.seen.sends_s.push(took_s);
            }
            Err(_) => ledger.seen.send_errors.push(at_s),
        }
    }
}

/// What a consumer waits after an error.
const AFTER_ERROR: Duration = Duration::from_millis(100);

async fn consume(run: Arc<Run>, consumer: Consumer, ask: Ask, patience: Duration) {
    let mut api = Api::impatient(&consumer.node, patience);
    if !consumer.delay.is_zero() {
        sleep(consumer.delay).await;
    }
    for queue in consumer.queues.iter().cycle() {
        let begin_s = run.now_s();
        let answer = api.receive(queue, ask).await;
        let now_s = run.now_s();
        let (outcome, letters) = match answer {
            Ok(Answer { letters, .. }) if letters.is_empty() => (Outcome::Empty, letters),
            Ok(Answer { letters, .. }) => (Outcome::Messages, letters),
            Err(error) => {
                run.ledger().seen.last_error = Some(error.to_string());
                (Outcome::Error, Vec::new())
            }
        };
        {
            let mut ledger = run.ledger();
            if (0.0..run.seconds).contains(&now_s) {
                ledger.seen.requests.push(Request { run: 0, begin_s, end_s: now_s, outcome });
            }
            for letter in &letters {
                note(&mut ledger, &letter.body, now_s);
            }
        }
        match outcome {
            // That it failed is seen by the message's return, which is long after the run.
            Outcome::Messages => drop(api.delete(queue, &letters).await),
            Outcome::Error => sleep(AFTER_ERROR).await,
            Outcome::Empty => {}
        }
        let pause = consumer.style.pause_after(letters.len());
        // The shortest sleep is a millisecond.
        if outcome != Outcome::Error && !pause.is_zero() {
            sleep(pause).await;
        }
    }
}

fn note(ledger: &mut Ledger, body: &str, now_s: f64) {
    let Some((number, sent_s)) = body.split_once(' ') else { return };
    let (Ok(number), Ok(sent_s)) = (number.parse(), sent_s.parse::<f64>()) else { return };
    if ledger.received.insert(number) {
        ledger.seen.delivered.push(Delivery {
            run: 0,
            due_s: sent_s,
            ms: 1_000.0 * (now_s - sent_s),
        });
    } else {
        ledger.seen.duplicates += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrivals_are_reproducible_and_as_many_as_asked() {
        let plan = Plan {
            queues: vec!["a".into(), "b".into()],
            senders: vec![],
            rate_per_s: 50.0,
            seconds: 100.0,
            seed: 3,
            consumers: vec![],
            patience: Duration::ZERO,
            visibility_s: None,
            drain: Duration::ZERO,
        };
        let all = arrivals(&plan);
        assert_eq!(all, arrivals(&plan));
        assert!((4_700..5_300).contains(&all.len()), "{}", all.len());
        let first = all.iter().filter(|(_, queue)| queue == "a").count();
        assert!(first.abs_diff(all.len() / 2) < 300);
        assert_ne!(all, arrivals(&Plan { seed: 4, ..plan }));
    }

    #[test]
    fn a_message_that_comes_twice_counts_once() {
        let mut ledger = Ledger::default();
        note(&mut ledger, "7 1.5", 2.0);
        note(&mut ledger, "7 1.5", 3.0);
        note(&mut ledger, "else", 3.0);
        assert_eq!(ledger.seen.delivered, [Delivery { run: 0, due_s: 1.5, ms: 500.0 }]);
        assert_eq!((ledger.seen.duplicates, ledger.received.len()), (1, 1));
    }

    #[test]
    fn consumers_of_one_style_are_spread_over_a_pause() {
        let short = Style::Short { pause: Duration::from_secs(8) };
        let delays = [0, 1, 3].map(|number| short.delay(number, 4).as_secs());
        assert_eq!(delays, [0, 2, 6]);
        assert_eq!(Style::Long { wait_s: 20 }.delay(3, 4), Duration::ZERO);
        assert_eq!((short.pause_after(0).as_secs(), short.pause_after(1).as_secs()), (8, 0));
        let collect = Style::Collect { wait_s: 20, pause: Duration::from_secs(1) };
        assert_eq!([0, 1, 9, 10].map(|count| collect.pause_after(count).as_secs()), [0, 1, 1, 0]);
    }
}
