//! Delete: removes a message that was received.

use flotilla_probe::planted;

use crate::apply::Context;
use crate::command::{Delete, HandleExpired, Reply};
use crate::queues::Queues;
use crate::store::{Read, Write};

/// What the first application of a delete answered. Only one that did not remove the message leaves
/// it there, and in a FIFO queue that is one whose receive was over: to say that it is deleted would
/// be a lie that the next receive shows.
pub(crate) fn repeated(queues: &Queues, command: &Delete) -> Reply {
    let refused = queues.get(command.queue).is_some_and(|state| {
        let row = state.hidden(command.seq);
        state.row.fifo && row.is_some_and(|row| row.issued(command.receive))
    });
    Reply::Deleted(if refused { Err(HandleExpired) } else { Ok(()) })
}

/// A handle of any of the message's receives deletes it, also after its lease ended; in a FIFO queue
/// only that of the receive that still holds it. A handle that no receive can have issued does
/// nothing; nor does one of a message that is gone.
pub(crate) fn apply<R: Read, W: Write>(
    queues: &mut Queues,
    ctx: &mut Context<'_, R, W>,
    command: &Delete,
) -> Reply {
    if let Some(state) = queues.get_mut(command.queue) {
        state.promote(ctx.now_ms);
        let row = state.hidden(command.seq).filter(|row| row.issued(command.receive));
        let Some(row) = row else { return Reply::Deleted(Ok(())) };
        let held = row.holds(command.receive, ctx.now_ms) || planted!(OldHandleDeletes);
        if state.row.fifo && !held {
            return Reply::Deleted(Err(HandleExpired));
        }
        let group = row.group;
        ctx.remove(command.queue, state, command.seq, group);
    }
    Reply::Deleted(Ok(()))
}
