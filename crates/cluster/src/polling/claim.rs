//! Taking messages: directly from shards that are led here, from others through their leaders.

use std::time::Duration;

use bytes::Bytes;
use flotilla_consensus::LEASE;
use flotilla_consensus::group::Group;
use flotilla_consensus::shard::{Claim, ReceiveSpec, ShardError};
use flotilla_probe::failpoint;
use flotilla_queue::command::Lease;
use flotilla_transport::Lane;
use flotilla_types::ids::{GroupId, NodeId, QueueId};
use flotilla_types::limits::{BATCH_ENTRIES_MAX, CONTENT_BYTES_MAX};
use flotilla_wire::DecodeError;
use flotilla_wire::command::{
    dedup_key, lease_from_pb, lease_to_pb, redrive_from_pb, redrive_to_pb,
};
use flotilla_wire::proto::cluster as pb;
use futures::future::join_all;
use prost::Message as _;
use tokio::time::{Instant, timeout};

use crate::forward::method;
use crate::node::Node;
use crate::request;
use crate::router::{CALL_TIMEOUT, Router};

/// Why a shard gave nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Missed {
    /// It could not be asked, or refused: it hid nothing. And who leads it, as far as whoever was asked
    /// knows.
    NotAsked(Option<NodeId>),
    /// Its answer was lost: it may have hidden messages that nobody got.
    Lost,
}

impl From<ShardError> for Missed {
    fn from(error: ShardError) -> Self {
        match error {
            ShardError::NotLeader(leader) => Self::NotAsked(leader),
            ShardError::Overloaded => Self::NotAsked(None),
            ShardError::Unknown => Self::Lost,
        }
    }
}

/// What one shard gave.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Claimed {
    pub(crate) shard: GroupId,
    pub(crate) leases: Result<Vec<Lease>, Missed>,
    /// About how many more it has.
    pub(crate) backlog: usize,
    /// Some of the queue's tenants are noisy there.
    pub(crate) noisy: bool,
    /// It may have kept back messages for which there was no room.
    pub(crate) withheld: bool,
    /// Some of what was reserved left the queue instead: dead letters, or what was too old. Known only where it was
    /// asked.
    left: bool,
    /// About how many messages the queue's dead-letter queue has there; 0 if there is none.
    pub(crate) dead_letters: usize,
}

impl Claimed {
    fn failed(shard: GroupId, why: Missed) -> Self {
        let (leases, backlog, dead_letters) = (Err(why), 0, 0);
        let (noisy, withheld, left) = (false, false, false);
        Self { shard, leases, backlog, noisy, withheld, left, dead_letters }
    }

