//! Changes of queues that exist.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use flotilla_types::attributes::AttributePatch;
use flotilla_types::ids::{CommandId, QueueId};
use flotilla_types::limits::{QUEUE_CHANGES_REMEMBERED_MAX, TAGS_MAX};
use flotilla_types::permission::{Label, Permission};

use super::placing::place_anew;
use super::{Change, Machine, Reply};
use crate::api::Queue;

impl Machine {
    /// Changes a queue, or refuses to, once per command: its answer may have been lost, and then
    /// it comes again, perhaps after other changes that it must not undo.
    fn change(
        &mut self,
        queue: QueueId,
        id: Option<CommandId>,
        changes: &mut Vec<Change>,
        change: impl FnOnce(&mut Queue) -> Result<(), Reply>,
    ) -> Reply {
        let Some(entry) = self.by_id(queue) else { return Reply::NotFound };
        if id.is_some_and(|id| entry.changed_by.contains(&id)) {
            return Reply::Queue(entry.queue.clone());
        }
        let mut entry = entry.clone();
        if let Err(refusal) = change(Arc::make_mut(&mut entry.queue)) {
            return refusal;
        }
        entry.changed_by.extend(id);
        if entry.changed_by.len() > QUEUE_CHANGES_REMEMBERED_MAX {
            entry.changed_by.remove(0);
        }
        changes.push(Change::Entry(entry.queue.name.clone()));
        let changed = entry.queue.clone();
        self.insert(entry);
        Reply::Queue(changed)
    }

    pub(super) fn set_attributes(
        &mut self,
        queue: QueueId,
        id: Option<CommandId>,
        patch: &AttributePatch,
        changes: &mut Vec<Change>,
    ) -> Reply {
        let modified_s = self.clock_ms / 1_000;
        let shards = self.shards();
        self.change(queue, id, changes, |queue| {
            queue.attributes = queue.attributes.with(patch);
            // Each of two patches may be legal by itself, as their gateways saw the queue.
            if queue.attributes.fifo.is_some_and(|fifo| !fifo.is_legal()) {
                return Err(Reply::LimitBeyondScope);
            }
            queue.modified_s = modified_s;
            place_anew(queue, shards, modified_s);
            Ok(())
        })
    }

    pub(super) fn tag(
        &mut self,
        queue: QueueId,
        id: Option<CommandId>,
        tags: BTreeMap<String, String>,
        changes: &mut Vec<Change>,
    ) -> Reply {
        self.change(queue, id, changes, |queue| {
            queue.tags.extend(tags);
            if queue.tags.len() > TAGS_MAX { Err(Reply::TooManyTags) } else { Ok(()) }
        })
    }

    pub(super) fn untag(
        &mut self,
        queue: QueueId,
        id: Option<CommandId>,
        keys: &BTreeSet<String>,
        changes: &mut Vec<Change>,
    ) -> Reply {
        self.change(queue, id, changes, |queue| {
            queue.tags.retain(|key, _| !keys.contains(key));
            Ok(())
        })
    }

    pub(super) fn add_permission(
        &mut self,
        queue: QueueId,
        id: Option<CommandId>,
        permission: &Permission,
        changes: &mut Vec<Change>,
    ) -> Reply {
        let modified_s = self.clock_ms / 1_000;
        self.change(queue, id, changes, |queue| {
            queue.modified_s = modified_s;
            queue.attributes.grant(permission).map_err(Reply::GrantRefused)
        })
    }

    pub(super) fn remove_permission(
        &mut self,
        queue: QueueId,
        id: Option<CommandId>,
        label: &Label,
        changes: &mut Vec<Change>,
    ) -> Reply {
        let modified_s = self.clock_ms / 1_000;
        self.change(queue, id, changes, |queue| {
            queue.modified_s = modified_s;
            queue.attributes.revoke(label).map_err(Reply::RevokeRefused)
        })
    }
}

#[cfg(test)]
mod tests {
    use flotilla_types::attributes::{GrantError, PatchFor, RevokeError};
    use flotilla_types::names::{AccountId, QueueName};
    use flotilla_types::permission::GrantableAction;

    use super::super::Command;
    use super::*;

    const ARN: &str = "arn:aws:sqs:r:000000000000:q";

    /// A catalog with one queue, and what its commands answer.
    struct Bench {
        machine: Machine,
        queue: QueueId,
        now_ms: u64,
    }

    impl Bench {
        fn new() -> Self {
            let mut machine = Machine::default();
            let name = QueueName::new("q").unwrap();
            let attributes = AttributePatch::default();
            let create = Command::CreateQueue { name, attributes, tags: None, at_once: false };
            let Reply::Queue(queue) = machine.apply(1_000, None, create, &mut Vec::new()) else {
                panic!("created");
            };
            Self { machine, queue: queue.id, now_ms: 1_000 }
        }

        /// A second later than the last one; a refusal must change no row of the queue.
        fn run(&mut self, counter: u64, command: Command) -> Reply {
            self.now_ms += 1_000;
            let id = Some(CommandId { session: 1, counter });
            let before = self.machine.queues.clone();
            let mut changes = Vec::new();
            let reply = self.machine.apply(self.now_ms, id, command, &mut changes);
            let staged = changes.iter().any(|change| matches!(change, Change::Entry(_)));
            assert_eq!(staged, self.machine.queues != before);
            reply
        }

