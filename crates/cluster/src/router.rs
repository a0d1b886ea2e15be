//! Brings commands to the leaders of their shards, whichever node those are on.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use flotilla_consensus::group::{Group, Leadership};
use flotilla_consensus::shard::{Shard, ShardError};
use flotilla_probe::{failpoint, planted};
use flotilla_queue::command::{Command, Identified, Reply};
use flotilla_transport::{Lane, Transport};
use flotilla_types::ids::{CommandId, GroupId, NodeId, QueueId};
use flotilla_wire::command::{command_to_pb, replies_from_pb};
use flotilla_wire::proto::cluster as pb;
use parking_lot::RwLock;
use prost::Message as _;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use crate::api::Trouble;
use crate::counters::NodeCounters;
use crate::forward::method;
use crate::request;

/// How long a request looks for a leader before it gives up. Longer than an election: a client
/// then sees a slow answer instead of an error.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);
/// One call to a peer, or to a leader here. One that does not answer for so long is treated as
/// gone.
pub(crate) const CALL_TIMEOUT: Duration = Duration::from_secs(3);
/// Between two looks for a leader when nothing says that there is a new one.
pub(crate) const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// One attempt's outcome, when it is no success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Failure {
    /// Nothing was proposed; try the node named, if one is.
    NotThere(Option<NodeId>),
    Overloaded,
    /// It may be applied, now or later.
    Unknown,
}

impl From<ShardError> for Failure {
    fn from(error: ShardError) -> Self {
        match error {
            ShardError::NotLeader(leader) => Self::NotThere(leader),
            ShardError::Overloaded => Self::Overloaded,
            ShardError::Unknown => Self::Unknown,
        }
    }
}

/// See the module.
pub(crate) struct Router {
    node: NodeId,
    transport: Transport,
    counters: Arc<NodeCounters>,
    shards: RwLock<HashMap<GroupId, Route>>,
    /// All shards, in order. Replaced as a whole: every request reads it.
    order: RwLock<Arc<[GroupId]>>,
    /// Names this process in command ids.
    session: u64,
}

/// What is known of one shard.
struct Route {
    replicas: Vec<NodeId>,
    /// The replica on this node, if there is one.
    here: Option<Shard>,
    /// Where a peer said that the leader is; for shards without a replica here.
    hint: Option<NodeId>,
    /// The last command id given for this group.
    counter: Arc<AtomicU64>,
}

impl Router {
    pub(crate) fn new(
        node: NodeId,
        transport: Transport,
        counters: Arc<NodeCounters>,
        session: u64,
    ) -> Self {
        Self {
            node,
            transport,
            counters,
            shards: RwLock::default(),
            order: RwLock::new(Arc::new([])),
            session,
        }
    }

    pub(crate) fn add(&self, group: GroupId, replicas: Vec<NodeId>) {
        let route = Route { replicas, here: None, hint: None, counter: Arc::default() };
        let mut shards = self.shards.write();
        shards.entry(group).or_insert(route);
        let mut order: Vec<_> = shards.keys().copied().collect();
        order.sort();
        *self.order.write() = order.into();
    }

    pub(crate) fn set_here(&self, group: GroupId, shard: Shard) {
        if let Some(route) = self.shards.write().get_mut(&group) {
            route.here = Some(shard);
        }
    }

    pub(crate) fn transport(&self) -> &Transport {
        &self.transport
    }

    /// The replica of a shard on this node.
    pub(crate) fn here(&self, group: GroupId) -> Option<Shard> {
        self.shards.read().get(&group)?.here.clone()
    }

    /// The replicas on this node.
    pub(crate) fn all_here(&self) -> Vec<Shard> {
        self.shards.read().values().filter_map(|route| route.here.clone()).collect()
    }

    /// What the shards that are led here have in flight of a queue.
    pub(crate) fn in_flight_here(&self, queue: QueueId) -> u64 {
        let shards = self.shards.read();
        let here = shards.values().filter_map(|route| route.here.as_ref());
        here.filter_map(|shard| Some(shard.counts(queue)?.in_flight)).sum()
    }

