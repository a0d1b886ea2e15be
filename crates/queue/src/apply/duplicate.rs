//! Deduplication in FIFO queues: which message a key stands for.
//!
//! Rows are kept per period of the shard's clock. A key counts for one interval, which is as long as
//! a period, so it is in the present period or the one before, and older periods go at once.

use std::io;

use flotilla_types::ids::{DedupKey, QueueId};
use flotilla_types::limits::DEDUP_INTERVAL_MS;

use crate::apply::Context;
use crate::command::Send;
use crate::queue_state::QueueState;
use crate::queues::Queues;
use crate::store::{OriginalRow, Read, Write};

fn period(now_ms: u64) -> u64 {
    now_ms / DEDUP_INTERVAL_MS
}

/// Those that may hold what counts now, the present one first.
pub(crate) fn periods(now_ms: u64) -> impl Iterator<Item = u64> {
    let now = period(now_ms);
    [Some(now), now.checked_sub(1)].into_iter().flatten()
}

/// The message that counts under a key now, if there is one.
pub(crate) fn find<R: Read, W: Write>(
    queues: &Queues,
    ctx: &Context<'_, R, W>,
    queue: QueueId,
    key: DedupKey,
) -> io::Result<Option<OriginalRow>> {
    let counts = |row: &OriginalRow| ctx.now_ms < row.sent_ms.saturating_add(DEDUP_INTERVAL_MS);
    if let Some(row) = ctx.originals.get(&(queue, key)) {
        return Ok(Some(*row));
    }
    if ctx.originals_cleared.contains(&queue) {
        return Ok(None);
    }
    // In other periods the queue has none.
    let stored = queues.get(queue).and_then(|state| state.row.originals);
    let is_stored =
        |period: &u64| stored.is_some_and(|(first, last)| (first..=last).contains(period));
    for period in periods(ctx.now_ms).filter(is_stored) {
        if let Some(row) = ctx.read.original(queue, period, key)?.filter(counts) {
            return Ok(Some(row));
        }
    }
    Ok(None)
}

/// The message that a send repeats, and by which of its keys: the one of now or the one of before a change.
pub(crate) fn original<R: Read, W: Write>(
    queues: &Queues,
    ctx: &Context<'_, R, W>,
    send: &Send,
) -> io::Result<Option<(DedupKey, OriginalRow)>> {
    for key in send.dedup.into_iter().chain(send.placing.dedup_before) {
        if let Some(row) = find(queues, ctx, send.queue, key)? {
            return Ok(Some((key, row)));
        }
    }
    Ok(None)
}

/// Lets a key stand for a message from now on.
pub(crate) fn remember<R: Read, W: Write>(
    state: &mut QueueState,
    ctx: &mut Context<'_, R, W>,
    queue: QueueId,
    key: DedupKey,
    row: OriginalRow,
) {
    let now = open_period(state, ctx, queue);
    ctx.write.put_original(queue, now, key, &row);
    ctx.originals.insert((queue, key), row);
}

/// The present period, of which something will be stored.
pub(crate) fn open_period<R: Read, W: Write>(
    state: &mut QueueState,
    ctx: &mut Context<'_, R, W>,
    queue: QueueId,
) -> u64 {
    forget_old(state, ctx, queue);
    let now = period(ctx.now_ms);
    let first = state.row.originals.map_or(now, |(first, _)| first);
    if state.row.originals != Some((first, now)) {
        state.row.originals = Some((first, now));
        ctx.row_changed(queue, state);
    }
    now
}

/// Whether [`forget_old`] would find something.
pub(crate) fn is_due(originals: Option<(u64, u64)>, now_ms: u64) -> bool {
    originals.is_some_and(|(first, _)| first + 1 < period(now_ms))
}

/// Removes the periods of which no key counts any more.
pub(crate) fn forget_old<R: Read, W: Write>(
    state: &mut QueueState,
    ctx: &mut Context<'_, R, W>,
    queue: QueueId,
) {
    let Some((_, last)) = state.row.originals.filter(|_| is_due(state.row.originals, ctx.now_ms))
    else {
        return;
    };
    let keep = period(ctx.now_ms).saturating_sub(1);
    ctx.write.clear_originals(queue, keep);
    state.row.originals = (last >= keep).then_some((keep, last));
    ctx.row_changed(queue, state);
}

/// Removes all of them.
pub(crate) fn forget_all<R: Read, W: Write>(
    state: &mut QueueState,
    ctx: &mut Context<'_, R, W>,
    queue: QueueId,
) {
    if let Some((_, last)) = state.row.originals.take() {
        ctx.write.clear_originals(queue, last + 1);
        ctx.originals_cleared.insert(queue);
        ctx.originals.retain(|(of, _), _| *of != queue);
        ctx.attempts.retain(|(of, _), _| *of != queue);
    }
}
