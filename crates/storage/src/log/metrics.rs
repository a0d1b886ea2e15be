//! Counters of the log.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds of the buckets of [`LogMetrics::sync_us_buckets`], in microseconds; one more
/// bucket holds what is longer.
pub const SYNC_US_BOUNDS: [u64; 12] =
    [50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 1_000_000];
/// Upper bounds of the buckets of [`LogMetrics::batch_records_buckets`]; one more bucket holds
/// what is larger.
pub const BATCH_RECORDS_BOUNDS: [u64; 12] = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1_024, 2_048];

/// The counters at one moment. All but the gauges only grow while the engine is open.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogMetrics {
    /// Batches written and synced.
    pub batches: u64,
    /// Syncs of any file by the writer thread.
    pub syncs: u64,
    /// Records written.
    pub records: u64,
    /// Bytes written, padding included.
    pub bytes: u64,
    /// Payload bytes of entries that were carried forward.
    pub carried_bytes: u64,
    /// Times a new segment was begun.
    pub rotations: u64,
    /// Rotations that had to wait for a segment to be written beforehand.
    pub rotation_stalls: u64,
    /// Time spent writing and syncing batches, in microseconds.
    pub sync_us_total: u64,
    /// Batches by time of write and sync; see [`SYNC_US_BOUNDS`]. Not cumulative.
    pub sync_us_buckets: [u64; SYNC_US_BOUNDS.len() + 1],
    /// Batches by number of records; see [`BATCH_RECORDS_BOUNDS`]. Not cumulative.
    pub batch_records_buckets: [u64; BATCH_RECORDS_BOUNDS.len() + 1],
    /// Gauge: segments in use.
    pub segments: u64,
    /// Gauge: payload bytes that wait for the writer.
    pub pending_bytes: u64,
}

#[derive(Default)]
pub(super) struct Counters {
    pub(super) batches: AtomicU64,
    pub(super) syncs: AtomicU64,
    pub(super) records: AtomicU64,
    pub(super) bytes: AtomicU64,
    pub(super) carried_bytes: AtomicU64,
    pub(super) rotations: AtomicU64,
    pub(super) rotation_stalls: AtomicU64,
    sync_us_total: AtomicU64,
    sync_us: [AtomicU64; SYNC_US_BOUNDS.len() + 1],
    batch_records: [AtomicU64; BATCH_RECORDS_BOUNDS.len() + 1],
}

impl Counters {
    pub(super) fn add(counter: &AtomicU64, value: u64) {
        counter.fetch_add(value, Ordering::Relaxed);
    }

    pub(super) fn batch(&self, records: u64, bytes: u64, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        Self::add(&self.batches, 1);
        Self::add(&self.syncs, 1);
        Self::add(&self.records, records);
        Self::add(&self.bytes, bytes);
        Self::add(&self.sync_us_total, us);
        Self::add(&self.sync_us[bucket(&SYNC_US_BOUNDS, us)], 1);
        Self::add(&self.batch_records[bucket(&BATCH_RECORDS_BOUNDS, records)], 1);
    }

    /// A copy; the gauges are left at zero.
    pub(super) fn snapshot(&self) -> LogMetrics {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        LogMetrics {
            batches: get(&self.batches),
            syncs: get(&self.syncs),
            records: get(&self.records),
            bytes: get(&self.bytes),
            carried_bytes: get(&self.carried_bytes),
            rotations: get(&self.rotations),
            rotation_stalls: get(&self.rotation_stalls),
            sync_us_total: get(&self.sync_us_total),
            sync_us_buckets: std::array::from_fn(|i| get(&self.sync_us[i])),
            batch_records_buckets: std::array::from_fn(|i| get(&self.batch_records[i])),
            segments: 0,
            pending_bytes: 0,
        }
    }
}

fn bucket(bounds: &[u64], value: u64) -> usize {
    bounds.partition_point(|bound| *bound < value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_belong_to_their_bucket() {
        let found: Vec<_> =
            [0, 1, 2, 3, 2_048, 2_049].map(|v| bucket(&BATCH_RECORDS_BOUNDS, v)).into();
        assert_eq!(found, [0, 0, 1, 2, 11, 12]);
    }
}
