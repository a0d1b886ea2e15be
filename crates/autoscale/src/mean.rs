//! The mean processing time, from what workers report.

use std::time::Duration;

/// Of the last messages, about so many count.
const MEMORY: f64 = 200.0;
/// A message that took longer says more about a clock than about the work: a message can be in
/// flight for twelve hours at most.
const LONGEST: Duration = Duration::from_secs(12 * 3600);

/// A mean that follows what changes: the newest message counts one part in [`MEMORY`].
#[derive(Clone, Copy, Debug)]
pub struct MeanProcessing {
    mean_s: f64,
    reports: f64,
}

impl MeanProcessing {
    /// Until anything is reported, the mean is `assumed`.
    pub fn new(assumed: Duration) -> Self {
        Self { mean_s: assumed.as_secs_f64(), reports: 0.0 }
    }

    /// One message took `duration`; it stands for `weight` messages. The first reports replace what
    /// was assumed, as they should in a mean.
    pub fn report(&mut self, duration: Duration, weight: f64) {
        if duration > LONGEST || !(1.0..=MEMORY).contains(&weight) {
            return;
        }
        self.reports = (self.reports + weight).min(MEMORY);
        self.mean_s += (duration.as_secs_f64() - self.mean_s) * weight / self.reports;
    }

    /// What one instance needs for one message.
    pub fn mean(&self) -> Duration {
        Duration::from_secs_f64(self.mean_s.max(0.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn begins_with_what_is_assumed_and_forgets_it() {
        let mut mean = MeanProcessing::new(ms(500));
        assert_eq!(mean.mean(), ms(500));
        mean.report(ms(100), 1.0);
        assert_eq!(mean.mean(), ms(100));
        mean.report(ms(300), 1.0);
        assert_eq!(mean.mean(), ms(200));
    }

    #[test]
    fn follows_a_change_and_not_a_single_message() {
        let mut mean = MeanProcessing::new(ms(100));
        (0..1_000).for_each(|_| mean.report(ms(100), 1.0));
        mean.report(ms(2_000), 1.0);
        assert!(mean.mean() < ms(110), "{:?}", mean.mean());
        (0..1_000).for_each(|_| mean.report(ms(400), 1.0));
        assert!(mean.mean() > ms(395) && mean.mean() < ms(401), "{:?}", mean.mean());
    }

    #[test]
    fn nonsense_counts_for_nothing() {
        let mut mean = MeanProcessing::new(ms(100));
        mean.report(LONGEST + ms(1), 1.0);
        mean.report(ms(1), 0.0);
        mean.report(ms(1), f64::NAN);
        mean.report(ms(1), 1e9);
        assert_eq!(mean.mean(), ms(100));
    }
}
