//! What a run does to its cluster.

use rand::RngExt as _;
use rand::rngs::StdRng;

/// Kinds of faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum FaultKind {
    /// The process of one node is killed.
    KillOne,
    /// The power of one node is cut.
    CutOne,
    /// That of a majority, at the same moment.
    CutMajority,
    /// That of all.
    CutAll,
    /// The power of one node is cut in the middle of a write.
    TearOne,
    /// Nothing comes from or to one node, and everything arrives later.
    Pause,
    /// Nothing comes from or to one node, and it is lost.
    Isolate,
    /// Nothing comes from one node.
    Mute,
    /// Every node hears two neighbours only (of three nodes: one link is cut).
    Ring,
    /// Some messages are lost.
    Loss,
    /// Messages take long.
    Delay,
    /// A node's clock jumps.
    ClockJump,
    /// A write of the log fails; the node ends itself.
    WriteError,
    /// A disk is slow.
    SlowDisk,
    /// A disk is full.
    FullDisk,
    /// A bit of the log flips while the node is away. Once in a run: damage on a minority.
    FlipBit,
    /// A node comes back with an empty disk. Once in a run.
    LoseDisk,
}

const MANY: [FaultKind; 15] = [
    FaultKind::KillOne,
    FaultKind::CutOne,
    FaultKind::CutMajority,
    FaultKind::CutAll,
    FaultKind::TearOne,
    FaultKind::Pause,
    FaultKind::Isolate,
    FaultKind::Mute,
    FaultKind::Ring,
    FaultKind::Loss,
    FaultKind::Delay,
    FaultKind::ClockJump,
    FaultKind::WriteError,
    FaultKind::SlowDisk,
    FaultKind::FullDisk,
];

impl FaultKind {
    /// Some, in an order, most of them more than once.
    pub(crate) fn draw(dice: &mut StdRng) -> Vec<Self> {
        let mut favourites = Vec::new();
        for _ in 0..dice.random_range(1..=4) {
            favourites.push(MANY[dice.random_range(0..MANY.len())]);
        }
        let count = dice.random_range(2..=7);
        let mut faults: Vec<Self> =
            (0..count).map(|_| favourites[dice.random_range(0..favourites.len())]).collect();
        // More than one replica that may have forgotten something is more than is promised.
        if dice.random_range(0..4) == 0 {
            let kind = if dice.random_range(0..2) == 0 { Self::FlipBit } else { Self::LoseDisk };
            faults.insert(dice.random_range(0..=faults.len()), kind);
        }
        faults
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::KillOne => "kill-one",
            Self::CutOne => "cut-one",
            Self::CutMajority => "cut-majority",
            Self::CutAll => "cut-all",
            Self::TearOne => "tear-one",
            Self::Pause => "pause",
            Self::Isolate => "isolate",
            Self::Mute => "mute",
            Self::Ring => "ring",
            Self::Loss => "loss",
            Self::Delay => "delay",
            Self::ClockJump => "clock-jump",
            Self::WriteError => "write-error",
            Self::SlowDisk => "slow-disk",
            Self::FullDisk => "full-disk",
            Self::FlipBit => "flip-bit",
            Self::LoseDisk => "lose-disk",
        }
    }

    /// Whether a node may come back from it without what its replicas knew.
    pub(crate) fn loses(self) -> bool {
        matches!(self, Self::FlipBit | Self::LoseDisk)
    }
}
