//! What repeated trials say.

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::plot::Point;
use crate::section::number;

/// The normal distribution's 97.5 % point: intervals hold in 95 of 100 cases.
const Z: f64 = 1.96;

/// How often something happened in trials.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Share {
    pub(super) hits: u32,
    pub(super) trials: u32,
}

impl Share {
    pub(super) fn count(&mut self, hit: bool) {
        self.trials += 1;
        self.hits += u32::from(hit);
    }

    pub(super) fn value(self) -> f64 {
        f64::from(self.hits) / f64::from(self.trials.max(1))
    }

    /// Wilson's interval, which is right for rare things, too.
    pub(super) fn interval(self) -> (f64, f64) {
        if self.trials == 0 {
            return (0.0, 1.0);
        }
        let (n, p) = (f64::from(self.trials), self.value());
        let middle = p + Z * Z / (2.0 * n);
        let half = Z * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt();
        let scale = 1.0 + Z * Z / n;
        (((middle - half) / scale).max(0.0), ((middle + half) / scale).min(1.0))
    }

    /// Whether a theory is inside the interval.
    pub(super) fn agrees(self, theory: f64) -> bool {
        let (low, high) = self.interval();
        (low - 1e-9..=high + 1e-9).contains(&theory)
    }
}

/// Chances below this are no luck.
const NO_LUCK: f64 = 0.01;

/// Whether so many of all intervals of 95 % may miss what is true by luck.
fn is_luck(missed: usize, all: usize) -> bool {
    let mut exactly = 0.95_f64.powi(all as i32);
    let mut fewer = 0.0;
    for misses in 0..missed {
        fewer += exactly;
        exactly *= (all - misses) as f64 / (misses + 1) as f64 * 0.05 / 0.95;
    }
    1.0 - fewer >= NO_LUCK
}

/// What is said when so many of all intervals have the theory in them, and what else than luck there is.
pub(super) fn by_luck(within: usize, all: usize, why: &str) -> String {
    match all - within {
        0 => String::new(),
        missed if is_luck(missed, all) => {
            "; one in twenty is expected to miss it by luck".to_owned()
        }
        _ => format!("; so many do not miss it by luck: {why}"),
    }
}

/// Beyond so many standard deviations it is no luck: one in a hundred.
const LEANING: f64 = 2.58;
/// A share of so few cases, either way, is no normal distribution.
const CASES_MIN: f64 = 5.0;

/// Shares that lie on one side of their theories more than by luck, each within its interval or not: how, in words.
pub(super) fn leaning(shares: impl Iterator<Item = (Share, f64)>) -> Option<String> {
    let deviation = |(share, theory): (Share, f64)| {
        let n = f64::from(share.trials);
        let variance = n * theory * (1.0 - theory);
        (variance >= CASES_MIN).then(|| (f64::from(share.hits) - n * theory) / variance.sqrt())
    };
    let all: Vec<f64> = shares.filter_map(deviation).collect();
    // Sums of independent normal deviations are one.
    let together = all.iter().sum::<f64>() / (all.len() as f64).sqrt();
    (together.abs() > LEANING).then(|| {
        let side = if together > 0.0 { "above" } else { "below" };
        format!("together they lie {side} it by {:.1} standard deviations", together.abs())
    })
}

/// A value that was measured, and between which the true one is in 95 of 100 cases.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Estimate {
    pub(super) value: f64,
    pub(super) low: f64,
    /// No number where so little was seen that nothing limits it.
    pub(super) high: f64,
}

impl Estimate {
    pub(super) const UNKNOWN: Self = Self { value: f64::NAN, low: f64::NAN, high: f64::NAN };

    /// One value of which no more is known.
    pub(super) fn bare(value: f64) -> Self {
        Self { value, low: f64::NAN, high: f64::NAN }
    }

    pub(super) fn map(self, of: impl Fn(f64) -> f64) -> Self {
        Self { value: of(self.value), low: of(self.low), high: of(self.high) }
    }

    /// Whether a theory is inside the interval.
    pub(super) fn covers(self, theory: f64) -> bool {
        (self.low..=self.high).contains(&theory)
    }

    /// For a chart.
    pub(super) fn at(self, x: f64) -> Point {
        let known = self.low.is_finite() && self.high.is_finite();
        Point { x, y: self.value, range: known.then_some((self.low, self.high)) }
    }

    /// For a table: the value and its limits.
    pub(super) fn cells(self) -> [String; 3] {
        [self.value, self.low, self.high].map(number)
    }
}

/// Student's 97.5 % points from one degree of freedom on.
const T: [f64; 30] = [
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160,
    2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056,
    2.052, 2.048, 2.045, 2.042,
];

fn t(freedom: usize) -> f64 {
    match freedom {
        0 => f64::NAN,
        some => T.get(some - 1).copied().unwrap_or(Z),
    }
}

