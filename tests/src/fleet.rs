//! The nodes of one test.

use std::collections::BTreeMap;
use std::net::SocketAddrV4;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;
use tokio::time::sleep;

use crate::client::Client;
use crate::http::Connection;
use crate::links::{Break, Condition, Links, Way};
use crate::loop_disk::LoopDisk;
use crate::namespaces::Namespaces;
use crate::node::{Node, Ports, SHARDS, fake_clock};
use crate::throttle::Throttle;
use crate::{PATIENCE, ports};

const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// Of each node's log, when a test fails.
const LOG_LINES: usize = 60;
/// Of all nodes, while one state of the fleet is waited for.
const REVIVALS_MAX: usize = 6;
/// Times that a fleet is tried with other ports.
const PORT_ATTEMPTS: usize = 5;

/// What the nodes of a fleet have beyond the least.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// More lines for the nodes' configuration files, behind the last table.
    pub lines: String,
    /// Whether the wires between the nodes can be cut.
    pub links: bool,
    /// Whether each node is in a network namespace of its own
    /// ([`Fleet::can_have_namespaces`]).
    pub namespaces: bool,
    /// Directories, on disks of their own, for the stores of some nodes.
    pub disks: BTreeMap<u64, PathBuf>,
    /// Whether each node has a disk of its own whose power can be cut ([`LoopDisk::available`]).
    pub loop_disks: bool,
    /// Whether each node's clock can be set ([`Fleet::can_set_clocks`]).
    pub clocks: bool,
    /// Whether a node that ends by itself is started again, as a supervisor does.
    pub supervised: bool,
    /// Where the nodes' logs go, if not to files of their own.
    pub log_to: Option<PathBuf>,
    /// How many shards the cluster has, if not as many as usual.
    pub shards: Option<usize>,
}

impl Settings {
    /// Only lines.
    pub fn lines(lines: &str) -> Self {
        Self { lines: lines.to_owned(), ..Self::default() }
    }
}

/// See the module.
#[derive(Debug)]
pub struct Fleet {
    nodes: Vec<Node>,
    links: Option<Links>,
    /// Removed when the nodes have ended.
    namespaces: Option<Namespaces>,
    /// Unmounted after the nodes have ended and before their directories go.
    disks: BTreeMap<u64, LoopDisk>,
    supervised: bool,
    shards: usize,
    _dir: TempDir,
}

impl Fleet {
    /// Nodes 1 to `count`, ready to serve.
    pub async fn start(count: u64) -> Self {
        Self::start_with(count, &Settings::default()).await
    }

    /// The same with more settings.
    ///
    /// # Panics
    /// When the cluster does not come up.
    pub async fn start_with(count: u64, settings: &Settings) -> Self {
        for _ in 0..PORT_ATTEMPTS {
            let mut fleet = Self::new(count, settings);
            for node in &mut fleet.nodes {
                node.spawn();
            }
            if fleet.until_ready().await.is_ok() {
                return fleet;
            }
        }
        panic!("somebody takes every port");
    }

    fn new(count: u64, settings: &Settings) -> Self {
        let dir = tempfile::tempdir().expect("there is room for temporary files");
        let ports = ports::free_ports(3 * count as usize);
        let ports =
            ports.chunks(3).map(|three| Ports { api: three[0], peer: three[1], admin: three[2] });
        let all: Vec<(u64, Ports)> = (1..).zip(ports).collect();
        let make = || Namespaces::make(count).expect("who asks for namespaces has looked");
        let namespaces = settings.namespaces.then(make);
        let disk = || LoopDisk::make().expect("who asks for disks has looked");
        let ids = (1..=count).filter(|_| settings.loop_disks);
        let disks: BTreeMap<u64, LoopDisk> = ids.map(|id| (id, disk())).collect();
        let node = |(id, ports): &(u64, Ports)| {
            let root = dir.path().join(format!("node-{id}"));
            let own = disks.get(id).map(|disk| disk.path().to_owned());
            let data = own.or_else(|| settings.disks.get(id).cloned()).map_or_else(
                || root.join("data"),
                |disk| {
                    // Each attempt begins with nothing.
                    disk.join(format!("data-{}", ports.peer))
                },
            );
            let own = namespaces.as_ref().map(|all| (all.name(*id), all.address(*id)));
            let node = Node::new(*id, *ports, root, data, own);
            node.own_clock(settings.clocks).log_to(settings.log_to.clone())
        };
        let nodes: Vec<Node> = all.iter().map(node).collect();
        let peers: Vec<(u64, u16)> = all.iter().map(|(id, ports)| (*id, ports.peer)).collect();
        let links = settings.links.then(|| Links::new(&peers));
        let supervised = settings.supervised;
        let shards = settings.shards.unwrap_or(SHARDS);
        let fleet = Self { nodes, links, namespaces, disks, supervised, shards, _dir: dir };
        fleet.nodes.iter().for_each(|node| fleet.configure(node.id, &settings.lines));
        fleet
    }

