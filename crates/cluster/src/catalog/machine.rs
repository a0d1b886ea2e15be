//! The catalog's decisions: commands in, replies and changed rows out; no I/O, no clock.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use flotilla_probe::planted;
use flotilla_types::attributes::{
    AttributeName, AttributePatch, GrantError, QueueAttributes, RevokeError,
};
use flotilla_types::ids::{CommandId, GroupId, NodeId, QueueId, Seq, TaskId};
use flotilla_types::limits::{
    NAME_REUSE_SECONDS, PURGE_INTERVAL_SECONDS, PURGE_REPEAT_SECONDS, QUEUES_MAX,
};
use flotilla_types::names::QueueName;
use flotilla_types::permission::{Label, Permission};

use super::sources::Sources;
use super::tasks::{MoveReport, StartMove, Tasks};
use crate::api::{Placement, Queue};

use self::placing::is_spread;

mod changes;
mod moves;
mod placing;

/// Where a shard lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ShardPlace {
    pub(crate) group: GroupId,
    /// The preferred leader first.
    pub(crate) replicas: Vec<NodeId>,
}

/// What is decided when a cluster is founded, and never changes by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) cluster: String,
    pub(crate) handle_key: [u8; 32],
    pub(crate) shards: Vec<ShardPlace>,
}

/// A queue with what only the catalog needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) queue: Arc<Queue>,
    pub(crate) purged_ms: u64,
    /// The purge that `purged_ms` is of: repeated, it is no second purge.
    pub(crate) purged_by: Option<CommandId>,
    /// Nobody has said yet that it has reached every shard.
    pub(crate) is_purging: bool,
    /// The last commands that changed the queue, oldest first: repeated, they change it no more.
    pub(crate) changed_by: Vec<CommandId>,
}

/// A name whose queue was deleted a moment ago.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tombstone {
    pub(crate) deleted_ms: u64,
    pub(crate) queue: QueueId,
    pub(crate) deleted_by: Option<CommandId>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Found(Facts),
    CreateQueue {
        name: QueueName,
        attributes: AttributePatch,
        tags: Option<BTreeMap<String, String>>,
        /// Even if a queue of that name was deleted a moment ago.
        at_once: bool,
    },
    DeleteQueue {
        queue: QueueId,
    },
    SetAttributes {
        queue: QueueId,
        attributes: AttributePatch,
    },
    /// Adds tags and overwrites those of the same keys.
    TagQueue {
        queue: QueueId,
        tags: BTreeMap<String, String>,
    },
    UntagQueue {
        queue: QueueId,
        keys: BTreeSet<String>,
    },
    /// Adds a statement to the queue's policy.
    AddPermission {
        queue: QueueId,
        permission: Permission,
    },
    RemovePermission {
        queue: QueueId,
        label: Label,
    },
    StartMove(StartMove),
    ReportMove(MoveReport),
    CancelMove(TaskId),
    /// A shard has no group any more that lived there before the queue's placement changed.
    Settle {
        queue: QueueId,
        epoch: u64,
        shard: GroupId,
        /// All places that they had there are below.
        floor: Seq,
    },
    /// Allowed once a minute, or `at_once`; the shards are told afterwards.
    MarkPurge {
        queue: QueueId,
        at_once: bool,
    },
    /// All of them have done it. A purge of which this is not known may have left something: it can be
    /// asked for again at once.
    FinishPurge {
        queue: QueueId,
        /// The command that marked it.
        purge: CommandId,
    },
}

