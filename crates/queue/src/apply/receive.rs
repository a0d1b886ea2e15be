//! Receive: hands out those of the leader's candidates that can be handed out.

use std::io;

use flotilla_probe::{planted, sometimes};
use flotilla_types::ids::{QueueId, Seq};

use crate::apply::{Context, attempt, corrupt, dead_letter, is_expired};
use crate::command::{Attempt, Lease, Receive, Reply};
use crate::queue_state::QueueState;
use crate::queues::Queues;
use crate::store::{Hidden, Message, Read, Write};

pub(crate) fn apply<R: Read, W: Write>(
    queues: &mut Queues,
    ctx: &mut Context<'_, R, W>,
    command: &Receive,
) -> io::Result<Reply> {
    let queue = command.queue;
    let Some(state) = queues.get_mut(queue) else {
        return Ok(Reply::Received(Vec::new()));
    };
    state.promote(ctx.now_ms);
    let attempt = command.attempt.filter(|_| state.row.fifo);
    if let Some(attempt) = attempt
        && let Some(leases) = attempt::repeat(state, ctx, command, attempt)?
    {
        return Ok(Reply::Received(leases));
    }
    let mut leases = Vec::with_capacity(command.candidates.len());
    let mut dead_letters = Vec::new();
    let mut room = command.bytes_max;
    for &seq in &command.candidates {
        let Some(message) = receivable(state, ctx, queue, seq)? else {
            sometimes!(CandidateGone);
            continue;
        };
        if state.row.fifo && waits(state, ctx.now_ms, seq, &message, &leases) {
            sometimes!(GroupHeldAtApply);
            continue;
        }
        let since_ms = state.row.ages_since_ms(message.sent_ms, message.entered_ms());
        let expired = is_expired(since_ms, command.retention_ms, ctx.now_ms);
        if expired && !planted!(ExpiredHandedOut) {
            ctx.remove(queue, state, seq, message.group);
            continue;
        }
        let redrive = command.redrive.as_ref();
        if let Some(redrive) = redrive.filter(|it| dead_letter::is_due(state, seq, &message, it)) {
            dead_letters.push((
                redrive.target,
                dead_letter::leave(state, ctx, queue, seq, message, redrive),
            ));
        } else {
            let Some(rest) = room.checked_sub(message.content.len() as u64) else { break };
            room = rest;
            leases.push(lease(state, ctx, command, seq, message));
        }
    }
    if let Some(Attempt { key, .. }) = attempt.filter(|_| !leases.is_empty()) {
        attempt::remember(state, ctx, queue, key, &leases);
    }
    // Capped, because the leader cannot know of messages of this very batch.
    let fresh_from = command.fresh_from.min(ctx.first_seq);
    if fresh_from > state.row.fresh_from {
        state.row.fresh_from = fresh_from;
        ctx.row_changed(queue, state);
    }
    // Last: a queue may be its own dead-letter queue.
    for (target, letter) in dead_letters {
        dead_letter::arrive(queues, ctx, target, letter);
    }
    Ok(Reply::Received(leases))
}

/// The message, if it is there and visible. A candidate is only the leader's opinion.
pub(crate) fn receivable<R: Read, W: Write>(
    state: &QueueState,
    ctx: &Context<'_, R, W>,
    queue: QueueId,
    seq: Seq,
) -> io::Result<Option<Message>> {
    let gone = seq < state.row.purged_below || ctx.removed.contains(&seq);
    if gone || seq >= ctx.first_seq || ctx.handed_out.contains(&seq) {
        return Ok(None);
    }
    let hidden = state.hidden(seq);
    if hidden.is_some_and(|row| row.visible_at_ms > ctx.now_ms) {
        return Ok(None);
    }
    let message = ctx.read.message(queue, seq)?;
    match (&message, hidden) {
        (None, Some(_)) => Err(corrupt("a hidden row without its message")),
        (Some(message), None) if message.delayed => {
            Err(corrupt("a delayed message without its hidden row"))
        }
        _ => Ok(message),
    }
}

/// Whether a message of a FIFO queue must wait for an earlier one of its group: one that is hidden
/// and was not handed out by this very receive. (Those that are visible and stay behind are the
/// leader's business: it offers each group in order.)
pub(crate) fn waits(
    state: &QueueState,
    now_ms: u64,
    seq: Seq,
    message: &Message,
    mine: &[Lease],
) -> bool {
    let Some(group) = message.group.filter(|_| !planted!(GroupNotLocked)) else { return false };
    state.hidden_of(group).take_while(|(earlier, _)| *earlier < seq).any(|(earlier, row)| {
        row.visible_at_ms > now_ms && mine.iter().all(|lease| lease.seq != earlier)
    })
}

fn lease<R: Read, W: Write>(
    state: &mut QueueState,
    ctx: &mut Context<'_, R, W>,
    command: &Receive,
    seq: Seq,
    message: Message,
) -> Lease {
    let now_ms = ctx.now_ms;
    let here = state.hidden(seq).filter(|row| row.receive_count > 0);
    let here = here.map(|row| (row.receive_count, row.first_received_ms));
    let elsewhere = message.moved.as_ref().map(|it| (it.receives, it.first_received_ms));
    let (count, first_received_ms) = here.or(elsewhere).unwrap_or((0, now_ms));
    let row = Hidden {
        revision: 0,
        visible_at_ms: now_ms.saturating_add(command.visibility_ms),
        receive_count: count.saturating_add(1),
        first_received_ms,
        received_ms: now_ms,
        group: message.group,
    };
    ctx.hide(command.queue, state, seq, row);
    ctx.handed_out.insert(seq);
    Lease {
        seq,
        receive_count: row.receive_count,
        first_received_ms,
        sent_ms: message.sent_ms,
        message_id: message.message_id,
        group: message.group,
        moved_from: message.moved.map(|moved| moved.source),
        content: message.content,
    }
}
