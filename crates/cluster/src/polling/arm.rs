//! Asking all shards what they have, and being told from then on.

use std::time::Duration;

use bytes::Bytes;
use flotilla_probe::{failpoint, sometimes};
use flotilla_transport::Lane;
use flotilla_types::ids::{GroupId, NodeId, QueueId};
use flotilla_wire::DecodeError;
use flotilla_wire::proto::cluster as pb;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, StreamExt as _};
use prost::Message as _;
use tokio::time::timeout;

use super::hub::{Hub, RemoteWake};
use crate::forward::method;
use crate::router::{CALL_TIMEOUT, Router};

/// What others are given to answer as well, when one node had something.
const MOMENT: Duration = Duration::from_millis(5);

/// All nodes while they are asked what their shards have. Each is heard when it answers: one that is
/// slow, or silent, holds up nobody who waits for what the others have.
///
/// The caller's poll must be in the hub already: what arrives from now on wakes it. Shards that could not
/// be asked are missing; a change of their leader or link makes the caller ask again.
pub(crate) struct Arming<'a> {
    asked: FuturesUnordered<BoxFuture<'a, Vec<(GroupId, usize)>>>,
    found: Vec<(GroupId, usize)>,
}

impl<'a> Arming<'a> {
    pub(crate) fn begin(router: &'a Router, peers: &'a [NodeId], queue: QueueId) -> Self {
        let here = router.all_here().into_iter().filter_map(|shard| {
            let available = shard.arm(queue)?;
            Some((shard.group().id(), available))
        });
        let found = here.filter(|(_, available)| *available > 0).collect();
        let payload: Bytes = pb::Arm { queue: queue.0 }.encode_to_vec().into();
        let asked = peers.iter().map(|peer| ask(router, *peer, payload.clone()).boxed()).collect();
        Self { asked, found }
    }

    /// Whether everybody has answered and everything was told.
    pub(crate) fn is_over(&self) -> bool {
        self.asked.is_empty() && self.found.is_empty()
    }

    /// Shards that have something, the fullest first, of the nodes that answered since the last time;
    /// none when nobody else has anything. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Vec<GroupId> {
        loop {
            let answer = match self.found.is_empty() {
                true => self.asked.next().await,
                false => timeout(MOMENT, self.asked.next()).await.unwrap_or(None),
            };
            let Some(answer) = answer else { break };
            self.found.extend(answer.into_iter().filter(|(_, available)| *available > 0));
        }
        let mut found = std::mem::take(&mut self.found);
        found.sort_by_key(|(_, available)| std::cmp::Reverse(*available));
        found.into_iter().map(|(group, _)| group).collect()
    }
}

async fn ask(router: &Router, peer: NodeId, payload: Bytes) -> Vec<(GroupId, usize)> {
    let (lane, timeout) = (Lane::Forward, CALL_TIMEOUT);
    let call = router.transport().call(peer, lane, GroupId(0), method::ARM, payload, timeout);
    // A peer whose answer cannot be read counts as not asked.
    let answer = call.await.ok().and_then(|answer| pb::ArmAnswer::decode(answer).ok());
    let armed = answer.into_iter().flat_map(|answer| answer.shards);
    let armed = armed.map(|armed| {
        let shard = GroupId(armed.shard);
        // Only its leader can be armed. Whoever has no replica hears here who that is.
        router.note_hint(shard, Some(peer));
        (shard, armed.available as usize)
    });
    armed.collect()
}

/// Answers an arm: interest first, then the look.
pub(crate) fn serve_arm(
    router: &Router,
    hub: &Hub,
    from: NodeId,
    payload: Bytes,
) -> Result<Bytes, DecodeError> {
    let queue = QueueId(pb::Arm::decode(payload)?.queue);
    failpoint!(Arm);
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
    failpoint!(WakeElsewhere);
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
    sometimes!(WokenFromElsewhere);
    let woken = hub.wake(QueueId(wake.queue), GroupId(wake.shard), wake.count as usize);
    Ok(pb::WakeAnswer { woken: woken as u64 }.encode_to_vec().into())
}
