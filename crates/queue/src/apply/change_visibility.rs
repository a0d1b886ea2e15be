//! ChangeVisibility: another end for a lease.

use flotilla_types::limits::VISIBILITY_SECONDS_MAX;

use crate::apply::{Context, Queues};
use crate::command::{ChangeVisibility, VisibilityError};
use crate::store::{Hidden, Read, Write};

const VISIBILITY_MS_MAX: u64 = VISIBILITY_SECONDS_MAX as u64 * 1_000;

/// Acts with a handle of any receive, and also when the lease had ended: the message is hidden
/// again. In a FIFO queue it must be the receive that still holds the message. The whole time is counted from the latest receive.
pub(crate) fn apply<R: Read, W: Write>(
    queues: &mut Queues,
    ctx: &mut Context<'_, R, W>,
    command: &ChangeVisibility,
) -> Result<(), VisibilityError> {
    let state = queues.get_mut(&command.queue).ok_or(VisibilityError::NotInFlight)?;
    state.promote(ctx.now_ms);
    let row = *state
        .hidden(command.seq)
        .filter(|row| row.issued(command.receive))
        .filter(|row| !state.row.fifo || row.holds(command.receive, ctx.now_ms))
        .ok_or(VisibilityError::NotInFlight)?;
    let visible_at_ms = ctx.now_ms.saturating_add(command.visibility_ms);
    if row.received_ms.saturating_add(VISIBILITY_MS_MAX) < visible_at_ms {
        return Err(VisibilityError::BeyondLimit);
    }
    ctx.hide(command.queue, state, command.seq, Hidden { visible_at_ms, ..row });
    Ok(())
}
