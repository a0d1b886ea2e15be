//! What the disks of all nodes would give back if the power were cut at this moment, held against what
//! replicas have applied: asked of the disks, not of the code that wrote to them.
//!
//! - What any replica has applied is durable on a majority.
//! - What a replica has applied is the same entry in every log, for ever.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Arc, Weak};

use flotilla_cluster::node::Node;
use flotilla_storage::log::{Engine, GroupLog, LogOptions};
use flotilla_types::ids::GroupId;

use crate::cluster::SimCluster;
use crate::node::Member;

/// How many looks ago a replica must have applied what its log is compared for: that was written
/// meanwhile, however slow its disk is.
const LOOKS_BACK: usize = 2;

/// Remembers what it has seen.
#[derive(Default)]
pub(crate) struct Audit {
    /// Hashes of entries that were applied.
    entries: BTreeMap<(GroupId, u64), u64>,
    /// Where replicas are.
    homes: BTreeMap<GroupId, BTreeSet<u64>>,
    /// What replicas had applied at the last looks, in the life that their nodes are in.
    lives: BTreeMap<u64, Life>,
    /// Nodes whose disk was damaged, until they hold everything again.
    excused: BTreeSet<(u64, GroupId)>,
    damaged: BTreeSet<u64>,
    /// Entries that were found where they must be.
    pub(crate) audited: u64,
}

#[derive(Default)]
struct Life {
    node: Weak<Node>,
    applied: Vec<BTreeMap<GroupId, u64>>,
    /// Up to where logs were compared.
    compared: BTreeMap<GroupId, u64>,
}

impl Audit {
    /// The disk of this node is damaged.
    pub(crate) fn excuse(&mut self, node: u64) {
        self.damaged.insert(node);
    }

    /// Looks at every disk. `applied`: the last entry that any replica has applied.
    ///
    /// # Errors
    /// What is not there, or not the same.
    pub(crate) fn look(
        &mut self,
        cluster: &SimCluster<'_>,
        applied: &BTreeMap<GroupId, u64>,
    ) -> Result<(), String> {
        for node in std::mem::take(&mut self.damaged) {
            let here = self.homes.iter().filter(|(_, homes)| homes.contains(&node));
            self.excused.extend(here.map(|(group, _)| (node, *group)));
        }
        let mut holders: BTreeMap<GroupId, Vec<u64>> = BTreeMap::new();
        for member in &cluster.members {
            let log = open(member)?;
            for (group, applied) in applied {
                let group_log = log.group(*group);
                if holds(&group_log, *applied) {
                    holders.entry(*group).or_default().push(member.id);
                    self.excused.remove(&(member.id, *group));
                }
            }
            self.compare(member, &log)?;
        }
        for (group, applied) in applied.iter().filter(|(_, applied)| **applied > 0) {
            let on = holders.remove(group).unwrap_or_default();
            let homes = self.homes.get(group).map_or(0, BTreeSet::len);
            let excused = self.excused.iter().filter(|(_, of)| of == group).count();
            if 2 * (on.len() + excused) <= homes {
                return Err(format!(
                    "group {group}: entry {applied} was applied and is durable on nodes {on:?} only"
                ));
            }
            self.audited += 1;
        }
        Ok(())
    }

    /// Remembers where replicas are: called often, or a disk is lost before it is known what was on it.
    pub(crate) fn note_homes(&mut self, cluster: &SimCluster<'_>) {
        for member in &cluster.members {
            let Some(node) = member.running.lock().clone() else { continue };
            for group in node.status().groups {
                self.homes.entry(group.group).or_default().insert(member.id);
            }
        }
    }

    /// Compares the applied part of a node's logs with what others have applied.
    fn compare(&mut self, member: &Member, log: &Engine) -> Result<(), String> {
        let life = self.lives.entry(member.id).or_default();
        let Some(node) = member.running.lock().clone() else {
            *life = Life::default();
            return Ok(());
        };
        if !Weak::ptr_eq(&life.node, &Arc::downgrade(&node)) {
            *life = Life { node: Arc::downgrade(&node), ..Life::default() };
        }
        let groups = node.status().groups;
        life.applied.push(groups.iter().map(|it| (it.group, it.applied)).collect());
        if life.applied.len() <= LOOKS_BACK {
            return Ok(());
        }
        for (group, applied) in life.applied.remove(0) {
            let log = log.group(group);
            let state = log.state();
            let compared = life.compared.entry(group).or_insert(0);
            let from = state.first.max(*compared);
            let to = state.next.min(applied + 1);
            if state.damaged || from >= to {
                continue;
            }
            let entries = log.read(from, to, usize::MAX).map_err(|error| error.to_string())?;
            for (index, entry) in (from..to).zip(entries) {
                let mut hasher = DefaultHasher::new();
                entry.hash(&mut hasher);
                let hash = hasher.finish();
                if *self.entries.entry((group, index)).or_insert(hash) != hash {
                    return Err(format!(
                        "group {group}: node {} has another entry {index} than what was applied",
                        member.id
                    ));
                }
            }
            *compared = to;
        }
        Ok(())
    }
}

fn holds(log: &GroupLog, index: u64) -> bool {
    let state = log.state();
    let purged = state.purged.is_some_and(|(purged, _)| purged >= index);
    !state.damaged && (state.next > index || purged)
}

/// A node's log as it would be found.
fn open(member: &Member) -> Result<Engine, String> {
    let options = LogOptions {
        segment_bytes: member.knobs.segment_bytes,
        segments_max: member.knobs.segments_max,
        cache_bytes: 0,
    };
    let disk = Arc::new(member.disk.image());
    let opened = Engine::open_on(disk, &member.log_dir(), options, Box::new(|_| {}));
    opened
        .map(|(engine, _)| engine)
        .map_err(|error| format!("node {}: its log cannot be opened: {error}", member.id))
}
