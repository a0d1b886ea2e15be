//! The tables' rows.

use std::collections::BTreeMap;

use crate::content::MessageKey;
use crate::hash::Id;
use crate::index::Span;

/// No number.
pub(crate) const NONE: u32 = u32::MAX;

/// A three-valued outcome without what belongs to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Known {
    Ok,
    Fail,
    Info,
}

/// A message as its writer counts.
#[derive(Debug)]
pub(crate) struct Key {
    pub(crate) key: MessageKey,
}

/// One try to send a message.
#[derive(Debug)]
pub(crate) struct Attempt {
    pub(crate) record: u32,
    pub(crate) node: u32,
    pub(crate) key: u32,
    pub(crate) queue: u32,
    pub(crate) group: u32,
    /// The message that was answered.
    pub(crate) message: u32,
    pub(crate) shard: u32,
    pub(crate) outcome: Known,
    /// The answer's digests are the client's.
    pub(crate) digests_agree: bool,
    pub(crate) at: Span,
    pub(crate) content: u64,
    /// [`NEVER`](crate::index::NEVER): the queue's.
    pub(crate) delay_us: u64,
    pub(crate) dedup: Id,
    pub(crate) sequence: u128,
}

/// A message as the service counts: one message id.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) id: Id,
    /// From its deliveries, or from its first acknowledged send.
    pub(crate) key: u32,
    pub(crate) group: u32,
    /// The queue that it was sent to, or was first seen in.
    pub(crate) queue: u32,
    /// Not before `inv`, not after `ret` it came to that queue.
    pub(crate) entered: Span,
    /// In that queue; 0 where nobody said.
    pub(crate) sequence: u128,
    /// A send that was acknowledged with its id.
    pub(crate) acknowledged: bool,
}

/// A receive that was not refused.
#[derive(Debug)]
pub(crate) struct Receive {
    pub(crate) record: u32,
    pub(crate) node: u32,
    pub(crate) process: u32,
    pub(crate) queue: u32,
    pub(crate) first: u32,
    pub(crate) count: u32,
    pub(crate) max: u32,
    pub(crate) outcome: Known,
    /// It may have hidden messages that it does not bring.
    pub(crate) lost: bool,
    /// It was refused because too much is in flight.
    pub(crate) over_limit: bool,
    pub(crate) at: Span,
    /// When the client stopped waiting, whatever came of it.
    pub(crate) gave_up: u64,
    /// `None`: the queue's.
    pub(crate) wait_us: Option<u64>,
    /// `None`: the queue's.
    pub(crate) visibility_us: Option<u64>,
    pub(crate) attempt: Id,
}

/// Sends of unknown outcome under one deduplication id.
#[derive(Debug)]
pub(crate) struct LostSends {
    /// When the first began.
    pub(crate) inv: u64,
    /// Their group; [`NONE`] when it is not the same for all.
    pub(crate) group: u32,
    /// Their rows.
    pub(crate) attempts: Vec<u32>,
}

/// A receive that may have hidden messages that nobody got.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lost {
    pub(crate) inv: u64,
    /// Later it takes no effect any more.
    pub(crate) until: u64,
    /// Its row.
    pub(crate) receive: u32,
}

/// A message in an answer.
#[derive(Debug)]
pub(crate) struct Delivery {
    pub(crate) receive: u32,
    pub(crate) message: u32,
    pub(crate) key: u32,
    pub(crate) group: u32,
    pub(crate) shard: u32,
    /// 0 where nobody asked.
    pub(crate) count: u32,
    pub(crate) digests_agree: bool,
    pub(crate) content: u64,
    pub(crate) sent_ms: u64,
    pub(crate) first_received_ms: u64,
    pub(crate) handle: Id,
    pub(crate) dedup: Id,
    pub(crate) sequence: u128,
}

/// What a client does with a handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TouchKind {
    Delete,
    /// Hide for so long from now on, in microseconds.
    Change(u64),
}

