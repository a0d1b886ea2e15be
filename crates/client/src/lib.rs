//! SQS's JSON protocol over HTTP/1.1, for the programs of this workspace that are clients: the
//! load generator, the study and the autoscaler.
//!
//! Start with [`Caller`]: one connection, one request at a time, JSON in and out. For AWS itself it has
//! TLS (`tls`) and signatures ([`Signing`]); the other programs need neither.
//!
//! Invariants:
//! - Nothing of the server is linked: the same code speaks to any endpoint of the protocol.
//! - Nothing is repeated behind the caller's back; an error says whether there was an answer.
//! - An answer is read only as far as its bounds allow (`head`).
//!
//! Deliberately not here: typed requests (whoever needs them writes their JSON), retries, and credentials that
//! are elsewhere than in the environment (files, roles, tokens of web identities). Applications use an
//! AWS SDK instead.

mod call;
mod connection;
mod head;
mod sign;
mod tls;

pub use call::{CallError, Caller};
pub use connection::{Answer, Connection, Endpoint, EndpointError, ExchangeError};
pub use head::HeadError;
pub use sign::Signing;
