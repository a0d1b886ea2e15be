//! The machine: replicated state in memory, and how each command changes it.

use std::collections::{BTreeMap, HashMap};
use std::io;

use flotilla_probe::{planted, sometimes};
use flotilla_types::ids::{DedupKey, GroupKey, QueueId, Seq};

use crate::apply::{self, Context};
use crate::command::{Accepted, Batch, Command, Elsewhere, Identified, Reply};
use crate::dedup::{Admission, Dedup};
use crate::effect::Effect;
use crate::hash::IdSet;
use crate::queue_state::{QueueCounts, QueueState};
use crate::queues::Queues;
use crate::store::{Hidden, MessageHead, OriginalRow, QueueRow, Read, ShardRow, Write};
use crate::tenants::{Shares, TenantShare};

/// Receives from which on a message is not the one that the age of a backlog is taken from.
const POISON_RECEIVES: u32 = 3;
/// Reads that pass over these at most, with everybody waiting: then the next one is taken whatever it is.
const POISON_READS_MAX: u32 = 4;
/// Heads of one of these reads; fewer if the messages are large.
const POISON_READ: usize = 64;
/// Heads that one read of [`Machine::oldest`] asks for.
const OLDEST_READ: usize = 1;

/// One shard's state. The store that is handed to each method must be this shard's, and must show
/// every batch applied before: commit what [`Machine::apply`] staged before the next call of
/// anything that reads.
#[derive(Debug, PartialEq)]
pub struct Machine {
    shard: ShardRow,
    queues: Queues,
    dedup: Dedup,
    /// Of all queues.
    messages: u64,
}

/// A queue of which messages are or were lately hidden.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BusyQueue {
    /// Which.
    pub queue: QueueId,
    /// What it has.
    pub counts: QueueCounts,
    /// Messages of tenants of a standard queue are in flight or were lately.
    pub is_shared: bool,
}

impl Machine {
    /// The state as the store has it: equal to that of the machine which wrote it.
    ///
    /// # Errors
    /// When the store fails.
    pub fn load(store: &impl Read) -> io::Result<Machine> {
        let mut shard = store.shard_row()?.unwrap_or_default();
        if planted!(PlacesRestart) {
            shard.next_seq = Seq(0);
        }
        let (mut queues, mut messages) = (Queues::default(), 0);
        for (queue, row) in store.queue_rows()? {
            messages += row.messages;
            let hidden = store.hidden_rows(queue)?;
            queues.load(queue, QueueState::load(row, hidden, shard.clock_ms));
        }
        Ok(Machine { shard, queues, dedup: Dedup::load(store)?, messages })
    }

    /// Applies one Raft entry: one reply per command, rows staged in `write`, and what a leader
    /// must know appended to `effects`. Messages that the batch itself sends can be received and
    /// expired from the next batch on.
    ///
    /// # Errors
    /// When the store fails or contradicts itself. The machine is then unusable and nothing of the
    /// batch may be committed.
    pub fn apply(
        &mut self,
        batch: &Batch,
        read: &impl Read,
        write: &mut impl Write,
        effects: &mut Vec<Effect>,
    ) -> io::Result<Vec<Reply>> {
        let before = self.shard;
        let mut ctx = Context {
            now_ms: match planted!(ClockGoesBack) {
                true => batch.now_ms,
                false => before.clock_ms.max(batch.now_ms),
            },
            next_seq: before.next_seq,
            first_seq: before.next_seq,
            read,
            write,
            effects,
            originals: HashMap::new(),
            attempts: HashMap::new(),
            originals_cleared: IdSet::default(),
            groups: BTreeMap::new(),
            groups_cleared: IdSet::default(),
            removed: IdSet::default(),
            handed_out: IdSet::default(),
            changed: Vec::new(),
            busy: Vec::new(),
            messages: 0,
        };
        let mut replies = Vec::with_capacity(batch.commands.len());
        for command in &batch.commands {
            replies.push(self.apply_identified(&mut ctx, command)?);
        }
        apply::group::stage(&mut ctx)?;
        self.shard = ShardRow { clock_ms: ctx.now_ms, next_seq: ctx.next_seq };
        let Context { changed, busy, messages, write, .. } = ctx;
        self.messages = self.messages.saturating_add_signed(messages);
        self.queues.note_busy(busy.into_iter());
        for queue in changed {
            if let Some(state) = self.queues.get_mut(queue).filter(|state| state.dirty) {
                write.put_queue(queue, &state.row);
                (state.dirty, state.stored) = (false, true);
            }
        }
        self.dedup.stage(write);
        if self.shard != before {
            write.put_shard(&self.shard);
        }
        Ok(replies)
    }

