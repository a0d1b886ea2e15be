//! The leader's view of one standard queue.

use std::collections::BTreeSet;
use std::io;

use flotilla_types::ids::{GroupKey, QueueId, Seq};
use flotilla_types::limits::{READY_WINDOW_MAX, RECEIVES_TO_BACK};

use super::noisy::{Fresh, NoisyTenants, take_last};
use super::{FIRST_SCAN, Noise, Reservation, SCANNED_MAX, Wanted};
use crate::hash::{IdMap, IdSet};
use crate::machine::Machine;
use crate::queue_state::{DueKey, QueueState};
use crate::store::{Hidden, Read};

/// One queue's window. *Fresh* are messages that are visible and were never received.
#[derive(Debug)]
pub(super) struct QueueWindow {
    /// Fresh, free and not of a noisy tenant. All of them are fresh for the machine too.
    fresh: Fresh,
    /// Reserved and still fresh: a part of `reserved`.
    reserved_fresh: Fresh,
    reserved: IdSet<Seq>,
    /// The groups of the known fresh messages that have one.
    groups: IdMap<Seq, GroupKey>,
    noisy: NoisyTenants,
    /// Every fresh message below is in `fresh`, `reserved_fresh` or `noisy`, or was skipped.
    scan_from: Seq,
    scan_limit: usize,
    /// There is no fresh message from `scan_from` on: the next one to arrive is the next one.
    caught_up: bool,
    /// The first fresh message of a noisy tenant for which there was no room, and how many there
    /// are about. Below `scan_from`.
    skipped_from: Option<Seq>,
    skipped: u64,
    /// How far the machine's order of due times was walked.
    cursor: Option<DueKey>,
    /// Every free message with a due time at or before the cursor, unless `last` or `noisy` has it.
    /// May also hold keys that are no longer true, or of reserved messages.
    passed: BTreeSet<DueKey>,
    /// Those of them that were received too often to go before all fresh messages: enough of them
    /// would starve all others. They have their turn as if they had arrived when they came back, so
    /// that nor do they starve. May hold as much that is not true.
    last: BTreeSet<DueKey>,
    /// As asked for when `last` was put aside.
    receives_max: Option<u32>,
}

fn is_true(state: &QueueState, key: DueKey) -> bool {
    state.hidden(key.1).is_some_and(|row| row.visible_at_ms == key.0)
}

impl QueueWindow {
    pub(super) fn new(state: &QueueState) -> QueueWindow {
        QueueWindow {
            fresh: Fresh::new(),
            reserved_fresh: Fresh::new(),
            reserved: IdSet::default(),
            groups: IdMap::default(),
            noisy: NoisyTenants::default(),
            scan_from: state.row.fresh_from,
            scan_limit: FIRST_SCAN,
            caught_up: false,
            skipped_from: None,
            skipped: 0,
            cursor: None,
            passed: BTreeSet::new(),
            last: BTreeSet::new(),
            receives_max: None,
        }
    }

    pub(super) fn reserved(&self) -> usize {
        self.reserved.len()
    }

    pub(super) fn reserve(
        &mut self,
        machine: &Machine,
        state: &QueueState,
        read: &impl Read,
        queue: QueueId,
        wanted: Wanted,
    ) -> io::Result<Reservation> {
        let max = wanted.max;
        let mut seqs = Vec::new();
        if wanted.to_move || wanted.receives_max != self.receives_max {
            // Looked at again: it may leave the queue now.
            self.passed.append(&mut self.last);
            self.receives_max = wanted.receives_max;
        }
        let mut unfinished = self.take_due(state, wanted, &mut seqs);
        unfinished |= self.take_fresh(machine, state, read, queue, wanted, &mut seqs)?;
        // Without noisy tenants there may still be what was skipped of earlier ones.
        if seqs.len() < max && (!wanted.quiet_only || self.noisy.is_empty()) {
            unfinished |= self.take_noisy(state, read, queue, wanted, &mut seqs)?;
        }
        Ok(Reservation { seqs, fresh_from: self.fresh_from(), unfinished })
    }

    /// Says who is noisy from now on.
    pub(super) fn set_noisy(&mut self, noisy: &[GroupKey]) {
        let (left, entered) = self.noisy.set(noisy);
        for held in left {
            self.fresh.extend(held.fresh);
            self.passed.extend(held.due);
            self.passed.extend(held.last);
        }
        if entered.is_empty() {
            return;
        }
        let Self { fresh, groups, noisy, .. } = self;
        for (&seq, &group) in groups.iter() {
            if entered.contains(&group)
                && let Some(since_ms) = fresh.remove(&seq)
            {
                noisy.hold_fresh(group, seq, since_ms);
            }
        }
    }

