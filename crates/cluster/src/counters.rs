//! What one node counts about its share of the cluster's work.

use std::sync::atomic::AtomicU64;

/// Plain counters; the metrics read them.
#[derive(Debug, Default)]
pub struct NodeCounters {
    /// Short polls answered.
    pub short_polls: AtomicU64,
    /// Short polls that found nothing in the shards that they asked.
    pub short_polls_empty: AtomicU64,
    /// Long polls answered.
    pub long_polls: AtomicU64,
    /// Long polls that ended empty.
    pub long_polls_empty: AtomicU64,
    /// Requests handed on to a leader on another node.
    pub forwarded: AtomicU64,
    /// Attempts repeated because a leader was gone or an answer lost.
    pub retries: AtomicU64,
    /// Requests refused because a bound was reached.
    pub overloaded: AtomicU64,
    /// Sends refused because a node is low on space.
    pub low_on_space: AtomicU64,
}
