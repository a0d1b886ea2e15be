//! One queue's part of the machine.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use flotilla_probe::planted;
use flotilla_types::ids::{GroupKey, Seq};

use crate::ages::Ages;
use crate::hash::IdMap;
use crate::store::{Hidden, QueueRow};
use crate::tenants::{Kind, Tenants};

/// Orders messages by the end of their delay or lease.
pub(crate) type DueKey = (u64, Seq);

/// How many messages of a queue one shard holds, by what can be done with them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueCounts {
    /// Can be received.
    pub visible: u64,
    /// Received, not deleted, and not visible again.
    pub in_flight: u64,
    /// Sent with a delay that is not over, never received.
    pub delayed: u64,
}

/// Row, hidden messages and their order in time.
///
/// Invariants: `waiting` and `returned` together hold exactly one key per entry of `hidden`;
/// every key of `returned` is at or before `promoted_ms`, every key of `waiting` after it;
/// `in_flight` and `delayed` count `waiting`, and so does `tenants`.
#[derive(Debug)]
pub(crate) struct QueueState {
    pub(crate) row: QueueRow,
    hidden: IdMap<Seq, Hidden>,
    waiting: BTreeSet<DueKey>,
    returned: BTreeSet<DueKey>,
    promoted_ms: u64,
    in_flight: u64,
    delayed: u64,
    /// FIFO queues: the messages of `hidden` by group, in order.
    groups: BTreeMap<GroupKey, BTreeSet<Seq>>,
    /// Standard queues, from the first hidden message with a group on.
    tenants: Option<Box<Tenants>>,
    /// No message at all lies below this place. Volatile: it only saves expiry from walking over
    /// what it removed before.
    pub(crate) floor: Seq,
    /// How old the messages can be.
    pub(crate) ages: Ages,
    /// Whether the store has a row of this queue.
    pub(crate) stored: bool,
    /// Whether the running batch changed the row.
    pub(crate) dirty: bool,
    /// Whether it is in the set of busy queues.
    pub(crate) is_busy: bool,
}

impl QueueState {
    /// A queue that the shard did not know. Nothing of it lies below `at`, even if the store still
    /// shows messages of its life before a drop.
    pub(crate) fn new(at: Seq, fifo: bool) -> QueueState {
        let row = QueueRow { purged_below: at, fresh_from: at, fifo, ..QueueRow::default() };
        QueueState { ages: Ages::of_none(), ..QueueState::with_row(row) }
    }

    fn with_row(row: QueueRow) -> QueueState {
        QueueState {
            row,
            hidden: IdMap::default(),
            waiting: BTreeSet::new(),
            returned: BTreeSet::new(),
            promoted_ms: 0,
            in_flight: 0,
            delayed: 0,
            groups: BTreeMap::new(),
            tenants: None,
            floor: row.purged_below,
            ages: Ages::default(),
            stored: false,
            dirty: false,
            is_busy: false,
        }
    }

    /// From the store. Hidden rows of purged messages are skipped.
    pub(crate) fn load(row: QueueRow, rows: Vec<(Seq, Hidden)>, clock_ms: u64) -> QueueState {
        let mut state = QueueState::with_row(row);
        state.stored = true;
        state.promoted_ms = clock_ms;
        // Whatever lies below the first never-received message has a hidden row.
        let mut floor = row.fresh_from;
        for (seq, hidden) in rows {
            if seq >= row.purged_below && !planted!(LeasesNotLoaded) {
                floor = floor.min(seq);
                let mut hidden = hidden;
                if planted!(ReceivesNotLoaded) {
                    hidden.receive_count = hidden.receive_count.min(1);
                }
                state.hide(seq, hidden);
            }
        }
        state.floor = floor.max(row.purged_below);
        state.is_busy = !state.waiting.is_empty();
        if planted!(GroupForgotten) {
            state.groups.clear();
        }
        state
    }

    pub(crate) fn hidden(&self, seq: Seq) -> Option<&Hidden> {
        self.hidden.get(&seq)
    }

    /// All hidden messages, in no particular order.
    pub(crate) fn all_hidden(&self) -> impl Iterator<Item = (Seq, &Hidden)> {
        self.hidden.iter().map(|(seq, row)| (*seq, row))
    }

    pub(crate) fn hidden_count(&self) -> usize {
        self.hidden.len()
    }

    /// Messages that are visible and were never received: those without a hidden row.
    pub(crate) fn fresh_count(&self) -> u64 {
        self.row.messages - self.hidden.len() as u64
    }

