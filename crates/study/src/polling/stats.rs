//! What repeated trials say.

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

/// The mean of values, and how far it may be off.
pub(super) fn mean(values: &[f64]) -> (f64, f64) {
    let n = values.len() as f64;
    if values.is_empty() {
        return (f64::NAN, 0.0);
    }
    let mean = values.iter().sum::<f64>() / n;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    let error = if n > 1.0 { (squares / (n - 1.0) / n).sqrt() } else { 0.0 };
    (mean, Z * error)
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
        let (mean, error) = mean(&values);
        assert_eq!(mean, 2.5);
        assert!((error - 1.96 * 0.6455).abs() < 0.001);
        assert_eq!((quantile(&values, 0.5), quantile(&values, 1.0)), (2.0, 4.0));
        assert_eq!(cdf(&values, 2), [(2.0, 50.0), (4.0, 100.0)]);
        assert!(quantile(&[], 0.5).is_nan());
    }
}
