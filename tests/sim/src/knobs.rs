//! Everything that a run leaves to chance, drawn from its seed.

use std::fmt;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::fault::FaultKind;

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Knobs {
    pub(crate) seed: u64,
    pub(crate) nodes: u64,
    pub(crate) shards: u32,
    /// A step of the simulation.
    pub(crate) tick_ms: u64,
    /// Of a message between two hosts.
    pub(crate) latency_ms: (u64, u64),
    /// Of a durable write.
    pub(crate) disk_ms: (u64, u64),
    pub(crate) segment_bytes: u64,
    pub(crate) segments_max: usize,
    pub(crate) cache_bytes: usize,
    pub(crate) cut_after_bytes: u64,
    pub(crate) keep_entries: u64,
    /// One write of the state store in so many is followed by a flush; 0 for none.
    pub(crate) flush_once_in: u64,
    /// Most that a node's clock is wrong by.
    pub(crate) skew_ms: u64,
    /// Between two sends of one producer.
    pub(crate) pace_ms: u64,
    pub(crate) work: Vec<Work>,
    pub(crate) faults: Vec<FaultKind>,
    /// How long a fault lasts.
    pub(crate) hold_ms: (u64, u64),
    /// How long it is calm between two.
    pub(crate) calm_ms: (u64, u64),
}

/// What clients do, on queues of their own kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// Standard queue: sends, delays, batches, long polls, visibility changes.
    Orders,
    /// FIFO, all groups in one line.
    Lines,
    /// FIFO with high throughput.
    Lanes,
    /// Dead letters, standard.
    Flaky,
    /// Dead letters, FIFO.
    Stumbling,
    /// Dead letters and tasks that move them back.
    Wandering,
    /// Purges.
    Purged,
}

const ALL_WORK: [Work; 7] = [
    Work::Orders,
    Work::Lines,
    Work::Lanes,
    Work::Flaky,
    Work::Stumbling,
    Work::Wandering,
    Work::Purged,
];

impl Knobs {
    pub(crate) fn draw(seed: u64) -> Self {
        let dice = &mut StdRng::seed_from_u64(seed);
        let nodes = if dice.random_range(0..5) == 0 { 5 } else { 3 };
        let latency = *pick(dice, &[1, 1, 2, 5, 20]);
        let disk = *pick(dice, &[1, 1, 2, 10]);
        let mut work: Vec<Work> =
            ALL_WORK.into_iter().filter(|_| dice.random_range(0..3) == 0).collect();
        if work.is_empty() {
            work.push(*pick(dice, &ALL_WORK));
        }
        let faults = FaultKind::draw(dice);
        Self {
            seed,
            nodes,
            shards: *pick(dice, &[1, 2, 2, 3, 4]),
            tick_ms: *pick(dice, &[2, 5, 5]),
            latency_ms: (latency, latency * *pick(dice, &[1, 2, 5])),
            disk_ms: (disk, disk * *pick(dice, &[1, 3])),
            segment_bytes: *pick(dice, &[64 << 10, 128 << 10, 512 << 10]),
            segments_max: dice.random_range(3..=8),
            cache_bytes: *pick(dice, &[0, 16 << 10, 1 << 20]),
            cut_after_bytes: *pick(dice, &[4 << 10, 32 << 10, 256 << 10, 8 << 20]),
            keep_entries: *pick(dice, &[1, 10, 100, 2_000]),
            flush_once_in: *pick(dice, &[0, 0, 20, 200]),
            skew_ms: *pick(dice, &[0, 0, 20, 300]),
            pace_ms: *pick(dice, &[40, 80, 160]),
            work,
            faults,
            hold_ms: *pick(dice, &[(50, 500), (500, 2_000), (1_000, 4_000)]),
            calm_ms: *pick(dice, &[(0, 300), (500, 1_500)]),
        }
    }
}

pub(crate) fn pick<'a, T>(dice: &mut StdRng, all: &'a [T]) -> &'a T {
    &all[dice.random_range(0..all.len())]
}

impl fmt::Display for Knobs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.faults.iter().map(|kind| kind.name()).collect();
        write!(
            f,
            "seed {}: {} nodes, {} shards, {:?}, {}",
            self.seed,
            self.nodes,
            self.shards,
            self.work,
            names.join(" ")
        )
    }
}