    /// Moves what became visible up to `now_ms` out of the counted part. Changes no answer, only
    /// what answers cost.
    pub(crate) fn promote(&mut self, now_ms: u64) {
        if now_ms <= self.promoted_ms {
            return;
        }
        self.promoted_ms = now_ms;
        while let Some(&key) = self.waiting.first() {
            if key.0 > now_ms {
                break;
            }
            self.waiting.pop_first();
            self.returned.insert(key);
            if let Some(row) = self.hidden.get(&key.1).copied()
                && !planted!(CounterLeak)
            {
                self.left(&row, key.0);
            }
        }
    }

    /// Sets the message's row and returns the one that it replaces.
    pub(crate) fn hide(&mut self, seq: Seq, row: Hidden) -> Option<Hidden> {
        let old = self.hidden.insert(seq, row);
        if let Some(old) = &old {
            self.remove_key(seq, old);
        } else if self.row.fifo
            && let Some(group) = row.group
        {
            self.groups.entry(group).or_default().insert(seq);
        }
        let key = (row.visible_at_ms, seq);
        if row.visible_at_ms > self.promoted_ms {
            self.waiting.insert(key);
            self.entered(&row);
        } else {
            self.returned.insert(key);
        }
        old
    }

    /// Removes the message's row, if it has one.
    pub(crate) fn unhide(&mut self, seq: Seq) -> Option<Hidden> {
        let old = self.hidden.remove(&seq)?;
        self.remove_key(seq, &old);
        if let Some(group) = old.group
            && let Some(seqs) = self.groups.get_mut(&group)
        {
            seqs.remove(&seq);
            if seqs.is_empty() {
                self.groups.remove(&group);
            }
        }
        Some(old)
    }

    /// FIFO queues: the messages of a group that were received or delayed, in order.
    pub(crate) fn hidden_of(&self, group: GroupKey) -> impl Iterator<Item = (Seq, &Hidden)> {
        let seqs = self.groups.get(&group).into_iter().flatten();
        seqs.filter_map(|seq| Some((*seq, self.hidden.get(seq)?)))
    }

    /// FIFO queues: groups of which a message was handed out and may not be handed out now.
    pub(crate) fn groups_in_flight(&self, now_ms: u64) -> u64 {
        let held = |group: &&GroupKey| {
            self.hidden_of(**group)
                .any(|(_, row)| row.receive_count > 0 && row.visible_at_ms > now_ms)
        };
        self.groups.keys().filter(held).count() as u64
    }

    /// Everything below `below` is gone, and that is everything the queue had.
    pub(crate) fn clear(&mut self, below: Seq) {
        let QueueState { stored, dirty, is_busy, promoted_ms, .. } = *self;
        let QueueRow { fifo, epoch, .. } = self.row;
        let fresh = QueueState::new(below, fifo);
        *self = QueueState { stored, dirty, is_busy, promoted_ms, ..fresh };
        self.row.epoch = if planted!(FenceForgotten) { 0 } else { epoch };
    }

    pub(crate) fn counts(&self, now_ms: u64) -> QueueCounts {
        let (mut in_flight, mut delayed) = (self.in_flight, self.delayed);
        for (_, seq) in self.waiting.range(..=(now_ms, Seq(u64::MAX))) {
            match self.hidden.get(seq) {
                Some(row) if row.receive_count > 0 => in_flight -= 1,
                _ => delayed -= 1,
            }
        }
        QueueCounts { visible: self.row.messages - in_flight - delayed, in_flight, delayed }
    }

    /// Whether messages wait for the end of a delay or lease, or tenants used the queue lately. If not, it
    /// is not busy from now on.
    pub(crate) fn stays_busy(&mut self, now_ms: u64) -> bool {
        let waits = self.waiting.last().is_some_and(|(at_ms, _)| *at_ms > now_ms);
        self.is_busy = waits || self.is_shared(now_ms);
        self.is_busy
    }

    /// Whether messages of tenants of a standard queue are in flight or were lately.
    pub(crate) fn is_shared(&self, now_ms: u64) -> bool {
        self.tenants().is_some_and(|tenants| !tenants.is_over(now_ms))
    }