impl Command {
    /// An earlier attempt may have been applied. A queue that it made may have been deleted since, by somebody who was
    /// told so, and must not come back: the name rests.
    pub(crate) fn repeated(&mut self) {
        if let Self::CreateQueue { at_once, .. } = self {
            *at_once = false;
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    Done,
    Queue(Arc<Queue>),
    NotFound,
    AttributeDiffers(AttributeName),
    TagsDiffer,
    DeletedRecently,
    TooMany,
    PurgedRecently,
    LimitBeyondScope,
    TooManyTags,
    GrantRefused(GrantError),
    RevokeRefused(RevokeError),
    NotDeadLetterQueue,
    TaskRunning,
    TaskNotRunning,
    Moved(u64),
}

impl Reply {
    /// Whether nothing was changed because of what there is.
    pub(crate) fn is_refusal(&self) -> bool {
        !matches!(self, Self::Done | Self::Queue(_) | Self::Moved(_))
    }
}

/// A row that a command changed; the replica writes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Facts,
    Entry(QueueName),
    Tombstone(QueueName),
    Task(TaskId),
}

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Machine {
    pub(crate) facts: Option<Facts>,
    pub(crate) next_queue: u64,
    pub(crate) clock_ms: u64,
    pub(crate) queues: BTreeMap<QueueName, Entry>,
    pub(crate) by_id: BTreeMap<QueueId, QueueName>,
    pub(crate) tombstones: BTreeMap<QueueName, Tombstone>,
    pub(crate) sources: Sources,
    pub(crate) tasks: Tasks,
}

impl Machine {
    /// Applies one command under the leader's stamp and names the rows that changed.
    pub(crate) fn apply(
        &mut self,
        now_ms: u64,
        id: Option<CommandId>,
        command: Command,
        changes: &mut Vec<Change>,
    ) -> Reply {
        self.clock_ms = self.clock_ms.max(now_ms);
        // The clock and the next id are in the facts' row.
        changes.push(Change::Facts);
        self.forget_tombstones(changes);
        match command {
            Command::Found(facts) => {
                // Two founders can only be the same one, repeating itself.
                self.facts.get_or_insert(facts);
                Reply::Done
            }
            Command::CreateQueue { name, attributes, tags, at_once } => {
                self.create(name, &attributes, tags, at_once, changes)
            }
            Command::DeleteQueue { queue } => self.delete(queue, id, changes),
            Command::SetAttributes { queue, attributes } => {
                self.set_attributes(queue, id, &attributes, changes)
            }
            Command::TagQueue { queue, tags } => self.tag(queue, id, tags, changes),
            Command::UntagQueue { queue, keys } => self.untag(queue, id, &keys, changes),
            Command::AddPermission { queue, permission } => {
                self.add_permission(queue, id, &permission, changes)
            }
            Command::RemovePermission { queue, label } => {
                self.remove_permission(queue, id, &label, changes)
            }
            Command::StartMove(start) => self.start_move(&start, changes),
            Command::ReportMove(report) => self.report_move(&report, changes),
            Command::CancelMove(task) => self.cancel_move(task, id, changes),
            Command::Settle { queue, epoch, shard, floor } => {
                self.settle(queue, epoch, shard, floor, changes)
            }
            Command::MarkPurge { queue, at_once } => self.mark_purge(queue, at_once, id, changes),
            Command::FinishPurge { queue, purge } => self.finish_purge(queue, purge, changes),
        }
    }

    /// Names from `prefix`, after `after`.
    pub(crate) fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Vec<QueueName> {
        let from = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        let names = self.queues.range::<str, _>((from, Bound::Unbounded)).map(|(name, _)| name);
        names.take_while(|name| name.as_str().starts_with(prefix)).take(limit).cloned().collect()
    }

    pub(crate) fn by_id(&self, queue: QueueId) -> Option<&Entry> {
        self.queues.get(self.by_id.get(&queue)?)
    }

    fn create(
        &mut self,
        name: QueueName,
        attributes: &AttributePatch,
        tags: Option<BTreeMap<String, String>>,
        at_once: bool,
        changes: &mut Vec<Change>,
    ) -> Reply {
        if let Some(entry) = self.queues.get(&name) {
            if let Some(differs) = entry.queue.attributes.first_difference(attributes) {
                return Reply::AttributeDiffers(differs);
            }
            if tags.is_some_and(|tags| tags != entry.queue.tags) {
                return Reply::TagsDiffer;
            }
            return Reply::Queue(entry.queue.clone());
        }
        if !at_once && self.tombstones.contains_key(&name) {
            return Reply::DeletedRecently;
        }
        if self.queues.len() >= QUEUES_MAX {
            return Reply::TooMany;
        }
        self.next_queue += 1;
        let attributes = QueueAttributes::default().with(attributes);
        let queue = Arc::new(Queue {
            id: QueueId(self.next_queue),
            name: name.clone(),
            placement: Placement { spread: is_spread(&attributes), ..Placement::default() },
            attributes,
            tags: tags.unwrap_or_default(),
            created_s: self.clock_ms / 1_000,
            modified_s: self.clock_ms / 1_000,
        });
        changes.push(Change::Entry(name));
        self.insert(Entry {
            queue: queue.clone(),
            purged_ms: 0,
            purged_by: None,
            is_purging: false,
            changed_by: Vec::new(),
        });
        Reply::Queue(queue)
    }