    /// All shards, in order.
    pub(crate) fn groups(&self) -> Arc<[GroupId]> {
        self.order.read().clone()
    }

    /// Shards with a replica on any of these nodes.
    pub(crate) fn shards_on(&self, nodes: &BTreeSet<NodeId>) -> Vec<GroupId> {
        let shards = self.shards.read();
        let on = shards
            .iter()
            .filter(|(_, route)| route.replicas.iter().any(|replica| nodes.contains(replica)));
        on.map(|(group, _)| *group).collect()
    }

    /// The shards for which this node may decide now, in order.
    pub(crate) fn led_here(&self) -> Vec<GroupId> {
        let shards = self.shards.read();
        self.groups().iter().copied().filter(|group| leads(&shards, *group)).collect()
    }

    /// Whether this node may decide for the shard now.
    pub(crate) fn leads(&self, group: GroupId) -> bool {
        leads(&self.shards.read(), group)
    }

    /// The node to ask for a shard.
    pub(crate) fn leader(&self, group: GroupId) -> Option<NodeId> {
        let shards = self.shards.read();
        let route = shards.get(&group)?;
        match &route.here {
            Some(shard) => shard.leadership().leader,
            None => route.hint.or_else(|| route.replicas.first().copied()),
        }
    }

    /// Whether requests for the shard can be served now, as far as this node can tell.
    pub(crate) fn reachable(&self, group: GroupId) -> bool {
        match self.leader(group) {
            Some(leader) if leader == self.node => self.leads(group),
            Some(leader) => self.transport.connected(leader),
            None => false,
        }
    }

    /// Whether the shard is led here and no majority has said so lately, whatever it was earlier: it can decide
    /// nothing, and what receives reserve stays reserved.
    pub(crate) fn is_cut_off(&self, group: GroupId) -> bool {
        let here = self.here(group);
        here.is_some_and(|shard| shard.leadership().here && !shard.group().is_confirmed())
    }

    /// For shards without a replica here: asks another replica from now on when the link to the one that was
    /// thought to lead is down. Requests find the leader by themselves; but a node that nobody sends any,
    /// because it is not ready, would not be ready for ever.
    pub(crate) fn turn_to_who_is_there(&self) {
        let elsewhere: Vec<GroupId> = {
            let shards = self.shards.read();
            shards
                .iter()
                .filter(|(_, route)| route.here.is_none())
                .map(|(group, _)| *group)
                .collect()
        };
        for group in elsewhere {
            if !self.reachable(group) {
                self.note_hint(group, None);
            }
        }
    }

    /// Where a shard without a replica here is led, as somebody else knows; `None`: not where it was asked
    /// last. Whether that changes where it is asked next.
    pub(crate) fn note_hint(&self, group: GroupId, leader: Option<NodeId>) -> bool {
        let mut shards = self.shards.write();
        let Some(route) = shards.get_mut(&group).filter(|route| route.here.is_none()) else {
            return false;
        };
        let asked = route.hint.or(route.replicas.first().copied());
        let next = |at: NodeId| {
            let place = route.replicas.iter().position(|node| *node == at)?;
            route.replicas.get((place + 1) % route.replicas.len()).copied()
        };
        route.hint = leader.or_else(|| asked.and_then(next));
        route.hint != asked
    }

    fn identify(&self, group: GroupId, commands: Vec<Command>) -> Option<Vec<Identified>> {
        let counter = self.shards.read().get(&group)?.counter.clone();
        let first = counter.fetch_add(commands.len() as u64, Ordering::Relaxed) + 1;
        let session = self.session;
        let identified = (first..).zip(commands).map(|(counter, command)| Identified {
            id: Some(CommandId { session, counter }),
            command,
        });
        Some(identified.collect())
    }

