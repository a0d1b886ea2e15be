//! A few messages of one shard on their way.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use flotilla_consensus::shard::{MoveOutcome, MoveSpec, MoveTarget, Place, ReceiveSpec};
use flotilla_probe::failpoint;
use flotilla_queue::command::Lease;
use flotilla_transport::Lane;
use flotilla_types::ids::{DedupKey, GroupId, MessageId, NodeId, QueueId, Seq};
use flotilla_types::limits::{BATCH_ENTRIES_MAX, CONTENT_BYTES_MAX, MOVE_MESSAGES_MAX};
use flotilla_types::names::QueueName;
use flotilla_wire::DecodeError;
use flotilla_wire::proto::cluster as pb;
use flotilla_wire::proto::cluster::MoveAnswer;
use prost::Message as _;
use tokio::time::timeout;

use crate::api::{
    Cluster as _, DedupKeys, MoveFailure, Outgoing, Placement, Queue, QueueError, Receipt,
};
use crate::catalog::tasks::Task;
use crate::fifo::Home;
use crate::forward::method;
use crate::node::Node;
use crate::polling::claim::{claim_at, claim_here, still_leads};
use crate::router::{CALL_TIMEOUT, Router};

/// A message that came just before the task was started may have a later time than the start: its shard's clock
/// and the catalog's may differ by so much (`clocks` in the consensus crate). One that came just after it is moved,
/// too.
const CLOCKS_DIFFER: Duration = Duration::from_millis(200);
/// How long a message of a FIFO queue is hidden while it is moved.
pub(super) const HIDDEN: Duration = Duration::from_secs(60);

/// What one step of a task came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// So many messages; there may be more.
    Moved(u64),
    /// No shard has any more.
    Done,
    /// No more than what is being handed out to others at this moment.
    Held,
    /// And so many messages were moved in this step.
    Failed(MoveFailure, u64),
    /// Some shard could not be asked; try again.
    Trouble,
}

/// A step, and whether a message may be hidden now that was not moved, or not all the way.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Progress {
    pub(super) step: Step,
    pub(super) in_doubt: bool,
}

/// What a step may do.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// With which shard to begin.
    pub(super) turn: usize,
    /// How many messages may be moved.
    pub(super) allowed: usize,
    /// How many of those that go to other shards.
    pub(super) to_move: u64,
    /// In which term of the catalog the task is this node's.
    pub(super) term: u64,
}

/// Moves some messages.
pub(super) async fn step(
    node: &Node,
    task: &Task,
    limits: Limits,
    known: &mut HashMap<Bytes, QueueId>,
) -> Progress {
    let Some(source) = node.catalog.queue_by_id(task.source) else {
        return Progress { step: Step::Done, in_doubt: false };
    };
    // The permission may have been withdrawn since they were looked up.
    known.retain(|name, _| {
        queue_name(name).is_some_and(|name| source.attributes.allows_source_named(&name))
    });
    let rest = Rest::default();
    let mut work = Work { node, task, source: &source, known, limits, in_doubt: false, rest };
    let step = work.step().await;
    Progress { step, in_doubt: work.in_doubt }
}

enum Stop {
    Trouble,
    Failed(MoveFailure, u64),
}

/// What the commands of one shard came to.
#[derive(Default)]
struct Inside {
    moved: u64,
    /// FIFO queues: something stayed because its group lives in another shard there.
    elsewhere: bool,
}

/// Why finding nothing to move does not mean that there is nothing.
#[derive(Clone, Copy, Debug, Default)]
struct Rest {
    /// What was looked at is not what will be looked at next.
    left: bool,
    /// Others have it for now.
    held: bool,
}

struct Work<'a> {
    node: &'a Node,
    task: &'a Task,
    source: &'a Arc<Queue>,
    /// Where messages came from, by name.
    known: &'a mut HashMap<Bytes, QueueId>,
    limits: Limits,
    /// See [`Progress`].
    in_doubt: bool,
    rest: Rest,
}

