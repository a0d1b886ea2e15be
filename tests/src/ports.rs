//! Ports that stay free while a node is down.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, TcpListener};

/// Below what kernels give to outgoing connections: those would take a killed node's port.
const FIRST: u16 = 10_000;
const LAST: u16 = 32_000;

/// Distinct ports of 127.0.0.1 that nobody listens on.
pub fn free_ports(count: usize) -> Vec<u16> {
    // Held until all are found, so that none is found twice.
    let mut ports = BTreeMap::new();
    while ports.len() < count {
        let port = rand::random_range(FIRST..LAST);
        if let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            ports.insert(port, listener);
        }
    }
    ports.into_keys().collect()
}
