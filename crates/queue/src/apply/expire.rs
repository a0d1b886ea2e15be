//! Expire: removes what is past its retention, oldest first.

use std::io;

use flotilla_types::ids::{QueueId, Seq};
use flotilla_types::limits::EXPIRE_MESSAGES_MAX;

use crate::apply::{Context, Queues, is_expired};
use crate::command::Reply;
use crate::queue_state::QueueState;
use crate::store::{Read, Write};

/// Heads of the first read: most of the time the oldest message is young enough.
const FIRST_READ: usize = 16;
/// Heads of each further read.
const READ: usize = 256;

/// A message in flight goes too: being received does not prolong its life.
pub(crate) fn apply<R: Read, W: Write>(
    queues: &mut Queues,
    ctx: &mut Context<'_, R, W>,
    queue: QueueId,
    retention_ms: u64,
) -> io::Result<Reply> {
    let Some(state) = queues.get_mut(&queue) else {
        return Ok(Reply::Expired { removed: 0, more: false });
    };
    state.promote(ctx.now_ms);
    let before = state.row.messages;
    let floor = remove_expired(state, ctx, queue, retention_ms)?;
    let removed = before - state.row.messages;
    state.floor = floor;
    // The floor is the same on every replica, wherever its walk began: below is nothing at all.
    if floor > state.row.fresh_from {
        state.row.fresh_from = floor;
        ctx.row_changed(queue, state);
    }
    Ok(Reply::Expired { removed, more: removed >= EXPIRE_MESSAGES_MAX as u64 })
}

/// Walks from the oldest message on and returns the place below which nothing is left. Order of
/// places is order of age, so the first younger message ends the walk.
fn remove_expired<R: Read, W: Write>(
    state: &mut QueueState,
    ctx: &mut Context<'_, R, W>,
    queue: QueueId,
    retention_ms: u64,
) -> io::Result<Seq> {
    let mut from = state.floor.max(state.row.purged_below);
    let mut limit = FIRST_READ;
    let mut left = EXPIRE_MESSAGES_MAX;
    loop {
        let heads = ctx.read.messages_from(queue, from, limit)?;
        if heads.is_empty() {
            // What this batch sent is not shown, and not old.
            return Ok(ctx.first_seq.max(from));
        }
        for head in &heads {
            if !ctx.removed.contains(&head.seq) {
                if !is_expired(head.sent_ms, retention_ms, ctx.now_ms) {
                    return Ok(head.seq);
                }
                if left == 0 {
                    return Ok(from);
                }
                left -= 1;
                ctx.remove(queue, state, head.seq);
            }
            from = head.seq.next();
        }
        limit = READ;
    }
}
