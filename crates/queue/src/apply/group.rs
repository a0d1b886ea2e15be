//! How many messages each group of a FIFO queue has in this shard: whether it still lives here.

use std::io;

use flotilla_types::ids::{GroupKey, QueueId};

use crate::apply::{Context, corrupt};
use crate::queue_state::QueueState;
use crate::store::{Read, Write};

/// A message came or went. The rows are written once, at the end of the batch.
pub(crate) fn changed<R: Read, W: Write>(
    ctx: &mut Context<'_, R, W>,
    queue: QueueId,
    state: &QueueState,
    group: Option<GroupKey>,
    by: i64,
) {
    if let Some(group) = group.filter(|_| state.row.fifo) {
        *ctx.groups.entry((queue, group)).or_insert(0) += by;
    }
}

/// Everything of the queue went.
pub(crate) fn cleared<R: Read, W: Write>(ctx: &mut Context<'_, R, W>, queue: QueueId) {
    ctx.groups.retain(|(of, _), _| *of != queue);
    ctx.groups_cleared.insert(queue);
    ctx.write.clear_groups(queue);
}

/// As of this command.
pub(crate) fn messages<R: Read, W: Write>(
    ctx: &Context<'_, R, W>,
    queue: QueueId,
    group: GroupKey,
) -> io::Result<u64> {
    let by = ctx.groups.get(&(queue, group)).copied().unwrap_or(0);
    let stored = stored(ctx, queue, group)?;
    stored.checked_add_signed(by).ok_or_else(|| corrupt("a group with fewer messages than none"))
}

/// Before this batch, or before it cleared the queue.
fn stored<R: Read, W: Write>(
    ctx: &Context<'_, R, W>,
    queue: QueueId,
    group: GroupKey,
) -> io::Result<u64> {
    if ctx.groups_cleared.contains(&queue) {
        return Ok(0);
    }
    Ok(ctx.read.group_messages(queue, group)?.unwrap_or(0))
}

/// Stages what the batch changed.
pub(crate) fn stage<R: Read, W: Write>(ctx: &mut Context<'_, R, W>) -> io::Result<()> {
    for ((queue, group), by) in std::mem::take(&mut ctx.groups) {
        if by == 0 {
            continue;
        }
        let before = stored(ctx, queue, group)?;
        let after = before.checked_add_signed(by);
        match after.ok_or_else(|| corrupt("a group with fewer messages than none"))? {
            0 => ctx.write.remove_group(queue, group),
            after => ctx.write.put_group(queue, group, after),
        }
    }
    Ok(())
}
