//! The leader's view of one FIFO queue: which groups have something to hand out.
//!
//! A group is offered in order, from its oldest message on up to the first that is hidden; what lies
//! behind a hidden one waits. While messages of a group are reserved, nobody else gets any of it:
//! what happens to them decides what is next.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::io;

use flotilla_types::ids::{GroupKey, QueueId, Seq};
use flotilla_types::limits::{FIFO_WINDOW_MAX, READY_WINDOW_MAX};

use super::{FIRST_SCAN, Reservation, SCANNED_MAX};
use crate::machine::Machine;
use crate::queue_state::{DueKey, QueueState};
use crate::store::Read;

/// See the module. *Fresh* are messages that are visible and were never received.
///
/// Invariant: a group that has a message to hand out is in `ready`, or has reserved messages (and
/// comes back when they are settled), or is in `cut`, or its first message is hidden and the cursor
/// has not passed its end, or all of its messages lie after the scan's place.
#[derive(Debug)]
pub(super) struct FifoWindow {
    /// Fresh for the machine too, reserved ones included.
    fresh: BTreeMap<Seq, GroupKey>,
    by_group: HashMap<GroupKey, BTreeSet<Seq>>,
    reserved: HashMap<Seq, GroupKey>,
    /// How many messages of a group are reserved.
    locked: HashMap<GroupKey, usize>,
    /// Groups that may have something, each once, in the order in which they came to have it.
    ready: VecDeque<GroupKey>,
    is_ready: BTreeSet<GroupKey>,
    /// Groups that have something beyond the scan's place.
    cut: Vec<GroupKey>,
    /// Every fresh message below is in `fresh`.
    scan_from: Seq,
    scan_limit: usize,
    /// There is no fresh message from `scan_from` on: the next one to arrive is the next one.
    caught_up: bool,
    /// How far the machine's order of due times was walked.
    cursor: Option<DueKey>,
}

impl FifoWindow {
    pub(super) fn new(state: &QueueState) -> FifoWindow {
        FifoWindow {
            fresh: BTreeMap::new(),
            by_group: HashMap::new(),
            reserved: HashMap::new(),
            locked: HashMap::new(),
            ready: VecDeque::new(),
            is_ready: BTreeSet::new(),
            cut: Vec::new(),
            scan_from: state.row.fresh_from,
            scan_limit: FIRST_SCAN,
            caught_up: false,
            cursor: None,
        }
    }

    pub(super) fn reserved(&self) -> usize {
        self.reserved.len()
    }

    /// Fills up from one group before it takes from the next.
    pub(super) fn reserve(
        &mut self,
        machine: &Machine,
        state: &QueueState,
        read: &impl Read,
        queue: QueueId,
        max: usize,
        now_ms: u64,
    ) -> io::Result<Reservation> {
        self.notice_due(state, now_ms);
        let knows_nothing = !self.caught_up && self.fresh.is_empty() && state.fresh_count() > 0;
        if knows_nothing {
            // A group should not go out by its returned messages alone.
            self.scan(state, read, queue)?;
        }
        let mut seqs = Vec::new();
        let mut scanned = 0;
        let unfinished = loop {
            self.caught_up = self.fresh.len() as u64 >= state.fresh_count();
            if self.caught_up {
                self.scan_from = machine.next_seq();
            }
            // The scan is further than when they were looked at.
            for group in std::mem::take(&mut self.cut) {
                self.push_ready(group);
            }
            while seqs.len() < max
                && let Some(group) = self.pop_ready()
            {
                self.take(state, group, now_ms, max, &mut seqs);
            }
            if seqs.len() >= max || self.caught_up || self.fresh.len() >= FIFO_WINDOW_MAX {
                break false;
            }
            if scanned >= SCANNED_MAX {
                break true;
            }
            let heads = self.scan(state, read, queue)?;
            scanned += heads;
            if heads == 0 {
                break false;
            }
        };
        Ok(Reservation { seqs, fresh_from: self.fresh_from(), unfinished })
    }

    pub(super) fn settle(&mut self, seq: Seq) {
        let Some(group) = self.reserved.remove(&seq) else { return };
        let Some(count) = self.locked.get_mut(&group) else { return };
        *count -= 1;
        if *count == 0 {
            self.locked.remove(&group);
            self.push_ready(group);
        }
    }

    pub(super) fn arrived(&mut self, seq: Seq, group: GroupKey) {
        if !self.caught_up {
            return;
        }
        // What nobody asks for needs no memory: a reserve reads on to more if it has to.
        if self.fresh.len() < READY_WINDOW_MAX {
            self.insert_fresh(seq, group);
            self.scan_from = seq.next();
            self.push_ready(group);
        } else {
            self.caught_up = false;
        }
    }

