//! Where faults can be made, and what that takes.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use super::{FaultKind, away, mix, resources, syscalls, torn};
use crate::chaos::corners;
use crate::{Fleet, LoopDisk, Settings, Throttle};

/// Faults of one ground can be made in the same fleet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ground {
    /// Nodes that listen on this machine's loopback.
    Loopback,
    /// Nodes in network namespaces of their own.
    Namespaces,
    /// Nodes with disks, clocks and limits of their own, which are started again when they end.
    Machines,
    /// Nodes in network namespaces of their own with disks of their own.
    Apart,
    /// The containers of the compose cluster.
    Compose,
}

impl Ground {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Loopback, Self::Namespaces, Self::Machines, Self::Apart, Self::Compose];

    /// In a word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Loopback => "loopback",
            Self::Namespaces => "namespaces",
            Self::Machines => "machines",
            Self::Apart => "apart",
            Self::Compose => "compose",
        }
    }
}

impl fmt::Display for Ground {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Ground {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|ground| ground.name() == text);
        let names = Self::ALL.map(Self::name).join(", ");
        found
            .ok_or_else(|| format!("nothing to make faults on is called {text}; there are {names}"))
    }
}

/// Why a fault cannot be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unavailable {
    /// With so few nodes it would be another one.
    Pointless(&'static str),
    /// The machine lacks what it takes.
    Lacking(String),
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pointless(why) => f.write_str(why),
            Self::Lacking(what) => f.write_str(what),
        }
    }
}

/// Those that can be made and those that cannot.
#[derive(Clone, Debug, Default)]
pub struct Possible {
    /// That can be made.
    pub faults: Vec<FaultKind>,
    /// That make no sense with so few nodes.
    pub pointless: Vec<(FaultKind, &'static str)>,
    /// For which this machine lacks something.
    pub skipped: Vec<(FaultKind, String)>,
}

impl FaultKind {
    /// In so many times [`FaultKind::Mix`] has made each of its mixtures.
    pub const MIXTURES: u64 = mix::ROUND;

    /// Whether it can be made in a fleet of that ground.
    pub fn goes_on(self, ground: Ground) -> bool {
        use FaultKind as K;
        let anywhere = matches!(self, K::KillOne | K::KillMajority | K::KillAll | K::Pause)
            || matches!(self, K::PauseAll | K::Restart | K::Overload | K::RudeClients);
        let by_packets = matches!(self, K::Drop | K::DropOneWay | K::PacketLoss);
        let by_silence = self.is_by_silence();
        let of_power = matches!(self, K::PowerCutOne | K::PowerCutMinority | K::PowerCutAll)
            || self == K::PowerCutStaggered;
        let of_containers = matches!(self, K::StarveCpu | K::OutOfMemory | K::LoseDisk);
        self.home() == ground
            || match ground {
                Ground::Loopback | Ground::Machines => false,
                Ground::Namespaces => anywhere || by_silence,
                Ground::Apart => anywhere || by_silence || by_packets || of_power,
                Ground::Compose => {
                    anywhere || by_packets || by_silence || of_containers || self == K::PauseLong
                }
            }
    }

    /// Nothing passes on some wires.
    fn is_by_silence(self) -> bool {
        use FaultKind as K;
        matches!(self, K::Partition | K::OneWay | K::Halves | K::Bridge | K::Ring | K::Flap)
    }

    fn needs_wires(self) -> bool {
        use FaultKind as K;
        matches!(self, K::Partition | K::OneWay | K::Halves | K::Bridge | K::Ring | K::Mix)
            || matches!(self, K::Flap | K::Delay | K::Loss | K::Reset | K::HalfOpen)
    }

    fn needs_disk(self) -> bool {
        use FaultKind as K;
        matches!(self, K::PowerCutOne | K::PowerCutMinority | K::PowerCutAll | K::Mix)
            || matches!(self, K::PowerCutStaggered | K::TornWrite | K::ReadOnly)
            || matches!(self, K::SlowDisk | K::StallDisk | K::DiskFull)
    }

    fn needs_clock(self) -> bool {
        use FaultKind as K;
        matches!(self, K::ClockJump | K::ClockDrift | K::ClockStrobe | K::ClockAtStart)
            || matches!(self, K::TimerDrift | K::Mix)
    }

