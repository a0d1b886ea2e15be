//! Fence: earlier decisions about where the groups of a queue live do not count any more.

use std::io;

use flotilla_probe::{planted, sometimes};
use flotilla_types::ids::{GroupKey, QueueId};

use crate::apply::{Context, group};
use crate::command::{Elsewhere, Placing};
use crate::queue_state::QueueState;
use crate::queues::Queues;
use crate::store::{Read, Write};

/// A queue that this shard does not know starts here: it has to remember the epoch.
pub(crate) fn apply<R: Read, W: Write>(
    queues: &mut Queues,
    ctx: &mut Context<'_, R, W>,
    queue: QueueId,
    epoch: u64,
) {
    let next_seq = ctx.next_seq;
    let state = queues.get_or_insert_with(queue, || QueueState::new(next_seq, true));
    if epoch > state.row.epoch {
        state.row.epoch = epoch;
        ctx.row_changed(queue, state);
    }
}

/// Whether a message of a FIFO queue has its place in this shard; if so, the next place is one for
/// it. A later epoch than any before is remembered, so that what is answered here stays true.
pub(crate) fn admit<R: Read, W: Write>(
    queues: &mut Queues,
    ctx: &mut Context<'_, R, W>,
    queue: QueueId,
    group: Option<GroupKey>,
    placing: &Placing,
) -> io::Result<Result<(), Elsewhere>> {
    let known = queues.get(queue).map_or(0, |state| state.row.epoch);
    if placing.epoch < known {
        sometimes!(StalePlacing);
        return Ok(Err(Elsewhere::Stale));
    }
    if placing.epoch > known {
        apply(queues, ctx, queue, placing.epoch);
    }
    let present = match group.filter(|_| placing.only_if_present) {
        Some(group) => group::messages(ctx, queue, group)? > 0,
        None => true,
    };
    if !present {
        return Ok(Err(Elsewhere::Absent { below: ctx.next_seq }));
    }
    if !planted!(FloorForgotten) {
        ctx.next_seq = ctx.next_seq.max(placing.floor);
    }
    Ok(Ok(()))
}