    /// Noisy tenants, and whether they have something that waits. What was skipped may be anyone's.
    pub(super) fn noisy(&self) -> Vec<(GroupKey, bool)> {
        let skipped = self.skipped_from.is_some();
        self.noisy.holding().map(|(group, holds)| (group, holds || skipped)).collect()
    }

    /// Takes from the order of due times; what others go before is put aside. Returns whether the
    /// walk stopped at its bound.
    fn take_due(&mut self, state: &QueueState, wanted: Wanted, seqs: &mut Vec<Seq>) -> bool {
        let Wanted { max, now_ms, .. } = wanted;
        let mut looked = 0;
        while seqs.len() < max
            && let Some(&key) = self.passed.first()
            && key.0 <= now_ms
        {
            if looked >= SCANNED_MAX {
                return true;
            }
            looked += 1;
            self.passed.pop_first();
            let Some(row) = state.hidden(key.1).filter(|row| row.visible_at_ms == key.0) else {
                continue;
            };
            if !self.put_aside(row, key, wanted) && self.reserved.insert(key.1) {
                seqs.push(key.1);
            }
        }
        if seqs.len() >= max {
            return false;
        }
        for key in state.due_after(self.cursor, now_ms) {
            if looked >= SCANNED_MAX {
                return true;
            }
            looked += 1;
            self.cursor = Some(key);
            if state.hidden(key.1).is_some_and(|row| self.put_aside(row, key, wanted)) {
                continue;
            }
            // One that is reserved already is looked at again when it is settled.
            if self.reserved.insert(key.1) {
                seqs.push(key.1);
            }
            if seqs.len() >= max {
                break;
            }
        }
        false
    }

    /// Puts a message that is due aside if it goes out after fresh ones: because its tenant is
    /// noisy, or because it was received too often. What leaves the queue waits for nobody.
    fn put_aside(&mut self, row: &Hidden, key: DueKey, wanted: Wanted) -> bool {
        let to_back = row.receive_count >= RECEIVES_TO_BACK && !wanted.moves(row.receive_count);
        if self.noisy.hold_due(row.group, key, to_back) {
            return true;
        }
        if to_back {
            self.last.insert(key);
        }
        to_back
    }

    /// What was received too often and has waited for longer than what is fresh.
    fn take_last(&mut self, state: &QueueState, now_ms: u64, max: usize, seqs: &mut Vec<Seq>) {
        while seqs.len() < max
            && let Some(key) = take_last(&mut self.last, &self.fresh, now_ms)
        {
            let Some(row) = state.hidden(key.1).filter(|row| row.visible_at_ms == key.0) else {
                continue;
            };
            if !self.noisy.hold_due(row.group, key, true) && self.reserved.insert(key.1) {
                seqs.push(key.1);
            }
        }
    }

    /// While there is always something that goes first, keys of what was deleted meanwhile would stay.
    fn drop_untrue(&mut self, state: &QueueState) {
        let held = self.last.len() + self.noisy.due_count();
        if held > 2 * state.hidden_count() + READY_WINDOW_MAX {
            self.last.retain(|key| is_true(state, *key));
            self.noisy.retain_due(|key| is_true(state, key));
        }
    }

    /// What is known to be fresh, and what has its turn in between; what has its turn behind all of it only
    /// if it is not looked for more.
    fn take_known(
        &mut self,
        state: &QueueState,
        wanted: Wanted,
        is_last_look: bool,
        seqs: &mut Vec<Seq>,
    ) {
        let Wanted { max, now_ms, .. } = wanted;
        while seqs.len() < max && (is_last_look || !self.fresh.is_empty()) {
            self.take_last(state, now_ms, max, seqs);
            if seqs.len() >= max {
                return;
            }
            let Some((seq, since_ms)) = self.fresh.pop_first() else { return };
            self.reserve_fresh(seq, since_ms);
            seqs.push(seq);
        }
    }

    /// What is fresh in order of arrival, and what was received too often in its turn. Returns whether the
    /// scan stopped at its bound.
    fn take_fresh(
        &mut self,
        machine: &Machine,
        state: &QueueState,
        read: &impl Read,
        queue: QueueId,
        wanted: Wanted,
        seqs: &mut Vec<Seq>,
    ) -> io::Result<bool> {
        self.drop_untrue(state);
        // While there is something else to hand out, the search for quiet tenants' messages may
        // take its time.
        let scanned_max = if self.noisy.is_empty() { SCANNED_MAX } else { READY_WINDOW_MAX };
        let mut scanned = 0;
        loop {
            if self.knows_all(state) {
                (self.caught_up, self.scan_from) = (true, machine.next_seq());
                (self.skipped_from, self.skipped) = (None, 0);
            }
            let is_last_look = self.caught_up || scanned >= scanned_max;
            self.take_known(state, wanted, is_last_look, seqs);
            if seqs.len() >= wanted.max || self.caught_up {
                return Ok(false);
            }
            if scanned >= scanned_max {
                return Ok(true);
            }
            let heads = self.scan(state, read, queue)?;
            scanned += heads;
            if heads == 0 {
                debug_assert!(
                    self.skipped_from.is_some() || self.knows_all(state),
                    "the store shows less than the machine counts"
                );
                (self.caught_up, self.scan_from) = (true, machine.next_seq());
            }
        }
    }

