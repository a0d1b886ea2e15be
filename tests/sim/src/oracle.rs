//! Sees every entry that any replica applies, at the moment at which it is applied, and what all disks
//! hold at that moment: from outside of all replicas.
//!
//! - The first to apply an entry does so when it is durable on a majority, asked of the disks and not of
//!   the code that wrote to them. (Whoever waits for the answer gets it later.)
//! - At each index every replica applies the same entry, and has the same rows afterwards.
//! - A replica applies one entry after the other, and none twice in a life.
//! - What was applied is durable on a majority from then on, and in no log is it cut off.
//! - A group of which no majority is whole applies nothing that is new.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use flotilla_types::ids::GroupId;
use flotilla_wire::proto::raft as pb;
use parking_lot::Mutex;
use prost::Message as _;
use rocksdb::model::{self, PREFIX_BYTES, Prefix, Witness, Written};

use crate::disk::{Held, Shadow, SimDisk};
use crate::machine;
use crate::node::Member;

/// Where the records of a group that belong to no incarnation are, and how their keys end.
const NO_INCARNATION: [u8; 4] = [0; 4];
const TAG_APPLIED: u8 = 1;
const TAG_INCARNATION: u8 = 2;
const META: &str = "meta";

/// Counts of what was looked at.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Looked {
    /// Entries that replicas applied.
    pub(crate) applied: u64,
    /// Of these, those that another one had applied before: their rows were compared.
    pub(crate) compared: u64,
    /// Entries that were durable on a majority when they were first applied.
    pub(crate) durable: u64,
    /// Stands for all that was applied, by whom and in which order.
    pub(crate) stream: u64,
}

/// Who leads an entry's term.
type Leader = (u64, u64);

/// An entry that was applied.
#[derive(Clone, Copy, Debug)]
struct Applied {
    leader: Leader,
    /// Of the entry's bytes in logs; unknown while nobody's log was seen to hold it.
    fingerprint: Option<u64>,
    /// Of the group's rows afterwards.
    sum: u64,
    by: u64,
}

/// See the module. Clones are the same.
#[derive(Clone)]
pub(crate) struct Oracle(Arc<Mutex<Inner>>);

struct Inner {
    /// State directories of nodes, and their disks.
    nodes: BTreeMap<PathBuf, u64>,
    disks: BTreeMap<u64, SimDisk>,
    applied: BTreeMap<(GroupId, u64), Applied>,
    /// The last that anybody has applied.
    top: BTreeMap<GroupId, u64>,
    /// Sets of which a majority of each decides.
    voters: BTreeMap<GroupId, Vec<Vec<u64>>>,
    /// The last that each replica has applied in the life that its node is in.
    lives: BTreeMap<(u64, GroupId), u64>,
    /// What disks held before they were damaged, until their nodes are whole again.
    ghosts: BTreeMap<u64, Vec<Shadow>>,
    /// Groups that may not decide anything, from this moment on.
    frozen: BTreeMap<GroupId, Duration>,
    looked: Looked,
    broken: Option<String>,
}

