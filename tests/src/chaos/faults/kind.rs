//! Which faults there are, what they are called, and what they need.

use std::fmt;
use std::str::FromStr;

use flotilla_probe::Point;

use crate::cgroup::Cgroup;
use crate::chaos::faults::{away, syscalls};
use crate::{Fleet, LoopDisk, Settings, Throttle};

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FaultKind {
    /// SIGKILL of one node.
    KillOne,
    /// SIGKILL of the smallest majority.
    KillMajority,
    /// SIGKILL of all nodes.
    KillAll,
    /// SIGSTOP of one node, and SIGCONT.
    Pause,
    /// Nothing passes between one node and the others.
    Partition,
    /// Nothing that one node says reaches the others; it hears them.
    OneWay,
    /// SIGTERM of each node, one after the other, each started again before the next.
    Restart,
    /// Nothing passes between a minority and the others.
    Halves,
    /// Two halves that only one node between them hears.
    Bridge,
    /// Each node hears only its two neighbours in a circle.
    Ring,
    /// One node is cut off and joined again, three times.
    Flap,
    /// What one node says and hears comes 50 ms to 4 s later.
    Delay,
    /// A share of what one node says and hears comes only when it is repeated.
    Loss,
    /// All connections of one node are reset, four times.
    Reset,
    /// Connections of one node end, and only one of the two sides is told.
    HalfOpen,
    /// Ten times as many clients, without any pause.
    Overload,
    /// Clients that die while they receive, read slowly, or never delete.
    RudeClients,
    /// The kernel drops all packets between one node and the others.
    Drop,
    /// All that one node sends to the others.
    DropOneWay,
    /// Some of those between one node and the others.
    PacketLoss,
    /// The power of one node goes: what it had not synced is gone.
    PowerCutOne,
    /// That of the largest minority.
    PowerCutMinority,
    /// That of all nodes at once.
    PowerCutAll,
    /// That of all nodes, one after the other; they come back likewise.
    PowerCutStaggered,
    /// Bits turn over in a node's log while it is down.
    FlipLog,
    /// In the files of its state.
    FlipState,
    /// In either, while it runs.
    FlipLive,
    /// A file of its log or state loses its end.
    Truncate,
    /// A file is gone.
    LoseFile,
    /// Its whole directory is what it was a while ago.
    Rollback,
    /// Everything is gone.
    LoseDisk,
    /// One write of its log fails.
    EioWriteOnce,
    /// All writes of its log fail.
    EioWrite,
    /// One sync fails.
    EioSyncOnce,
    /// All syncs fail.
    EioSync,
    /// The kernel makes its file system read-only.
    ReadOnly,
    /// A sync takes between 20 and 500 ms.
    SlowDisk,
    /// Its disk does nothing for half a minute.
    StallDisk,
    /// Something else fills its disk, and goes away again.
    DiskFull,
    /// Its clock jumps, up to an hour, and jumps back.
    ClockJump,
    /// Its clock goes 5 % too fast or too slow.
    ClockDrift,
    /// Its clock jumps there and back again and again.
    ClockStrobe,
    /// It may open no more files and sockets.
    Descriptors,
    /// It gets no more memory, and is killed for what it takes.
    OutOfMemory,
    /// It gets a twentieth of a processor.
    StarveCpu,
    /// It is away until the others have cut their logs behind what it lacks.
    StayAway,
    /// One node ends at a failpoint. Only with builds that have those.
    Crash(Point),
}

impl FaultKind {
    /// All that every build has.
    pub const ALL: [Self; 46] = [
        Self::KillOne,
        Self::KillMajority,
        Self::KillAll,
        Self::Pause,
        Self::Partition,
        Self::OneWay,
        Self::Restart,
        Self::Halves,
        Self::Bridge,
        Self::Ring,
        Self::Flap,
        Self::Delay,
        Self::Loss,
        Self::Reset,
        Self::HalfOpen,
        Self::Overload,
        Self::RudeClients,
        Self::Drop,
        Self::DropOneWay,
        Self::PacketLoss,
        Self::PowerCutOne,
        Self::PowerCutMinority,
        Self::PowerCutAll,
        Self::PowerCutStaggered,
        Self::FlipLog,
        Self::FlipState,
        Self::FlipLive,
        Self::Truncate,
        Self::LoseFile,
        Self::Rollback,
        Self::LoseDisk,
        Self::EioWriteOnce,
        Self::EioWrite,
        Self::EioSyncOnce,
        Self::EioSync,
        Self::ReadOnly,
        Self::SlowDisk,
        Self::StallDisk,
        Self::DiskFull,
        Self::ClockJump,
        Self::ClockDrift,
        Self::ClockStrobe,
        Self::Descriptors,
        Self::OutOfMemory,
        Self::StarveCpu,
        Self::StayAway,
    ];

