//! ChangeVisibility: another end for a lease.

use flotilla_probe::planted;
use flotilla_types::limits::VISIBILITY_SECONDS_MAX;

use crate::apply::Context;
use crate::command::{ChangeVisibility, Reply, VisibilityError};
use crate::queues::Queues;
use crate::store::{Hidden, Read, Write};

const VISIBILITY_MS_MAX: u64 = VISIBILITY_SECONDS_MAX as u64 * 1_000;

/// What the first application of a change answered, as far as the state tells: while the message is
/// hidden under the handle's receive, that went well, and so it did if the end of the lease was
/// asked for and is there. All else can have come later.
pub(crate) fn repeated(queues: &Queues, now_ms: u64, command: &ChangeVisibility) -> Reply {
    let row = queues.get(command.queue).and_then(|state| state.hidden(command.seq));
    let row = row.filter(|row| row.receive_count == command.receive);
    let within = |received_ms: u64| {
        now_ms.saturating_add(command.visibility_ms)
            <= received_ms.saturating_add(VISIBILITY_MS_MAX)
    };
    match row {
        Some(row) if within(row.received_ms) && row.visible_at_ms > now_ms => {
            Reply::VisibilityChanged(Ok(()))
        }
        Some(_) if command.visibility_ms == 0 => Reply::VisibilityChanged(Ok(())),
        _ => Reply::Forgotten,
    }
}

/// Acts with a handle of any receive, and also when the lease had ended: the message is hidden
/// again. In a FIFO queue it must be the receive that still holds the message. The whole time is counted from the latest receive.
pub(crate) fn apply<R: Read, W: Write>(
    queues: &mut Queues,
    ctx: &mut Context<'_, R, W>,
    command: &ChangeVisibility,
) -> Result<(), VisibilityError> {
    let state = queues.get_mut(command.queue).ok_or(VisibilityError::NotInFlight)?;
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
    if planted!(ChangeIgnored) && visible_at_ms > row.visible_at_ms {
        return Ok(());
    }
    ctx.hide(command.queue, state, command.seq, Hidden { visible_at_ms, ..row });
    Ok(())
}