    pub(crate) fn insert(&mut self, entry: Entry) {
        self.by_id.insert(entry.queue.id, entry.queue.name.clone());
        let queue = entry.queue.clone();
        if let Some(before) = self.queues.insert(queue.name.clone(), entry) {
            self.sources.remove(&before.queue);
        }
        self.sources.add(&queue);
    }

    fn delete(
        &mut self,
        queue: QueueId,
        id: Option<CommandId>,
        changes: &mut Vec<Change>,
    ) -> Reply {
        let Some(name) = self.by_id.remove(&queue) else {
            let again = |tomb: &&Tombstone| tomb.queue == queue && tomb.deleted_by == id;
            let repeated = id.is_some() && self.tombstones.values().any(|tomb| again(&tomb));
            return if repeated { Reply::Done } else { Reply::NotFound };
        };
        if let Some(entry) = self.queues.remove(&name) {
            self.sources.remove(&entry.queue);
        }
        if planted!(QueueIdReused) && self.next_queue == queue.0 {
            self.next_queue -= 1;
        }
        self.drop_tasks(queue, changes);
        changes.push(Change::Entry(name.clone()));
        changes.push(Change::Tombstone(name.clone()));
        let tombstone = Tombstone { deleted_ms: self.clock_ms, queue, deleted_by: id };
        self.tombstones.insert(name, tombstone);
        Reply::Done
    }

    fn mark_purge(
        &mut self,
        queue: QueueId,
        at_once: bool,
        id: Option<CommandId>,
        changes: &mut Vec<Change>,
    ) -> Reply {
        let now_ms = self.clock_ms;
        let Some(entry) = self.by_id.get(&queue).and_then(|name| self.queues.get_mut(name)) else {
            return Reply::NotFound;
        };
        if id.is_some() && entry.purged_by == id {
            return Reply::Done;
        }
        let rest = if entry.is_purging { PURGE_REPEAT_SECONDS } else { PURGE_INTERVAL_SECONDS };
        if !at_once && entry.purged_ms > 0 && now_ms < entry.purged_ms + rest * 1_000 {
            return Reply::PurgedRecently;
        }
        entry.purged_ms = now_ms;
        entry.purged_by = id;
        entry.is_purging = true;
        changes.push(Change::Entry(entry.queue.name.clone()));
        Reply::Done
    }

    fn finish_purge(
        &mut self,
        queue: QueueId,
        purge: CommandId,
        changes: &mut Vec<Change>,
    ) -> Reply {
        let Some(entry) = self.by_id.get(&queue).and_then(|name| self.queues.get_mut(name)) else {
            return Reply::NotFound;
        };
        // Another one may have begun, or this may be repeated.
        if entry.is_purging && entry.purged_by == Some(purge) {
            entry.is_purging = false;
            changes.push(Change::Entry(entry.queue.name.clone()));
        }
        Reply::Done
    }

    fn forget_tombstones(&mut self, changes: &mut Vec<Change>) {
        let now_ms = self.clock_ms;
        self.tombstones.retain(|name, tombstone| {
            let keep = now_ms < tombstone.deleted_ms + NAME_REUSE_SECONDS * 1_000;
            if !keep {
                changes.push(Change::Tombstone(name.clone()));
            }
            keep
        });
    }
}

#[cfg(test)]
mod tests {
    use flotilla_types::attributes::PatchFor;

    use super::*;

    fn name(text: &str) -> QueueName {
        QueueName::new(text).unwrap()
    }

    fn patch(pairs: &[(&str, &str)]) -> AttributePatch {
        AttributePatch::parse(pairs.iter().copied(), PatchFor::Change).unwrap()
    }

    fn create(machine: &mut Machine, now_ms: u64, text: &str, pairs: &[(&str, &str)]) -> Reply {
        let command = Command::CreateQueue {
            name: name(text),
            attributes: patch(pairs),
            tags: None,
            at_once: false,
        };
        machine.apply(now_ms, None, command, &mut Vec::new())
    }

