//! Fair queues: what is held back of a standard queue's noisy tenants.

use std::collections::{BTreeMap, BTreeSet};

use flotilla_types::ids::{GroupKey, Seq};

use crate::queue_state::DueKey;
use crate::tenants::Tenants;

/// Who is noisy, and their messages that can be received and are not reserved.
#[derive(Debug, Default)]
pub(super) struct NoisyTenants {
    tenants: BTreeMap<GroupKey, Held>,
    /// Over all tenants.
    fresh_count: usize,
}

/// What is held back of one tenant.
#[derive(Debug, Default)]
pub(super) struct Held {
    pub(super) fresh: BTreeSet<Seq>,
    /// May also hold keys that are no longer true.
    pub(super) due: BTreeSet<DueKey>,
}

impl NoisyTenants {
    pub(super) fn is_empty(&self) -> bool {
        self.tenants.is_empty()
    }

    pub(super) fn contains(&self, group: GroupKey) -> bool {
        self.tenants.contains_key(&group)
    }

    pub(super) fn groups(&self) -> impl Iterator<Item = GroupKey> + '_ {
        self.tenants.keys().copied()
    }

    /// Each of them, and whether something of it is held.
    pub(super) fn holding(&self) -> impl Iterator<Item = (GroupKey, bool)> + '_ {
        let holds = |held: &Held| !held.fresh.is_empty() || !held.due.is_empty();
        self.tenants.iter().map(move |(group, held)| (*group, holds(held)))
    }

    /// Returns what was held of those that are not noisy any more, and those that became it.
    pub(super) fn set(&mut self, noisy: &[GroupKey]) -> (Vec<Held>, Vec<GroupKey>) {
        let quiet = |group: &GroupKey| !noisy.contains(group);
        let left: Vec<_> = self.tenants.keys().copied().filter(quiet).collect();
        let left: Vec<_> = left.iter().filter_map(|group| self.tenants.remove(group)).collect();
        self.fresh_count -= left.iter().map(|held| held.fresh.len()).sum::<usize>();
        let new = |group: &GroupKey| !self.tenants.contains_key(group);
        let entered: Vec<_> = noisy.iter().copied().filter(new).collect();
        self.tenants.extend(entered.iter().map(|group| (*group, Held::default())));
        (left, entered)
    }

    /// The tenant with the fewest messages in flight of those that have something to hand out.
    pub(super) fn next(&self, tenants: Option<&Tenants>, now_ms: u64) -> Option<GroupKey> {
        let has_some = |held: &Held| {
            !held.fresh.is_empty() || held.due.first().is_some_and(|key| key.0 <= now_ms)
        };
        let having = self.tenants.iter().filter(|(_, held)| has_some(held));
        having.map(|(group, _)| *group).min_by_key(|group| {
            let in_flight = tenants.map_or(0, |it| it.share(*group, now_ms).in_flight);
            (in_flight, *group)
        })
    }

    pub(super) fn take_due(&mut self, group: GroupKey, now_ms: u64) -> Option<DueKey> {
        let due = &mut self.tenants.get_mut(&group)?.due;
        if due.first()?.0 <= now_ms { due.pop_first() } else { None }
    }

    pub(super) fn take_fresh(&mut self, group: GroupKey) -> Option<Seq> {
        let seq = self.tenants.get_mut(&group)?.fresh.pop_first()?;
        self.fresh_count -= 1;
        Some(seq)
    }

    /// Of a noisy tenant.
    pub(super) fn hold_fresh(&mut self, group: GroupKey, seq: Seq) {
        if let Some(held) = self.tenants.get_mut(&group)
            && held.fresh.insert(seq)
        {
            self.fresh_count += 1;
        }
    }

    /// Holds a fresh message back if its tenant is noisy; says whether it is.
    pub(super) fn hold(&mut self, group: Option<GroupKey>, seq: Seq) -> bool {
        let Some(group) = group.filter(|group| self.contains(*group)) else { return false };
        self.hold_fresh(group, seq);
        true
    }

    /// Holds a message that is due back if its tenant is noisy; says whether it is.
    pub(super) fn hold_due(&mut self, group: Option<GroupKey>, key: DueKey) -> bool {
        let Some(held) = group.and_then(|group| self.tenants.get_mut(&group)) else {
            return false;
        };
        held.due.insert(key);
        true
    }

    pub(super) fn forget_fresh(&mut self, group: GroupKey, seq: Seq) {
        if let Some(held) = self.tenants.get_mut(&group)
            && held.fresh.remove(&seq)
        {
            self.fresh_count -= 1;
        }
    }

    pub(super) fn fresh_count(&self) -> usize {
        self.fresh_count
    }

    pub(super) fn first_fresh(&self) -> Option<&Seq> {
        self.tenants.values().filter_map(|held| held.fresh.first()).min()
    }

    /// About as many messages are held that can be received.
    pub(super) fn visible(&self, now_ms: u64) -> u64 {
        let due = |held: &Held| held.due.iter().take_while(|key| key.0 <= now_ms).count();
        let due: usize = self.tenants.values().map(due).sum();
        (self.fresh_count + due) as u64
    }
}
