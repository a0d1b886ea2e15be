//! The leader's view of what can be received next.

mod fifo;

use std::collections::{BTreeSet, HashMap};
use std::io;

use flotilla_types::ids::{QueueId, Seq};
use flotilla_types::limits::READY_WINDOW_MAX;

use crate::effect::Effect;
use crate::hash::{IdMap, IdSet};
use crate::machine::Machine;
use crate::queue_state::{DueKey, QueueState};
use crate::store::Read;

use self::fifo::FifoWindow;

/// Heads of a queue's first scan; each further one asks for twice as many, so that a queue that is
/// read slowly holds little.
const FIRST_SCAN: usize = 64;
/// Heads that one reserve looks at before it gives up for this time: a long run of delayed or
/// leased messages must not hold up the shard's other queues.
const SCANNED_MAX: usize = 4 * READY_WINDOW_MAX;
/// Queues with a window before the first sweep.
const SWEEP_MIN: usize = 4_096;

/// What [`ReadyWindow::reserve`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reservation {
    /// Candidates, in the order in which to hand them out. Each must come back in
    /// [`ReadyWindow::settle`].
    pub seqs: Vec<Seq>,
    /// For [`Receive::fresh_from`](crate::command::Receive::fresh_from).
    pub fresh_from: Seq,
    /// The scan stopped at its bound: there may be more, ask again.
    pub unfinished: bool,
}

/// Candidates for receives, for all queues of a shard. Lives while this replica leads; it is not
/// replicated, and no result of [`Machine::apply`] depends on it.
///
/// Invariants (as long as [`ReadyWindow::observe`] sees the effects of every batch that is applied
/// since it was made, before anything else is asked of it):
/// - A message is reserved at most once at a time, and offered again only after it was settled.
/// - Every message that can be received is in the window, reserved, after the scan's place, or
///   after the cursor in the machine's order of due times: none is forgotten.
/// - Per queue it holds at most `READY_WINDOW_MAX` fresh messages, plus what is reserved.
#[derive(Debug)]
pub struct ReadyWindow {
    queues: IdMap<QueueId, Window>,
    sweep_at: usize,
}

#[derive(Debug)]
enum Window {
    Standard(QueueWindow),
    Fifo(FifoWindow),
}

impl Window {
    fn new(state: &QueueState) -> Window {
        if state.row.fifo {
            Window::Fifo(FifoWindow::new(state))
        } else {
            Window::Standard(QueueWindow::new(state))
        }
    }

    fn has_reservations(&self) -> bool {
        match self {
            Window::Standard(window) => !window.reserved.is_empty(),
            Window::Fifo(window) => window.has_reservations(),
        }
    }

    fn observe(&mut self, effect: &Effect) {
        match (self, *effect) {
            (Window::Standard(window), Effect::Arrived { seq, .. }) => window.arrived(seq),
            (Window::Standard(window), Effect::VisibleAt { seq, at_ms, .. }) => {
                window.hidden((at_ms, seq));
            }
            (Window::Standard(window), Effect::Gone { seq, .. }) => window.not_fresh(seq),
            (Window::Fifo(window), Effect::Arrived { seq, group: Some(group), .. }) => {
                window.arrived(seq, group);
            }
            (Window::Fifo(window), Effect::VisibleAt { seq, at_ms, group: Some(group), .. }) => {
                window.hidden((at_ms, seq), group);
            }
            (Window::Fifo(window), Effect::Gone { seq, .. }) => window.gone(seq),
            (Window::Fifo(window), Effect::Freed { group, .. }) => window.push_ready(group),
            // Every message of a FIFO queue has a group, and only such queues have freed ones.
            (Window::Fifo(_), Effect::Arrived { .. } | Effect::VisibleAt { .. })
            | (Window::Standard(_), Effect::Freed { .. })
            | (_, Effect::Cleared { .. }) => {}
        }
    }
}

impl Default for ReadyWindow {
    fn default() -> ReadyWindow {
        ReadyWindow::new()
    }
}

impl ReadyWindow {
    /// Knows nothing yet: each queue's first reserve scans.
    pub fn new() -> ReadyWindow {
        ReadyWindow { queues: HashMap::default(), sweep_at: SWEEP_MIN }
    }

