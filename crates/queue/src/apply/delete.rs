//! Delete: removes a message that was received.

use crate::apply::{Context, Queues};
use crate::command::{Delete, HandleExpired, Reply};
use crate::store::{Read, Write};

/// A handle of any of the message's receives deletes it, also after its lease ended; in a FIFO queue
/// only that of the receive that still holds it. A handle that no receive can have issued does
/// nothing; nor does one of a message that is gone.
pub(crate) fn apply<R: Read, W: Write>(
    queues: &mut Queues,
    ctx: &mut Context<'_, R, W>,
    command: &Delete,
) -> Reply {
    if let Some(state) = queues.get_mut(&command.queue) {
        state.promote(ctx.now_ms);
        let row = state.hidden(command.seq).filter(|row| row.issued(command.receive));
        let Some(row) = row else { return Reply::Deleted(Ok(())) };
        if state.row.fifo && !row.holds(command.receive, ctx.now_ms) {
            return Reply::Deleted(Err(HandleExpired));
        }
        let group = row.group;
        ctx.remove(command.queue, state, command.seq, group);
    }
    Reply::Deleted(Ok(()))
}