impl Work<'_> {
    async fn step(&mut self) -> Step {
        let Limits { turn, allowed, to_move, .. } = self.limits;
        let groups = self.node.router.groups();
        let is_fifo = self.source.attributes.fifo.is_some();
        let (mut moved, mut trouble) = (0, false);
        for at in 0..groups.len() {
            let shard = groups[(turn + at) % groups.len()];
            let left = allowed - moved as usize;
            let outcome = if is_fifo {
                let to_move = to_move.saturating_sub(moved);
                self.in_order(shard, left, to_move as usize).await
            } else {
                self.inside(shard, left).await.map(|inside| inside.moved)
            };
            match outcome {
                Ok(count) => moved += count,
                Err(Stop::Trouble) => trouble = true,
                Err(Stop::Failed(failure, count)) => return Step::Failed(failure, moved + count),
            }
            if moved as usize >= allowed {
                break;
            }
        }
        match (moved, self.rest) {
            (1.., _) => Step::Moved(moved),
            (0, Rest { left, .. }) if left || trouble => Step::Trouble,
            (0, Rest { held, .. }) if held => Step::Held,
            (0, _) => Step::Done,
        }
    }

    /// The queue of a name that messages carry.
    async fn resolve(&self, name: Option<Bytes>, moved: u64) -> Result<Arc<Queue>, Stop> {
        let name = name.and_then(|name| queue_name(&name));
        let Some(name) = name else { return Err(Stop::Failed(MoveFailure::NoSource, moved)) };
        if !self.source.attributes.allows_source_named(&name) {
            return Err(Stop::Failed(MoveFailure::SourceForbidden, moved));
        }
        match self.node.queue(&name).await {
            Ok(queue) => Ok(queue),
            Err(QueueError::NotFound) => Err(Stop::Failed(MoveFailure::DestinationGone, moved)),
            Err(QueueError::Trouble(_)) => Err(Stop::Trouble),
        }
    }

    /// By commands of the shard itself: all of a standard queue, and of a FIFO queue what lives in
    /// this shard there, too. Dead letters that go back to their own queue mostly do: they were given
    /// up here.
    async fn inside(&mut self, shard: GroupId, max: usize) -> Result<Inside, Stop> {
        let mut inside = Inside::default();
        loop {
            match self.inside_once(shard, max, &mut inside).await {
                Ok(true) => {}
                Ok(false) => return Ok(inside),
                Err(Stop::Trouble) if inside.moved > 0 => return Ok(inside),
                Err(stop) => return Err(stop),
            }
        }
    }

    /// One command; whether there is to be another.
    async fn inside_once(
        &mut self,
        shard: GroupId,
        max: usize,
        inside: &mut Inside,
    ) -> Result<bool, Stop> {
        let to = self.targets(inside.moved)?;
        let spec = MoveSpec {
            queue: self.task.source,
            retention_ms: self.source.attributes.retention_ms(),
            max: max - inside.moved as usize,
            entered_by_ms: self.task.shown.started_ms + CLOCKS_DIFFER.as_millis() as u64,
            to,
        };
        let outcome = self.ask(shard, &spec).await.ok_or(Stop::Trouble)?;
        note_moved(self.node, &spec.to, shard, outcome.moved);
        inside.moved += outcome.moved;
        inside.elsewhere = outcome.elsewhere;
        self.rest.left |= outcome.left;
        self.rest.held |= outcome.held;
        let Some(name) = outcome.unresolved else { return Ok(false) };
        let queue = self.resolve(name.clone(), inside.moved).await?;
        self.known.extend(name.map(|name| (name, queue.id)));
        Ok((inside.moved as usize) < max)
    }

    /// The task's destination, if it is still there.
    fn destination(&self, queue: QueueId, moved: u64) -> Result<Arc<Queue>, Stop> {
        let found = self.node.catalog.queue_by_id(queue);
        found.ok_or(Stop::Failed(MoveFailure::DestinationGone, moved))
    }

    /// Where to, as of now: a shard believes that there is a queue that it never heard of, and what is moved to
    /// one that was deleted meanwhile is thrown away with it.
    fn targets(&mut self, moved: u64) -> Result<MoveTarget, Stop> {
        match self.task.destination {
            Some(queue) => Ok(MoveTarget::Queue(self.destination(queue, moved)?.id)),
            None => {
                let catalog = &self.node.catalog;
                self.known.retain(|_, queue| catalog.queue_by_id(*queue).is_some());
                Ok(MoveTarget::Sources(self.known.clone()))
            }
        }
    }

    async fn ask(&self, shard: GroupId, spec: &MoveSpec) -> Option<MoveOutcome> {
        let router = &self.node.router;
        let homes = self.homes();
        match router.leader(shard)? {
            leader if leader == self.node.id => {
                move_here(router, shard, spec, homes.as_deref()).await
            }
            leader => move_at(router, leader, shard, spec, homes.as_deref()).await,
        }
    }

    /// FIFO queues: where the groups of the targets live now. One that is gone has none.
    fn homes(&self) -> Option<Vec<Home>> {
        self.source.attributes.fifo?;
        let targets = self.task.destination.into_iter().chain(self.known.values().copied());
        let home = |queue| Some(Home::of(&*self.node.catalog.queue_by_id(queue)?));
        Some(targets.filter_map(home).collect())
    }

    /// FIFO queues: the rest of what there is after those, if its groups live elsewhere.
    async fn in_order(&mut self, shard: GroupId, max: usize, to_move: usize) -> Result<u64, Stop> {
        let Inside { moved, elsewhere } = self.inside(shard, max).await?;
        // Where messages come back from is not seen here: what was there at the start is a number.
        let rest = max.min(to_move).saturating_sub(moved as usize);
        if !elsewhere || rest == 0 {
            return Ok(moved);
        }
        match self.over(shard, rest).await {
            Ok(count) => {
                // It was there a moment ago: somebody was faster, or it had expired.
                self.rest.held |= count == 0;
                Ok(moved + count)
            }
            Err(Stop::Failed(failure, count)) => Err(Stop::Failed(failure, moved + count)),
            Err(Stop::Trouble) if moved > 0 => Ok(moved),
            Err(Stop::Trouble) => Err(Stop::Trouble),
        }
    }

    /// To other shards: received, sent, deleted.
    async fn over(&mut self, shard: GroupId, max: usize) -> Result<u64, Stop> {
        let spec = ReceiveSpec {
            queue: self.task.source,
            max: max.min(BATCH_ENTRIES_MAX),
            visibility_ms: HIDDEN.as_millis() as u64,
            retention_ms: self.source.attributes.retention_ms(),
            redrive: None,
            attempt: None,
            only_again: false,
            quiet_only: false,
            // One move at a time: there is room for it.
            bytes_max: BATCH_ENTRIES_MAX * CONTENT_BYTES_MAX,
            to_move: true,
        };
        // The steps before may have taken long, and who leads now waits for as long as messages stay hidden
        // that were received before.
        if self.node.catalog_term_here() != Some(self.limits.term) {
            return Err(Stop::Trouble);
        }
        let router = &self.node.router;
        let claimed = match router.leader(shard).ok_or(Stop::Trouble)? {
            leader if leader == self.node.id => claim_here(router, &[shard], spec).await,
            leader => claim_at(router, leader, &[shard], spec).await,
        };
        let leases = claimed.into_iter().next().and_then(|claimed| claimed.leases.ok());
        // Until all of them are through: whatever ends this keeps the rest hidden for a while.
        let was_in_doubt = std::mem::replace(&mut self.in_doubt, true);
        let mut moved = 0;
        for lease in leases.ok_or(Stop::Trouble)? {
            let target = match self.task.destination {
                Some(queue) => self.destination(queue, moved),
                None => self.resolve(lease.moved_from.clone(), moved).await,
            };
            let target = match target {
                Err(Stop::Trouble) if moved > 0 => return Ok(moved),
                other => other?,
            };
            match self.pass_on(shard, lease, &target).await {
                Ok(()) => moved += 1,
                // The rest comes again.
                Err(_) if moved > 0 => return Ok(moved),
                Err(stop) => return Err(stop),
            }
        }
        self.in_doubt = was_in_doubt;
        Ok(moved)
    }

    async fn pass_on(&self, shard: GroupId, lease: Lease, target: &Queue) -> Result<(), Stop> {
        let key = key_of(self.task.source, shard, lease.seq.0);
        let outgoing = Outgoing {
            message_id: draw(),
            delay_seconds: 0,
            group: lease.group,
            dedup: Some(DedupKeys { in_queue: key, in_group: key }),
            content: lease.content,
        };
        let sent = self.node.send(target, vec![outgoing]).await;
        if sent.iter().any(Result::is_err) {
            return Err(Stop::Trouble);
        }
        failpoint!(MovePassedOn);
        let (queue, seq, receive) = (self.task.source, lease.seq, lease.receive_count);
        let receipt = Receipt { queue, shard, seq, receive };
        let deleted = self.node.delete(self.source, vec![receipt]).await;
        if deleted.iter().any(Result::is_err) {
            return Err(Stop::Trouble);
        }
        Ok(())
    }
}

