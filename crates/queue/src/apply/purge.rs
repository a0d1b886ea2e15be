//! Purge: everything that the queue has now, visible, in flight or delayed.

use flotilla_probe::planted;
use flotilla_types::ids::QueueId;

use crate::apply::{Context, duplicate, group};
use crate::command::Reply;
use crate::effect::Effect;
use crate::queues::Queues;
use crate::store::{Read, Write};

pub(crate) fn apply<R: Read, W: Write>(
    queues: &mut Queues,
    ctx: &mut Context<'_, R, W>,
    queue: QueueId,
) -> Reply {
    let Some(state) = queues.get_mut(queue) else {
        return Reply::Purged(0);
    };
    let removed = state.row.messages;
    // A range removal costs every later read something: none for nothing.
    if removed > 0 {
        ctx.write.clear_below(queue, ctx.next_seq);
        if state.row.fifo {
            group::cleared(ctx, queue);
        }
    }
    ctx.messages -= removed as i64;
    duplicate::forget_all(state, ctx, queue);
    let below = if planted!(PurgeOfLater) { ctx.next_seq.next() } else { ctx.next_seq };
    state.clear(below);
    ctx.row_changed(queue, state);
    ctx.effects.push(Effect::Cleared { queue });
    Reply::Purged(removed)
}
