//! The lanes of a link.

use std::sync::Arc;

/// One of the connections of a link. Lanes do not wait for each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lane {
    /// Raft log entries.
    Log,
    /// Heartbeats and votes: small and urgent.
    Control,
    /// Snapshots: large and patient.
    Bulk,
    /// Client requests on their way to leaders, wake-ups.
    Forward,
}

impl Lane {
    /// All lanes; the place of a lane is its number on the wire.
    pub const ALL: [Lane; 4] = [Lane::Log, Lane::Control, Lane::Bulk, Lane::Forward];

    pub(crate) fn number(self) -> usize {
        self as usize
    }

    pub(crate) fn from_number(number: u32) -> Option<Lane> {
        Lane::ALL.get(usize::try_from(number).ok()?).copied()
    }

    /// For logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Lane::Log => "log",
            Lane::Control => "control",
            Lane::Bulk => "bulk",
            Lane::Forward => "forward",
        }
    }
}

/// State of the connection that this node dialled for a lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkPhase {
    /// The first attempt is not over yet.
    Starting,
    /// Calls go through.
    Up,
    /// Calls fail at once; attempts go on. The text says why, for logs and status pages.
    Down(Arc<str>),
}
