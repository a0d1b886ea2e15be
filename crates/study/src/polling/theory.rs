//! Closed forms: what polling should do, if the rules are what they are said to be.
//!
//! A short poll asks k of n shards. Where a function says "memoryless", every poll draws anew; the
//! server remembers whom it passed over, which `deck` models.

use rand::SeedableRng as _;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;

/// Ways to choose `k` of `n`.
fn choose(n: usize, k: usize) -> f64 {
    if k > n {
        return 0.0;
    }
    (0..k).map(|i| (n - i) as f64 / (i + 1) as f64).product()
}

/// The chance that a sample of `k` of `n` equal shards does not contain a certain one.
pub(super) fn miss(n: usize, k: usize) -> f64 {
    1.0 - k.min(n) as f64 / n as f64
}

/// The chance that a weighted sample without replacement does not contain `target`.
pub(super) fn miss_weighted(weights: &[f64], target: usize, k: usize) -> f64 {
    let total: f64 = weights.iter().sum();
    let mut left: Vec<Option<f64>> = weights.iter().copied().map(Some).collect();
    miss_of_rest(&mut left, total, target, k.min(weights.len()))
}

fn miss_of_rest(left: &mut [Option<f64>], total: f64, target: usize, k: usize) -> f64 {
    if k == 0 {
        return 1.0;
    }
    let mut chance = 0.0;
    for shard in (0..left.len()).filter(|shard| *shard != target) {
        if let Some(weight) = left[shard].take() {
            chance += weight / total * miss_of_rest(left, total - weight, target, k - 1);
            left[shard] = Some(weight);
        }
    }
    chance
}

/// Every way to choose `k` of `0..n`.
fn samples(n: usize, k: usize) -> Vec<Vec<usize>> {
    let mut all = vec![Vec::new()];
    for _ in 0..k {
        let longer = |one: &Vec<usize>| {
            let one = one.clone();
            (one.last().map_or(0, |last| last + 1)..n).map(move |next| {
                let mut more = one.clone();
                more.push(next);
                more
            })
        };
        all = all.iter().flat_map(longer).collect();
    }
    all
}

/// More samples than this are not gone through one by one.
const SAMPLES_MAX: f64 = 20_000.0;

/// All samples of `k` of `n`, or, where there are too many, some of them by chance.
fn some_samples(n: usize, k: usize) -> Vec<Vec<usize>> {
    if choose(n, k) <= SAMPLES_MAX {
        return samples(n, k);
    }
    let mut rng = StdRng::seed_from_u64(0);
    let mut all: Vec<usize> = (0..n).collect();
    let mut one = || {
        all.shuffle(&mut rng);
        all[..k].to_vec()
    };
    (0..SAMPLES_MAX as usize).map(|_| one()).collect()
}

/// The chance that none of the sampled shards has any message, when each of `draws` messages (or
/// batches) went to shard i with the chance `placement[i]`: the mean over all samples T of
/// (1 − Σ p_i in T)^draws.
pub(super) fn miss_all(placement: &[f64], k: usize, draws: u32) -> f64 {
    let samples = some_samples(placement.len(), k.min(placement.len()));
    let nothing = |sample: &Vec<usize>| {
        let share: f64 = sample.iter().map(|shard| placement[*shard]).sum();
        (1.0 - share).max(0.0).powi(draws as i32)
    };
    samples.iter().map(nothing).sum::<f64>() / samples.len() as f64
}

/// The same where draws have ways of their own: the d-th went to shard i with the chance
/// `placements[d mod their number][i]`.
pub(super) fn miss_all_in_turn(placements: &[Vec<f64>], k: usize, draws: u32) -> f64 {
    let n = placements.first().map_or(0, Vec::len);
    let samples = some_samples(n, k.min(n));
    let ways = placements.len() as u32;
    let nothing = |sample: &Vec<usize>| -> f64 {
        let of = |(way, placement): (u32, &Vec<f64>)| {
            let share: f64 = sample.iter().map(|shard| placement[*shard]).sum();
            let its = draws / ways + u32::from(way < draws % ways);
            (1.0 - share).max(0.0).powi(its as i32)
        };
        (0..).zip(placements).map(of).product()
    };
    samples.iter().map(nothing).sum::<f64>() / samples.len() as f64
}

/// The chance that `polls` memoryless samples have together contained all of `occupied` shards: a
/// coupon collector who buys k different coupons at once and needs some of them, by inclusion and
/// exclusion.
pub(super) fn covered(n: usize, k: usize, occupied: usize, polls: u32) -> f64 {
    let without = |j: usize| (choose(n - j, k) / choose(n, k)).powi(polls as i32);
    let term = |j: usize| {
        let sign = if j.is_multiple_of(2) { 1.0 } else { -1.0 };
        sign * choose(occupied, j) * without(j)
    };
    (0..=occupied).map(term).sum::<f64>().clamp(0.0, 1.0)
}

