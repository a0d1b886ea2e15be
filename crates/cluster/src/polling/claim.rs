//! Taking messages: directly from shards that are led here, from others through their leaders.

use bytes::Bytes;
use flotilla_consensus::shard::{ReceiveSpec, ShardError};
use flotilla_probe::failpoint;
use flotilla_queue::command::Lease;
use flotilla_transport::Lane;
use flotilla_types::ids::{GroupId, NodeId, QueueId};
use flotilla_types::limits::BATCH_ENTRIES_MAX;
use flotilla_wire::DecodeError;
use flotilla_wire::command::{
    dedup_key, lease_from_pb, lease_to_pb, redrive_from_pb, redrive_to_pb,
};
use flotilla_wire::proto::cluster as pb;
use futures::future::join_all;
use prost::Message as _;
use tokio::time::timeout;

use crate::forward::method;
use crate::request;
use crate::router::{CALL_TIMEOUT, Router};

/// What one shard gave.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Claimed {
    pub(crate) shard: GroupId,
    /// `None`: it could not be asked, or its answer was lost.
    pub(crate) leases: Option<Vec<Lease>>,
    /// About how many more it has.
    pub(crate) backlog: usize,
    /// Some of the queue's tenants are noisy there.
    pub(crate) noisy: bool,
    /// Without leases: who leads it, as far as whoever was asked knows.
    pub(crate) leader: Option<NodeId>,
}

impl Claimed {
    fn failed(shard: GroupId, leader: Option<NodeId>) -> Self {
        Self { shard, leases: None, backlog: 0, noisy: false, leader }
    }

    pub(crate) fn count(&self) -> usize {
        self.leases.as_ref().map_or(0, Vec::len)
    }
}

/// Asks shards that are led on this node, in order, until there is enough. Reserving is immediate,
/// so what is left to ask for is known before anything is proposed; the proposals then run side by
/// side.
pub(crate) async fn claim_here(
    router: &Router,
    shards: &[GroupId],
    spec: ReceiveSpec,
) -> Vec<Claimed> {
    let mut left = spec.max;
    let mut claims = Vec::with_capacity(shards.len());
    for group in shards {
        if left == 0 {
            break;
        }
        let Some(shard) = router.here(*group) else {
            claims.push((*group, None, Err(ShardError::NotLeader(None))));
            continue;
        };
        let claim = shard.claim(ReceiveSpec { max: left, ..spec.clone() });
        if let Ok(Some(claim)) = &claim {
            // What stands for an attempt is on one shard.
            left = if spec.only_again { 0 } else { left - claim.count().min(left) };
        }
        claims.push((*group, Some(shard), claim));
    }
    let finish = claims.into_iter().map(|(group, shard, claim)| async move {
        let leases = match claim {
            Ok(Some(claim)) => {
                let leases = timeout(CALL_TIMEOUT, claim.leases()).await;
                let leases = leases.unwrap_or(Err(ShardError::Unknown));
                if matches!(leases, Err(ShardError::Unknown)) {
                    let request_id = request::current();
                    tracing::warn!(
                        %request_id, %group,
                        "whether messages were handed out is not known; some may stay hidden"
                    );
                }
                leases
            }
            Ok(None) => Ok(Vec::new()),
            Err(error) => Err(error),
        };
        let leases = match leases {
            Ok(leases) => leases,
            Err(ShardError::NotLeader(leader)) => return Claimed::failed(group, leader),
            Err(ShardError::Overloaded | ShardError::Unknown) => {
                return Claimed::failed(group, None);
            }
        };
        let left = shard.and_then(|shard| shard.backlog(spec.queue)).unwrap_or_default();
        let (backlog, noisy) = (left.visible as usize, left.noisy);
        Claimed { shard: group, leases: Some(leases), backlog, noisy, leader: None }
    });
    let claimed = join_all(finish).await;
    failpoint!(Claimed);
    claimed
}

/// The same through the node that leads them.
pub(crate) async fn claim_at(
    router: &Router,
    to: NodeId,
    shards: &[GroupId],
    spec: ReceiveSpec,
) -> Vec<Claimed> {
    let (request_high, request_low) = request::to_pb(request::current());
    let message = pb::Claim {
        queue: spec.queue.0,
        shards: shards.iter().map(|group| group.0).collect(),
        max: spec.max as u32,
        visibility_ms: spec.visibility_ms,
        retention_ms: spec.retention_ms,
        redrive: spec.redrive.as_ref().map(redrive_to_pb),
        attempt: spec.attempt.map(|key| Bytes::copy_from_slice(&key.0)),
        only_again: spec.only_again,
        quiet_only: spec.quiet_only,
        request_high,
        request_low,
    };
    let payload: Bytes = message.encode_to_vec().into();
    let group = shards.first().copied().unwrap_or_default();
    let transport = router.transport();
    let call = transport.call(to, Lane::Forward, group, method::CLAIM, payload, CALL_TIMEOUT);
    let answer = match call.await {
        Ok(bytes) => decode_answer(bytes).ok(),
        Err(error) => {
            if !error.never_ran() {
                let request_id = request::current();
                tracing::warn!(
                    %request_id, node = %to, %group, %error,
                    "a claim was not answered; some messages may stay hidden"
                );
            }
            None
        }
    };
    let failed = || shards.iter().map(|shard| Claimed::failed(*shard, None)).collect();
    answer.unwrap_or_else(failed)
}

fn decode_answer(bytes: Bytes) -> Result<Vec<Claimed>, DecodeError> {
    let claimed = |claimed: pb::Claimed| -> Result<Claimed, DecodeError> {
        let shard = GroupId(claimed.shard);
        if claimed.failed {
            let leader = (claimed.leader > 0).then_some(NodeId(claimed.leader));
            return Ok(Claimed::failed(shard, leader));
        }
        let leases = claimed.leases.into_iter().map(lease_from_pb).collect::<Result<_, _>>()?;
        let backlog = claimed.backlog as usize;
        let noisy = claimed.noisy;
        Ok(Claimed { shard, leases: Some(leases), backlog, noisy, leader: None })
    };
    pb::ClaimAnswer::decode(bytes)?.shards.into_iter().map(claimed).collect()
}

/// Answers [`claim_at`].
pub(crate) async fn serve_claim(router: &Router, payload: Bytes) -> Result<Bytes, DecodeError> {
    let claim = pb::Claim::decode(payload)?;
    let shards: Vec<_> = claim.shards.into_iter().map(GroupId).collect();
    let spec = ReceiveSpec {
        queue: QueueId(claim.queue),
        max: (claim.max as usize).min(BATCH_ENTRIES_MAX),
        visibility_ms: claim.visibility_ms,
        retention_ms: claim.retention_ms,
        redrive: claim.redrive.map(redrive_from_pb),
        attempt: claim.attempt.map(|key| dedup_key(&key)).transpose()?,
        only_again: claim.only_again,
        quiet_only: claim.quiet_only,
        bytes_max: usize::MAX,
    };
    let id = request::from_pb(claim.request_high, claim.request_low);
    let claimed = request::scope(id, claim_here(router, &shards, spec)).await;
    let shards = claimed.into_iter().map(|claimed| pb::Claimed {
        shard: claimed.shard.0,
        failed: claimed.leases.is_none(),
        backlog: claimed.backlog as u64,
        noisy: claimed.noisy,
        leader: claimed.leader.map_or(0, |leader| leader.0),
        leases: claimed.leases.into_iter().flatten().map(lease_to_pb).collect(),
    });
    failpoint!(ClaimAnswer);
    Ok(pb::ClaimAnswer { shards: shards.collect() }.encode_to_vec().into())
}
