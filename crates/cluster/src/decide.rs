//! Catalog commands and look-ups, through the catalog's leader wherever it is.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use flotilla_consensus::group::Group;
use flotilla_consensus::shard::ShardError;
use flotilla_transport::{CallError, Lane};
use flotilla_types::ids::{CommandId, GroupId, NodeId, QueueId, TaskId};
use flotilla_wire::proto::cluster as pb;
use prost::Message as _;
use tokio::time::Instant;

use crate::api::{Queue, Trouble};
use crate::catalog::{self, Command, Reply};
use crate::forward::method;
use crate::node::Node;
use crate::request;
use crate::router::{CALL_TIMEOUT, LOOK_AGAIN, PATIENCE, leadership_changed};

/// How long a starting node tries to ask what it missed.
const CATCH_UP: Duration = Duration::from_secs(5);

impl Node {
    fn catalog_leader(&self) -> Option<NodeId> {
        self.catalog_group.get().and_then(|group| group.leadership().borrow().leader)
    }

    /// Whether there is somebody who may decide of queues, as far as this node hears of the catalog.
    pub(crate) fn knows_catalog_leader(&self) -> bool {
        self.catalog_group.get().is_none() || self.catalog_leader().is_some()
    }

    /// The term in which this node may decide for the catalog now, if it may.
    pub(crate) fn catalog_term_here(&self) -> Option<u64> {
        let leadership = *self.catalog_group.get()?.leadership().borrow();
        leadership.here.then_some(leadership.term)
    }

    /// For a catalog command of this node.
    pub(crate) fn next_catalog_id(&self) -> CommandId {
        let counter = self.catalog_counter.fetch_add(1, Ordering::Relaxed) + 1;
        CommandId { session: self.session, counter }
    }

    /// Has a command decided, repeating it under its id while the outcome is open.
    pub(crate) async fn decide(&self, command: Command) -> Result<Reply, Trouble> {
        self.decide_as(self.next_catalog_id(), command).await
    }

    /// The same under an id that the caller wants to know.
    pub(crate) async fn decide_as(
        &self,
        id: CommandId,
        mut command: Command,
    ) -> Result<Reply, Trouble> {
        let deadline = Instant::now() + PATIENCE;
        let mut maybe_applied = false;
        loop {
            let outcome = match self.catalog_leader() {
                Some(leader) if leader != self.id => self.decide_at(leader, id, &command).await,
                Some(_) => self.decide_here(Some(id), &command).await,
                None => Err(ShardError::NotLeader(None)),
            };
            match outcome {
                // Somebody else may have changed or deleted what the earlier attempt made: that it is refused now says
                // nothing of that one.
                Ok(reply) if maybe_applied && reply.is_refusal() => {
                    return Err(Trouble::Unavailable { maybe_applied });
                }
                Ok(reply) => {
                    self.see(&reply).await;
                    return Ok(reply);
                }
                Err(ShardError::Overloaded) if !maybe_applied => {
                    self.counters.overloaded.fetch_add(1, Ordering::Relaxed);
                    return Err(Trouble::Overloaded);
                }
                Err(ShardError::NotLeader(_) | ShardError::Overloaded) => {}
                Err(ShardError::Unknown) => {
                    maybe_applied = true;
                    command.repeated();
                }
            }
            if Instant::now() + LOOK_AGAIN >= deadline {
                let (request_id, leader) = (request::current(), self.catalog_leader());
                tracing::warn!(
                    %request_id, ?leader, maybe_applied,
                    "a command of the catalog found no leader in time"
                );
                return Err(Trouble::Unavailable { maybe_applied });
            }
            leadership_changed(self.catalog_group.get()).await;
        }
    }

    /// So that a client which goes on with this node finds what it just created or changed: waits
    /// until the local replica has it, or a moment.
    async fn see(&self, reply: &Reply) {
        let Reply::Queue(queue) = reply else { return };
        let seen = || {
            self.catalog.queue(queue.name.as_str()).is_some_and(|known| {
                known.id > queue.id
                    || (known.id == queue.id
                        && known.modified_s >= queue.modified_s
                        && known.attributes == queue.attributes
                        && known.tags == queue.tags)
            })
        };
        let mut versions = self.catalog.versions();
        // A later change may hide this one: then there is nothing to wait for, and the bound ends it.
        let _ = tokio::time::timeout(LOOK_AGAIN * 10, versions.wait_for(|_| seen())).await;
    }

