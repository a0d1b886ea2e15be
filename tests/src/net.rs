//! What clients connect with. The simulator, which has the same clients, puts its own here.

pub(crate) use tokio::net::TcpStream;