fn queue_name(bytes: &[u8]) -> Option<QueueName> {
    QueueName::new(std::str::from_utf8(bytes).ok()?).ok()
}

/// Names one message of one queue for ever: places are not used again.
fn key_of(queue: QueueId, shard: GroupId, seq: u64) -> DedupKey {
    let mut key = [0; 16];
    key[..5].copy_from_slice(&queue.0.to_be_bytes()[3..]);
    key[5..8].copy_from_slice(&shard.0.to_be_bytes()[1..]);
    key[8..].copy_from_slice(&seq.to_be_bytes());
    DedupKey(key)
}

/// A random UUID.
fn draw() -> MessageId {
    let mut id: [u8; 16] = rand::random();
    id[6] = id[6] & 0x0f | 0x40;
    id[8] = id[8] & 0x3f | 0x80;
    MessageId(id)
}

/// `homes` is of the targets of a FIFO queue.
async fn move_here(
    router: &Router,
    shard: GroupId,
    spec: &MoveSpec,
    homes: Option<&[Home]>,
) -> Option<MoveOutcome> {
    let shards = router.groups();
    let place = |queue, group| match homes {
        None => Place::Any,
        Some(homes) => match homes.iter().find(|home| home.queue == queue) {
            Some(home) => home.place(shard, group, &shards),
            None => Place::Elsewhere,
        },
    };
    let shard = router.here(shard)?;
    let moved = timeout(CALL_TIMEOUT, shard.move_messages(spec, place, draw)).await.ok()?.ok()?;
    // That there is nothing was decided by nobody: see claims.
    (moved.moved > 0 || still_leads(shard.group()).await).then_some(moved)
}

