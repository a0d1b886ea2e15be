//! A model of the server's memory: what it should do, stated once more and on its own.
//!
//! A shard since whose turn 2n others were asked is asked first; the rest of a sample is luck,
//! weighted by what is known of each shard's messages if anything is. There are no closed forms for
//! it: means are those of many models, whose number is a constant here.

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

/// How much likelier than an empty shard one is that is known to have a message, and another for
/// each more of them.
const KNOWN_WEIGHT: u32 = 64;
const KNOWN_MAX: u32 = 255;
/// The share of sends that go to a shard which the sender's node leads; the rest go anywhere.
pub(super) const LOCAL_SHARE: f64 = 0.9;

/// One node's memory of a queue.
pub(super) struct Deck {
    slots: Vec<Slot>,
    rng: StdRng,
}

#[derive(Clone, Copy, Default)]
struct Slot {
    passed_over: usize,
    /// Seconds.
    asked_s: f64,
    known: u32,
}

impl Deck {
    /// One that knows nothing.
    pub(super) fn new(n: usize, seed: u64) -> Self {
        Self { slots: vec![Slot::default(); n], rng: StdRng::seed_from_u64(seed) }
    }

    /// Whom the next poll would ask, in order.
    pub(super) fn sample(&mut self, k: usize) -> Vec<usize> {
        let patience = 2 * self.slots.len();
        let rng = &mut self.rng;
        let mut drawn: Vec<(bool, f64, usize)> = self
            .slots
            .iter()
            .enumerate()
            .map(|(shard, slot)| {
                if slot.passed_over >= patience {
                    return (false, -(slot.passed_over as f64), shard);
                }
                let weight = match slot.known {
                    0 => 1,
                    known => KNOWN_WEIGHT + known.min(KNOWN_MAX),
                };
                (true, -(1.0 - rng.random::<f64>()).ln() / f64::from(weight), shard)
            })
            .collect();
        drawn.sort_by(|one, two| one.0.cmp(&two.0).then(one.1.total_cmp(&two.1)));
        let by_luck = drawn.iter().find(|(is_by_luck, ..)| *is_by_luck).copied();
        drawn.truncate(k);
        // It is the turn of as many as there are in a sample: one more is asked.
        if drawn.iter().all(|(is_by_luck, ..)| !is_by_luck) {
            drawn.extend(by_luck);
        }
        drawn.into_iter().map(|(_, _, shard)| shard).collect()
    }

    /// Whom it did ask.
    pub(super) fn asked(&mut self, shards: &[usize]) {
        self.slots.iter_mut().for_each(|slot| slot.passed_over += shards.len());
        shards.iter().for_each(|shard| self.slots[*shard].passed_over = 0);
    }

    /// The same, where time counts.
    pub(super) fn asked_at(&mut self, shards: &[usize], now_s: f64) {
        self.asked(shards);
        shards.iter().for_each(|shard| self.slots[*shard].asked_s = now_s);
    }

    /// Both.
    pub(super) fn poll(&mut self, k: usize) -> Vec<usize> {
        let shards = self.sample(k);
        self.asked(&shards);
        shards
    }

    /// A shard said how many messages it has left.
    pub(super) fn note_left(&mut self, shard: usize, messages: usize) {
        self.slots[shard].known = messages.min(KNOWN_MAX as usize) as u32;
    }

    /// Messages were sent to it through this node.
    pub(super) fn note_sent(&mut self, shard: usize, messages: usize) {
        self.slots[shard].known += messages as u32;
    }

    /// The shards since whose turn so many others were asked, or that were not asked since then; the longest waiting
    /// first.
    pub(super) fn neglected(&self, asks: usize, since_s: f64) -> Vec<usize> {
        let waited = |shard: &usize| self.slots[*shard].passed_over;
        let mut shards: Vec<usize> = (0..self.slots.len()).collect();
        shards.retain(|shard| waited(shard) >= asks || self.slots[*shard].asked_s <= since_s);
        shards.sort_by_key(|shard| std::cmp::Reverse(waited(shard)));
        shards
    }
}

/// Which node leads each shard, when so many lead so many.
pub(super) fn leaders(led: &[usize]) -> Vec<usize> {
    led.iter().enumerate().flat_map(|(node, count)| std::iter::repeat_n(node, *count)).collect()
}

/// Where a node sends a message, or a batch.
pub(super) fn place(leaders: &[usize], sender: usize, rng: &mut StdRng) -> usize {
    let local: Vec<usize> = (0..leaders.len()).filter(|shard| leaders[*shard] == sender).collect();
    if !local.is_empty() && rng.random_bool(LOCAL_SHARE) {
        return local[rng.random_range(0..local.len())];
    }
    rng.random_range(0..leaders.len())
}

/// What shards that have `left` give to a poll that asks them in this order, those of one leader at
/// once, until there is enough: whom it asked, and how much each gave.
pub(super) fn taken(
    order: &[usize],
    leaders: &[usize],
    left: impl Fn(usize) -> usize,
    max: usize,
) -> Vec<(usize, usize)> {
    let (mut rest, mut missing, mut taken) = (order.to_vec(), max, Vec::new());
    while let Some(first) = rest.first().copied() {
        let leader = leaders[first];
        let (run, others): (Vec<usize>, Vec<usize>) =
            rest.into_iter().partition(|shard| leaders[*shard] == leader);
        rest = others;
        for shard in run {
            if missing == 0 {
                return taken;
            }
            let count = left(shard).min(missing);
            missing -= count;
            taken.push((shard, count));
        }
        if missing == 0 {
            break;
        }
    }
    taken
}