    /// Who leads a shard that could not be asked, if that is known.
    pub(crate) fn leader(&self) -> Option<NodeId> {
        match self.leases {
            Err(Missed::NotAsked(leader)) => leader,
            Ok(_) | Err(Missed::Lost) => None,
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.leases.as_ref().map_or(0, Vec::len)
    }

    pub(crate) fn bytes(&self) -> usize {
        self.leases.iter().flatten().map(|lease| lease.content.len()).sum()
    }
}

/// What may still be reserved before it is known how much of it is given.
struct Share {
    messages: usize,
    bytes: usize,
    /// Whether what was reserved may be more than there is room for.
    short: bool,
}

impl Share {
    /// Every message counts as a largest one.
    fn reserve(&mut self, messages: usize) {
        let bytes = messages * CONTENT_BYTES_MAX;
        self.short |= bytes > self.bytes;
        self.messages = self.messages.saturating_sub(messages);
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    /// Whether another shard may be asked at the same time.
    fn goes_on(&self) -> bool {
        self.messages > 0 && self.bytes >= CONTENT_BYTES_MAX && !self.short
    }
}

/// Shards of which all that was reserved left the queue are asked again so often, and for so long.
const LOOKS_AGAIN: usize = 16;
const LOOK_AGAIN_FOR: Duration = Duration::from_secs(1);

/// Asks shards that are led on this node, in order, until there is enough. A poll is not empty because what it came
/// upon were dead letters.
pub(crate) async fn claim_here(
    router: &Router,
    shards: &[GroupId],
    spec: ReceiveSpec,
) -> Vec<Claimed> {
    let began = Instant::now();
    let mut claimed = claim_in_turn(router, shards, spec.clone()).await;
    // What went to the end of its own queue is not to be handed out by the same poll.
    let is_own = spec.redrive.as_ref().is_some_and(|redrive| redrive.target == spec.queue);
    for _ in 0..if is_own { 0 } else { LOOKS_AGAIN } {
        let found = claimed.iter().any(|one| one.count() > 0);
        let left = claimed.iter().filter(|one| one.left).map(|one| one.shard);
        let again: Vec<GroupId> = left.filter(|_| !found).collect();
        if again.is_empty() || began.elapsed() >= LOOK_AGAIN_FOR {
            break;
        }
        for now in claim_in_turn(router, &again, spec.clone()).await {
            if let Some(before) = claimed.iter_mut().find(|one| one.shard == now.shard) {
                *before = now;
            }
        }
    }
    failpoint!(Claimed);
    claimed
}

/// Side by side as many as there is room for whatever they reserve, and with little room one after the other.
async fn claim_in_turn(router: &Router, shards: &[GroupId], mut spec: ReceiveSpec) -> Vec<Claimed> {
    let mut claimed: Vec<Claimed> = Vec::with_capacity(shards.len());
    while claimed.len() < shards.len() && spec.max > 0 {
        let (more, enough) = claim_together(router, &shards[claimed.len()..], &spec).await;
        let only_left =
            more.iter().all(|one| one.leases.is_ok()) && more.iter().any(|one| one.left);
        for one in more {
            spec.max = spec.max.saturating_sub(one.count());
            spec.bytes_max = spec.bytes_max.saturating_sub(one.bytes());
            claimed.push(one);
        }
        let found = claimed.iter().any(|one| one.count() > 0);
        // What stands for an attempt is on one shard. What did not fit will not fit from the next one either.
        let is_last = spec.only_again || claimed.iter().any(|one| one.withheld);
        if (enough && (found || !only_left)) || (found && is_last) {
            break;
        }
    }
    claimed
}

/// Reserving is immediate, so what is left to ask for is known before anything is proposed; the proposals
/// then run side by side. Also whether enough was reserved, however much of it is given.
async fn claim_together(
    router: &Router,
    shards: &[GroupId],
    spec: &ReceiveSpec,
) -> (Vec<Claimed>, bool) {
    let mut share = Share { messages: spec.max, bytes: spec.bytes_max, short: false };
    let mut claims = Vec::with_capacity(shards.len());
    for group in shards {
        if !claims.is_empty() && !share.goes_on() {
            break;
        }
        let Some(shard) = router.here(*group) else {
            claims.push((*group, None, Err(ShardError::NotLeader(None)), false));
            continue;
        };
        let bytes_max = share.bytes;
        let claim = shard.claim(ReceiveSpec { max: share.messages, bytes_max, ..spec.clone() });
        if let Ok(Some(claim)) = &claim {
            share.reserve(claim.count());
            // What stands for an attempt is on one shard.
            share.messages = if spec.only_again { 0 } else { share.messages };
        }
        claims.push((*group, Some(shard), claim, share.short));
    }
    let (queue, target) = (spec.queue, spec.redrive.as_ref().map(|redrive| redrive.target));
    let finish = claims.into_iter().map(|(group, shard, claim, short)| async move {
        let reserved = claim.as_ref().map_or(0, |claim| claim.as_ref().map_or(0, Claim::count));
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
            Ok(None) => match &shard {
                Some(shard) if still_leads(shard.group()).await => Ok(Vec::new()),
                _ => Err(ShardError::NotLeader(None)),
            },
            Err(error) => Err(error),
        };
        let leases = match leases {
            Ok(leases) => leases,
            Err(error) => return Claimed::failed(group, error.into()),
        };
        let has = |queue| shard.as_ref().and_then(|shard| shard.backlog(queue)).unwrap_or_default();
        let (left, dead) = (has(queue), target.map(has).unwrap_or_default());
        let (backlog, noisy) = (left.visible as usize, left.noisy);
        let dead_letters = dead.visible as usize;
        let is_less = leases.len() < reserved;
        let (withheld, left) = (short && is_less, !short && is_less && !spec.only_again);
        Claimed { shard: group, leases: Ok(leases), backlog, noisy, withheld, left, dead_letters }
    });
    (join_all(finish).await, share.messages == 0 && !share.short)
}

/// Whether the group's leader, which has just found nothing, was still the leader then. Nothing had to be decided, so
/// nothing else shows it: one that no majority has heard of lately does not know what the next one has. After a
/// pause it asks; a node that is cut off answers within another lease.
pub(crate) async fn still_leads(group: &Group) -> bool {
    group.is_confirmed() || matches!(timeout(LEASE, group.linearize()).await, Ok(Ok(_)))
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
        bytes_max: spec.bytes_max as u64,
    };
    let payload: Bytes = message.encode_to_vec().into();
    let group = shards.first().copied().unwrap_or_default();
    let transport = router.transport();
    let call = transport.call(to, Lane::Forward, group, method::CLAIM, payload, CALL_TIMEOUT);
    let answer = match call.await {
        Ok(bytes) => decode_answer(bytes).map_err(|_| Missed::Lost),
        Err(error) if error.never_ran() => Err(Missed::NotAsked(None)),
        Err(error) => {
            let request_id = request::current();
            tracing::warn!(
                %request_id, node = %to, %group, %error,
                "a claim was not answered; some messages may stay hidden"
            );
            Err(Missed::Lost)
        }
    };
    answer.unwrap_or_else(|why| shards.iter().map(|shard| Claimed::failed(*shard, why)).collect())
}

