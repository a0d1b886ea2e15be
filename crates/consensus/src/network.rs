//! One group's view of one peer, over the node's multiplexed links.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use flotilla_probe::planted;
use flotilla_storage::log::GroupLog;
use flotilla_transport::{CallError, Lane, Transport};
use flotilla_types::ids::{GroupId, NodeId};
use flotilla_wire::proto::raft as pb;
use futures::future::{BoxFuture, ready};
use futures::stream::BoxStream;
use futures::{Stream, StreamExt, TryStreamExt};
use openraft::errors::{
    NetworkError, RPCError, ReplicationClosed, StreamingError, Timeout, Unreachable,
};
use openraft::network::{Backoff, RPCOption, RaftNetworkFactory};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendError,
    StreamAppendResult, TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::{RPCTypes, RaftNetworkV2};
use prost::Message as _;

use crate::checkpoint::Cutting;
use crate::codec;
use crate::off_thread::OffThread;
use crate::requests::{Pace, Requests};
use crate::slowness::Slowness;
use crate::snapshot;
use crate::state_machine::{RaftSnapshot, SnapshotData};
use crate::types::{TypeConfig, Vote};

/// Numbers of the requests between consensus crates; part of the wire format.
pub(crate) mod method {
    /// Stream: append requests there, append responses back, in order.
    pub(crate) const APPEND: u32 = 1;
    /// Call: one append request (heartbeats).
    pub(crate) const APPEND_ONE: u32 = 2;
    pub(crate) const VOTE: u32 = 3;
    pub(crate) const PRE_VOTE: u32 = 4;
    pub(crate) const TRANSFER: u32 = 5;
    /// Stream: head, chunks, empty chunk; one response back.
    pub(crate) const SNAPSHOT: u32 = 6;
    /// Call: the peer's current vote in this group.
    pub(crate) const STANDING: u32 = 7;
    /// Call to the leader: commit something new and say at which index.
    pub(crate) const BARRIER: u32 = 8;
    /// Call to a node, not to a group: see [`crate::memory`].
    pub(crate) const REMEMBER: u32 = 9;
    /// Everything from here on belongs to the crates above.
    pub(crate) const FIRST_FOREIGN: u32 = 100;
}

/// A leader that could not reach a follower tries again after this, however long that has lasted. The
/// library's own pause grows to a second, and a shard whose majority is back decides nothing meanwhile;
/// a try at a link that is down costs next to nothing.
const RETRY: Duration = Duration::from_millis(100);

type RpcError = RPCError<TypeConfig>;
/// To append requests, in their order.
type Answers = BoxStream<'static, Result<StreamAppendResult<TypeConfig>, RpcError>>;

/// Makes the clients of one group.
#[derive(Clone)]
pub(crate) struct Network {
    pub(crate) group: GroupId,
    pub(crate) log: GroupLog,
    pub(crate) local: NodeId,
    pub(crate) transport: Transport,
    pub(crate) off_thread: OffThread,
    /// See [`Application::follower_patience`](crate::Application::follower_patience).
    pub(crate) patience: Duration,
    pub(crate) members: Vec<NodeId>,
    pub(crate) slowness: Arc<Slowness>,
    pub(crate) cutting: Arc<Cutting>,
}

/// A group's connection to one peer, for one purpose.
#[derive(Clone)]
pub(crate) struct Peer {
    group: GroupId,
    log: GroupLog,
    local: NodeId,
    target: NodeId,
    lane: Lane,
    transport: Transport,
    off_thread: OffThread,
    pace: Pace,
    slowness: Arc<Slowness>,
    cutting: Arc<Cutting>,
}

impl Network {
    fn peer(&self, target: u64, lane: Lane) -> Peer {
        let follower = NodeId(target);
        Peer {
            group: self.group,
            log: self.log.clone(),
            local: self.local,
            target: follower,
            lane,
            transport: self.transport.clone(),
            off_thread: self.off_thread,
            pace: Pace::new(self.patience, self.local, follower, &self.members),
            slowness: self.slowness.clone(),
            cutting: self.cutting.clone(),
        }
    }
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = Peer;

    async fn new_client(&mut self, target: u64, _node: &openraft::impls::BasicNode) -> Peer {
        self.peer(target, Lane::Log)
    }

    async fn new_heartbeat_client(
        &mut self,
        target: u64,
        _node: &openraft::impls::BasicNode,
    ) -> Peer {
        self.peer(target, Lane::Control)
    }

    async fn new_snapshot_client(
        &mut self,
        target: u64,
        _node: &openraft::impls::BasicNode,
    ) -> Peer {
        self.peer(target, Lane::Bulk)
    }
}

