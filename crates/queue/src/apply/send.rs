//! Send: one more message at the end of the shard.

use std::io;

use flotilla_probe::{planted, sometimes};
use flotilla_types::ids::{QueueId, Seq};

use crate::apply::{Context, duplicate, fence, group};
use crate::command::{Accepted, Reply, Send};
use crate::effect::Effect;
use crate::queue_state::QueueState;
use crate::queues::Queues;
use crate::store::{Hidden, Message, OriginalRow, Read, Write};

/// A queue that this shard does not know starts here: whether it exists was checked before. A send
/// that comes after its queue's drop revives it until the cluster drops it again.
pub(crate) fn apply<R: Read, W: Write>(
    queues: &mut Queues,
    ctx: &mut Context<'_, R, W>,
    command: &Send,
) -> io::Result<Reply> {
    let Send { queue, message_id, .. } = *command;
    if let Some((key, OriginalRow { seq, message_id, .. })) =
        duplicate::original(queues, ctx, command)?
    {
        sometimes!(DuplicateFound);
        if planted!(DuplicateRenews)
            && let Some(state) = queues.get_mut(queue)
        {
            let row = OriginalRow { seq, message_id, sent_ms: ctx.now_ms };
            duplicate::remember(state, ctx, queue, key, row);
        }
        return Ok(Reply::Sent(Some(Accepted { seq, message_id })));
    }
    if command.dedup.is_some()
        && let Err(elsewhere) = fence::admit(queues, ctx, queue, command.group, &command.placing)?
    {
        return Ok(Reply::Elsewhere(elsewhere));
    }
    let message = Message {
        sent_ms: ctx.now_ms,
        message_id,
        delayed: command.delay_ms > 0,
        group: command.group,
        moved: None,
        content: command.content.clone(),
    };
    let fifo = command.dedup.is_some();
    let (seq, state) = store(queues, ctx, queue, fifo, &message, command.delay_ms);
    let Some(key) = command.dedup else { return Ok(Reply::Sent(None)) };
    let row = OriginalRow { seq, message_id, sent_ms: ctx.now_ms };
    duplicate::remember(state, ctx, queue, key, row);
    Ok(Reply::Sent(Some(Accepted { seq, message_id })))
}

/// Puts a message at the end of the shard. `fifo` says what the queue is if it starts here.
pub(crate) fn store<'q, R: Read, W: Write>(
    queues: &'q mut Queues,
    ctx: &mut Context<'_, R, W>,
    queue: QueueId,
    fifo: bool,
    message: &Message,
    delay_ms: u64,
) -> (Seq, &'q mut QueueState) {
    let seq = ctx.next_seq;
    ctx.next_seq = seq.next();
    let state = queues.get_or_insert_with(queue, || QueueState::new(seq, fifo));
    state.promote(ctx.now_ms);
    ctx.write.put_message(queue, seq, message);
    if message.delayed {
        let row = Hidden {
            revision: 0,
            visible_at_ms: ctx.now_ms.saturating_add(delay_ms),
            receive_count: 0,
            first_received_ms: 0,
            received_ms: 0,
            group: message.group,
        };
        ctx.hide(queue, state, seq, row);
    } else {
        let (at_ms, group) = (ctx.now_ms, message.group);
        ctx.effects.push(Effect::Arrived { queue, seq, at_ms, group });
    }
    group::changed(ctx, queue, state, message.group, 1);
    state.row.messages += 1;
    ctx.messages += 1;
    let since_ms = state.row.ages_since_ms(message.sent_ms, message.entered_ms());
    state.row.mixed_ages |= since_ms < ctx.now_ms;
    state.ages.came(ctx.first_seq, since_ms);
    ctx.row_changed(queue, state);
    (seq, state)
}