    /// A message got another end of its lease or delay.
    pub(super) fn hidden(&mut self, key: DueKey, group: GroupKey) {
        self.not_fresh(key.1);
        // Otherwise the cursor comes by.
        if self.cursor.is_some_and(|cursor| key <= cursor) {
            self.push_ready(group);
        }
    }

    /// A fresh message is gone.
    pub(super) fn gone(&mut self, seq: Seq) {
        if let Some(group) = self.not_fresh(seq) {
            self.push_ready(group);
        }
    }

    pub(super) fn push_ready(&mut self, group: GroupKey) {
        if self.is_ready.insert(group) {
            self.ready.push_back(group);
        }
    }

    fn pop_ready(&mut self) -> Option<GroupKey> {
        let group = self.ready.pop_front()?;
        self.is_ready.remove(&group);
        Some(group)
    }

    /// Groups in which a lease or delay is over since the last look.
    fn notice_due(&mut self, state: &QueueState, now_ms: u64) {
        let due: Vec<_> = state.due_after(self.cursor, now_ms).collect();
        for key in due {
            self.cursor = Some(key);
            if let Some(group) = state.hidden(key.1).and_then(|row| row.group) {
                self.push_ready(group);
            }
        }
    }

    /// Reserves what the group has to hand out, as far as there is room. If there is more, settling
    /// looks again.
    fn take(
        &mut self,
        state: &QueueState,
        group: GroupKey,
        now_ms: u64,
        max: usize,
        seqs: &mut Vec<Seq>,
    ) {
        if self.locked.contains_key(&group) {
            return;
        }
        let (found, cut) = self.available(state, group, now_ms, max - seqs.len());
        if cut {
            self.cut.push(group);
        }
        if !found.is_empty() {
            self.locked.insert(group, found.len());
        }
        self.reserved.extend(found.iter().map(|seq| (*seq, group)));
        seqs.extend(found);
    }

    /// Up to `max` of the group's messages in order, up to the first hidden one. Also whether it
    /// ends because the scan is not that far: there may be fresh messages in between.
    fn available(
        &self,
        state: &QueueState,
        group: GroupKey,
        now_ms: u64,
        max: usize,
    ) -> (Vec<Seq>, bool) {
        let known_below = if self.caught_up { Seq(u64::MAX) } else { self.scan_from };
        let mut hidden = state.hidden_of(group).peekable();
        let mut fresh = self.by_group.get(&group).into_iter().flatten().copied().peekable();
        let mut found = Vec::new();
        while found.len() < max {
            let next_hidden = hidden.peek().map(|(seq, _)| *seq);
            let next_fresh = fresh.peek().copied();
            if let Some(seq) = next_fresh.filter(|seq| next_hidden.is_none_or(|it| *seq < it)) {
                found.push(seq);
                fresh.next();
                continue;
            }
            let Some((seq, row)) = hidden.next() else { break };
            if row.visible_at_ms > now_ms {
                break;
            }
            if seq >= known_below {
                return (found, true);
            }
            found.push(seq);
        }
        (found, false)
    }

    /// Reads on from the scan's place; returns how many messages it saw.
    fn scan(&mut self, state: &QueueState, read: &impl Read, queue: QueueId) -> io::Result<usize> {
        let from = self.scan_from.max(state.row.fresh_from);
        let room = FIFO_WINDOW_MAX.saturating_sub(self.fresh.len());
        let heads = read.messages_from(queue, from, self.scan_limit.min(room))?;
        for head in &heads {
            self.scan_from = head.seq.next();
            let Some(group) = head.group else { continue };
            if !head.delayed && state.hidden(head.seq).is_none() {
                self.insert_fresh(head.seq, group);
            }
            self.push_ready(group);
        }
        self.scan_limit = (2 * self.scan_limit).min(READY_WINDOW_MAX);
        Ok(heads.len())
    }

    fn insert_fresh(&mut self, seq: Seq, group: GroupKey) {
        self.fresh.insert(seq, group);
        self.by_group.entry(group).or_default().insert(seq);
    }

    fn not_fresh(&mut self, seq: Seq) -> Option<GroupKey> {
        let group = self.fresh.remove(&seq)?;
        if let Some(seqs) = self.by_group.get_mut(&group) {
            seqs.remove(&seq);
            if seqs.is_empty() {
                self.by_group.remove(&group);
            }
        }
        Some(group)
    }

    /// What is reserved counts as never received until its receive is applied.
    fn fresh_from(&self) -> Seq {
        self.fresh.first_key_value().map_or(self.scan_from, |(first, _)| self.scan_from.min(*first))
    }
}
