//! Move: messages go to other queues of the same shard, as new ones: each is in one queue at any
//! time, never in both or in neither.

use std::io;

use crate::apply::{Context, fence, is_expired, receive, send};
use crate::command::{Move, Reply};
use crate::queues::Queues;
use crate::store::{Message, Read, Write};

/// Keeps content and group; identity, age and number of receives begin anew. What a FIFO queue moves
/// was nobody's duplicate, and has none.
pub(crate) fn apply<R: Read, W: Write>(
    queues: &mut Queues,
    ctx: &mut Context<'_, R, W>,
    command: &Move,
) -> io::Result<Reply> {
    let queue = command.queue;
    let mut moved = 0;
    for candidate in &command.candidates {
        let Some(state) = queues.get_mut(queue) else { break };
        state.promote(ctx.now_ms);
        let Some(message) = receive::receivable(state, ctx, queue, candidate.seq)? else {
            continue;
        };
        let fifo = state.row.fifo;
        if fifo && receive::waits(state, ctx.now_ms, candidate.seq, &message, &[]) {
            continue;
        }
        let since_ms = state.row.ages_since_ms(message.sent_ms, message.entered_ms());
        let expired = is_expired(since_ms, command.retention_ms, ctx.now_ms);
        // One that has its place elsewhere by now stays where it is.
        if fifo && !expired {
            let admitted = fence::admit(queues, ctx, candidate.target, None, &candidate.placing)?;
            if admitted.is_err() {
                continue;
            }
        }
        let Some(state) = queues.get_mut(queue) else { break };
        ctx.remove(queue, state, candidate.seq, message.group);
        if expired {
            continue;
        }
        let (sent_ms, message_id) = (ctx.now_ms, candidate.message_id);
        let message = Message { sent_ms, message_id, delayed: false, moved: None, ..message };
        send::store(queues, ctx, candidate.target, fifo, &message, 0);
        moved += 1;
    }
    Ok(Reply::Moved(moved))
}
