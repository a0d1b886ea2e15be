//! How many messages a task may move by when.

use std::time::Duration;

use flotilla_types::limits::MOVE_MESSAGES_MAX;
use tokio::time::{Instant, sleep_until};

/// With a rate of n, the first message goes at once and each further one 1/n seconds later.
pub(super) struct Pace {
    rate: Option<u32>,
    begin: Instant,
    spent: u64,
}

impl Pace {
    /// Messages a second; `None` for as fast as it goes.
    pub(super) fn new(rate: Option<u32>) -> Self {
        Self { rate, begin: Instant::now(), spent: 0 }
    }

    /// Waits until something may be moved, and says how much.
    pub(super) async fn wait(&mut self) -> usize {
        let Some(rate) = self.rate else { return MOVE_MESSAGES_MAX };
        loop {
            let now = Instant::now();
            let allowed = self.allowed(rate, now - self.begin).saturating_sub(self.spent);
            if allowed > 0 {
                // Time in which there was nothing to move is no credit.
                if allowed > u64::from(rate) {
                    (self.begin, self.spent) = (now, 0);
                    return 1;
                }
                return (allowed as usize).min(MOVE_MESSAGES_MAX);
            }
            let next = self.begin + Duration::from_secs(self.spent) / rate;
            sleep_until(next).await;
        }
    }

    pub(super) fn spend(&mut self, count: u64) {
        self.spent += count;
    }

    fn allowed(&self, rate: u32, elapsed: Duration) -> u64 {
        1 + (elapsed.as_micros() as u64) * u64::from(rate) / 1_000_000
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_rate_is_kept_and_not_saved_up() {
        let begin = Instant::now();
        let mut pace = Pace::new(Some(2));
        let mut at_ms = Vec::new();
        for _ in 0..4 {
            assert_eq!(pace.wait().await, 1);
            pace.spend(1);
            at_ms.push(begin.elapsed().as_millis().next_multiple_of(10));
        }
        assert_eq!(at_ms, [0, 500, 1_000, 1_500]);
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!(pace.wait().await, 1);
        pace.spend(1);
        let again = Instant::now();
        pace.wait().await;
        assert!(again.elapsed() >= Duration::from_millis(499));
    }

    #[tokio::test]
    async fn without_a_rate_there_is_no_waiting() {
        let mut pace = Pace::new(None);
        for _ in 0..3 {
            assert_eq!(pace.wait().await, MOVE_MESSAGES_MAX);
            pace.spend(MOVE_MESSAGES_MAX as u64);
        }
    }
}
