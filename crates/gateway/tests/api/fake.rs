//! A cluster in memory, with a clock that only tests move and failures that they order.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use flotilla_cluster::api::{
    AddPermissionError, CancelMoveError, Cluster, Counts, CreateError, DeleteError, Incoming,
    MoveFailure, MoveStatus, MoveTask, Outgoing, Placement, PurgeError, Queue, QueueError, Receipt,
    ReceiveError, ReceiveRequest, Received, RemovePermissionError, Sent, SetAttributesError,
    ShardAnswer, StartMoveError, TagError, Trouble, VisibilityError,
};
use flotilla_cluster::room::Pool;
use flotilla_types::attributes::{AttributePatch, QueueAttributes, RedrivePolicy};
use flotilla_types::ids::{DedupKey, GroupId, QueueId, Seq, TaskId};
use flotilla_types::limits;
use flotilla_types::names::QueueName;
use flotilla_types::permission::{Label, Permission};
use parking_lot::Mutex;
use tokio::sync::Notify;

const START_MS: u64 = 1_700_000_000_000;
const SHARD: GroupId = GroupId(1);
const REMEMBERED_MS: u64 = 300_000;

struct Message {
    seq: Seq,
    outgoing: Outgoing,
    sent_ms: u64,
    visible_ms: u64,
    first_received_ms: u64,
    received_ms: u64,
    receives: u32,
    moved_from: Option<QueueName>,
}

struct Entry {
    queue: Arc<Queue>,
    messages: Vec<Message>,
    purged_ms: Option<u64>,
    /// FIFO: what was sent under a key, and when.
    sent: BTreeMap<DedupKey, (Sent, u64)>,
    /// FIFO: what a receive with this attempt got.
    attempts: BTreeMap<DedupKey, Vec<Incoming>>,
}

#[derive(Default)]
struct State {
    now_ms: u64,
    ids: u64,
    queues: BTreeMap<QueueName, Entry>,
    deleted_ms: BTreeMap<QueueName, u64>,
    trouble: Option<Trouble>,
    /// Receives may have hidden more than they bring.
    lost: bool,
    in_flight_max: Option<usize>,
    /// Oldest first.
    moves: Vec<MoveTask>,
}

#[derive(Default)]
pub(crate) struct Fake {
    state: Mutex<State>,
    changed: Notify,
    /// Receives in work; those that were dropped do not count.
    pub(crate) receiving: AtomicUsize,
    answers: Pool,
}

impl Fake {
    pub(crate) fn advance(&self, seconds: u64) {
        self.state.lock().now_ms += seconds * 1_000;
        self.changed.notify_waiters();
    }

    /// Every later call on messages or move tasks fails like this.
    pub(crate) fn fail(&self, trouble: Option<Trouble>) {
        self.state.lock().trouble = trouble;
    }

    /// From now on every receive may have hidden messages that it does not bring.
    pub(crate) fn lose(&self) {
        self.state.lock().lost = true;
    }

    pub(crate) fn limit_in_flight(&self, max: usize) {
        self.state.lock().in_flight_max = Some(max);
    }

    /// Moves all messages as dead letters.
    pub(crate) fn give_up(&self, source: &str, target: &str) {
        let mut state = self.state.lock();
        let from = state.queues.get_mut(source).unwrap();
        let (name, messages) = (from.queue.name.clone(), std::mem::take(&mut from.messages));
        for mut message in messages {
            state.ids += 1;
            message.seq = Seq(state.ids);
            message.visible_ms = state.now();
            message.moved_from = Some(name.clone());
            state.queues.get_mut(target).unwrap().messages.push(message);
        }
    }

    /// How far the newest move task of a queue is from now on. No task moves anything by itself.
    pub(crate) fn set_move(&self, source: &str, status: MoveStatus, moved: u64) {
        let mut state = self.state.lock();
        let task = state.newest_move(source);
        (task.status, task.moved) = (status, moved);
    }

    /// Fails the newest move task of a queue.
    pub(crate) fn fail_move(&self, source: &str, failure: MoveFailure) {
        let mut state = self.state.lock();
        let task = state.newest_move(source);
        (task.status, task.failure) = (MoveStatus::Failed, Some(failure));
    }

