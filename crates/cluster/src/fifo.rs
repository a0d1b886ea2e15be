//! Where the messages of FIFO queues live, and how they get there.
//!
//! A group lives on one shard, which decides its order; deduplication happens there too. So a queue
//! whose deduplication ids count in the whole queue lives on one shard, and one whose ids count per
//! group is spread. When that changes, a group moves when it has no message where it was, never
//! before: until each shard has said that it has no such group any more, a message goes first to
//! where its group was, and is stored there if the group still is. Shards refuse what was placed by
//! an earlier change than they have heard of, so at any time a group is in one shard. A shard that a group
//! has left says up to where its places went, so that the numbers of its messages, which are made of
//! places, go on rising where it is now.

pub(crate) mod settle;

use std::collections::BTreeMap;
use std::sync::Arc;

use flotilla_consensus::shard::Place;
use flotilla_queue::command::{Accepted, Command, Elsewhere, Placing, Reply, Send};
use flotilla_types::ids::{GroupId, GroupKey, QueueId, Seq};
use futures::future::join_all;
use tokio::time::Instant;

use crate::api::{Outgoing, Placement, Queue, Sent, Trouble};
use crate::node::Node;
use crate::router::LOOK_AGAIN;

/// Odd, with its bits spread: 2^64 divided by the golden ratio.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

/// A queue, as far as that decides where its groups live.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Home {
    pub(crate) queue: QueueId,
    pub(crate) placement: Placement,
}

impl Home {
    pub(crate) fn of(queue: &Queue) -> Self {
        Self { queue: queue.id, placement: queue.placement.clone() }
    }

    /// Whether a message that is in this shard is where its group lives, or will live when it comes.
    pub(crate) fn place(
        &self,
        shard: GroupId,
        group: Option<GroupKey>,
        shards: &[GroupId],
    ) -> Place {
        let Placement { epoch, floor, .. } = self.placement;
        if self.shard_of(group, shards) != shard || self.shard_before(group, shards).is_some() {
            return Place::Elsewhere;
        }
        Place::Here(Placing { epoch, floor, ..Placing::default() })
    }

    fn shard_of(&self, group: Option<GroupKey>, shards: &[GroupId]) -> GroupId {
        shard_of_key(self.queue, group.filter(|_| self.placement.spread), shards)
    }

    /// Where the group was before the queue's placement changed, if it may still be there.
    fn shard_before(&self, group: Option<GroupKey>, shards: &[GroupId]) -> Option<GroupId> {
        let before = shard_of_key(self.queue, group.filter(|_| !self.placement.spread), shards);
        let is_other = before != self.shard_of(group, shards);
        (is_other && self.placement.unsettled.contains(&before)).then_some(before)
    }
}

/// The shard of a group of the queue, among `shards` (at least one).
pub(crate) fn shard_of(queue: &Queue, group: Option<GroupKey>, shards: &[GroupId]) -> GroupId {
    shard_of_key(queue.id, group.filter(|_| queue.placement.spread), shards)
}

fn shard_of_key(queue: QueueId, group: Option<GroupKey>, shards: &[GroupId]) -> GroupId {
    let of_queue = queue.0.wrapping_mul(SPREAD);
    let of_group = group.map_or(0, |group| group.0.get());
    // The high bits of both count.
    let mixed = (of_queue ^ of_group).wrapping_mul(SPREAD) >> 32;
    shards[(mixed % shards.len() as u64) as usize]
}

/// One answer per message, once it is known.
type Results = Vec<Option<Result<Sent, Trouble>>>;

/// Messages of one request, by their place in it.
struct Sending<'a> {
    node: &'a Node,
    queue: Arc<Queue>,
    messages: &'a [Outgoing],
    deadline: Instant,
}

