//! DropQueue: the queue's messages and the shard's knowledge of it.

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
    let Some(mut state) = queues.remove(queue) else {
        return Reply::Purged(0);
    };
    ctx.messages -= state.row.messages as i64;
    duplicate::forget_all(&mut state, ctx, queue);
    if state.row.messages > 0 {
        ctx.write.clear_below(queue, ctx.next_seq);
        if state.row.fifo {
            group::cleared(ctx, queue);
        }
    }
    if state.stored {
        ctx.write.remove_queue(queue);
    }
    ctx.effects.push(Effect::Cleared { queue });
    Reply::Purged(state.row.messages)
}
