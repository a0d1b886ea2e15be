//! Send: one more message at the end of the shard.

use flotilla_types::ids::QueueId;

use crate::apply::{Context, Queues};
use crate::command::{Reply, Send};
use crate::effect::Effect;
use crate::queue_state::QueueState;
use crate::store::{Hidden, Message, Read, Write};

/// A queue that this shard does not know starts here: whether it exists was checked before. A send
/// that comes after its queue's drop revives it until the cluster drops it again.
pub(crate) fn apply<R: Read, W: Write>(
    queues: &mut Queues,
    ctx: &mut Context<'_, R, W>,
    command: &Send,
) -> Reply {
    let message = Message {
        sent_ms: ctx.now_ms,
        message_id: command.message_id,
        delayed: command.delay_ms > 0,
        moved: None,
        content: command.content.clone(),
    };
    store(queues, ctx, command.queue, &message, command.delay_ms);
    Reply::Sent
}

/// Puts a message at the end of the shard.
pub(crate) fn store<R: Read, W: Write>(
    queues: &mut Queues,
    ctx: &mut Context<'_, R, W>,
    queue: QueueId,
    message: &Message,
    delay_ms: u64,
) {
    let seq = ctx.next_seq;
    ctx.next_seq = seq.next();
    let state = queues.entry(queue).or_insert_with(|| QueueState::new(seq));
    state.promote(ctx.now_ms);
    ctx.write.put_message(queue, seq, message);
    if message.delayed {
        let row = Hidden {
            revision: 0,
            visible_at_ms: ctx.now_ms.saturating_add(delay_ms),
            receive_count: 0,
            first_received_ms: 0,
            received_ms: 0,
        };
        ctx.hide(queue, state, seq, row);
    } else {
        ctx.effects.push(Effect::Arrived { queue, seq });
    }
    state.row.messages += 1;
    state.row.mixed_ages |= message.sent_ms < ctx.now_ms;
    ctx.row_changed(queue, state);
}