async fn move_at(
    router: &Router,
    to: NodeId,
    shard: GroupId,
    spec: &MoveSpec,
    homes: Option<&[Home]>,
) -> Option<MoveOutcome> {
    let (target, sources) = match &spec.to {
        MoveTarget::Queue(queue) => (queue.0, Vec::new()),
        MoveTarget::Sources(known) => {
            let source = |(name, queue): (&Bytes, &QueueId)| pb::MoveSource {
                name: name.clone(),
                queue: queue.0,
            };
            (0, known.iter().map(source).collect())
        }
    };
    let message = pb::Move {
        queue: spec.queue.0,
        retention_ms: spec.retention_ms,
        max: spec.max as u32,
        entered_by_ms: spec.entered_by_ms,
        target,
        sources,
        in_order: homes.is_some(),
        homes: homes.into_iter().flatten().map(home_to_pb).collect(),
    };
    let payload: Bytes = message.encode_to_vec().into();
    let transport = router.transport();
    let call = transport.call(to, Lane::Forward, shard, method::MOVE, payload, CALL_TIMEOUT);
    let answer = MoveAnswer::decode(call.await.ok()?).ok()?;
    let unresolved = match answer.unresolved {
        Some(pb::move_answer::Unresolved::Name(name)) => Some(Some(name)),
        Some(pb::move_answer::Unresolved::NoName(_)) => Some(None),
        None => None,
    };
    let MoveAnswer { failed, moved, elsewhere, left, held, .. } = answer;
    (!failed).then_some(MoveOutcome { moved, unresolved, elsewhere, left, held })
}