/// The mean of independent values, with Student's interval.
pub(super) fn mean(values: &[f64]) -> Estimate {
    let n = values.len() as f64;
    if values.is_empty() {
        return Estimate::UNKNOWN;
    }
    let mean = values.iter().sum::<f64>() / n;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    let error = t(values.len() - 1) * (squares / (n - 1.0) / n).sqrt();
    Estimate { value: mean, low: mean - error, high: mean + error }
}

/// So much may be true of what was never seen: the Poisson distribution's 2.5 %.
const NEVER: f64 = 3.69;

/// How much of one thing there is for each of another, from blocks of a run that has both, such as
/// empty answers and messages.
pub(super) fn ratio(blocks: &[(f64, f64)]) -> Estimate {
    let sum = |of: fn(&(f64, f64)) -> f64| blocks.iter().map(of).sum::<f64>();
    let (all, per) = (sum(|block| block.0), sum(|block| block.1));
    let ratio = all / per;
    if per == 0.0 {
        return Estimate::UNKNOWN;
    }
    if all == 0.0 {
        return Estimate { value: 0.0, low: 0.0, high: NEVER / per };
    }
    let b = blocks.len() as f64;
    let squares: f64 = blocks.iter().map(|(one, other)| (one - ratio * other).powi(2)).sum();
    let error = t(blocks.len().saturating_sub(1)) * (b / (b - 1.0) * squares).sqrt() / per;
    Estimate { value: ratio, low: (ratio - error).max(0.0), high: ratio + error }
}

/// A quantile of independent values, between two others of them: how many are below it is binomial.
pub(super) fn quantile_between(values: &[f64], share: f64) -> Estimate {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (mut below, mut ways) = (0.0, 0.0_f64);
    let (mut low, mut high) = (f64::NAN, f64::NAN);
    let n = sorted.len();
    for (rank, value) in sorted.iter().enumerate() {
        // P(exactly `rank` of n are below), from its logarithm.
        if rank > 0 {
            ways += ((n - rank + 1) as f64 / rank as f64).ln();
        }
        let chance = ways + rank as f64 * share.ln() + (n - rank) as f64 * (1.0 - share).ln();
        // The chance that so few are below the true one: that it is less than this value.
        below += chance.exp();
        if below <= TAIL {
            low = *value;
        }
        if high.is_nan() && below >= 1.0 - TAIL {
            high = *value;
        }
    }
    Estimate { value: quantile(values, share), low, high }
}

const TAIL: f64 = 0.025;
/// Of a bootstrap.
const RESAMPLES: usize = 400;

/// Quantiles of values that came in blocks of a run; neighbours are not independent, blocks are.
/// The interval is that of runs which consist of any of these blocks.
pub(super) fn quantiles_of_blocks<const N: usize>(
    blocks: &[Vec<f64>],
    shares: [f64; N],
) -> [Estimate; N] {
    let mut all: Vec<(f64, usize)> = blocks
        .iter()
        .enumerate()
        .flat_map(|(block, values)| values.iter().map(move |value| (*value, block)))
        .collect();
    all.sort_by(|one, two| one.0.total_cmp(&two.0));
    let full = blocks.iter().filter(|block| !block.is_empty()).count();
    let mut rng = StdRng::seed_from_u64(0);
    let mut drawn = [(); N].map(|()| Vec::with_capacity(RESAMPLES));
    for _ in 0..RESAMPLES {
        let mut times = vec![0_u32; blocks.len()];
        blocks.iter().for_each(|_| times[rng.random_range(0..blocks.len())] += 1);
        let count: f64 = all.iter().map(|(_, block)| f64::from(times[*block])).sum();
        for (drawn, share) in drawn.iter_mut().zip(shares) {
            let mut left = (share * count).ceil().max(1.0);
            let found = all.iter().find(|(_, block)| {
                left -= f64::from(times[*block]);
                left <= 0.0
            });
            drawn.extend(found.map(|(value, _)| *value));
        }
    }
    let values: Vec<f64> = all.iter().map(|(value, _)| *value).collect();
    let mut index = 0;
    drawn.map(|drawn| {
        let share = shares[index];
        index += 1;
        let value = quantile(&values, share);
        if full < 2 {
            return Estimate::bare(value);
        }
        Estimate { value, low: quantile(&drawn, TAIL), high: quantile(&drawn, 1.0 - TAIL) }
    })
}

/// The smallest value that at least `share` of all do not exceed.
pub(super) fn quantile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(f64::NAN)
}

