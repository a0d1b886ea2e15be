//! Redelay: another delay for messages that wait for the end of theirs.

use std::io;

use crate::apply::{Context, corrupt};
use crate::command::Redelay;
use crate::queues::Queues;
use crate::store::{Hidden, Read, Write};

/// Counted from when the queue got each message, as if it had come with this delay. One whose
/// delay is over, or that was received, is left alone: what could be received stays so.
pub(crate) fn apply<R: Read, W: Write>(
    queues: &mut Queues,
    ctx: &mut Context<'_, R, W>,
    command: &Redelay,
) -> io::Result<()> {
    let Some(state) = queues.get_mut(command.queue) else { return Ok(()) };
    state.promote(ctx.now_ms);
    let first_seq = ctx.first_seq;
    for seq in command.candidates.iter().copied().filter(|seq| *seq < first_seq) {
        let row = state.hidden(seq).copied();
        let Some(row) = row.filter(|row| row.is_delayed(ctx.now_ms)) else { continue };
        let message = ctx.read.message(command.queue, seq)?;
        let entered_ms =
            message.ok_or_else(|| corrupt("no message to a delayed row"))?.entered_ms();
        let visible_at_ms = entered_ms.saturating_add(command.delay_ms);
        if visible_at_ms != row.visible_at_ms {
            ctx.hide(command.queue, state, seq, Hidden { visible_at_ms, ..row });
        }
    }
    Ok(())
}