        fn tag(&mut self, counter: u64, tags: &[(&str, &str)]) -> Reply {
            let owned = tags.iter().map(|(key, value)| ((*key).into(), (*value).into()));
            self.run(counter, Command::TagQueue { queue: self.queue, tags: owned.collect() })
        }

        fn untag(&mut self, counter: u64, keys: &[&str]) -> Reply {
            let keys = keys.iter().map(|key| (*key).into()).collect();
            self.run(counter, Command::UntagQueue { queue: self.queue, keys })
        }

        fn grant(&mut self, counter: u64, label: &str) -> Reply {
            let permission = Permission {
                label: Label::new(label).unwrap(),
                accounts: vec![AccountId::new("111111111111").unwrap()],
                actions: vec![GrantableAction::ReceiveMessage],
                queue_arn: ARN.into(),
            };
            self.run(counter, Command::AddPermission { queue: self.queue, permission })
        }

        fn revoke(&mut self, counter: u64, label: &str) -> Reply {
            let label = Label::new(label).unwrap();
            self.run(counter, Command::RemovePermission { queue: self.queue, label })
        }

        fn set_policy(&mut self, counter: u64, policy: &str) -> Reply {
            let patch = AttributePatch::parse([("Policy", policy)], PatchFor::Change).unwrap();
            let command = Command::SetAttributes { queue: self.queue, attributes: patch };
            self.run(counter, command)
        }

        fn policy(&self) -> Option<String> {
            self.now().attributes.policy.clone()
        }

        fn now(&self) -> Arc<Queue> {
            self.machine.by_id(self.queue).unwrap().queue.clone()
        }

        fn tags(&self) -> Vec<(String, String)> {
            self.now().tags.clone().into_iter().collect()
        }
    }

    fn tags(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect()
    }

    #[test]
    fn tags_are_merged_and_removed() {
        let mut bench = Bench::new();
        let reply = bench.tag(1, &[("b", "1"), ("a", "")]);
        assert_eq!(reply, Reply::Queue(bench.now()));
        bench.tag(2, &[("b", "2"), ("B", "3")]);
        assert_eq!(bench.tags(), tags(&[("B", "3"), ("a", ""), ("b", "2")]));
        assert_eq!(bench.untag(3, &["b", "none"]), Reply::Queue(bench.now()));
        assert_eq!(bench.tags(), tags(&[("B", "3"), ("a", "")]));
        assert_eq!(bench.now().modified_s, 1, "tags are no attributes");
        let gone = QueueId(99);
        let tag = Command::TagQueue { queue: gone, tags: BTreeMap::new() };
        assert_eq!(bench.run(4, tag), Reply::NotFound);
        let untag = Command::UntagQueue { queue: gone, keys: BTreeSet::new() };
        assert_eq!(bench.run(5, untag), Reply::NotFound);
    }

    #[test]
    fn a_queue_has_fifty_tags_at_most() {
        let mut bench = Bench::new();
        let keys: Vec<String> = (0..51).map(|n| n.to_string()).collect();
        let fifty: Vec<_> = keys[..50].iter().map(|key| (key.as_str(), "v")).collect();
        bench.tag(1, &fifty);
        let full = bench.now();
        assert_eq!(bench.tag(2, &[("0", "new"), ("50", "v")]), Reply::TooManyTags);
        assert_eq!(bench.now(), full);
        assert!(matches!(bench.tag(3, &[("0", "new")]), Reply::Queue(_)));
        assert_eq!((bench.now().tags.len(), bench.now().tags["0"].as_str()), (50, "new"));
    }

    #[test]
    fn a_repeated_command_does_not_undo_a_later_one() {
        let mut bench = Bench::new();
        bench.tag(1, &[("k", "first")]);
        bench.tag(2, &[("k", "second")]);
        assert_eq!(bench.tag(1, &[("k", "first")]), Reply::Queue(bench.now()));
        assert_eq!(bench.tags(), tags(&[("k", "second")]));
        bench.untag(3, &["k"]);
        bench.tag(4, &[("k", "third")]);
        bench.untag(3, &["k"]);
        assert_eq!(bench.tags(), tags(&[("k", "third")]));
        let patch =
            |seconds| AttributePatch::parse([("DelaySeconds", seconds)], PatchFor::Change).unwrap();
        let set =
            |seconds| Command::SetAttributes { queue: QueueId(1), attributes: patch(seconds) };
        bench.run(5, set("5"));
        bench.run(6, set("6"));
        bench.run(5, set("5"));
        assert_eq!((bench.now().attributes.delay_seconds, bench.now().modified_s), (6, 9));
    }

