//! How many messages a queue has: each shard's leader counts its own, and all must be heard.
//!
//! A sum that leaves a shard out looks like messages that are gone, and whoever waits for a queue
//! to be empty, or decides by its length, would act on it. So a shard without a leader is waited
//! for as long as any request waits, and then the answer is an error. A leader that was replaced and
//! does not know it yet must not count either: see [`Group::is_confirmed`].
//!
//! [`Group::is_confirmed`]: flotilla_consensus::group::Group::is_confirmed

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use flotilla_transport::Lane;
use flotilla_types::ids::{GroupId, NodeId, QueueId};
use flotilla_wire::DecodeError;
use flotilla_wire::proto::cluster as pb;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use prost::Message as _;
use tokio::time::Instant;

use crate::api::{Counts, Trouble};
use crate::forward::method;
use crate::node::Node;
use crate::request;
use crate::router::{LOOK_AGAIN, PATIENCE};

/// A node that has not answered by then is asked again, with all others: what it led may have
/// found another leader.
const ROUND: Duration = Duration::from_millis(500);

/// What was heard so far, by shard.
struct Tally {
    missing: usize,
    shards: BTreeMap<GroupId, Option<Counts>>,
}

impl Tally {
    fn new(shards: &[GroupId]) -> Self {
        let shards: BTreeMap<_, _> = shards.iter().map(|shard| (*shard, None)).collect();
        Self { missing: shards.len(), shards }
    }

    /// Each shard counts once: also should a clock be so wrong that an old leader counts as well.
    fn take(&mut self, counted: impl IntoIterator<Item = (GroupId, Counts)>) {
        for (shard, counts) in counted {
            if let Some(unknown @ None) = self.shards.get_mut(&shard) {
                *unknown = Some(counts);
                self.missing -= 1;
            }
        }
    }

    /// Shards that were not heard of.
    fn missing(&self) -> Vec<u32> {
        let missing = self.shards.iter().filter(|(_, counts)| counts.is_none());
        missing.map(|(shard, _)| shard.0).collect()
    }

    /// `None` while a shard was not heard of.
    fn sum(&self) -> Option<Counts> {
        let known = self.shards.values().flatten().copied();
        (self.missing == 0).then(|| known.fold(Counts::default(), Counts::plus))
    }
}

impl Node {
    /// The counts of all shards.
    ///
    /// # Errors
    /// When a shard has had no leader that could be asked for [`PATIENCE`].
    pub(crate) async fn count_everywhere(&self, queue: QueueId) -> Result<Counts, Trouble> {
        let deadline = Instant::now() + PATIENCE;
        let mut tally = Tally::new(&self.router.groups());
        loop {
            tally.take(self.counts_here(queue));
            self.count_elsewhere(queue, &mut tally).await;
            if let Some(counts) = tally.sum() {
                return Ok(counts);
            }
            if Instant::now() + LOOK_AGAIN >= deadline {
                let (request_id, missing) = (request::current(), tally.missing());
                tracing::warn!(%request_id, ?missing, "shards were not counted in time");
                return Err(Trouble::Unavailable { maybe_applied: false });
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// Asks the other nodes once, until nothing is missing or all have answered.
    async fn count_elsewhere(&self, queue: QueueId, tally: &mut Tally) {
        let payload: Bytes = pb::Count { queue: queue.0 }.encode_to_vec().into();
        let ask = |peer: &NodeId| {
            let (transport, payload) = (self.host.transport(), payload.clone());
            transport.call(*peer, Lane::Forward, GroupId(0), method::COUNT, payload, ROUND)
        };
        let mut asked: FuturesUnordered<_> = self.peers.iter().map(ask).collect();
        while tally.missing > 0
            && let Some(answer) = asked.next().await
        {
            let answer = answer.ok().and_then(|bytes| pb::CountAnswer::decode(bytes).ok());
            tally.take(answer.into_iter().flat_map(|answer| answer.shards).map(counted_from_pb));
        }
    }
}

/// Answers another node's [`Node::count_elsewhere`].
pub(crate) fn serve_count(node: &Node, payload: Bytes) -> Result<Bytes, DecodeError> {
    let queue = QueueId(pb::Count::decode(payload)?.queue);
    let shards = node.counts_here(queue).into_iter().map(counted_to_pb);
    Ok(pb::CountAnswer { shards: shards.collect() }.encode_to_vec().into())
}

fn counted_to_pb((shard, counts): (GroupId, Counts)) -> pb::Counted {
    pb::Counted {
        shard: shard.0,
        visible: counts.visible,
        in_flight: counts.in_flight,
        delayed: counts.delayed,
    }
}

fn counted_from_pb(counted: pb::Counted) -> (GroupId, Counts) {
    let counts = Counts {
        visible: counted.visible,
        in_flight: counted.in_flight,
        delayed: counted.delayed,
        oldest_entered_ms: None,
    };
    (GroupId(counted.shard), counts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn visible(shard: u32, visible: u64) -> (GroupId, Counts) {
        (GroupId(shard), Counts { visible, ..Counts::default() })
    }

    #[test]
    fn a_shard_that_two_nodes_count_is_counted_once() {
        let mut tally = Tally::new(&[GroupId(1), GroupId(2), GroupId(3)]);
        tally.take([visible(3, 0)]);
        tally.take([visible(1, 10), visible(2, 20), visible(2, 21), visible(3, 30)]);
        assert_eq!(tally.sum().map(|counts| counts.visible), Some(30));
    }

    #[test]
    fn there_is_no_sum_while_a_shard_is_missing() {
        let mut tally = Tally::new(&[GroupId(1), GroupId(2)]);
        tally.take([visible(1, 10), visible(9, 90)]);
        assert_eq!(tally.sum(), None);
        tally.take([visible(2, 5)]);
        assert_eq!(tally.sum().map(|counts| counts.visible), Some(15));
    }
}
