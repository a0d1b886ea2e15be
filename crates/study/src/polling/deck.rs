//! A model of the server's memory: what it should do, stated once more and on its own.
//!
//! A shard since whose turn 2n others were asked is asked first; the rest of a sample is luck.

use rand::SeedableRng as _;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;

/// One node's memory of a queue.
pub(super) struct Deck {
    passed_over: Vec<usize>,
    rng: StdRng,
}

impl Deck {
    pub(super) fn new(n: usize, seed: u64) -> Self {
        Self { passed_over: vec![0; n], rng: StdRng::seed_from_u64(seed) }
    }

    /// Whom the next poll asks.
    pub(super) fn poll(&mut self, k: usize) -> Vec<usize> {
        let n = self.passed_over.len();
        let mut order: Vec<usize> = (0..n).collect();
        order.shuffle(&mut self.rng);
        let patience = 2 * n;
        order.sort_by_key(|shard| match self.passed_over[*shard] {
            waited if waited >= patience => (false, usize::MAX - waited),
            _ => (true, 0),
        });
        order.truncate(k);
        self.passed_over.iter_mut().for_each(|waited| *waited += order.len());
        order.iter().for_each(|shard| self.passed_over[*shard] = 0);
        order
    }
}

/// Models of one thing, for a mean.
const RUNS: u64 = 20_000;

/// Polls until `occupied` shards were all asked: the share that needs at most 0, 1, 2… polls.
pub(super) fn covered(n: usize, k: usize, occupied: usize) -> Vec<f64> {
    let mut needed = Vec::new();
    for run in 0..RUNS {
        let (mut deck, mut missing) = (Deck::new(n, run), occupied);
        let mut seen = vec![false; n];
        let mut polls = 0;
        while missing > 0 {
            polls += 1;
            for shard in deck.poll(k) {
                // Which ones are occupied makes no difference to a fresh deck.
                if shard < occupied && !seen[shard] {
                    seen[shard] = true;
                    missing -= 1;
                }
            }
        }
        if needed.len() <= polls {
            needed.resize(polls + 1, 0_u64);
        }
        needed[polls] += 1;
    }
    let mut sum = 0;
    needed
        .iter()
        .map(|count| {
            sum += count;
            sum as f64 / RUNS as f64
        })
        .collect()
}

/// The mean of a distribution given as [`covered`] does.
pub(super) fn mean(covered: &[f64]) -> f64 {
    covered.iter().map(|share| 1.0 - share).sum()
}

/// Polls that miss a message which appears at a random moment in a queue that is polled all the time.
pub(super) fn misses(n: usize, k: usize) -> f64 {
    let mut deck = Deck::new(n, 0);
    let (mut last, mut sum, mut waits) = (vec![None; n], 0.0, 0.0);
    for poll in 0..RUNS as usize {
        for shard in deck.poll(k) {
            if let Some(before) = last[shard].replace(poll) {
                // It appears before any of the polls of this gap with equal chance.
                let gap = (poll - before) as f64;
                sum += gap * (gap - 1.0) / 2.0;
                waits += gap;
            }
        }
    }
    sum / waits
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::polling::theory;

    #[test]
    fn nobody_waits_beyond_the_bound() {
        for (n, k) in [(8, 1), (8, 3), (8, 8), (3, 2), (16, 5)] {
            let covered = covered(n, k, n.min(4));
            assert!(covered.len() - 1 <= theory::deck_bound(n, k), "{n} {k}");
            assert_eq!(covered.last(), Some(&1.0));
        }
    }

    #[test]
    fn memory_saves_polls() {
        let with = mean(&covered(8, 3, 4));
        let without = theory::coverage_mean(8, 3, 4);
        assert!(with < without, "{with} {without}");
        assert!(with > 0.9 * without, "a little: {with} {without}");
        assert_eq!(misses(8, 8), 0.0);
        let misses = misses(8, 3);
        assert!(misses > 1.3 && misses < 8.0 / 3.0 - 1.0, "{misses}");
    }
}
