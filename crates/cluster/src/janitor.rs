//! What keeps a cluster in shape without anybody asking: leaders go back where they belong, old
//! messages and deleted queues go away, the logs are cut, parked polls hear of changed leaders.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use flotilla_consensus::shard::{Shard, ShardError};
use flotilla_probe::planted;
use flotilla_queue::command::{Command, Reply};
use flotilla_transport::Lane;
use flotilla_types::ids::{GroupId, NodeId, QueueId, Seq};
use flotilla_types::limits::QUEUES_SWEPT_MAX;
use tokio::time::{Instant, MissedTickBehavior};

use crate::delays::Delays;
use crate::node::Node;
use crate::router::decide_in;

/// One round.
const ROUND: Duration = Duration::from_secs(1);
/// A leader stays so long before it is handed on: no ping-pong, and a node that came back has
/// caught up.
const LEADER_SETTLED: Duration = Duration::from_secs(5);
/// Between the beginnings of two walks over all queues, which look for old messages and deleted queues.
const SWEEP_EVERY: Duration = Duration::from_secs(5);
/// Queues that are visited before others get their turn: a visit may read.
const SWEEP_PIECE: usize = 32;
/// Commands per look that may find no old message: where all ages lie among each other a look is a
/// search, and a deep queue is searched bit by bit.
const FRUITLESS_EXPIRES: usize = 40;
/// The state is made durable when this much of it is not, or as much log as the options say waits
/// for it.
const CHECKPOINT_MEMTABLE_BYTES: u64 = 32 * 1024 * 1024;
/// And at least this often, when anything changed.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(300);
/// And so often while the disk is nearly full: removed messages give their room back only after it.
const CHECKPOINT_EVERY_WHEN_LOW: Duration = Duration::from_secs(10);

/// Runs until the node ends.
pub(crate) async fn run(node: Arc<Node>) {
    let mut ticks = tokio::time::interval(ROUND);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut state = State::default();
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = node.stopped() => return,
        }
        if let Some(what) = node.host.state_damage() {
            // Found by somebody who could go on without it, such as a snapshot for a peer.
            node.host.fatal(&format!("the state is damaged: {what}"));
        }
        node.router.turn_to_who_is_there();
        notice_changes(&node, &mut state);
        node.hub.forget_some(Instant::now().into_std());
        if !node.host.is_slow() {
            hand_leaders_back(&node, &mut state).await;
        }
        sweep(&node, &mut state).await;
        checkpoint(&node, &mut state).await;
    }
}

/// Who leads, and whether it is reachable, by shard; how often the link came up, by peer.
#[derive(Default, PartialEq, Eq)]
struct Seen {
    leaders: Vec<(GroupId, Option<NodeId>, bool)>,
    times_up: Vec<u64>,
}

#[derive(Default)]
struct State {
    /// Since when each group has been led here.
    leading: HashMap<GroupId, Instant>,
    /// What parked polls depend on: leaders and links.
    seen: Seen,
    checkpointed: Option<Instant>,
    log_bytes_then: u64,
    /// The walk over all queues that is under way or was the last.
    walk: Option<Walk>,
    /// Where the search for old messages goes on.
    expire_from: HashMap<(GroupId, QueueId), Seq>,
    delays: Delays,
}

/// A walk over all queues of the shards that are led here, in the pieces that a round has time for.
struct Walk {
    began: Instant,
    shards: VecDeque<GroupId>,
    /// In the first of the shards.
    after: Option<QueueId>,
}

impl Walk {
    fn begin(node: &Node) -> Self {
        Self { began: Instant::now(), shards: node.router.led_here().into(), after: None }
    }

    /// The next queues, at most so many; `None` at the end.
    fn next(&mut self, node: &Node, limit: usize) -> Option<(Shard, Vec<QueueId>)> {
        loop {
            let group = *self.shards.front()?;
            let shard = node.router.here(group).filter(|shard| shard.leadership().here);
            let Some(shard) = shard else {
                self.leave_shard();
                continue;
            };
            let queues = shard.queues_after(self.after, limit);
            match queues.last() {
                Some(last) => self.after = Some(*last),
                None => {
                    self.leave_shard();
                    continue;
                }
            }
            return Some((shard, queues));
        }
    }

    fn leave_shard(&mut self) {
        self.shards.pop_front();
        self.after = None;
    }
}

/// Polls that are parked here were armed at the leaders and over the links of then. A link that was down between two
/// rounds looks as before; but a wake-up may have been lost with it, and the peer may have been started anew and
/// know of nobody who waits.
fn notice_changes(node: &Node, state: &mut State) {
    let router = &node.router;
    let groups = router.groups();
    let leaders =
        groups.iter().map(|group| (*group, router.leader(*group), router.reachable(*group)));
    let transport = node.host.transport();
    let links = node.peers.iter().map(|peer| transport.times_up(*peer, Lane::Forward));
    let seen = Seen { leaders: leaders.collect(), times_up: links.collect() };
    if seen != state.seen && !planted!(WakeLostWithLeader) {
        state.seen = seen;
        node.hub.rearm_all();
    }
}

/// Hands over what a node with a slow disk leads, until the node ends. Apart from the chores, since those
/// may be waiting for that disk.
pub(crate) async fn give_leaders_away(node: Arc<Node>) {
    let mut ticks = tokio::time::interval(ROUND);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = node.stopped() => return,
        }
        if node.host.is_slow() {
            give_all_away(&node).await;
        }
    }
}

