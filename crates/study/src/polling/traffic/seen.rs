//! What a run saw, and runs of the same kind together.

use std::ops::Range;

use crate::polling::stats::{Estimate, quantile, quantiles_of_blocks, ratio};

/// What came of a receive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::polling) enum Outcome {
    Messages,
    Empty,
    Error,
}

/// A receive. Times are seconds since the begin.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::polling) struct Request {
    /// Of the runs that were added up.
    pub(in crate::polling) run: usize,
    pub(in crate::polling) begin_s: f64,
    pub(in crate::polling) end_s: f64,
    pub(in crate::polling) outcome: Outcome,
}

/// A message that came.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::polling) struct Delivery {
    /// Of the runs that were added up.
    pub(in crate::polling) run: usize,
    /// When it was due to be sent.
    pub(in crate::polling) due_s: f64,
    pub(in crate::polling) ms: f64,
}

impl Delivery {
    pub(in crate::polling) fn received_s(&self) -> f64 {
        self.due_s + self.ms / 1_000.0
    }
}

/// From so many parts intervals are made, at least; none of them is of two runs.
const BLOCKS: usize = 10;

/// What was seen. Times are seconds since the begin.
#[derive(Clone, Debug, Default)]
pub(in crate::polling) struct Seen {
    /// How long messages were sent.
    pub(in crate::polling) seconds: f64,
    /// Runs that were added up.
    pub(in crate::polling) runs: usize,
    /// Those that ended while messages were sent.
    pub(in crate::polling) requests: Vec<Request>,
    pub(in crate::polling) delivered: Vec<Delivery>,
    /// How long sends took that were acknowledged, seconds.
    pub(in crate::polling) sends_s: Vec<f64>,
    pub(in crate::polling) send_errors: Vec<f64>,
    /// What a receive that failed said.
    pub(in crate::polling) last_error: Option<String>,
    pub(in crate::polling) acknowledged: u64,
    pub(in crate::polling) duplicates: u64,
    /// Acknowledged and not received.
    pub(in crate::polling) lost: u64,
}

impl Seen {
    pub(in crate::polling) fn count(&self, outcome: Outcome) -> usize {
        self.requests.iter().filter(|request| request.outcome == outcome).count()
    }

    /// Messages per second and run.
    pub(in crate::polling) fn rate_per_s(&self) -> f64 {
        self.delivered.len() as f64 / self.seconds / self.runs as f64
    }

    /// Of each run.
    fn parts(&self) -> usize {
        BLOCKS.div_ceil(self.runs.max(1))
    }

    fn block(&self, run: usize, at_s: f64) -> usize {
        let parts = self.parts();
        let part = (at_s / self.seconds * parts as f64).max(0.0) as usize;
        run * parts + part.min(parts - 1)
    }

    /// Requests of these outcomes for each message. Only messages that came while requests were
    /// counted.
    pub(in crate::polling) fn per_message(&self, outcomes: &[Outcome]) -> Estimate {
        let mut blocks = vec![(0.0, 0.0); self.runs * self.parts()];
        for request in self.requests.iter().filter(|one| outcomes.contains(&one.outcome)) {
            blocks[self.block(request.run, request.end_s)].0 += 1.0;
        }
        let in_time = |one: &&Delivery| (0.0..self.seconds).contains(&one.received_s());
        for delivery in self.delivered.iter().filter(in_time) {
            blocks[self.block(delivery.run, delivery.received_s())].1 += 1.0;
        }
        ratio(&blocks)
    }

    fn latency_blocks(&self) -> Vec<Vec<f64>> {
        let mut blocks = vec![Vec::new(); self.runs * self.parts()];
        for delivery in &self.delivered {
            blocks[self.block(delivery.run, delivery.due_s)].push(delivery.ms);
        }
        blocks
    }

    /// The latency that these shares of all messages do not exceed; no number where there are too
    /// few for it.
    pub(in crate::polling) fn latencies<const N: usize>(&self, shares: [f64; N]) -> [Estimate; N] {
        let found = quantiles_of_blocks(&self.latency_blocks(), shares);
        let enough = |share: f64| match share {
            share if share > 0.99 => self.delivered.len() >= ENOUGH_FOR_999,
            share if share > 0.9 => self.delivered.len() >= ENOUGH_FOR_99,
            _ => true,
        };
        let mut shares = shares.into_iter();
        found.map(|one| match shares.next() {
            Some(share) if enough(share) => one,
            _ => Estimate::UNKNOWN,
        })
    }

    pub(in crate::polling) fn mean_ms(&self) -> Estimate {
        let sums: Vec<(f64, f64)> = self
            .latency_blocks()
            .iter()
            .map(|block| (block.iter().sum(), block.len() as f64))
            .collect();
        ratio(&sums)
    }

    /// How long a request takes that does not wait and of which this comes: half of them, seconds.
    pub(in crate::polling) fn request_s(&self, outcome: Outcome) -> f64 {
        let those = self.requests.iter().filter(|request| request.outcome == outcome);
        quantile(&those.map(|one| one.end_s - one.begin_s).collect::<Vec<_>>(), 0.5)
    }

    /// Messages of a run.
    pub(in crate::polling) fn messages_per_run(&self) -> usize {
        (self.delivered.len() / self.runs.max(1)).max(1)
    }

    /// From when a message is sent until it is there: half of the sends, seconds; none where nothing was sent.
    pub(in crate::polling) fn send_s(&self) -> f64 {
        if self.sends_s.is_empty() { 0.0 } else { quantile(&self.sends_s, 0.5) }
    }

