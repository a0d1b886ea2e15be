//! What a machine gives a node: a disk, a clock, and so much of everything.

use std::path::PathBuf;

use super::Fleet;
use crate::cgroup::{Cgroup, Limit};
use crate::loop_disk::LoopDisk;
use crate::node::{Body, fake_clock};
use crate::throttle::Throttle;

/// What a node has too little of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shortage {
    /// So much of a processor in each 100 ms.
    CpuUs(u64),
    /// So much memory beyond what it has.
    MoreMemoryBytes(u64),
    /// So many threads beyond those that it has.
    MoreThreads(u64),
}

impl Shortage {
    fn limit(self) -> Limit {
        match self {
            Self::CpuUs(us) => Limit::CpuUs(us),
            Self::MoreMemoryBytes(bytes) => Limit::MoreMemoryBytes(bytes),
            Self::MoreThreads(more) => Limit::MoreThreads(more),
        }
    }

    /// Whether a process can be given too little of it here.
    ///
    /// # Errors
    /// With the reason why not.
    pub(crate) fn available(self) -> Result<(), String> {
        Cgroup::available(&self.limit())
    }
}

/// A node that has too little of something, until [`Fleet::relieve`].
#[derive(Debug)]
pub(crate) struct Starved {
    id: u64,
    of: Shortage,
    /// None of a container, which keeps its own.
    group: Option<Cgroup>,
    /// What a container had counted before.
    before: u64,
}

impl Fleet {
    /// Gives a node too little.
    ///
    /// # Errors
    /// When the kernel, or docker, will not.
    pub(crate) fn starve(&mut self, id: u64, of: Shortage) -> Result<Starved, String> {
        if let Some(container) = self.node_mut(id).container() {
            let before = match of {
                Shortage::CpuUs(us) => {
                    let before = container.throttled()?;
                    container.limit_cpu(Some(us))?;
                    before
                }
                Shortage::MoreMemoryBytes(bytes) => {
                    let before = container.memory_refusals()?;
                    container.limit_memory(Some(bytes))?;
                    before
                }
                Shortage::MoreThreads(_) => return Err("not of a container".to_owned()),
            };
            return Ok(Starved { id, of, group: None, before });
        }
        let group = Some(Cgroup::hold(self.process(id)?, of.limit())?);
        Ok(Starved { id, of, group, before: 0 })
    }

    /// How often it was refused what it wanted, or had to wait for it.
    ///
    /// # Errors
    /// When nobody can tell.
    pub(crate) fn hits(&mut self, starved: &Starved) -> Result<u64, String> {
        if let Some(group) = &starved.group {
            return Ok(group.hits());
        }
        let container = self.node_mut(starved.id).container().expect("it was one");
        let now = match starved.of {
            Shortage::MoreMemoryBytes(_) if container.was_started_again()? => return Ok(1),
            Shortage::MoreMemoryBytes(_) => container.memory_refusals()?,
            _ => container.throttled()?,
        };
        Ok(now.saturating_sub(starved.before))
    }

    /// Gives it as much as there is.
    ///
    /// # Errors
    /// When docker will not.
    pub(crate) fn relieve(&mut self, starved: Starved) -> Result<(), String> {
        match (self.node_mut(starved.id).container(), starved.of) {
            (None, _) => Ok(()),
            (Some(container), Shortage::MoreMemoryBytes(_)) => container.limit_memory(None),
            (Some(container), _) => container.limit_cpu(None),
        }
    }

    /// Whether the nodes of a fleet can have clocks of their own.
    ///
    /// # Errors
    /// With the reason why not.
    pub fn can_set_clocks() -> Result<(), String> {
        fake_clock().map(|_| ())
    }

    /// See [`super::Settings::clocks`]; the words are libfaketime's.
    pub fn set_clock(&self, id: u64, text: &str) {
        self.node(id).process().set_clock(text);
    }

    /// Whether a node's timers go as its clock does, from its next start on.
    pub(crate) fn set_own_timers(&mut self, id: u64, own: bool) {
        self.node_mut(id).process_mut().set_own_timers(own);
    }

    /// Where a node keeps its stores.
    pub fn data(&self, id: u64) -> PathBuf {
        self.node(id).process().data()
    }

    /// The same, of a node whose files can be seen from here.
    pub(crate) fn data_dir(&self, id: u64) -> Option<PathBuf> {
        match &self.node(id).body {
            Body::Process(process) => Some(process.data()),
            Body::Container(_) => None,
        }
    }

    /// Kills a node and removes everything that it has written.
    ///
    /// # Errors
    /// When something cannot be removed.
    pub(crate) fn lose_disk(&mut self, id: u64) -> Result<(), String> {
        let node = self.node_mut(id);
        node.kill();
        match &mut node.body {
            Body::Container(container) => container.lose_disk(),
            Body::Process(process) => {
                std::fs::remove_dir_all(process.data()).map_err(|error| error.to_string())
            }
        }
    }

    /// A node's own disk.
    ///
    /// # Errors
    /// Unless [`super::Settings::loop_disks`].
    pub(crate) fn disk(&mut self, id: u64) -> Result<&mut LoopDisk, String> {
        self.disks.get_mut(&id).ok_or_else(|| format!("node {id} has no disk of its own"))
    }

    /// Lets a node's disk take so many writes in a second, until what this returns is dropped.
    ///
    /// # Errors
    /// Unless [`super::Settings::loop_disks`], and when this machine cannot do it.
    pub fn slow_disk(&self, id: u64, writes_per_second: u32) -> Result<Throttle, String> {
        let disk =
            self.disks.get(&id).ok_or_else(|| format!("node {id} has no disk of its own"))?;
        Throttle::begin(self.process(id)?, &disk.device()?, writes_per_second)
    }

    /// Lets a node's disk do nothing until [`Fleet::thaw_disk`].
    ///
    /// # Errors
    /// Unless [`super::Settings::loop_disks`].
    pub fn freeze_disk(&mut self, id: u64) -> Result<(), String> {
        self.disk(id)?.freeze()
    }

    /// Lets it go on.
    ///
    /// # Errors
    /// Unless it was frozen.
    pub fn thaw_disk(&mut self, id: u64) -> Result<(), String> {
        self.disk(id)?.thaw()
    }
}
