//! The catalog's replica on this node: what its group applies to, and what everybody reads.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use flotilla_consensus::{Answer, Application};
use flotilla_probe::failable;
use flotilla_storage::state::{GroupBatch, GroupState};
use flotilla_types::ids::{QueueId, TaskId};
use flotilla_types::names::QueueName;
use parking_lot::RwLock;
use tokio::sync::watch;

use super::codec;
use super::machine::{Change, Facts, Machine, Reply};
use super::tasks::Task;
use crate::api::{MoveTask, Queue};

const FACTS_KEY: &[u8] = b"c";
const QUEUE_PREFIX: u8 = b'q';
const TOMBSTONE_PREFIX: u8 = b'd';
const TASK_PREFIX: u8 = b'm';

/// See the module. Reads may be behind the leader by a heartbeat.
pub(crate) struct Catalog {
    machine: RwLock<Machine>,
    /// The founding facts, once they are known here.
    facts: watch::Sender<Option<Arc<Facts>>>,
    /// Counts what was applied here.
    versions: watch::Sender<u64>,
}

fn key(prefix: u8, name: &QueueName) -> Vec<u8> {
    let mut key = vec![prefix];
    key.extend_from_slice(name.as_str().as_bytes());
    key
}

impl Catalog {
    pub(crate) fn new() -> Self {
        Self {
            machine: RwLock::default(),
            facts: watch::Sender::new(None),
            versions: watch::Sender::new(0),
        }
    }

    pub(crate) fn facts(&self) -> watch::Receiver<Option<Arc<Facts>>> {
        self.facts.subscribe()
    }

    /// Changes with everything that is applied here.
    pub(crate) fn versions(&self) -> watch::Receiver<u64> {
        self.versions.subscribe()
    }

    pub(crate) fn queue(&self, name: &str) -> Option<Arc<Queue>> {
        Some(self.machine.read().queues.get(name)?.queue.clone())
    }

    pub(crate) fn queue_by_id(&self, id: QueueId) -> Option<Arc<Queue>> {
        Some(self.machine.read().by_id(id)?.queue.clone())
    }

    /// Whether a queue is gone for good: a replica that knows a later one knows every earlier one, and its end.
    pub(crate) fn has_ended(&self, id: QueueId) -> bool {
        let machine = self.machine.read();
        machine.next_queue >= id.0 && machine.by_id(id).is_none()
    }

    /// The first queues by name, at most so many, and whether these are all.
    pub(crate) fn first_queues(&self, limit: usize) -> (Vec<Arc<Queue>>, bool) {
        let machine = self.machine.read();
        let first = machine.queues.values().take(limit).map(|entry| entry.queue.clone());
        (first.collect(), machine.queues.len() <= limit)
    }

    /// Queues with shards that may have groups that live elsewhere.
    pub(crate) fn unsettled(&self) -> Vec<Arc<Queue>> {
        let machine = self.machine.read();
        let queues = machine.queues.values().map(|entry| &entry.queue);
        queues.filter(|queue| !queue.placement.unsettled.is_empty()).cloned().collect()
    }

    pub(crate) fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Vec<QueueName> {
        self.machine.read().list(prefix, after, limit)
    }

    pub(crate) fn dead_letter_sources(
        &self,
        target: &QueueName,
        after: Option<&str>,
        limit: usize,
    ) -> Vec<QueueName> {
        self.machine.read().sources.list(target, after, limit)
    }

    /// Tasks that have not ended.
    pub(crate) fn active_tasks(&self) -> Vec<Task> {
        self.machine.read().active_tasks().cloned().collect()
    }

    pub(crate) fn task(&self, id: TaskId) -> Option<Task> {
        self.machine.read().tasks.get(&id).cloned()
    }

    /// The last tasks of a queue, newest first.
    pub(crate) fn tasks_of(&self, source: QueueId, limit: usize) -> Vec<MoveTask> {
        let machine = self.machine.read();
        machine.tasks_of(source).into_iter().take(limit).map(|task| task.shown.clone()).collect()
    }

    fn publish(&self, machine: &Machine) {
        self.facts.send_if_modified(|known| {
            let changed = known.as_deref() != machine.facts.as_ref();
            if changed {
                *known = machine.facts.clone().map(Arc::new);
            }
            changed
        });
    }

