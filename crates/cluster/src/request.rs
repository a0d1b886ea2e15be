//! Which client's request the running task works for, so that what is logged on the way can be found by
//! the id that the client was told.
//!
//! The id goes along with the task and, in forwarded calls, to the leader's node. It costs nothing until
//! something is logged: there is no span, and nothing is allocated.

use flotilla_types::ids::RequestId;

tokio::task_local! {
    static CURRENT: RequestId;
}

/// Does work for a request.
pub async fn scope<T>(id: RequestId, work: impl Future<Output = T>) -> T {
    CURRENT.scope(id, work).await
}

/// The request that is worked for; all zeros when there is none.
pub(crate) fn current() -> RequestId {
    CURRENT.try_with(|id| *id).unwrap_or_default()
}

/// For the wire.
pub(crate) fn to_pb(id: RequestId) -> (u64, u64) {
    let [high, low] = [&id.0[..8], &id.0[8..]].map(|half| half.try_into().expect("eight bytes"));
    (u64::from_be_bytes(high), u64::from_be_bytes(low))
}

/// Counterpart of [`to_pb`].
pub(crate) fn from_pb(high: u64, low: u64) -> RequestId {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&high.to_be_bytes());
    id[8..].copy_from_slice(&low.to_be_bytes());
    RequestId(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_request_is_known_as_long_as_it_is_worked_for() {
        let id = RequestId(std::array::from_fn(|at| at as u8));
        assert_eq!(current(), RequestId::default());
        let within = scope(id, async {
            tokio::task::yield_now().await;
            // Elsewhere, too.
            let (high, low) = to_pb(current());
            from_pb(high, low)
        });
        assert_eq!(within.await, id);
        assert_eq!(current(), RequestId::default());
    }
}
