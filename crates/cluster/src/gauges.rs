//! What the metrics say of each queue: this node's part of it.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use flotilla_consensus::shard::{QueueCounts, Shard, ShardNoise};
use flotilla_types::ids::QueueId;
use flotilla_types::limits::QUEUES_LOOKED_AT_MAX;

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

/// The queues of one node for its metrics.
#[derive(Clone, Debug, Default)]
pub struct AllGauges {
    /// The first ones by name.
    pub queues: Vec<(Arc<Queue>, QueueGauges)>,
    /// What all others have together; `None` when there are no others. Without their oldest message, for
    /// which each would have to be looked at.
    pub others: Option<Counts>,
}

impl Node {
    /// The first queues by name, at most so many, with the numbers of the shards that are led here, and the
    /// others together. For a thread that may wait for the disk: looks at the oldest message of each, and
    /// at every message in flight of FIFO queues and of queues with noisy groups.
    pub fn queue_gauges(&self, limit: usize) -> AllGauges {
        let mut shards = self.router.all_here();
        shards.retain(|shard| shard.group().is_confirmed());
        let gauges = |queue: Arc<Queue>| {
            let gauges = if queue.attributes.fifo.is_some() {
                self.fifo_gauges(queue.id, &shards)
            } else {
                self.standard_gauges(queue.id, &shards)
            };
            (queue, gauges)
        };
        let (first, are_all) = self.catalog.first_queues(limit);
        let queues: Vec<_> = first.into_iter().map(gauges).collect();
        let others = (!are_all).then(|| {
            let shown = queues.iter().map(|(_, gauges)| gauges.all);
            less(totals(&shards), shown.fold(Counts::default(), Counts::plus))
        });
        AllGauges { queues, others }
    }

    fn fifo_gauges(&self, queue: QueueId, shards: &[Shard]) -> QueueGauges {
        let counts = |shard: &Shard| self.counts_with_age(shard, queue);
        let all = shards.iter().filter_map(counts).fold(Counts::default(), Counts::plus);
        let groups = shards.iter().map(|shard| shard.groups_in_flight(queue));
        let groups_in_flight = if all.in_flight > 0 { groups.sum() } else { 0 };
        QueueGauges { all, quiet: all, groups_in_flight, noisy_groups: 0 }
    }

    fn standard_gauges(&self, queue: QueueId, shards: &[Shard]) -> QueueGauges {
        let mut gauges = QueueGauges::default();
        let mut noisy = BTreeMap::new();
        let mut shards_led = 0;
        for shard in shards {
            let Some(all) = self.counts_with_age(shard, queue) else { continue };
            shards_led += 1;
            let noise = self.read(shard.noise(queue));
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

    fn counts_with_age(&self, shard: &Shard, queue: QueueId) -> Option<Counts> {
        let counts = self.counts_of(shard, queue)?;
        let oldest_entered_ms = self.read(shard.oldest_entered_ms(queue));
        Some(Counts { oldest_entered_ms, ..counts })
    }

    /// A node whose state cannot be read ends.
    fn read<T>(&self, read: io::Result<Option<T>>) -> Option<T> {
        read.unwrap_or_else(|error| {
            self.host.fatal(&format!("the state cannot be read: {error}"));
            None
        })
    }
}

/// All queues of these shards. Only those of which something is hidden are looked at.
fn totals(shards: &[Shard]) -> Counts {
    let mut totals = Counts::default();
    for shard in shards {
        let mut hidden = Counts::default();
        let mut after = None;
        loop {
            let (busy, resume) = shard.busy_after(after, QUEUES_LOOKED_AT_MAX);
            for counts in busy.iter().map(|busy| busy.counts) {
                hidden.in_flight += counts.in_flight;
                hidden.delayed += counts.delayed;
            }
            after = resume;
            if after.is_none() {
                break;
            }
        }
        let visible = shard.messages().saturating_sub(hidden.in_flight + hidden.delayed);
        totals = totals.plus(Counts { visible, ..hidden });
    }
    totals
}

/// They were read one after the other: a part may be more than the whole.
fn less(all: Counts, part: Counts) -> Counts {
    Counts {
        visible: all.visible.saturating_sub(part.visible),
        in_flight: all.in_flight.saturating_sub(part.in_flight),
        delayed: all.delayed.saturating_sub(part.delayed),
        oldest_entered_ms: None,
    }
}

fn without(all: Counts, noise: &ShardNoise) -> Counts {
    let QueueCounts { visible, in_flight, delayed } = noise.counts;
    let noisy = Counts { visible, in_flight, delayed, oldest_entered_ms: None };
    Counts { oldest_entered_ms: noise.oldest_quiet_ms, ..less(all, noisy) }
}
