//! SQS's JSON protocol over plain HTTP/1.1, for the programs of this workspace that are clients: the
//! load generator, the study and the autoscaler.
//!
//! Start with [`Caller`]: one connection, one request at a time, JSON in and out.
//!
//! Invariants:
//! - Nothing of the server is linked: the same code speaks to any endpoint of the protocol.
//! - Nothing is repeated behind the caller's back; an error says whether there was an answer.
//! - An answer is read only as far as its bounds allow (`head`).
//!
//! Deliberately not here: signatures, TLS, credentials, typed requests (whoever needs them writes
//! their JSON), retries. Applications use an AWS SDK instead.

mod call;
mod connection;
mod head;

pub use call::{CallError, Caller};
pub use connection::{Answer, Connection, Endpoint, EndpointError, ExchangeError};
pub use head::HeadError;