    fn take(&self, queue: &Queue, request: ReceiveRequest) -> Result<Vec<Incoming>, ReceiveError> {
        let mut state = self.state.lock();
        if let Some(trouble) = &state.trouble {
            return Err(trouble.clone().into());
        }
        let (now, in_flight_max) = (state.now(), state.in_flight_max);
        let Some(entry) = state.queues.get_mut(&queue.name) else {
            return Ok(Vec::new());
        };
        let retention_ms = entry.queue.attributes.retention_ms();
        entry.messages.retain(|message| message.sent_ms + retention_ms > now);
        let in_flight = entry.messages.iter().filter(|m| m.in_flight(now)).count();
        if in_flight_max.is_some_and(|max| in_flight >= max) {
            return Err(ReceiveError::TooManyInFlight);
        }
        if let Some(again) = request.attempt.and_then(|attempt| entry.attempts.get(&attempt)) {
            return Ok(again.iter().take(request.max_messages).cloned().collect());
        }
        let is_fifo = queue.attributes.fifo.is_some();
        let mut blocked = BTreeSet::new();
        let due = entry.messages.iter_mut().filter(|message| {
            let group = message.outgoing.group.filter(|_| is_fifo);
            if message.visible_ms > now {
                blocked.extend(group);
            }
            message.visible_ms <= now && group.is_none_or(|group| !blocked.contains(&group))
        });
        let taken: Vec<_> = due
            .take(request.max_messages)
            .map(|message| message.receive(queue.id, now, request.visibility_seconds))
            .collect();
        if let Some(attempt) = request.attempt.filter(|_| !taken.is_empty()) {
            entry.attempts.insert(attempt, taken.clone());
        }
        Ok(taken)
    }
}

impl Entry {
    /// Stores a message, unless it is the duplicate of one.
    fn send(&mut self, outgoing: Outgoing, seq: Seq, now: u64) -> Sent {
        let per_group = self.queue.attributes.fifo.is_some_and(|fifo| fifo.deduplicates_per_group);
        let key = outgoing.dedup.map(|keys| if per_group { keys.in_group } else { keys.in_queue });
        if let Some((sent, at_ms)) = key.and_then(|key| self.sent.get(&key))
            && now < at_ms + REMEMBERED_MS
        {
            return Sent { duplicate: true, ..*sent };
        }
        let (message_id, place) = (outgoing.message_id, key.map(|_| seq));
        let sent = Sent { message_id, shard: SHARD, seq: place, duplicate: false };
        if let Some(key) = key {
            self.sent.insert(key, (sent, now));
        }
        self.messages.push(Message {
            seq,
            sent_ms: now,
            visible_ms: now + u64::from(outgoing.delay_seconds) * 1_000,
            outgoing,
            first_received_ms: 0,
            received_ms: 0,
            receives: 0,
            moved_from: None,
        });
        sent
    }

    fn delete(&mut self, receipt: Receipt, now: u64) -> Result<(), DeleteError> {
        let Some(at) = self.messages.iter().position(|message| message.seq == receipt.seq) else {
            return Ok(());
        };
        let message = &self.messages[at];
        let held = message.in_flight(now) && message.receives == receipt.receive;
        if self.queue.attributes.fifo.is_some() && !held {
            return Err(DeleteError::Expired);
        }
        self.messages.remove(at);
        Ok(())
    }
}

impl State {
    fn now(&self) -> u64 {
        START_MS + self.now_ms
    }

    /// Names of the queues whose dead-letter queue this is.
    fn sources(&self, dead: &QueueName) -> impl Iterator<Item = &QueueName> {
        let target = |source: &Queue| {
            let policy = source.attributes.redrive_policy.as_deref()?;
            RedrivePolicy::parse(policy).unwrap().queue_name()
        };
        let sources = self
            .queues
            .iter()
            .filter(move |(_, entry)| target(&entry.queue).as_ref() == Some(dead));
        sources.map(|(name, _)| name)
    }

    fn newest_move(&mut self, source: &str) -> &mut MoveTask {
        self.moves.iter_mut().rfind(|task| task.source.as_str() == source).unwrap()
    }
}