    /// What noisy tenants have: whoever has the fewest messages in flight comes first. Returns
    /// whether the search for skipped ones stopped at its bound.
    fn take_noisy(
        &mut self,
        state: &QueueState,
        read: &impl Read,
        queue: QueueId,
        wanted: Wanted,
        seqs: &mut Vec<Seq>,
    ) -> io::Result<bool> {
        let mut refilled = false;
        while seqs.len() < wanted.max {
            let Some(group) = self.noisy.next(state.tenants(), wanted.now_ms) else {
                if refilled || self.skipped_from.is_none() {
                    return Ok(self.skipped_from.is_some());
                }
                refilled = true;
                self.refill(state, read, queue)?;
                self.take_known(state, wanted, true, seqs);
                continue;
            };
            while seqs.len() < wanted.max
                && let Some(key) = self.noisy.take_due(group, wanted.now_ms)
            {
                if is_true(state, key) && self.reserved.insert(key.1) {
                    seqs.push(key.1);
                }
            }
            while seqs.len() < wanted.max {
                if let Some(key) = self.noisy.take_last(group, wanted.now_ms) {
                    if is_true(state, key) && self.reserved.insert(key.1) {
                        seqs.push(key.1);
                    }
                } else if let Some((seq, since_ms)) = self.noisy.take_fresh(group) {
                    self.reserve_fresh(seq, since_ms);
                    seqs.push(seq);
                } else {
                    break;
                }
            }
        }
        Ok(false)
    }

    fn reserve_fresh(&mut self, seq: Seq, since_ms: u64) {
        self.reserved_fresh.insert(seq, since_ms);
        self.reserved.insert(seq);
    }

    /// Reads on from the scan's place; returns how many messages it saw.
    fn scan(&mut self, state: &QueueState, read: &impl Read, queue: QueueId) -> io::Result<usize> {
        let from = self.scan_from.max(state.row.fresh_from);
        let heads = read.messages_from(queue, from, self.scan_limit)?;
        for head in &heads {
            self.scan_from = head.seq.next();
            // A reserved message lies behind the scan's place and is not seen here again.
            if !head.delayed && state.hidden(head.seq).is_none() {
                self.came_across(head.seq, head.entered_ms, head.group);
            }
        }
        self.scan_limit = (2 * self.scan_limit).min(READY_WINDOW_MAX);
        Ok(heads.len())
    }

    /// Reads again from the first skipped message on, as many as there is room for.
    fn refill(&mut self, state: &QueueState, read: &impl Read, queue: QueueId) -> io::Result<()> {
        let Some(from) = self.skipped_from.take() else { return Ok(()) };
        let heads = read.messages_from(queue, from, READY_WINDOW_MAX)?;
        let mut more = None;
        for head in heads.iter().take_while(|head| head.seq < self.scan_from) {
            more = Some(head.seq.next());
            let known = self.reserved.contains(&head.seq) || self.fresh.contains_key(&head.seq);
            if !known && !head.delayed && state.hidden(head.seq).is_none() {
                self.skipped = self.skipped.saturating_sub(1);
                if !self.noisy.hold(head.group, head.seq, head.entered_ms) {
                    self.fresh.insert(head.seq, head.entered_ms);
                }
                self.groups.extend(head.group.map(|group| (head.seq, group)));
            }
        }
        self.skipped_from = more.filter(|place| *place < self.scan_from);
        if self.skipped_from.is_none() {
            self.skipped = 0;
        }
        Ok(())
    }

    /// A fresh message at the scan's place or beyond all known ones.
    fn came_across(&mut self, seq: Seq, since_ms: u64, group: Option<GroupKey>) {
        if let Some(group) = group.filter(|group| self.noisy.contains(*group)) {
            if self.skipped_from.is_some() || self.noisy.fresh_count() >= READY_WINDOW_MAX {
                self.skipped_from.get_or_insert(seq);
                self.skipped += 1;
                return;
            }
            self.noisy.hold_fresh(group, seq, since_ms);
        } else {
            self.fresh.insert(seq, since_ms);
        }
        self.groups.extend(group.map(|group| (seq, group)));
    }

