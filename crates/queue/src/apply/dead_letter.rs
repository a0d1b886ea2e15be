//! A message that was received too often goes to its dead-letter queue, in the same shard: it is in
//! one of the two at any time, never in both or in neither.

use flotilla_probe::{failpoint, planted, sometimes};
use flotilla_types::ids::{QueueId, Seq};

use crate::apply::{Context, send};
use crate::command::Redrive;
use crate::queue_state::QueueState;
use crate::queues::Queues;
use crate::store::{Message, Moved, Read, Write};

/// A message that left its queue and has not arrived yet.
pub(crate) struct DeadLetter {
    message: Message,
    fifo: bool,
}

/// Whether this queue has handed the message out as often as it may. Receives that it brought along
/// from another queue do not count.
pub(crate) fn is_due(state: &QueueState, seq: Seq, message: &Message, redrive: &Redrive) -> bool {
    let before = message.moved.as_ref().map_or(0, |moved| moved.receives);
    let receives = state.hidden(seq).map_or(0, |row| row.receive_count);
    receives.saturating_sub(before) >= redrive.receives_max
}

/// Takes a message that is due out of its queue. It stays what it was: its identity, its content,
/// its group, when it was sent and how often it was received.
pub(crate) fn leave<R: Read, W: Write>(
    state: &mut QueueState,
    ctx: &mut Context<'_, R, W>,
    queue: QueueId,
    seq: Seq,
    message: Message,
    redrive: &Redrive,
) -> DeadLetter {
    let (receives, first_received_ms) =
        state.hidden(seq).map_or((0, 0), |row| (row.receive_count, row.first_received_ms));
    ctx.remove(queue, state, seq, message.group);
    let source = redrive.source.clone();
    let moved = Some(Moved { source, receives, first_received_ms, at_ms: ctx.now_ms });
    let fifo = state.row.fifo;
    let sent_ms = if planted!(LetterYoung) { ctx.now_ms } else { message.sent_ms };
    DeadLetter { message: Message { sent_ms, delayed: false, moved, ..message }, fifo }
}

/// Puts it at the end of its dead-letter queue, visible at once.
pub(crate) fn arrive<R: Read, W: Write>(
    queues: &mut Queues,
    ctx: &mut Context<'_, R, W>,
    target: QueueId,
    letter: DeadLetter,
) {
    failpoint!(DeadLetter);
    sometimes!(LetterArrived);
    if planted!(LetterLost) && !queues.contains(target) {
        return;
    }
    if planted!(LetterTwice) {
        send::store(queues, ctx, target, letter.fifo, &letter.message, 0);
    }
    send::store(queues, ctx, target, letter.fifo, &letter.message, 0);
}
