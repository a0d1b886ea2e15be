//! What a node tells of itself.

use std::io;
use std::sync::atomic::Ordering;

use flotilla_consensus::digest::Digest;
use flotilla_consensus::group::Standpoint;
use flotilla_storage::log::LogMetrics;
use flotilla_types::ids::{GroupId, NodeId};

use crate::node::Node;

/// What a node knows of itself, for metrics and status pages.
#[derive(Debug)]
pub struct Status {
    /// Its replicas.
    pub groups: Vec<GroupStatus>,
    /// What the log counted.
    pub log: LogMetrics,
    /// Polls parked here.
    pub parked_polls: usize,
    /// Polls woken so far.
    pub wakes: u64,
    /// Bytes of messages and long answers that are not written to their callers yet.
    pub answer_bytes: usize,
    /// Bytes of messages that are not on their way to the nodes that claimed them yet.
    pub claim_bytes: usize,
    /// State that is not flushed yet.
    pub memtable_bytes: u64,
    /// State on disk.
    pub disk_bytes: u64,
    /// Room on the disk of the data directory, without what is not flushed yet.
    pub free_bytes: u64,
    /// Whether that is too little, so that sends to the shards that are here are refused.
    pub low_on_space: bool,
    /// Other nodes for which it is.
    pub low_on_space_elsewhere: Vec<NodeId>,
    /// What leaders here stamp entries with, now.
    pub clock_ms: u64,
}

/// One replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupStatus {
    /// Its group.
    pub group: GroupId,
    /// The leader that it knows.
    pub leader: Option<NodeId>,
    /// Whether that is this node, ready to decide.
    pub leads: bool,
    /// The term that it knows.
    pub term: u64,
    /// The last entry of its log; 0 for none.
    pub last_log: u64,
    /// The last entry that it has applied; 0 for none.
    pub applied: u64,
    /// Whether it votes; a replica that is being rebuilt does not.
    pub votes: bool,
    /// Entries proposed here.
    pub proposals: u64,
    /// Commands in them.
    pub commands: u64,
    /// Leader changes seen.
    pub leader_changes: u64,
    /// Log that is not purged.
    pub log_bytes: u64,
}

impl Node {
    /// Where its replicas stand, for who watches the cluster from outside.
    pub fn standpoints(&self) -> Vec<(GroupId, Standpoint)> {
        let groups = self.host.groups().into_iter();
        groups.map(|group| (group.id(), group.standpoint())).collect()
    }

    /// What its shards keep in memory that does not follow from their rows; `None` when all of it
    /// does. For who watches the cluster from outside: reads everything.
    ///
    /// # Errors
    /// When the store fails.
    pub fn check(&self) -> io::Result<Option<String>> {
        for shard in self.router.all_here() {
            if let Some(what) = shard.check()? {
                return Ok(Some(format!("shard {}: {what}", shard.group().id())));
            }
        }
        Ok(None)
    }

    /// What the metrics page shows of this node.
    pub fn status(&self) -> Status {
        let groups = self.host.groups().into_iter().map(|group| {
            let counters = group.counters();
            let leadership = *group.leadership().borrow();
            let (last_log, applied) = group.position();
            GroupStatus {
                group: group.id(),
                leader: leadership.leader,
                leads: leadership.here,
                term: leadership.term,
                last_log,
                applied,
                votes: !self.host.is_reborn(group.id()),
                proposals: counters.proposals.load(Ordering::Relaxed),
                commands: counters.commands.load(Ordering::Relaxed),
                leader_changes: counters.leader_changes.load(Ordering::Relaxed),
                log_bytes: group.log_bytes(),
            }
        });
        Status {
            groups: groups.collect(),
            log: self.host.log_metrics(),
            parked_polls: self.hub.parked(),
            wakes: self.hub.wakes(),
            answer_bytes: self.answers.taken(),
            claim_bytes: self.claims.taken(),
            memtable_bytes: self.host.state_db().memtable_bytes(),
            disk_bytes: self.host.state_db().disk_bytes(),
            free_bytes: self.space.free_bytes(),
            low_on_space: self.space.low_here(),
            low_on_space_elsewhere: self.space.low_elsewhere().into_iter().collect(),
            clock_ms: self.clock.now_ms(),
        }
    }

    /// What its replicas hold, as one number each. Reads everything.
    ///
    /// # Errors
    /// When something cannot be read.
    pub async fn digests(&self) -> std::io::Result<Vec<Digest>> {
        self.host.digests().await
    }
}
