//! Expire: removes what is past its retention.

use std::io;

use flotilla_probe::sometimes;
use flotilla_types::ids::{QueueId, Seq};
use flotilla_types::limits::{EXPIRE_MESSAGES_MAX, EXPIRE_SCANNED_MAX};

use crate::apply::{Context, duplicate, is_expired};
use crate::command::Reply;
use crate::queue_state::QueueState;
use crate::queues::Queues;
use crate::store::{Read, Write};

/// Heads of the first read: most of the time the oldest message is young enough.
const FIRST_READ: usize = 16;
/// Heads of each further read.
const READ: usize = 256;

/// Where a walk ended.
struct Walk {
    /// The first place that still has a message (or may have one, where the walk did not get).
    first_left: Seq,
    /// It stopped at a bound, before this place.
    resume: Option<Seq>,
    /// Since when the oldest one is there of those that it came upon and left.
    oldest_ms: u64,
}

/// A message in flight goes too: being received does not prolong its life.
pub(crate) fn apply<R: Read, W: Write>(
    queues: &mut Queues,
    ctx: &mut Context<'_, R, W>,
    queue: QueueId,
    retention_ms: u64,
    from: Seq,
) -> io::Result<Reply> {
    let Some(state) = queues.get_mut(queue) else {
        return Ok(Reply::Expired { removed: 0, resume: None });
    };
    state.promote(ctx.now_ms);
    duplicate::forget_old(state, ctx, queue);
    let before = state.row.messages;
    let walk = remove_expired(state, ctx, queue, retention_ms, from)?;
    let removed = before - state.row.messages;
    if state.row.mixed_ages {
        state.ages.walked(ctx.first_seq, from, walk.resume, walk.oldest_ms);
    }
    // A walk that began further up knows nothing of what lies below. This is decided by the
    // command, because the floor itself is not the same on every replica.
    if from == Seq(0) {
        state.floor = walk.first_left;
        // This is: below is nothing at all, wherever the walk began.
        if walk.first_left > state.row.fresh_from {
            state.row.fresh_from = walk.first_left;
            ctx.row_changed(queue, state);
        }
    }
    Ok(Reply::Expired { removed, resume: walk.resume })
}

/// Walks on from a place. Where order of places is order of age, the first younger message ends the
/// walk.
fn remove_expired<R: Read, W: Write>(
    state: &mut QueueState,
    ctx: &mut Context<'_, R, W>,
    queue: QueueId,
    retention_ms: u64,
    from: Seq,
) -> io::Result<Walk> {
    let mut at = state.floor.max(state.row.purged_below).max(from);
    let (mut first_left, mut oldest_ms) = (None, u64::MAX);
    let mut limit = FIRST_READ;
    let (mut removable, mut scannable) = (EXPIRE_MESSAGES_MAX, EXPIRE_SCANNED_MAX);
    loop {
        let heads = ctx.read.messages_from(queue, at, limit)?;
        if heads.is_empty() {
            // What this batch sent is not shown, and not old.
            let end = ctx.first_seq.max(at);
            return Ok(Walk { first_left: first_left.unwrap_or(end), resume: None, oldest_ms });
        }
        for head in &heads {
            if removable == 0 || scannable == 0 {
                let (first_left, resume) = (first_left.unwrap_or(at), Some(at));
                return Ok(Walk { first_left, resume, oldest_ms });
            }
            scannable -= 1;
            let is_there = !ctx.removed.contains(&head.seq);
            let since_ms = state.row.ages_since_ms(head.sent_ms, head.entered_ms);
            if is_there && is_expired(since_ms, retention_ms, ctx.now_ms) {
                removable -= 1;
                sometimes!(Expired);
                ctx.remove(queue, state, head.seq, head.group);
            } else if is_there {
                first_left.get_or_insert(head.seq);
                oldest_ms = oldest_ms.min(since_ms);
                if !state.row.mixed_ages {
                    return Ok(Walk { first_left: head.seq, resume: None, oldest_ms });
                }
            }
            at = head.seq.next();
        }
        limit = READ;
    }
}
