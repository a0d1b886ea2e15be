//! How long clients wait, and how much still works, when a node fails or there is too much to do. Figures
//! depend on the machine: no test makes them, and who does has the machine for himself.
//!
//! Start with [`measure`]: of `failover` (leaders are killed), `gray` (a node stands still, is cut off, or has
//! a slow disk) and `overload` it says the figures, and what of them is worse than promised.

mod failover;
mod gray;
mod overload;
mod pulse;

use std::time::Duration;

/// Figures, and those that are not good enough.
#[derive(Clone, Debug, Default)]
struct Judgement {
    text: String,
    failed: Vec<String>,
}

/// Measures one of them on so many nodes; whether all is as promised, and the figures in words.
///
/// # Errors
/// When nothing is called so.
///
/// # Panics
/// When the cluster does not come back.
pub async fn measure(what: &str, nodes: u64, times: u64) -> Result<(bool, String), String> {
    let judgement = match what {
        "failover" => failover::failover(nodes, times).await,
        "gray" => gray::gray(nodes).await,
        "overload" => overload::overload(nodes).await,
        other => return Err(format!("nothing to measure is called {other}")),
    };
    let Judgement { mut text, failed } = judgement;
    for what in &failed {
        text.push_str(&format!("NOT AS PROMISED: {what}\n"));
    }
    Ok((failed.is_empty(), text))
}

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
