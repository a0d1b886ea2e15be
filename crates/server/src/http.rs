//! A small HTTP server for the admin port: no bodies in, short texts out.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

const CONNECTIONS_MAX: usize = 64;
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
const HEAD_BYTES_MAX: usize = 16 * 1_024;
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// An answer.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) status: StatusCode,
    pub(crate) content_type: &'static str,
    pub(crate) text: String,
}

impl Page {
    /// Plain text.
    pub(crate) fn text(status: StatusCode, text: impl Into<String>) -> Self {
        Self { status, content_type: "text/plain; charset=utf-8", text: text.into() }
    }
}

/// A page for which the disk may be waited for: made on another thread.
pub(crate) async fn off_thread(make: impl FnOnce() -> Page + Send + 'static) -> Page {
    tokio::task::spawn_blocking(make)
        .await
        .unwrap_or_else(|error| Page::text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")))
}

/// Answers GET and HEAD on the listener until it is dropped.
pub(crate) async fn serve<F, P>(listener: TcpListener, page: F)
where
    F: Fn(String) -> P + Send + Sync + 'static,
    P: Future<Output = Page> + Send + 'static,
{
    let page = Arc::new(page);
    let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        // Never closed, so there is always a permit to come.
        let Ok(permit) = connections.clone().acquire_owned().await else {
            return;
        };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "accept failed on the admin port");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let page = page.clone();
        tokio::spawn(async move {
            let _permit = permit;
            let service = service_fn(|request| {
                let page = page.clone();
                async move { Ok::<_, Infallible>(respond(&request, page.as_ref()).await) }
            });
            let connection = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD_TIMEOUT)
                .max_buf_size(HEAD_BYTES_MAX)
                .serve_connection(TokioIo::new(stream), service);
            if let Err(error) = connection.await {
                tracing::debug!(%error, "admin connection ended");
            }
        });
    }
}

async fn respond<F, P>(request: &Request<Incoming>, page: &F) -> Response<Full<Bytes>>
where
    F: Fn(String) -> P,
    P: Future<Output = Page>,
{
    let page = match *request.method() {
        Method::GET | Method::HEAD => page(request.uri().path().to_owned()).await,
        _ => Page::text(StatusCode::METHOD_NOT_ALLOWED, "GET only\n"),
    };
    let mut response = Response::new(Full::new(Bytes::from(page.text)));
    *response.status_mut() = page.status;
    let content_type = HeaderValue::from_static(page.content_type);
    response.headers_mut().insert(header::CONTENT_TYPE, content_type);
    response
}
