//! Fair queues: each node asks every second who uses a queue how much, and tells the shards that it
//! leads whose messages have to wait for the others'.
//!
//! `judge` decides. A shard sees only its part of a queue, and receives take whole batches from one
//! shard: only all parts together say what a tenant's share is. Nodes decide each for itself, about
//! the same, as of a second ago; SQS promises no more. A node that is asked about a queue judges it
//! too: its shards may have nothing in flight and much that waits.

mod judge;

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use flotilla_consensus::shard::Shard;
use flotilla_transport::Lane;
use flotilla_types::ids::{GroupId, GroupKey, QueueId};
use flotilla_wire::DecodeError;
use flotilla_wire::proto::cluster as pb;
use futures::future::join_all;
use parking_lot::Mutex;
use prost::Message as _;
use tokio::time::MissedTickBehavior;

use self::judge::{NAMED_PART, Noisy, Tenant, Usage};
use crate::forward::method;
use crate::node::Node;
use crate::router::CALL_TIMEOUT;

const ROUND: Duration = Duration::from_secs(1);
/// Per question to another node.
const QUEUES_ASKED_MAX: usize = 256;
const HEARD_MAX: usize = 10_000;

/// Queues that other nodes asked about; beyond the bound some are judged a second later.
#[derive(Default)]
pub(crate) struct Heard(Mutex<BTreeSet<QueueId>>);

impl Heard {
    fn note(&self, queues: impl Iterator<Item = QueueId>) {
        let mut heard = self.0.lock();
        let room = HEARD_MAX.saturating_sub(heard.len());
        heard.extend(queues.take(room));
    }

    fn take(&self) -> BTreeSet<QueueId> {
        std::mem::take(&mut *self.0.lock())
    }
}

/// Runs until the node ends.
pub(crate) async fn run(node: Arc<Node>) {
    let mut ticks = tokio::time::interval(ROUND);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut noisy = BTreeMap::new();
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = node.stopped() => return,
        }
        judge_all(&node, &mut noisy).await;
    }
}

async fn judge_all(node: &Node, noisy: &mut BTreeMap<QueueId, Noisy>) {
    let shards = node.router.all_here();
    let mut shared = BTreeSet::new();
    node.each_busy_queue(|_, busy| {
        if busy.is_shared {
            shared.insert(busy.queue);
        }
    })
    .await;
    // What was noisy here may have nothing in flight here any more.
    let mut heard = node.heard.take();
    heard.extend(noisy.keys());
    heard.retain(|queue| !shared.contains(queue));
    judge_some(node, &shards, noisy, shared, false).await;
    judge_some(node, &shards, noisy, heard, true).await;
    noisy.retain(|_, noisy| !noisy.is_empty());
}

async fn judge_some(
    node: &Node,
    shards: &[Shard],
    noisy: &mut BTreeMap<QueueId, Noisy>,
    queues: BTreeSet<QueueId>,
    heard: bool,
) {
    let queues: Vec<_> = queues.into_iter().collect();
    for queues in queues.chunks(QUEUES_ASKED_MAX) {
        let usages = usages(node, queues, heard).await;
        for (queue, usage) in queues.iter().zip(usages) {
            let judged = noisy.entry(*queue).or_default();
            judged.judge(&usage, node.clock.now_ms());
            let groups = judged.groups();
            for shard in shards {
                shard.set_noisy(*queue, &groups);
            }
        }
    }
}

/// In the order of the queues. A node that does not answer counts for nothing.
async fn usages(node: &Node, queues: &[QueueId], heard: bool) -> Vec<Usage> {
    let mut usages = usages_here(node, queues);
    let question = pb::Tenants { queues: queues.iter().map(|queue| queue.0).collect(), heard };
    let question: Bytes = question.encode_to_vec().into();
    let asked = node.peers.iter().map(|peer| {
        let transport = node.host.transport();
        let question = question.clone();
        transport.call(*peer, Lane::Forward, GroupId(0), method::TENANTS, question, CALL_TIMEOUT)
    });
    for answer in join_all(asked).await.into_iter().flatten() {
        let Ok(answer) = pb::TenantsAnswer::decode(answer) else { continue };
        for (usage, elsewhere) in usages.iter_mut().zip(answer.queues) {
            usage.plus(usage_from_pb(elsewhere));
        }
    }
    usages
}

fn usages_here(node: &Node, queues: &[QueueId]) -> Vec<Usage> {
    let shards = node.router.all_here();
    queues.iter().map(|queue| usage_here(&shards, *queue)).collect()
}

fn usage_here(shards: &[Shard], queue: QueueId) -> Usage {
    let mut usage = Usage::default();
    for shard in shards {
        let known = shard.tenants(queue, NAMED_PART);
        for (share, waits) in &known.noisy {
            let (in_flight, busy_ms) = (share.in_flight, share.busy_ms);
            usage.add(share.group, Tenant { in_flight, busy_ms, waits: *waits });
        }
        let Some(shares) = known.shares else { continue };
        usage.in_flight += shares.in_flight;
        usage.busy_ms += shares.busy_ms;
        for share in shares.tenants {
            if known.noisy.iter().all(|(noisy, _)| noisy.group != share.group) {
                let (in_flight, busy_ms) = (share.in_flight, share.busy_ms);
                usage.add(share.group, Tenant { in_flight, busy_ms, waits: false });
            }
        }
    }
    usage
}

/// Answers what [`usages`] asks.
pub(crate) fn serve_tenants(node: &Node, payload: Bytes) -> Result<Bytes, DecodeError> {
    let pb::Tenants { queues, heard } = pb::Tenants::decode(payload)?;
    let queues: Vec<_> = queues.into_iter().take(QUEUES_ASKED_MAX).map(QueueId).collect();
    if !heard {
        node.heard.note(queues.iter().copied());
    }
    let queues = usages_here(node, &queues).into_iter().map(usage_to_pb).collect();
    Ok(pb::TenantsAnswer { queues }.encode_to_vec().into())
}

fn usage_to_pb(usage: Usage) -> pb::QueueTenants {
    let tenants = usage.tenants.into_iter().map(|(group, tenant)| pb::Tenant {
        group: group.0.get(),
        in_flight: tenant.in_flight,
        busy_ms: tenant.busy_ms,
        waits: tenant.waits,
    });
    pb::QueueTenants {
        in_flight: usage.in_flight,
        busy_ms: usage.busy_ms,
        tenants: tenants.collect(),
    }
}

fn usage_from_pb(answer: pb::QueueTenants) -> Usage {
    let mut usage =
        Usage { in_flight: answer.in_flight, busy_ms: answer.busy_ms, tenants: BTreeMap::new() };
    for tenant in answer.tenants {
        let Some(group) = NonZeroU64::new(tenant.group) else { continue };
        let pb::Tenant { in_flight, busy_ms, waits, .. } = tenant;
        usage.add(GroupKey(group), Tenant { in_flight, busy_ms, waits });
    }
    usage
}
