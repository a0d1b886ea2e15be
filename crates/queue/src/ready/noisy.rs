//! Fair queues: what is held back of a standard queue's noisy tenants.

use std::collections::{BTreeMap, BTreeSet};

use flotilla_types::ids::{GroupKey, Seq};

use crate::queue_state::DueKey;
use crate::tenants::Tenants;

/// Fresh messages, and since when (unix time in milliseconds) each can be received.
pub(super) type Fresh = BTreeMap<Seq, u64>;

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
    pub(super) fresh: Fresh,
    /// May also hold keys that are no longer true.
    pub(super) due: BTreeSet<DueKey>,
    /// Received too often to go before all fresh ones; otherwise the same.
    pub(super) last: BTreeSet<DueKey>,
}

impl Held {
    fn is_empty(&self) -> bool {
        self.fresh.is_empty() && self.due.is_empty() && self.last.is_empty()
    }
}

fn is_due(keys: &BTreeSet<DueKey>, now_ms: u64) -> bool {
    keys.first().is_some_and(|key| key.0 <= now_ms)
}

/// The first of those that were received too often, if it is its turn: it has waited for longer than
/// the first fresh message has, or there is none.
pub(super) fn take_last(last: &mut BTreeSet<DueKey>, fresh: &Fresh, now_ms: u64) -> Option<DueKey> {
    let fresh_since_ms = fresh.first_key_value().map(|(_, since_ms)| *since_ms);
    let key = *last.first()?;
    if key.0 <= now_ms && fresh_since_ms.is_none_or(|since_ms| key.0 < since_ms) {
        last.pop_first()
    } else {
        None
    }
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
        self.tenants.iter().map(|(group, held)| (*group, !held.is_empty()))
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
            !held.fresh.is_empty() || is_due(&held.due, now_ms) || is_due(&held.last, now_ms)
        };
        let having = self.tenants.iter().filter(|(_, held)| has_some(held));
        having.map(|(group, _)| *group).min_by_key(|group| {
            let in_flight = tenants.map_or(0, |it| it.share(*group, now_ms).in_flight);
            (in_flight, *group)
        })
    }

    pub(super) fn take_due(&mut self, group: GroupKey, now_ms: u64) -> Option<DueKey> {
        let due = &mut self.tenants.get_mut(&group)?.due;
        if is_due(due, now_ms) { due.pop_first() } else { None }
    }

    /// See [`take_last`].
    pub(super) fn take_last(&mut self, group: GroupKey, now_ms: u64) -> Option<DueKey> {
        let held = self.tenants.get_mut(&group)?;
        take_last(&mut held.last, &held.fresh, now_ms)
    }

    pub(super) fn take_fresh(&mut self, group: GroupKey) -> Option<(Seq, u64)> {
        let taken = self.tenants.get_mut(&group)?.fresh.pop_first()?;
        self.fresh_count -= 1;
        Some(taken)
    }

    /// Of a noisy tenant.
    pub(super) fn hold_fresh(&mut self, group: GroupKey, seq: Seq, since_ms: u64) {
        if let Some(held) = self.tenants.get_mut(&group)
            && held.fresh.insert(seq, since_ms).is_none()
        {
            self.fresh_count += 1;
        }
    }

    /// Holds a fresh message back if its tenant is noisy; says whether it is.
    pub(super) fn hold(&mut self, group: Option<GroupKey>, seq: Seq, since_ms: u64) -> bool {
        let Some(group) = group.filter(|group| self.contains(*group)) else { return false };
        self.hold_fresh(group, seq, since_ms);
        true
    }

    /// Holds a message that is due back if its tenant is noisy; says whether it is.
    pub(super) fn hold_due(&mut self, group: Option<GroupKey>, key: DueKey, to_back: bool) -> bool {
        let Some(held) = group.and_then(|group| self.tenants.get_mut(&group)) else {
            return false;
        };
        if to_back {
            held.last.insert(key)
        } else {
            held.due.insert(key)
        };
        true
    }

    /// Keys that are held of messages that are due.
    pub(super) fn due_count(&self) -> usize {
        self.tenants.values().map(|held| held.due.len() + held.last.len()).sum()
    }

    /// Drops the others.
    pub(super) fn retain_due(&mut self, is_true: impl Fn(DueKey) -> bool) {
        for held in self.tenants.values_mut() {
            held.due.retain(|key| is_true(*key));
            held.last.retain(|key| is_true(*key));
        }
    }

    pub(super) fn forget_fresh(&mut self, group: GroupKey, seq: Seq) {
        if let Some(held) = self.tenants.get_mut(&group)
            && held.fresh.remove(&seq).is_some()
        {
            self.fresh_count -= 1;
        }
    }

    pub(super) fn fresh_count(&self) -> usize {
        self.fresh_count
    }

    pub(super) fn first_fresh(&self) -> Option<&Seq> {
        self.tenants.values().filter_map(|held| held.fresh.keys().next()).min()
    }

    /// About as many messages are held that can be received.
    pub(super) fn visible(&self, now_ms: u64) -> u64 {
        let due = |keys: &BTreeSet<DueKey>| keys.iter().take_while(|key| key.0 <= now_ms).count();
        let due: usize = self.tenants.values().map(|held| due(&held.due) + due(&held.last)).sum();
        (self.fresh_count + due) as u64
    }
}