    /// Has commands applied by a shard, wherever its leader is, repeating them under their ids
    /// until `deadline`.
    ///
    /// # Errors
    /// `maybe_applied` is false only if no attempt was handed to Raft anywhere.
    pub(crate) async fn submit(
        &self,
        group: GroupId,
        commands: Vec<Command>,
        deadline: Instant,
    ) -> Result<Vec<Reply>, Trouble> {
        self.submit_until(group, commands, deadline, false).await
    }

    /// As [`Router::submit`], but gives up at once when it is certain that nothing was proposed:
    /// for commands that any other shard can take as well.
    pub(crate) async fn submit_once(
        &self,
        group: GroupId,
        commands: Vec<Command>,
        deadline: Instant,
    ) -> Result<Vec<Reply>, Trouble> {
        self.submit_until(group, commands, deadline, true).await
    }

    async fn submit_until(
        &self,
        group: GroupId,
        commands: Vec<Command>,
        deadline: Instant,
        give_up_unapplied: bool,
    ) -> Result<Vec<Reply>, Trouble> {
        let count = commands.len();
        let Some(mut commands) = self.identify(group, commands) else {
            return Err(Trouble::Unavailable { maybe_applied: false });
        };
        let mut maybe_applied = false;
        loop {
            if planted!(RetryAsNew) && maybe_applied {
                let again = commands.into_iter().map(|it| it.command).collect();
                commands = self.identify(group, again).unwrap_or_default();
            }
            let failure = match self.attempt(group, &commands).await {
                Ok(replies) if replies.len() != count => Failure::Unknown,
                Ok(replies) if replies.contains(&Reply::Forgotten) => {
                    return Err(Trouble::Unavailable { maybe_applied: true });
                }
                Ok(replies) => return Ok(replies),
                Err(failure) => failure,
            };
            match failure {
                Failure::Overloaded if !maybe_applied => {
                    self.counters.overloaded.fetch_add(1, Ordering::Relaxed);
                    return Err(Trouble::Overloaded);
                }
                Failure::Overloaded => {}
                Failure::NotThere(leader) => {
                    self.note_hint(group, leader);
                }
                Failure::Unknown => {
                    let (request_id, leader) = (request::current(), self.leader(group));
                    tracing::warn!(
                        %request_id, %group, ?leader,
                        "a command's outcome is not known; it is repeated under its id"
                    );
                    maybe_applied = !planted!(DoubtForgotten);
                }
            }
            if give_up_unapplied && !maybe_applied {
                return Err(Trouble::Unavailable { maybe_applied });
            }
            if Instant::now() + LOOK_AGAIN >= deadline {
                let (request_id, leader) = (request::current(), self.leader(group));
                tracing::warn!(
                    %request_id, %group, ?leader, maybe_applied,
                    "a command found no leader in time"
                );
                return Err(Trouble::Unavailable { maybe_applied });
            }
            self.counters.retries.fetch_add(1, Ordering::Relaxed);
            self.wait_for_change(group).await;
        }
    }

    async fn attempt(
        &self,
        group: GroupId,
        commands: &[Identified],
    ) -> Result<Vec<Reply>, Failure> {
        match self.leader(group) {
            None => Err(Failure::NotThere(None)),
            Some(leader) if leader == self.node => match self.here(group) {
                Some(shard) => Ok(submit_here(&shard, commands.to_vec()).await?),
                None => Err(Failure::NotThere(None)),
            },
            Some(leader) => self.forward(leader, group, commands).await,
        }
    }