fn decode_answer(bytes: Bytes) -> Result<Vec<Claimed>, DecodeError> {
    let claimed = |claimed: pb::Claimed| -> Result<Claimed, DecodeError> {
        let shard = GroupId(claimed.shard);
        if claimed.failed {
            let leader = (claimed.leader > 0).then_some(NodeId(claimed.leader));
            let why = if claimed.lost { Missed::Lost } else { Missed::NotAsked(leader) };
            return Ok(Claimed::failed(shard, why));
        }
        let leases = claimed.leases.into_iter().map(lease_from_pb).collect::<Result<_, _>>()?;
        let (noisy, withheld) = (claimed.noisy, claimed.withheld);
        let (backlog, dead_letters) = (claimed.backlog as usize, claimed.dead_letters as usize);
        let left = false;
        Ok(Claimed { shard, leases: Ok(leases), backlog, noisy, withheld, left, dead_letters })
    };
    pb::ClaimAnswer::decode(bytes)?.shards.into_iter().map(claimed).collect()
}

/// Answers [`claim_at`]. What is claimed takes room here until it is on its way.
pub(crate) async fn serve_claim(node: &Node, payload: Bytes) -> Result<Bytes, DecodeError> {
    let claim = pb::Claim::decode(payload)?;
    let shards: Vec<_> = claim.shards.into_iter().map(GroupId).collect();
    let whole = BATCH_ENTRIES_MAX * CONTENT_BYTES_MAX;
    let mut spec = ReceiveSpec {
        queue: QueueId(claim.queue),
        max: (claim.max as usize).min(BATCH_ENTRIES_MAX),
        visibility_ms: claim.visibility_ms,
        retention_ms: claim.retention_ms,
        // Whoever asks may not have heard yet that the dead-letter queue was deleted, and what is put there is thrown
        // away with it.
        redrive: claim
            .redrive
            .map(redrive_from_pb)
            .filter(|redrive| !node.catalog.has_ended(redrive.target)),
        attempt: claim.attempt.map(|key| dedup_key(&key)).transpose()?,
        only_again: claim.only_again,
        quiet_only: claim.quiet_only,
        bytes_max: usize::try_from(claim.bytes_max).unwrap_or(whole).min(whole),
        to_move: false,
    };
    let id = request::from_pb(claim.request_high, claim.request_low);
    let mut room = node.claims.room();
    let wanted = spec.bytes_max;
    let mut least = if spec.attempt.is_some() { wanted } else { 0 };
    let claimed = loop {
        let Ok(bytes) = room.open(least, wanted).await else {
            let why = Missed::NotAsked(None);
            break shards.iter().map(|shard| Claimed::failed(*shard, why)).collect();
        };
        spec.bytes_max = bytes;
        let claimed = request::scope(id, claim_here(&node.router, &shards, spec.clone())).await;
        // A lost answer may have been something, and must be told.
        let nothing = claimed
            .iter()
            .all(|claimed| claimed.count() == 0 && claimed.leases != Err(Missed::Lost));
        let may_have_more = bytes < wanted.min(CONTENT_BYTES_MAX);
        if !(nothing && may_have_more && claimed.iter().any(|claimed| claimed.withheld)) {
            break claimed;
        }
        room.hold(0);
        least = wanted.min(CONTENT_BYTES_MAX);
    };
    let shards = claimed.into_iter().map(|claimed| pb::Claimed {
        shard: claimed.shard.0,
        failed: claimed.leases.is_err(),
        lost: claimed.leases == Err(Missed::Lost),
        backlog: claimed.backlog as u64,
        noisy: claimed.noisy,
        leader: claimed.leader().map_or(0, |leader| leader.0),
        withheld: claimed.withheld,
        dead_letters: claimed.dead_letters as u64,
        leases: claimed.leases.into_iter().flatten().map(lease_to_pb).collect(),
    });
    failpoint!(ClaimAnswer);
    Ok(room.fill(pb::ClaimAnswer { shards: shards.collect() }.encode_to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(messages: usize, bytes: usize) -> Share {
        Share { messages, bytes, short: false }
    }

    #[test]
    fn shards_are_asked_side_by_side_while_there_is_room_for_what_they_reserve() {
        let mut roomy = share(10, 10 * CONTENT_BYTES_MAX);
        for reserved in [0, 9, 0] {
            roomy.reserve(reserved);
            assert!(roomy.goes_on());
        }
        roomy.reserve(1);
        assert!(!roomy.goes_on() && !roomy.short);

        let mut tight = share(10, 3 * CONTENT_BYTES_MAX);
        tight.reserve(2);
        assert!(tight.goes_on());
        tight.reserve(1);
        assert!(!tight.goes_on() && !tight.short && tight.messages == 7);

        let mut short = share(10, CONTENT_BYTES_MAX - 1);
        assert!(!short.goes_on());
        short.reserve(1);
        assert!(!short.goes_on() && short.short && short.messages == 9);
    }
}
