//! Receives of a FIFO queue that are repeated under one attempt id, because the first answer was
//! lost: they get the same messages again, with handles that are as good as the first.

use std::io;

use flotilla_probe::sometimes;
use flotilla_types::ids::{DedupKey, QueueId};
use flotilla_types::limits::DEDUP_INTERVAL_MS;

use crate::apply::{Context, corrupt, duplicate, is_expired};
use crate::command::{Attempt, Lease, Receive};
use crate::queue_state::QueueState;
use crate::store::{AttemptRow, Attempted, Hidden, Read, Write};

/// What was handed out under a key, if that is not too long ago.
pub(crate) fn find(
    read: &impl Read,
    queue: QueueId,
    key: DedupKey,
    now_ms: u64,
) -> io::Result<Option<AttemptRow>> {
    let counts = |row: &AttemptRow| now_ms < row.at_ms.saturating_add(DEDUP_INTERVAL_MS);
    for period in duplicate::periods(now_ms) {
        if let Some(row) = read.attempt(queue, period, key)?.filter(counts) {
            return Ok(Some(row));
        }
    }
    Ok(None)
}

/// Whether every message is still out, as that receive handed it out: not deleted, not received
/// again, its visibility not changed, and not past its retention, which may not have been looked at yet.
pub(crate) fn stands(
    state: &QueueState,
    read: &impl Read,
    queue: QueueId,
    row: &AttemptRow,
    now_ms: u64,
    retention_ms: u64,
) -> io::Result<bool> {
    for message in &row.messages {
        let is_out = state.hidden(message.seq).is_some_and(|hidden| {
            (hidden.receive_count, hidden.revision) == (message.receive, message.revision)
                && hidden.visible_at_ms > now_ms
        });
        if !is_out {
            return Ok(false);
        }
        let head = read.messages_from(queue, message.seq, 1)?.first().copied();
        let head = head.filter(|head| head.seq == message.seq);
        let head = head.ok_or_else(|| corrupt("a hidden row without its message"))?;
        if is_expired(state.row.ages_since_ms(head.sent_ms, head.entered_ms), retention_ms, now_ms)
        {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Hands the same messages out again, hidden anew, or as many of them as are asked for now. `None`:
/// this receive repeats nothing.
pub(crate) fn repeat<R: Read, W: Write>(
    state: &mut QueueState,
    ctx: &mut Context<'_, R, W>,
    command: &Receive,
    attempt: Attempt,
) -> io::Result<Option<Vec<Lease>>> {
    let (queue, key) = (command.queue, attempt.key);
    let row = match ctx.attempts.get(&(queue, key)) {
        Some(row) => Some(row.clone()),
        None if ctx.originals_cleared.contains(&queue) => None,
        None => find(ctx.read, queue, key, ctx.now_ms)?,
    };
    let Some(mut row) = row else { return Ok(None) };
    if !stands(state, ctx.read, queue, &row, ctx.now_ms, command.retention_ms)? {
        return Ok(None);
    }
    sometimes!(AttemptRepeated);
    let mut leases = Vec::with_capacity(row.messages.len());
    for message in row.messages.iter_mut().take(attempt.max) {
        let seq = message.seq;
        let stored = ctx.read.message(queue, seq)?;
        let (Some(stored), Some(hidden)) = (stored, state.hidden(seq).copied()) else {
            return Err(corrupt("a hidden row without its message"));
        };
        let visible_at_ms = ctx.now_ms.saturating_add(command.visibility_ms);
        ctx.hide(queue, state, seq, Hidden { visible_at_ms, ..hidden });
        message.revision = state.hidden(seq).map_or(0, |hidden| hidden.revision);
        leases.push(Lease {
            seq,
            receive_count: hidden.receive_count,
            first_received_ms: hidden.first_received_ms,
            sent_ms: stored.sent_ms,
            message_id: stored.message_id,
            group: stored.group,
            moved_from: stored.moved.map(|moved| moved.source),
            content: stored.content,
        });
    }
    put(state, ctx, queue, key, row);
    Ok(Some(leases))
}

/// Notes what was handed out under a key.
pub(crate) fn remember<R: Read, W: Write>(
    state: &mut QueueState,
    ctx: &mut Context<'_, R, W>,
    queue: QueueId,
    key: DedupKey,
    leases: &[Lease],
) {
    let attempted = |lease: &Lease| Attempted {
        seq: lease.seq,
        receive: lease.receive_count,
        revision: state.hidden(lease.seq).map_or(0, |hidden| hidden.revision),
    };
    let messages = leases.iter().map(attempted).collect();
    let row = AttemptRow { at_ms: ctx.now_ms, messages };
    put(state, ctx, queue, key, row);
}

fn put<R: Read, W: Write>(
    state: &mut QueueState,
    ctx: &mut Context<'_, R, W>,
    queue: QueueId,
    key: DedupKey,
    row: AttemptRow,
) {
    let period = duplicate::open_period(state, ctx, queue);
    ctx.write.put_attempt(queue, period, key, &row);
    ctx.attempts.insert((queue, key), row);
}
