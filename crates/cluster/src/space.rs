//! A full disk is foreseen: while a node is low on space, its shards take no new messages.
//!
//! Every node looks at the disk of its data directory many times a second and, while there is too
//! little room, says so to all others. What is in memory and will be flushed counts as if it were
//! on the disk. Sends go to shards whose replicas all have room; where there is no
//! such shard they are refused before anything is proposed. Receives, deletes, changes of
//! visibility and purges go on, so that the disk can come back.
//!
//! Invariant: a node that says nothing blocks nobody: what it said last expires.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use flotilla_storage::disk::Disk;
use flotilla_transport::Lane;
use flotilla_types::ids::{GroupId, NodeId};
use flotilla_wire::DecodeError;
use flotilla_wire::proto::cluster as pb;
use parking_lot::Mutex;
use prost::Message as _;
use tokio::time::{Instant, MissedTickBehavior};

use crate::forward::method;
use crate::node::Node;

/// Between two looks: what a busy node writes meanwhile must be a small part of the bound.
const LOOK: Duration = Duration::from_millis(100);
/// Between two words to the peers while nothing changes.
const REPEAT: Duration = Duration::from_secs(1);
/// Between two attempts to get room back from what was removed, at least; and so many times as long
/// as the last one took, so that this is not all that the disk does.
const RECLAIM_REST: Duration = Duration::from_secs(10);
const RECLAIM_REST_FACTOR: u32 = 9;
/// How long a node's word holds: some may come late or get lost.
const WORD: Duration = Duration::from_secs(5);
/// One word to a peer.
const TELL_TIMEOUT: Duration = Duration::from_secs(1);
/// Room above the bound that ends the state: one tenth of the bound.
const RELIEF_DIVISOR: u64 = 10;

/// Whether a node is low on space now. It stays so until there is a tenth more room than the
/// bound: at the bound itself it would begin and end with every file.
fn is_low(was_low: bool, free_bytes: u64, free_bytes_min: u64) -> bool {
    let relief_bytes = if was_low { free_bytes_min / RELIEF_DIVISOR } else { 0 };
    free_bytes < free_bytes_min.saturating_add(relief_bytes)
}

/// Who is low on space, as far as a node knows.
pub(crate) struct Space {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    free_bytes_min: u64,
    free_bytes: AtomicU64,
    low_here: AtomicBool,
    /// Other nodes that said that they are, and until when their word holds.
    low_elsewhere: Mutex<BTreeMap<NodeId, Instant>>,
}

impl Space {
    /// Looks for the first time, so that not even the first send finds a full disk.
    ///
    /// # Errors
    /// When the disk cannot be asked.
    pub(crate) fn open(disk: Arc<dyn Disk>, dir: PathBuf, free_bytes_min: u64) -> io::Result<Self> {
        let space = Self {
            disk,
            dir,
            free_bytes_min,
            free_bytes: AtomicU64::new(0),
            low_here: AtomicBool::new(false),
            low_elsewhere: Mutex::default(),
        };
        space.look(0)?;
        Ok(space)
    }

    /// Looks at the disk, to which so much will be written whatever comes.
    fn look(&self, unflushed_bytes: u64) -> io::Result<()> {
        let free = self.disk.free_bytes(&self.dir)?.saturating_sub(unflushed_bytes);
        self.free_bytes.store(free, Ordering::Relaxed);
        let was_low = self.low_here();
        let low = is_low(was_low, free, self.free_bytes_min);
        self.low_here.store(low, Ordering::Relaxed);
        let free_bytes_min = self.free_bytes_min;
        match (was_low, low) {
            (false, true) => tracing::warn!(
                free_bytes = free,
                free_bytes_min,
                "low on space: no new messages are taken by the shards that this node holds; \
                 receives and deletes go on"
            ),
            (true, false) => {
                tracing::info!(free_bytes = free, free_bytes_min, "there is enough space again");
            }
            _ => {}
        }
        Ok(())
    }

    /// Room on this node's disk as of the last look, without what is not flushed yet.
    pub(crate) fn free_bytes(&self) -> u64 {
        self.free_bytes.load(Ordering::Relaxed)
    }

    /// Whether this node is low on space.
    pub(crate) fn low_here(&self) -> bool {
        self.low_here.load(Ordering::Relaxed)
    }

    /// Other nodes that are low on space, and said so a moment ago.
    pub(crate) fn low_elsewhere(&self) -> BTreeSet<NodeId> {
        self.low_elsewhere_at(Instant::now())
    }

    fn low_elsewhere_at(&self, now: Instant) -> BTreeSet<NodeId> {
        let said = self.low_elsewhere.lock();
        said.iter().filter(|(_, until)| **until > now).map(|(node, _)| *node).collect()
    }

    fn note(&self, from: NodeId, low: bool, now: Instant) {
        let mut said = self.low_elsewhere.lock();
        if low {
            said.insert(from, now + WORD);
        } else {
            said.remove(&from);
        }
    }

