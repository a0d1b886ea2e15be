//! Wall-clock time as a dependency, so that tests and the simulator can own it.

use std::time::{SystemTime, UNIX_EPOCH};

/// Where unix time comes from. Only leaders ask, and stamp what they propose; nothing that is
/// applied ever does.
pub trait Clock: Send + Sync + 'static {
    /// Milliseconds since the epoch.
    fn now_ms(&self) -> u64;
}

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now_ms(&self) -> u64 {
        // Before 1970 counts as 1970: a shard's own clock never runs back anyway.
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
    }
}
