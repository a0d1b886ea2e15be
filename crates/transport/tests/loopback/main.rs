//! Links over real sockets on loopback.

mod abuse;
mod calls;
mod links;
mod streams;
mod support;
