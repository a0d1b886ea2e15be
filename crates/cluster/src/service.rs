//! The node as front ends see it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use flotilla_probe::planted;
use flotilla_queue::command as queue_command;
use flotilla_queue::command::{Placing, Reply};
use flotilla_types::attributes::AttributePatch;
use flotilla_types::ids::{GroupId, QueueId, TaskId};
use flotilla_types::names::QueueName;
use flotilla_types::permission::{Label, Permission};
use futures::future::join_all;
use rand::RngExt;
use rand::seq::IteratorRandom;
use tokio::time::Instant;

use crate::api::{
    AddPermissionError, CancelMoveError, Cluster, Counts, CreateError, DeleteError, MoveTask,
    Outgoing, PurgeError, Queue, QueueError, Receipt, ReceiveError, ReceiveRequest, Received,
    RemovePermissionError, Sent, SetAttributesError, StartMoveError, TagError, Trouble,
    VisibilityError,
};
use crate::catalog;
use crate::catalog::Command;
use crate::catalog::tasks::StartMove;
use crate::gathering;
use crate::node::Node;
use crate::polling::deck::Deck;
use crate::polling::receive;
use crate::request;
use crate::room::Pool;
use crate::router::PATIENCE;

/// How much likelier a send takes a shard that is led here, when it has the choice.
const LOCAL_SHARE: f64 = 0.9;

/// What short polls through this node find again.
fn note_sent(deck: &mut Deck, place: usize, messages: &[Outgoing], now_ms: u64) {
    for message in messages {
        match message.delay_seconds {
            0 => deck.note_sent(place, 1),
            seconds => deck.note_due(place, now_ms + u64::from(seconds) * 1_000),
        }
    }
}

impl Node {
    /// When messages of a queue become visible that are said to.
    fn note_due(&self, queue: &Queue, changes: &[(Receipt, u32)]) {
        let (groups, now_ms) = (self.router.groups(), self.clock.now_ms());
        self.decks.with(queue.id, groups.len(), |deck| {
            for (receipt, seconds) in changes {
                if let Some(place) = groups.iter().position(|group| *group == receipt.shard) {
                    deck.note_due(place, now_ms + u64::from(*seconds) * 1_000);
                }
            }
        });
    }

    /// The shard for one send: while others are in work where they gather. The first one of a
    /// turn has the choice, so that a queue does not live on one node's shards alone.
    fn shard_for_send(&self, sends: usize, not: &[GroupId]) -> Option<GroupId> {
        let turn = gathering::turn_at(self.clock.now_ms());
        if sends > 1 && self.send_turn.swap(turn, Ordering::Relaxed) == turn {
            let local = self.router.led_here();
            let shard = local.get(gathering::place(turn, local.len()));
            if let Some(shard) = shard.filter(|shard| !not.contains(shard)) {
                return Some(*shard);
            }
        }
        self.pick_shard(not)
    }

    /// The shard for a send of its own: any will do, so one whose leader is here if there is one (no hop),
    /// and now and then another, so that a queue does not live on one node's shards alone.
    fn pick_shard(&self, not: &[GroupId]) -> Option<GroupId> {
        let groups = self.router.groups();
        let mut rng = rand::rng();
        let usable = |group: &&GroupId| !not.contains(group) && self.router.reachable(**group);
        let local = || self.router.led_here().into_iter().filter(|group| !not.contains(group));
        if rng.random_bool(LOCAL_SHARE)
            && let Some(group) = local().choose(&mut rng)
        {
            return Some(group);
        }
        groups.iter().filter(usable).choose(&mut rng).copied()
    }

    fn deadline() -> Instant {
        Instant::now() + PATIENCE
    }

    async fn everywhere(&self, command: queue_command::Command) -> Result<(), Trouble> {
        let deadline = Self::deadline();
        let groups = self.router.groups();
        let submits =
            groups.iter().map(|group| self.router.submit(*group, vec![command.clone()], deadline));
        for result in join_all(submits).await {
            if planted!(PurgeHalfDone) {
                continue;
            }
            // Some shards may have done it.
            result.map_err(|_| Trouble::Unavailable { maybe_applied: true })?;
        }
        Ok(())
    }

