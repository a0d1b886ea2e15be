//! The simulated network behind the product's two traits.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use flotilla_transport::{Dial, Listener};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tonic::transport::server::Connected;
use tonic::transport::{Channel, Endpoint, Uri};
/// What the clients that this crate shares with the real clusters' tests connect with.
pub(crate) use turmoil::net::TcpStream;

/// See the module.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SimNet;

impl Dial for SimNet {
    async fn dial(&self, endpoint: Endpoint) -> Result<Channel, tonic::transport::Error> {
        let connect = tower::service_fn(|to: Uri| async move {
            let address = to.authority().map(|it| it.as_str().to_owned()).unwrap_or_default();
            TcpStream::connect(address).await.map(TokioIo::new)
        });
        endpoint.connect_with_connector(connect).await
    }
}

/// A port of the node that runs.
pub(crate) struct SimListener(pub(crate) turmoil::net::TcpListener);

impl SimListener {
    pub(crate) async fn bind(port: u16) -> io::Result<Self> {
        turmoil::net::TcpListener::bind(("0.0.0.0", port)).await.map(Self)
    }
}

impl Listener for SimListener {
    type Stream = SimStream;

    async fn accept(&mut self) -> io::Result<(SimStream, SocketAddr)> {
        let (stream, from) = self.0.accept().await?;
        Ok((SimStream(stream), from))
    }
}

/// A connection that was accepted.
pub(crate) struct SimStream(TcpStream);

impl Connected for SimStream {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for SimStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for SimStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}