impl Node {
    /// Sends messages of a FIFO queue, each to the shard of its group, in the order given.
    pub(crate) async fn send_in_order(
        &self,
        queue: &Queue,
        messages: &[Outgoing],
        deadline: Instant,
    ) -> Vec<Result<Sent, Trouble>> {
        let unavailable = Err(Trouble::Unavailable { maybe_applied: false });
        let mut results: Results = vec![None; messages.len()];
        let mut queue = Arc::new(queue.clone());
        if self.router.groups().is_empty() {
            return vec![unavailable; messages.len()];
        }
        loop {
            let sending = Sending { node: self, queue: queue.clone(), messages, deadline };
            sending.run(&mut results).await;
            if results.iter().all(Option::is_some) {
                break;
            }
            // Somebody knows of a change that has not come here yet.
            match self.queue_after(&queue, deadline).await {
                Some(changed) => queue = changed,
                None => break,
            }
        }
        results.into_iter().map(|result| result.unwrap_or_else(|| unavailable.clone())).collect()
    }

    /// The queue with a later placement, once it is known here.
    async fn queue_after(&self, queue: &Queue, deadline: Instant) -> Option<Arc<Queue>> {
        loop {
            let known = self.catalog.queue_by_id(queue.id)?;
            if known.placement.epoch > queue.placement.epoch {
                return Some(known);
            }
            if Instant::now() + LOOK_AGAIN >= deadline {
                return None;
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }
}

impl Sending<'_> {
    /// Leaves those without an answer that were refused because the placement changed.
    async fn run(&self, results: &mut Results) {
        let shards = self.node.router.groups();
        let home = Home::of(&self.queue);
        let left = |results: &Results| -> Vec<usize> {
            (0..results.len()).filter(|at| results[*at].is_none()).collect()
        };
        // With the place from which on they may be.
        let mut moved = Vec::new();
        let mut before: BTreeMap<GroupId, Vec<(usize, Seq)>> = BTreeMap::new();
        for at in left(results) {
            match home.shard_before(self.messages[at].group, &shards) {
                Some(shard) => before.entry(shard).or_default().push((at, Seq(0))),
                None => moved.push((at, self.queue.placement.floor)),
            }
        }
        moved.extend(self.submit(before, true, results).await);
        // The order within a request is that of its messages.
        moved.sort_unstable();
        let mut now: BTreeMap<GroupId, Vec<(usize, Seq)>> = BTreeMap::new();
        for (at, floor) in moved {
            let shard = home.shard_of(self.messages[at].group, &shards);
            now.entry(shard).or_default().push((at, floor));
        }
        self.submit(now, false, results).await;
    }

    /// Returns the messages whose group is not there any more, and where its places there ended.
    async fn submit(
        &self,
        shards: BTreeMap<GroupId, Vec<(usize, Seq)>>,
        only_if_present: bool,
        results: &mut Results,
    ) -> Vec<(usize, Seq)> {
        let low = self.node.shards_low_on_space();
        let submits = shards.into_iter().map(|(shard, places)| {
            let low = low.contains(&shard);
            let command = |(at, floor): &(usize, Seq)| {
                self.command(&self.messages[*at], only_if_present, *floor)
            };
            let commands = places.iter().map(command).collect();
            async move {
                let replies = match low {
                    true => Err(Trouble::LowOnSpace),
                    false => self.node.router.submit(shard, commands, self.deadline).await,
                };
                (shard, places, replies)
            }
        });
        let mut absent = Vec::new();
        for (shard, places, replies) in join_all(submits).await {
            let replies = match replies {
                Ok(replies) => replies,
                Err(trouble) => {
                    places.iter().for_each(|(at, _)| results[*at] = Some(Err(trouble.clone())));
                    continue;
                }
            };
            for ((at, _), reply) in places.into_iter().zip(replies) {
                match reply {
                    Reply::Elsewhere(Elsewhere::Stale) => {}
                    Reply::Elsewhere(Elsewhere::Absent { below }) => {
                        absent.push((at, below.max(self.queue.placement.floor)));
                    }
                    reply => results[at] = Some(Ok(sent(&self.messages[at], shard, &reply))),
                }
            }
        }
        absent
    }

    fn command(&self, message: &Outgoing, only_if_present: bool, floor: Seq) -> Command {
        let placement = &self.queue.placement;
        let keys = message.dedup.map(|keys| match placement.spread {
            true => (keys.in_group, keys.in_queue),
            false => (keys.in_queue, keys.in_group),
        });
        // Also where a group stays on its shard: it settles no sooner than what was sent before is forgotten.
        let changing = only_if_present || !placement.unsettled.is_empty();
        let dedup_before = keys.map(|(_, before)| before).filter(|_| changing);
        Command::Send(Send {
            queue: self.queue.id,
            message_id: message.message_id,
            delay_ms: u64::from(message.delay_seconds) * 1_000,
            group: message.group,
            dedup: keys.map(|(now, _)| now),
            placing: Placing { epoch: placement.epoch, only_if_present, dedup_before, floor },
            content: message.content.clone(),
        })
    }
}

fn sent(message: &Outgoing, shard: GroupId, reply: &Reply) -> Sent {
    match reply {
        Reply::Sent(Some(Accepted { seq, message_id })) => Sent {
            message_id: *message_id,
            shard,
            seq: Some(*seq),
            duplicate: *message_id != message.message_id,
        },
        // Applied so long ago that its key is forgotten.
        _ => Sent { message_id: message.message_id, shard, seq: None, duplicate: false },
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::num::NonZeroU64;

    use flotilla_types::attributes::QueueAttributes;
    use flotilla_types::names::QueueName;

    use super::*;

    const SHARDS: [GroupId; 4] = [GroupId(1), GroupId(2), GroupId(3), GroupId(4)];

    fn queue(spread: bool, id: u64) -> Queue {
        Queue {
            id: QueueId(id),
            name: QueueName::new("q.fifo").unwrap(),
            attributes: QueueAttributes::default(),
            tags: BTreeMap::new(),
            created_s: 0,
            modified_s: 0,
            placement: Placement { spread, ..Placement::default() },
        }
    }

    fn groups() -> impl Iterator<Item = Option<GroupKey>> {
        (1..200).map(|key| NonZeroU64::new(key << 32 | key).map(GroupKey))
    }

    fn places(spread: bool, id: u64) -> BTreeSet<GroupId> {
        groups().map(|group| shard_of(&queue(spread, id), group, &SHARDS)).collect()
    }

    #[test]
    fn groups_are_spread_if_the_queue_is_and_queues_always_are() {
        assert_eq!(places(true, 1).len(), 4);
        assert_eq!(places(false, 1).len(), 1);
        let homes: BTreeSet<_> = (1..100).flat_map(|queue| places(false, queue)).collect();
        assert_eq!(homes.len(), 4);
    }

    fn shard_before(queue: &Queue, group: Option<GroupKey>) -> Option<GroupId> {
        Home::of(queue).shard_before(group, &SHARDS)
    }

    #[test]
    fn a_group_may_be_where_it_lived_before_until_that_shard_has_settled() {
        for spread in [false, true] {
            let (before, mut now) = (queue(!spread, 1), queue(spread, 1));
            assert!(groups().all(|group| shard_before(&now, group).is_none()));
            now.placement.unsettled = SHARDS.into();
            for group in groups() {
                let (was, is) = (shard_of(&before, group, &SHARDS), shard_of(&now, group, &SHARDS));
                let expected = (was != is).then_some(was);
                assert_eq!(shard_before(&now, group), expected);
                let mut settled = now.clone();
                settled.placement.unsettled.remove(&was);
                assert_eq!(shard_before(&settled, group), None);
            }
        }
    }

    #[test]
    fn a_message_is_in_its_place_where_its_group_lives_and_nowhere_else() {
        let mut home = Home::of(&queue(true, 1));
        home.placement.epoch = 3;
        home.placement.floor = Seq(70);
        let here = Placing { epoch: 3, floor: Seq(70), ..Placing::default() };
        for group in groups() {
            for shard in SHARDS {
                let lives_here = home.shard_of(group, &SHARDS) == shard;
                let expected = if lives_here { Place::Here(here) } else { Place::Elsewhere };
                assert_eq!(home.place(shard, group, &SHARDS), expected);
            }
        }
        // While it may still be where it was, that is not certain.
        home.placement.unsettled = SHARDS.into();
        let uncertain = |group: &Option<GroupKey>| home.shard_before(*group, &SHARDS).is_some();
        let group = groups().find(uncertain).expect("most groups move");
        let shard = home.shard_of(group, &SHARDS);
        assert_eq!(home.place(shard, group, &SHARDS), Place::Elsewhere);
    }
}
