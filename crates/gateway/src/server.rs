//! Connections: taking them, bounding them, ending them.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use flotilla_cluster::api::Cluster;
use flotilla_transport::Listener;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::gateway::Gateway;
use crate::http;
use crate::ids::{self, UuidText};
use crate::stall::Unstalled;

/// Room of a connection for what it reads; also the largest head of a request. A body is read in
/// pieces of this size.
const READ_BYTES_MAX: usize = 64 * 1024;
/// Pause after a failed accept, when the process may be out of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Answer to a connection beyond the bound; no request of it was read.
fn too_many_connections() -> String {
    format!(
        "HTTP/1.1 503 Service Unavailable\r\nx-amzn-requestid: {}\r\n\
         x-amzn-query-error: ServiceUnavailable;Receiver\r\nx-flotilla-outcome: not-applied\r\n\
         connection: close\r\ncontent-length: 0\r\n\r\n",
        UuidText::new(ids::draw())
    )
}

/// Serves HTTP on the listener until `shutdown` turns true (or its sender is dropped). Then it
/// accepts no more, lets long polls answer empty, finishes every request that has begun, and
/// returns when the last connection is closed. Dropping the future abandons the listener only.
pub async fn serve<C: Cluster>(
    gateway: Arc<Gateway<C>>,
    mut listener: impl Listener,
    mut shutdown: watch::Receiver<bool>,
) {
    // A permit per connection: all permits back means no connection left.
    let connections_max = gateway.config.capacity.connections;
    let connections = Arc::new(Semaphore::new(connections_max));
    loop {
        let accepted = tokio::select! {
            biased;
            _ = shutdown.wait_for(|stop| *stop) => break,
            accepted = listener.accept() => accepted,
        };
        let mut stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "accept failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        match connections.clone().try_acquire_owned() {
            Ok(permit) => {
                tokio::spawn(connection(gateway.clone(), stream, shutdown.clone(), permit));
            }
            Err(_) => {
                // Whether it gets through or not, the connection ends here.
                let mut nobody_waits = Context::from_waker(Waker::noop());
                let answer = too_many_connections();
                let _ = Pin::new(&mut stream).poll_write(&mut nobody_waits, answer.as_bytes());
            }
        }
    }
    drop(listener);
    let all = u32::try_from(connections_max).unwrap_or(u32::MAX);
    // The semaphore is never closed; an error would mean that there is nobody to wait for.
    let _ = connections.acquire_many(all).await;
}

async fn connection<C: Cluster, S: AsyncRead + AsyncWrite + Unpin>(
    gateway: Arc<Gateway<C>>,
    stream: S,
    mut shutdown: watch::Receiver<bool>,
    _permit: OwnedSemaphorePermit,
) {
    let stopping = shutdown.clone();
    let stream = Unstalled::new(stream, gateway.cluster.answers().clone());
    let service = service_fn(|request| http::answer(gateway.as_ref(), stopping.clone(), request));
    // No half-close: the end of the client's stream ends the connection, which drops the request
    // in work and with it a receive that nobody waits for any more.
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(gateway.config.timeouts.head)
        .half_close(false)
        .max_buf_size(READ_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let stop = async {
        let _ = shutdown.wait_for(|stop| *stop).await;
    };
    let ended = tokio::select! {
        ended = connection.as_mut() => Some(ended),
        () = stop => None,
    };
    let ended = match ended {
        Some(ended) => ended,
        None => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "connection ended");
    }
}