    fn run(machine: &mut Machine, now_ms: u64, counter: u64, command: Command) -> Reply {
        let id = Some(CommandId { session: 1, counter });
        machine.apply(now_ms, id, command, &mut Vec::new())
    }

    /// Conformance vector 10: only what the request names is compared, with current values.
    #[test]
    fn create_compares_only_what_is_given() {
        let mut machine = Machine::default();
        let Reply::Queue(queue) = create(&mut machine, 1_000, "a", &[("DelaySeconds", "1")]) else {
            panic!("created");
        };
        assert_eq!(create(&mut machine, 2_000, "a", &[]), Reply::Queue(queue.clone()));
        assert_eq!(
            create(&mut machine, 2_000, "a", &[("DelaySeconds", "2")]),
            Reply::AttributeDiffers(AttributeName::DelaySeconds)
        );
        let set =
            Command::SetAttributes { queue: queue.id, attributes: patch(&[("DelaySeconds", "2")]) };
        assert!(matches!(run(&mut machine, 5_000, 1, set), Reply::Queue(_)));
        let Reply::Queue(now) = create(&mut machine, 6_000, "a", &[("DelaySeconds", "2")]) else {
            panic!("equal now");
        };
        assert_eq!((now.id, now.created_s, now.modified_s), (queue.id, 1, 5));
        assert_eq!(
            create(&mut machine, 6_000, "a", &[("DelaySeconds", "1")]),
            Reply::AttributeDiffers(AttributeName::DelaySeconds)
        );
    }

    #[test]
    fn a_deleted_name_rests_for_a_minute_and_comes_back_as_another_queue() {
        let mut machine = Machine::default();
        let Reply::Queue(first) = create(&mut machine, 0, "a", &[]) else { panic!("created") };
        let delete = Command::DeleteQueue { queue: first.id };
        assert_eq!(run(&mut machine, 10_000, 1, delete.clone()), Reply::Done);
        assert_eq!(run(&mut machine, 10_000, 1, delete.clone()), Reply::Done, "repeated");
        assert_eq!(run(&mut machine, 10_000, 2, delete), Reply::NotFound, "another request");
        assert_eq!(create(&mut machine, 69_999, "a", &[]), Reply::DeletedRecently);
        let Reply::Queue(second) = create(&mut machine, 70_000, "a", &[]) else {
            panic!("free again");
        };
        assert_ne!(first.id, second.id);
    }

    #[test]
    fn one_purge_a_minute_but_a_repeat_is_no_second_one() {
        let mut machine = Machine::default();
        let Reply::Queue(queue) = create(&mut machine, 1, "a", &[]) else { panic!("created") };
        let purge = || Command::MarkPurge { queue: queue.id, at_once: false };
        let finish = |counter| {
            let purge = CommandId { session: 1, counter };
            Command::FinishPurge { queue: queue.id, purge }
        };
        assert_eq!(run(&mut machine, 1_000, 1, purge()), Reply::Done);
        assert_eq!(run(&mut machine, 1_500, 2, finish(1)), Reply::Done);
        assert_eq!(run(&mut machine, 2_000, 1, purge()), Reply::Done);
        assert_eq!(run(&mut machine, 60_999, 3, purge()), Reply::PurgedRecently);
        assert_eq!(run(&mut machine, 61_000, 4, purge()), Reply::Done);
        // The end of an earlier one says nothing of this.
        assert_eq!(run(&mut machine, 62_000, 5, finish(1)), Reply::Done);
        assert!(machine.queues["a"].is_purging);
    }

    #[test]
    fn nothing_rests_for_whoever_asks_for_that() {
        let mut machine = Machine::default();
        let Reply::Queue(first) = create(&mut machine, 1, "a", &[]) else { panic!("created") };
        for counter in 1..3 {
            let purge = Command::MarkPurge { queue: first.id, at_once: true };
            assert_eq!(run(&mut machine, 1_000, counter, purge), Reply::Done);
        }
        let delete = Command::DeleteQueue { queue: first.id };
        assert_eq!(run(&mut machine, 1_000, 3, delete.clone()), Reply::Done);
        let mut again = Command::CreateQueue {
            name: name("a"),
            attributes: patch(&[]),
            tags: None,
            at_once: true,
        };
        let created = run(&mut machine, 1_000, 4, again.clone());
        let Reply::Queue(second) = created else { panic!("created") };
        assert_ne!(first.id, second.id);
        assert_eq!(run(&mut machine, 1_000, 3, delete), Reply::Done, "repeated, of the first one");
        assert!(machine.by_id(second.id).is_some());

        // Whoever does not know whether that was done must not undo what was done since.
        let delete = Command::DeleteQueue { queue: second.id };
        assert_eq!(run(&mut machine, 1_000, 5, delete), Reply::Done);
        again.repeated();
        assert_eq!(run(&mut machine, 1_000, 4, again), Reply::DeletedRecently);
    }