/// A delete or a change of visibility that was not refused.
#[derive(Debug)]
pub(crate) struct Touch {
    pub(crate) record: u32,
    pub(crate) node: u32,
    pub(crate) queue: u32,
    /// Whose handle it is; nobody's that the history knows: [`NONE`].
    pub(crate) delivery: u32,
    pub(crate) kind: TouchKind,
    pub(crate) outcome: Known,
    pub(crate) at: Span,
    pub(crate) handle: Id,
}

/// A delete that was refused because of its handle.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) record: u32,
    pub(crate) queue: u32,
    pub(crate) at: Span,
    pub(crate) handle: Id,
}

/// A batch that was answered.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) record: u32,
    pub(crate) entries: u32,
    /// What is wrong with the answer, if anything is.
    pub(crate) wrong: Option<&'static str>,
    /// For sends: the first of its attempts.
    pub(crate) first_attempt: u32,
}

/// A group of a queue.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) name: String,
    pub(crate) queue: u32,
}

/// From when to when a fault was there.
#[derive(Debug)]
pub(crate) struct FaultWindow {
    pub(crate) name: String,
    /// Whom it is about.
    pub(crate) nodes: Vec<u32>,
    pub(crate) from: u64,
    pub(crate) to: u64,
    /// When every node could serve again.
    pub(crate) ready: u64,
    /// Requests that overlap it.
    pub(crate) requests: u64,
}

/// A message while it is in one FIFO queue.
#[derive(Debug)]
pub(crate) struct Stay {
    pub(crate) message: u32,
    pub(crate) group: u32,
    /// Where nobody said, it is not in the table.
    pub(crate) sequence: u128,
    pub(crate) entered: Span,
    /// It was sent here; otherwise it was moved here.
    pub(crate) home: bool,
}

/// What was tried since all faults were healed, until the next one, by node and kind of operation.
#[derive(Debug)]
pub(crate) struct Recovery {
    pub(crate) since: u64,
    /// When the next fault came.
    pub(crate) until: u64,
    pub(crate) trials: BTreeMap<(u32, &'static str), Trials>,
}

/// Failures that are kept of each kind and node.
pub(crate) const FAILURES_KEPT_MAX: usize = 8;

/// How it went.
#[derive(Debug, Default)]
pub(crate) struct Trials {
    /// When the first success was answered.
    pub(crate) first_ok: Option<u64>,
    /// The first failures: when they began and were answered, and their records.
    pub(crate) failures: Vec<(Span, u32)>,
}

/// Rows of one table by number of a row of another, in order of their places.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    starts: Vec<u32>,
    items: Vec<u32>,
}

impl Groups {
    /// `owners[i]` is whose the row `i` is, [`NONE`] for nobody's.
    pub(crate) fn new(owned: usize, owners: impl Iterator<Item = u32> + Clone) -> Self {
        let mut starts = vec![0u32; owned + 1];
        let mut total = 0usize;
        for owner in owners.clone().filter(|owner| *owner != NONE) {
            starts[owner as usize + 1] += 1;
            total += 1;
        }
        for at in 1..starts.len() {
            starts[at] += starts[at - 1];
        }
        let mut next = starts.clone();
        let mut items = vec![0; total];
        for (row, owner) in (0u32..).zip(owners).filter(|(_, owner)| *owner != NONE) {
            let place = &mut next[owner as usize];
            items[*place as usize] = row;
            *place += 1;
        }
        Self { starts, items }
    }

    pub(crate) fn of(&self, owner: u32) -> &[u32] {
        let owner = owner as usize;
        &self.items[self.starts[owner] as usize..self.starts[owner + 1] as usize]
    }

    /// Brings each owner's rows into an order.
    pub(crate) fn sort_by_key<K: Ord>(&mut self, key: impl Fn(u32) -> K) {
        for ends in self.starts.windows(2) {
            let rows = &mut self.items[ends[0] as usize..ends[1] as usize];
            if rows.len() > 1 {
                rows.sort_by_key(|row| key(*row));
            }
        }
    }
}
