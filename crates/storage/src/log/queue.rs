//! The way from callers to the writer thread.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};

use super::Done;
use super::group::Group;

/// Operations that nobody waits for ride along with the next one that somebody does; this many
/// of them start a batch of their own.
const LAZY_OPS_MAX: usize = 4_096;

/// One operation, already visible to readers, still to be written.
pub(super) enum Op {
    Append { group: Arc<Group>, ticket: u64, first: u64, entries: Vec<Bytes>, done: Done },
    Truncate { group: Arc<Group>, index: u64 },
    Purge { group: Arc<Group>, index: u64, note: Bytes },
    Vote { group: Arc<Group>, vote: Bytes, done: Done },
    Committed { group: Arc<Group>, committed: Bytes },
    Reset { group: Arc<Group>, done: Done },
}

impl Op {
    /// Whether somebody waits for it.
    fn urgent(&self) -> bool {
        matches!(self, Op::Append { .. } | Op::Vote { .. } | Op::Reset { .. })
    }

    pub(super) fn bytes(&self) -> usize {
        match self {
            Op::Append { entries, .. } => entries.iter().map(Bytes::len).sum(),
            _ => 0,
        }
    }

    /// The one who waits.
    pub(super) fn into_done(self) -> Option<Done> {
        match self {
            Op::Append { done, .. } | Op::Vote { done, .. } | Op::Reset { done, .. } => Some(done),
            Op::Truncate { .. } | Op::Purge { .. } | Op::Committed { .. } => None,
        }
    }
}

/// An error that many callers get.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    kind: io::ErrorKind,
    text: String,
}

impl Failure {
    pub(super) fn of(error: &io::Error) -> Failure {
        Failure { kind: error.kind(), text: format!("the log has failed: {error}") }
    }

    pub(super) fn closed() -> Failure {
        Failure { kind: io::ErrorKind::BrokenPipe, text: "the log is shut down".into() }
    }

    pub(super) fn error(&self) -> io::Error {
        io::Error::new(self.kind, self.text.clone())
    }
}

/// What [`Queue::take`] came back with.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Taken {
    Work,
    /// The time ran out.
    Idle,
    /// Shut down, and nothing is left.
    Closed,
}

#[derive(Default)]
struct State {
    ops: Vec<Op>,
    bytes: usize,
    urgent: bool,
    closing: bool,
    parked: bool,
    refused: Option<Failure>,
}

impl State {
    fn hand_over(&mut self, ops: &mut Vec<Op>) {
        self.urgent = false;
        self.bytes = 0;
        std::mem::swap(&mut self.ops, ops);
    }
}

/// Collects operations while the writer syncs the ones before. Not bounded by itself: an append
/// must not wait, and each group has a bounded number of entries in flight, so what is in here is
/// bounded by `groups * ENTRIES_IN_FLIGHT_MAX * ENTRY_BYTES_MAX`.
#[derive(Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    ready: Condvar,
}

impl Queue {
    /// Adds an operation. After a failure or a shutdown, gives back the one who waits and why.
    pub(super) fn push(&self, op: Op) -> Result<(), (Option<Done>, io::Error)> {
        let mut state = self.state.lock();
        if let Some(refused) = &state.refused {
            return Err((op.into_done(), refused.error()));
        }
        state.bytes += op.bytes();
        state.urgent |= op.urgent() || state.ops.len() >= LAZY_OPS_MAX;
        state.ops.push(op);
        if state.urgent && state.parked {
            state.parked = false;
            self.ready.notify_one();
        }
        Ok(())
    }

    /// Moves everything into `ops` (which is empty), waiting until somebody waits for it.
    pub(super) fn take(&self, ops: &mut Vec<Op>, timeout: Option<Duration>) -> Taken {
        let mut state = self.state.lock();
        while !state.urgent && !state.closing {
            state.parked = true;
            match timeout {
                None => self.ready.wait(&mut state),
                Some(timeout) => {
                    if self.ready.wait_for(&mut state, timeout).timed_out() && !state.urgent {
                        state.parked = false;
                        return Taken::Idle;
                    }
                }
            }
        }
        state.parked = false;
        Self::taken(&mut state, ops)
    }

    /// The same without waiting: what is there, or that there is nothing that somebody waits for.
    pub(super) fn take_now(&self, ops: &mut Vec<Op>) -> Taken {
        let mut state = self.state.lock();
        if !state.urgent && !state.closing {
            return Taken::Idle;
        }
        Self::taken(&mut state, ops)
    }

    fn taken(state: &mut State, ops: &mut Vec<Op>) -> Taken {
        state.hand_over(ops);
        if ops.is_empty() {
            state.refused.get_or_insert_with(Failure::closed);
            return Taken::Closed;
        }
        Taken::Work
    }

    /// Moves what nobody waits for into `ops` (which is empty), and what came in between.
    pub(super) fn take_at_once(&self, ops: &mut Vec<Op>) {
        self.state.lock().hand_over(ops);
    }

    /// Lets the writer finish what is there and end.
    pub(super) fn close(&self) {
        let mut state = self.state.lock();
        state.closing = true;
        state.refused.get_or_insert_with(Failure::closed);
        self.ready.notify_one();
    }

    /// Refuses all that comes from now on and returns what was waiting.
    pub(super) fn fail(&self, failure: Failure) -> Vec<Op> {
        let mut state = self.state.lock();
        state.refused = Some(failure);
        state.closing = true;
        std::mem::take(&mut state.ops)
    }

    /// Payload bytes waiting.
    pub(super) fn bytes(&self) -> usize {
        self.state.lock().bytes
    }
}
