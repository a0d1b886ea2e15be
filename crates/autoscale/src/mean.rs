//! The mean processing time, from what workers report.

use std::time::Duration;

/// Of the last messages, about so many count.
const MEMORY: f64 = 200.0;
/// What is assumed counts as much as so many messages: one report, perhaps of the odd message that failed at once,
/// is no reason to forget it.
const ASSUMED: f64 = 10.0;
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
    /// Until anything is reported, the mean is `assumed`; reports replace it little by little.
    pub fn new(assumed: Duration) -> Self {
        Self { mean_s: assumed.as_secs_f64(), reports: ASSUMED }
    }

    /// One message took `duration`; it stands for `weight` messages.
    pub fn report(&mut self, duration: Duration, weight: f64) {
        // Nothing takes no time, except by a clock that is too coarse: a mean of it would make every backlog acceptable.
        if duration.is_zero() || duration > LONGEST || !(1.0..=MEMORY).contains(&weight) {
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
        (0..10).for_each(|_| mean.report(ms(100), 1.0));
        let half = mean.mean();
        assert!(half > ms(299) && half < ms(301), "{half:?}");
        (0..1_000).for_each(|_| mean.report(ms(100), 1.0));
        assert!(mean.mean() < ms(102), "{:?}", mean.mean());
    }

    #[test]
    fn one_report_does_not_replace_what_is_assumed() {
        let mut mean = MeanProcessing::new(ms(500));
        mean.report(Duration::from_micros(1), 1.0);
        assert!(mean.mean() > ms(450), "{:?}", mean.mean());
    }

    #[test]
    fn a_report_of_no_time_counts_for_nothing() {
        let mut mean = MeanProcessing::new(ms(100));
        (0..1_000).for_each(|_| mean.report(Duration::ZERO, 1.0));
        assert_eq!(mean.mean(), ms(100));
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
