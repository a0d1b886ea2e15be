//! What peers ask of this node's replicas.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use flotilla_probe::{failpoint, sometimes};
use flotilla_transport::{Handler, PeerStream};
use flotilla_types::ids::{GroupId, NodeId};
use flotilla_wire::DecodeError;
use flotilla_wire::proto::raft as pb;
use futures::StreamExt;
use futures::future::BoxFuture;
use openraft::raft::{StreamAppendResult, TransferLeaderRequest, VoteRequest};
use prost::Message as _;

use crate::codec;
use crate::host::Groups;
use crate::memory::Memory;
use crate::network::{encode_append_result, method};
use crate::snapshot;
use crate::types::TypeConfig;

/// Answers consensus' own methods and passes the others on.
pub(crate) struct PeerHandler {
    pub(crate) groups: Arc<Groups>,
    pub(crate) memory: Arc<Memory>,
    pub(crate) above: OnceLock<Arc<dyn Handler>>,
}

impl Handler for PeerHandler {
    fn call(
        &self,
        from: NodeId,
        group: GroupId,
        method: u32,
        payload: Bytes,
    ) -> BoxFuture<'static, Result<Bytes, String>> {
        if method >= method::FIRST_FOREIGN {
            return match self.above.get() {
                Some(above) => above.call(from, group, method, payload),
                None => Box::pin(async { Err("starting".to_owned()) }),
            };
        }
        if method == method::REMEMBER {
            let answer = self.memory.serve(from, payload).map_err(text);
            return Box::pin(async move { answer });
        }
        if method == method::STANDING
            && let Some(standing) = self.groups.standing(group)
        {
            return Box::pin(async move { Ok(standing.encode()) });
        }
        let Some(replica) = self.groups.get(group) else {
            return Box::pin(async move { Err(format!("no replica of group {group} here")) });
        };
        let may_lead = self.groups.may_lead();
        Box::pin(async move {
            match method {
                method::APPEND_ONE => append_one(&replica, payload).await,
                method::VOTE | method::PRE_VOTE => vote(&replica, method, payload).await,
                method::TRANSFER if !may_lead => Err("this node is ending, or slow".into()),
                method::TRANSFER => transfer(&replica, payload).await,
                method::BARRIER => crate::rebirth::serve_barrier(&replica).await,
                other => Err(format!("unknown method {other}")),
            }
        })
    }

    fn stream(&self, from: NodeId, group: GroupId, method: u32, stream: PeerStream) {
        if method >= method::FIRST_FOREIGN {
            return match self.above.get() {
                Some(above) => above.stream(from, group, method, stream),
                None => stream.refuse("starting"),
            };
        }
        let Some(replica) = self.groups.get(group) else {
            return stream.refuse(&format!("no replica of group {group} here"));
        };
        match method {
            method::APPEND => {
                tokio::spawn(append(replica, stream));
            }
            method::SNAPSHOT => {
                tokio::spawn(install(replica, stream));
            }
            other => stream.refuse(&format!("unknown method {other}")),
        }
    }
}

type Replica = crate::host::Replica;

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

async fn append_one(replica: &Replica, payload: Bytes) -> Result<Bytes, String> {
    let request = codec::decode_append(payload).map_err(text)?;
    let previous = request.prev_log_id;
    let last = request.entries.last().map(|entry| entry.log_id).or(previous);
    let response = replica.group.raft().append_entries(request).await.map_err(text)?;
    Ok(encode_append_result(&response.into_stream_result(previous, last)))
}

/// Requests are handed to the core as they come; answers go back in the same order.
async fn append(replica: Replica, stream: PeerStream) {
    let PeerStream { mut tx, rx } = stream;
    let requests = futures::stream::unfold(rx, |mut rx| async move {
        let payload = rx.next().await?.ok()?;
        failpoint!(ServeAppend);
        match codec::decode_append(payload) {
            Ok(request) => Some((request, rx)),
            Err(error) => {
                tracing::warn!(%error, "a peer sent a malformed append");
                None
            }
        }
    });
    let answers = replica.group.raft().stream_append(requests);
    let mut answers = std::pin::pin!(answers);
    while let Some(answer) = answers.next().await {
        let result: StreamAppendResult<TypeConfig> = match answer {
            Ok(result) => result,
            Err(fatal) => return replica.group.fatal(format!("an append failed: {fatal}")),
        };
        if tx.send(encode_append_result(&result)).await.is_err() {
            return;
        }
    }
}

async fn vote(replica: &Replica, method: u32, payload: Bytes) -> Result<Bytes, String> {
    // A replica that may have forgotten what it acknowledged could elect a leader that never
    // had it.
    failpoint!(ServeVote);
    if !replica.may_vote() {
        sometimes!(VoteRefusedByReborn);
        return Err("this replica lost its log and is being rebuilt; it does not vote".into());
    }
    let decode = || -> Result<VoteRequest<TypeConfig>, DecodeError> {
        let request = pb::VoteRequest::decode(payload)?;
        Ok(VoteRequest {
            vote: codec::vote_from_pb(request.vote)?,
            last_log_id: codec::maybe_log_id_from_pb(request.last)?,
            leadership_transfer: request.leadership_transfer,
        })
    };
    let request = decode().map_err(text)?;
    let raft = replica.group.raft();
    let response = match method {
        method::VOTE => raft.vote(request).await.map_err(text)?,
        _ => raft.pre_vote(request).await.map_err(text)?,
    };
    let message = pb::VoteResponse {
        vote: Some(codec::vote_to_pb(&response.vote)),
        granted: response.vote_granted,
        last: response.last_log_id.as_ref().map(codec::log_id_to_pb),
    };
    Ok(message.encode_to_vec().into())
}

async fn transfer(replica: &Replica, payload: Bytes) -> Result<Bytes, String> {
    if !replica.may_vote() {
        return Err("this replica is being rebuilt; it does not lead".into());
    }
    let decode = || -> Result<TransferLeaderRequest<TypeConfig>, DecodeError> {
        let request = pb::TransferRequest::decode(payload)?;
        let vote = codec::vote_from_pb(request.from_leader)?;
        let last = codec::maybe_log_id_from_pb(request.last)?;
        Ok(TransferLeaderRequest::new(vote, request.to_node, last))
    };
    let request = decode().map_err(text)?;
    let response = replica.group.raft().handle_transfer_leader(request).await.map_err(text)?;
    let refused = response.err().map(text).unwrap_or_default();
    Ok(pb::TransferResponse { refused }.encode_to_vec().into())
}

async fn install(replica: Replica, mut stream: PeerStream) {
    let state = replica.group.state().clone();
    let result = match snapshot::receive(&mut stream, state, replica.off_thread).await {
        Ok(received) => snapshot::install(replica.group.raft(), received).await,
        Err(error) => Err(error.to_string()),
    };
    if let Err(error) = &result {
        tracing::warn!(group = %replica.group.id(), %error, "a snapshot was not installed");
    }
    // A sender that has gone will find out by itself.
    let _ = stream.tx.send(snapshot::encode_response(result)).await;
}
