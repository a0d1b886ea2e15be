//! What is between the nodes: relays, or packets that the kernel loses, or a network of containers.

use std::net::Ipv4Addr;
use std::time::Instant;

use tokio::time::sleep;

use super::{Fleet, LOOK_AGAIN};
use crate::PATIENCE;
use crate::filter::Filter;
use crate::links::{Break, Condition, Links, Way};
use crate::namespaces::Namespaces;
use crate::node::Body;
use crate::tool::{exists, tool};

impl Fleet {
    fn links(&self) -> &Links {
        self.links.as_ref().expect("the fleet was started with links")
    }

    /// Treats what passes on these ways so. Returns when somebody has met it on each of them.
    ///
    /// # Panics
    /// Without links unless it can be done by losing packets, and when nothing passes there anyway.
    pub async fn impair(&self, ways: &[Way], condition: Condition) {
        if self.links.is_none() {
            let share = if condition.shut { 1.0 } else { condition.loss };
            let as_packets =
                Condition { shut: condition.shut, loss: condition.loss, ..Condition::default() };
            assert_eq!(condition, as_packets, "packets can be lost and not be late");
            return self.lose_packets(ways, share).await;
        }
        self.links().set(ways, condition);
        self.felt(ways).await;
    }

    /// Ends the connections that the first node of each way has opened to the second. Returns when
    /// there was one on each.
    ///
    /// # Panics
    /// Unless [`super::Settings::links`], and when there is none.
    pub async fn cut(&self, ways: &[Way], how: Break) {
        let begin = Instant::now();
        self.links().cut(ways, how);
        loop {
            let unfelt = self.links().unfelt(ways);
            let Some((from, to)) = unfelt.first() else { return };
            assert!(begin.elapsed() < PATIENCE, "{from} is not connected to {to}");
            // One that was just being made is not hit.
            self.links().cut(&unfelt, how);
            sleep(LOOK_AGAIN).await;
        }
    }

    async fn felt(&self, ways: &[Way]) {
        let begin = Instant::now();
        while let Some(way) = self.links().unfelt(ways).first() {
            assert!(begin.elapsed() < PATIENCE, "nothing passes from {} to {}", way.0, way.1);
            sleep(LOOK_AGAIN).await;
        }
    }

    /// Lets nothing pass on these ways, and does not wait until somebody has met that.
    ///
    /// # Panics
    /// Unless [`super::Settings::links`].
    pub(crate) fn shut(&self, ways: &[Way]) {
        self.links().set(ways, Condition::SHUT);
    }

    /// Whether something has met what was last done to any of these ways.
    ///
    /// # Panics
    /// Unless [`super::Settings::links`].
    pub(crate) fn is_any_felt(&self, ways: &[Way]) -> bool {
        self.links().unfelt(ways).len() < ways.len()
    }

    /// From now on everything passes as it should.
    pub fn rejoin(&self) {
        match &self.links {
            Some(links) => links.heal(),
            None => self.lose_none(),
        }
    }

    /// Whether there can be fleets with [`super::Settings::namespaces`].
    ///
    /// # Errors
    /// With the reason why not.
    pub fn can_have_namespaces() -> Result<(), String> {
        Namespaces::available()
    }

    /// Whether packets of containers can be lost.
    ///
    /// # Errors
    /// With the reason why not.
    pub(crate) fn can_filter_containers() -> Result<(), String> {
        let programs = exists("nsenter") && (exists("iptables") || exists("nft"));
        match tool("id", &["-u"])?.as_str() {
            "0" if programs => Ok(()),
            "0" => Err("it takes nsenter, and iptables or nft".to_owned()),
            _ => Err("it takes root to enter a container's network".to_owned()),
        }
    }

    /// What decides about the packets that come to a node, and where those of a node come from.
    fn packets(&self, id: u64) -> Result<(Filter, Ipv4Addr), String> {
        match (&self.node(id).body, &self.namespaces) {
            (Body::Container(container), _) => Ok((container.filter()?, container.address()?)),
            (Body::Process(_), Some(all)) => Ok((all.filter(id), all.address(id))),
            (Body::Process(_), None) => Err("the fleet was started without namespaces".to_owned()),
        }
    }

    /// Loses this share of the packets on these ways. Returns when one was lost on each.
    ///
    /// # Panics
    /// Where packets cannot be lost, and when nothing passes there anyway.
    pub async fn lose_packets(&self, ways: &[Way], share: f64) {
        let of = |(from, to): &Way| -> Result<(Filter, Ipv4Addr), String> {
            Ok((self.packets(*to)?.0, self.packets(*from)?.1))
        };
        let all: Result<Vec<_>, String> = ways.iter().map(of).collect();
        let all = all.expect("who loses packets has looked");
        for (filter, from) in &all {
            filter.lose(*from, share).expect("who may make namespaces may filter in them");
        }
        let begin = Instant::now();
        while !all.iter().all(|(filter, from)| filter.lost(*from).is_ok_and(|count| count > 0)) {
            assert!(begin.elapsed() < PATIENCE, "not a packet is lost");
            sleep(LOOK_AGAIN).await;
        }
    }

    /// Loses none any more.
    ///
    /// # Panics
    /// Where packets cannot be lost.
    pub fn lose_none(&self) {
        // One that does not run has no rules: they go with it, or nobody meets them.
        for id in self.ids() {
            let is_container = matches!(self.node(id).body, Body::Container(_));
            if is_container && !self.up().contains(&id) {
                continue;
            }
            let cleared = self.packets(id).and_then(|(filter, _)| filter.clear());
            cleared.expect("who could add rules can remove them");
        }
    }

    /// Takes a container's only link away, which it notices.
    ///
    /// # Errors
    /// When that fails.
    ///
    /// # Panics
    /// Unless it is a container.
    pub(crate) fn disconnect(&mut self, id: u64) -> Result<String, String> {
        let container = self.node_mut(id).container().expect("only containers are connected");
        let network = container.disconnect()?;
        match container.is_connected() {
            true => Err("it is still connected".to_owned()),
            false => Ok(network),
        }
    }

    /// Gives it back.
    ///
    /// # Errors
    /// When that fails.
    ///
    /// # Panics
    /// Unless it is a container.
    pub(crate) fn connect(&mut self, id: u64, network: &str) -> Result<(), String> {
        let container = self.node_mut(id).container().expect("only containers are connected");
        container.connect(network)
    }
}
