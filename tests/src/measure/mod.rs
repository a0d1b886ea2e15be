//! How long clients wait, and how much still works, when a node fails. Figures for people: they depend on the
//! machine, and no test asserts them.
//!
//! Start with [`failover()`] (leaders are killed) and [`gray()`] (a node stands still, is
//! cut off, or has a slow disk).

mod failover;
mod gray;
mod pulse;

pub use failover::failover;
pub use gray::gray;

use std::time::Duration;

/// Of some times, that which a share of them does not exceed.
fn quantile(sorted: &[Duration], share: f64) -> Duration {
    let place = (sorted.len() as f64 * share).ceil() as usize;
    sorted.get(place.saturating_sub(1)).or(sorted.last()).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_times_that_were_measured() {
        let times: Vec<Duration> = (1..=50).map(Duration::from_secs).collect();
        assert_eq!(quantile(&times, 0.5), Duration::from_secs(25));
        assert_eq!(quantile(&times, 0.99), Duration::from_secs(50));
        assert_eq!(quantile(&[], 0.5), Duration::ZERO);
    }
}
