//! The leader's view of what can be received next.

mod fifo;
mod noisy;
mod standard;

use std::collections::HashMap;
use std::io;

use flotilla_types::ids::{GroupKey, QueueId, Seq};
use flotilla_types::limits::READY_WINDOW_MAX;

use crate::effect::Effect;
use crate::hash::IdMap;
use crate::machine::Machine;
use crate::queue_state::QueueState;
use crate::store::Read;

use self::fifo::FifoWindow;
use self::standard::QueueWindow;

/// Heads of a queue's first scan; each further one asks for twice as many, so that a queue that is
/// read slowly holds little.
const FIRST_SCAN: usize = 64;
/// Heads that one reserve looks at before it gives up for this time: a long run of delayed or
/// leased messages must not hold up the shard's other queues.
const SCANNED_MAX: usize = 4 * READY_WINDOW_MAX;
/// Queues with a window before the first sweep.
const SWEEP_MIN: usize = 4_096;

/// What a receive asks a shard for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// How many messages at most.
    pub max: usize,
    /// What time it is for the caller.
    pub now_ms: u64,
    /// Nothing of noisy tenants.
    pub quiet_only: bool,
    /// Not for a consumer: what was received too often comes with the rest that was received.
    pub to_move: bool,
    /// What was received so often becomes a dead letter instead of being handed out.
    pub receives_max: Option<u32>,
}

impl Wanted {
    /// Whether a message that was received so often leaves the queue, if it is found. One that brought receives
    /// along from elsewhere may be taken for one that does, once, and one beyond a limit that was lowered for
    /// one that does not.
    fn moves(&self, receives: u32) -> bool {
        self.to_move || self.receives_max == Some(receives)
    }
}

/// What a queue's noisy tenants have in a shard, see [`ReadyWindow::noise`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Noise {
    /// Who is noisy.
    pub groups: Vec<GroupKey>,
    /// Their messages that can be received, as far as the window came across them.
    pub visible: u64,
    /// Their messages in flight.
    pub in_flight: u64,
    /// Their delayed messages.
    pub delayed: u64,
    /// Place of the oldest known message of everybody else.
    pub oldest_quiet: Option<Seq>,
}

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
/// - Per queue it holds at most `READY_WINDOW_MAX` fresh messages, plus what is reserved; of noisy
///   tenants as many again, plus what it held of each when that became noisy. Of those that came
///   back, as many keys as the machine has rows, and as many again that are not true any more.
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

    fn reserved(&self) -> usize {
        match self {
            Window::Standard(window) => window.reserved(),
            Window::Fifo(window) => window.reserved(),
        }
    }

    fn observe(&mut self, effect: &Effect) {
        match (self, *effect) {
            (Window::Standard(window), Effect::Arrived { seq, at_ms, group, .. }) => {
                window.arrived(seq, at_ms, group);
            }
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
    /// then the never-received ones in order of arrival; one that was received too often
    /// (`RECEIVES_TO_BACK`) is among these, as if it had arrived when it came back, or before those that the
    /// search for quiet tenants' messages did not come to. Those of noisy
    /// tenants only when there are no others. Of a FIFO queue: of each group that is free the oldest
    /// ones, in order. Reads the store only when the machine counts more never-received messages
    /// than the window knows.
    ///
    /// # Errors
    /// When the store fails.
    pub fn reserve(
        &mut self,
        machine: &Machine,
        read: &impl Read,
        queue: QueueId,
        wanted: Wanted,
    ) -> io::Result<Reservation> {
        let Some(state) = machine.state(queue) else {
            let fresh_from = machine.next_seq();
            return Ok(Reservation { seqs: Vec::new(), fresh_from, unfinished: false });
        };
        if self.queues.len() >= self.sweep_at {
            self.sweep();
        }
        let wanted = Wanted { now_ms: wanted.now_ms.max(machine.clock_ms()), ..wanted };
        let (max, now_ms) = (wanted.max, wanted.now_ms);
        match self.queues.entry(queue).or_insert_with(|| Window::new(state)) {
            Window::Standard(window) => window.reserve(machine, state, read, queue, wanted),
            Window::Fifo(window) => window.reserve(machine, state, read, queue, max, now_ms),
        }
    }

    /// Says whose messages of a standard queue go out only when there are no others. The next word
    /// replaces it; a window that is made anew has not heard it.
    pub fn set_noisy(&mut self, machine: &Machine, queue: QueueId, groups: &[GroupKey]) {
        if groups.is_empty() && !self.queues.contains_key(&queue) {
            return;
        }
        let Some(state) = machine.state(queue) else { return };
        let window = self.queues.entry(queue).or_insert_with(|| Window::new(state));
        if let Window::Standard(window) = window {
            window.set_noisy(groups);
        }
    }

    /// The queue's noisy tenants, and whether they have messages that wait to be received.
    pub fn noisy(&self, queue: QueueId) -> Vec<(GroupKey, bool)> {
        match self.queues.get(&queue) {
            Some(Window::Standard(window)) => window.noisy(),
            _ => Vec::new(),
        }
    }

    /// How many messages of the queue are reserved.
    pub fn reserved(&self, queue: QueueId) -> usize {
        self.queues.get(&queue).map_or(0, Window::reserved)
    }

    /// Whether the queue has noisy tenants.
    pub fn is_noisy(&self, queue: QueueId) -> bool {
        matches!(self.queues.get(&queue), Some(Window::Standard(window)) if window.is_noisy())
    }

    /// What the queue's noisy tenants have; `None` when there are none.
    pub fn noise(&self, machine: &Machine, queue: QueueId, now_ms: u64) -> Option<Noise> {
        let Window::Standard(window) = self.queues.get(&queue)? else { return None };
        window.noise(machine.state(queue)?, now_ms.max(machine.clock_ms()))
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
        self.queues.retain(|_, window| window.reserved() > 0);
        self.sweep_at = SWEEP_MIN.max(2 * self.queues.len());
    }
}
