//! What must hold of replicas at every tick, seen from outside of all of them.
//!
//! - A leader holds everything that any replica has applied. (There may be two in a term: of the library's
//!   leaders the one with the higher id comes later, and is the newer one.)
//! - Votes, terms, and what is committed and applied, never go back: votes not even over the end of a
//!   node, unless its disk was damaged.
//! - What is applied was committed, and what is committed is there.

use std::collections::BTreeMap;

use flotilla_cluster::Standpoint;
use flotilla_types::ids::GroupId;

use crate::cluster::SimCluster;
use crate::oracle::Oracle;

/// Remembers what it has seen.
#[derive(Default)]
pub(crate) struct Watch {
    /// Each replica's last standpoint, and the life that its node was in.
    replicas: BTreeMap<(u64, GroupId), (u64, Standpoint)>,
    /// The newest vote that anybody has known: term and node.
    newest: BTreeMap<GroupId, (u64, u64)>,
}

impl Watch {
    /// Looks at every replica.
    ///
    /// # Errors
    /// What does not hold.
    pub(crate) fn look(&mut self, cluster: &SimCluster<'_>, oracle: &Oracle) -> Result<(), String> {
        let mut leaders = Vec::new();
        for member in &cluster.members {
            let Some(node) = member.running.lock().clone() else { continue };
            let life = cluster.life(member.id);
            for (group, now) in node.standpoints() {
                self.replica(member.id, life, group, now)?;
                if now.leads {
                    leaders.push((member.id, group, now));
                }
            }
        }
        // All others first: a leader that nobody follows any more need not have the newest.
        leaders.iter().try_for_each(|(node, group, now)| self.leader(*node, *group, now, oracle))
    }

    fn replica(
        &mut self,
        node: u64,
        life: u64,
        group: GroupId,
        now: Standpoint,
    ) -> Result<(), String> {
        // Before it has read its vote.
        if now.vote.0 == 0 {
            return Ok(());
        }
        let newest = self.newest.entry(group).or_default();
        *newest = (now.vote.0, now.vote.1).max(*newest);
        let before = self.replicas.insert((node, group), (life, now));
        let Some((life_before, before)) = before else { return Ok(()) };
        let same_life = life_before == life;
        let wrong = match () {
            () if now.vote < before.vote => "goes back in its vote",
            () if same_life && now.committed < before.committed => "goes back in what is committed",
            () if same_life && now.applied < before.applied => "goes back in what it has applied",
            () if now.applied > now.committed => "has applied what is not committed",
            () if now.committed > now.last_log => "has committed what is not there",
            () => return Ok(()),
        };
        Err(format!("group {group}: node {node} {wrong}: {before:?}, then {now:?}"))
    }

    fn leader(
        &self,
        node: u64,
        group: GroupId,
        now: &Standpoint,
        oracle: &Oracle,
    ) -> Result<(), String> {
        let (term, id, _) = now.vote;
        if id != node {
            return Err(format!("group {group}: node {node} leads with the vote of node {id}"));
        }
        let (is_newest, top) = (self.newest.get(&group) == Some(&(term, id)), oracle.top(group));
        if is_newest && now.last_log < top {
            return Err(format!(
                "group {group}: node {node} leads in term {term} and ends at {}, while {top} was \
                 applied",
                now.last_log
            ));
        }
        Ok(())
    }

    /// A node whose disk was damaged knows its votes only from the others.
    pub(crate) fn forget_votes(&mut self, node: u64) {
        self.replicas.retain(|(of, _), _| *of != node);
    }
}