    /// Whether an answer was empty although a message was there all the time: sent before the
    /// request began, and received after it had ended.
    pub(in crate::polling) fn is_in_vain(&self, request: &Request) -> bool {
        let there = |message: &Delivery| {
            message.run == request.run
                && message.due_s + SENT_S < request.begin_s
                && message.received_s() > request.end_s
        };
        request.outcome == Outcome::Empty && self.delivered.iter().any(there)
    }

    /// How many such answers came meanwhile.
    pub(in crate::polling) fn empties_in_vain(&self, during: Range<f64>) -> usize {
        let meanwhile = self.requests.iter().filter(|one| during.contains(&one.end_s));
        meanwhile.filter(|request| self.is_in_vain(request)).count()
    }

    /// Another run of the same kind.
    pub(in crate::polling) fn add(&mut self, other: Self) {
        self.seconds = self.seconds.max(other.seconds);
        let later = self.runs;
        self.requests.extend(other.requests.into_iter().map(|mut request| {
            request.run += later;
            request
        }));
        self.delivered.extend(other.delivered.into_iter().map(|mut delivery| {
            delivery.run += later;
            delivery
        }));
        self.runs += other.runs;
        self.sends_s.extend(other.sends_s);
        self.send_errors.extend(other.send_errors);
        self.last_error = self.last_error.take().or(other.last_error);
        self.acknowledged += other.acknowledged;
        self.duplicates += other.duplicates;
        self.lost += other.lost;
    }
}

/// Of fewer messages, the share's upper limit would be the slowest of them.
const ENOUGH_FOR_99: usize = 100;
const ENOUGH_FOR_999: usize = 4_000;
/// A message that was due so long ago was sent.
const SENT_S: f64 = 0.05;

#[cfg(test)]
mod tests {
    use super::*;

    fn request(begin_s: f64, end_s: f64, outcome: Outcome) -> Request {
        Request { run: 0, begin_s, end_s, outcome }
    }

    #[test]
    fn only_what_came_while_requests_were_counted_is_divided_by() {
        let seen = Seen {
            seconds: 10.0,
            runs: 1,
            requests: (0..10)
                .map(|at| request(f64::from(at), f64::from(at) + 0.5, Outcome::Empty))
                .collect(),
            delivered: [(1.0, 100.0), (5.0, 100.0), (9.0, 5_000.0)]
                .map(|(due_s, ms)| Delivery { run: 0, due_s, ms })
                .to_vec(),
            ..Seen::default()
        };
        assert_eq!(seen.per_message(&[Outcome::Empty]).value, 5.0);
        assert_eq!(seen.per_message(&[Outcome::Messages]).value, 0.0);
        let [half, most] = seen.latencies([0.5, 0.99]);
        assert_eq!(half.value, 100.0);
        assert!(most.value.is_nan(), "three messages have no 99th percentile");
        assert_eq!(seen.request_s(Outcome::Empty), 0.5);
        assert!(seen.request_s(Outcome::Messages).is_nan());
    }

    /// A run that was slow as a whole widens the interval, which parts of one run cannot know.
    #[test]
    fn runs_that_are_added_up_keep_parts_of_their_own() {
        let run = |ms| Seen {
            seconds: 10.0,
            runs: 1,
            requests: (0..10)
                .map(|at| request(f64::from(at), f64::from(at) + 0.5, Outcome::Empty))
                .collect(),
            delivered: (0..10).map(|at| Delivery { run: 0, due_s: f64::from(at), ms }).collect(),
            ..Seen::default()
        };
        let [alone] = run(10.0).latencies([0.5]);
        assert_eq!((alone.low, alone.high), (10.0, 10.0));
        let mut all = run(10.0);
        all.add(run(10.0));
        all.add(run(40.0));
        assert_eq!((all.runs, all.rate_per_s(), all.parts()), (3, 1.0, 4));
        assert_eq!(all.latency_blocks().iter().map(Vec::len).sum::<usize>(), 30);
        let slow: Vec<usize> =
            all.delivered.iter().filter(|one| one.ms > 10.0).map(|one| one.run).collect();
        assert_eq!(slow, [2; 10]);
        let mean = all.mean_ms();
        assert!(mean.value == 20.0 && mean.low < 15.0 && mean.high > 25.0, "{mean:?}");
        assert_eq!(all.per_message(&[Outcome::Empty]).value, 1.0);
        // What one run had waiting is nothing to another's poll.
        all.requests = vec![Request { run: 1, ..request(1.0, 9.0, Outcome::Empty) }];
        all.delivered = vec![Delivery { run: 0, due_s: 0.5, ms: 9_000.0 }];
        assert_eq!(all.empties_in_vain(0.0..10.0), 0);
    }

    #[test]
    fn an_empty_answer_is_in_vain_while_a_message_is_there() {
        let seen = Seen {
            seconds: 10.0,
            runs: 1,
            requests: vec![
                request(0.5, 0.9, Outcome::Empty),
                request(1.2, 2.0, Outcome::Empty),
                request(2.5, 3.5, Outcome::Empty),
                request(2.5, 2.6, Outcome::Error),
            ],
            delivered: vec![Delivery { run: 0, due_s: 1.0, ms: 2_000.0 }],
            ..Seen::default()
        };
        assert_eq!(seen.empties_in_vain(0.0..10.0), 1);
        assert_eq!(seen.empties_in_vain(3.0..10.0), 0);
    }
}