    /// Which of the indexes does not follow from the hidden messages, if one does not.
    pub(crate) fn check(&self) -> Option<String> {
        let keys = self.hidden.iter().map(|(seq, row)| (row.visible_at_ms, *seq));
        let (later, due): (BTreeSet<DueKey>, BTreeSet<DueKey>) =
            keys.partition(|key| key.0 > self.promoted_ms);
        let received = |key: &&DueKey| self.hidden.get(&key.1).map(kind) == Some(Kind::InFlight);
        let in_flight = later.iter().filter(received).count() as u64;
        let delayed = later.len() as u64 - in_flight;
        let mut groups: BTreeMap<GroupKey, BTreeSet<Seq>> = BTreeMap::new();
        for (seq, row) in self.hidden.iter().filter(|_| self.row.fifo) {
            if let Some(group) = row.group {
                groups.entry(group).or_default().insert(*seq);
            }
        }
        let mut of_tenants: BTreeMap<GroupKey, (u64, u64)> = BTreeMap::new();
        for (_, seq) in &later {
            let Some(row) = self.hidden.get(seq) else { continue };
            let Some(group) = row.group else { continue };
            let counted = of_tenants.entry(group).or_default();
            match kind(row) {
                Kind::InFlight => counted.0 += 1,
                Kind::Delayed => counted.1 += 1,
            }
        }
        let knows = |tenants: &Tenants| {
            of_tenants.iter().all(|(group, counted)| {
                let in_flight = tenants.share(*group, self.promoted_ms).in_flight;
                (in_flight, tenants.delayed(*group)) == *counted
            })
        };
        let wrong = match () {
            () if later != self.waiting => "who waits",
            () if due != self.returned => "who came back",
            () if in_flight != self.in_flight => "the number in flight",
            () if delayed != self.delayed => "the number delayed",
            () if groups != self.groups => "which group has which",
            () if !self.tenants().is_none_or(knows) => "what tenants have in flight",
            () => return None,
        };
        Some(format!("{wrong} does not follow from the hidden messages: {self:?}"))
    }

    /// The first end of a delay or lease after `after_ms`.
    pub(crate) fn next_visible_at_ms(&self, after_ms: u64) -> Option<u64> {
        let after = (Bound::Excluded((after_ms, Seq(u64::MAX))), Bound::Unbounded);
        self.waiting.range(after).next().map(|&(at_ms, _)| at_ms)
    }

    /// Hidden rows whose end is at or before `now_ms`, earliest first, after a key.
    pub(crate) fn due_after(
        &self,
        cursor: Option<DueKey>,
        now_ms: u64,
    ) -> impl Iterator<Item = DueKey> + '_ {
        let start = cursor.map_or(Bound::Unbounded, Bound::Excluded);
        self.returned
            .range((start, Bound::Unbounded))
            .chain(self.waiting.range((start, Bound::Unbounded)))
            .copied()
            .take_while(move |&(at_ms, _)| at_ms <= now_ms)
    }

    /// Standard queues: who has how much in flight; `None` when no message had a group.
    pub(crate) fn tenants(&self) -> Option<&Tenants> {
        self.tenants.as_deref()
    }

    /// The message with this row is waiting now.
    fn entered(&mut self, row: &Hidden) {
        if self.tenants.is_none() && row.group.is_some() && !self.row.fifo {
            let tenants = Tenants::new(self.in_flight, self.delayed, self.promoted_ms);
            self.tenants = Some(Box::new(tenants));
        }
        *self.counter(kind(row)) += 1;
        if let Some(tenants) = &mut self.tenants {
            tenants.entered(row.group, kind(row), self.promoted_ms);
        }
    }

    /// The message with this row does not wait any more, since `at_ms`.
    fn left(&mut self, row: &Hidden, at_ms: u64) {
        *self.counter(kind(row)) -= 1;
        if let Some(tenants) = &mut self.tenants {
            tenants.left(row.group, kind(row), at_ms);
        }
    }

    fn counter(&mut self, kind: Kind) -> &mut u64 {
        match kind {
            Kind::InFlight => &mut self.in_flight,
            Kind::Delayed => &mut self.delayed,
        }
    }

    fn remove_key(&mut self, seq: Seq, row: &Hidden) {
        let key = (row.visible_at_ms, seq);
        if row.visible_at_ms > self.promoted_ms {
            self.waiting.remove(&key);
            self.left(row, self.promoted_ms);
        } else {
            self.returned.remove(&key);
        }
    }
}

fn kind(row: &Hidden) -> Kind {
    if row.receive_count > 0 { Kind::InFlight } else { Kind::Delayed }
}

/// Equal when the replicated part is: what only saves work is not compared.
impl PartialEq for QueueState {
    fn eq(&self, other: &QueueState) -> bool {
        self.row == other.row && self.hidden == other.hidden
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Otherwise the first look for old messages after a restart walks over all that are gone.
    #[test]
    fn a_loaded_queue_knows_where_its_messages_begin() {
        let hidden = Hidden {
            revision: 1,
            visible_at_ms: 9,
            receive_count: 1,
            first_received_ms: 8,
            received_ms: 8,
            group: None,
        };
        let row = QueueRow { purged_below: Seq(3), fresh_from: Seq(50), ..QueueRow::default() };
        let floor = |rows: &[u64]| {
            let rows = rows.iter().map(|seq| (Seq(*seq), hidden)).collect();
            QueueState::load(row, rows, 10).floor
        };
        assert_eq!(floor(&[]), Seq(50));
        assert_eq!(floor(&[30, 20, 70]), Seq(20));
        assert_eq!(floor(&[2, 70]), Seq(50), "the first one is purged");
    }
}
