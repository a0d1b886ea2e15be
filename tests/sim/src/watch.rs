//! What must hold of replicas at every moment, seen from outside of all of them.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use flotilla_types::ids::GroupId;
use rocksdb::model;

use crate::cluster::SimCluster;

/// Of a key in the state store: group, incarnation.
const SPACE_BYTES: usize = 8;
/// Where the records of a group that belong to no incarnation are.
const NO_INCARNATION: u32 = 0;
const TAG_APPLIED: u8 = 1;
const TAG_INCARNATION: u8 = 2;

/// Remembers what it has seen.
#[derive(Default)]
pub(crate) struct Watch {
    /// Who led in which term.
    leaders: BTreeMap<(GroupId, u64), u64>,
    /// The last entry that any replica has applied.
    applied: BTreeMap<GroupId, u64>,
    /// The highest term that a replica has known, with the life that its disk was in.
    terms: BTreeMap<(GroupId, u64), u64>,
    /// State by applied record: equal whoever has it, and whenever.
    states: BTreeMap<GroupId, BTreeMap<Vec<u8>, (u64, u64)>>,
    /// Looks that compared something.
    pub(crate) compared: u64,
}

/// One replica's state.
#[derive(Default)]
struct State {
    applied: Vec<u8>,
    hash: u64,
}

impl Watch {
    /// The last entry of each group that any replica has applied.
    pub(crate) fn applied(&self) -> &BTreeMap<GroupId, u64> {
        &self.applied
    }

    /// Looks at every replica.
    ///
    /// # Errors
    /// What does not hold.
    pub(crate) fn look(&mut self, cluster: &SimCluster<'_>) -> Result<(), String> {
        let mut replicas = Vec::new();
        for member in &cluster.members {
            let Some(node) = member.running.lock().clone() else { continue };
            let groups = node.status().groups.into_iter();
            replicas.extend(groups.map(|group| (member.id, group)));
        }
        // All of this first: a leader that nobody follows any more need not have the newest.
        for (node, replica) in &replicas {
            self.term(*node, replica.group, replica.term)?;
            let applied = self.applied.entry(replica.group).or_default();
            *applied = replica.applied.max(*applied);
        }
        replicas.iter().try_for_each(|(node, replica)| self.leader(*node, replica))
    }

    /// One leader in a term, which holds everything that was ever applied.
    fn leader(&mut self, node: u64, status: &flotilla_cluster::GroupStatus) -> Result<(), String> {
        if !status.leads {
            return Ok(());
        }
        let (group, term) = (status.group, status.term);
        let known = *self.leaders.entry((group, term)).or_insert(node);
        if known != node {
            return Err(format!("group {group}: nodes {known} and {node} lead in term {term}"));
        }
        let applied = self.applied.get(&group).copied().unwrap_or(0);
        let terms = self.terms.range((group, 0)..=(group, u64::MAX));
        let is_newest = terms.map(|(_, known)| *known).max() == Some(term);
        if is_newest && status.last_log < applied {
            return Err(format!(
                "group {group}: node {node} leads in term {term} and ends at {}, while {applied} \
                 was applied",
                status.last_log
            ));
        }
        Ok(())
    }

    fn term(&mut self, node: u64, group: GroupId, term: u64) -> Result<(), String> {
        let known = self.terms.entry((group, node)).or_default();
        if term < *known && term != 0 {
            return Err(format!(
                "group {group}: node {node} goes back from term {known} to {term}"
            ));
        }
        *known = term.max(*known);
        Ok(())
    }

    /// A node that lost its log knows its terms only from the others.
    pub(crate) fn forget_terms(&mut self, node: u64) {
        self.terms.retain(|(_, of), _| *of != node);
    }

    /// Replicas that have applied the same have the same rows.
    ///
    /// # Errors
    /// Where they have not.
    pub(crate) fn compare(&mut self, cluster: &SimCluster<'_>) -> Result<(), String> {
        for member in &cluster.members {
            if cluster.is_down(member.id) || member.disk.is_off() {
                continue;
            }
            for (group, state) in states(&member.state_dir()) {
                let seen = self.states.entry(group).or_default();
                let known = *seen.entry(state.applied).or_insert((state.hash, member.id));
                self.compared += u64::from(known.1 != member.id);
                if known.0 != state.hash {
                    return Err(format!(
                        "group {group}: nodes {} and {} applied the same and differ",
                        known.1, member.id
                    ));
                }
                // Old positions do not come back, but after a crash those of the last flush.
                while seen.len() > 512 {
                    seen.pop_first();
                }
            }
        }
        Ok(())
    }
}

/// Every group's applied record and the hash of its current rows.
fn states(dir: &std::path::Path) -> BTreeMap<GroupId, State> {
    let mut current: BTreeMap<GroupId, u32> = BTreeMap::new();
    let mut states: BTreeMap<GroupId, State> = BTreeMap::new();
    let mut hashers: BTreeMap<GroupId, DefaultHasher> = BTreeMap::new();
    model::for_each_row(dir, |family, key, value| {
        let Some((space, rest)) = key.split_at_checked(SPACE_BYTES) else { return };
        let number = |at: usize| u32::from_be_bytes(space[at..at + 4].try_into().expect("4 bytes"));
        let (group, incarnation) = (GroupId(number(0)), number(4));
        if incarnation == NO_INCARNATION {
            match rest {
                [TAG_APPLIED] => states.entry(group).or_default().applied = value.to_vec(),
                [TAG_INCARNATION] => {
                    let row = value[1..5].try_into().expect("4 bytes");
                    current.insert(group, u32::from_be_bytes(row));
                }
                _ => {}
            }
            return;
        }
        // The records above sort before all others of their group.
        if current.get(&group).copied().unwrap_or(1) == incarnation {
            (family, rest, value).hash(hashers.entry(group).or_default());
        }
    });
    states.retain(|_, state| !state.applied.is_empty());
    for (group, state) in &mut states {
        state.hash = hashers.get(group).map_or(0, |hasher| hasher.finish());
    }
    states
}