    /// Gives a node other lines, which it reads when it starts the next time.
    pub fn configure(&self, id: u64, lines: &str) {
        let peer = |to: &Node| match &self.links {
            Some(links) if to.id != id => SocketAddrV4::new(to.host, links.port(id, to.id)),
            _ => SocketAddrV4::new(to.host, to.ports.peer),
        };
        let all: Vec<_> = self.nodes.iter().map(|node| (node.id, peer(node))).collect();
        self.node(id).configure(&all, self.shards, lines);
    }

    fn links(&self) -> &Links {
        self.links.as_ref().expect("the fleet was started with links")
    }

    /// Treats what passes on these ways so. Returns when somebody has met it on each of them.
    ///
    /// # Panics
    /// Unless [`Settings::links`], and when nothing passes there anyway.
    pub async fn impair(&self, ways: &[Way], condition: Condition) {
        self.links().set(ways, condition);
        self.felt(ways).await;
    }

    /// Ends the connections that the first node of each way has opened to the second. Returns when
    /// there was one on each.
    ///
    /// # Panics
    /// Unless [`Settings::links`], and when there is none.
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

    /// From now on everything passes as it should.
    ///
    /// # Panics
    /// Unless [`Settings::links`].
    pub fn rejoin(&self) {
        self.links().heal();
    }

    /// Whether there can be fleets with [`Settings::namespaces`].
    ///
    /// # Errors
    /// With the reason why not.
    pub fn can_have_namespaces() -> Result<(), String> {
        Namespaces::available()
    }

    fn namespaces(&self) -> &Namespaces {
        self.namespaces.as_ref().expect("the fleet was started with namespaces")
    }

    /// Loses this share of the packets on these ways. Returns when one was lost on each.
    ///
    /// # Panics
    /// Unless [`Settings::namespaces`], and when nothing passes there anyway.
    pub async fn lose_packets(&self, ways: &[Way], share: f64) {
        self.namespaces().lose(ways, share).expect("who may make namespaces may filter in them");
        let begin = Instant::now();
        while !self.namespaces().unfelt(ways).is_ok_and(|unfelt| unfelt.is_empty()) {
            assert!(begin.elapsed() < PATIENCE, "not a packet is lost");
            sleep(LOOK_AGAIN).await;
        }
    }

    /// Loses none any more.
    ///
    /// # Panics
    /// Unless [`Settings::namespaces`].
    pub fn lose_none(&self) {
        self.namespaces().heal();
    }

    fn node(&self, id: u64) -> &Node {
        self.nodes.iter().find(|node| node.id == id).expect("the fleet has this node")
    }

    fn node_mut(&mut self, id: u64) -> &mut Node {
        self.nodes.iter_mut().find(|node| node.id == id).expect("the fleet has this node")
    }

    /// All ids.
    pub fn ids(&self) -> Vec<u64> {
        self.nodes.iter().map(|node| node.id).collect()
    }

    /// Ids of the nodes that run.
    pub fn up(&self) -> Vec<u64> {
        self.nodes.iter().filter(|node| node.is_up()).map(|node| node.id).collect()
    }

    /// How many a node has: the catalog's, and those of the shards that its place in the ring gives
    /// it.
    fn replicas(&self, id: u64) -> usize {
        let (count, place) = (self.nodes.len(), id as usize - 1);
        let has = |shard: &usize| (0..3.min(count)).any(|it| (shard + it) % count == place);
        1 + (0..self.shards).filter(has).count()
    }

    /// `host:port` of a node's SQS endpoint.
    pub fn endpoint(&self, id: u64) -> String {
        let node = self.node(id);
        format!("{}:{}", node.host, node.ports.api)
    }

    /// A client of one node.
    pub fn client(&self, id: u64) -> Client {
        Client::new(self.endpoint(id))
    }

    /// Of a node's process, while it runs.
    pub fn pid(&self, id: u64) -> Option<u32> {
        self.node(id).pid()
    }

    /// Where a node keeps its stores.
    pub fn data(&self, id: u64) -> PathBuf {
        self.node(id).data()
    }

    /// Everything that a node logged so far.
    pub fn log(&self, id: u64) -> String {
        self.node(id).log()
    }

    /// Whether the nodes of a fleet can have clocks of their own.
    ///
    /// # Errors
    /// With the reason why not.
    pub fn can_set_clocks() -> Result<(), String> {
        fake_clock().map(|_| ())
    }