/// The share of values up to each value, as points of steps: at most `points` of them.
pub(super) fn cdf(values: &[f64], points: usize) -> Vec<(f64, f64)> {
    let at = |i: usize| i as f64 / points as f64;
    (1..=points).map(|i| (quantile(values, at(i)), 100.0 * at(i))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_of_many_intervals_miss_by_luck() {
        assert!(is_luck(0, 11) && is_luck(1, 11) && is_luck(2, 11) && is_luck(1, 1));
        assert!(!is_luck(4, 11) && !is_luck(5, 11) && !is_luck(11, 11));
        // One in twenty of twenty is the rule.
        assert!(is_luck(1, 20) && is_luck(3, 20) && !is_luck(6, 20));
        assert_eq!(by_luck(11, 11, "x"), "");
        assert_eq!(by_luck(6, 11, "the sun"), "; so many do not miss it by luck: the sun");
    }

    #[test]
    fn what_is_always_a_little_less_is_no_luck() {
        let share = |hits| Share { hits, trials: 400 };
        let less = leaning([(share(87), 0.25), (share(88), 0.25), (share(86), 0.25)].into_iter());
        assert_eq!(less.as_deref(), Some("together they lie below it by 2.6 standard deviations"));
        assert!([87, 88, 86].iter().all(|hits| share(*hits).agrees(0.25)));
        assert_eq!(leaning([(share(87), 0.25), (share(112), 0.25)].into_iter()), None);
        // Nothing can be said of what nearly never happens.
        assert_eq!(leaning([(share(5), 0.0001)].into_iter()), None);
    }

    #[test]
    fn intervals_are_wilsons() {
        // A published example: 15 of 50 is 0.191 to 0.438.
        let (low, high) = Share { hits: 15, trials: 50 }.interval();
        assert!((low - 0.191).abs() < 0.001 && (high - 0.438).abs() < 0.001, "{low} {high}");
        let never = Share { hits: 0, trials: 100 };
        assert_eq!(never.interval().0, 0.0);
        assert!(never.agrees(0.03) && !never.agrees(0.05));
    }

    #[test]
    fn means_and_quantiles() {
        let values = [4.0, 1.0, 3.0, 2.0];
        let mean = mean(&values);
        assert_eq!(mean.value, 2.5);
        // Three degrees of freedom.
        assert!((mean.high - 2.5 - 3.182 * 0.6455).abs() < 0.001, "{mean:?}");
        assert!(self::mean(&[1.0]).low.is_nan() && self::mean(&[]).value.is_nan());
        assert_eq!((quantile(&values, 0.5), quantile(&values, 1.0)), (2.0, 4.0));
        assert_eq!(cdf(&values, 2), [(2.0, 50.0), (4.0, 100.0)]);
        assert!(quantile(&[], 0.5).is_nan());
    }

    #[test]
    fn ratios_have_the_spread_of_their_blocks() {
        let same = ratio(&[(2.0, 1.0), (4.0, 2.0), (6.0, 3.0)]);
        assert_eq!((same.value, same.low, same.high), (2.0, 2.0, 2.0));
        let other = ratio(&[(1.0, 1.0), (3.0, 1.0)]);
        assert_eq!(other.value, 2.0);
        // One degree of freedom, and no less than nothing.
        assert_eq!((other.low, (other.high - 2.0).round()), (0.0, 13.0));
        let never = ratio(&[(0.0, 30.0), (0.0, 70.0)]);
        assert_eq!((never.value, never.low, never.high), (0.0, 0.0, 0.0369));
        assert!(ratio(&[(1.0, 0.0)]).value.is_nan());
    }

    /// Published ranks for the median: 2 and 9 of ten, 40 and 61 of a hundred.
    #[test]
    fn a_quantile_is_between_two_of_the_values() {
        let values = |n: u32| (1..=n).map(f64::from).collect::<Vec<_>>();
        let of = |n, share| {
            let Estimate { value, low, high } = quantile_between(&values(n), share);
            (value, low, high)
        };
        assert_eq!(of(10, 0.5), (5.0, 2.0, 9.0));
        assert_eq!(of(100, 0.5), (50.0, 40.0, 61.0));
        let (value, low, high) = of(100, 0.99);
        assert!(value == 99.0 && low == 97.0 && high.is_nan(), "nothing limits it: {low} {high}");
        assert!(of(400, 0.99).2 <= 400.0);
    }

    #[test]
    fn a_bootstrap_knows_that_neighbours_are_alike() {
        let alike: Vec<Vec<f64>> = (0..10).map(|block| vec![f64::from(block); 50]).collect();
        let [median, most] = quantiles_of_blocks(&alike, [0.5, 1.0]);
        assert_eq!((median.value, most.value), (4.0, 9.0));
        assert!(median.low <= 2.0 && median.high >= 6.0, "{median:?}");
        let mixed: Vec<Vec<f64>> =
            (0..10).map(|_| (0..50).map(|i| f64::from(i % 10)).collect()).collect();
        let [median] = quantiles_of_blocks(&mixed, [0.5]);
        assert_eq!((median.low, median.high), (4.0, 4.0));
        let [one] = quantiles_of_blocks(&[vec![1.0], vec![]], [0.5]);
        assert!(one.value == 1.0 && one.low.is_nan());
    }
}