impl Message {
    fn receive(&mut self, queue: QueueId, now: u64, visibility_seconds: u32) -> Incoming {
        self.receives += 1;
        self.received_ms = now;
        self.visible_ms = now + u64::from(visibility_seconds) * 1_000;
        if self.receives == 1 {
            self.first_received_ms = now;
        }
        Incoming {
            receipt: Receipt { queue, shard: SHARD, seq: self.seq, receive: self.receives },
            message_id: self.outgoing.message_id,
            receive_count: self.receives,
            first_received_ms: self.first_received_ms,
            sent_ms: self.sent_ms,
            moved_from: self.moved_from.clone(),
            content: self.outgoing.content.clone(),
        }
    }

    fn in_flight(&self, now: u64) -> bool {
        self.receives > 0 && self.visible_ms > now
    }
}

struct Receiving<'a>(&'a AtomicUsize);

impl Drop for Receiving<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Cluster for Fake {
    fn answers(&self) -> &Pool {
        &self.answers
    }

    async fn create_queue(
        &self,
        name: &QueueName,
        attributes: &AttributePatch,
        tags: Option<&BTreeMap<String, String>>,
    ) -> Result<Arc<Queue>, CreateError> {
        let mut state = self.state.lock();
        let now = state.now();
        if let Some(entry) = state.queues.get(name) {
            if let Some(name) = entry.queue.attributes.first_difference(attributes) {
                return Err(CreateError::AttributeDiffers(name));
            }
            if tags.is_some_and(|tags| *tags != entry.queue.tags) {
                return Err(CreateError::TagsDiffer);
            }
            return Ok(entry.queue.clone());
        }
        if state.deleted_ms.get(name).is_some_and(|deleted| now < deleted + 60_000) {
            return Err(CreateError::DeletedRecently);
        }
        state.ids += 1;
        let attributes = QueueAttributes::default().with(attributes);
        let queue = Arc::new(Queue {
            id: QueueId(state.ids),
            name: name.clone(),
            placement: Placement::default(),
            attributes,
            tags: tags.cloned().unwrap_or_default(),
            created_s: now / 1_000,
            modified_s: now / 1_000,
        });
        let entry = Entry {
            queue: queue.clone(),
            messages: Vec::new(),
            purged_ms: None,
            sent: BTreeMap::new(),
            attempts: BTreeMap::new(),
        };
        state.queues.insert(name.clone(), entry);
        Ok(queue)
    }

    async fn queue(&self, name: &QueueName) -> Result<Arc<Queue>, QueueError> {
        let state = self.state.lock();
        state.queues.get(name).map(|entry| entry.queue.clone()).ok_or(QueueError::NotFound)
    }

    async fn queue_now(&self, name: &QueueName) -> Result<Arc<Queue>, QueueError> {
        self.queue(name).await
    }