    /// Splits work on messages by shard and puts the results back in order.
    async fn by_shard<T: Clone, R: Clone>(
        &self,
        items: Vec<T>,
        shard_of: impl Fn(&T) -> GroupId,
        command_of: impl Fn(&T) -> queue_command::Command,
        result_of: impl Fn(Result<Reply, Trouble>) -> R,
    ) -> Vec<R> {
        let mut shards: BTreeMap<GroupId, Vec<usize>> = BTreeMap::new();
        for (place, item) in items.iter().enumerate() {
            shards.entry(shard_of(item)).or_default().push(place);
        }
        let deadline = Self::deadline();
        let submits = shards.into_iter().map(|(shard, places)| {
            let commands = places.iter().map(|place| command_of(&items[*place])).collect();
            async move { (places, self.router.submit(shard, commands, deadline).await) }
        });
        let mut results: Vec<Option<R>> = vec![None; items.len()];
        for (places, outcome) in join_all(submits).await {
            match outcome {
                Ok(replies) => {
                    for (place, reply) in places.into_iter().zip(replies) {
                        results[place] = Some(result_of(Ok(reply)));
                    }
                }
                Err(trouble) => {
                    for place in places {
                        results[place] = Some(result_of(Err(trouble.clone())));
                    }
                }
            }
        }
        let unknown = || result_of(Err(Trouble::Unavailable { maybe_applied: true }));
        results.into_iter().map(|result| result.unwrap_or_else(unknown)).collect()
    }
}

/// Counts a send as long as it is in work.
struct InWork<'a> {
    all: &'a AtomicUsize,
    /// With this one.
    count: usize,
}

impl<'a> InWork<'a> {
    fn enter(all: &'a AtomicUsize) -> Self {
        let count = all.fetch_add(1, Ordering::Relaxed) + 1;
        Self { all, count }
    }
}

