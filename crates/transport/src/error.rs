//! What can go wrong.

use flotilla_types::ids::NodeId;

/// Why a call or a stream failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// This node has no such peer. Nothing was sent.
    #[error("node {0} is not a configured peer")]
    UnknownPeer(NodeId),
    /// The lane is down or went down.
    #[error("the peer cannot be reached")]
    Unreachable {
        /// `false`: the request certainly never left this node.
        sent: bool,
    },
    /// No answer in time.
    #[error("the peer did not answer in time")]
    Timeout {
        /// `false`: the request certainly never left this node, and never will.
        sent: bool,
    },
    /// Too much is queued or in work, here or at the peer. The handler was not asked.
    #[error("the link is overloaded")]
    Overloaded,
    /// The peer's handler said no before it did anything.
    #[error("refused: {0}")]
    Refused(String),
    /// The peer gave up without saying what it had done; for a stream: it was reset.
    #[error("failed at the peer: {0}")]
    Failed(String),
    /// The payload is larger than [`flotilla_types::limits::LINK_FRAME_BYTES_MAX`]. Nothing was
    /// sent.
    #[error("a payload of {bytes} bytes does not fit in a frame")]
    TooLarge {
        /// Size of the payload.
        bytes: usize,
    },
}

impl CallError {
    /// Whether the peer certainly has not acted on the request and never will.
    pub fn never_ran(&self) -> bool {
        match self {
            Self::Unreachable { sent } | Self::Timeout { sent } => !sent,
            Self::UnknownPeer(_) | Self::Overloaded | Self::Refused(_) | Self::TooLarge { .. } => {
                true
            }
            Self::Failed(_) => false,
        }
    }
}

/// Why the accepting side ended before it was told to.
#[derive(Debug, thiserror::Error)]
#[error("the peer port failed: {0}")]
pub struct ServeError(#[from] pub(crate) tonic::transport::Error);
