//! Durations in buckets whose width grows with the value.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Buckets of one power of two: the error of a percentile is below 1/64.
const STEPS_LOG2: u32 = 6;
const STEPS: u64 = 1 << STEPS_LOG2;
/// Values beyond 2^36 us (19 hours) count as the largest.
const POWERS: u32 = 36 - STEPS_LOG2;
const BUCKETS: usize = (STEPS as usize) * (POWERS as usize + 1);

/// Durations, counted to the microsecond up to 64 us and to 1.6 % above.
#[derive(Debug, Clone)]
pub(crate) struct Histogram {
    counts: Vec<u64>,
    total: u64,
    max_us: u64,
}

/// The percentiles that are reported, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Percentiles {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
    pub(crate) max: f64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: vec![0; BUCKETS], total: 0, max_us: 0 }
    }
}

impl Histogram {
    pub(crate) fn record(&mut self, duration: Duration) {
        self.record_us(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX));
    }

    pub(crate) fn record_us(&mut self, value_us: u64) {
        self.counts[bucket_of(value_us)] += 1;
        self.total += 1;
        self.max_us = self.max_us.max(value_us);
    }

    /// The smallest recorded value that at least `share` (0 to 1) of all do not exceed, rounded up
    /// to its bucket's end; `None` when nothing was recorded.
    pub(crate) fn quantile_us(&self, share: f64) -> Option<u64> {
        let rank = ((share * self.total as f64).ceil() as u64).max(1);
        let mut seen = 0;
        let bucket = self.counts.iter().position(|count| {
            seen += count;
            seen >= rank
        })?;
        Some(bucket_end(bucket).min(self.max_us))
    }

    /// `None` when nothing was recorded.
    pub(crate) fn percentiles(&self) -> Option<Percentiles> {
        let ms = |share| Some(self.quantile_us(share)? as f64 / 1000.0);
        Some(Percentiles {
            p50: ms(0.5)?,
            p99: ms(0.99)?,
            p999: ms(0.999)?,
            max: self.max_us as f64 / 1000.0,
        })
    }
}

fn bucket_of(value: u64) -> usize {
    if value < STEPS {
        return value as usize;
    }
    let power = value.ilog2() - STEPS_LOG2;
    if power >= POWERS {
        return BUCKETS - 1;
    }
    // The top bit is implied by the power, the STEPS_LOG2 bits below it choose the step.
    let step = (value >> power) - STEPS;
    ((u64::from(power) + 1) * STEPS + step) as usize
}

/// The largest value that belongs to the bucket.
fn bucket_end(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < STEPS {
        return bucket;
    }
    let power = bucket / STEPS - 1;
    ((STEPS + bucket % STEPS + 1) << power) - 1
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn nothing_has_no_percentiles() {
        assert_eq!(Histogram::default().percentiles(), None);
    }

    #[test]
    fn small_values_are_exact() {
        let mut histogram = Histogram::default();
        for value in 1..=50 {
            histogram.record_us(value);
        }
        assert_eq!(histogram.quantile_us(0.5), Some(25));
        assert_eq!(histogram.quantile_us(0.98), Some(49));
        assert_eq!(histogram.quantile_us(0.99), Some(50));
        assert_eq!(histogram.quantile_us(0.0), Some(1));
    }

    #[test]
    fn one_in_a_thousand_decides_only_the_last_percentile() {
        let mut histogram = Histogram::default();
        for _ in 0..998 {
            histogram.record(Duration::from_micros(20));
        }
        histogram.record(Duration::from_millis(700));
        histogram.record(Duration::from_millis(700));
        let percentiles = histogram.percentiles().unwrap();
        assert_eq!((percentiles.p50, percentiles.p99), (0.02, 0.02));
        assert_eq!((percentiles.p999, percentiles.max), (700.0, 700.0));
    }

    #[test]
    fn the_largest_value_has_a_bucket() {
        let mut histogram = Histogram::default();
        histogram.record(Duration::MAX);
        assert!(histogram.quantile_us(1.0).is_some());
    }

    proptest! {
        #[test]
        fn a_value_lies_in_its_bucket(value in 0_u64..1 << 36) {
            let bucket = bucket_of(value);
            let end = bucket_end(bucket);
            prop_assert!(end >= value);
            prop_assert!(end - value <= value / 64);
            prop_assert!(bucket == 0 || bucket_end(bucket - 1) < value);
        }

        #[test]
        fn quantiles_are_near_the_sorted_ones(
            mut values in prop::collection::vec(0_u64..10_000_000, 1..200),
            share in 0.0_f64..=1.0,
        ) {
            let mut histogram = Histogram::default();
            for value in &values {
                histogram.record_us(*value);
            }
            values.sort_unstable();
            let rank = ((share * values.len() as f64).ceil() as usize).max(1);
            let exact = values[rank - 1];
            let got = histogram.quantile_us(share).unwrap();
            prop_assert!(got >= exact && got - exact <= exact / 64);
        }
    }
}
