//! Delete: removes a message that was received.

use crate::apply::{Context, Queues};
use crate::command::{Delete, Reply};
use crate::store::{Read, Write};

/// A handle of any of the message's receives deletes it, also after its lease ended. A handle that
/// no receive can have issued does nothing; nor does one of a message that is gone.
pub(crate) fn apply<R: Read, W: Write>(
    queues: &mut Queues,
    ctx: &mut Context<'_, R, W>,
    command: &Delete,
) -> Reply {
    if let Some(state) = queues.get_mut(&command.queue) {
        state.promote(ctx.now_ms);
        let row = state.hidden(command.seq);
        if row.is_some_and(|row| row.issued(command.receive)) {
            ctx.remove(command.queue, state, command.seq);
        }
    }
    Reply::Deleted
}