    fn knows_all(&self, state: &QueueState) -> bool {
        let known = self.fresh.len() + self.noisy.fresh_count() + self.reserved_fresh.len();
        known as u64 >= state.fresh_count()
    }

    /// What is reserved counts as never received until its receive is applied.
    fn fresh_from(&self) -> Seq {
        let known = [self.fresh.keys().next(), self.reserved_fresh.keys().next()];
        let others = [self.noisy.first_fresh(), self.skipped_from.as_ref()];
        known.into_iter().chain(others).flatten().copied().fold(self.scan_from, Seq::min)
    }

    pub(super) fn settle(&mut self, state: &QueueState, seq: Seq) {
        if !self.reserved.remove(&seq) {
            return;
        }
        if let Some(since_ms) = self.reserved_fresh.remove(&seq) {
            if !self.noisy.hold(self.groups.get(&seq).copied(), seq, since_ms) {
                self.fresh.insert(seq, since_ms);
            }
        } else if let Some(row) = state.hidden(seq) {
            self.pass((row.visible_at_ms, seq));
        }
    }

    pub(super) fn arrived(&mut self, seq: Seq, at_ms: u64, group: Option<GroupKey>) {
        if !self.caught_up {
            return;
        }
        if self.fresh.len() < READY_WINDOW_MAX {
            self.came_across(seq, at_ms, group);
            self.scan_from = seq.next();
        } else {
            self.caught_up = false;
        }
    }

    /// A key of a message that is reserved does no harm: it is dropped when it is met, and settling
    /// looks again.
    pub(super) fn hidden(&mut self, key: DueKey) {
        self.not_fresh(key.1);
        self.pass(key);
    }

    pub(super) fn not_fresh(&mut self, seq: Seq) {
        if !self.groups.is_empty()
            && let Some(group) = self.groups.remove(&seq)
        {
            self.noisy.forget_fresh(group, seq);
        }
        if self.fresh.remove(&seq).is_none() {
            self.reserved_fresh.remove(&seq);
        }
    }

    /// The cursor will not come by this key again.
    fn pass(&mut self, key: DueKey) {
        if self.cursor.is_some_and(|cursor| key <= cursor) {
            self.passed.insert(key);
        }
    }

    pub(super) fn is_noisy(&self) -> bool {
        !self.noisy.is_empty()
    }

    pub(super) fn noise(&self, state: &QueueState, now_ms: u64) -> Option<Noise> {
        if self.noisy.is_empty() {
            return None;
        }
        let quiet = |group: Option<GroupKey>| group.is_none_or(|it| !self.noisy.contains(it));
        let hidden = state.all_hidden().filter(|(_, row)| quiet(row.group)).map(|(seq, _)| seq);
        let reserved = self.reserved_fresh.keys().copied();
        let reserved = reserved.filter(|seq| quiet(self.groups.get(seq).copied()));
        let oldest =
            self.fresh.keys().next().copied().into_iter().chain(reserved).chain(hidden).min();
        let tenants = state.tenants();
        let sum = |of: &dyn Fn(GroupKey) -> u64| self.noisy.groups().map(of).sum();
        Some(Noise {
            groups: self.noisy.groups().collect(),
            visible: self.noisy.visible(now_ms) + self.skipped,
            in_flight: sum(&|group| tenants.map_or(0, |it| it.share(group, now_ms).in_flight)),
            delayed: sum(&|group| tenants.map_or(0, |it| it.delayed(group))),
            oldest_quiet: oldest,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_what_is_gone_do_not_pile_up_while_fresh_messages_go_first() {
        let mut state = QueueState::new(Seq(0), false);
        let mut window = QueueWindow::new(&state);
        let mut seqs = Vec::new();
        for at_ms in 1..4 * READY_WINDOW_MAX as u64 {
            let seq = Seq(at_ms);
            let row = Hidden {
                revision: 0,
                visible_at_ms: at_ms,
                receive_count: RECEIVES_TO_BACK,
                first_received_ms: 1,
                received_ms: 1,
                group: None,
            };
            state.hide(seq, row);
            let wanted = Wanted {
                max: 1,
                now_ms: at_ms,
                quiet_only: false,
                to_move: false,
                receives_max: None,
            };
            assert!(!window.take_due(&state, wanted, &mut seqs));
            // Deleted with the handle of its last receive, before it is its turn.
            state.unhide(seq);
            window.drop_untrue(&state);
            assert!(window.last.len() <= READY_WINDOW_MAX + 2);
        }
        assert!(seqs.is_empty());
    }
}
