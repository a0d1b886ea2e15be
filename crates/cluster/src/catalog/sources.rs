//! Which queues have which dead-letter queue. Derived from their redrive policies, so that
//! finding them does not read the policies of all queues.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use flotilla_types::attributes::RedrivePolicy;
use flotilla_types::names::QueueName;

use crate::api::Queue;

/// Names of sources by the name of their dead-letter queue, which need not exist (any more).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sources(BTreeMap<QueueName, BTreeSet<QueueName>>);

/// The dead-letter queue that a queue's policy names. The front end let it name one of ours only.
fn target(queue: &Queue) -> Option<QueueName> {
    let policy = RedrivePolicy::parse(queue.attributes.redrive_policy.as_deref()?).ok()?;
    policy.queue_name()
}

impl Sources {
    pub(crate) fn add(&mut self, queue: &Queue) {
        if let Some(target) = target(queue) {
            self.0.entry(target).or_default().insert(queue.name.clone());
        }
    }

    pub(crate) fn remove(&mut self, queue: &Queue) {
        let Some(target) = target(queue) else { return };
        if let Some(sources) = self.0.get_mut(&target) {
            sources.remove(&queue.name);
            if sources.is_empty() {
                self.0.remove(&target);
            }
        }
    }

    /// In order, after `after`.
    pub(crate) fn list(
        &self,
        target: &QueueName,
        after: Option<&str>,
        limit: usize,
    ) -> Vec<QueueName> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let sources = self.0.get(target).into_iter();
        let names = sources.flat_map(|sources| sources.range::<str, _>((from, Bound::Unbounded)));
        names.take(limit).cloned().collect()
    }
}