/// Models of one thing, for a mean.
pub(super) const RUNS: u64 = 20_000;
/// The same where one takes longer.
pub(super) const LONG_RUNS: u64 = 2_000;

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

/// Messages that one node takes in, in batches, and another one is polled for until all were seen.
#[derive(Clone, Copy, Debug)]
pub(super) struct Emptying<'a> {
    pub(super) leaders: &'a [usize],
    pub(super) k: usize,
    pub(super) messages: usize,
    pub(super) batch: usize,
    /// Of an answer.
    pub(super) max: usize,
}

/// Polls of each of so many models.
pub(super) fn emptied(case: Emptying<'_>, sender: usize) -> Vec<f64> {
    let n = case.leaders.len();
    let model = |run: u64| {
        let mut rng = StdRng::seed_from_u64(run);
        let (mut deck, mut left) = (Deck::new(n, !run), vec![0; n]);
        let mut missing = case.messages;
        while missing > 0 {
            let batch = case.batch.min(missing);
            left[place(case.leaders, sender, &mut rng)] += batch;
            missing -= batch;
        }
        let (mut seen, mut polls) = (0, 0);
        while seen < case.messages {
            polls += 1;
            let order = deck.sample(case.k);
            let given = taken(&order, case.leaders, |shard| left[shard], case.max);
            for (shard, count) in &given {
                left[*shard] -= count;
                seen += count;
                deck.note_left(*shard, left[*shard]);
            }
            let asked: Vec<usize> = given.iter().map(|(shard, _)| *shard).collect();
            deck.asked(&asked);
        }
        f64::from(polls)
    };
    (0..LONG_RUNS).map(model).collect()
}

/// Messages in a short poll's answer, the first one of a queue that was filled through all nodes in turn, the polled
/// one last: for each of `maxima`.
pub(super) fn yielded(
    leaders: &[usize],
    k: usize,
    (poller, nodes): (usize, usize),
    (draws, unit): (u32, usize),
    maxima: &[usize],
) -> Vec<f64> {
    let n = leaders.len();
    let mut sums = vec![0.0; maxima.len()];
    for run in 0..LONG_RUNS {
        let mut rng = StdRng::seed_from_u64(run);
        let (mut deck, mut left) = (Deck::new(n, !run), vec![0; n]);
        for draw in 0..draws as usize {
            let sender = (poller + 1 + draw) % nodes;
            let shard = place(leaders, sender, &mut rng);
            left[shard] += unit;
            if sender == poller {
                deck.note_sent(shard, unit);
            }
        }
        let order = deck.sample(k);
        let found = |order: &[usize], max| -> usize {
            taken(order, leaders, |shard| left[shard], max).iter().map(|(_, count)| count).sum()
        };
        for (sum, max) in sums.iter_mut().zip(maxima) {
            *sum += found(&order, *max) as f64;
        }
    }
    sums.into_iter().map(|sum| sum / LONG_RUNS as f64).collect()
}

/// In which order a long poll looks at nodes' shards: its own first, then whichever answers first.
pub(super) fn look_round(leaders: &[usize], poller: usize, turn: usize) -> Vec<Vec<usize>> {
    let nodes = leaders.iter().max().map_or(1, |most| most + 1);
    let others = (0..nodes).map(|node| (node + turn) % nodes).filter(|node| *node != poller);
    let of = |node: usize| (0..leaders.len()).filter(|shard| leaders[*shard] == node).collect();
    std::iter::once(poller).chain(others).map(of).collect()
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
    }

    #[test]
    fn what_is_known_is_hardly_missed() {
        let mut deck = Deck::new(8, 1);
        deck.note_sent(5, 1);
        let expected = theory::miss_weighted(&[1., 1., 1., 1., 1., 65., 1., 1.], 5, 3);
        let missed = (0..20_000).filter(|_| !deck.sample(3).contains(&5)).count();
        assert!((missed as f64 / 20_000.0 - expected).abs() < 0.001, "{missed}");
        deck.note_left(5, 0);
        let missed = (0..20_000).filter(|_| !deck.sample(3).contains(&5)).count();
        assert!((missed as f64 / 20_000.0 - 0.625).abs() < 0.02, "{missed}");
    }

    #[test]
    fn a_poll_takes_until_it_has_enough() {
        let left = [0, 7, 5, 20];
        let of = |order: &[usize], max| taken(order, &[0, 0, 1, 1], |shard| left[shard], max);
        assert_eq!(of(&[1, 2, 0], 10), [(1, 7), (0, 0), (2, 3)], "one leader's shards at once");
        assert_eq!(of(&[3, 1], 10), [(3, 10)]);
        assert_eq!(of(&[0], 10), [(0, 0)]);
    }

    #[test]
    fn a_deep_queue_is_emptied_in_little_more_than_full_answers() {
        let case =
            Emptying { leaders: &leaders(&[3, 3, 2]), k: 8, messages: 999, batch: 10, max: 10 };
        assert!(emptied(case, 0).iter().all(|polls| *polls == 100.0));
        let three = emptied(Emptying { k: 3, ..case }, 0);
        let mean = three.iter().sum::<f64>() / three.len() as f64;
        assert!((100.0..110.0).contains(&mean), "{mean}");
        assert!(three.iter().all(|polls| *polls <= 900.0));
    }

    #[test]
    fn an_answer_brings_what_is_near() {
        let leaders = leaders(&[3, 3, 2]);
        let of = |draws, max: usize| yielded(&leaders, 3, (2, 3), (draws, 1), &[max])[0];
        let lone = of(1, 10);
        assert!((lone - 0.375).abs() < 0.03, "{lone}");
        assert!(of(100, 10) > 9.9, "{}", of(100, 10));
    }
}
