//! One file per command: what it does to its queue, and which rows that writes.

use std::collections::{BTreeMap, HashMap};
use std::io;

use flotilla_types::ids::{DedupKey, GroupKey, QueueId, Seq};

use crate::effect::Effect;
use crate::hash::IdSet;
use crate::queue_state::QueueState;
use crate::store::{AttemptRow, Hidden, OriginalRow, Read, Write};

pub(crate) mod attempt;
pub(crate) mod change_visibility;
pub(crate) mod dead_letter;
pub(crate) mod delete;
pub(crate) mod drop_queue;
pub(crate) mod duplicate;
pub(crate) mod expire;
pub(crate) mod fence;
pub(crate) mod group;
pub(crate) mod move_messages;
pub(crate) mod purge;
pub(crate) mod receive;
pub(crate) mod redelay;
pub(crate) mod send;

/// What the commands of one batch share.
pub(crate) struct Context<'a, R, W> {
    /// The shard's clock under this batch.
    pub(crate) now_ms: u64,
    /// Place of the next message.
    pub(crate) next_seq: Seq,
    /// Place of the first message of this batch. `read` does not show messages from here on.
    pub(crate) first_seq: Seq,
    pub(crate) read: &'a R,
    pub(crate) write: &'a mut W,
    pub(crate) effects: &'a mut Vec<Effect>,
    /// Messages that this batch removed one by one, which `read` still shows.
    pub(crate) removed: IdSet<Seq>,
    /// Messages that this batch handed out. Without this, two receives of one batch with
    /// visibility 0 would hand out the same message.
    pub(crate) handed_out: IdSet<Seq>,
    /// Deduplication keys that this batch remembered, which `read` does not show yet.
    pub(crate) originals: HashMap<(QueueId, DedupKey), OriginalRow>,
    /// The same for attempts to receive.
    pub(crate) attempts: HashMap<(QueueId, DedupKey), AttemptRow>,
    /// Queues whose deduplication and attempt keys this batch forgot, all of them.
    pub(crate) originals_cleared: IdSet<QueueId>,
    /// By how much this batch changed the numbers of messages of groups of FIFO queues.
    pub(crate) groups: BTreeMap<(QueueId, GroupKey), i64>,
    /// Queues of which this batch removed everything before that.
    pub(crate) groups_cleared: IdSet<QueueId>,
    /// Queues whose row this batch changed.
    pub(crate) changed: Vec<QueueId>,
    /// Queues that this batch made busy.
    pub(crate) busy: Vec<QueueId>,
    /// By how much this batch changed the number of messages of the shard.
    pub(crate) messages: i64,
}

impl<R: Read, W: Write> Context<'_, R, W> {
    /// The row will be put at the end of the batch, once.
    pub(crate) fn row_changed(&mut self, queue: QueueId, state: &mut QueueState) {
        if !state.dirty {
            state.dirty = true;
            self.changed.push(queue);
        }
    }

    /// Replaces the message's hidden row by its next revision.
    pub(crate) fn hide(&mut self, queue: QueueId, state: &mut QueueState, seq: Seq, row: Hidden) {
        // Four thousand million revisions later the first one's key is free again.
        let revision = state.hidden(seq).map_or(0, |old| old.revision).wrapping_add(1);
        let row = Hidden { revision, ..row };
        if let Some(old) = state.hide(seq, row) {
            self.write.remove_hidden(queue, seq, old.revision);
        }
        self.write.put_hidden(queue, seq, &row);
        if !state.is_busy {
            state.is_busy = true;
            self.busy.push(queue);
        }
        let (at_ms, group) = (row.visible_at_ms, row.group);
        self.effects.push(Effect::VisibleAt { queue, seq, at_ms, group });
    }

    /// Removes a message that is there, and its hidden row. `group` is its group.
    pub(crate) fn remove(
        &mut self,
        queue: QueueId,
        state: &mut QueueState,
        seq: Seq,
        group: Option<GroupKey>,
    ) {
        match state.unhide(seq) {
            Some(row) => {
                self.write.remove_hidden(queue, seq, row.revision);
                if let Some(group) = row.group.filter(|_| state.row.fifo) {
                    self.effects.push(Effect::Freed { queue, group });
                }
            }
            None => self.effects.push(Effect::Gone { queue, seq }),
        }
        self.write.remove_message(queue, seq);
        self.removed.insert(seq);
        group::changed(self, queue, state, group, -1);
        state.row.messages -= 1;
        self.messages -= 1;
        self.row_changed(queue, state);
    }
}

/// Whether a message is past its retention; see [`QueueRow::ages_since_ms`].
///
/// [`QueueRow::ages_since_ms`]: crate::store::QueueRow::ages_since_ms
pub(crate) fn is_expired(since_ms: u64, retention_ms: u64, now_ms: u64) -> bool {
    since_ms.saturating_add(retention_ms) <= now_ms
}

/// The store contradicts itself: nothing that this replica says can be relied on.
pub(crate) fn corrupt(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