    /// See [`Settings::clocks`]; the words are libfaketime's.
    pub(crate) fn set_clock(&self, id: u64, text: &str) {
        self.node(id).set_clock(text);
    }

    /// The process of a node that runs.
    ///
    /// # Errors
    /// When it does not run.
    pub(crate) fn process(&self, id: u64) -> Result<u32, String> {
        self.node(id).process().ok_or_else(|| format!("node {id} does not run"))
    }

    /// A node's own disk.
    ///
    /// # Errors
    /// Unless [`Settings::loop_disks`].
    pub(crate) fn disk(&mut self, id: u64) -> Result<&mut LoopDisk, String> {
        self.disks.get_mut(&id).ok_or_else(|| format!("node {id} has no disk of its own"))
    }

    /// Lets a node's disk take so many writes in a second, until what this returns is dropped.
    ///
    /// # Errors
    /// Unless [`Settings::loop_disks`], and when this machine cannot do it.
    pub fn slow_disk(&self, id: u64, writes_per_second: u32) -> Result<Throttle, String> {
        let disk =
            self.disks.get(&id).ok_or_else(|| format!("node {id} has no disk of its own"))?;
        Throttle::begin(self.process(id)?, &disk.device()?, writes_per_second)
    }

    /// Lets a node's disk do nothing until [`Fleet::thaw_disk`].
    ///
    /// # Errors
    /// Unless [`Settings::loop_disks`].
    pub fn freeze_disk(&mut self, id: u64) -> Result<(), String> {
        self.disk(id)?.freeze()
    }

    /// Lets it go on.
    ///
    /// # Errors
    /// Unless it was frozen.
    pub fn thaw_disk(&mut self, id: u64) -> Result<(), String> {
        self.disk(id)?.thaw()
    }

    /// Starts nodes again that have ended by themselves, if the fleet is supervised.
    pub(crate) fn revive(&mut self) {
        let supervised = self.supervised;
        for node in self.nodes.iter_mut().filter(|_| supervised) {
            if node.ended().is_some() {
                node.spawn();
            }
        }
    }

    /// SIGKILL: whatever is not on disk is lost.
    pub fn kill9(&mut self, id: u64) {
        self.node_mut(id).kill();
    }

    /// SIGTERM, and the end.
    ///
    /// # Panics
    /// Unless the node ends in time with exit code 0.
    pub async fn stop(&mut self, id: u64) {
        self.node(id).signal("TERM");
        let begin = Instant::now();
        let status = loop {
            if let Some(status) = self.node_mut(id).ended() {
                break status;
            }
            assert!(begin.elapsed() < PATIENCE, "node {id} does not end");
            sleep(LOOK_AGAIN).await;
        };
        assert!(status.success(), "node {id} ended with {status}");
    }

    /// Starts a node that does not run; [`Fleet::ready`] waits for it.
    pub fn launch(&mut self, id: u64) {
        self.node_mut(id).spawn();
    }

    /// The same with more environment.
    pub fn launch_with(&mut self, id: u64, environment: &[(&str, &str)]) {
        self.node_mut(id).spawn_with(environment);
    }

    /// SIGTERM, and nothing more.
    pub fn terminate(&self, id: u64) {
        self.node(id).signal("TERM");
    }

    /// Whether a node does not run any more.
    pub fn has_ended(&mut self, id: u64) -> bool {
        let node = self.node_mut(id);
        !node.is_up() || node.ended().is_some()
    }

    /// SIGSTOP.
    pub fn pause(&self, id: u64) {
        self.node(id).signal("STOP");
    }

    /// SIGCONT.
    pub fn resume(&self, id: u64) {
        self.node(id).signal("CONT");
    }

    /// Whether a node that runs stands still.
    pub fn is_paused(&self, id: u64) -> bool {
        self.node(id).is_paused()
    }

    /// Until every node that runs can serve every queue.
    ///
    /// # Panics
    /// When one ends instead, or it takes too long.
    pub async fn ready(&mut self) {
        if let Err(id) = self.until_ready().await {
            panic!("node {id} cannot have its port");
        }
    }

