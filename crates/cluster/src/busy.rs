//! Looks at the queues that something happens to: a shard may know a million that are at rest.

use flotilla_consensus::shard::BusyQueue;
use flotilla_types::ids::GroupId;
use flotilla_types::limits::QUEUES_LOOKED_AT_MAX;

use crate::node::Node;

impl Node {
    /// Shows each busy queue of each shard that is led here. Everything else gets its turn in between.
    pub(crate) async fn each_busy_queue(&self, mut look: impl FnMut(GroupId, &BusyQueue)) {
        for shard in self.router.all_here() {
            let mut after = None;
            loop {
                let (busy, resume) = shard.busy_after(after, QUEUES_LOOKED_AT_MAX);
                busy.iter().for_each(|busy| look(shard.group().id(), busy));
                after = resume;
                if after.is_none() {
                    break;
                }
                tokio::task::yield_now().await;
            }
        }
    }
}
