//! A network namespace for each node, all on one bridge: between them the kernel loses packets, in
//! silence, as a real network does. Clients reach the nodes from outside and lose nothing.
//!
//! Takes root, and the programs `ip` and `iptables`. Names carry the process id; everything is removed
//! when this is dropped.

use std::net::Ipv4Addr;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::links::Way;

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

fn run(program: &str, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let why = String::from_utf8_lossy(&output.stderr);
    Err(format!("{program} {}: {}", arguments.join(" "), why.trim()))
}

fn ip(line: &str) -> Result<String, String> {
    run("ip", &line.split(' ').collect::<Vec<_>>())
}

impl Namespaces {
    /// Whether there can be such a fleet.
    ///
    /// # Errors
    /// With the reason why not.
    pub(crate) fn available() -> Result<(), String> {
        let one = Self::make(1)?;
        one.lose(&[(2, 1)], 0.5)
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

    fn filter(&self, id: u64, line: &str) -> Result<String, String> {
        let name = self.name(id);
        let mut arguments = vec!["netns", "exec", &name, "iptables", "-w"];
        arguments.extend(line.split(' '));
        run("ip", &arguments)
    }

    /// From now on this share of the packets on these ways is lost.
    ///
    /// # Errors
    /// When the kernel will not.
    pub(crate) fn lose(&self, ways: &[Way], share: f64) -> Result<(), String> {
        let some = match share < 1.0 {
            true => format!(" -m statistic --mode random --probability {share:.3}"),
            false => String::new(),
        };
        for (from, to) in ways {
            let address = self.address(*from);
            self.filter(*to, &format!("-A INPUT -s {address}{some} -j DROP"))?;
        }
        Ok(())
    }

    /// Those of these ways on which no packet has been lost.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub(crate) fn unfelt(&self, ways: &[Way]) -> Result<Vec<Way>, String> {
        let mut unfelt = Vec::new();
        for (from, to) in ways {
            let (rules, from_address) = (self.filter(*to, "-L INPUT -nvx")?, self.address(*from));
            let lost = rules.lines().filter_map(|rule| lost_from(rule, from_address)).sum::<u64>();
            if lost == 0 {
                unfelt.push((*from, *to));
            }
        }
        Ok(unfelt)
    }

    /// Nothing is lost any more.
    pub(crate) fn heal(&self) {
        for id in &self.ids {
            self.filter(*id, "-F INPUT").expect("who could add rules can remove them");
        }
    }
}

/// Packets that a rule has dropped, if it is about this sender: `packets bytes DROP protocol options in
/// out source destination`.
fn lost_from(rule: &str, sender: Ipv4Addr) -> Option<u64> {
    let words: Vec<&str> = rule.split_whitespace().collect();
    let matches = *words.get(2)? == "DROP" && *words.get(7)? == sender.to_string();
    matches.then(|| words[0].parse().ok()).flatten()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_tell_what_they_dropped() {
        let rule = "      17     1020 DROP       0    --  *      *       10.70.1.2   0.0.0.0/0";
        assert_eq!(lost_from(rule, Ipv4Addr::new(10, 70, 1, 2)), Some(17));
        assert_eq!(lost_from(rule, Ipv4Addr::new(10, 70, 1, 3)), None);
        assert_eq!(lost_from("Chain INPUT (policy ACCEPT)", Ipv4Addr::LOCALHOST), None);
    }
}
