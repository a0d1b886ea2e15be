//! Sockets that are bound before there is a node to use them.

use std::net::{SocketAddr, TcpListener};

use anyhow::Context as _;
use tokio::net::TcpSocket;

/// Connections that the kernel keeps while the node is busy or still starting.
const BACKLOG: u32 = 4_096;

/// The sockets of one node.
#[derive(Debug)]
pub(crate) struct Listeners {
    pub(crate) api: TcpListener,
    pub(crate) peer: TcpListener,
    pub(crate) admin: TcpListener,
}

impl Listeners {
    /// Binds all three, so that a port in use is noticed before anything else happens.
    ///
    /// # Errors
    /// When one cannot be bound.
    pub(crate) fn bind(
        api: SocketAddr,
        peer: SocketAddr,
        admin: SocketAddr,
    ) -> anyhow::Result<Self> {
        Ok(Self { api: bind(api, "API")?, peer: bind(peer, "peer")?, admin: bind(admin, "admin")? })
    }
}

fn bind(address: SocketAddr, what: &str) -> anyhow::Result<TcpListener> {
    let open = || {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        // A restarted node must not wait for its predecessor's connections to be forgotten.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        socket.listen(BACKLOG)?.into_std()
    };
    open().with_context(|| format!("the {what} address {address} cannot be used"))
}
