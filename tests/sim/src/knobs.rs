//! Everything that a run leaves to chance, drawn from its seed.

use std::fmt;
use std::time::Duration;

use flotilla_types::limits;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::chaos::{self, Corner};
use crate::fault::FaultKind;

/// Clocks jump by as much at least, when they jump.
pub(crate) const JUMP_MS: i64 = 300;

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
    /// By how much the time of day of each node is wrong when it starts.
    pub(crate) skews_ms: Vec<i64>,
    /// How often each node's other clock jumps over a few milliseconds; 0 for never.
    pub(crate) hurries_ms: Vec<u64>,
    /// Between two sends of one producer.
    pub(crate) pace_ms: u64,
    pub(crate) work: Vec<Work>,
    pub(crate) corners: Vec<Corner>,
    /// The load takes so long at least.
    pub(crate) lasts: Duration,
    pub(crate) faults: Vec<FaultKind>,
    /// How long a fault lasts.
    pub(crate) hold_ms: (u64, u64),
    /// How long it is calm between two, if nobody waits until all is well.
    pub(crate) calm_ms: (u64, u64),
    /// Whether nothing is done for so long, at the end, that all that may be forgotten is.
    pub(crate) rests: bool,
}

/// What clients do, on queues of their own kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// Standard queue: sends, delays, batches, long polls.
    Orders,
    /// FIFO, all groups in one line.
    Lines,
    /// FIFO with high throughput.
    Lanes,
    /// FIFO, each send repeated until it succeeds.
    Retried,
    /// Dead letters, standard.
    Flaky,
    /// Dead letters, FIFO.
    Stumbling,
    /// Dead letters and tasks that move them back.
    Wandering,
    /// The same in FIFO.
    Straying,
    /// Delays, and visibility timeouts that are changed.
    Timed,
    /// A queue that is nearly always empty, under long and short polls.
    Waited,
    /// Queues that come and go.
    Brief,
    /// Attributes that change.
    Tuned,
    /// Purges.
    Purged,
    /// Everything in batches.
    Cartons,
}

/// Until what a corner is for can have happened: a minute of retention or until a name is free again, five until an
/// id is forgotten, some calm for what faults leave undecided; and a bit. Five minutes are for a few runs only.
fn takes(corner: Corner, dice: &mut StdRng) -> Duration {
    const FIVE_MINUTES_ONCE_IN: u32 = 6;
    match corner {
        Corner::Fleeting | Corner::Again => Duration::from_secs(85),
        Corner::Twins if dice.random_ratio(1, FIVE_MINUTES_ONCE_IN) => Duration::from_secs(325),
        Corner::Glanced => Duration::from_secs(50),
        _ => Duration::ZERO,
    }
}

/// Seeds draw them from dice of their own: those that draw none do what they did before there were any.
const CORNERS: u64 = 0xc0_43e5;

const ALL_WORK: [Work; 14] = [
    Work::Orders,
    Work::Lines,
    Work::Lanes,
    Work::Retried,
    Work::Flaky,
    Work::Stumbling,
    Work::Wandering,
    Work::Straying,
    Work::Timed,
    Work::Waited,
    Work::Brief,
    Work::Tuned,
    Work::Purged,
    Work::Cartons,
];

impl Knobs {
    pub(crate) fn draw(seed: u64) -> Self {
        let dice = &mut StdRng::seed_from_u64(seed);
        let nodes = if dice.random_range(0..5) == 0 { 5 } else { 3 };
        let latency = *pick(dice, &[1, 1, 2, 5, 20]);
        let disk = *pick(dice, &[1, 1, 2, 10]);
        let mut work: Vec<Work> =
            ALL_WORK.into_iter().filter(|_| dice.random_range(0..4) == 0).collect();
        if work.is_empty() {
            work.push(*pick(dice, &ALL_WORK));
        }
        let skew_ms = *pick(dice, &[0, 0, 0, 20, 300]);
        let hurries = [0, 0, 2_500, 6_000];
        let (corners, lasts) = draw_corners(seed);
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
            skews_ms: (0..nodes).map(|_| dice.random_range(-skew_ms..=skew_ms)).collect(),
            hurries_ms: match dice.random_range(0..3) {
                0 => (0..nodes).map(|_| *pick(dice, &hurries)).collect(),
                _ => vec![0; nodes as usize],
            },
            pace_ms: *pick(dice, &[60, 120, 240]),
            work,
            corners,
            lasts,
            faults: FaultKind::draw(dice),
            hold_ms: *pick(dice, &[(50, 500), (500, 2_000), (1_000, 4_000)]),
            calm_ms: *pick(dice, &[(0, 300), (1_000, 3_000), (2_000, 6_000)]),
            rests: dice.random_range(0..12) == 0,
        }
    }

    /// How long it is calm once all is well again: faults of a run that lasts come at any time of it.
    pub(crate) fn long_calm_ms(&self) -> (u64, u64) {
        let between = self.lasts / self.faults.len().max(1) as u32;
        (self.calm_ms.0, self.calm_ms.1.max(2 * between.as_millis() as u64))
    }

    /// Of the log that is kept for followers.
    pub(crate) fn keep_bytes(&self) -> u64 {
        4 * self.cut_after_bytes
    }

    /// Most messages of a queue that may be in flight.
    pub(crate) fn in_flight_max(&self) -> u32 {
        if self.corners.is_empty() { limits::IN_FLIGHT_MAX } else { chaos::IN_FLIGHT_MAX }
    }

    /// Most that a node's time of day is wrong by, and with it that of a leader.
    fn skew_ms(&self) -> u64 {
        let jumps = self.faults.contains(&FaultKind::ClockJump);
        let at_first = self.skews_ms.iter().map(|skew| skew.unsigned_abs()).max().unwrap_or(0);
        if jumps { at_first.max(JUMP_MS as u64) } else { at_first }
    }

    /// How far a server's clocks may be from those of clients: `e`.
    pub(crate) fn clock_bound(&self) -> Duration {
        // Nodes read the time of day of the step that they are in, in whole milliseconds.
        let step_ms = self.tick_ms + 2;
        // Over a lease, and over the longest time that a clock needs to come back to the time of day.
        let hurry_ms = if self.hurries_ms.iter().any(|every| *every > 0) { 60 } else { 0 };
        // One leader may be as much behind as the next is ahead.
        Duration::from_millis(step_ms + hurry_ms + 2 * self.skew_ms())
    }
}

fn draw_corners(seed: u64) -> (Vec<Corner>, Duration) {
    let dice = &mut StdRng::seed_from_u64(seed ^ CORNERS);
    if dice.random_range(0..4) > 0 {
        return (Vec::new(), Duration::ZERO);
    }
    let mut corners: Vec<Corner> =
        Corner::ALL.into_iter().filter(|_| dice.random_range(0..3) == 0).collect();
    if corners.is_empty() {
        corners.push(*pick(dice, &Corner::ALL));
    }
    let lasts = corners.iter().map(|corner| takes(*corner, dice)).max().unwrap_or_default();
    (corners, lasts)
}

pub(crate) fn pick<'a, T>(dice: &mut StdRng, all: &'a [T]) -> &'a T {
    &all[dice.random_range(0..all.len())]
}

impl fmt::Display for Knobs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.faults.iter().map(|kind| kind.name()).collect();
        write!(
            f,
            "seed {}: {} nodes, {} shards, {:?}, {:?}, {}",
            self.seed,
            self.nodes,
            self.shards,
            self.work,
            self.corners,
            names.join(" ")
        )
    }
}
