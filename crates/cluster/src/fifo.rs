//! Where the messages of FIFO queues live, and how they get there.
//!
//! A group lives on one shard, which decides its order; deduplication happens there too. So a queue
//! whose deduplication ids count in the whole queue lives on one shard, and one whose ids count per
//! group is spread. The number of shards never changes, so neither do the places.

use std::collections::BTreeMap;

use flotilla_queue::command::{Command, Reply};
use flotilla_types::ids::{GroupId, GroupKey};
use futures::future::join_all;
use tokio::time::Instant;

use crate::api::{Outgoing, Queue, Sent, Trouble};
use crate::node::Node;

/// Odd, with its bits spread: 2^64 divided by the golden ratio.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

/// The shard of a group of the queue, among `shards` (at least one).
pub(crate) fn shard_of(queue: &Queue, group: Option<GroupKey>, shards: &[GroupId]) -> GroupId {
    let of_queue = queue.id.0.wrapping_mul(SPREAD);
    let of_group = group.filter(|_| queue.spread).map_or(0, |group| group.0.get());
    // The high bits of both count.
    let mixed = (of_queue ^ of_group).wrapping_mul(SPREAD) >> 32;
    shards[(mixed % shards.len() as u64) as usize]
}

impl Node {
    /// Sends messages of a FIFO queue, each to the shard of its group, in the order given.
    pub(crate) async fn send_in_order(
        &self,
        queue: &Queue,
        messages: Vec<Outgoing>,
        commands: Vec<Command>,
        deadline: Instant,
    ) -> Vec<Result<Sent, Trouble>> {
        let groups = self.router.groups();
        if groups.is_empty() {
            return vec![Err(Trouble::Unavailable { maybe_applied: false }); messages.len()];
        }
        let low = self.shards_low_on_space();
        let mut shards: BTreeMap<GroupId, Vec<(usize, Command)>> = BTreeMap::new();
        for (place, (message, command)) in messages.iter().zip(commands).enumerate() {
            let shard = shard_of(queue, message.group, &groups);
            shards.entry(shard).or_default().push((place, command));
        }
        let submits = shards.into_iter().map(|(shard, work)| {
            let low = low.contains(&shard);
            async move {
                let (places, commands): (Vec<_>, Vec<_>) = work.into_iter().unzip();
                let replies = match low {
                    true => Err(Trouble::LowOnSpace),
                    false => self.router.submit(shard, commands, deadline).await,
                };
                (shard, places, replies)
            }
        });
        let unknown = Err(Trouble::Unavailable { maybe_applied: true });
        let mut results = vec![unknown; messages.len()];
        for (shard, places, replies) in join_all(submits).await {
            match replies {
                Ok(replies) => {
                    for (place, reply) in places.into_iter().zip(replies) {
                        results[place] = Ok(sent(&messages[place], shard, &reply));
                    }
                }
                Err(trouble) => places.into_iter().for_each(|place| {
                    results[place] = Err(trouble.clone());
                }),
            }
        }
        results
    }
}

fn sent(message: &Outgoing, shard: GroupId, reply: &Reply) -> Sent {
    match reply {
        Reply::Sent(Some(accepted)) => Sent {
            message_id: accepted.message_id,
            place: Some((shard, accepted.seq)),
            duplicate: accepted.message_id != message.message_id,
        },
        // Applied so long ago that its key is forgotten.
        _ => Sent { message_id: message.message_id, place: None, duplicate: false },
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::num::NonZeroU64;

    use flotilla_types::attributes::QueueAttributes;
    use flotilla_types::ids::QueueId;
    use flotilla_types::names::QueueName;

    use super::*;

    fn places(spread: bool, queue: u64) -> BTreeSet<GroupId> {
        let queue = Queue {
            id: QueueId(queue),
            name: QueueName::new("q.fifo").unwrap(),
            attributes: QueueAttributes::default(),
            tags: BTreeMap::new(),
            created_s: 0,
            modified_s: 0,
            spread,
        };
        let shards: Vec<_> = (1..=8).map(GroupId).collect();
        let groups = (1..200).map(|key| NonZeroU64::new(key << 32 | key).map(GroupKey));
        groups.map(|group| shard_of(&queue, group, &shards)).collect()
    }

    #[test]
    fn groups_are_spread_if_the_queue_is_and_queues_always_are() {
        assert_eq!(places(true, 1).len(), 8);
        assert_eq!(places(false, 1).len(), 1);
        let homes: BTreeSet<_> = (1..100).flat_map(|queue| places(false, queue)).collect();
        assert_eq!(homes.len(), 8);
    }
}