    /// Answers what [`run`] tells.
    pub(crate) fn serve(&self, from: NodeId, payload: Bytes) -> Result<Bytes, DecodeError> {
        self.note(from, pb::Space::decode(payload)?.low, Instant::now());
        Ok(pb::SpaceAnswer {}.encode_to_vec().into())
    }
}

impl Node {
    /// Whether a node that holds a replica of the shard is low on space.
    pub(crate) fn is_shard_low_on_space(&self, shard: GroupId) -> bool {
        self.shards_low_on_space().contains(&shard)
    }

    /// Shards that take no new messages now; normally none.
    pub(crate) fn shards_low_on_space(&self) -> Vec<GroupId> {
        let mut nodes = self.space.low_elsewhere();
        if self.space.low_here() {
            nodes.insert(self.id);
        }
        if nodes.is_empty() { Vec::new() } else { self.router.shards_on(&nodes) }
    }
}

/// Looks and tells until the node ends.
pub(crate) async fn run(node: Arc<Node>) {
    let mut ticks = tokio::time::interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut told_low = false;
    let mut told_at = Instant::now();
    let mut known = BTreeSet::new();
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = node.stopped() => return,
        }
        if let Err(error) = node.space.look(node.host.state_db().memtable_bytes()) {
            // What was seen last still holds; a disk that is gone ends the node elsewhere.
            tracing::warn!(%error, "the room on the disk is not known");
        }
        let low = node.space.low_here();
        if low != told_low || (low && told_at.elapsed() >= REPEAT) {
            tell(&node, low).await;
            (told_low, told_at) = (low, Instant::now());
        }
        let now_known = node.space.low_elsewhere();
        if now_known != known {
            let nodes: Vec<u64> = now_known.iter().map(|node| node.0).collect();
            tracing::warn!(?nodes, "other nodes that are low on space and hold up sends");
            known = now_known;
        }
    }
}

/// Has the state store give back the room of queues that were purged or deleted and of many removed
/// messages, and while the node is low on space that of all. Until the node ends.
pub(crate) async fn reclaim(node: Arc<Node>) {
    let mut rest = RECLAIM_REST;
    loop {
        tokio::select! {
            () = tokio::time::sleep(rest) => {}
            () = node.stopped() => return,
        }
        rest = RECLAIM_REST;
        let began = Instant::now();
        match node.host.reclaim(node.space.low_here()).await {
            Ok(()) => rest = rest.max(began.elapsed() * RECLAIM_REST_FACTOR),
            Err(error) => node.host.fatal(&format!("the state was not flushed: {error}")),
        }
    }
}

/// Tells all others at once. One that does not hear the end of it finds out when the word expires.
async fn tell(node: &Node, low: bool) {
    let payload: Bytes = pb::Space { low }.encode_to_vec().into();
    let told = node.peers.iter().map(|peer| {
        let (payload, to) = (payload.clone(), *peer);
        let transport = node.host.transport();
        transport.call(to, Lane::Forward, GroupId(0), method::SPACE, payload, TELL_TIMEOUT)
    });
    futures::future::join_all(told).await;
}

#[cfg(test)]
mod tests {
    use flotilla_storage::disk::Machine;

    use super::*;

    const MIN: u64 = 1_000;

    #[test]
    fn low_space_begins_below_the_bound_and_ends_a_tenth_above_it() {
        assert!(!is_low(false, MIN, MIN));
        assert!(is_low(false, MIN - 1, MIN));
        assert!(is_low(true, MIN, MIN), "no flapping at the bound");
        assert!(is_low(true, 1_099, MIN));
        assert!(!is_low(true, 1_100, MIN));
        // In between it stays what it was.
        assert!(!is_low(false, 1_050, MIN));
        assert!(is_low(true, 1_050, MIN));
    }

    #[test]
    fn a_bound_of_zero_is_no_guard_and_a_huge_one_never_ends() {
        assert!(!is_low(false, 0, 0));
        assert!(!is_low(true, 0, 0));
        assert!(is_low(true, u64::MAX - 1, u64::MAX));
    }

    #[test]
    fn the_word_of_a_node_expires() {
        let dir = tempfile::tempdir().unwrap();
        let space = Space::open(Arc::new(Machine), dir.path().to_owned(), 0).unwrap();
        let now = Instant::now();
        space.note(NodeId(2), true, now);
        space.note(NodeId(3), true, now);
        assert_eq!(space.low_elsewhere_at(now), BTreeSet::from([NodeId(2), NodeId(3)]));
        space.note(NodeId(3), false, now);
        assert_eq!(space.low_elsewhere_at(now), BTreeSet::from([NodeId(2)]));
        let last = now + WORD - Duration::from_millis(1);
        assert_eq!(space.low_elsewhere_at(last), BTreeSet::from([NodeId(2)]));
        assert_eq!(space.low_elsewhere_at(now + WORD), BTreeSet::new());
        assert!(!space.low_here());
    }
}