    /// Reserves up to `max` messages that can be received at `now_ms` (or at the shard's clock, if
    /// that is later): first those that were received or delayed before, the earliest due first,
    /// then the never-received ones in order of arrival. Of a FIFO queue: of each group that is free
    /// the oldest ones, in order. Reads the store only when the machine
    /// counts more never-received messages than the window knows.
    ///
    /// # Errors
    /// When the store fails.
    pub fn reserve(
        &mut self,
        machine: &Machine,
        read: &impl Read,
        queue: QueueId,
        max: usize,
        now_ms: u64,
    ) -> io::Result<Reservation> {
        let Some(state) = machine.state(queue) else {
            let fresh_from = machine.next_seq();
            return Ok(Reservation { seqs: Vec::new(), fresh_from, unfinished: false });
        };
        if self.queues.len() >= self.sweep_at {
            self.sweep();
        }
        let now_ms = now_ms.max(machine.clock_ms());
        let window = match self.queues.entry(queue).or_insert_with(|| Window::new(state)) {
            Window::Standard(window) => window,
            Window::Fifo(window) => {
                return window.reserve(machine, state, read, queue, max, now_ms);
            }
        };
        let mut seqs = Vec::new();
        window.take_due(state, now_ms, max, &mut seqs);
        let unfinished = window.take_fresh(machine, state, read, queue, max, &mut seqs)?;
        Ok(Reservation { seqs, fresh_from: window.fresh_from(), unfinished })
    }

    /// Ends reservations: call it when the Receive was applied (and its effects were observed), or
    /// when it certainly never will be. What it did not hand out is available again, unless it is
    /// gone.
    pub fn settle(&mut self, machine: &Machine, queue: QueueId, seqs: &[Seq]) {
        let (Some(window), Some(state)) = (self.queues.get_mut(&queue), machine.state(queue))
        else {
            return;
        };
        for &seq in seqs {
            match window {
                Window::Standard(window) => window.settle(state, seq),
                Window::Fifo(window) => window.settle(seq),
            }
        }
    }

    /// Takes in what a batch changed.
    pub fn observe(&mut self, effects: &[Effect]) {
        for effect in effects {
            let queue = effect.queue();
            if matches!(effect, Effect::Cleared { .. }) {
                self.queues.remove(&queue);
            } else if let Some(window) = self.queues.get_mut(&queue) {
                window.observe(effect);
            }
        }
    }

    /// Forgets the queues without reservations. What they held can be found again; without this
    /// every queue that was ever asked would stay.
    fn sweep(&mut self) {
        self.queues.retain(|_, window| window.has_reservations());
        self.sweep_at = SWEEP_MIN.max(2 * self.queues.len());
    }
}

/// One queue's window. *Fresh* are messages that are visible and were never received.
#[derive(Debug)]
struct QueueWindow {
    /// Fresh and free. All of them are fresh for the machine too.
    fresh: BTreeSet<Seq>,
    /// Reserved and still fresh: a part of `reserved`.
    reserved_fresh: BTreeSet<Seq>,
    reserved: IdSet<Seq>,
    /// Every fresh message below is in `fresh` or `reserved_fresh`.
    scan_from: Seq,
    scan_limit: usize,
    /// There is no fresh message from `scan_from` on: the next one to arrive is the next one.
    caught_up: bool,
    /// How far the machine's order of due times was walked.
    cursor: Option<DueKey>,
    /// Every free message with a due time at or before the cursor. May also hold keys that are no
    /// longer true, or of reserved messages.
    passed: BTreeSet<DueKey>,
}

impl QueueWindow {
    fn new(state: &QueueState) -> QueueWindow {
        QueueWindow {
            fresh: BTreeSet::new(),
            reserved_fresh: BTreeSet::new(),
            reserved: IdSet::default(),
            scan_from: state.row.fresh_from,
            scan_limit: FIRST_SCAN,
            caught_up: false,
            cursor: None,
            passed: BTreeSet::new(),
        }
    }