impl Drop for InWork<'_> {
    fn drop(&mut self) {
        self.all.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Cluster for Node {
    async fn create_queue(
        &self,
        name: &QueueName,
        attributes: &AttributePatch,
        tags: Option<&BTreeMap<String, String>>,
    ) -> Result<Arc<Queue>, CreateError> {
        let command = Command::CreateQueue {
            name: name.clone(),
            attributes: attributes.clone(),
            tags: tags.cloned(),
            at_once: !self.rests,
        };
        match self.decide(command).await? {
            catalog::Reply::Queue(queue) => Ok(queue),
            catalog::Reply::AttributeDiffers(name) => Err(CreateError::AttributeDiffers(name)),
            catalog::Reply::TagsDiffer => Err(CreateError::TagsDiffer),
            catalog::Reply::DeletedRecently => Err(CreateError::DeletedRecently),
            catalog::Reply::TooMany => Err(CreateError::TooMany),
            catalog::Reply::Done
            | catalog::Reply::NotFound
            | catalog::Reply::PurgedRecently
            | catalog::Reply::LimitBeyondScope
            | catalog::Reply::TooManyTags
            | catalog::Reply::GrantRefused(_)
            | catalog::Reply::RevokeRefused(_)
            | catalog::Reply::NotDeadLetterQueue
            | catalog::Reply::TaskRunning
            | catalog::Reply::TaskNotRunning
            | catalog::Reply::Moved(_) => Err(Trouble::Unavailable { maybe_applied: true }.into()),
        }
    }

    async fn queue(&self, name: &QueueName) -> Result<Arc<Queue>, QueueError> {
        // Where names come back at once, the local replica may know the one before.
        if let Some(queue) = self.catalog.queue(name.as_str()).filter(|_| self.rests) {
            return Ok(queue);
        }
        self.lookup(name.as_str()).await?.ok_or(QueueError::NotFound)
    }

    async fn queue_now(&self, name: &QueueName) -> Result<Arc<Queue>, QueueError> {
        if planted!(StaleAttributes) {
            return self.queue(name).await;
        }
        self.lookup(name.as_str()).await?.ok_or(QueueError::NotFound)
    }

    async fn list_queues(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<QueueName>, Trouble> {
        if self.facts().is_none() {
            return Err(Trouble::Unavailable { maybe_applied: false });
        }
        Ok(self.catalog.list(prefix, after, limit))
    }

    async fn dead_letter_sources(
        &self,
        queue: &Queue,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<QueueName>, Trouble> {
        Ok(self.catalog.dead_letter_sources(&queue.name, after, limit))
    }

    async fn delete_queue(&self, queue: &Queue) -> Result<(), QueueError> {
        match self.decide(Command::DeleteQueue { queue: queue.id }).await? {
            catalog::Reply::Done => {}
            _ => return Err(QueueError::NotFound),
        }
        self.tell_gone(queue.id).await;
        // The queue is gone. Its messages go now, or with the janitor's next round.
        let _ = self.everywhere(queue_command::Command::DropQueue { queue: queue.id }).await;
        Ok(())
    }

    async fn set_attributes(
        &self,
        queue: &Queue,
        patch: &AttributePatch,
    ) -> Result<(), SetAttributesError> {
        let command = Command::SetAttributes { queue: queue.id, attributes: patch.clone() };
        match self.decide(command).await? {
            catalog::Reply::Queue(_) => Ok(()),
            catalog::Reply::LimitBeyondScope => Err(SetAttributesError::LimitBeyondScope),
            _ => Err(SetAttributesError::NotFound),
        }
    }

    async fn tag_queue(
        &self,
        queue: &Queue,
        tags: &BTreeMap<String, String>,
    ) -> Result<(), TagError> {
        let command = Command::TagQueue { queue: queue.id, tags: tags.clone() };
        match self.decide(command).await? {
            catalog::Reply::Queue(_) => Ok(()),
            catalog::Reply::TooManyTags => Err(TagError::TooMany),
            _ => Err(TagError::NotFound),
        }
    }

    async fn untag_queue(&self, queue: &Queue, keys: &BTreeSet<String>) -> Result<(), QueueError> {
        let command = Command::UntagQueue { queue: queue.id, keys: keys.clone() };
        match self.decide(command).await? {
            catalog::Reply::Queue(_) => Ok(()),
            _ => Err(QueueError::NotFound),
        }
    }

    async fn add_permission(
        &self,
        queue: &Queue,
        permission: &Permission,
    ) -> Result<(), AddPermissionError> {
        let command = Command::AddPermission { queue: queue.id, permission: permission.clone() };
        match self.decide(command).await? {
            catalog::Reply::Queue(_) => Ok(()),
            catalog::Reply::GrantRefused(why) => Err(why.into()),
            _ => Err(AddPermissionError::NotFound),
        }
    }

    async fn remove_permission(
        &self,
        queue: &Queue,
        label: &Label,
    ) -> Result<(), RemovePermissionError> {
        let command = Command::RemovePermission { queue: queue.id, label: label.clone() };
        match self.decide(command).await? {
            catalog::Reply::Queue(_) => Ok(()),
            catalog::Reply::RevokeRefused(why) => Err(why.into()),
            _ => Err(RemovePermissionError::NotFound),
        }
    }

    async fn purge_queue(&self, queue: &Queue) -> Result<(), PurgeError> {
        let purge = self.next_catalog_id();
        let mark = Command::MarkPurge { queue: queue.id, at_once: !self.rests };
        match self.decide_as(purge, mark).await? {
            catalog::Reply::Done => {}
            catalog::Reply::PurgedRecently => return Err(PurgeError::InProgress),
            _ => return Err(PurgeError::NotFound),
        }
        self.everywhere(queue_command::Command::Purge { queue: queue.id }).await?;
        // If it cannot be noted, another one is allowed too soon: no harm.
        let _ = self.decide(Command::FinishPurge { queue: queue.id, purge }).await;
        Ok(())
    }

    async fn counts(&self, queue: &Queue) -> Result<Counts, Trouble> {
        self.count_everywhere(queue.id).await
    }

    async fn send(&self, queue: &Queue, messages: Vec<Outgoing>) -> Vec<Result<Sent, Trouble>> {
        let count = messages.len();
        let sent = |message: &Outgoing, shard: GroupId| {
            let message_id = message.message_id;
            Ok(Sent { message_id, shard, seq: None, duplicate: false })
        };
        let deadline = Self::deadline();
        if queue.attributes.fifo.is_some() {
            return self.send_in_order(queue, &messages, deadline).await;
        }
        let commands: Vec<_> = messages
            .iter()
            .map(|message| {
                queue_command::Command::Send(queue_command::Send {
                    queue: queue.id,
                    message_id: message.message_id,
                    delay_ms: u64::from(message.delay_seconds) * 1_000,
                    group: message.group,
                    dedup: None,
                    placing: Placing::default(),
                    content: message.content.clone(),
                })
            })
            .collect();
        let in_work = InWork::enter(&self.sends_in_work);
        let mut tried = Vec::new();
        loop {
            let mut not = self.shards_low_on_space();
            if !not.is_empty() && not.len() == self.router.groups().len() {
                self.counters.low_on_space.fetch_add(1, Ordering::Relaxed);
                return vec![Err(Trouble::LowOnSpace); count];
            }
            not.extend(&tried);
            let shard = self.shard_for_send(in_work.count, &not);
            if Instant::now() >= deadline && (shard.is_none() || !tried.is_empty()) {
                let request_id = request::current();
                tracing::warn!(%request_id, "no shard had a leader in time");
                return vec![Err(Trouble::Unavailable { maybe_applied: false }); count];
            }
            let Some(shard) = shard else {
                // No shard has a leader that can be reached: wait for an election.
                tried.clear();
                tokio::time::sleep(crate::router::LOOK_AGAIN).await;
                continue;
            };
            match self.router.submit_once(shard, commands.clone(), deadline).await {
                Ok(_) => {
                    let groups = self.router.groups();
                    if let Some(place) = groups.iter().position(|group| *group == shard) {
                        let n = groups.len();
                        self.decks.with(queue.id, n, |deck| {
                            note_sent(deck, place, &messages, self.clock.now_ms());
                        });
                    }
                    return messages.iter().map(|message| sent(message, shard)).collect();
                }
                // Certainly not stored there: any other shard will do.
                Err(Trouble::Unavailable { maybe_applied: false }) => tried.push(shard),
                Err(trouble) => return vec![Err(trouble); count],
            }
        }
    }

    fn answers(&self) -> &Pool {
        &self.answers
    }

    async fn receive(
        &self,
        queue: &Queue,
        request: ReceiveRequest,
    ) -> Result<Received, ReceiveError> {
        receive::receive(self, queue, request).await
    }

    async fn delete(&self, queue: &Queue, receipts: Vec<Receipt>) -> Vec<Result<(), DeleteError>> {
        let command = |receipt: &Receipt| {
            queue_command::Command::Delete(queue_command::Delete {
                queue: queue.id,
                seq: receipt.seq,
                receive: receipt.receive,
            })
        };
        let result = |reply| match reply {
            Ok(Reply::Deleted(result)) => result.map_err(|_| DeleteError::Expired),
            Ok(_) => Err(Trouble::Unavailable { maybe_applied: true }.into()),
            Err(trouble) => Err(DeleteError::Trouble(trouble)),
        };
        let shards: Vec<GroupId> = receipts.iter().map(|receipt| receipt.shard).collect();
        let results = self.by_shard(receipts, |receipt| receipt.shard, command, result).await;
        let deleted = shards.into_iter().zip(&results).filter(|(_, result)| result.is_ok());
        self.note_back(queue.id, deleted.map(|(shard, _)| shard));
        self.let_in(queue.id);
        results
    }

    async fn change_visibility(
        &self,
        queue: &Queue,
        changes: Vec<(Receipt, u32)>,
    ) -> Vec<Result<(), VisibilityError>> {
        let command = |(receipt, seconds): &(Receipt, u32)| {
            queue_command::Command::ChangeVisibility(queue_command::ChangeVisibility {
                queue: queue.id,
                seq: receipt.seq,
                receive: receipt.receive,
                visibility_ms: u64::from(*seconds) * 1_000,
            })
        };
        let result = |reply| match reply {
            Ok(Reply::VisibilityChanged(result)) => result.map_err(|error| match error {
                queue_command::VisibilityError::NotInFlight => VisibilityError::NotInFlight,
                queue_command::VisibilityError::BeyondLimit => VisibilityError::BeyondLimit,
            }),
            Ok(_) => Err(Trouble::Unavailable { maybe_applied: true }.into()),
            Err(trouble) => Err(VisibilityError::Trouble(trouble)),
        };
        self.note_due(queue, &changes);
        let shards: Vec<Option<GroupId>> = changes
            .iter()
            .map(|(receipt, seconds)| (*seconds == 0).then_some(receipt.shard))
            .collect();
        let results = self.by_shard(changes, |(receipt, _)| receipt.shard, command, result).await;
        let visible = shards.into_iter().zip(&results).filter(|(_, result)| result.is_ok());
        self.note_back(queue.id, visible.filter_map(|(shard, _)| shard));
        self.let_in(queue.id);
        results
    }

    async fn start_move(
        &self,
        task: TaskId,
        source: &Queue,
        destination: Option<&Queue>,
        rate: Option<u32>,
    ) -> Result<(), StartMoveError> {
        let to_move = self.counts(source).await?.visible;
        let destination = destination.map(|queue| queue.id);
        let start = StartMove { task, source: source.id, destination, rate, to_move };
        match self.decide(Command::StartMove(start)).await? {
            catalog::Reply::Done => {
                self.see_task(task).await;
                Ok(())
            }
            catalog::Reply::NotDeadLetterQueue => Err(StartMoveError::NotDeadLetterQueue),
            catalog::Reply::TaskRunning => Err(StartMoveError::AlreadyRunning),
            catalog::Reply::TooMany => Err(StartMoveError::TooMany),
            _ => Err(StartMoveError::NotFound),
        }
    }

    async fn cancel_move(&self, source: &Queue, task: TaskId) -> Result<u64, CancelMoveError> {
        // A task stays the same queue's: what is found before the decision holds in it.
        if !self.has_task(source, task).await? {
            return Err(CancelMoveError::NotFound);
        }
        match self.decide(Command::CancelMove(task)).await? {
            catalog::Reply::Moved(moved) => Ok(moved),
            catalog::Reply::TaskNotRunning => Err(CancelMoveError::NotRunning),
            _ => Err(CancelMoveError::NotFound),
        }
    }

    async fn move_tasks(&self, source: &Queue, limit: usize) -> Result<Vec<MoveTask>, Trouble> {
        self.see_all().await?;
        Ok(self.catalog.tasks_of(source.id, limit))
    }

    fn handle_key(&self) -> [u8; 32] {
        self.facts().map_or([0; 32], |facts| facts.handle_key)
    }

    fn ready(&self) -> bool {
        let groups = self.router.groups();
        self.is_caught_up()
            && !self.stopping()
            && !groups.is_empty()
            && groups.iter().all(|it| self.router.reachable(*it) && !self.router.is_cut_off(*it))
            && self.knows_catalog_leader()
    }

    fn has_queue(&self, id: QueueId) -> bool {
        self.catalog.queue_by_id(id).is_some()
    }
}
