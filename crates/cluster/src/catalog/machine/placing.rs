//! Where the groups of FIFO queues live, and that it changes.

use std::collections::BTreeSet;
use std::sync::Arc;

use flotilla_probe::planted;
use flotilla_types::attributes::QueueAttributes;
use flotilla_types::ids::{GroupId, QueueId, Seq};

use super::{Change, Machine, Reply};
use crate::api::{Placement, Queue};

/// Deduplication happens in the shard: ids that are unique in a whole queue need it on one.
pub(super) fn is_spread(attributes: &QueueAttributes) -> bool {
    attributes.fifo.is_some_and(|fifo| fifo.deduplicates_per_group)
}

/// After a change of attributes. Each of the shards may have groups that live elsewhere from now on.
pub(super) fn place_anew(queue: &mut Queue, shards: BTreeSet<GroupId>, now_s: u64) {
    let spread = is_spread(&queue.attributes);
    if spread != queue.placement.spread {
        let epoch = queue.placement.epoch + u64::from(!planted!(EpochKept));
        let floor = queue.placement.floor;
        queue.placement = Placement { spread, epoch, changed_s: now_s, unsettled: shards, floor };
    }
}

impl Machine {
    pub(super) fn shards(&self) -> BTreeSet<GroupId> {
        let places = self.facts.iter().flat_map(|facts| &facts.shards);
        places.map(|place| place.group).collect()
    }

    /// Idempotent. A word about an earlier change counts for nothing.
    pub(super) fn settle(
        &mut self,
        queue: QueueId,
        epoch: u64,
        shard: GroupId,
        floor: Seq,
        changes: &mut Vec<Change>,
    ) -> Reply {
        let entry = self.by_id.get(&queue).and_then(|name| self.queues.get_mut(name));
        let Some(entry) = entry else { return Reply::NotFound };
        let placement = &entry.queue.placement;
        if placement.epoch == epoch && placement.unsettled.contains(&shard) {
            let placement = &mut Arc::make_mut(&mut entry.queue).placement;
            placement.unsettled.remove(&shard);
            placement.floor = placement.floor.max(floor);
            changes.push(Change::Entry(entry.queue.name.clone()));
        }
        Reply::Done
    }
}