/// Polls until that is so, on average.
pub(super) fn coverage_mean(n: usize, k: usize, occupied: usize) -> f64 {
    if occupied == 0 {
        return 0.0;
    }
    (0..).map(|polls| 1.0 - covered(n, k, occupied, polls)).take_while(|rest| *rest > 1e-9).sum()
}

/// Polls within which the server promises to ask every shard.
pub(super) fn deck_bound(n: usize, k: usize) -> usize {
    if k >= n { 1 } else { 3 * n.div_ceil(k.max(1)) }
}

/// Polls within which all messages are seen, whatever the luck, where shard i has `left[i]`.
///
/// A poll that is not full (of `max`) empties all k shards that it asks. One that is full empties
/// all that it asks but the last. So a shard that still has messages was asked by full polls only,
/// each time as the last one: at most once for each `max` that it had, and once for each other
/// shard with something, which such a poll may empty first. Between two of its turns fit no more
/// polls that are not full than [`deck_bound`] says. That, for the shard for which it is most, and
/// all full polls, is the bound.
pub(super) fn whole_bound(n: usize, k: usize, left: &[usize], max: usize) -> usize {
    let all: usize = left.iter().sum();
    // The last full one is the end.
    let full = all.saturating_sub(1) / max;
    let occupied = left.iter().filter(|left| **left > 0).count();
    let turns = left.iter().filter(|left| **left > 0);
    let turns = turns.map(|left| full.min((left - 1) / max + occupied - 1)).max().unwrap_or(0);
    full + (turns + 1) * deck_bound(n, k)
}

/// Messages in the answer of a blind sample, on average: E min(max, unit × Bin(draws, k/n)). `unit`
/// messages lie together for each of `draws` draws of a shard, all shards being equally likely.
pub(super) fn messages_per_answer(n: usize, k: usize, draws: u32, unit: u32, max: u32) -> f64 {
    let share = k.min(n) as f64 / n as f64;
    // P(Bin = i), from the logarithm so that many draws do not underflow to nothing.
    let mut log_ways = 0.0;
    let mut mean = 0.0;
    for i in 0..=draws {
        if i > 0 {
            log_ways += (f64::from(draws - i + 1) / f64::from(i)).ln();
        }
        let none = if share < 1.0 { f64::from(draws - i) * (1.0 - share).ln() } else { 0.0 };
        let possible = share < 1.0 || i == draws;
        let chance = (log_ways + f64::from(i) * share.ln() + none).exp();
        if possible {
            mean += chance * f64::from(max.min(i * unit));
        }
    }
    mean
}

/// Empty answers per message, when a poller of an otherwise idle queue sleeps `interval_s` after
/// each.
pub(super) fn short_empties(rate_per_s: f64, interval_s: f64) -> f64 {
    1.0 / (rate_per_s * interval_s)
}

/// Empty answers per message of long polls: an answer is empty when nothing comes for `wait_s`,
/// which has the chance p = e^(−λW), so that there are p/(1 − p) before each that is not.
pub(super) fn long_empties(rate_per_s: f64, wait_s: f64) -> f64 {
    let empty = (-rate_per_s * wait_s).exp();
    empty / (1.0 - empty)
}

