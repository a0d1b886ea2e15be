//! A replica's whole state on its way to a peer that is too far behind for the log.
//!
//! The stream: a head (vote, applied record), the store's chunks, one empty frame; then the
//! receiver installs what it staged and answers once.

use std::io;

use bytes::Bytes;
use flotilla_probe::failpoint;
use flotilla_storage::state::{Export, GroupState, Import};
use flotilla_transport::{CallError, Lane, PeerStream, Transport};
use flotilla_types::ids::{GroupId, NodeId};
use flotilla_wire::proto::raft as pb;
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse};
use openraft::storage::Snapshot;
use prost::Message as _;

use crate::codec;
use crate::group::Raft;
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

/// What was received so far. If nothing comes of it its rows are removed, which may wait for the disk.
struct Staged {
    import: Option<Import>,
    off_thread: OffThread,
}

impl Drop for Staged {
    fn drop(&mut self) {
        if let Some(import) = self.import.take() {
            self.off_thread.end(import);
        }
    }
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

    let import = off_thread.run(move || state.import()).await??;
    let mut staged = Staged { import: Some(import), off_thread };
    let import = loop {
        let chunk = stream.rx.next().await.ok_or(SnapshotError::Cut)??;
        failpoint!(SnapshotReceive);
        // It is there between any two chunks.
        let Some(mut import) = staged.import.take() else { return Err(SnapshotError::Cut) };
        if chunk.is_empty() {
            break import;
        }
        let write = move || import.chunk(chunk).map(|()| import);
        staged.import = Some(off_thread.run(write).await??);
    };
    let snapshot = Snapshot {
        meta: SnapshotMeta { last_log_id, last_membership },
        snapshot: SnapshotData::Received { import: Box::new(import), applied },
    };
    Ok(Received { vote, snapshot })
}

/// Installs what was received, unless the log holds all that it covers. A replica whose answers do not come
/// through is sent a snapshot while it has the entries; the library would move the end of what it has
/// written back to the snapshot's, and panics where it checks itself. So the snapshot's place is offered as an
/// append without entries first, which such a replica accepts.
pub(crate) async fn install(
    raft: &Raft,
    received: Received,
) -> Result<SnapshotResponse<TypeConfig>, String> {
    let Received { vote, snapshot } = received;
    let covered = snapshot.meta.last_log_id;
    let offer = AppendEntriesRequest {
        vote,
        prev_log_id: covered,
        entries: Vec::new(),
        leader_commit: covered,
    };
    match raft.append_entries(offer).await.map_err(|error| error.to_string())? {
        AppendEntriesResponse::Conflict => {}
        AppendEntriesResponse::HigherVote(higher) => return Ok(SnapshotResponse::new(higher)),
        AppendEntriesResponse::Success | AppendEntriesResponse::PartialSuccess(_) => {
            return Ok(SnapshotResponse::new(vote));
        }
    }
    raft.install_full_snapshot(vote, snapshot).await.map_err(|error| error.to_string())
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
