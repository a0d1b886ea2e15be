//! What the metrics say of each queue: this node's part of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use flotilla_consensus::shard::{Shard, ShardNoise};
use flotilla_types::ids::QueueId;

use crate::api::{Counts, Queue};
use crate::node::Node;

/// One queue's numbers in the shards that are led by one node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueGauges {
    /// Of all messages.
    pub all: Counts,
    /// FIFO queues: groups with messages in flight.
    pub groups_in_flight: u64,
    /// Standard queues: message groups that are noisy in at least half of these shards.
    pub noisy_groups: u64,
    /// Of all messages but those of groups that are noisy in their shard.
    pub quiet: Counts,
}

impl QueueGauges {
    /// Both together. A group is in one shard of a FIFO queue, and may be noisy in several of a
    /// standard one: of these the larger number is taken.
    pub fn plus(self, other: Self) -> Self {
        Self {
            all: self.all.plus(other.all),
            groups_in_flight: self.groups_in_flight + other.groups_in_flight,
            noisy_groups: self.noisy_groups.max(other.noisy_groups),
            quiet: self.quiet.plus(other.quiet),
        }
    }
}

impl Node {
    /// All queues, with the numbers of the shards that are led here. Looks at every message in
    /// flight of FIFO queues and of queues with noisy groups.
    pub fn queue_gauges(&self) -> Vec<(Arc<Queue>, QueueGauges)> {
        let shards = self.router.all_here();
        let gauges = |queue: Arc<Queue>| {
            let gauges = if queue.attributes.fifo.is_some() {
                let all = self.all_here(queue.id);
                let groups = shards.iter().map(|shard| shard.groups_in_flight(queue.id));
                QueueGauges { all, quiet: all, groups_in_flight: groups.sum(), noisy_groups: 0 }
            } else {
                self.standard_gauges(queue.id, &shards)
            };
            (queue, gauges)
        };
        self.catalog.queues().into_values().map(gauges).collect()
    }

    fn all_here(&self, queue: QueueId) -> Counts {
        let counts = self.counts_here(queue).into_iter().map(|(_, counts)| counts);
        counts.fold(Counts::default(), Counts::plus)
    }

    fn standard_gauges(&self, queue: QueueId, shards: &[Shard]) -> QueueGauges {
        let mut gauges = QueueGauges::default();
        let mut noisy = BTreeMap::new();
        let led = self.counts_here(queue);
        let shards_led = led.len();
        for (group, all) in led {
            let shard = shards.iter().find(|shard| shard.group().id() == group);
            let noise = shard.and_then(|shard| self.noise(shard, queue));
            for of in noise.iter().flat_map(|noise| &noise.groups) {
                *noisy.entry(*of).or_insert(0) += 1;
            }
            let quiet = noise.map_or(all, |noise| without(all, &noise));
            gauges.all = gauges.all.plus(all);
            gauges.quiet = gauges.quiet.plus(quiet);
        }
        // Chance gives a shard tenants that are noisy nowhere else.
        let everywhere = noisy.values().filter(|count| 2 * **count >= shards_led);
        gauges.noisy_groups = everywhere.count() as u64;
        gauges
    }

    fn noise(&self, shard: &Shard, queue: QueueId) -> Option<ShardNoise> {
        shard.noise(queue).unwrap_or_else(|error| {
            self.host.fatal(&format!("the state cannot be read: {error}"));
            None
        })
    }
}

/// The two were read one after the other: what is noisy may be more than all.
fn without(all: Counts, noise: &ShardNoise) -> Counts {
    Counts {
        visible: all.visible.saturating_sub(noise.counts.visible),
        in_flight: all.in_flight.saturating_sub(noise.counts.in_flight),
        delayed: all.delayed.saturating_sub(noise.counts.delayed),
        oldest_entered_ms: noise.oldest_quiet_ms,
    }
}
