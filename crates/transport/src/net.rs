//! Where connections come from: TCP, or whatever stands in for it.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tonic::transport::server::Connected;
use tonic::transport::{Channel, Endpoint, Error};

/// Makes connections to peers.
pub trait Dial: Clone + Send + Sync + 'static {
    /// One connection, made now; the endpoint says where to and how patiently.
    fn dial(&self, endpoint: Endpoint) -> impl Future<Output = Result<Channel, Error>> + Send;
}

/// Takes connections of peers or clients.
pub trait Listener: Send + 'static {
    /// A connection. Small writes must not wait in it for each other's acknowledgements.
    type Stream: Connected + AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// The next one and where it comes from.
    ///
    /// # Errors
    /// When there is none now; another attempt may succeed.
    fn accept(&mut self) -> impl Future<Output = io::Result<(Self::Stream, SocketAddr)>> + Send;
}

/// The machine's own network.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tcp;

impl Dial for Tcp {
    async fn dial(&self, endpoint: Endpoint) -> Result<Channel, Error> {
        endpoint.connect().await
    }
}

impl Listener for TcpListener {
    type Stream = TcpStream;

    async fn accept(&mut self) -> io::Result<(TcpStream, SocketAddr)> {
        let (stream, address) = TcpListener::accept(self).await?;
        // A connection that is gone by now shows itself when it is read.
        let _ = stream.set_nodelay(true);
        Ok((stream, address))
    }
}
