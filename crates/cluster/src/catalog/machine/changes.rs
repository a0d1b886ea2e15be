//! Changes of queues that exist.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use flotilla_types::attributes::AttributePatch;
use flotilla_types::ids::{CommandId, QueueId};
use flotilla_types::limits::{QUEUE_CHANGES_REMEMBERED_MAX, TAGS_MAX};

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
        self.change(queue, id, changes, |queue| {
            queue.attributes = queue.attributes.with(patch);
            queue.modified_s = modified_s;
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
}

#[cfg(test)]
mod tests {
    use flotilla_types::attributes::PatchFor;
    use flotilla_types::names::QueueName;

    use super::super::Command;
    use super::*;

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
            let create = Command::CreateQueue { name, attributes, tags: None };
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