    async fn forward(
        &self,
        to: NodeId,
        group: GroupId,
        commands: &[Identified],
    ) -> Result<Vec<Reply>, Failure> {
        use pb::submit_answer::Outcome;
        self.counters.forwarded.fetch_add(1, Ordering::Relaxed);
        let (request_high, request_low) = request::to_pb(request::current());
        let commands = commands.iter().map(command_to_pb).collect();
        let message = pb::Submit { commands, request_high, request_low };
        let payload: Bytes = message.encode_to_vec().into();
        failpoint!(Forward);
        let call =
            self.transport.call(to, Lane::Forward, group, method::SUBMIT, payload, CALL_TIMEOUT);
        let answer = call.await.map_err(|error| match error {
            flotilla_transport::CallError::Overloaded => Failure::Overloaded,
            error if error.never_ran() => Failure::NotThere(None),
            _ => Failure::Unknown,
        })?;
        // An answer that cannot be read says nothing about what was done.
        let outcome = pb::SubmitAnswer::decode(answer).ok().and_then(|answer| answer.outcome);
        match outcome.ok_or(Failure::Unknown)? {
            Outcome::Replies(replies) => replies_from_pb(replies).map_err(|_| Failure::Unknown),
            Outcome::Leader(leader) => {
                Err(Failure::NotThere((leader > 0).then_some(NodeId(leader))))
            }
            Outcome::Overloaded(_) => Err(Failure::Overloaded),
            Outcome::Unknown(_) => Err(Failure::Unknown),
        }
    }

    async fn wait_for_change(&self, group: GroupId) {
        let shard = self.here(group);
        leadership_changed(shard.as_ref().map(Shard::group)).await;
    }
}

fn leads(shards: &HashMap<GroupId, Route>, group: GroupId) -> bool {
    let shard = shards.get(&group).and_then(|route| route.here.as_ref());
    shard.is_some_and(|shard| shard.leadership().here)
}

/// Returns when a group's leadership changed, or after a short while: for a group without a
/// replica here nothing tells, and another attempt may find the leader again.
pub(crate) async fn leadership_changed(group: Option<&Group>) {
    changed_or_later(group.map(Group::leadership)).await;
}

async fn changed_or_later(leadership: Option<watch::Receiver<Leadership>>) {
    let changed = async {
        if let Some(mut leadership) = leadership {
            // A new receiver takes what it was born with for a change.
            leadership.mark_unchanged();
            if leadership.changed().await.is_ok() {
                return;
            }
            // The replica has ended: whoever came back at once would do so again and again.
        }
        std::future::pending().await
    };
    // That it took too long is no error.
    let _ = timeout(LOOK_AGAIN, changed).await;
}

/// Has a shard that is led on this node apply commands. A leader that lost its majority goes on as one, and never
/// answers: nobody may wait for it without an end.
pub(crate) async fn submit_here(
    shard: &Shard,
    commands: Vec<Identified>,
) -> Result<Vec<Reply>, ShardError> {
    timeout(CALL_TIMEOUT, shard.submit(commands)).await.unwrap_or(Err(ShardError::Unknown))
}

/// The same for one command of this node's own, which it never repeats under the same name.
pub(crate) async fn decide_in(shard: &Shard, command: Command) -> Result<Vec<Reply>, ShardError> {
    submit_here(shard, vec![Identified { id: None, command }]).await
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Found by seed 22 of the simulator: requests that were waiting for a leader kept their thread
    /// busy once the replica had ended.
    #[tokio::test(start_paused = true)]
    async fn a_replica_that_has_ended_is_not_asked_without_a_pause() {
        let (publish, leadership) = watch::channel(Leadership::default());
        let began = Instant::now();
        changed_or_later(Some(leadership.clone())).await;
        assert!(began.elapsed() >= LOOK_AGAIN);
        drop(publish);
        let began = Instant::now();
        changed_or_later(Some(leadership)).await;
        assert!(began.elapsed() >= LOOK_AGAIN);
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_is_not_waited_for_longer_than_it_takes() {
        let (publish, leadership) = watch::channel(Leadership::default());
        let began = Instant::now();
        let change =
            async { publish.send_replace(Leadership { term: 2, ..Leadership::default() }) };
        tokio::join!(changed_or_later(Some(leadership)), change);
        assert_eq!(began.elapsed(), Duration::ZERO);
    }
}
