//! Multiplexed links between the nodes of a cluster.
//!
//! Every node dials every peer once per [`Lane`]; a lane is one TCP connection with one
//! bidirectional gRPC stream that carries the calls and streams of all groups as frames. The
//! sender puts everything that is queued at that moment into one message, so what many groups
//! say in the same instant (heartbeats above all) costs one write, and nothing is ever delayed.
//!
//! Start with [`Transport`]; implement [`Handler`] for the answering side.
//!
//! Invariants:
//! - `sent: false` and [`CallError::never_ran`] are promises: the peer has not acted on the
//!   request. Every doubt is reported as `sent: true`.
//! - Frames of one stream arrive in order, each once, or the stream ends with an error.
//! - Nothing blocks a lane: a consumer that is too slow stops the sender of its own stream only,
//!   by credit ([`flotilla_types::limits::LINK_STREAM_WINDOW_BYTES`]).
//! - Every queue, window and table has a bound. What breaks the rules is reset or ignored.
//! - No frame is decoded before its sender has shown the token; see [`LocalIdentity`].
//!
//! Not here: what methods and payloads mean, retries of calls, encryption (links run inside a
//! private network; the token keeps strangers and misconfigured nodes out, not eavesdroppers).

mod counters;
mod dial;
mod error;
mod handler;
mod identity;
mod lane;
mod net;
mod outbox;
mod serve;
mod session;
mod stream;
mod transport;

pub use counters::{Counters, LaneCounters};
pub use error::{CallError, ServeError};
pub use handler::Handler;
pub use identity::{Identity, LocalIdentity};
pub use lane::{Lane, LinkPhase};
pub use net::{Dial, Listener, Tcp};
pub use stream::{PeerStream, StreamRx, StreamTx};
pub use transport::{PeerConfig, Transport};
