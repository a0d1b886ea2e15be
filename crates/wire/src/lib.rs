//! Protobuf: everything that crosses a socket or a disk, and the conversions from and to the
//! domain types. The source is the top-level `proto/` directory.
//!
//! Start with [`command`] for what Raft entries hold.
//!
//! Invariants:
//! - Only this crate holds generated code of what nodes say and keep; no other crate derives or writes such a
//!   format. (KEDA's, which is not ours, is the autoscaler's.)
//! - Whatever is persisted starts with a format version or sits inside a message that does.
//! - Decoding never trusts a length, a count or an enum value from outside.
//!
//! Not here: transport, storage layout (keys), what a message means.

pub mod command;
pub mod content;

/// Generated code. Field docs are in the `.proto` files.
#[allow(missing_docs, unreachable_pub, clippy::all)]
pub mod proto {
    /// `proto/message.proto`
    pub mod message {
        tonic::include_proto!("flotilla.message.v1");
    }
    /// `proto/command.proto`
    pub mod command {
        /// Generated code of one package names another's by this path.
        pub mod v1 {
            tonic::include_proto!("flotilla.command.v1");
        }
        pub use v1::*;
    }
    /// `proto/raft.proto`
    pub mod raft {
        tonic::include_proto!("flotilla.raft.v1");
    }
    /// `proto/catalog.proto`
    pub mod catalog {
        tonic::include_proto!("flotilla.catalog.v1");
    }
    /// `proto/cluster.proto`
    pub mod cluster {
        /// Generated code of one package names another's by this path.
        pub mod v1 {
            tonic::include_proto!("flotilla.cluster.v1");
        }
        pub use v1::*;
    }
    /// `proto/peer.proto`
    pub mod peer {
        tonic::include_proto!("flotilla.peer.v1");
    }
    /// `proto/state.proto`
    pub mod state {
        tonic::include_proto!("flotilla.state.v1");
    }
}

/// Bytes that are not what they should be.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// Not protobuf of the expected message.
    #[error("malformed: {0}")]
    Malformed(#[from] prost::DecodeError),
    /// A format version that this build does not know.
    #[error("format version {0} is not known")]
    UnknownFormat(u32),
    /// A field that must be there is not, or has an impossible value.
    #[error("field {0} is missing or impossible")]
    Field(&'static str),
}
