//! What a run leaves behind: replicas that hold different things, memory, descriptors and disk that do not
//! come back.
//!
//! Memory and disk are compared with what the same nodes had before the first run on them, and with what a
//! node keeps for good (buffers of the state store, segments of the log): what grows with the work would
//! grow beyond that.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;
use std::{fmt, fs};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::chaos::faults::FaultKind;
use crate::http::Connection;
use crate::{Fleet, PATIENCE};

const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// Beyond what a node had: files of the state, connections that are about to end.
const DESCRIPTORS_MORE: u64 = 64;
/// Buffers and caches of the state store, and what the allocator keeps of them.
const MEMORY_MORE_BYTES: u64 = 384 << 20;
/// Segments of the log, and files of the state that wait to be merged.
const DISK_MORE_BYTES: u64 = 640 << 20;

/// What a node takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Taken {
    memory_bytes: u64,
    descriptors: u64,
    disk_bytes: u64,
}

impl Taken {
    /// Nothing of what cannot be seen from here.
    fn of(fleet: &Fleet, id: u64) -> Self {
        let Ok(process) = fleet.process(id) else { return Self::default() };
        let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = resident.and_then(|it| it.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
        let open = fs::read_dir(format!("/proc/{process}/fd")).map_or(0, Iterator::count);
        Self {
            memory_bytes: kib.unwrap_or(0) << 10,
            descriptors: open as u64,
            disk_bytes: fleet.data_dir(id).map_or(0, |dir| bytes_in(&dir)),
        }
    }

    /// What it takes beyond this.
    fn beyond(self, before: Self) -> More {
        More(Self {
            memory_bytes: self.memory_bytes.saturating_sub(before.memory_bytes),
            descriptors: self.descriptors.saturating_sub(before.descriptors),
            disk_bytes: self.disk_bytes.saturating_sub(before.disk_bytes),
        })
    }
}

/// By how much a node takes more than it did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct More(Taken);

impl More {
    /// The most of each.
    pub(super) fn max(self, other: Self) -> Self {
        let (Self(one), Self(other)) = (self, other);
        Self(Taken {
            memory_bytes: one.memory_bytes.max(other.memory_bytes),
            descriptors: one.descriptors.max(other.descriptors),
            disk_bytes: one.disk_bytes.max(other.disk_bytes),
        })
    }

    fn is_too_much(self) -> bool {
        let Self(more) = self;
        more.memory_bytes > MEMORY_MORE_BYTES
            || more.descriptors > DESCRIPTORS_MORE
            || more.disk_bytes > DISK_MORE_BYTES
    }
}

impl fmt::Display for More {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Taken { memory_bytes, descriptors, disk_bytes } = self.0;
        let (memory_mib, disk_mib) = (memory_bytes >> 20, disk_bytes >> 20);
        write!(
            f,
            "{descriptors} descriptors, {memory_mib} MiB of memory and {disk_mib} MiB of disk"
        )
    }
}

/// On the disk: files may have holes.
fn bytes_in(dir: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let of = |entry: fs::DirEntry| match entry.metadata() {
        Ok(it) if it.is_dir() => bytes_in(&entry.path()),
        Ok(it) => it.blocks() * 512,
        // It has just gone.
        Err(_) => 0,
    };
    entries.map(of).sum()
}

/// What all nodes take.
pub(crate) fn taken(fleet: &Fleet) -> BTreeMap<u64, Taken> {
    fleet.up().into_iter().map(|id| (id, Taken::of(fleet, id))).collect()
}

/// What nodes take beyond what they did: the most of each, and a line for each node of which that is too much when it
/// has been quiet for long.
pub(super) async fn more(fleet: &Fleet, before: &BTreeMap<u64, Taken>) -> (More, Vec<String>) {
    let begin = Instant::now();
    loop {
        let of = |id: u64| Some((id, Taken::of(fleet, id).beyond(before.get(&id).copied()?)));
        let all: Vec<(u64, More)> = fleet.up().into_iter().filter_map(of).collect();
        let too_much = all.iter().filter(|(_, more)| more.is_too_much());
        let lines: Vec<String> =
            too_much.map(|(id, more)| format!("node {id} still takes {more} more")).collect();
        if lines.is_empty() || begin.elapsed() > PATIENCE {
            return (all.into_iter().map(|it| it.1).fold(More::default(), More::max), lines);
        }
        sleep(LOOK_AGAIN).await;
    }
}

