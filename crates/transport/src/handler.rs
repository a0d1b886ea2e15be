//! The answering side.

use bytes::Bytes;
use flotilla_types::ids::{GroupId, NodeId};
use futures::future::BoxFuture;

use crate::PeerStream;

/// Answers what peers ask. Methods run on the lane's reading task up to the point where they
/// return: they must not block.
///
/// A payload shares the buffer of the batch that it came in: what is kept for long is better
/// copied.
pub trait Handler: Send + Sync + 'static {
    /// One request, one answer. The future runs as its own task and is not cancelled when the
    /// caller goes away.
    ///
    /// # Errors
    /// Only when nothing was done and nothing will be: the caller takes an `Err` as
    /// [`crate::CallError::Refused`]. Whatever is less certain is part of the answer's payload.
    fn call(
        &self,
        from: NodeId,
        group: GroupId,
        method: u32,
        payload: Bytes,
    ) -> BoxFuture<'static, Result<Bytes, String>>;

    /// A peer opened a stream. The handler moves it into a task of its own, or calls
    /// [`PeerStream::refuse`].
    fn stream(&self, from: NodeId, group: GroupId, method: u32, stream: PeerStream);
}