    fn stage(machine: &Machine, changes: &[Change], batch: &mut GroupBatch) {
        for change in changes {
            match change {
                Change::Facts => {
                    let facts = machine.facts.as_ref();
                    let row = codec::facts_to_row(facts, machine.next_queue, machine.clock_ms);
                    batch.put_catalog_row(FACTS_KEY, &row);
                }
                Change::Entry(name) => {
                    let key = key(QUEUE_PREFIX, name);
                    match machine.queues.get(name) {
                        Some(entry) => batch.put_catalog_row(&key, &codec::entry_to_row(entry)),
                        None => batch.remove_catalog_row(&key),
                    }
                }
                Change::Task(id) => {
                    let key = [&[TASK_PREFIX][..], &id.0].concat();
                    match machine.tasks.get(id) {
                        Some(task) => batch.put_catalog_row(&key, &codec::task_to_row(task)),
                        None => batch.remove_catalog_row(&key),
                    }
                }
                Change::Tombstone(name) => {
                    let key = key(TOMBSTONE_PREFIX, name);
                    match machine.tombstones.get(name) {
                        Some(tombstone) => {
                            batch.put_catalog_row(&key, &codec::tombstone_to_row(tombstone));
                        }
                        None => batch.remove_catalog_row(&key),
                    }
                }
            }
        }
    }

    fn load(state: &GroupState) -> io::Result<Machine> {
        let invalid =
            |error| io::Error::new(io::ErrorKind::InvalidData, format!("catalog: {error}"));
        let mut machine = Machine::default();
        for (key, value) in state.catalog_rows()? {
            let (prefix, rest) = key.split_first().unwrap_or((&0, &[]));
            match *prefix {
                _ if key.as_ref() == FACTS_KEY => {
                    (machine.facts, machine.next_queue, machine.clock_ms) =
                        codec::facts_from_row(value).map_err(|e| invalid(e.to_string()))?;
                }
                QUEUE_PREFIX => {
                    let entry = codec::entry_from_row(value).map_err(|e| invalid(e.to_string()))?;
                    machine.insert(entry);
                }
                TASK_PREFIX => {
                    let task = codec::task_from_row(value).map_err(|e| invalid(e.to_string()))?;
                    machine.tasks.insert(task.shown.id, task);
                }
                TOMBSTONE_PREFIX => {
                    let tombstone =
                        codec::tombstone_from_row(value).map_err(|e| invalid(e.to_string()))?;
                    let name = std::str::from_utf8(rest).ok().and_then(|n| QueueName::new(n).ok());
                    let name = name.ok_or_else(|| invalid("a tombstone's name".into()))?;
                    machine.tombstones.insert(name, tombstone);
                }
                other => return Err(invalid(format!("unknown row {other}"))),
            }
        }
        Ok(machine)
    }
}

impl Application for Catalog {
    fn apply(
        &self,
        state: &GroupState,
        commands: Bytes,
        applied: &[u8],
        _answered: bool,
    ) -> io::Result<Answer> {
        let (now_ms, id, command) = codec::command_from_bytes(commands)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?;
        let mut changes = Vec::new();
        let mut machine = self.machine.write();
        let reply: Reply = machine.apply(now_ms, id, command, &mut changes);
        let mut batch = state.batch();
        Self::stage(&machine, &changes, &mut batch);
        batch.put_applied(applied);
        failable!(CatalogApply)?;
        state.commit(batch)?;
        self.publish(&machine);
        drop(machine);
        self.versions.send_modify(|version| *version += 1);
        Ok(Answer::of(reply))
    }

    fn reload(&self, state: &GroupState) -> io::Result<()> {
        let loaded = Self::load(state)?;
        let mut machine = self.machine.write();
        *machine = loaded;
        self.publish(&machine);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Else dead letters would go to a queue that was deleted, or not to one that was just created.
    #[test]
    fn a_queue_has_ended_if_a_later_one_is_known_and_it_is_not() {
        let catalog = Catalog::new();
        assert!(!catalog.has_ended(QueueId(1)));
        catalog.machine.write().next_queue = 5;
        assert!(catalog.has_ended(QueueId(4)) && catalog.has_ended(QueueId(5)));
        assert!(!catalog.has_ended(QueueId(6)), "it may have been created a moment ago");
    }
}
