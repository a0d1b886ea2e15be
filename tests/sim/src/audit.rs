//! What the log's own recovery finds on every disk: as much as was seen to become durable there, and
//! the entries that replicas have applied.

use std::collections::BTreeMap;
use std::sync::Arc;

use flotilla_storage::log::{Damage, Engine, LogOptions};
use flotilla_types::ids::GroupId;

use crate::cluster::SimCluster;
use crate::disk::{Held, Shadow, fingerprint};
use crate::node::Member;
use crate::oracle::Oracle;

/// Remembers what replicas had applied at the last look.
#[derive(Default)]
pub(crate) struct Audit {
    /// With the life that the node was in.
    applied: BTreeMap<(u64, GroupId), (u64, u64)>,
    /// Entries that were found to be those that were applied.
    pub(crate) entries: u64,
}

impl Audit {
    /// Opens the log of every node that runs as a power cut at this moment would leave it.
    ///
    /// # Errors
    /// What is not there, or not the same.
    pub(crate) fn look(&mut self, cluster: &SimCluster<'_>) -> Result<(), String> {
        for member in &cluster.members {
            let is_off = cluster.is_down(member.id) || member.disk.is_off();
            if is_off || cluster.oracle.is_excused(member.id) {
                continue;
            }
            let (found, damage) = recovered(member)?;
            if let Some(damage) = damage.first() {
                return Err(format!("node {}: its log is damaged: {}", member.id, damage.what));
            }
            let seen = member.disk.with_shadow(|shadow| held(&shadow.groups));
            if seen != held(&found.groups) {
                return Err(difference(member.id, &seen, &found.groups));
            }
            self.compare(member.id, cluster.life(member.id), &found, &cluster.oracle)?;
        }
        Ok(())
    }

    /// Holds a log against what its replicas had applied at the last look: by now that is written, however
    /// slow the disk is. What is behind that may be replaced yet.
    fn compare(
        &mut self,
        node: u64,
        life: u64,
        found: &Shadow,
        oracle: &Oracle,
    ) -> Result<(), String> {
        for (group, held) in &found.groups {
            let group = GroupId(*group);
            let now = (life, oracle.applied_by(node, group));
            let before = self.applied.insert((node, group), now);
            let Some((_, applied)) = before.filter(|before| before.0 == life) else { continue };
            for (index, entry) in held.entries.range(..=applied) {
                // Nobody's log was seen to hold it when it was first applied.
                let Some(known) = oracle.fingerprint(group, *index) else { continue };
                if known != *entry {
                    return Err(format!(
                        "group {group}: node {node} has another entry {index} than what was applied"
                    ));
                }
                self.entries += 1;
            }
        }
        Ok(())
    }
}

/// A node's log as it would be found, and what of it is damaged.
pub(crate) fn recovered(member: &Member) -> Result<(Shadow, Vec<Damage>), String> {
    let options = LogOptions {
        segment_bytes: member.knobs.segment_bytes,
        segments_max: member.knobs.segments_max,
        cache_bytes: 0,
    };
    let failed = |error: std::io::Error| format!("node {}: its log: {error}", member.id);
    let disk = Arc::new(member.disk.image());
    let opened = Engine::open_on(disk, &member.log_dir(), options, Box::new(|_| {}));
    let (log, damage) = opened.map_err(failed)?;
    let mut shadow = Shadow::default();
    for group in log.groups() {
        let group_log = log.group(group);
        let state = group_log.state();
        let mut found = Held {
            purged: state.purged.map(|(purged, _)| purged),
            vote: state.vote.map(|vote| vote.to_vec()),
            ..Held::default()
        };
        if !state.damaged && state.next > state.first {
            let entries = group_log.read(state.first, state.next, usize::MAX).map_err(failed)?;
            found.entries = (state.first..).zip(entries.iter().map(|it| fingerprint(it))).collect();
        }
        shadow.groups.insert(group.0, found);
    }
    Ok((shadow, damage))
}

/// Without groups of which there is nothing.
fn held(groups: &BTreeMap<u32, Held>) -> BTreeMap<u32, Held> {
    let all = groups.iter().filter(|(_, held)| **held != Held::default());
    all.map(|(group, held)| (*group, held.clone())).collect()
}

fn difference(node: u64, seen: &BTreeMap<u32, Held>, found: &BTreeMap<u32, Held>) -> String {
    let ends = |held: Option<&Held>| {
        held.map(|held| {
            let first = held.entries.first_key_value().map(|(first, _)| *first);
            (held.purged, first, held.last(), held.entries.len(), held.vote.clone())
        })
    };
    let groups = seen.keys().chain(found.keys());
    let differ = groups.copied().find(|group| seen.get(group) != found.get(group)).unwrap_or(0);
    format!(
        "node {node}: of group {differ} a power cut would leave {:?}, and {:?} became durable",
        ends(found.get(&differ)),
        ends(seen.get(&differ))
    )
}
