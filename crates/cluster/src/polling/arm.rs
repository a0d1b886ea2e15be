//! Asking all shards what they have, and being told from then on.

use bytes::Bytes;
use flotilla_transport::Lane;
use flotilla_types::ids::{GroupId, NodeId, QueueId};
use flotilla_wire::DecodeError;
use flotilla_wire::proto::cluster as pb;
use futures::future::join_all;
use prost::Message as _;

use super::hub::{Hub, RemoteWake};
use crate::forward::method;
use crate::router::{CALL_TIMEOUT, Router};

/// The shards that have something now, the fullest first. Shards that could not be asked are
/// missing; a change of their leader or link makes the caller ask again.
///
/// The caller's poll must be in the hub already: what arrives from now on wakes it.
pub(crate) async fn arm_all(router: &Router, peers: &[NodeId], queue: QueueId) -> Vec<GroupId> {
    let here = router.all_here().into_iter().filter_map(|shard| {
        let available = shard.arm(queue)?;
        Some((shard.group().id(), available))
    });
    let mut found: Vec<(GroupId, usize)> = here.collect();
    let payload: Bytes = pb::Arm { queue: queue.0 }.encode_to_vec().into();
    let asked = peers.iter().map(|peer| {
        let payload = payload.clone();
        let transport = router.transport();
        transport.call(*peer, Lane::Forward, GroupId(0), method::ARM, payload, CALL_TIMEOUT)
    });
    for answer in join_all(asked).await.into_iter().flatten() {
        // A peer whose answer cannot be read counts as not asked.
        let Ok(answer) = pb::ArmAnswer::decode(answer) else { continue };
        let armed = answer.shards.into_iter();
        found.extend(armed.map(|armed| (GroupId(armed.shard), armed.available as usize)));
    }
    found.retain(|(_, available)| *available > 0);
    found.sort_by_key(|(_, available)| std::cmp::Reverse(*available));
    found.into_iter().map(|(group, _)| group).collect()
}

/// Answers an arm: interest first, then the look.
pub(crate) fn serve_arm(
    router: &Router,
    hub: &Hub,
    from: NodeId,
    payload: Bytes,
) -> Result<Bytes, DecodeError> {
    let queue = QueueId(pb::Arm::decode(payload)?.queue);
    hub.note_interest(queue, from);
    let shards = router.all_here().into_iter().filter_map(|shard| {
        let available = shard.arm(queue)? as u64;
        Some(pb::Armed { shard: shard.group().id().0, available })
    });
    Ok(pb::ArmAnswer { shards: shards.collect() }.encode_to_vec().into())
}

/// Sends a wake-up to another node's polls.
pub(crate) async fn send_wake(router: &Router, hub: &Hub, wake: RemoteWake) {
    let message = pb::Wake { queue: wake.queue.0, shard: wake.shard.0, count: wake.count as u64 };
    let payload = message.encode_to_vec().into();
    let call = router.transport().call(
        wake.node,
        Lane::Forward,
        wake.shard,
        method::WAKE,
        payload,
        CALL_TIMEOUT,
    );
    // A wake-up that does not arrive: the link is down, and when it is up again that node's polls
    // arm again.
    if let Ok(answer) = call.await
        && pb::WakeAnswer::decode(answer).is_ok_and(|answer| answer.woken == 0)
    {
        hub.nobody_there(&wake);
    }
}

/// Answers [`send_wake`].
pub(crate) fn serve_wake(hub: &Hub, payload: Bytes) -> Result<Bytes, DecodeError> {
    let wake = pb::Wake::decode(payload)?;
    let woken = hub.wake(QueueId(wake.queue), GroupId(wake.shard), wake.count as usize);
    Ok(pb::WakeAnswer { woken: woken as u64 }.encode_to_vec().into())
}
