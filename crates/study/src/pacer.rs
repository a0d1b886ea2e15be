//! Wakes senders at scheduled moments, for loads that do not wait for answers.
//!
//! The runtime's timers have steps of a millisecond, as long as a whole request may take. A thread
//! of its own sleeps precisely and costs one wake-up a message.

use std::cell::Cell;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;

/// Moments at equal distances. Senders take them in order, also those that are past.
#[derive(Debug)]
pub(crate) struct Pacer {
    schedule: Schedule,
    next: Cell<u64>,
    due: Arc<Semaphore>,
}

#[derive(Debug, Clone, Copy)]
struct Schedule {
    begin: Instant,
    rate_per_s: u32,
    moments: u64,
}

impl Schedule {
    fn moment(&self, index: u64) -> Instant {
        self.begin + Duration::from_nanos(index * 1_000_000_000 / u64::from(self.rate_per_s))
    }
}

impl Pacer {
    /// `rate_per_s` (over 0) moments a second for `seconds`, taken by `senders` at once.
    pub(crate) fn start(rate_per_s: u32, seconds: u32, senders: usize) -> std::io::Result<Self> {
        let moments = u64::from(rate_per_s) * u64::from(seconds);
        let schedule = Schedule { begin: Instant::now(), rate_per_s, moments };
        let due = Arc::new(Semaphore::new(0));
        let permits = due.clone();
        thread::Builder::new().name("pacer".to_owned()).spawn(move || {
            for index in 0..moments {
                thread::sleep(schedule.moment(index).saturating_duration_since(Instant::now()));
                permits.add_permits(1);
            }
            // One for each sender, to see that it was the last.
            permits.add_permits(senders);
        })?;
        Ok(Self { schedule, next: Cell::new(0), due })
    }

    /// Waits for the next moment that nobody has taken, and says when it was to be; `None` when
    /// all are taken.
    pub(crate) async fn next(&self) -> Option<Instant> {
        self.due.acquire().await.ok()?.forget();
        let index = self.next.get();
        if index == self.schedule.moments {
            return None;
        }
        self.next.set(index + 1);
        Some(self.schedule.moment(index))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_moment_is_taken_once_and_not_early() {
        let pacer = Pacer::start(200, 1, 2).unwrap();
        let begin = pacer.schedule.begin;
        let mut taken = Vec::new();
        while let Some(moment) = pacer.next().await {
            assert!(Instant::now() >= moment);
            taken.push((moment - begin).as_micros());
        }
        let expected: Vec<u128> = (0..200).map(|index| index * 5000).collect();
        assert_eq!(taken, expected);
        assert!(pacer.next().await.is_none());
    }
}