    /// The largest stamp applied.
    pub fn clock_ms(&self) -> u64 {
        self.shard.clock_ms
    }

    /// Place of the next message.
    pub fn next_seq(&self) -> Seq {
        self.shard.next_seq
    }

    /// Counts as of `now_ms` or of the shard's clock, whichever is later; all 0 for a queue that
    /// the shard does not know. Costs as much as messages became visible since the queue's last
    /// command.
    pub fn counts(&self, queue: QueueId, now_ms: u64) -> QueueCounts {
        let now_ms = now_ms.max(self.shard.clock_ms);
        self.queues.get(queue).map(|state| state.counts(now_ms)).unwrap_or_default()
    }

    /// The queues that the shard knows, in no particular order.
    pub fn queues(&self) -> impl Iterator<Item = (QueueId, &QueueRow)> {
        self.queues.iter().map(|(queue, state)| (queue, &state.row))
    }

    /// Up to `limit` queues that the shard knows, after one, in order.
    pub fn queues_after(&self, after: Option<QueueId>, limit: usize) -> Vec<QueueId> {
        self.queues.after(after).take(limit).collect()
    }

    /// The queues of which messages are in flight or delayed, or tenants' were lately, after one, in order.
    /// Looks at `limit` queues at most; also returns after which to look on, if there may be more.
    pub fn busy_after(
        &mut self,
        after: Option<QueueId>,
        limit: usize,
        now_ms: u64,
    ) -> (Vec<BusyQueue>, Option<QueueId>) {
        let now_ms = now_ms.max(self.shard.clock_ms);
        let (busy, resume) = self.queues.busy_after(after, limit, now_ms);
        let busy = busy.into_iter().map(|(queue, state)| BusyQueue {
            queue,
            counts: state.counts(now_ms),
            is_shared: state.is_shared(now_ms),
        });
        (busy.collect(), resume)
    }

    /// Messages stored and not removed, of all queues.
    pub fn messages(&self) -> u64 {
        self.messages
    }

    /// The messages of a queue that wait for the end of their delay, in no particular order.
    pub fn delayed(&self, queue: QueueId, now_ms: u64) -> Vec<Seq> {
        let now_ms = now_ms.max(self.shard.clock_ms);
        let hidden = self.queues.get(queue).into_iter().flat_map(QueueState::all_hidden);
        hidden.filter(|(_, row)| row.is_delayed(now_ms)).map(|(seq, _)| seq).collect()
    }

    /// How many groups of a FIFO queue have messages in flight.
    pub fn groups_in_flight(&self, queue: QueueId, now_ms: u64) -> u64 {
        let now_ms = now_ms.max(self.shard.clock_ms);
        self.queues.get(queue).map_or(0, |state| state.groups_in_flight(now_ms))
    }

    /// What tenants use of a standard queue, naming those with more than a `part`-th; `None` when
    /// it has none. Looks at every tenant.
    pub fn shares(&self, queue: QueueId, part: u64, now_ms: u64) -> Option<Shares> {
        let now_ms = now_ms.max(self.shard.clock_ms);
        self.queues.get(queue)?.tenants()?.shares(part, now_ms)
    }

    /// One tenant's part of a standard queue.
    pub fn share(&self, queue: QueueId, group: GroupKey, now_ms: u64) -> TenantShare {
        let now_ms = now_ms.max(self.shard.clock_ms);
        let none = TenantShare { group, in_flight: 0, busy_ms: 0 };
        let tenants = self.queues.get(queue).and_then(QueueState::tenants);
        tenants.map_or(none, |tenants| tenants.share(group, now_ms))
    }

