//! Messages on their way to other queues of the shard.

use std::collections::HashMap;
use std::io;

use bytes::Bytes;
use flotilla_probe::failpoint;
use flotilla_queue::command::{Command, Identified, Move, MoveCandidate, Placing, Reply};
use flotilla_queue::store::Read;
use flotilla_types::ids::{GroupKey, MessageId, QueueId, Seq};
use flotilla_types::limits::READY_WINDOW_MAX;

use super::core::{Core, Look};
use super::{ReceiveSpec, Reserved, Shard, ShardError};

/// What to move.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MoveSpec {
    /// The queue they are in.
    pub queue: QueueId,
    /// Its retention.
    pub retention_ms: u64,
    /// How many at most.
    pub max: usize,
    /// Only messages that the queue had by then (unix time in milliseconds).
    pub entered_by_ms: u64,
    /// Where to.
    pub to: MoveTarget,
}

/// Where messages go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MoveTarget {
    /// All to one queue.
    Queue(QueueId),
    /// Each to the queue that gave it up, by the names that messages carry.
    Sources(HashMap<Bytes, QueueId>),
}

/// What became of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MoveOutcome {
    /// Messages moved.
    pub moved: u64,
    /// A message stayed because this name, which it carries, is not known; `None` inside: because
    /// it carries none.
    pub unresolved: Option<Option<Bytes>>,
    /// A message stayed because its group lives in another shard there.
    pub elsewhere: bool,
    /// Some of what was looked at was not moved, and may not be what is looked at next: it was past its
    /// retention, or gone, or placed by an earlier decision.
    pub left: bool,
    /// Somebody else has messages reserved, which may be back in a moment, or too many lie in front that are not meant.
    pub held: bool,
}

/// Where a message is in its target, of this shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// A standard queue has it in any shard.
    Any,
    /// A FIFO queue has its group here, for this reason.
    Here(Placing),
    /// Or in another shard, or that is not certain.
    Elsewhere,
}

/// Ends a reservation whatever happens, also when nobody waits any more. A proposal that is still
/// under way may yet be applied: that is why apply checks each candidate again.
struct Settle<'a> {
    core: &'a Core,
    queue: QueueId,
    reserved: Reserved,
    gone: usize,
}

impl Settle<'_> {
    fn count(&self) -> usize {
        self.reserved.seqs.len()
    }
}

impl Drop for Settle<'_> {
    fn drop(&mut self) {
        self.core.settle(self.queue, &self.reserved, self.gone);
    }
}

impl Shard {
    /// Moves messages that can be received now. Fewer than `max`, nothing unresolved, elsewhere, left or
    /// held: there are no more. `place` tells where messages of a group have to be, `draw` makes
    /// identities.
    ///
    /// # Errors
    /// See [`ShardError`]. After `Unknown` they may be moved; then they are not there any more.
    pub async fn move_messages(
        &self,
        spec: &MoveSpec,
        place: impl Fn(QueueId, Option<GroupKey>) -> Place,
        draw: impl Fn() -> MessageId,
    ) -> Result<MoveOutcome, ShardError> {
        self.check_leader()?;
        let mut outcome = MoveOutcome::default();
        // What came too late stays reserved meanwhile: there may be others behind.
        let mut passed = Vec::new();
        let (mut settle, candidates) = loop {
            let unreadable = |error: io::Error| {
                self.group.fatal(format!("the state cannot be read: {error}"));
                ShardError::Unknown
            };
            let state = self.group.state();
            let receive = receive_spec(spec);
            let looked: usize = passed.iter().map(Settle::count).sum();
            let reserved = match self.core.reserve(state, &receive).map_err(unreadable)? {
                Look::Found(reserved) => reserved,
                Look::Nothing { held } => {
                    outcome.held = held > looked;
                    return Ok(outcome);
                }
                Look::NotLeading => return Err(ShardError::NotLeader(None)),
            };
            let settle = Settle { core: &self.core, queue: spec.queue, reserved, gone: 0 };
            let found = self.candidates(spec, &settle.reserved.seqs, &place, &draw, &mut outcome);
            let candidates = found.map_err(unreadable)?;
            if !candidates.is_empty() {
                break (settle, candidates);
            }
            let looked = looked + settle.count();
            passed.push(settle);
            // So many that came later may be in front of others.
            outcome.held = looked >= READY_WINDOW_MAX;
            if outcome.unresolved.is_some() || outcome.elsewhere || outcome.held {
                return Ok(outcome);
            }
        };
        let (queue, retention_ms) = (spec.queue, spec.retention_ms);
        let found = candidates.len() as u64;
        let command = Command::Move(Move { queue, retention_ms, candidates });
        failpoint!(Move);
        let replies = self.submit(vec![Identified { id: None, command }]).await?;
        if let [Reply::Moved(moved)] = replies.as_slice() {
            outcome.moved = *moved;
            outcome.left = *moved < found;
            settle.gone = *moved as usize;
        }
        Ok(outcome)
    }

    /// Those of these messages that can be moved.
    fn candidates(
        &self,
        spec: &MoveSpec,
        seqs: &[Seq],
        place: &impl Fn(QueueId, Option<GroupKey>) -> Place,
        draw: &impl Fn() -> MessageId,
        outcome: &mut MoveOutcome,
    ) -> io::Result<Vec<MoveCandidate>> {
        let mut candidates = Vec::with_capacity(seqs.len());
        for seq in seqs {
            let message = self.group.state().message(spec.queue, *seq)?;
            let Some(message) = message.filter(|it| it.entered_ms() <= spec.entered_by_ms) else {
                continue;
            };
            let source = message.moved.map(|moved| moved.source);
            let target = match &spec.to {
                MoveTarget::Queue(queue) => Some(*queue),
                MoveTarget::Sources(known) => {
                    source.as_ref().and_then(|name| known.get(name)).copied()
                }
            };
            let Some(target) = target else {
                outcome.unresolved = Some(source);
                continue;
            };
            let placing = match place(target, message.group) {
                Place::Any => Placing::default(),
                Place::Here(placing) => placing,
                Place::Elsewhere => {
                    outcome.elsewhere = true;
                    continue;
                }
            };
            candidates.push(MoveCandidate { seq: *seq, target, message_id: draw(), placing });
        }
        Ok(candidates)
    }
}

fn receive_spec(spec: &MoveSpec) -> ReceiveSpec {
    ReceiveSpec {
        queue: spec.queue,
        max: spec.max,
        visibility_ms: 0,
        retention_ms: spec.retention_ms,
        redrive: None,
        attempt: None,
        only_again: false,
        quiet_only: false,
        // They stay in the shard.
        bytes_max: usize::MAX,
        // Or what was there at the start would wait for what comes meanwhile.
        to_move: true,
    }
}