/// Mean time from a send to the answer that brings it, of a poller with pauses, while messages are
/// rare: half a pause until the next poll, and a whole one for each poll that misses it. What the
/// model must come to.
#[cfg(test)]
pub(super) fn short_latency_s(interval_s: f64, misses: f64) -> f64 {
    interval_s * (0.5 + misses)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(one: f64, two: f64) {
        assert!((one - two).abs() < 1e-9, "{one} is not {two}");
    }

    #[test]
    fn a_sample_of_three_of_eight_misses_five_times_of_eight() {
        near(miss(8, 3), 0.625);
        near(miss(8, 8), 0.0);
        near(miss(3, 4), 0.0);
    }

    #[test]
    fn equal_weights_are_no_weights() {
        for k in 0..=5 {
            near(miss_weighted(&[2.0; 5], 3, k), miss(5, k));
        }
    }

    #[test]
    fn weights_are_drawn_without_replacement() {
        // Two draws of {2, 1, 1}; the target is the first: the others are drawn in either order.
        near(miss_weighted(&[2.0, 1.0, 1.0], 0, 2), 2.0 * (1.0 / 4.0) * (1.0 / 3.0));
        // The server's weights: 7/72 × 6/71 × 5/70.
        let mut weights = [1.0; 8];
        weights[5] = 65.0;
        near(miss_weighted(&weights, 5, 3), 7.0 * 6.0 * 5.0 / (72.0 * 71.0 * 70.0));
    }

    #[test]
    fn samples_are_all_subsets() {
        assert_eq!(samples(3, 2), [vec![0, 1], vec![0, 2], vec![1, 2]]);
        assert_eq!(samples(8, 3).len(), 56);
        assert_eq!(samples(4, 0), [Vec::<usize>::new()]);
    }

    #[test]
    fn depth_makes_misses_rare() {
        near(miss_all(&[0.125; 8], 3, 0), 1.0);
        near(miss_all(&[0.125; 8], 3, 1), 0.625);
        near(miss_all(&[0.125; 8], 3, 5), 0.625_f64.powi(5));
        // All on one shard: depth does not help.
        let mut one = [0.0; 8];
        one[2] = 1.0;
        near(miss_all(&one, 3, 100), 0.625);
    }

    #[test]
    fn who_sends_in_turn_spreads_more_evenly_than_by_chance() {
        let one = [0.5, 0.3, 0.2];
        near(miss_all_in_turn(&[one.to_vec()], 1, 4), miss_all(&one, 1, 4));
        // Three nodes, a shard each: the first three messages lie on all of them.
        let own = |node: usize| (0..3).map(|it| f64::from(u8::from(it == node))).collect();
        let own: Vec<Vec<f64>> = (0..3).map(own).collect();
        near(miss_all_in_turn(&own, 1, 1), 2.0 / 3.0);
        near(miss_all_in_turn(&own, 1, 2), 1.0 / 3.0);
        near(miss_all_in_turn(&own, 1, 3), 0.0);
        assert!(miss_all(&[1.0 / 3.0; 3], 1, 3) > 0.29);
    }

    #[test]
    fn the_coupon_collector_is_the_known_one() {
        // One coupon at a time, all n wanted: n × (1 + 1/2 + … + 1/n).
        let harmonic: f64 = (1..=8).map(|i| 1.0 / f64::from(i)).sum();
        assert!((coverage_mean(8, 1, 8) - 8.0 * harmonic).abs() < 1e-6);
        // One wanted: geometric.
        assert!((coverage_mean(8, 3, 1) - 8.0 / 3.0).abs() < 1e-6);
        near(covered(8, 3, 1, 1), 0.375);
        near(covered(8, 8, 8, 1), 1.0);
        near(covered(8, 3, 4, 1), 0.0);
        near(covered(4, 2, 2, 1), 1.0 / 6.0);
    }

    #[test]
    fn the_bound_of_the_deck() {
        assert_eq!((deck_bound(8, 3), deck_bound(8, 8), deck_bound(64, 3)), (9, 1, 66));
    }

    #[test]
    fn a_whole_queue_is_seen_within_its_bound() {
        // Few messages: the deck's own.
        assert_eq!(whole_bound(8, 3, &[4, 6, 0, 0, 0, 0, 0, 0], 10), 9);
        // Everybody is asked each time.
        assert_eq!(whole_bound(2, 2, &[5, 20], 10), 2 + 3);
        let mut left = [333, 333, 333, 0, 0, 0, 0, 0];
        assert_eq!(whole_bound(8, 3, &left, 10), 99 + (33 + 2 + 1) * 9);
        left = [999, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(whole_bound(8, 3, &left, 10), 99 + 100 * 9);
    }

    #[test]
    fn too_many_samples_are_drawn() {
        let drawn = miss_all(&[1.0 / 64.0; 64], 24, 3);
        near(drawn, (1.0 - 24.0 / 64.0_f64).powi(3));
        let mut one = [0.0; 64];
        one[7] = 1.0;
        assert!((miss_all(&one, 24, 3) - 40.0 / 64.0).abs() < 0.02);
    }

    #[test]
    fn answers_fill_with_depth() {
        near(messages_per_answer(8, 3, 1, 1, 10), 0.375);
        near(messages_per_answer(8, 3, 4, 1, 10), 1.5);
        near(messages_per_answer(8, 8, 4, 1, 10), 4.0);
        // At least one of two in half of the shards.
        near(messages_per_answer(8, 4, 2, 1, 1), 0.75);
        assert!((messages_per_answer(8, 3, 10_000, 10, 10) - 10.0).abs() < 1e-6);
    }

    #[test]
    fn costs_of_waiting() {
        near(short_empties(0.2, 5.0), 1.0);
        near(long_empties(1.0, 2.0_f64.ln()), 1.0);
        assert!(long_empties(10.0, 20.0) < 1e-80);
        near(short_latency_s(1.0, 1.5), 2.0);
    }
}