fn home_to_pb(home: &Home) -> pb::Home {
    let placement = &home.placement;
    pb::Home {
        queue: home.queue.0,
        spread: placement.spread,
        epoch: placement.epoch,
        unsettled: placement.unsettled.iter().map(|shard| shard.0).collect(),
        floor: placement.floor.0,
    }
}

fn home_from_pb(home: pb::Home) -> Home {
    let placement = Placement {
        spread: home.spread,
        epoch: home.epoch,
        unsettled: home.unsettled.into_iter().map(GroupId).collect(),
        floor: Seq(home.floor),
        ..Placement::default()
    };
    Home { queue: QueueId(home.queue), placement }
}

/// Short polls through this node then look there first. Which of several targets it was is not known.
fn note_moved(node: &Node, to: &MoveTarget, shard: GroupId, moved: u64) {
    let target = match to {
        MoveTarget::Queue(queue) => Some(queue),
        MoveTarget::Sources(known) => known.values().next().filter(|_| known.len() == 1),
    };
    let groups = node.router.groups();
    let place = groups.iter().position(|group| *group == shard);
    if let (Some(target), Some(place), 1..) = (target, place, moved) {
        node.decks.with(*target, groups.len(), |deck| deck.note_sent(place, moved as usize));
    }
}

/// Answers [`move_at`].
pub(crate) async fn serve_move(
    node: &Node,
    shard: GroupId,
    payload: Bytes,
) -> Result<Bytes, DecodeError> {
    let message = pb::Move::decode(payload)?;
    let to = if message.target > 0 {
        MoveTarget::Queue(QueueId(message.target))
    } else {
        let source = |source: pb::MoveSource| (source.name, QueueId(source.queue));
        MoveTarget::Sources(message.sources.into_iter().map(source).collect())
    };
    let spec = MoveSpec {
        queue: QueueId(message.queue),
        retention_ms: message.retention_ms,
        max: (message.max as usize).min(MOVE_MESSAGES_MAX),
        entered_by_ms: message.entered_by_ms,
        to,
    };
    let homes = message.in_order.then(|| message.homes.into_iter().map(home_from_pb).collect());
    let homes: Option<Vec<_>> = homes;
    let outcome = move_here(&node.router, shard, &spec, homes.as_deref()).await;
    note_moved(node, &spec.to, shard, outcome.as_ref().map_or(0, |outcome| outcome.moved));
    let failed = outcome.is_none();
    let outcome = outcome.unwrap_or_default();
    let unresolved = outcome.unresolved.clone().map(|name| match name {
        Some(name) => pb::move_answer::Unresolved::Name(name),
        None => pb::move_answer::Unresolved::NoName(pb::Nothing {}),
    });
    let MoveOutcome { moved, elsewhere, left, held, .. } = outcome;
    let answer = MoveAnswer { failed, moved, unresolved, elsewhere, left, held };
    Ok(answer.encode_to_vec().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_tell_places_apart() {
        let key = key_of(QueueId(0x01_0203_0405), GroupId(0x06_0708), 0x090a_0b0c_0d0e_0f10);
        assert_eq!(key.0, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]);
    }
}
