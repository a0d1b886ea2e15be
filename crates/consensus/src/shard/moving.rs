//! Messages on their way to other queues of the shard.

use std::collections::HashMap;
use std::io;

use bytes::Bytes;
use flotilla_probe::failpoint;
use flotilla_queue::command::{Command, Identified, Move, MoveCandidate, Reply};
use flotilla_queue::store::Read;
use flotilla_types::ids::{MessageId, QueueId};

use super::core::Core;
use super::{ReceiveSpec, Reserved, Shard, ShardError};

/// What to move.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MoveSpec {
    /// The queue they are in; a standard queue.
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
}

/// Ends a reservation whatever happens, also when nobody waits any more. A proposal that is still
/// under way may yet be applied: that is why apply checks each candidate again.
struct Settle<'a> {
    core: &'a Core,
    queue: QueueId,
    reserved: Reserved,
    gone: usize,
}

impl Drop for Settle<'_> {
    fn drop(&mut self) {
        self.core.settle(self.queue, &self.reserved, self.gone);
    }
}

impl Shard {
    /// Moves messages that can be received now. Fewer than `max`, and nothing unresolved: there are
    /// no more. `draw` makes identities.
    ///
    /// # Errors
    /// See [`ShardError`]. After `Unknown` they may be moved; then they are not there any more.
    pub async fn move_messages(
        &self,
        spec: &MoveSpec,
        draw: impl Fn() -> MessageId,
    ) -> Result<MoveOutcome, ShardError> {
        self.check_leader()?;
        let receive = ReceiveSpec {
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
        };
        let unreadable = |error: io::Error| {
            self.group.fatal(format!("the state cannot be read: {error}"));
            ShardError::Unknown
        };
        let state = self.group.state();
        let Some(reserved) = self.core.reserve(state, &receive).map_err(unreadable)? else {
            return Ok(MoveOutcome::default());
        };
        let mut settle = Settle { core: &self.core, queue: spec.queue, reserved, gone: 0 };
        let mut outcome = MoveOutcome::default();
        let mut candidates = Vec::with_capacity(settle.reserved.seqs.len());
        for seq in &settle.reserved.seqs {
            let message = state.message(spec.queue, *seq).map_err(unreadable)?;
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
            match target {
                Some(target) => {
                    candidates.push(MoveCandidate { seq: *seq, target, message_id: draw() });
                }
                None => outcome.unresolved = Some(source),
            }
        }
        if candidates.is_empty() {
            return Ok(outcome);
        }
        let (queue, retention_ms) = (spec.queue, spec.retention_ms);
        let command = Command::Move(Move { queue, retention_ms, candidates });
        failpoint!(Move);
        let replies = self.submit(vec![Identified { id: None, command }]).await?;
        if let [Reply::Moved(moved)] = replies.as_slice() {
            outcome.moved = *moved;
            settle.gone = *moved as usize;
        }
        Ok(outcome)
    }
}