    /// As it is called in histories and on command lines.
    pub fn name(self) -> &'static str {
        match self {
            Self::KillOne => "kill-one",
            Self::KillMajority => "kill-majority",
            Self::KillAll => "kill-all",
            Self::Pause => "pause",
            Self::Partition => "partition",
            Self::OneWay => "one-way",
            Self::Restart => "restart",
            Self::Halves => "halves",
            Self::Bridge => "bridge",
            Self::Ring => "ring",
            Self::Flap => "flap",
            Self::Delay => "delay",
            Self::Loss => "loss",
            Self::Reset => "reset",
            Self::HalfOpen => "half-open",
            Self::Overload => "overload",
            Self::RudeClients => "rude-clients",
            Self::Drop => "drop",
            Self::DropOneWay => "drop-one-way",
            Self::PacketLoss => "packet-loss",
            Self::PowerCutOne => "power-cut",
            Self::PowerCutMinority => "power-cut-minority",
            Self::PowerCutAll => "power-cut-all",
            Self::PowerCutStaggered => "power-cut-staggered",
            Self::FlipLog => "bit-flip-log",
            Self::FlipState => "bit-flip-state",
            Self::FlipLive => "bit-flip-live",
            Self::Truncate => "truncate",
            Self::LoseFile => "lose-file",
            Self::Rollback => "rollback",
            Self::LoseDisk => "lose-disk",
            Self::EioWriteOnce => "eio-write-once",
            Self::EioWrite => "eio-write",
            Self::EioSyncOnce => "eio-sync-once",
            Self::EioSync => "eio-sync",
            Self::ReadOnly => "read-only",
            Self::SlowDisk => "slow-disk",
            Self::StallDisk => "stall-disk",
            Self::DiskFull => "disk-full",
            Self::ClockJump => "clock-jump",
            Self::ClockDrift => "clock-drift",
            Self::ClockStrobe => "clock-strobe",
            Self::Descriptors => "descriptors",
            Self::OutOfMemory => "out-of-memory",
            Self::StarveCpu => "starve-cpu",
            Self::StayAway => "stay-away",
            Self::Crash(_) => "crash",
        }
    }
}

/// Faults of one ground can be made in the same fleet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ground {
    /// Nodes that listen on this machine's loopback.
    Loopback,
    /// Nodes in network namespaces of their own.
    Namespaces,
    /// Nodes with disks, clocks and limits of their own, which are started again when they end.
    Machines,
}

impl FaultKind {
    /// Where it can be made.
    pub fn ground(self) -> Ground {
        use FaultKind as K;
        match self {
            K::Drop | K::DropOneWay | K::PacketLoss => Ground::Namespaces,
            K::KillOne | K::KillMajority | K::KillAll | K::Pause | K::Restart => Ground::Loopback,
            K::Overload | K::RudeClients | K::Crash(_) => Ground::Loopback,
            kind if kind.needs_wires() => Ground::Loopback,
            _ => Ground::Machines,
        }
    }

    fn needs_wires(self) -> bool {
        use FaultKind as K;
        matches!(self, K::Partition | K::OneWay | K::Halves | K::Bridge | K::Ring)
            || matches!(self, K::Flap | K::Delay | K::Loss | K::Reset | K::HalfOpen)
    }

    fn needs_disk(self) -> bool {
        use FaultKind as K;
        matches!(self, K::PowerCutOne | K::PowerCutMinority | K::PowerCutAll)
            || matches!(self, K::PowerCutStaggered | K::ReadOnly)
            || matches!(self, K::SlowDisk | K::StallDisk | K::DiskFull)
    }

    fn needs_clock(self) -> bool {
        matches!(self, Self::ClockJump | Self::ClockDrift | Self::ClockStrobe)
    }

    /// What a fleet must have for these faults, which are of one ground.
    pub fn settings(kinds: &[Self]) -> Settings {
        let away = kinds.contains(&Self::StayAway);
        Settings {
            lines: if away { away::LINES.to_owned() } else { String::new() },
            links: kinds.iter().any(|kind| kind.needs_wires()),
            namespaces: kinds.iter().any(|kind| kind.ground() == Ground::Namespaces),
            loop_disks: kinds.iter().any(|kind| kind.needs_disk()),
            clocks: kinds.iter().any(|kind| kind.needs_clock()),
            supervised: kinds.iter().any(|kind| kind.ground() == Ground::Machines),
            ..Settings::default()
        }
    }

    /// Whether it can be made with so many nodes on this machine.
    ///
    /// # Errors
    /// With the reason why not.
    pub fn available(self, nodes: usize) -> Result<(), String> {
        use FaultKind as K;
        match self {
            K::Halves | K::Ring if nodes < 5 => {
                Err("takes five nodes to differ from others".to_owned())
            }
            K::PowerCutMinority if nodes < 5 => {
                Err("takes five nodes: it is one of three".to_owned())
            }
            K::EioWriteOnce | K::EioWrite | K::EioSyncOnce | K::EioSync => syscalls::available(),
            K::SlowDisk => Throttle::available(),
            K::OutOfMemory => Cgroup::available("memory"),
            K::StarveCpu => Cgroup::available("cpu"),
            kind if kind.needs_disk() => LoopDisk::available(),
            kind if kind.needs_clock() => Fleet::can_set_clocks(),
            kind if kind.ground() == Ground::Namespaces => Fleet::can_have_namespaces(),
            _ => Ok(()),
        }
    }

    /// Those of these that can be made so, and why the others cannot.
    pub fn possible(kinds: &[Self], nodes: usize) -> (Vec<Self>, Vec<(Self, String)>) {
        let (mut possible, mut skipped) = (Vec::new(), Vec::new());
        for kind in kinds {
            match kind.available(nodes) {
                Ok(()) => possible.push(*kind),
                Err(why) => skipped.push((*kind, why)),
            }
        }
        (possible, skipped)
    }
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for FaultKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|kind| kind.name() == text);
        found.ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            format!("no fault is called {text}; there are {names}")
        })
    }
}
