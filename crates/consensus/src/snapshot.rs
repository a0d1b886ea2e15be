//! A replica's whole state on its way to a peer that is too far behind for the log.
//!
//! The stream: a head (vote, applied record), the store's chunks, one empty frame; then the
//! receiver installs what it staged and answers once.

use std::io;

use bytes::Bytes;
use flotilla_probe::failpoint;
use flotilla_storage::state::GroupState;
use flotilla_transport::{CallError, Lane, PeerStream, Transport};
use flotilla_types::ids::{GroupId, NodeId};
use flotilla_wire::proto::raft as pb;
use openraft::raft::SnapshotResponse;
use openraft::storage::Snapshot;
use prost::Message as _;
use tokio::sync::mpsc;

use crate::codec;
use crate::network::method;
use crate::state_machine::SnapshotData;
use crate::types::{SnapshotMeta, TypeConfig, Vote};

/// Chunks read ahead of the link (or received ahead of the disk).
const CHUNKS_AHEAD_MAX: usize = 4;

/// Why a snapshot did not arrive.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SnapshotError {
    #[error(transparent)]
    Link(#[from] CallError),
    #[error("the local state cannot be read: {0}")]
    Local(#[from] io::Error),
    #[error("the receiver failed: {0}")]
    Remote(String),
    #[error("malformed: {0}")]
    Malformed(#[from] flotilla_wire::DecodeError),
    #[error("the stream ended early")]
    Cut,
}

pub(crate) async fn send(
    transport: &Transport,
    to: NodeId,
    group: GroupId,
    vote: Vote,
    state: GroupState,
) -> Result<SnapshotResponse<TypeConfig>, SnapshotError> {
    let mut stream = transport.open(to, Lane::Bulk, group, method::SNAPSHOT).await?;
    let export = state.export()?;
    let applied =
        export.applied().cloned().ok_or_else(|| io::Error::other("nothing applied yet"))?;
    tracing::info!(%group, %to, "sending a snapshot");
    let head = pb::SnapshotHead {
        vote: Some(codec::vote_to_pb(&vote)),
        applied: Some(pb::Applied::decode(applied).map_err(flotilla_wire::DecodeError::from)?),
        id: String::new(),
    };
    failpoint!(SnapshotSend);
    stream.tx.send(head.encode_to_vec().into()).await?;
    let (tx, mut rx) = mpsc::channel(CHUNKS_AHEAD_MAX);
    // Reading the store blocks; the receiver going away ends it.
    tokio::task::spawn_blocking(move || {
        for chunk in export {
            if tx.blocking_send(chunk).is_err() {
                return;
            }
        }
    });
    while let Some(chunk) = rx.recv().await {
        stream.tx.send(chunk?).await?;
    }
    stream.tx.send(Bytes::new()).await?;
    let answer = stream.rx.next().await.ok_or(SnapshotError::Cut)??;
    let answer = pb::SnapshotResponse::decode(answer).map_err(flotilla_wire::DecodeError::from)?;
    if !answer.failed.is_empty() {
        return Err(SnapshotError::Remote(answer.failed));
    }
    Ok(SnapshotResponse::new(codec::vote_from_pb(answer.vote)?))
}

/// What [`receive`] staged.
pub(crate) struct Received {
    pub(crate) vote: Vote,
    pub(crate) snapshot: crate::state_machine::RaftSnapshot,
}

/// Reads a snapshot stream up to its end and stages it; nothing is installed yet.
pub(crate) async fn receive(
    stream: &mut PeerStream,
    state: GroupState,
) -> Result<Received, SnapshotError> {
    let head = stream.rx.next().await.ok_or(SnapshotError::Cut)??;
    let head = pb::SnapshotHead::decode(head).map_err(flotilla_wire::DecodeError::from)?;
    let vote = codec::vote_from_pb(head.vote)?;
    let applied = head.applied.ok_or(flotilla_wire::DecodeError::Field("applied"))?;
    let applied: Bytes = applied.encode_to_vec().into();
    let (last_log_id, last_membership) = codec::decode_applied(applied.clone())?;

    let (tx, mut rx) = mpsc::channel::<Bytes>(CHUNKS_AHEAD_MAX);
    let staging = tokio::task::spawn_blocking(move || {
        let mut import = state.import()?;
        while let Some(chunk) = rx.blocking_recv() {
            if chunk.is_empty() {
                return Ok(Some(import));
            }
            import.chunk(chunk)?;
        }
        io::Result::Ok(None)
    });
    while let Some(chunk) = stream.rx.next().await {
        let chunk = chunk?;
        failpoint!(SnapshotReceive);
        let last = chunk.is_empty();
        if tx.send(chunk).await.is_err() || last {
            break;
        }
    }
    drop(tx);
    let import = staging.await.map_err(io::Error::other)??.ok_or(SnapshotError::Cut)?;
    let snapshot = Snapshot {
        meta: SnapshotMeta { last_log_id, last_membership },
        snapshot: SnapshotData::Received { import: Box::new(import), applied },
    };
    Ok(Received { vote, snapshot })
}

pub(crate) fn encode_response(result: Result<SnapshotResponse<TypeConfig>, String>) -> Bytes {
    let message = match result {
        Ok(response) => pb::SnapshotResponse {
            vote: Some(codec::vote_to_pb(&response.vote)),
            failed: String::new(),
        },
        Err(failed) => pb::SnapshotResponse { vote: None, failed },
    };
    message.encode_to_vec().into()
}
