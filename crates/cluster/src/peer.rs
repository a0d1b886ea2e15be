//! What other nodes ask of this one.

use std::sync::Weak;

use bytes::Bytes;
use flotilla_consensus::shard::ShardError;
use flotilla_probe::failpoint;
use flotilla_queue::command::Command;
use flotilla_transport::{Handler, PeerStream};
use flotilla_types::ids::{GroupId, NodeId, QueueId};
use flotilla_wire::DecodeError;
use flotilla_wire::command::{command_from_pb, replies_to_pb};
use flotilla_wire::proto::cluster as pb;
use futures::future::BoxFuture;
use prost::Message as _;

use crate::catalog;
use crate::counting;
use crate::fairness;
use crate::forward::method;
use crate::moves;
use crate::node::Node;
use crate::polling::{arm, claim, in_flight};
use crate::request;
use crate::router::submit_here;

/// Holds the node weakly: the links hold the handler, the node holds the links.
pub(crate) struct Peers(pub(crate) Weak<Node>);

impl Handler for Peers {
    fn call(
        &self,
        from: NodeId,
        group: GroupId,
        method: u32,
        payload: Bytes,
    ) -> BoxFuture<'static, Result<Bytes, String>> {
        let Some(node) = self.0.upgrade() else {
            return Box::pin(async { Err("stopping".to_owned()) });
        };
        Box::pin(async move {
            // A request that cannot be decoded was not acted upon.
            let malformed = |error: DecodeError| error.to_string();
            match method {
                method::SUBMIT => submit(&node, group, payload).await,
                method::CLAIM => claim::serve_claim(&node, payload).await.map_err(malformed),
                method::MOVE => moves::serve_move(&node, group, payload).await.map_err(malformed),
                method::ARM => {
                    arm::serve_arm(&node.router, &node.hub, from, payload).map_err(malformed)
                }
                method::WAKE => arm::serve_wake(&node.hub, payload).map_err(malformed),
                method::TENANTS => fairness::serve_tenants(&node, payload).map_err(malformed),
                method::COUNT => counting::serve_count(&node, payload).map_err(malformed),
                method::DECIDE => decide(&node, payload).await.map_err(malformed),
                method::GONE => gone(&node, payload).await.map_err(malformed),
                method::POSITION => Ok(position(&node).await),
                method::LOOKUP => lookup(&node, payload).await.map_err(malformed),
                method::FOUNDING => node.founding.serve(payload),
                method::SPACE => node.space.serve(from, payload).map_err(malformed),
                method::IN_FLIGHT => {
                    in_flight::serve_in_flight(&node, from, payload).map_err(malformed)
                }
                other => Err(format!("unknown method {other}")),
            }
        })
    }

    fn stream(&self, _from: NodeId, _group: GroupId, method: u32, stream: PeerStream) {
        stream.refuse(&format!("unknown stream {method}"));
    }
}

async fn submit(node: &Node, group: GroupId, payload: Bytes) -> Result<Bytes, String> {
    use pb::submit_answer::Outcome;
    let message = pb::Submit::decode(payload).map_err(|error| error.to_string())?;
    let request_id = request::from_pb(message.request_high, message.request_low);
    let commands = message.commands.into_iter().map(command_from_pb);
    let commands: Vec<_> = commands.collect::<Result<_, _>>().map_err(|error| error.to_string())?;
    let sends = commands.iter().any(|command| matches!(command.command, Command::Send(_)));
    let result = match node.router.here(group) {
        // The caller may not have heard of it.
        Some(_) if sends && node.is_shard_low_on_space(group) => Err(ShardError::Overloaded),
        Some(shard) => submit_here(&shard, commands).await,
        None => Err(ShardError::NotLeader(None)),
    };
    failpoint!(ForwardAnswer);
    let outcome = match result {
        Ok(replies) => Outcome::Replies(replies_to_pb(replies)),
        Err(ShardError::NotLeader(leader)) => Outcome::Leader(leader.map_or(0, |node| node.0)),
        Err(ShardError::Overloaded) => Outcome::Overloaded(pb::Nothing {}),
        Err(ShardError::Unknown) => {
            tracing::warn!(%request_id, %group, "a forwarded command's outcome is not known");
            Outcome::Unknown(pb::Nothing {})
        }
    };
    Ok(pb::SubmitAnswer { outcome: Some(outcome) }.encode_to_vec().into())
}

async fn decide(node: &Node, payload: Bytes) -> Result<Bytes, DecodeError> {
    use pb::decide_answer::Outcome;
    let message = pb::Decide::decode(payload)?;
    let (_, id, command) = catalog::command_from_bytes(message.command)?;
    let outcome = match node.decide_here(id, &command).await {
        Ok(reply) => Outcome::Reply(catalog::reply_to_bytes(&reply)),
        Err(ShardError::NotLeader(leader)) => Outcome::Leader(leader.map_or(0, |node| node.0)),
        Err(ShardError::Overloaded) => Outcome::Overloaded(pb::Nothing {}),
        Err(ShardError::Unknown) => Outcome::Unknown(pb::Nothing {}),
    };
    Ok(pb::DecideAnswer { outcome: Some(outcome) }.encode_to_vec().into())
}

async fn gone(node: &Node, payload: Bytes) -> Result<Bytes, DecodeError> {
    node.see_gone(QueueId(pb::Gone::decode(payload)?.queue)).await;
    Ok(Bytes::new())
}

async fn position(node: &Node) -> Bytes {
    use pb::position_answer::Outcome;
    let outcome = match node.catalog_position_here().await {
        Ok(applied) => Outcome::Applied(applied),
        Err(leader) => Outcome::Leader(leader.map_or(0, |node| node.0)),
    };
    pb::PositionAnswer { outcome: Some(outcome) }.encode_to_vec().into()
}

async fn lookup(node: &Node, payload: Bytes) -> Result<Bytes, DecodeError> {
    use pb::lookup_answer::Outcome;
    let name = pb::Lookup::decode(payload)?.name;
    let outcome = match node.lookup_here(&name).await {
        Ok(Some(queue)) => Outcome::Queue(catalog::queue_to_bytes(&queue)),
        Ok(None) => Outcome::None(pb::Nothing {}),
        Err(leader) => Outcome::Leader(leader.map_or(0, |node| node.0)),
    };
    Ok(pb::LookupAnswer { outcome: Some(outcome) }.encode_to_vec().into())
}
