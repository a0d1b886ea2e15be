//! Which shards of a queue a short poll asks: a weighted random sample, with memory.
//!
//! Pure: the caller brings the random numbers. Every shard is asked within
//! [`Deck::passed_over_max`] polls, whatever the weights and the luck: a shard goes to the front
//! when 2n others were asked since its turn (with samples of k that is 2·⌈n/k⌉ polls), and at most n
//! can be in front of it (another ⌈n/k⌉). Counting shards asked and not polls keeps the bound true, and
//! the luck alive, for polls that have enough before their sample is through.

use std::num::NonZeroUsize;
use std::str::FromStr;

use flotilla_types::limits::BATCH_ENTRIES_MAX;
use rand::{Rng, RngExt};

/// How many shards one short poll asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SampleSize {
    /// All of them: a short poll then never misses a message.
    All,
    /// At most so many.
    Some(NonZeroUsize),
}

impl Default for SampleSize {
    /// Three of eight: a short poll on a small queue that was filled through other nodes misses
    /// often enough to be noticed in a test, and sees everything within nine polls (`misses` and `coverage` in the
    /// study's report, `crates/study/report`).
    fn default() -> Self {
        Self::Some(NonZeroUsize::new(3).expect("three is not zero"))
    }
}

impl SampleSize {
    /// For a queue of so many shards.
    pub fn of(self, shards: usize) -> usize {
        match self {
            Self::All => shards,
            Self::Some(size) => size.get().min(shards),
        }
    }
}

/// The text is neither `all` nor a number from 1 on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a sample size is `all` or a number from 1 on")]
pub struct BadSampleSize;

impl FromStr for SampleSize {
    type Err = BadSampleSize;

    fn from_str(text: &str) -> Result<Self, BadSampleSize> {
        if text == "all" {
            return Ok(Self::All);
        }
        text.parse().map(Self::Some).map_err(|_| BadSampleSize)
    }
}

/// What makes a shard more likely to be asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Weights {
    /// Nothing: all are equal.
    Uniform,
    /// What this node knows of its backlog, from its own sends and receives and from earlier
    /// answers. The default: a consumer finds what it or a neighbour just sent, or had and did not
    /// delete, and the memory bounds the rest (`weights` in the study's report).
    #[default]
    Backlog,
    /// That its leader is on this node: cheap polls, and other nodes' messages come late.
    Locality,
}

/// The text names no weights.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("weights are `uniform`, `backlog` or `locality`")]
pub struct BadWeights;

impl FromStr for Weights {
    type Err = BadWeights;

    fn from_str(text: &str) -> Result<Self, BadWeights> {
        match text {
            "uniform" => Ok(Self::Uniform),
            "backlog" => Ok(Self::Backlog),
            "locality" => Ok(Self::Locality),
            _ => Err(BadWeights),
        }
    }
}

/// A backlog beyond this makes no further difference: a shard is likely enough by then, and the
/// others must not starve on a stale number.
const BACKLOG_COUNTED_MAX: u32 = 255;
/// How much likelier than an empty shard one is that is known to have a message: among eight, a
/// sample of three misses it once in two thousand times.
const BACKLOG_WEIGHT: u32 = 64;
/// How much likelier a shard is that this node leads.
const LOCAL_WEIGHT: f64 = 8.0;

/// What is known of one shard when a sample is drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Slot {
    /// Shards asked since this one was.
    passed_over: u32,
    /// When it was asked last.
    asked_ms: u64,
    /// Messages it is thought to have.
    backlog: u32,
    /// When one more is thought to become visible there: a lease or delay of it ends.
    due_ms: Option<u64>,
    /// Some tenants of the queue are noisy there.
    noisy: bool,
    /// What was sent to it until about then was handed out.
    reached_ms: u64,
}