    /// What a fleet of that ground must have for these faults.
    pub fn settings(kinds: &[Self], ground: Ground) -> Settings {
        let any = |is: fn(Self) -> bool| kinds.iter().any(|kind| is(*kind));
        let apart = matches!(ground, Ground::Namespaces | Ground::Apart);
        let away = if kinds.contains(&Self::StayAway) { away::LINES } else { "" };
        Settings {
            lines: format!("{}{away}", corners::LINES),
            links: any(Self::needs_wires) && matches!(ground, Ground::Loopback | Ground::Machines),
            namespaces: apart,
            loop_disks: ground == Ground::Apart
                || (ground == Ground::Machines && any(Self::needs_disk)),
            clocks: any(Self::needs_clock),
            supervised: matches!(ground, Ground::Machines | Ground::Apart),
            compose: ground == Ground::Compose,
            ..Settings::default()
        }
    }

    /// Whether it can be made with so many nodes on this machine, in a fleet of that ground.
    ///
    /// # Errors
    /// With the reason why not.
    pub fn available(self, nodes: usize, ground: Ground) -> Result<(), Unavailable> {
        use FaultKind as K;
        match self {
            K::Halves | K::Ring if nodes < 5 => {
                return Err(Unavailable::Pointless("takes five nodes to differ from others"));
            }
            K::PowerCutMinority if nodes < 5 => {
                return Err(Unavailable::Pointless("takes five nodes: it is one of three"));
            }
            _ => {}
        }
        let of_ground = match ground {
            Ground::Namespaces => Fleet::can_have_namespaces(),
            Ground::Apart => Fleet::can_have_namespaces().and_then(|()| LoopDisk::available()),
            Ground::Compose => Fleet::can_compose().and_then(|()| self.available_in_containers()),
            Ground::Loopback | Ground::Machines => self.available_to_processes(),
        };
        of_ground.map_err(Unavailable::Lacking)
    }

    fn available_to_processes(self) -> Result<(), String> {
        use FaultKind as K;
        match self {
            K::EioReadOnce
            | K::EioRead
            | K::EioWriteOnce
            | K::EioWrite
            | K::EioSyncOnce
            | K::EioSync => syscalls::available(),
            K::TornWrite => torn::available().and_then(|()| LoopDisk::available()),
            K::SlowDisk => Throttle::available(),
            K::Mix => Throttle::available().and_then(|()| Fleet::can_set_clocks()),
            K::Threads | K::OutOfMemory | K::StarveCpu => resources::shortage(self).available(),
            kind if kind.needs_disk() => LoopDisk::available(),
            kind if kind.needs_clock() => Fleet::can_set_clocks(),
            _ => Ok(()),
        }
    }

    fn available_in_containers(self) -> Result<(), String> {
        match self {
            Self::Drop | Self::DropOneWay | Self::PacketLoss => Fleet::can_filter_containers(),
            // There are no relays between containers: a wire is cut by losing all packets.
            kind if kind.is_by_silence() => Fleet::can_filter_containers(),
            _ => Ok(()),
        }
    }

    /// Which of these can be made.
    pub fn possible(kinds: &[Self], nodes: usize, ground: Ground) -> Possible {
        // Some answers take a second, and those of most faults are the same.
        let mut possible = Possible::default();
        for kind in kinds {
            match kind.available(nodes, ground) {
                Ok(()) => possible.faults.push(*kind),
                Err(Unavailable::Pointless(why)) => possible.pointless.push((*kind, why)),
                Err(Unavailable::Lacking(what)) => possible.skipped.push((*kind, what)),
            }
        }
        possible
    }

    /// These faults by the grounds on which they are made unless somebody wants them elsewhere.
    pub fn by_home(kinds: &[Self]) -> BTreeMap<Ground, Vec<Self>> {
        let mut grounds: BTreeMap<Ground, Vec<Self>> = BTreeMap::new();
        for kind in kinds {
            grounds.entry(kind.home()).or_default().push(*kind);
        }
        grounds
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_goes_at_home_and_grounds_have_what_theirs_need() {
        for kind in FaultKind::ALL {
            assert!(kind.goes_on(kind.home()), "{kind}");
            let settings = FaultKind::settings(&[*kind], kind.home());
            assert_eq!(settings.compose, kind.home() == Ground::Compose, "{kind}");
            assert_eq!(settings.namespaces, kind.home() == Ground::Namespaces, "{kind}");
            assert_eq!(settings.links, kind.needs_wires(), "{kind}");
            assert_eq!(settings.loop_disks, kind.needs_disk(), "{kind}");
        }
    }

    #[test]
    fn names_are_different_and_found_again() {
        for kind in FaultKind::ALL {
            assert_eq!(kind.name().parse(), Ok(*kind));
        }
    }
}
