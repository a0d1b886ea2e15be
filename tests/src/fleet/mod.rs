//! The nodes of one test.

mod machine;
mod standing;
mod wires;

pub(crate) use machine::{Shortage, Starved};
pub(crate) use standing::until_led;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::time::sleep;

use crate::chaos::remains::{self, Taken};
use crate::client::Client;
use crate::compose::{self, Compose};
use crate::links::Links;
use crate::loop_disk::LoopDisk;
use crate::namespaces::Namespaces;
use crate::node::{Body, Container, Node, Ports, Process, SHARDS};
use crate::{PATIENCE, ports};

const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// Of each node's log, when a test fails.
const LOG_LINES: usize = 60;
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
    /// The nodes are the containers of the compose cluster ([`Fleet::can_compose`]); of everything else
    /// here they have nothing.
    pub compose: bool,
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
    /// Taken down at last.
    _compose: Option<Arc<Compose>>,
    supervised: bool,
    shards: usize,
    /// What each node took before anything was done with the fleet.
    at_first: BTreeMap<u64, Taken>,
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
        if settings.compose {
            return Self::compose().await;
        }
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

    /// Whether there can be fleets with [`Settings::compose`].
    ///
    /// # Errors
    /// With the reason why not.
    pub fn can_compose() -> Result<(), String> {
        Compose::available()
    }

    async fn compose() -> Self {
        let build = std::env::var_os("FLOTILLA_COMPOSE_IMAGE").is_none();
        let compose = Arc::new(Compose::up(build).expect("the compose cluster can be started"));
        let node = |id: u64| {
            let (api, admin) = compose::ports(id);
            let at = |port| format!("{}:{port}", Ipv4Addr::LOCALHOST);
            let body = Body::Container(Container::new(compose.clone(), id));
            Node { id, api: at(api), admin: at(admin), body }
        };
        let mut fleet = Self {
            nodes: (1..=compose::NODES).map(node).collect(),
            links: None,
            namespaces: None,
            disks: BTreeMap::new(),
            _compose: Some(compose),
            supervised: true,
            shards: compose::SHARDS,
            at_first: BTreeMap::new(),
            _dir: tempfile::tempdir().expect("there is room for temporary files"),
        };
        fleet.ready().await;
        fleet
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
            let process = Process::new(*id, *ports, root, data, own);
            let process = process.own_clock(settings.clocks).log_to(settings.log_to.clone());
            let at = |port| format!("{}:{port}", process.host());
            let (api, admin) = (at(ports.api), at(ports.admin));
            Node { id: *id, api, admin, body: Body::Process(process) }
        };
        let nodes: Vec<Node> = all.iter().map(node).collect();
        let peers: Vec<(u64, u16)> = all.iter().map(|(id, ports)| (*id, ports.peer)).collect();
        let links = settings.links.then(|| Links::new(&peers));
        let supervised = settings.supervised;
        let shards = settings.shards.unwrap_or(SHARDS);
        let (_compose, at_first, _dir) = (None, BTreeMap::new(), dir);
        let fleet =
            Self { nodes, links, namespaces, disks, _compose, supervised, shards, at_first, _dir };
        fleet.nodes.iter().for_each(|node| fleet.configure(node.id, &settings.lines));
        fleet
    }

    /// Gives a node other lines, which it reads when it starts the next time.
    pub fn configure(&self, id: u64, lines: &str) {
        let peer = |to: &Node| match &self.links {
            Some(links) if to.id != id => {
                SocketAddrV4::new(to.process().host(), links.port(id, to.id))
            }
            _ => to.process().peer(),
        };
        let all: Vec<_> = self.nodes.iter().map(|node| (node.id, peer(node))).collect();
        self.node(id).process().configure(&all, self.shards, lines);
    }

    /// What each node took before anything was done with the fleet: now, if this was not asked before.
    pub(crate) fn at_first(&mut self) -> BTreeMap<u64, Taken> {
        if self.at_first.is_empty() {
            self.at_first = remains::taken(self);
        }
        self.at_first.clone()
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

    /// How many shards the cluster has.
    pub(crate) fn shards(&self) -> usize {
        self.shards
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
        self.node(id).api.clone()
    }

    /// A client of one node.
    pub fn client(&self, id: u64) -> Client {
        Client::new(self.endpoint(id))
    }

    /// Of a node's process, while it runs.
    pub fn pid(&self, id: u64) -> Option<u32> {
        self.node(id).pid()
    }

    /// Everything that a node logged so far.
    pub fn log(&self, id: u64) -> String {
        self.node(id).log()
    }

    /// See [`Node::panics`].
    pub(crate) fn panics(&self, id: u64) -> Vec<String> {
        self.node(id).panics()
    }

    /// See [`Node::accidents`].
    pub(crate) fn accidents(&self, id: u64) -> &[String] {
        self.node(id).accidents()
    }

    /// The process of a node that runs.
    ///
    /// # Errors
    /// When it does not run.
    pub(crate) fn process(&self, id: u64) -> Result<u32, String> {
        self.node(id).pid().ok_or_else(|| format!("node {id} does not run"))
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
        self.node_mut(id).terminate();
        let begin = Instant::now();
        let status = loop {
            if let Some(status) = self.node_mut(id).ended() {
                break status;
            }
            assert!(begin.elapsed() < PATIENCE, "node {id} does not end");
            sleep(LOOK_AGAIN).await;
        };
        assert!(status.is_success, "node {id} ended with {status}");
    }

    /// Starts a node that does not run; [`Fleet::ready`] waits for it.
    pub fn launch(&mut self, id: u64) {
        self.node_mut(id).spawn();
    }

    /// The same with more environment.
    pub fn launch_with(&mut self, id: u64, environment: &[(&str, &str)]) {
        self.node_mut(id).process_mut().spawn(environment);
    }

    /// SIGTERM, and nothing more.
    pub fn terminate(&mut self, id: u64) {
        self.node_mut(id).terminate();
    }

    /// Whether a node does not run any more.
    pub fn has_ended(&mut self, id: u64) -> bool {
        let node = self.node_mut(id);
        !node.is_up() || node.ended().is_some()
    }

    /// SIGSTOP.
    pub fn pause(&self, id: u64) {
        self.node(id).pause();
    }

    /// SIGCONT.
    pub fn resume(&self, id: u64) {
        self.node(id).resume();
    }

    /// Whether a node that runs stands still.
    pub fn is_paused(&self, id: u64) -> bool {
        self.node(id).is_paused()
    }
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