impl Slot {
    fn backlog_weight(&self, now_ms: u64) -> u32 {
        let is_due = self.due_ms.is_some_and(|due_ms| due_ms <= now_ms);
        match self.backlog.saturating_add(is_due.into()) {
            0 => 1,
            known => BACKLOG_WEIGHT + known.min(BACKLOG_COUNTED_MAX),
        }
    }
}

/// How long shards are passed over by polls that begin with others, until they come first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// While so many others are asked.
    pub asks: usize,
    /// The same for a shard that is known to have messages older than what others hand out.
    pub asks_behind: usize,
    /// Older by more than this.
    pub behind_ms: u64,
    /// For so long, however few others are asked.
    pub wait_ms: u64,
}

/// One gateway's memory of one queue's shards.
#[derive(Clone, Debug)]
pub struct Deck {
    slots: Vec<Slot>,
}

impl Deck {
    /// For a queue of so many shards; none has been passed over yet.
    pub fn new(shards: usize) -> Self {
        Self { slots: vec![Slot::default(); shards] }
    }

    /// How many shards there are.
    pub fn shards(&self) -> usize {
        self.slots.len()
    }

    /// The number of polls within which every shard is asked, for samples of `k` of `n`.
    pub fn passed_over_max(n: usize, k: usize) -> usize {
        3 * n.div_ceil(k.max(1))
    }

    /// The number of polls within which so many messages are seen, wherever they are and whatever the
    /// weights, by polls of up to ten messages that nobody else competes with.
    ///
    /// A poll ends full, or has emptied every shard that it asked. So there are as many full polls as
    /// tens of messages, at most. All shards that a full poll asks but the last are emptied by it too, so
    /// the shard that is emptied last has its turn, until then, in full polls only; between two of its
    /// turns lie [`Deck::passed_over_max`] polls at most, and full ones, which are counted already.
    pub fn seen_whole_max(messages: usize, n: usize, k: usize) -> usize {
        messages.div_ceil(BATCH_ENTRIES_MAX) * Self::passed_over_max(n, k)
    }