    /// The messages of a FIFO queue that a receive under this attempt key handed out and that are
    /// still out as it left them. Not between an apply and its commit.
    ///
    /// # Errors
    /// When the store fails.
    pub fn attempted(
        &self,
        queue: QueueId,
        key: DedupKey,
        retention_ms: u64,
        now_ms: u64,
        read: &impl Read,
    ) -> io::Result<Option<Vec<Seq>>> {
        let now_ms = now_ms.max(self.shard.clock_ms);
        let Some(state) = self.queues.get(queue).filter(|state| state.row.fifo) else {
            return Ok(None);
        };
        let Some(row) = apply::attempt::find(read, queue, key, now_ms)? else { return Ok(None) };
        let stands = apply::attempt::stands(state, read, queue, &row, now_ms, retention_ms)?;
        Ok(stands.then(|| row.messages.iter().map(|message| message.seq).collect()))
    }

    /// One queue's row; `None` when the shard does not know the queue.
    pub fn queue(&self, queue: QueueId) -> Option<&QueueRow> {
        self.queues.get(queue).map(|state| &state.row)
    }

    /// The row of a message that was delayed or received.
    pub fn hidden(&self, queue: QueueId, seq: Seq) -> Option<&Hidden> {
        self.queues.get(queue)?.hidden(seq)
    }

    /// The first end of a delay or lease of this queue after `after_ms` (and after the shard's
    /// clock): when an alarm for it is due.
    pub fn next_visible_at_ms(&self, queue: QueueId, after_ms: u64) -> Option<u64> {
        self.queues.get(queue)?.next_visible_at_ms(after_ms.max(self.shard.clock_ms))
    }

    /// Whether an Expire would find something (a message or deduplication keys), as far as that is
    /// known without a search. Not between an apply and its commit.
    ///
    /// # Errors
    /// When the store fails.
    pub fn may_expire(
        &mut self,
        queue: QueueId,
        retention_ms: u64,
        now_ms: u64,
        read: &impl Read,
    ) -> io::Result<bool> {
        let Some(row) = self.queue(queue).copied() else { return Ok(false) };
        if apply::duplicate::is_due(row.originals, now_ms) {
            return Ok(true);
        }
        if row.mixed_ages {
            let ages = self.queues.get(queue).map(|state| &state.ages);
            let may_be_past = ages.is_some_and(|ages| ages.may_be_past(retention_ms, now_ms));
            return Ok(row.messages > 0 && may_be_past);
        }
        let oldest = self.oldest(queue, read)?;
        Ok(oldest.is_some_and(|head| {
            let since_ms = row.ages_since_ms(head.sent_ms, head.entered_ms);
            apply::is_expired(since_ms, retention_ms, now_ms)
        }))
    }

    /// The message that tells how old the backlog is: the oldest one, but in a standard queue not one that
    /// consumers got again and again and could not do anything with, as CloudWatch's
    /// `ApproximateAgeOfOldestMessage` has it. One that came from another queue counts, however often it was
    /// received there. Not between an apply and its commit.
    ///
    /// # Errors
    /// When the store fails.
    pub fn oldest_of_backlog(
        &mut self,
        queue: QueueId,
        read: &impl Read,
    ) -> io::Result<Option<MessageHead>> {
        let Some(mut head) = self.oldest(queue, read)? else { return Ok(None) };
        let Some(state) = self.queues.get(queue).filter(|state| !state.row.fifo) else {
            return Ok(Some(head));
        };
        let is_poison = |head: &MessageHead| {
            let hidden = state.hidden(head.seq);
            let often = hidden.is_some_and(|row| row.receive_count >= POISON_RECEIVES);
            often && head.sent_ms == head.entered_ms
        };
        let mut reads = 0;
        while is_poison(&head) && reads < POISON_READS_MAX {
            reads += 1;
            let heads = read.messages_from(queue, head.seq.next(), POISON_READ)?;
            let Some(last) = heads.last() else { return Ok(None) };
            head = heads.iter().find(|head| !is_poison(head)).copied().unwrap_or(*last);
        }
        Ok(Some(head))
    }

