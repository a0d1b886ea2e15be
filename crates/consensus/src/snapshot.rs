//! A replica's whole state on its way to a peer that is too far behind for the log.
//!
//! The stream: a head (vote, applied record), the store's chunks, one empty frame; then the
//! receiver installs what it staged and answers once.

use std::io;

use bytes::Bytes;
use flotilla_probe::failpoint;
use flotilla_storage::state::{Export, GroupState};
use flotilla_transport::{CallError, Lane, PeerStream, Transport};
use flotilla_types::ids::{GroupId, NodeId};
use flotilla_wire::proto::raft as pb;
use openraft::raft::SnapshotResponse;
use openraft::storage::Snapshot;
use prost::Message as _;

use crate::codec;
use crate::network::method;
use crate::off_thread::OffThread;
use crate::state_machine::SnapshotData;
use crate::types::{SnapshotMeta, TypeConfig, Vote};

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

/// An export whose waits are on another thread, its end among them: who gives up a snapshot in the middle
/// must not wait for the disk either.
struct Exporting {
    export: Option<Export>,
    off_thread: OffThread,
}

impl Exporting {
    async fn begin(state: GroupState, off_thread: OffThread) -> io::Result<Self> {
        let export = off_thread.run(move || state.export()).await??;
        Ok(Self { export: Some(export), off_thread })
    }

    fn applied(&self) -> Option<Bytes> {
        self.export.as_ref()?.applied().cloned()
    }

    /// The export reads ahead by itself.
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        let Some(mut export) = self.export.take() else { return Ok(None) };
        let (chunk, rest) = self.off_thread.run(move || (export.next(), export)).await?;
        self.export = Some(rest);
        chunk.transpose()
    }
}

impl Drop for Exporting {
    fn drop(&mut self) {
        if let Some(export) = self.export.take() {
            self.off_thread.end(export);
        }
    }
}

pub(crate) async fn send(
    transport: &Transport,
    to: NodeId,
    group: GroupId,
    vote: Vote,
    state: GroupState,
    off_thread: OffThread,
) -> Result<SnapshotResponse<TypeConfig>, SnapshotError> {
    let mut stream = transport.open(to, Lane::Bulk, group, method::SNAPSHOT).await?;
    let mut export = Exporting::begin(state, off_thread).await?;
    let applied = export.applied().ok_or_else(|| io::Error::other("nothing applied yet"))?;
    tracing::info!(%group, %to, "sending a snapshot");
    let head = pb::SnapshotHead {
        vote: Some(codec::vote_to_pb(&vote)),
        applied: Some(pb::Applied::decode(applied).map_err(flotilla_wire::DecodeError::from)?),
        id: String::new(),
    };
    failpoint!(SnapshotSend);
    stream.tx.send(head.encode_to_vec().into()).await?;
    while let Some(chunk) = export.next().await? {
        stream.tx.send(chunk).await?;
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
    off_thread: OffThread,
) -> Result<Received, SnapshotError> {
    let head = stream.rx.next().await.ok_or(SnapshotError::Cut)??;
    let head = pb::SnapshotHead::decode(head).map_err(flotilla_wire::DecodeError::from)?;
    let vote = codec::vote_from_pb(head.vote)?;
    let applied = head.applied.ok_or(flotilla_wire::DecodeError::Field("applied"))?;
    let applied: Bytes = applied.encode_to_vec().into();
    let (last_log_id, last_membership) = codec::decode_applied(applied.clone())?;

    let mut import = off_thread.run(move || state.import()).await??;
    loop {
        let chunk = stream.rx.next().await.ok_or(SnapshotError::Cut)??;
        failpoint!(SnapshotReceive);
        if chunk.is_empty() {
            break;
        }
        let write = move || import.chunk(chunk).map(|()| import);
        import = off_thread.run(write).await??;
    }
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