    /// `Err` with a node whose port somebody else has.
    async fn until_ready(&mut self) -> Result<(), u64> {
        let begin = Instant::now();
        let mut revived = 0;
        loop {
            let mut missing = Vec::new();
            for node in self.nodes.iter_mut().filter(|node| node.is_up()) {
                if let Some(status) = node.ended() {
                    if node.log().contains("Address already in use") {
                        return Err(node.id);
                    }
                    // One that ends again and again is not brought back by anybody.
                    revived += 1;
                    let again = self.supervised && revived <= REVIVALS_MAX;
                    assert!(again, "node {} ended with {status}", node.id);
                    node.spawn();
                }
                let answer = Connection::new(admin(node)).get("/ready").await;
                if !answer.as_ref().is_ok_and(|answer| answer.status == 200) {
                    missing.push((node.id, answer.map(|answer| answer.body)));
                }
            }
            if missing.is_empty() {
                return Ok(());
            }
            assert!(begin.elapsed() < PATIENCE, "not ready: {missing:?}");
            sleep(LOOK_AGAIN).await;
        }
    }

    /// Until every replica on the nodes that run votes, knows a leader that runs, and is ready.
    ///
    /// # Panics
    /// When it takes too long.
    pub async fn whole(&mut self) {
        self.ready().await;
        let up = self.up();
        let begin = Instant::now();
        loop {
            self.revive();
            let mut whole = true;
            for id in &up {
                let groups = groups(&self.status(*id).await);
                whole &= groups.len() == self.replicas(*id);
                whole &= groups.iter().all(|group| group.votes);
                whole &=
                    groups.iter().all(|group| group.leader.is_some_and(|led| up.contains(&led)));
            }
            if whole {
                return;
            }
            assert!(begin.elapsed() < PATIENCE, "the cluster does not become whole");
            sleep(LOOK_AGAIN).await;
        }
    }

    /// The node that leads the catalog, as node 1 (or another that is up) knows.
    pub async fn catalog_leader(&self) -> u64 {
        for id in self.up() {
            let status = self.status(id).await;
            let groups = status["groups"].as_array().cloned().unwrap_or_default();
            if groups.iter().any(|group| group["group"] == "catalog" && group["leads"] == true) {
                return id;
            }
        }
        panic!("nobody leads the catalog");
    }

    /// Whether all replicas on a node vote; `false` while it does not answer.
    pub async fn all_vote(&self, id: u64) -> bool {
        let groups = groups(&self.status(id).await);
        groups.len() == self.replicas(id) && groups.iter().all(|group| group.votes)
    }

    /// The status page; null while the node does not answer.
    pub async fn status(&self, id: u64) -> Value {
        status_at(&admin(self.node(id))).await
    }

    /// `host:port` of a node's admin port.
    pub fn admin(&self, id: u64) -> String {
        admin(self.node(id))
    }

    /// The metrics page.
    ///
    /// # Panics
    /// When the node does not answer.
    pub async fn metrics(&self, id: u64) -> String {
        let answer = Connection::new(self.admin(id)).get("/metrics").await;
        answer.expect("a running node has metrics").body
    }
}

fn admin(node: &Node) -> String {
    format!("{}:{}", node.host, node.ports.admin)
}

async fn status_at(admin: &str) -> Value {
    match Connection::new(admin).get("/status").await {
        Ok(answer) => serde_json::from_str(&answer.body).unwrap_or_default(),
        Err(_) => Value::Null,
    }
}

struct Group {
    leader: Option<u64>,
    votes: bool,
}

fn groups(status: &Value) -> Vec<Group> {
    let groups = status["groups"].as_array().into_iter().flatten();
    groups
        .map(|group| Group {
            leader: group["leader"].as_u64(),
            votes: group["votes"].as_bool().unwrap_or(false),
        })
        .collect()
}

/// Until the nodes at these admin ports have a leader for every group that is not `gone`, and are
/// ready; how long that took.
pub(crate) async fn until_led(admins: Vec<String>, gone: u64) -> Duration {
    let begin = Instant::now();
    for admin in admins {
        loop {
            let status = status_at(&admin).await;
            let groups = groups(&status);
            let led = groups.iter().all(|group| group.leader.is_some_and(|led| led != gone));
            if status["ready"] == true && led && !groups.is_empty() {
                break;
            }
            assert!(begin.elapsed() < PATIENCE, "the others do not take over from node {gone}");
            sleep(LOOK_AGAIN).await;
        }
    }
    begin.elapsed()
}

impl Drop for Fleet {
    #[allow(clippy::print_stderr, reason = "only a failing test shows it")]
    fn drop(&mut self) {
        // A process that waits for a frozen disk cannot be killed.
        self.disks.values_mut().for_each(LoopDisk::thaw_if_frozen);
        if !std::thread::panicking() {
            return;
        }
        for node in &self.nodes {
            let log = node.log();
            let lines: Vec<&str> = log.lines().collect();
            let tail = &lines[lines.len().saturating_sub(LOG_LINES)..];
            eprintln!("--- node {} ---\n{}", node.id, tail.join("\n"));
        }
    }
}