impl Peer {
    fn error(&self, action: RPCTypes, error: CallError, timeout: Duration) -> RpcError {
        match error {
            CallError::Timeout { .. } => RPCError::Timeout(Timeout {
                action,
                id: self.local.0,
                target: self.target.0,
                timeout,
            }),
            CallError::Unreachable { .. } | CallError::UnknownPeer(_) => {
                RPCError::Unreachable(Unreachable::new(&error))
            }
            CallError::Overloaded
            | CallError::Refused(_)
            | CallError::Failed(_)
            | CallError::TooLarge { .. } => RPCError::Network(NetworkError::new(&error)),
        }
    }

    async fn call(
        &self,
        action: RPCTypes,
        lane: Lane,
        method: u32,
        payload: Bytes,
        option: &RPCOption,
    ) -> Result<Bytes, RpcError> {
        let timeout = option.hard_ttl();
        self.transport
            .call(self.target, lane, self.group, method, payload, timeout)
            .await
            .map_err(|error| self.error(action, error, timeout))
    }

    async fn ask_for_vote(
        &self,
        method: u32,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RpcError> {
        let request = pb::VoteRequest {
            vote: Some(codec::vote_to_pb(&rpc.vote)),
            last: rpc.last_log_id.as_ref().map(codec::log_id_to_pb),
            leadership_transfer: rpc.leadership_transfer,
        };
        let payload = request.encode_to_vec().into();
        let answer = self.call(RPCTypes::Vote, Lane::Control, method, payload, &option).await?;
        decode_vote_response(answer).map_err(|error| RPCError::Network(NetworkError::new(&error)))
    }
}

fn decode_vote_response(
    bytes: Bytes,
) -> Result<VoteResponse<TypeConfig>, flotilla_wire::DecodeError> {
    let answer = pb::VoteResponse::decode(bytes)?;
    Ok(VoteResponse {
        vote: codec::vote_from_pb(answer.vote)?,
        vote_granted: answer.granted,
        last_log_id: codec::maybe_log_id_from_pb(answer.last)?,
    })
}

/// The result of one append as the peer sends it back.
pub(crate) fn encode_append_result(result: &StreamAppendResult<TypeConfig>) -> Bytes {
    use pb::append_response::Result as Kind;
    let kind = match result {
        Ok(last) => Kind::Matched(pb::Matched { last: last.as_ref().map(codec::log_id_to_pb) }),
        Err(StreamAppendError::Conflict(id)) => Kind::Conflict(codec::log_id_to_pb(id)),
        Err(StreamAppendError::HigherVote(vote)) => Kind::HigherVote(codec::vote_to_pb(vote)),
    };
    pb::AppendResponse { result: Some(kind) }.encode_to_vec().into()
}

fn decode_append_result(bytes: Bytes) -> Result<StreamAppendResult<TypeConfig>, RpcError> {
    use pb::append_response::Result as Kind;
    let decode = || -> Result<StreamAppendResult<TypeConfig>, flotilla_wire::DecodeError> {
        let kind = pb::AppendResponse::decode(bytes)?.result;
        Ok(match kind.ok_or(flotilla_wire::DecodeError::Field("result"))? {
            Kind::Matched(matched) => Ok(codec::maybe_log_id_from_pb(matched.last)?),
            Kind::Conflict(id) if planted!(ConflictAsMatch) => Ok(Some(codec::log_id_from_pb(id)?)),
            Kind::Conflict(id) => Err(StreamAppendError::Conflict(codec::log_id_from_pb(id)?)),
            Kind::HigherVote(vote) => {
                Err(StreamAppendError::HigherVote(codec::vote_from_pb(Some(vote))?))
            }
            Kind::Failed(_) => return Err(flotilla_wire::DecodeError::Field("failed")),
        })
    };
    decode().map_err(|error| RPCError::Network(NetworkError::new(&error)))
}

impl RaftNetworkV2<TypeConfig> for Peer {
    type SnapshotData = SnapshotData;