    /// Until a deleted queue is gone from the local replica, or a moment.
    pub(crate) async fn see_gone(&self, queue: QueueId) {
        let mut versions = self.catalog.versions();
        let gone = versions.wait_for(|_| self.catalog.queue_by_id(queue).is_none());
        let _ = tokio::time::timeout(LOOK_AGAIN * 10, gone).await;
    }

    /// Until every node that can be reached knows that a queue is gone: no client finds it there
    /// after its deletion was answered. A node that is cut off knows it when it hears of the others
    /// again; SQS allows a minute.
    pub(crate) async fn tell_gone(&self, queue: QueueId) {
        let payload: Bytes = pb::Gone { queue: queue.0 }.encode_to_vec().into();
        let told = self.peers.iter().map(|peer| {
            let (transport, payload) = (self.host.transport(), payload.clone());
            let (lane, group) = (Lane::Forward, GroupId::CATALOG);
            transport.call(*peer, lane, group, method::GONE, payload, LOOK_AGAIN * 20)
        });
        // One that does not answer is one that is cut off.
        let _ = tokio::join!(self.see_gone(queue), futures::future::join_all(told));
    }

    /// The same for a task.
    pub(crate) async fn see_task(&self, task: TaskId) {
        let mut versions = self.catalog.versions();
        let seen = versions.wait_for(|_| self.catalog.task(task).is_some());
        let _ = tokio::time::timeout(LOOK_AGAIN * 10, seen).await;
    }

    /// Whether a task is one of this queue's.
    pub(crate) async fn has_task(&self, source: &Queue, task: TaskId) -> Result<bool, Trouble> {
        // Another node may have started it a moment ago.
        if self.catalog.task(task).is_none() {
            self.see_all().await?;
        }
        let task = self.catalog.task(task);
        // By name, as it was asked for: this node may still know a queue of that name that is gone.
        Ok(task.is_some_and(|task| task.shown.source == source.name))
    }

    async fn decide_at(
        &self,
        to: NodeId,
        id: CommandId,
        command: &Command,
    ) -> Result<Reply, ShardError> {
        use pb::decide_answer::Outcome;
        // The leader puts its own stamp in place of the 0.
        let command = catalog::command_to_bytes(0, Some(id), command);
        let payload: Bytes = pb::Decide { command }.encode_to_vec().into();
        let answer = self.ask_catalog(to, method::DECIDE, payload, CALL_TIMEOUT).await;
        let answer = answer.map_err(|error| match error.never_ran() {
            true => ShardError::NotLeader(None),
            false => ShardError::Unknown,
        })?;
        match pb::DecideAnswer::decode(answer).ok().and_then(|answer| answer.outcome) {
            Some(Outcome::Reply(reply)) => {
                catalog::reply_from_bytes(reply).map_err(|_| ShardError::Unknown)
            }
            Some(Outcome::Leader(leader)) => {
                Err(ShardError::NotLeader((leader > 0).then_some(NodeId(leader))))
            }
            Some(Outcome::Overloaded(_)) => Err(ShardError::Overloaded),
            Some(Outcome::Unknown(_)) | None => Err(ShardError::Unknown),
        }
    }

    async fn ask_catalog(
        &self,
        to: NodeId,
        method: u32,
        payload: Bytes,
        wait: Duration,
    ) -> Result<Bytes, CallError> {
        let transport = self.host.transport();
        transport.call(to, Lane::Forward, GroupId::CATALOG, method, payload, wait).await
    }

    /// Reads the catalog as its leader, with everything that was decided before the call.
    pub(crate) async fn lookup_here(
        &self,
        name: &str,
    ) -> Result<Option<Arc<Queue>>, Option<NodeId>> {
        self.catalog_position_here().await?;
        Ok(self.catalog.queue(name))
    }

    /// How far the catalog is, as its leader: what was decided before the call is at or before this entry.
    pub(crate) async fn catalog_position_here(&self) -> Result<u64, Option<NodeId>> {
        let Some(group) = self.catalog_group.get() else { return Err(None) };
        group.linearize().await
    }