/// To whoever takes them: a node that is slow itself does not.
async fn give_all_away(node: &Node) {
    for group in node.host.groups() {
        if !group.leadership().borrow().here {
            continue;
        }
        for peer in &node.peers {
            if node.host.transport().connected(*peer) && node.host.hand_over(&group, *peer).await {
                break;
            }
        }
    }
}

async fn hand_leaders_back(node: &Node, state: &mut State) {
    let Some(facts) = node.facts() else { return };
    let now = Instant::now();
    for place in &facts.shards {
        let Some(shard) = node.router.here(place.group) else { continue };
        if !shard.leadership().here {
            state.leading.remove(&place.group);
            continue;
        }
        let since = *state.leading.entry(place.group).or_insert(now);
        let Some(preferred) = place.replicas.first().copied() else { continue };
        if preferred == node.id
            || now - since < LEADER_SETTLED
            || !node.host.transport().connected(preferred)
        {
            continue;
        }
        if node.host.hand_over(shard.group(), preferred).await {
            state.leading.insert(place.group, now);
        }
    }
}

/// Goes on with the walk over all queues, or begins the next one.
async fn sweep(node: &Node, state: &mut State) {
    let State { walk, expire_from, delays, .. } = state;
    let is_due = |walk: &Walk| walk.shards.is_empty() && walk.began.elapsed() >= SWEEP_EVERY;
    if walk.as_ref().is_none_or(is_due) {
        let begun = walk.insert(Walk::begin(node));
        let led: HashSet<GroupId> = begun.shards.iter().copied().collect();
        let is_there =
            |group, queue| led.contains(&group) && node.catalog.queue_by_id(queue).is_some();
        expire_from.retain(|(group, queue), _| is_there(*group, *queue));
        delays.retain(is_there);
    }
    let Some(walk) = walk else { return };
    let mut left = QUEUES_SWEPT_MAX;
    while left > 0
        && let Some((shard, queues)) = walk.next(node, SWEEP_PIECE.min(left))
    {
        left -= queues.len();
        for queue in queues {
            if visit(node, &shard, queue, expire_from, delays).await.is_err() {
                // It takes no commands now: the next walk comes by again.
                walk.leave_shard();
                break;
            }
        }
        tokio::task::yield_now().await;
    }
}

/// Removes messages of a queue that are past their retention, and what is left of it if it was deleted; sees
/// to a changed delay.
async fn visit(
    node: &Node,
    shard: &Shard,
    id: QueueId,
    expire_from: &mut HashMap<(GroupId, QueueId), Seq>,
    delays: &mut Delays,
) -> Result<(), ShardError> {
    let Some(queue) = node.catalog.queue_by_id(id) else {
        // The local catalog may be behind a creation: only its leader's word ends a queue.
        if node.deleted(id).await {
            let command = Command::DropQueue { queue: id };
            decide_in(shard, command).await?;
        }
        return Ok(());
    };
    let retention_ms = queue.attributes.retention_ms();
    let place = (shard.group().id(), id);
    let from = expire_from.remove(&place).unwrap_or_default();
    if let Some(resume) = expire(node, shard, id, retention_ms, from).await? {
        expire_from.insert(place, resume);
    }
    delays.enforce(shard, &queue).await
}

/// Looks for messages past their retention from a place on; returns where to go on.
async fn expire(
    node: &Node,
    shard: &Shard,
    queue: QueueId,
    retention_ms: u64,
    mut from: Seq,
) -> Result<Option<Seq>, ShardError> {
    match shard.may_expire(queue, retention_ms) {
        Ok(true) => {}
        Ok(false) => return Ok(None),
        Err(error) => {
            node.host.fatal(&format!("the state cannot be read: {error}"));
            return Ok(None);
        }
    }
    let mut fruitless = 0;
    while fruitless < FRUITLESS_EXPIRES {
        let command = Command::Expire { queue, retention_ms, from };
        let reply = decide_in(shard, command).await?;
        match reply.as_slice() {
            [Reply::Expired { removed, resume: Some(place) }] => {
                fruitless += usize::from(*removed == 0);
                from = *place;
            }
            _ => return Ok(None),
        }
        tokio::task::yield_now().await;
    }
    Ok(Some(from))
}

async fn checkpoint(node: &Node, state: &mut State) {
    let log_bytes: u64 = node.host.groups().iter().map(|group| group.log_bytes()).sum();
    // The cut takes place after it was asked for: what was counted right then was nearly the whole log, and
    // the next cut would wait until it is as long again.
    state.log_bytes_then = state.log_bytes_then.min(log_bytes);
    let memtable_bytes = node.host.state_db().memtable_bytes();
    let last = *state.checkpointed.get_or_insert_with(Instant::now);
    let low = node.space.low_here();
    let every = if low { CHECKPOINT_EVERY_WHEN_LOW } else { CHECKPOINT_EVERY };
    let due = memtable_bytes >= CHECKPOINT_MEMTABLE_BYTES
        || log_bytes >= state.log_bytes_then + node.cut_after_bytes
        || (last.elapsed() >= every
            && (log_bytes != state.log_bytes_then || node.host.is_cut_due(low)));
    if !due {
        return;
    }
    if let Err(error) = node.host.checkpoint(low).await {
        return node.host.fatal(&format!("the state was not flushed: {error}"));
    }
    state.checkpointed = Some(Instant::now());
    // After the cut: what stays is kept for followers and does not call for another checkpoint.
    state.log_bytes_then = node.host.groups().iter().map(|group| group.log_bytes()).sum();
}