    fn backoff(&self) -> Option<Backoff> {
        Some(Backoff::new(std::iter::repeat(RETRY)))
    }

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, RpcError> {
        let payload = codec::encode_append(&rpc);
        let action = RPCTypes::AppendEntries;
        let answer = self.call(action, self.lane, method::APPEND_ONE, payload, &option).await?;
        Ok(decode_append_result(answer)?.into())
    }

    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        option: RPCOption,
    ) -> BoxFuture<
        's,
        Result<BoxStream<'s, Result<StreamAppendResult<TypeConfig>, RpcError>>, RpcError>,
    >
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + Send + Unpin + 'static,
    {
        if self.lane == Lane::Control {
            // A heartbeat is a stream of one: a call costs one frame each way, a stream three.
            return Box::pin(async move {
                let answers = futures::stream::unfold((self, input), move |(peer, mut input)| {
                    let option = option.clone();
                    async move {
                        let rpc = input.next().await?;
                        let payload = codec::encode_append(&rpc);
                        let action = RPCTypes::AppendEntries;
                        let answer =
                            peer.call(action, peer.lane, method::APPEND_ONE, payload, &option);
                        let result = answer.await.and_then(decode_append_result);
                        Some((result, (peer, input)))
                    }
                });
                Ok(answers.boxed())
            });
        }
        let answers = self.append(input, option);
        Box::pin(async move { Ok(answers) })
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RpcError> {
        self.ask_for_vote(method::VOTE, rpc, option).await
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RpcError> {
        self.ask_for_vote(method::PRE_VOTE, rpc, option).await
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: RaftSnapshot,
        cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let SnapshotData::Local(state) = snapshot.snapshot else {
            let error = std::io::Error::other("only a replica's own state is sent");
            return Err(StreamingError::Unreachable(Unreachable::new(&error)));
        };
        let position = snapshot.meta.last_log_id.map_or(0, |id| id.index);
        let _hold = self.cutting.hold(position);
        let send =
            snapshot::send(&self.transport, self.target, self.group, vote, state, self.off_thread);
        tokio::select! {
            closed = cancel => Err(StreamingError::Closed(closed)),
            sent = send => sent
                .map_err(|error| StreamingError::Unreachable(Unreachable::new(&error))),
        }
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, RpcError> {
        let message = pb::TransferRequest {
            from_leader: Some(codec::vote_to_pb(request.from_leader())),
            to_node: *request.to_node_id(),
            last: request.last_log_id().map(codec::log_id_to_pb),
        };
        let payload = message.encode_to_vec().into();
        let action = RPCTypes::TransferLeader;
        let answer = self.call(action, Lane::Control, method::TRANSFER, payload, &option).await?;
        let answer = pb::TransferResponse::decode(answer)
            .map_err(|error| RPCError::Network(NetworkError::new(&error)))?;
        if answer.refused.is_empty() {
            Ok(Ok(()))
        } else {
            let error = std::io::Error::other(answer.refused);
            Err(RPCError::Network(NetworkError::new(&error)))
        }
    }
}

impl Peer {
    /// Requests go out as they come, without waiting for answers: the pipeline's depth is the
    /// library's business, its byte bound the link's.
    ///
    /// The stream is opened only for its first request: the library's pause after an error lies
    /// before that one. An open that fails earlier would be tried again at once, without end, for
    /// as long as the peer is away.
    ///
    /// It ends when the log was cut behind what comes next. The library would go on without entries and not look
    /// at what it has decided since: to send a snapshot, and to begin anew behind that.
    fn append<S>(&self, input: S, option: RPCOption) -> Answers
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + Send + Unpin + 'static,
    {
        let peer = self.clone();
        let log = self.log.clone();
        let mut input =
            input.take_while(move |request| ready(!lies_behind(request, || log.state().first)));
        let opening = async move {
            let Some(first) = input.next().await else {
                return Ok::<Answers, RpcError>(futures::stream::empty().boxed());
            };
            let opened = peer.transport.open(peer.target, Lane::Log, peer.group, method::APPEND);
            let stream = opened
                .await
                .map_err(|error| peer.error(RPCTypes::AppendEntries, error, option.hard_ttl()))?;
            let (mut tx, rx) = (stream.tx, stream.rx);
            let (transport, slowness) = (peer.transport.clone(), peer.slowness.clone());
            let is_there = move |node| transport.connected(node) && !slowness.is_slow(node);
            let mut requests = Requests::new(first, input, peer.pace.clone(), is_there);
            let pump = tokio::spawn(async move {
                while let Some(request) = requests.next().await {
                    if tx.send(codec::encode_append(&request)).await.is_err() {
                        break;
                    }
                }
            });
            // Held by the answers: when the library lets go of them, the requests stop too.
            let pump = AbortOnDrop(pump);
            let answers = futures::stream::unfold((rx, pump), |(mut rx, pump)| async move {
                let answer = match rx.next().await? {
                    Ok(bytes) => decode_append_result(bytes),
                    Err(error) => Err(RPCError::Network(NetworkError::new(&error))),
                };
                Some((answer, (rx, pump)))
            });
            Ok(answers.boxed())
        };
        futures::stream::once(opening).try_flatten().boxed()
    }
}

/// Whether a request has nothing because the log was cut behind it. Where that begins is asked only then: nearly
/// all requests have something.
fn lies_behind(request: &AppendEntriesRequest<TypeConfig>, first: impl FnOnce() -> u64) -> bool {
    let next = request.prev_log_id.as_ref().map_or(0, |id| id.index + 1);
    request.entries.is_empty() && next < first()
}

/// A task that ends with its owner.
struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