    /// The message that has been in a queue for longest. Not between an apply and its commit.
    ///
    /// # Errors
    /// When the store fails.
    pub fn oldest(&mut self, queue: QueueId, read: &impl Read) -> io::Result<Option<MessageHead>> {
        let Some(state) = self.queues.get_mut(queue).filter(|state| state.row.messages > 0) else {
            return Ok(None);
        };
        let from = state.floor.max(state.row.purged_below);
        let oldest = read.messages_from(queue, from, OLDEST_READ)?.first().copied();
        if let Some(head) = oldest {
            state.floor = head.seq;
        }
        Ok(oldest)
    }

    pub(crate) fn state(&self, queue: QueueId) -> Option<&QueueState> {
        self.queues.get(queue)
    }

    fn apply_identified<R: Read, W: Write>(
        &mut self,
        ctx: &mut Context<'_, R, W>,
        command: &Identified,
    ) -> io::Result<Reply> {
        if let Some(id) = command.id {
            match self.dedup.admit(id, ctx.now_ms) {
                Admission::New => {}
                Admission::Seen => {
                    sometimes!(CommandRepeated);
                    return reply_to_repeat(&self.queues, ctx, &command.command);
                }
                Admission::Forgotten => return Ok(Reply::Forgotten),
            }
        }
        let queues = &mut self.queues;
        Ok(match &command.command {
            Command::Send(send) => apply::send::apply(queues, ctx, send)?,
            Command::Receive(receive) => apply::receive::apply(queues, ctx, receive)?,
            Command::Move(command) => apply::move_messages::apply(queues, ctx, command)?,
            Command::Delete(delete) => apply::delete::apply(queues, ctx, delete),
            Command::ChangeVisibility(change) => {
                Reply::VisibilityChanged(apply::change_visibility::apply(queues, ctx, change))
            }
            Command::Purge { queue } => apply::purge::apply(queues, ctx, *queue),
            Command::DropQueue { queue } => apply::drop_queue::apply(queues, ctx, *queue),
            Command::Expire { queue, retention_ms, from } => {
                apply::expire::apply(queues, ctx, *queue, *retention_ms, *from)?
            }
            Command::Redelay(redelay) => {
                apply::redelay::apply(queues, ctx, redelay)?;
                Reply::Passed
            }
            Command::Fence { queue, epoch } => {
                apply::fence::apply(queues, ctx, *queue, *epoch);
                Reply::Passed
            }
            Command::Barrier => Reply::Passed,
        })
    }
}

/// What the first application answered is not remembered; this is what the client may conclude.
fn reply_to_repeat<R: Read, W: Write>(
    queues: &Queues,
    ctx: &Context<'_, R, W>,
    command: &Command,
) -> io::Result<Reply> {
    Ok(match command {
        Command::Send(send) if send.dedup.is_some() => {
            let known = queues.get(send.queue).map_or(0, |state| state.row.epoch);
            let may_be_refused = send.placing.only_if_present || send.placing.epoch < known;
            match apply::duplicate::original(queues, ctx, send)? {
                Some((_, OriginalRow { seq, message_id, .. })) => {
                    Reply::Sent(Some(Accepted { seq, message_id }))
                }
                // Commands are repeated within seconds: it was not stored, unless it was purged.
                None if may_be_refused => Reply::Elsewhere(Elsewhere::Stale),
                // It was stored, and has been purged.
                None => Reply::Forgotten,
            }
        }
        Command::Send(_) => Reply::Sent(None),
        Command::Receive(_) => Reply::Received(Vec::new()),
        Command::Move(_) => Reply::Moved(0),
        Command::Delete(delete) => apply::delete::repeated(queues, delete),
        Command::ChangeVisibility(change) => {
            apply::change_visibility::repeated(queues, ctx.now_ms, change)
        }
        Command::Purge { .. } | Command::DropQueue { .. } => Reply::Purged(0),
        Command::Expire { .. } => Reply::Expired { removed: 0, resume: None },
        Command::Redelay(_) | Command::Fence { .. } | Command::Barrier => Reply::Passed,
    })
}