    #[test]
    fn of_two_changes_that_do_not_go_together_the_second_is_refused() {
        let mut bench = Bench::new();
        let name = QueueName::new("q.fifo").unwrap();
        let create = [
            ("FifoQueue", "true"),
            ("DeduplicationScope", "messageGroup"),
            ("FifoThroughputLimit", "perQueue"),
        ];
        let attributes = AttributePatch::parse(create, PatchFor::Create).unwrap();
        bench.run(1, Command::CreateQueue { name, attributes, tags: None, at_once: false });
        bench.queue = QueueId(2);
        // Both are checked against the queue as it is now, by two nodes.
        let seen = PatchFor::change(&bench.now().attributes);
        let patch = |pair| AttributePatch::parse([pair], seen).unwrap();
        let limit = patch(("FifoThroughputLimit", "perMessageGroupId"));
        let scope = patch(("DeduplicationScope", "queue"));
        let set = |attributes: &AttributePatch| Command::SetAttributes {
            queue: QueueId(2),
            attributes: attributes.clone(),
        };
        assert!(matches!(bench.run(2, set(&limit)), Reply::Queue(_)));
        let before = bench.now();
        assert_eq!(bench.run(3, set(&scope)), Reply::LimitBeyondScope);
        assert_eq!(bench.now(), before);
    }

    /// The statement that [`Bench::grant`] adds.
    fn statement(label: &str) -> String {
        format!(
            "{{\"Sid\":\"{label}\",\"Effect\":\"Allow\",\
             \"Principal\":{{\"AWS\":\"arn:aws:iam::111111111111:root\"}},\
             \"Action\":\"SQS:ReceiveMessage\",\"Resource\":\"{ARN}\"}}"
        )
    }

    #[test]
    fn permissions_are_statements_of_the_policy() {
        let mut bench = Bench::new();
        assert_eq!(bench.revoke(1, "one"), Reply::RevokeRefused(RevokeError::NoPolicy));
        let reply = bench.grant(2, "one");
        assert_eq!(reply, Reply::Queue(bench.now()));
        let one = format!(
            "{{\"Version\":\"2008-10-17\",\
             \"Id\":\"{ARN}/SQSDefaultPolicy\",\"Statement\":[{}]}}",
            statement("one")
        );
        assert_eq!((bench.policy().unwrap(), bench.now().modified_s), (one, 3));
        let before = bench.now();
        assert_eq!(bench.grant(3, "one"), Reply::GrantRefused(GrantError::LabelExists));
        assert_eq!(bench.revoke(4, "two"), Reply::RevokeRefused(RevokeError::NoSuchLabel));
        assert_eq!(bench.now(), before);

        let own = statement("own");
        bench.set_policy(5, &format!("{{\"Statement\":{own}}}"));
        bench.grant(6, "two");
        let both = format!("{{\"Statement\":[{own},{}]}}", statement("two"));
        assert_eq!(bench.policy().unwrap(), both);
        bench.revoke(7, "own");
        assert_eq!(bench.revoke(8, "two"), Reply::Queue(bench.now()));
        assert_eq!((bench.policy(), bench.now().modified_s), (None, 9));

        bench.machine.apply(0, None, Command::DeleteQueue { queue: bench.queue }, &mut vec![]);
        assert_eq!(bench.grant(9, "one"), Reply::NotFound);
        assert_eq!(bench.revoke(10, "one"), Reply::NotFound);
    }

    #[test]
    fn a_policy_has_twenty_statements_at_most() {
        let mut bench = Bench::new();
        for n in 1..=20 {
            assert!(matches!(bench.grant(n, &format!("l{n}")), Reply::Queue(_)));
        }
        assert_eq!(bench.grant(21, "l21"), Reply::GrantRefused(GrantError::Statements(21)));
        bench.revoke(22, "l7");
        assert!(matches!(bench.grant(23, "l21"), Reply::Queue(_)));
    }

    #[test]
    fn a_repeated_permission_is_neither_refused_nor_granted_again() {
        let mut bench = Bench::new();
        bench.grant(1, "one");
        assert_eq!(bench.grant(1, "one"), Reply::Queue(bench.now()));
        bench.grant(2, "two");
        bench.revoke(3, "one");
        assert_eq!(bench.revoke(3, "one"), Reply::Queue(bench.now()));
        assert_eq!(bench.grant(1, "one"), Reply::Queue(bench.now()));
        let policy = bench.policy().unwrap();
        assert!(policy.ends_with(&format!("[{}]}}", statement("two"))), "{policy}");
        // What was refused changed nothing, so it is decided anew.
        assert_eq!(bench.grant(4, "two"), Reply::GrantRefused(GrantError::LabelExists));
        bench.revoke(5, "two");
        assert!(matches!(bench.grant(4, "two"), Reply::Queue(_)));
    }

    #[test]
    fn as_many_changes_are_remembered_as_their_limit_says() {
        let mut bench = Bench::new();
        let max = QUEUE_CHANGES_REMEMBERED_MAX as u64;
        for counter in 1..=max + 1 {
            bench.tag(counter, &[("k", &counter.to_string())]);
        }
        let remembered = &bench.machine.by_id(bench.queue).unwrap().changed_by;
        assert_eq!(remembered.len() as u64, max);
        bench.tag(2, &[("k", "again")]);
        assert_eq!(bench.tags(), tags(&[("k", &(max + 1).to_string())]));
    }
}
