//! Who a node says it is, and whether to believe it.

use std::sync::Arc;

use flotilla_types::ids::NodeId;
use flotilla_wire::proto::peer as pb;
use prost::Message as _;
use tonic::metadata::{BinaryMetadataValue, MetadataMap};

use crate::Lane;

/// Format of frames and of the introduction itself.
const FORMAT: u32 = 1;
const KEY: &str = "flotilla-hello-bin";

/// What both ends of a lane must agree on.
#[derive(Clone, Default)]
pub struct LocalIdentity {
    /// Id of the cluster; empty before the cluster is formed, which matches any.
    pub cluster: String,
    /// The secret that all nodes of a cluster share.
    pub token: String,
}

impl std::fmt::Debug for LocalIdentity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The token stays out of logs.
        f.debug_struct("LocalIdentity").field("cluster", &self.cluster).finish_non_exhaustive()
    }
}

/// Asked at each introduction, so that the identity may change while links exist.
pub type Identity = Arc<dyn Fn() -> LocalIdentity + Send + Sync>;

/// Why an introduction was not accepted. The text travels to the other side: it never holds a
/// token.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HelloError {
    #[error("the introduction is missing or malformed")]
    Malformed,
    #[error("link format {theirs} is not known here, only {FORMAT}")]
    Format { theirs: u32 },
    #[error("wrong cluster token")]
    Token,
    #[error("this is node {ours}, not node {meant}")]
    NotMe { ours: NodeId, meant: NodeId },
    #[error("node {0} is not a configured peer")]
    UnknownNode(NodeId),
    #[error("wrong cluster: this is {ours:?}, not {theirs:?}")]
    Cluster { ours: String, theirs: String },
    #[error("lane {0} is not known")]
    Lane(u32),
}

pub(crate) fn hello(local: NodeId, peer: NodeId, lane: Lane, me: LocalIdentity) -> pb::Hello {
    pb::Hello {
        format: FORMAT,
        cluster: me.cluster,
        from_node: local.0,
        to_node: peer.0,
        token: me.token,
        lane: lane.number() as u32,
    }
}

pub(crate) fn write(hello: &pb::Hello, metadata: &mut MetadataMap) {
    metadata.insert_bin(KEY, BinaryMetadataValue::from_bytes(&hello.encode_to_vec()));
}

pub(crate) fn read(metadata: &MetadataMap) -> Result<pb::Hello, HelloError> {
    let value = metadata.get_bin(KEY).ok_or(HelloError::Malformed)?;
    let bytes = value.to_bytes().map_err(|_| HelloError::Malformed)?;
    pb::Hello::decode(bytes).map_err(|_| HelloError::Malformed)
}

/// Decides whether an introduction is for this node and from one that may talk to it.
///
/// The token comes right after the format, without which it cannot be read: a stranger learns
/// nothing else about this node.
pub(crate) fn check(
    hello: &pb::Hello,
    local: NodeId,
    me: &LocalIdentity,
    is_peer: impl FnOnce(NodeId) -> bool,
) -> Result<(NodeId, Lane), HelloError> {
    if hello.format != FORMAT {
        return Err(HelloError::Format { theirs: hello.format });
    }
    if !equal_in_constant_time(hello.token.as_bytes(), me.token.as_bytes()) {
        return Err(HelloError::Token);
    }
    if hello.to_node != local.0 {
        return Err(HelloError::NotMe { ours: local, meant: NodeId(hello.to_node) });
    }
    let from = NodeId(hello.from_node);
    if !is_peer(from) {
        return Err(HelloError::UnknownNode(from));
    }
    if !hello.cluster.is_empty() && !me.cluster.is_empty() && hello.cluster != me.cluster {
        return Err(HelloError::Cluster {
            ours: me.cluster.clone(),
            theirs: hello.cluster.clone(),
        });
    }
    let lane = Lane::from_number(hello.lane).ok_or(HelloError::Lane(hello.lane))?;
    Ok((from, lane))
}

/// Takes as long for a wrong token as for the right one; only the length shows.
fn equal_in_constant_time(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    let difference =
        a.iter().zip(b).fold(0u8, |difference, (x, y)| std::hint::black_box(difference | (x ^ y)));
    difference == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn me() -> LocalIdentity {
        LocalIdentity { cluster: "c1".into(), token: "secret".into() }
    }

    fn checked(change: impl FnOnce(&mut pb::Hello)) -> Result<(NodeId, Lane), HelloError> {
        let mut hello = hello(NodeId(1), NodeId(2), Lane::Bulk, me());
        change(&mut hello);
        check(&hello, NodeId(2), &me(), |node| node == NodeId(1))
    }

    #[test]
    fn accepts_only_what_matches() {
        assert_eq!(checked(|_| ()), Ok((NodeId(1), Lane::Bulk)));
        assert_eq!(checked(|h| h.cluster.clear()), Ok((NodeId(1), Lane::Bulk)));
        assert_eq!(checked(|h| h.format = 2), Err(HelloError::Format { theirs: 2 }));
        assert_eq!(checked(|h| h.token = "secreT".into()), Err(HelloError::Token));
        assert_eq!(checked(|h| h.token.clear()), Err(HelloError::Token));
        assert_eq!(
            checked(|h| h.to_node = 3),
            Err(HelloError::NotMe { ours: NodeId(2), meant: NodeId(3) })
        );
        assert_eq!(checked(|h| h.from_node = 9), Err(HelloError::UnknownNode(NodeId(9))));
        assert_eq!(checked(|h| h.lane = 4), Err(HelloError::Lane(4)));
        assert!(matches!(checked(|h| h.cluster = "c2".into()), Err(HelloError::Cluster { .. })));
    }

    #[test]
    fn metadata_round_trip() {
        let hello = hello(NodeId(1), NodeId(2), Lane::Forward, me());
        let mut metadata = MetadataMap::new();
        assert_eq!(read(&metadata), Err(HelloError::Malformed));
        write(&hello, &mut metadata);
        assert_eq!(read(&metadata), Ok(hello));
        metadata.insert_bin(KEY, BinaryMetadataValue::from_bytes(b"\xff\xff"));
        assert_eq!(read(&metadata), Err(HelloError::Malformed));
    }
}