    /// What the catalog's leader knows of a name; asked when the local replica does not know it.
    pub(crate) async fn lookup(&self, name: &str) -> Result<Option<Arc<Queue>>, Trouble> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let found = match self.catalog_leader() {
                Some(leader) if leader != self.id => self.lookup_at(leader, name).await,
                Some(_) => self.lookup_here(name).await.ok(),
                None => None,
            };
            if let Some(found) = found {
                return Ok(found);
            }
            if Instant::now() + LOOK_AGAIN >= deadline {
                let (request_id, leader) = (request::current(), self.catalog_leader());
                tracing::warn!(%request_id, ?leader, "a queue was not looked up in time");
                return Err(Trouble::Unavailable { maybe_applied: false });
            }
            leadership_changed(self.catalog_group.get()).await;
        }
    }

    /// Until the local replica of the catalog holds what was decided before this node started, or nobody could
    /// be asked for that for [`CATCH_UP`].
    pub(crate) async fn catch_up(&self) {
        let Some(group) = self.catalog_group.get() else { return };
        let Ok(applied) = tokio::time::timeout(CATCH_UP, self.decided(group)).await else {
            let leader = self.catalog_leader();
            tracing::warn!(?leader, "serving without knowing whether the queues are up to date");
            return;
        };
        self.hold(group, applied).await;
    }

    /// Until the local replica of the catalog holds what was decided before this was called.
    pub(crate) async fn see_all(&self) -> Result<(), Trouble> {
        let unavailable = Trouble::Unavailable { maybe_applied: false };
        let Some(group) = self.catalog_group.get() else { return Err(unavailable) };
        let seen = async { self.hold(group, self.decided(group).await).await };
        tokio::time::timeout(PATIENCE, seen).await.map_err(|_| {
            let (request_id, leader) = (request::current(), self.catalog_leader());
            tracing::warn!(%request_id, ?leader, "what was decided was not seen in time");
            unavailable
        })
    }

    /// How far the catalog is, as its leader says.
    async fn decided(&self, group: &Group) -> u64 {
        loop {
            let found = match self.catalog_leader() {
                Some(leader) if leader != self.id => self.position_at(leader).await,
                Some(_) => self.catalog_position_here().await.ok(),
                None => None,
            };
            match found {
                Some(applied) => return applied,
                None => leadership_changed(Some(group)).await,
            }
        }
    }

    /// Until the local replica is that far.
    async fn hold(&self, group: &Group, applied: u64) {
        let mut versions = self.catalog.versions();
        while group.position().1 < applied {
            // Entries without a command, and snapshots, make no version.
            let _ = tokio::time::timeout(LOOK_AGAIN, versions.changed()).await;
        }
    }

    async fn position_at(&self, to: NodeId) -> Option<u64> {
        use pb::position_answer::Outcome;
        // Who is taken for the leader just after a start may be one that hangs.
        let wait = CATCH_UP / 5;
        let answer = self.ask_catalog(to, method::POSITION, Bytes::new(), wait).await.ok()?;
        match pb::PositionAnswer::decode(answer).ok()?.outcome? {
            Outcome::Applied(applied) => Some(applied),
            Outcome::Leader(_) => None,
        }
    }

    async fn lookup_at(&self, to: NodeId, name: &str) -> Option<Option<Arc<Queue>>> {
        use pb::lookup_answer::Outcome;
        let payload = pb::Lookup { name: name.to_owned() }.encode_to_vec().into();
        let answer = self.ask_catalog(to, method::LOOKUP, payload, CALL_TIMEOUT).await.ok()?;
        match pb::LookupAnswer::decode(answer).ok()?.outcome? {
            Outcome::Queue(queue) => Some(Some(Arc::new(catalog::queue_from_bytes(queue).ok()?))),
            Outcome::None(_) => Some(None),
            Outcome::Leader(_) => None,
        }
    }

    /// Whether a queue is gone for good, as far as the catalog's leader knows. Only that node
    /// answers this; on the others the question waits for it.
    pub(crate) async fn deleted(&self, queue: QueueId) -> bool {
        let Some(group) = self.catalog_group.get() else { return false };
        if self.catalog_leader() == Some(self.id) {
            return group.linearize().await.is_ok() && self.catalog.queue_by_id(queue).is_none();
        }
        self.catalog.has_ended(queue)
    }
}
