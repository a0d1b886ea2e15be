//! Counters of the links, since the start of the process.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::Lane;

/// What one lane did, over all peers and both sides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LaneCounters {
    /// Frames put into batches.
    pub frames_sent: u64,
    /// Batches written; `frames_sent / batches_sent` is how much was coalesced.
    pub batches_sent: u64,
    /// Payload bytes put into batches.
    pub bytes_sent: u64,
    /// Frames taken out of batches.
    pub frames_received: u64,
    /// Batches read.
    pub batches_received: u64,
    /// Payload bytes taken out of batches.
    pub bytes_received: u64,
    /// Lanes that this node dialled and that were accepted.
    pub connects: u64,
    /// Of these, those that replaced one that had been up before.
    pub reconnects: u64,
    /// Attempts that failed or were refused.
    pub connect_failures: u64,
    /// Calls made by this node.
    pub calls: u64,
    /// Of these, those that ended with an error (a dropped call counts as neither).
    pub calls_failed: u64,
    /// Calls (refused, overloaded) and streams that this node ended with a reset.
    pub resets_sent: u64,
    /// Frames that made no sense and were ignored.
    pub frames_ignored: u64,
}

/// A reading of all counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// In the order of [`Lane::ALL`].
    pub lanes: [LaneCounters; 4],
}

impl Counters {
    /// The counters of one lane.
    pub fn lane(&self, lane: Lane) -> &LaneCounters {
        &self.lanes[lane.number()]
    }
}

macro_rules! live {
    ($($name:ident),*) => {
        /// The counters while they count.
        #[derive(Default)]
        pub(crate) struct LiveLane { $(pub(crate) $name: AtomicU64),* }

        impl LiveLane {
            fn read(&self) -> LaneCounters {
                LaneCounters { $($name: self.$name.load(Relaxed)),* }
            }
        }
    };
}

live!(
    frames_sent,
    batches_sent,
    bytes_sent,
    frames_received,
    batches_received,
    bytes_received,
    connects,
    reconnects,
    connect_failures,
    calls,
    calls_failed,
    resets_sent,
    frames_ignored
);

#[derive(Default)]
pub(crate) struct LiveCounters {
    lanes: [std::sync::Arc<LiveLane>; 4],
}

impl LiveCounters {
    pub(crate) fn lane(&self, lane: Lane) -> &std::sync::Arc<LiveLane> {
        &self.lanes[lane.number()]
    }

    pub(crate) fn read(&self) -> Counters {
        Counters { lanes: std::array::from_fn(|i| self.lanes[i].read()) }
    }
}

pub(crate) fn add(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Relaxed);
}