    async fn list_queues(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<QueueName>, Trouble> {
        let state = self.state.lock();
        let names = state.queues.keys().filter(|name| {
            name.as_str().starts_with(prefix) && after.is_none_or(|after| name.as_str() > after)
        });
        Ok(names.take(limit).cloned().collect())
    }

    async fn dead_letter_sources(
        &self,
        queue: &Queue,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<QueueName>, Trouble> {
        let state = self.state.lock();
        let sources = state.sources(&queue.name);
        let rest = sources.filter(|name| after.is_none_or(|after| name.as_str() > after));
        Ok(rest.take(limit).cloned().collect())
    }

    async fn delete_queue(&self, queue: &Queue) -> Result<(), QueueError> {
        let mut state = self.state.lock();
        state.queues.remove(&queue.name).ok_or(QueueError::NotFound)?;
        state.moves.retain(|task| task.source != queue.name);
        let now = state.now();
        state.deleted_ms.insert(queue.name.clone(), now);
        Ok(())
    }

    async fn set_attributes(
        &self,
        queue: &Queue,
        patch: &AttributePatch,
    ) -> Result<(), SetAttributesError> {
        let mut state = self.state.lock();
        let entry = state.queues.get_mut(&queue.name).ok_or(SetAttributesError::NotFound)?;
        let attributes = entry.queue.attributes.with(patch);
        if attributes.fifo.is_some_and(|fifo| !fifo.is_legal()) {
            return Err(SetAttributesError::LimitBeyondScope);
        }
        entry.queue = Arc::new(Queue { attributes, ..Queue::clone(&entry.queue) });
        Ok(())
    }

    async fn tag_queue(
        &self,
        queue: &Queue,
        tags: &BTreeMap<String, String>,
    ) -> Result<(), TagError> {
        let mut state = self.state.lock();
        let entry = state.queues.get_mut(&queue.name).ok_or(TagError::NotFound)?;
        let mut merged = entry.queue.tags.clone();
        merged.extend(tags.clone());
        if merged.len() > limits::TAGS_MAX {
            return Err(TagError::TooMany);
        }
        Arc::make_mut(&mut entry.queue).tags = merged;
        Ok(())
    }

    async fn untag_queue(&self, queue: &Queue, keys: &BTreeSet<String>) -> Result<(), QueueError> {
        let mut state = self.state.lock();
        let entry = state.queues.get_mut(&queue.name).ok_or(QueueError::NotFound)?;
        Arc::make_mut(&mut entry.queue).tags.retain(|key, _| !keys.contains(key));
        Ok(())
    }

    async fn add_permission(
        &self,
        queue: &Queue,
        permission: &Permission,
    ) -> Result<(), AddPermissionError> {
        let mut state = self.state.lock();
        let entry = state.queues.get_mut(&queue.name).ok_or(AddPermissionError::NotFound)?;
        Ok(Arc::make_mut(&mut entry.queue).attributes.grant(permission)?)
    }

    async fn remove_permission(
        &self,
        queue: &Queue,
        label: &Label,
    ) -> Result<(), RemovePermissionError> {
        let mut state = self.state.lock();
        let entry = state.queues.get_mut(&queue.name).ok_or(RemovePermissionError::NotFound)?;
        Ok(Arc::make_mut(&mut entry.queue).attributes.revoke(label)?)
    }

    async fn purge_queue(&self, queue: &Queue) -> Result<(), PurgeError> {
        let mut state = self.state.lock();
        let now = state.now();
        let entry = state.queues.get_mut(&queue.name).ok_or(PurgeError::NotFound)?;
        if entry.purged_ms.is_some_and(|purged| now < purged + 60_000) {
            return Err(PurgeError::InProgress);
        }
        entry.purged_ms = Some(now);
        entry.messages.clear();
        entry.sent.clear();
        Ok(())
    }

    async fn counts(&self, queue: &Queue) -> Result<Counts, Trouble> {
        let state = self.state.lock();
        let now = state.now();
        let messages = state.queues.get(&queue.name).map_or(&[][..], |entry| &entry.messages);
        let count = |which: &dyn Fn(&Message) -> bool| {
            messages.iter().filter(|message| which(message)).count() as u64
        };
        Ok(Counts {
            visible: count(&|m| m.visible_ms <= now),
            in_flight: count(&|m| m.in_flight(now)),
            delayed: count(&|m| m.receives == 0 && m.visible_ms > now),
            oldest_entered_ms: messages.iter().map(|m| m.sent_ms).min(),
        })
    }

    async fn send(&self, queue: &Queue, messages: Vec<Outgoing>) -> Vec<Result<Sent, Trouble>> {
        let mut state = self.state.lock();
        if let Some(trouble) = state.trouble.clone() {
            return messages.iter().map(|_| Err(trouble.clone())).collect();
        }
        let mut results = Vec::new();
        for outgoing in messages {
            state.ids += 1;
            let (now, seq) = (state.now(), Seq(state.ids));
            let entry = state.queues.get_mut(&queue.name).unwrap();
            results.push(Ok(entry.send(outgoing, seq, now)));
        }
        self.changed.notify_waiters();
        results
    }

    async fn receive(
        &self,
        queue: &Queue,
        request: ReceiveRequest,
    ) -> Result<Received, ReceiveError> {
        self.receiving.fetch_add(1, Ordering::SeqCst);
        let _receiving = Receiving(&self.receiving);
        let deadline = self.state.lock().now_ms + u64::from(request.wait_seconds) * 1_000;
        loop {
            let changed = self.changed.notified();
            let mut changed = std::pin::pin!(changed);
            changed.as_mut().enable();
            let messages = self.take(queue, request)?;
            if !messages.is_empty() || self.state.lock().now_ms >= deadline {
                let asked = vec![(SHARD, ShardAnswer::Heard { taken: messages.len(), left: 0 })];
                let asked = if request.explain { asked } else { Vec::new() };
                let lost = self.state.lock().lost;
                return Ok(Received { messages, asked, shards: 1, lost, room: None });
            }
            changed.await;
        }
    }

    async fn delete(&self, queue: &Queue, receipts: Vec<Receipt>) -> Vec<Result<(), DeleteError>> {
        let mut state = self.state.lock();
        if let Some(trouble) = state.trouble.clone() {
            return receipts.iter().map(|_| Err(trouble.clone().into())).collect();
        }
        let now = state.now();
        let delete = |receipt: Receipt| match state.queues.get_mut(&queue.name) {
            Some(entry) => entry.delete(receipt, now),
            None => Ok(()),
        };
        receipts.into_iter().map(delete).collect()
    }

    async fn change_visibility(
        &self,
        queue: &Queue,
        changes: Vec<(Receipt, u32)>,
    ) -> Vec<Result<(), VisibilityError>> {
        let mut state = self.state.lock();
        let now = state.now();
        let change = |(receipt, seconds): (Receipt, u32)| {
            if let Some(trouble) = state.trouble.clone() {
                return Err(trouble.into());
            }
            let messages = state.queues.get_mut(&queue.name).map(|entry| &mut entry.messages);
            let message = messages
                .and_then(|messages| messages.iter_mut().find(|m| m.seq == receipt.seq))
                .ok_or(VisibilityError::NotInFlight)?;
            let until = now + u64::from(seconds) * 1_000;
            if until > message.received_ms + u64::from(limits::VISIBILITY_SECONDS_MAX) * 1_000 {
                return Err(VisibilityError::BeyondLimit);
            }
            message.visible_ms = until;
            Ok(())
        };
        let results = changes.into_iter().map(change).collect();
        self.changed.notify_waiters();
        results
    }

    async fn start_move(
        &self,
        id: TaskId,
        source: &Queue,
        destination: Option<&Queue>,
        rate: Option<u32>,
    ) -> Result<(), StartMoveError> {
        let mut state = self.state.lock();
        if let Some(trouble) = state.trouble.clone() {
            return Err(trouble.into());
        }
        let entry = state.queues.get(&source.name).ok_or(StartMoveError::NotFound)?;
        let to_move = entry.messages.len() as u64;
        if state.sources(&source.name).next().is_none() {
            return Err(StartMoveError::NotDeadLetterQueue);
        }
        let active =
            |task: &&MoveTask| matches!(task.status, MoveStatus::Running | MoveStatus::Cancelling);
        if state.moves.iter().filter(active).any(|task| task.source == source.name) {
            return Err(StartMoveError::AlreadyRunning);
        }
        if state.moves.iter().filter(active).count() >= limits::MOVE_TASKS_MAX {
            return Err(StartMoveError::TooMany);
        }
        let started_ms = state.now();
        state.moves.push(MoveTask {
            id,
            source: source.name.clone(),
            destination: destination.map(|queue| queue.name.clone()),
            rate,
            status: MoveStatus::Running,
            failure: None,
            moved: 0,
            to_move,
            started_ms,
        });
        Ok(())
    }

    async fn cancel_move(&self, source: &Queue, id: TaskId) -> Result<u64, CancelMoveError> {
        let mut state = self.state.lock();
        if let Some(trouble) = state.trouble.clone() {
            return Err(trouble.into());
        }
        let is_it = |task: &&mut MoveTask| task.id == id && task.source == source.name;
        let task = state.moves.iter_mut().find(is_it);
        let task = task.ok_or(CancelMoveError::NotFound)?;
        if task.status != MoveStatus::Running {
            return Err(CancelMoveError::NotRunning);
        }
        task.status = MoveStatus::Cancelling;
        Ok(task.moved)
    }

    async fn move_tasks(&self, source: &Queue, limit: usize) -> Result<Vec<MoveTask>, Trouble> {
        let state = self.state.lock();
        if let Some(trouble) = state.trouble.clone() {
            return Err(trouble);
        }
        let tasks = state.moves.iter().rev().filter(|task| task.source == source.name);
        Ok(tasks.take(limit).cloned().collect())
    }

    fn handle_key(&self) -> [u8; 32] {
        [7; 32]
    }

    fn ready(&self) -> bool {
        true
    }

    fn has_queue(&self, id: QueueId) -> bool {
        self.state.lock().queues.values().any(|entry| entry.queue.id == id)
    }
}
