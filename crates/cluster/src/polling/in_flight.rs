//! Each node tells the others once a second what its shards have in flight, of its large queues. What
//! they make of it is in `crowd`.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use flotilla_transport::Lane;
use flotilla_types::ids::{GroupId, NodeId, QueueId};
use flotilla_types::limits::IN_FLIGHT_ROWS_TOLD_MAX;
use flotilla_wire::DecodeError;
use flotilla_wire::proto::cluster as pb;
use futures::future::join_all;
use prost::Message as _;
use tokio::time::{Instant, MissedTickBehavior};

use crate::forward::method;
use crate::node::Node;
use crate::polling::crowd::Told;

/// Between two words.
const ROUND: Duration = Duration::from_secs(1);
/// One word to a peer.
const TELL_TIMEOUT: Duration = Duration::from_secs(1);

/// Tells, and lets waiting polls in, until the node ends.
pub(crate) async fn run(node: Arc<Node>) {
    let mut ticks = tokio::time::interval(ROUND);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut has_told = false;
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = node.stopped() => return,
        }
        node.crowd.turn(Instant::now());
        for queue in node.crowd.awaited() {
            node.let_in(queue);
        }
        let word = large_queues(&node).await;
        let tells = !word.is_empty();
        // Once with nothing, so that the others need not wait for the end of what was said before.
        if tells || has_told {
            tell(&node, word).await;
        }
        has_told = tells;
    }
}

/// What the shards that are led here have in flight of queues of which that is much, most first.
async fn large_queues(node: &Node) -> Vec<pb::ShardInFlight> {
    let told_from = node.crowd.told_from(node.peers.len() + 1);
    let shards = node.router.led_here().len().max(1) as u64;
    // Who has that much in all shards has this much in one.
    let worth_adding = (told_from / shards).max(1);
    let mut rows = Vec::new();
    let mut sums: HashMap<u64, u64> = HashMap::new();
    node.each_busy_queue(|shard, busy| {
        let (queue, in_flight) = (busy.queue.0, busy.counts.in_flight);
        if in_flight >= worth_adding {
            *sums.entry(queue).or_insert(0) += in_flight;
            rows.push(pb::ShardInFlight { shard: shard.0, queue, in_flight });
        }
    })
    .await;
    rows.retain(|row| sums[&row.queue] >= told_from);
    rows.sort_unstable_by_key(|row| (Reverse(row.in_flight), row.queue, row.shard));
    rows.truncate(IN_FLIGHT_ROWS_TOLD_MAX);
    rows
}

/// Tells all others at once.
async fn tell(node: &Node, rows: Vec<pb::ShardInFlight>) {
    let payload: Bytes = pb::InFlight { rows }.encode_to_vec().into();
    let told = node.peers.iter().map(|peer| {
        let (transport, payload) = (node.host.transport(), payload.clone());
        let (lane, group) = (Lane::Forward, GroupId(0));
        transport.call(*peer, lane, group, method::IN_FLIGHT, payload, TELL_TIMEOUT)
    });
    // Who does not hear of it goes by the last word, until that expires.
    join_all(told).await;
}

/// Answers what [`run`] tells.
pub(crate) fn serve_in_flight(
    node: &Node,
    from: NodeId,
    payload: Bytes,
) -> Result<Bytes, DecodeError> {
    let rows = pb::InFlight::decode(payload)?.rows.into_iter().take(IN_FLIGHT_ROWS_TOLD_MAX);
    let said = rows.map(|row| Told {
        shard: GroupId(row.shard),
        queue: QueueId(row.queue),
        in_flight: row.in_flight,
    });
    node.crowd.hear(from, said, Instant::now());
    Ok(Bytes::new())
}
