//! What a run does to its cluster.

use rand::RngExt as _;
use rand::rngs::StdRng;

macro_rules! faults {
    ($($kind:ident $name:literal $what:literal;)*) => {
        /// Kinds of faults.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub(crate) enum FaultKind {
            $(#[doc = $what] $kind,)*
        }

        impl FaultKind {
            /// All of them.
            pub(crate) const ALL: &[Self] = &[$(Self::$kind,)*];

            pub(crate) fn name(self) -> &'static str {
                match self { $(Self::$kind => $name,)* }
            }
        }
    };
}

faults! {
    KillOne "kill-one" "The process of one node is killed.";
    CutOne "cut-one" "The power of one node is cut.";
    CutMajority "cut-majority" "That of a majority, at the same moment.";
    CutAll "cut-all" "That of all.";
    TearOne "tear-one" "The power of one node is cut in the middle of a write.";
    Crash "crash" "A node ends at a step of its own: a failpoint.";
    Fail "fail" "A step fails: a failpoint.";
    Pause "pause" "Nothing comes from or to one node, and everything arrives later.";
    Isolate "isolate" "Nothing comes from or to one node, and it is lost.";
    Mute "mute" "Nothing comes from one node.";
    Ring "ring" "Every node hears two neighbours only (of three nodes: one link is cut).";
    Loss "loss" "Some messages are lost.";
    Delay "delay" "Messages take long.";
    ClockJump "clock-jump" "A node's time of day jumps.";
    WriteError "write-error" "A write of the log fails; the node ends itself.";
    ReadError "read-error" "A read of the log or of the state fails; the node ends itself.";
    FlushError "flush-error" "The state cannot be made durable; the node ends itself.";
    SlowDisk "slow-disk" "A disk is slow.";
    FullDisk "full-disk" "There is little room on a disk.";
    NoRoom "no-room" "There is no room: writes that need any fail.";
    FlipBit "flip-bit" "A bit of a segment of the log flips while the node is away.";
    Shorten "shorten" "The end of a segment is missing.";
    LoseSegment "lose-segment" "A segment is missing.";
    SmallFile "small-file" "A file beside the log, or what a node remembers of its peers, is damaged or missing.";
    LoseDisk "lose-disk" "A node comes back with an empty disk.";
    Rollback "rollback" "A node comes back with its disk as it was some time ago.";
    DamageAway "damage-away" "A node's log is damaged, and so many others are down that no majority is whole.";
    LoseMajority "lose-majority" "A majority of disks is lost, until the old ones are put back.";
}

/// What comes in any order and any number.
const MANY: [FaultKind; 20] = [
    FaultKind::KillOne,
    FaultKind::CutOne,
    FaultKind::CutMajority,
    FaultKind::CutAll,
    FaultKind::TearOne,
    FaultKind::Crash,
    FaultKind::Fail,
    FaultKind::Pause,
    FaultKind::Isolate,
    FaultKind::Mute,
    FaultKind::Ring,
    FaultKind::Loss,
    FaultKind::Delay,
    FaultKind::ClockJump,
    FaultKind::WriteError,
    FaultKind::ReadError,
    FaultKind::FlushError,
    FaultKind::SlowDisk,
    FaultKind::FullDisk,
    FaultKind::NoRoom,
];

const DAMAGES: [FaultKind; 8] = [
    FaultKind::FlipBit,
    FaultKind::Shorten,
    FaultKind::LoseSegment,
    FaultKind::SmallFile,
    FaultKind::LoseDisk,
    FaultKind::Rollback,
    FaultKind::DamageAway,
    FaultKind::LoseMajority,
];

impl FaultKind {
    /// Some, in an order, most of them more than once.
    pub(crate) fn draw(dice: &mut StdRng) -> Vec<Self> {
        let mut favourites = Vec::new();
        for _ in 0..dice.random_range(1..=4) {
            favourites.push(MANY[dice.random_range(0..MANY.len())]);
        }
        let count = dice.random_range(3..=8);
        let mut faults: Vec<Self> =
            (0..count).map(|_| favourites[dice.random_range(0..favourites.len())]).collect();
        let damages = [0, 0, 0, 1, 1, 2][dice.random_range(0..6)];
        for _ in 0..damages {
            let kind = DAMAGES[dice.random_range(0..DAMAGES.len())];
            faults.insert(dice.random_range(0..=faults.len()), kind);
        }
        faults
    }

    /// Whether a node may come back from it without what its replicas knew. Then these are rebuilt
    /// before anything else is done: more than one that may have forgotten something is more than is
    /// promised.
    pub(crate) fn loses(self) -> bool {
        DAMAGES.contains(&self)
    }

    /// Whether nodes are stopped for it at once.
    pub(crate) fn stops_nodes(self) -> bool {
        let is_cut =
            matches!(self, Self::KillOne | Self::CutOne | Self::CutMajority | Self::CutAll);
        is_cut || (self.loses() && self != Self::Rollback)
    }

    /// Whether a node may end itself over it.
    pub(crate) fn ends_nodes(self) -> bool {
        matches!(
            self,
            Self::TearOne | Self::WriteError | Self::ReadError | Self::FlushError | Self::NoRoom
        )
    }
}
