//! Which faults there are, and what they are called.

use std::fmt;
use std::str::FromStr;

use flotilla_probe::Point;

use super::Ground;
use crate::chaos::probing::Deed;

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident $name:literal $home:ident,)*) => {
        /// A kind of fault.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum FaultKind {
            $($(#[$doc])* $kind,)*
            /// One node ends at a failpoint. Only with builds that have those.
            Crash(Point),
            /// A step of one node fails, is slow or stands still. The same.
            Probe(Point, Deed),
        }

        impl FaultKind {
            /// All that every build has.
            pub const ALL: &'static [Self] = &[$(Self::$kind),*];

            /// As it is called in histories and on command lines.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$kind => $name,)*
                    Self::Crash(_) => "crash",
                    Self::Probe(_, deed) => deed.name(),
                }
            }

            /// Where it is made unless somebody wants it elsewhere.
            pub fn home(self) -> Ground {
                match self {
                    $(Self::$kind => Ground::$home,)*
                    Self::Crash(_) | Self::Probe(..) => Ground::Loopback,
                }
            }
        }
    };
}

kinds! {
    /// SIGKILL of one node.
    KillOne "kill-one" Loopback,
    /// SIGKILL of the smallest majority.
    KillMajority "kill-majority" Loopback,
    /// SIGKILL of all nodes.
    KillAll "kill-all" Loopback,
    /// SIGSTOP of one node, and SIGCONT.
    Pause "pause" Loopback,
    /// The same for a minute, which is longer than every lease.
    PauseLong "pause-long" Loopback,
    /// SIGSTOP of all nodes at once, and SIGCONT.
    PauseAll "pause-all" Loopback,
    /// SIGTERM of each node, one after the other, each started again before the next.
    Restart "restart" Loopback,
    /// Nothing passes between one node and the others.
    Partition "partition" Loopback,
    /// Nothing that one node says reaches the others; it hears them.
    OneWay "one-way" Loopback,
    /// Nothing passes between a minority and the others.
    Halves "halves" Loopback,
    /// Two halves that only one node between them hears.
    Bridge "bridge" Loopback,
    /// Each node hears only its two neighbours in a circle.
    Ring "ring" Loopback,
    /// One node is cut off and joined again, three times.
    Flap "flap" Loopback,
    /// What one node says and hears comes 50 ms to 10 s later.
    Delay "delay" Loopback,
    /// A share of what one node says and hears comes only when it is repeated.
    Loss "loss" Loopback,
    /// All connections of one node are reset, four times.
    Reset "reset" Loopback,
    /// Connections of one node end, and only one of the two sides is told.
    HalfOpen "half-open" Loopback,
    /// Ten times as many clients, without any pause.
    Overload "overload" Loopback,
    /// Clients that die while they receive, read slowly, or never delete.
    RudeClients "rude-clients" Loopback,
    /// The kernel drops all packets between one node and the others.
    Drop "drop" Namespaces,
    /// All that one node sends to the others.
    DropOneWay "drop-one-way" Namespaces,
    /// Some of those between one node and the others.
    PacketLoss "packet-loss" Namespaces,
    /// A container's only link is taken away.
    Disconnect "disconnect" Compose,
    /// The power of one node goes: what it had not synced is gone.
    PowerCutOne "power-cut" Machines,
    /// That of the largest minority.
    PowerCutMinority "power-cut-minority" Machines,
    /// That of all nodes at once.
    PowerCutAll "power-cut-all" Machines,
    /// That of all nodes, one after the other; they come back likewise.
    PowerCutStaggered "power-cut-staggered" Machines,
    /// It goes in the middle of a write of the log, of which a part is there.
    TornWrite "torn-write" Machines,
    /// Bits turn over in a node's log while it is down.
    FlipLog "bit-flip-log" Machines,
    /// In the files of its state.
    FlipState "bit-flip-state" Machines,
    /// In the small files: marks, votes, what it remembers of others, who it is.
    FlipSmall "bit-flip-small" Machines,
    /// In log or state, while it runs.
    FlipLive "bit-flip-live" Machines,
    /// A file of its log or state loses its end.
    Truncate "truncate" Machines,
    /// A file is gone.
    LoseFile "lose-file" Machines,
    /// Its whole directory is what it was a while ago.
    Rollback "rollback" Machines,
    /// Everything is gone.
    LoseDisk "lose-disk" Machines,
    /// One read fails.
    EioReadOnce "eio-read-once" Machines,
    /// All reads fail.
    EioRead "eio-read" Machines,
    /// One write of its log fails.
    EioWriteOnce "eio-write-once" Machines,
    /// All writes of its log fail.
    EioWrite "eio-write" Machines,
    /// One sync fails.
    EioSyncOnce "eio-sync-once" Machines,
    /// All syncs fail.
    EioSync "eio-sync" Machines,
    /// The kernel makes its file system read-only.
    ReadOnly "read-only" Machines,
    /// A sync takes between 20 and 500 ms.
    SlowDisk "slow-disk" Machines,
    /// Its disk does nothing for half a minute.
    StallDisk "stall-disk" Machines,
    /// Something else fills its disk, and goes away again.
    DiskFull "disk-full" Machines,
    /// Its clock jumps, up to an hour, and jumps back.
    ClockJump "clock-jump" Machines,
    /// Its clock goes 5 % too fast or too slow.
    ClockDrift "clock-drift" Machines,
    /// Its clock jumps there and back again and again.
    ClockStrobe "clock-strobe" Machines,
    /// Its clock is set while it is down: it starts with a wrong one.
    ClockAtStart "clock-at-start" Machines,
    /// Everything by which it measures time is 5 % too fast or too slow.
    TimerDrift "timer-drift" Machines,
    /// It may open no more files and sockets.
    Descriptors "descriptors" Machines,
    /// It may start no more threads.
    Threads "threads" Machines,
    /// It gets no more memory, and is killed for what it takes.
    OutOfMemory "out-of-memory" Machines,
    /// It gets a twentieth of a processor.
    StarveCpu "starve-cpu" Machines,
    /// It is away until the others have cut their logs behind what it lacks.
    StayAway "stay-away" Machines,
    /// Two or three faults at the same time, of different nodes.
    Mix "mix" Machines,
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for FaultKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.iter().find(|kind| kind.name() == text);
        found.copied().ok_or_else(|| {
            let names: Vec<&str> = Self::ALL.iter().map(|kind| kind.name()).collect();
            format!("no fault is called {text}; there are {}", names.join(", "))
        })
    }
}
