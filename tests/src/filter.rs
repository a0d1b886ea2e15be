//! Packets that the kernel loses in silence on their way into a network namespace, as a real network
//! does. Takes root, and `iptables` or `nft`.

use std::net::Ipv4Addr;

use crate::tool::{exists, tool};

/// The rules of one namespace.
#[derive(Clone, Debug)]
pub(crate) struct Filter {
    /// Runs a program there.
    enter: Vec<String>,
}

const TABLE: &str = "flotilla";
/// Shares are counted in so many parts.
const PARTS: u32 = 1_000;

impl Filter {
    /// In the namespace in which this command runs what follows it.
    pub(crate) fn within(enter: &[&str]) -> Self {
        Self { enter: enter.iter().map(|word| (*word).to_owned()).collect() }
    }

    fn run(&self, line: &str) -> Result<String, String> {
        let words = self.enter.iter().map(String::as_str).chain(line.split(' '));
        let words: Vec<&str> = words.collect();
        tool(words[0], &words[1..])
    }

    /// From now on this share of what comes from there is lost.
    ///
    /// # Errors
    /// When the kernel will not.
    pub(crate) fn lose(&self, from: Ipv4Addr, share: f64) -> Result<(), String> {
        if exists("iptables") {
            let some = match share < 1.0 {
                true => format!(" -m statistic --mode random --probability {share:.3}"),
                false => String::new(),
            };
            return self.run(&format!("iptables -w -A INPUT -s {from}{some} -j DROP")).map(drop);
        }
        self.run(&format!("nft add table ip {TABLE}"))?;
        let hook = "{ type filter hook input priority 0 ; }";
        self.run(&format!("nft add chain ip {TABLE} input {hook}"))?;
        let some = match share < 1.0 {
            true => {
                let parts = (share * f64::from(PARTS)).round() as u32;
                format!(" numgen random mod {PARTS} < {parts}")
            }
            false => String::new(),
        };
        self.run(&format!("nft add rule ip {TABLE} input ip saddr {from}{some} counter drop"))
            .map(drop)
    }

    /// Packets from there that were lost.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub(crate) fn lost(&self, from: Ipv4Addr) -> Result<u64, String> {
        if exists("iptables") {
            let rules = self.run("iptables -w -L INPUT -nvx")?;
            return Ok(rules.lines().filter_map(|rule| lost_by_iptables(rule, from)).sum());
        }
        let rules = self.run(&format!("nft list table ip {TABLE}"))?;
        Ok(rules.lines().filter_map(|rule| lost_by_nft(rule, from)).sum())
    }

    /// Nothing is lost any more.
    ///
    /// # Errors
    /// When the kernel will not.
    pub(crate) fn clear(&self) -> Result<(), String> {
        if exists("iptables") {
            return self.run("iptables -w -F INPUT").map(drop);
        }
        // It can only be removed where it is.
        self.run(&format!("nft add table ip {TABLE}"))?;
        self.run(&format!("nft delete table ip {TABLE}")).map(drop)
    }
}

/// `packets bytes DROP protocol options in out source destination`
fn lost_by_iptables(rule: &str, sender: Ipv4Addr) -> Option<u64> {
    let words: Vec<&str> = rule.split_whitespace().collect();
    let matches = *words.get(2)? == "DROP" && *words.get(7)? == sender.to_string();
    matches.then(|| words[0].parse().ok()).flatten()
}

/// `ip saddr SENDER ... counter packets N bytes M drop`
fn lost_by_nft(rule: &str, sender: Ipv4Addr) -> Option<u64> {
    let words: Vec<&str> = rule.split_whitespace().collect();
    let after = |word: &str| {
        let place = words.iter().position(|it| *it == word)?;
        words.get(place + 1).copied()
    };
    let matches = after("saddr")? == sender.to_string() && words.last() == Some(&"drop");
    matches.then(|| after("packets")?.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SENDER: Ipv4Addr = Ipv4Addr::new(10, 70, 1, 2);
    const OTHER: Ipv4Addr = Ipv4Addr::new(10, 70, 1, 3);

    #[test]
    fn rules_tell_what_they_dropped() {
        let rule = "      17     1020 DROP       0    --  *      *       10.70.1.2   0.0.0.0/0";
        assert_eq!(lost_by_iptables(rule, SENDER), Some(17));
        assert_eq!(lost_by_iptables(rule, OTHER), None);
        assert_eq!(lost_by_iptables("Chain INPUT (policy ACCEPT)", Ipv4Addr::LOCALHOST), None);
        let rule =
            "\t\tip saddr 10.70.1.2 numgen random mod 1000 < 300 counter packets 5 bytes 300 drop";
        assert_eq!(lost_by_nft(rule, SENDER), Some(5));
        assert_eq!(lost_by_nft(rule, OTHER), None);
        assert_eq!(lost_by_nft("table ip flotilla {", SENDER), None);
    }
}