    fn take_due(&mut self, state: &QueueState, now_ms: u64, max: usize, seqs: &mut Vec<Seq>) {
        while seqs.len() < max
            && let Some(&key) = self.passed.first()
            && key.0 <= now_ms
        {
            self.passed.pop_first();
            let is_due = state.hidden(key.1).is_some_and(|row| row.visible_at_ms == key.0);
            if is_due && self.reserved.insert(key.1) {
                seqs.push(key.1);
            }
        }
        if seqs.len() >= max {
            return;
        }
        for key in state.due_after(self.cursor, now_ms) {
            self.cursor = Some(key);
            // One that is reserved already is looked at again when it is settled.
            if self.reserved.insert(key.1) {
                seqs.push(key.1);
            }
            if seqs.len() >= max {
                break;
            }
        }
    }

    /// Returns whether the scan stopped at its bound.
    fn take_fresh(
        &mut self,
        machine: &Machine,
        state: &QueueState,
        read: &impl Read,
        queue: QueueId,
        max: usize,
        seqs: &mut Vec<Seq>,
    ) -> io::Result<bool> {
        let mut scanned = 0;
        loop {
            self.caught_up = self.knows_all(state);
            if self.caught_up {
                self.scan_from = machine.next_seq();
            }
            while seqs.len() < max
                && let Some(seq) = self.fresh.pop_first()
            {
                self.reserved_fresh.insert(seq);
                self.reserved.insert(seq);
                seqs.push(seq);
            }
            if seqs.len() >= max || self.caught_up {
                return Ok(false);
            }
            if scanned >= SCANNED_MAX {
                return Ok(true);
            }
            let heads = self.scan(state, read, queue)?;
            scanned += heads;
            if heads == 0 {
                debug_assert!(
                    self.knows_all(state),
                    "the store shows less than the machine counts"
                );
                return Ok(false);
            }
        }
    }

    /// Reads on from the scan's place; returns how many messages it saw.
    fn scan(&mut self, state: &QueueState, read: &impl Read, queue: QueueId) -> io::Result<usize> {
        let from = self.scan_from.max(state.row.fresh_from);
        let heads = read.messages_from(queue, from, self.scan_limit)?;
        for head in &heads {
            self.scan_from = head.seq.next();
            // A reserved message lies behind the scan's place and is not seen here again.
            if !head.delayed && state.hidden(head.seq).is_none() {
                self.fresh.insert(head.seq);
            }
        }
        self.scan_limit = (2 * self.scan_limit).min(READY_WINDOW_MAX);
        Ok(heads.len())
    }

    fn knows_all(&self, state: &QueueState) -> bool {
        (self.fresh.len() + self.reserved_fresh.len()) as u64 >= state.fresh_count()
    }

    /// What is reserved counts as never received until its receive is applied.
    fn fresh_from(&self) -> Seq {
        let first = [self.fresh.first(), self.reserved_fresh.first()];
        first.into_iter().flatten().copied().fold(self.scan_from, Seq::min)
    }

    fn settle(&mut self, state: &QueueState, seq: Seq) {
        if !self.reserved.remove(&seq) {
            return;
        }
        if self.reserved_fresh.remove(&seq) {
            self.fresh.insert(seq);
        } else if let Some(row) = state.hidden(seq) {
            self.pass((row.visible_at_ms, seq));
        }
    }

    fn arrived(&mut self, seq: Seq) {
        if !self.caught_up {
            return;
        }
        if self.fresh.len() < READY_WINDOW_MAX {
            self.fresh.insert(seq);
            self.scan_from = seq.next();
        } else {
            self.caught_up = false;
        }
    }

    /// A key of a message that is reserved does no harm: it is dropped when it is met, and settling
    /// looks again.
    fn hidden(&mut self, key: DueKey) {
        self.not_fresh(key.1);
        self.pass(key);
    }

    fn not_fresh(&mut self, seq: Seq) {
        if !self.fresh.remove(&seq) {
            self.reserved_fresh.remove(&seq);
        }
    }

    /// The cursor will not come by this key again.
    fn pass(&mut self, key: DueKey) {
        if self.cursor.is_some_and(|cursor| key <= cursor) {
            self.passed.insert(key);
        }
    }
}