    /// Draws `k` shards, in the order in which to ask them: first those that have waited too long, then by
    /// weighted luck. Where the former are `k` or more there is one by luck in addition: a poll must not be empty
    /// because it was others' turn, beside a shard that is known to have something. Each poll must report with
    /// [`Deck::asked`] whom it asked.
    pub fn sample(
        &self,
        k: usize,
        weights: Weights,
        now_ms: u64,
        is_local: impl Fn(usize) -> bool,
        rng: &mut impl Rng,
    ) -> Vec<usize> {
        let n = self.slots.len();
        let k = k.min(n);
        if k == 0 {
            return Vec::new();
        }
        let patience = self.patience();
        // Weighted sampling without replacement: each shard draws an exponential waiting time of
        // rate `weight`; the k shortest are the sample, in order.
        let mut drawn: Vec<(bool, f64, usize)> = (0..n)
            .map(|shard| {
                let slot = self.slots[shard];
                let weight = match weights {
                    Weights::Uniform => 1.0,
                    Weights::Backlog => f64::from(slot.backlog_weight(now_ms)),
                    Weights::Locality if is_local(shard) => LOCAL_WEIGHT,
                    Weights::Locality => 1.0,
                };
                if slot.passed_over >= patience {
                    // The longest waiting first.
                    return (false, -f64::from(slot.passed_over), shard);
                }
                let uniform: f64 = 1.0 - rng.random::<f64>();
                (true, -uniform.ln() / weight, shard)
            })
            .collect();
        drawn.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));
        let by_luck = drawn.iter().find(|(is_by_luck, ..)| *is_by_luck).copied();
        drawn.truncate(k);
        if drawn.iter().all(|(is_by_luck, ..)| !is_by_luck) {
            drawn.extend(by_luck);
        }
        drawn.into_iter().map(|(_, _, shard)| shard).collect()
    }

    /// The shards since whose turn at least `asks` others were asked, the longest waiting first.
    pub fn passed_over(&self, asks: usize) -> Vec<usize> {
        self.longest_waiting(|shard| self.slots[*shard].passed_over as usize >= asks)
    }

    fn longest_waiting(&self, is_meant: impl Fn(&usize) -> bool) -> Vec<usize> {
        let mut shards: Vec<usize> = (0..self.slots.len()).filter(is_meant).collect();
        shards.sort_by_key(|shard| std::cmp::Reverse(self.slots[*shard].passed_over));
        shards
    }

    /// The shards with which a poll had better begin, the longest waiting first.
    pub fn neglected(&self, patience: &Patience, now_ms: u64) -> Vec<usize> {
        let front_ms = self.slots.iter().map(|slot| slot.reached_ms).max().unwrap_or_default();
        let is_neglected = |shard: &usize| {
            let slot = &self.slots[*shard];
            let passed_over = slot.passed_over as usize;
            let behind_ms = front_ms.saturating_sub(slot.reached_ms);
            let is_behind = slot.backlog > 0 && behind_ms > patience.behind_ms;
            passed_over >= patience.asks
                || (is_behind && passed_over >= patience.asks_behind)
                || now_ms.saturating_sub(slot.asked_ms) >= patience.wait_ms
        };
        self.longest_waiting(is_neglected)
    }

    fn patience(&self) -> u32 {
        2 * self.slots.len() as u32
    }

    /// A poll is over; these shards were really asked.
    pub fn asked(&mut self, shards: &[usize], now_ms: u64) {
        for slot in &mut self.slots {
            slot.passed_over = slot.passed_over.saturating_add(shards.len() as u32);
        }
        for shard in shards {
            if let Some(slot) = self.slots.get_mut(*shard) {
                slot.passed_over = 0;
                slot.asked_ms = now_ms;
            }
        }
    }

    /// What a shard said it has.
    pub fn note_backlog(&mut self, shard: usize, messages: usize, now_ms: u64) {
        if let Some(slot) = self.slots.get_mut(shard) {
            slot.backlog = messages.min(u32::MAX as usize) as u32;
            slot.due_ms = slot.due_ms.filter(|due_ms| *due_ms > now_ms);
        }
    }

    /// A message that a shard has becomes visible at a time, unless it is deleted. Of several such
    /// times the first one is kept.
    pub fn note_due(&mut self, shard: usize, due_ms: u64) {
        if let Some(slot) = self.slots.get_mut(shard) {
            slot.due_ms = Some(slot.due_ms.map_or(due_ms, |before| before.min(due_ms)));
        }
    }

    /// A shard handed out a message that was sent then.
    pub fn note_reached(&mut self, shard: usize, sent_ms: u64) {
        if let Some(slot) = self.slots.get_mut(shard) {
            slot.reached_ms = slot.reached_ms.max(sent_ms);
        }
    }

    /// Whether a shard said that some tenants are noisy.
    pub fn note_noise(&mut self, shard: usize, noisy: bool) {
        if let Some(slot) = self.slots.get_mut(shard) {
            slot.noisy = noisy;
        }
    }

    /// Whether any shard said so last.
    pub fn is_noisy(&self) -> bool {
        self.slots.iter().any(|slot| slot.noisy)
    }

    /// Messages were sent to a shard through this node.
    pub fn note_sent(&mut self, shard: usize, messages: usize) {
        if let Some(slot) = self.slots.get_mut(shard) {
            slot.backlog = slot.backlog.saturating_add(messages.min(u32::MAX as usize) as u32);
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    /// Upper 0.1 % point of chi-square for small degrees of freedom.
    const CHI_SQUARE_999: [f64; 9] =
        [0.0, 10.828, 13.816, 16.266, 18.467, 20.515, 22.458, 24.322, 26.124];

    fn chi_square(observed: &[u64], expected: &[f64]) -> f64 {
        let pairs = observed.iter().zip(expected);
        pairs.map(|(o, e)| (*o as f64 - e).powi(2) / e).sum()
    }

    /// The first draw follows the weights: exact chi-square with a fixed seed.
    #[test]
    fn the_choice_follows_the_weights() {
        let mut deck = Deck::new(8);
        let backlog = [0, 1, 3, 7, 15, 31, 100_000, 0];
        for (shard, messages) in backlog.into_iter().enumerate() {
            deck.note_backlog(shard, messages, 0);
        }
        let draws = 80_000;
        let cases: [(Weights, [f64; 8]); 3] = [
            (Weights::Uniform, [1.0; 8]),
            (Weights::Backlog, [1.0, 65.0, 67.0, 71.0, 79.0, 95.0, 319.0, 1.0]),
            (Weights::Locality, [8.0, 8.0, 1.0, 1.0, 1.0, 1.0, 1.0, 8.0]),
        ];
        for (weights, expected) in cases {
            let mut rng = StdRng::seed_from_u64(7);
            let mut observed = [0_u64; 8];
            for _ in 0..draws {
                let local = |shard| shard < 2 || shard == 7;
                observed[deck.sample(1, weights, 0, local, &mut rng)[0]] += 1;
            }
            let total: f64 = expected.iter().sum();
            let expected = expected.map(|weight| weight / total * f64::from(draws));
            let value = chi_square(&observed, &expected);
            assert!(value < CHI_SQUARE_999[7], "{weights:?}: {value}, {observed:?}");
        }
    }

    /// The second draw follows the weights of those that are left.
    #[test]
    fn a_sample_is_drawn_without_replacement() {
        let mut deck = Deck::new(3);
        deck.note_backlog(0, 1, 0);
        let mut rng = StdRng::seed_from_u64(8);
        let draws = 60_000;
        let mut pairs = [[0_u64; 3]; 3];
        for _ in 0..draws {
            let sample = deck.sample(2, Weights::Backlog, 0, |_| false, &mut rng);
            assert_ne!(sample[0], sample[1]);
            pairs[sample[0]][sample[1]] += 1;
        }
        // Weights 65, 1, 1: P(first) x P(second | first is out).
        let (known, empty, rest) = (65.0 / 67.0, 1.0 / 67.0, 1.0 / 66.0);
        let expected = [
            (0, 1, known / 2.0),
            (0, 2, known / 2.0),
            (1, 0, empty * 65.0 * rest),
            (2, 0, empty * 65.0 * rest),
            (1, 2, empty * rest),
            (2, 1, empty * rest),
        ];
        let observed: Vec<u64> = expected.iter().map(|(a, b, _)| pairs[*a][*b]).collect();
        let expected: Vec<f64> = expected.iter().map(|(_, _, p)| p * f64::from(draws)).collect();
        let value = chi_square(&observed, &expected);
        assert!(value < CHI_SQUARE_999[5], "{value}: {observed:?}");
    }

    /// Whatever the weights, no shard waits longer than promised.
    #[test]
    fn every_shard_is_asked_within_the_bound() {
        for n in 1..=16 {
            for k in 1..=n {
                let mut deck = Deck::new(n);
                // As skewed as it gets: one shard draws everything.
                deck.note_backlog(0, 1_000_000, 0);
                let mut rng = StdRng::seed_from_u64((n * 100 + k) as u64);
                let bound = Deck::passed_over_max(n, k);
                let mut last_asked = vec![0_usize; n];
                for poll in 1..=20 * bound {
                    let sample = deck.sample(k, Weights::Backlog, 0, |_| false, &mut rng);
                    assert!((k..=k + 1).contains(&sample.len()));
                    for shard in &sample {
                        last_asked[*shard] = poll;
                    }
                    deck.asked(&sample, 0);
                    for (shard, last) in last_asked.iter().enumerate() {
                        assert!(poll - last < bound, "n={n} k={k} shard={shard} poll={poll}");
                    }
                }
            }
        }
    }

    /// A poll that is full before its sample is through asks fewer, but those that waited longest
    /// come first: the bound holds for one asked shard a poll as for a sample of one.
    #[test]
    fn a_poll_that_stops_early_starves_nobody() {
        let mut deck = Deck::new(8);
        deck.note_backlog(0, 1_000_000, 0);
        let mut rng = StdRng::seed_from_u64(3);
        let mut last_asked = [0_usize; 8];
        for poll in 1..=2_000 {
            let sample = deck.sample(3, Weights::Backlog, 0, |_| false, &mut rng);
            last_asked[sample[0]] = poll;
            deck.asked(&sample[..1], 0);
            assert!(last_asked.iter().all(|last| poll - last < Deck::passed_over_max(8, 1)));
        }
    }

    /// Found by reading: whoever receives one message after the other has others wait until it is their turn, all at
    /// once, and had an empty answer then although this node knew of more.
    #[test]
    fn what_is_known_is_found_though_it_is_others_turn() {
        let mut deck = Deck::new(8);
        let mut rng = StdRng::seed_from_u64(4);
        let mut missed = 0;
        for left in (1..=2_000).rev() {
            deck.note_backlog(5, left, 0);
            let sample = deck.sample(3, Weights::Backlog, 0, |_| false, &mut rng);
            let found = sample.iter().position(|shard| *shard == 5);
            let asked = found.map_or(sample.len(), |place| place + 1);
            deck.asked(&sample[..asked], 0);
            missed += usize::from(found.is_none());
        }
        // The one more that is asked then is another one in one case of sixteen.
        assert!((1..=20).contains(&missed), "{missed} of 2,000 polls were empty");
    }

    /// Polls as a receive does, ten messages at most, until nothing is left; how often.
    fn polls_until_empty(
        mut left: [usize; 8],
        k: usize,
        weights: Weights,
        rng: &mut StdRng,
    ) -> usize {
        let mut deck = Deck::new(left.len());
        let mut polls = 0;
        while left != [0; 8] {
            polls += 1;
            let mut room = BATCH_ENTRIES_MAX;
            let mut asked = Vec::new();
            for shard in deck.sample(k, weights, 0, |shard| shard < 7, rng) {
                if room == 0 {
                    break;
                }
                asked.push(shard);
                let taken = left[shard].min(room);
                left[shard] -= taken;
                room -= taken;
                deck.note_backlog(shard, left[shard], 0);
            }
            deck.asked(&asked, 0);
        }
        polls
    }

    /// Fewer than 1,000 messages: all of them are seen within the bound.
    #[test]
    fn a_small_queue_is_seen_whole() {
        let mut rng = StdRng::seed_from_u64(11);
        for weights in [Weights::Uniform, Weights::Backlog, Weights::Locality] {
            for k in 1..=8 {
                for messages in [1, 9, 10, 11, 100, 999] {
                    let mut spread = [0; 8];
                    for _ in 0..messages {
                        spread[rng.random_range(0..8)] += 1;
                    }
                    // On one shard, the one that `Locality` all but leaves out; and on that and another.
                    let (mut one, mut two) = ([0; 8], [0; 8]);
                    one[7] = messages;
                    (two[0], two[7]) = (messages / 2, messages - messages / 2);
                    let bound = Deck::seen_whole_max(messages, 8, k);
                    for left in [spread, one, two] {
                        let polls = polls_until_empty(left, k, weights, &mut rng);
                        assert!(polls <= bound, "{polls} of {bound}: {weights:?} {k} {left:?}");
                    }
                }
            }
        }
    }

    /// The bound is not far from what can happen: messages where hardly anybody asks.
    #[test]
    fn a_queue_that_is_hardly_asked_for_needs_most_of_the_bound() {
        let mut rng = StdRng::seed_from_u64(12);
        let mut far = [0; 8];
        far[7] = 999;
        let bound = Deck::seen_whole_max(999, 8, 3);
        assert_eq!(bound, 900);
        let polls = polls_until_empty(far, 3, Weights::Locality, &mut rng);
        assert!(polls > bound / 2, "{polls} of {bound}");
    }

    /// What a node sent, or had and did not delete, it finds again.
    #[test]
    fn a_known_message_is_hardly_ever_missed() {
        let mut rng = StdRng::seed_from_u64(5);
        let mut missed = |deck: &Deck, now_ms| {
            let sample = |_| deck.sample(3, Weights::Backlog, now_ms, |_| false, &mut rng);
            (0..10_000).map(sample).filter(|sample| !sample.contains(&5)).count()
        };
        let mut deck = Deck::new(8);
        deck.note_due(5, 2_000);
        deck.note_due(5, 1_000);
        assert!(missed(&deck, 999) > 5_000, "not due yet: as any other");
        assert!(missed(&deck, 1_000) < 20);
        deck.note_backlog(5, 0, 1_000);
        assert!(missed(&deck, 1_000) > 5_000, "it was not there");
        deck.note_sent(5, 1);
        assert!(missed(&deck, 1_000) < 20);
    }

    #[test]
    fn knows_who_was_passed_over_for_longest() {
        let mut deck = Deck::new(4);
        deck.asked(&[3], 0);
        deck.asked(&[0], 0);
        deck.asked(&[3], 0);
        assert_eq!(deck.passed_over(1), [1, 2, 0]);
        assert_eq!(deck.passed_over(3), [1, 2]);
        assert_eq!(deck.passed_over(4), [0; 0]);
    }

    #[test]
    fn who_has_older_messages_waits_for_less() {
        let mut deck = Deck::new(3);
        deck.note_reached(0, 10_000);
        deck.note_reached(0, 9_000);
        deck.note_reached(1, 8_999);
        deck.note_backlog(1, 4, 0);
        deck.asked(&[0], 0);
        let patience = Patience { asks: 9, asks_behind: 1, behind_ms: 1_000, wait_ms: u64::MAX };
        let neglected = |deck: &Deck, patience: Patience| deck.neglected(&patience, 0);
        assert_eq!(neglected(&deck, patience), [1], "nothing is known of 2, and 0 is in front");
        let later = Patience { asks_behind: 2, ..patience };
        assert_eq!(neglected(&deck, later), [0; 0], "it was its turn a moment ago");
        assert_eq!(neglected(&deck, Patience { behind_ms: 1_001, ..patience }), [0; 0]);
        assert_eq!(neglected(&deck, Patience { asks: 1, ..patience }), [1, 2]);
        deck.note_sent(2, 1);
        assert_eq!(neglected(&deck, patience), [1, 2]);
        deck.note_backlog(1, 0, 0);
        assert_eq!(neglected(&deck, patience), [2]);
    }

    /// Who polls seldom asks few others meanwhile, and would begin with the same ones for long.
    #[test]
    fn nobody_waits_for_long_because_polls_are_rare() {
        let mut deck = Deck::new(3);
        deck.asked(&[0], 1_000);
        deck.asked(&[1], 1_100);
        deck.asked(&[2], 1_150);
        let patience = Patience { asks: 99, asks_behind: 99, behind_ms: 1_000, wait_ms: 200 };
        assert_eq!(deck.neglected(&patience, 1_199), [0; 0]);
        assert_eq!(deck.neglected(&patience, 1_200), [0]);
        assert_eq!(deck.neglected(&patience, 2_000), [0, 1, 2], "the longest waiting first");
    }

    #[test]
    fn sizes_and_weights_from_text() {
        assert_eq!("all".parse(), Ok(SampleSize::All));
        assert_eq!("3".parse(), Ok(SampleSize::default()));
        assert_eq!("0".parse::<SampleSize>(), Err(BadSampleSize));
        assert_eq!("backlog".parse(), Ok(Weights::Backlog));
        assert_eq!("".parse::<Weights>(), Err(BadWeights));
        assert_eq!(SampleSize::default().of(2), 2);
    }
}