    #[test]
    fn a_purge_that_may_have_left_something_can_be_asked_for_again() {
        let mut machine = Machine::default();
        let Reply::Queue(queue) = create(&mut machine, 1, "a", &[]) else { panic!("created") };
        let purge = || Command::MarkPurge { queue: queue.id, at_once: false };
        assert_eq!(run(&mut machine, 1_000, 1, purge()), Reply::Done);
        // It may be on its way still.
        assert_eq!(run(&mut machine, 4_999, 2, purge()), Reply::PurgedRecently);
        assert_eq!(run(&mut machine, 5_000, 3, purge()), Reply::Done);
        let finish =
            Command::FinishPurge { queue: queue.id, purge: CommandId { session: 1, counter: 3 } };
        assert_eq!(run(&mut machine, 6_000, 4, finish), Reply::Done);
        assert_eq!(run(&mut machine, 64_999, 5, purge()), Reply::PurgedRecently);
    }

    #[test]
    fn sources_of_a_dead_letter_queue_follow_the_policies() {
        let mut machine = Machine::default();
        let to = |target: &str| {
            format!(
                "{{\"deadLetterTargetArn\":\"arn:aws:sqs:r:000000000000:{target}\",\
                 \"maxReceiveCount\":3}}"
            )
        };
        for (text, policy) in
            [("b", to("dead")), ("a", to("dead")), ("other", to("a")), ("dead", to("dead"))]
        {
            create(&mut machine, 0, text, &[("RedrivePolicy", &policy)]);
        }
        create(&mut machine, 0, "none", &[]);
        let dead = name("dead");
        let list = |machine: &Machine| machine.sources.list(&dead, None, 9);
        assert_eq!(list(&machine), [name("a"), name("b"), name("dead")]);
        assert_eq!(machine.sources.list(&dead, None, 2), [name("a"), name("b")]);
        assert_eq!(machine.sources.list(&dead, Some("a"), 1), [name("b")]);
        assert_eq!(machine.sources.list(&dead, Some("dead"), 9), []);
        assert_eq!(machine.sources.list(&name("none"), None, 9), []);
        let set = |machine: &mut Machine, counter, text, policy: &str| {
            let queue = machine.queues[text].queue.id;
            let attributes = patch(&[("RedrivePolicy", policy)]);
            run(machine, 1_000, counter, Command::SetAttributes { queue, attributes });
        };
        set(&mut machine, 1, "a", "");
        set(&mut machine, 2, "b", &to("a"));
        set(&mut machine, 3, "none", &to("dead"));
        assert_eq!(list(&machine), [name("dead"), name("none")]);
        assert_eq!(machine.sources.list(&name("a"), None, 9), [name("b"), name("other")]);
        let gone = machine.queues["none"].queue.id;
        run(&mut machine, 1_000, 4, Command::DeleteQueue { queue: gone });
        assert_eq!(list(&machine), [name("dead")]);
        let gone = machine.queues["dead"].queue.id;
        run(&mut machine, 1_000, 5, Command::DeleteQueue { queue: gone });
        assert_eq!(list(&machine), []);
        let mut loaded = Machine::default();
        machine.queues.values().cloned().for_each(|entry| loaded.insert(entry));
        assert_eq!(loaded.sources, machine.sources);
    }

    #[test]
    fn lists_by_prefix_in_order_and_resumes() {
        let mut machine = Machine::default();
        for text in ["b1", "a2", "a1", "a3", "A1"] {
            create(&mut machine, 0, text, &[]);
        }
        assert_eq!(machine.list("a", None, 2), [name("a1"), name("a2")]);
        assert_eq!(machine.list("a", Some("a2"), 9), [name("a3")]);
        assert_eq!(machine.list("", None, 9).len(), 5);
        assert_eq!(machine.list("zz", None, 9), []);
    }
}