impl Oracle {
    /// Begins to look. One in a process.
    pub(crate) fn begin(members: &[Member]) -> Self {
        let nodes = members.iter().map(|member| (member.state_dir(), member.id)).collect();
        let disks = members.iter().map(|member| (member.id, member.disk.clone())).collect();
        let inner = Inner {
            nodes,
            disks,
            applied: BTreeMap::new(),
            top: BTreeMap::new(),
            voters: BTreeMap::new(),
            lives: BTreeMap::new(),
            ghosts: BTreeMap::new(),
            frozen: BTreeMap::new(),
            looked: Looked { stream: 0xcbf2_9ce4_8422_2325, ..Looked::default() },
            broken: None,
        };
        let oracle = Self(Arc::new(Mutex::new(inner)));
        let inner = oracle.0.clone();
        let wants =
            |key: &[u8]| matches!(key, [_, _, _, _, 0, 0, 0, 0, TAG_APPLIED | TAG_INCARNATION]);
        let saw = Box::new(move |dir: &Path, written: &Written<'_>| inner.lock().saw(dir, written));
        model::set_witness(Some(Witness { wants, saw }));
        oracle
    }

    /// Nobody is watched any more.
    pub(crate) fn end(&self) {
        model::set_witness(None);
    }

    pub(crate) fn looked(&self) -> Looked {
        self.0.lock().looked
    }

    /// The last entry of a group that anybody has applied.
    pub(crate) fn top(&self, group: GroupId) -> u64 {
        self.0.lock().top.get(&group).copied().unwrap_or(0)
    }

    /// The fingerprint of an entry that was applied, if it is known.
    pub(crate) fn fingerprint(&self, group: GroupId, index: u64) -> Option<u64> {
        self.0.lock().applied.get(&(group, index))?.fingerprint
    }

    /// The last entry that a replica has applied in the life that its node is in.
    pub(crate) fn applied_by(&self, node: u64, group: GroupId) -> u64 {
        self.0.lock().lives.get(&(node, group)).copied().unwrap_or(0)
    }

    /// A node stands at the beginning of a life: it goes on from what it had made durable.
    pub(crate) fn begin_life(&self, node: u64) {
        self.0.lock().lives.retain(|(of, _), _| *of != node);
    }

    /// The disk of this node is about to be damaged: what it holds now counts as held until the node
    /// is whole again.
    pub(crate) fn excuse(&self, node: u64) {
        let inner = &mut *self.0.lock();
        let Some(disk) = inner.disks.get(&node) else { return };
        let shadow = disk.with_shadow(Shadow::clone);
        inner.ghosts.entry(node).or_default().push(shadow);
    }

    /// This node holds everything again by itself.
    pub(crate) fn is_whole(&self, node: u64) {
        self.0.lock().ghosts.remove(&node);
    }

    pub(crate) fn is_excused(&self, node: u64) -> bool {
        self.0.lock().ghosts.contains_key(&node)
    }

    /// From this moment on, groups of which no majority has what it had decide nothing. How many those
    /// are.
    pub(crate) fn freeze(&self, has: impl Fn(u64, GroupId) -> bool, from: Duration) -> usize {
        let inner = &mut *self.0.lock();
        let whole = |group: GroupId, set: &[u64]| {
            2 * set.iter().filter(|node| has(**node, group)).count() > set.len()
        };
        let cannot =
            inner.voters.iter().filter(|(group, sets)| !sets.iter().all(|set| whole(**group, set)));
        let frozen: BTreeMap<_, _> = cannot.map(|(group, _)| (*group, from)).collect();
        let count = frozen.len();
        inner.frozen = frozen;
        count
    }

    pub(crate) fn thaw(&self) {
        self.0.lock().frozen.clear();
    }

    /// Between two steps.
    ///
    /// # Errors
    /// What was seen in the last one that must not be.
    pub(crate) fn look(&self) -> Result<(), String> {
        let inner = &mut *self.0.lock();
        inner.look_at_disks();
        inner.broken.clone().map_or(Ok(()), Err)
    }
}

impl Inner {
    fn breaks(&mut self, what: String) {
        self.broken.get_or_insert(what);
    }

    fn saw(&mut self, dir: &Path, written: &Written<'_>) {
        let Some(node) = self.nodes.get(dir).copied() else { return };
        let installs = written.rows.iter().any(|(key, _)| key.last() == Some(&TAG_INCARNATION));
        for (key, value) in &written.rows {
            if key.last() == Some(&TAG_APPLIED) {
                self.applies(node, group_of(key), value, installs, written);
            }
        }
    }

    fn applies(
        &mut self,
        node: u64,
        group: GroupId,
        record: &[u8],
        installs: bool,
        written: &Written<'_>,
    ) {
        let Ok(record) = pb::Applied::decode(record) else {
            return self.breaks(format!("node {node}: the applied record cannot be read"));
        };
        let Some(pb::LogId { leader: Some(leader), index }) = record.last else { return };
        let leader = (leader.term, leader.node);
        let sets = record.membership.map_or_else(Vec::new, |membership| {
            membership.voters.into_iter().map(|set| set.nodes).collect()
        });
        let before = self.lives.insert((node, group), index);
        if before.is_some_and(|before| index != before + 1 && !(installs && index > before)) {
            let before = before.unwrap_or(0);
            self.breaks(format!("group {group}: node {node} applied {index} after {before}"));
        }
        let sum = written.sum(prefix_of_rows(group, written));
        self.looked.applied += 1;
        for word in [node, u64::from(group.0), index, leader.0, leader.1, sum] {
            self.looked.stream = (self.looked.stream ^ word).wrapping_mul(0x0100_0000_01b3);
        }
        match self.applied.get(&(group, index)).copied() {
            Some(known) => {
                self.compare(group, index, known, Applied { by: node, leader, sum, ..known })
            }
            None => self.is_first(
                group,
                index,
                Applied { by: node, leader, sum, fingerprint: None },
                sets,
            ),
        }
    }

