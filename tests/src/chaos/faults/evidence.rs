//! What shows that a fault is there: what nodes say of themselves, and what the kernel says of them.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::time::sleep;

use super::{LOOK_AGAIN, Nemesis};
use crate::http::Connection;
use crate::{Fleet, PATIENCE};

/// Looks until it is so, for at most this long; whether it was.
pub(super) async fn within(limit: Duration, mut is_so: impl AsyncFnMut() -> bool) -> bool {
    let begin = Instant::now();
    while !is_so().await {
        if begin.elapsed() > limit {
            return false;
        }
        sleep(LOOK_AGAIN).await;
    }
    true
}

/// A number of the metrics page; `None` while the node does not answer.
pub(super) async fn metric(fleet: &Fleet, id: u64, name: &str) -> Option<f64> {
    let page = Connection::new(fleet.admin(id)).get("/metrics").await.ok()?.body;
    number(&page, name)
}

fn number(page: &str, name: &str) -> Option<f64> {
    let line = page.lines().find_map(|line| line.strip_prefix("flotilla_")?.strip_prefix(name));
    line?.strip_prefix(' ')?.trim().parse().ok()
}

/// The sum over all nodes that answer.
pub(super) async fn metric_of_all(fleet: &Fleet, name: &str) -> f64 {
    let mut sum = 0.0;
    for id in fleet.up() {
        sum += metric(fleet, id, name).await.unwrap_or(0.0);
    }
    sum
}

/// Syncs of a node's log, and the seconds that they took.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Syncs {
    pub(super) count: f64,
    seconds: f64,
}

impl Syncs {
    pub(super) async fn of(fleet: &Fleet, id: u64) -> Option<Self> {
        let count = metric(fleet, id, "log_sync_seconds_count").await?;
        let seconds = metric(fleet, id, "log_sync_seconds_sum").await?;
        Some(Self { count, seconds })
    }

    /// The mean of those since then, if there were any.
    pub(super) fn mean_since(self, then: Self) -> Option<Duration> {
        let count = self.count - then.count;
        (count > 0.0)
            .then(|| Duration::from_secs_f64((self.seconds - then.seconds).max(0.0) / count))
    }
}

/// By how many milliseconds a node's time of day is ahead of this machine's; `None` while it does not
/// answer.
pub(super) async fn ahead_ms(fleet: &Fleet, id: u64) -> Option<i64> {
    let status = fleet.status(id).await;
    let its = status["time_of_day_ms"].as_u64()? as i64;
    let here = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_millis() as i64;
    Some(its - here)
}

/// How many groups a node leads.
pub(super) async fn leads(fleet: &Fleet, id: u64) -> usize {
    let status = fleet.status(id).await;
    let groups = status["groups"].as_array().into_iter().flatten();
    groups.filter(|group| group["leads"] == true).count()
}

impl Nemesis<'_> {
    /// How often a node has said any of these.
    pub(super) fn said(&self, id: u64, words: &[&str]) -> usize {
        let log = self.fleet.log(id);
        words.iter().map(|word| log.matches(word).count()).sum()
    }

    /// Whether a node says one of these again, soon.
    pub(super) async fn says(&mut self, id: u64, words: &[&str], before: usize) -> bool {
        let begin = Instant::now();
        while self.said(id, words) <= before {
            if begin.elapsed() > PATIENCE / 6 {
                return false;
            }
            // One that ends over it says so first, and is started again.
            self.fleet.revive();
            sleep(LOOK_AGAIN).await;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_found_by_their_whole_name() {
        let page = "# TYPE flotilla_log_syncs counter\nflotilla_log_syncs_total 17\n\
                    flotilla_log_sync_seconds_sum 0.25\nflotilla_log_sync_seconds_count 4\n";
        assert_eq!(number(page, "log_syncs_total"), Some(17.0));
        assert_eq!(number(page, "log_sync_seconds_sum"), Some(0.25));
        assert_eq!(number(page, "log_sync"), None);
        let then = Syncs { count: 2.0, seconds: 0.05 };
        let now = Syncs { count: 4.0, seconds: 0.25 };
        assert_eq!(now.mean_since(then), Some(Duration::from_millis(100)));
        assert_eq!(then.mean_since(then), None);
    }
}
