//! A network namespace for each node, all on one bridge: between them the kernel loses packets, in
//! silence, as a real network does. Clients reach the nodes from outside and lose nothing.
//!
//! Takes root, and the programs `ip` and `iptables` or `nft`. Names carry the process id; everything is removed
//! when this is dropped.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::filter::Filter;
use crate::tool::tool;

/// Fleets of this process so far.
static COUNT: AtomicU32 = AtomicU32::new(0);
/// Times that other addresses are tried.
const ATTEMPTS: usize = 20;

/// See the module.
#[derive(Debug)]
pub(crate) struct Namespaces {
    /// What all its names contain.
    tag: String,
    subnet: [u8; 3],
    ids: Vec<u64>,
}

fn ip(line: &str) -> Result<String, String> {
    tool("ip", &line.split(' ').collect::<Vec<_>>())
}

impl Namespaces {
    /// Whether there can be such a fleet.
    ///
    /// # Errors
    /// With the reason why not.
    pub(crate) fn available() -> Result<(), String> {
        let one = Self::make(1)?;
        one.filter(1).lose(one.address(2), 0.5)
    }

    /// For nodes 1 to `count`.
    ///
    /// # Errors
    /// When this process may not do that, or the machine cannot.
    pub(crate) fn make(count: u64) -> Result<Self, String> {
        let number = COUNT.fetch_add(1, Ordering::SeqCst);
        let tag = format!("{}x{number}", std::process::id());
        // Whatever is there when something fails is removed with this.
        let mut made = Self { tag, subnet: free_subnet()?, ids: Vec::new() };
        let bridge = made.bridge();
        let [a, b, c] = made.subnet;
        ip(&format!("link add {bridge} type bridge"))?;
        ip(&format!("addr add {a}.{b}.{c}.254/24 dev {bridge}"))?;
        ip(&format!("link set {bridge} up"))?;
        for id in 1..=count {
            made.ids.push(id);
            let (name, wire, address) = (made.name(id), made.wire(id), made.address(id));
            ip(&format!("netns add {name}"))?;
            ip(&format!("link add {wire} type veth peer name eth0 netns {name}"))?;
            ip(&format!("link set {wire} master {bridge} up"))?;
            ip(&format!("-n {name} addr add {address}/24 dev eth0"))?;
            ip(&format!("-n {name} link set eth0 up"))?;
            ip(&format!("-n {name} link set lo up"))?;
        }
        Ok(made)
    }

    fn bridge(&self) -> String {
        format!("fb{}", self.tag)
    }

    fn wire(&self, id: u64) -> String {
        format!("fv{}n{id}", self.tag)
    }

    /// A node's namespace.
    pub(crate) fn name(&self, id: u64) -> String {
        format!("flotilla-{}-{id}", self.tag)
    }

    /// A node's address.
    pub(crate) fn address(&self, id: u64) -> Ipv4Addr {
        let [a, b, c] = self.subnet;
        Ipv4Addr::new(a, b, c, id as u8)
    }

    /// What decides about the packets that come to a node.
    pub(crate) fn filter(&self, id: u64) -> Filter {
        Filter::within(&["ip", "netns", "exec", &self.name(id)])
    }
}

fn free_subnet() -> Result<[u8; 3], String> {
    for _ in 0..ATTEMPTS {
        let subnet = [10, rand::random_range(64..128), rand::random_range(0..=255)];
        let [a, b, c] = subnet;
        if !ip("-4 addr")?.contains(&format!("{a}.{b}.{c}.")) {
            return Ok(subnet);
        }
    }
    Err("no addresses are free".to_owned())
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        // What was never made cannot be removed. The wires go with their namespaces.
        for id in &self.ids {
            let _ = ip(&format!("netns del {}", self.name(*id)));
            let _ = ip(&format!("link del {}", self.wire(*id)));
        }
        let _ = ip(&format!("link del {}", self.bridge()));
    }
}