    fn compare(&mut self, group: GroupId, index: u64, known: Applied, now: Applied) {
        self.looked.compared += u64::from(known.by != now.by);
        if known.leader != now.leader {
            return self.breaks(format!(
                "group {group}: entry {index} is of {:?} for node {} and of {:?} for node {}",
                known.leader, known.by, now.leader, now.by
            ));
        }
        if known.sum != now.sum {
            self.breaks(format!(
                "group {group}: nodes {} and {} applied the same up to entry {index} and differ",
                known.by, now.by
            ));
        }
    }

    /// Nobody had applied it before: it must be safe now.
    fn is_first(&mut self, group: GroupId, index: u64, mut now: Applied, sets: Vec<Vec<u64>>) {
        let frozen = self.frozen.get(&group).copied();
        if frozen.is_some_and(|from| machine::now() > from) {
            self.breaks(format!(
                "group {group}: node {} applied entry {index}, and no majority of it is whole",
                now.by
            ));
        }
        self.voters.insert(group, sets);
        let top = self.top.entry(group).or_default();
        *top = index.max(*top);
        let holders = self.holders(group, index);
        let known = holders.values().flatten().copied().collect::<BTreeSet<_>>();
        // Most of them; those who hold another entry do not hold this one.
        now.fingerprint = known
            .into_iter()
            .max_by_key(|one| holders.values().filter(|held| **held == Some(*one)).count());
        let on: Vec<u64> = holders
            .iter()
            .filter(|(_, held)| held.is_none() || **held == now.fingerprint)
            .map(|(node, _)| *node)
            .collect();
        if self.is_majority(group, &on) {
            self.looked.durable += 1;
        } else {
            self.breaks(format!(
                "group {group}: node {} applied entry {index}, which is durable on nodes {on:?} only",
                now.by
            ));
        }
        self.applied.insert((group, index), now);
    }

    /// On which disks an entry is, with its fingerprint where that is known.
    fn holders(&self, group: GroupId, index: u64) -> BTreeMap<u64, Option<u64>> {
        let held = |held: &Held| held.holds(index).then(|| held.entries.get(&index).copied());
        let mut holders = BTreeMap::new();
        for (node, disk) in &self.disks {
            let now = disk.with_shadow(|shadow| shadow.of(group.0).and_then(held));
            let ghosts = self.ghosts.get(node).into_iter().flatten();
            let mut before = ghosts.filter_map(|ghost| ghost.of(group.0).and_then(held));
            if let Some(fingerprint) = now.or_else(|| before.next()) {
                holders.insert(*node, fingerprint);
            }
        }
        holders
    }

    fn is_majority(&self, group: GroupId, on: &[u64]) -> bool {
        let sets = self.voters.get(&group).map_or(&[][..], Vec::as_slice);
        !sets.is_empty()
            && sets.iter().all(|set| {
                let there = set.iter().filter(|node| on.contains(node)).count();
                2 * there > set.len()
            })
    }

    fn look_at_disks(&mut self) {
        let mut wrong = Vec::new();
        for (node, disk) in &self.disks {
            for cut in disk.take_cut_off() {
                let group = GroupId(cut.group);
                let known = self.applied.get(&(group, cut.index));
                if known.is_some_and(|known| known.fingerprint == Some(cut.fingerprint)) {
                    let index = cut.index;
                    wrong.push(format!(
                        "group {group}: node {node} cut off entry {index}, which was applied"
                    ));
                }
            }
            wrong.extend(
                disk.with_shadow(|shadow| {
                    shadow.wrong().map(|what| format!("node {node}: {what}"))
                }),
            );
        }
        for (group, top) in &self.top {
            let on: Vec<u64> = self.holders(*group, *top).into_keys().collect();
            if !self.is_majority(*group, &on) {
                wrong.push(format!(
                    "group {group}: entry {top} was applied and is durable on nodes {on:?} only"
                ));
            }
        }
        for what in wrong {
            self.breaks(what);
        }
    }
}

fn group_of(key: &[u8]) -> GroupId {
    GroupId(u32::from_be_bytes([key[0], key[1], key[2], key[3]]))
}

/// What the keys of a group's rows begin with now.
fn prefix_of_rows(group: GroupId, written: &Written<'_>) -> Prefix {
    let group = group.0.to_be_bytes();
    let key = [&group[..], &NO_INCARNATION, &[TAG_INCARNATION]].concat();
    let current = written.get(META, &key).and_then(|row| row.get(1..5));
    let mut prefix: Prefix = [0; PREFIX_BYTES];
    prefix[..4].copy_from_slice(&group);
    prefix[4..].copy_from_slice(current.unwrap_or(&1_u32.to_be_bytes()));
    prefix
}