/// How many panics and accidents each node had.
pub(super) fn accidents(fleet: &Fleet) -> BTreeMap<u64, (usize, usize)> {
    let of = |id: u64| (id, (fleet.panics(id).len(), fleet.accidents(id).len()));
    fleet.ids().into_iter().map(of).collect()
}

/// The panics and accidents that nodes had since then, a line for each: whoever starts nodes again does not ask
/// why they ended. Nodes that are not given what no program does without may have some, and crashes that were
/// ordered end as accidents do.
pub(super) fn new_accidents(
    fleet: &Fleet,
    before: &BTreeMap<u64, (usize, usize)>,
    faults: &[FaultKind],
) -> Vec<String> {
    let is_starved = |it: &FaultKind| matches!(it, FaultKind::OutOfMemory | FaultKind::Threads);
    if faults.iter().any(is_starved) {
        return Vec::new();
    }
    let is_ordered = faults.iter().any(|it| matches!(it, FaultKind::Crash(_)));
    let mut lines = Vec::new();
    for id in fleet.ids() {
        let (panics, accidents) = before.get(&id).copied().unwrap_or_default();
        let new = fleet.panics(id).into_iter().skip(panics);
        lines.extend(new.map(|line| format!("node {id} panicked: {line}")));
        let new = fleet.accidents(id).iter().skip(accidents).filter(|_| !is_ordered);
        lines.extend(new.map(|how| format!("node {id} ended by {how}")));
    }
    lines
}

/// What replicas hold differently when they have had time to hold the same, a line for each group.
pub(super) async fn different(fleet: &mut Fleet) -> Vec<String> {
    let begin = Instant::now();
    loop {
        fleet.revive();
        let mut groups: BTreeMap<String, BTreeMap<u64, Value>> = BTreeMap::new();
        let mut lines = Vec::new();
        for id in fleet.up() {
            match digests(fleet, id).await {
                Ok(all) => {
                    for (group, digest) in all {
                        groups.entry(group).or_default().insert(id, digest);
                    }
                }
                Err(why) => lines.push(format!("node {id} does not say what it holds: {why}")),
            }
        }
        for (group, digests) in groups {
            let mut values = digests.values();
            let first = values.next();
            if values.any(|other| Some(other) != first) {
                lines.push(format!("replicas of {group} differ: {digests:?}"));
            }
        }
        if lines.is_empty() || begin.elapsed() > PATIENCE {
            return lines;
        }
        sleep(LOOK_AGAIN).await;
    }
}

async fn digests(fleet: &Fleet, id: u64) -> Result<serde_json::Map<String, Value>, String> {
    let mut connection = Connection::new(fleet.admin(id));
    let answer = connection.request("GET /digest HTTP/1.1", "", PATIENCE).await;
    let answer = answer.map_err(|error| format!("{error:?}"))?;
    match serde_json::from_str(&answer.body) {
        Ok(Value::Object(digests)) if answer.status == 200 => Ok(digests),
        _ => Err(answer.body),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_little_more_is_not_too_much() {
        let before = Taken { memory_bytes: 100 << 20, descriptors: 50, disk_bytes: 200 << 20 };
        assert_eq!(before.beyond(before), More::default());
        let after = Taken { descriptors: 50 + DESCRIPTORS_MORE, ..before };
        assert!(!after.beyond(before).is_too_much());
        for after in [
            Taken { memory_bytes: 900 << 20, ..before },
            Taken { descriptors: 51 + DESCRIPTORS_MORE, ..before },
            Taken { disk_bytes: 2 << 30, ..before },
        ] {
            assert!(after.beyond(before).is_too_much());
        }
        let less = Taken::default().beyond(before);
        let more = after.beyond(before).max(less);
        assert_eq!(more.to_string(), "64 descriptors, 0 MiB of memory and 0 MiB of disk");
    }
}
