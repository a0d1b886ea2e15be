//! One node's share of the cluster: its replicas, its links, its parked polls.

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

pub use flotilla_consensus::KeepLog;
use flotilla_consensus::group::{Group, OnFatal};
use flotilla_consensus::host::{Host, HostOptions, members};
use flotilla_consensus::shard::{QueueCounts, Shard, ShardError, ShardSeed};
use flotilla_probe::{failpoint, planted};
use flotilla_storage::disk::Disk;
use flotilla_storage::log::LogOptions;
use flotilla_storage::state::StateOptions;
use flotilla_transport::{Dial, Listener, LocalIdentity, PeerConfig};
use flotilla_types::clock::Clock;
use flotilla_types::ids::{GroupId, NodeId, QueueId};
use flotilla_types::limits::{ANSWER_BYTES_MAX, CATALOG_COMMANDS_MAX, CLAIM_BYTES_MAX};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::timeout;

use crate::api::Counts;
use crate::catalog::{Catalog, Command, Facts, ShardPlace};
use crate::counters::NodeCounters;
use crate::fairness::{self, Heard};
use crate::fifo::settle;
use crate::formation::{Arrival, Founding};
use crate::janitor;
use crate::moves;
use crate::peer::Peers;
use crate::polling::arm::send_wake;
use crate::polling::crowd::Crowd;
use crate::polling::deck::{SampleSize, Weights};
use crate::polling::hub::{Hub, RemoteWake};
use crate::polling::in_flight;
use crate::polling::receive::{Decks, Sampling};
use crate::room::Pool;
use crate::router::{CALL_TIMEOUT, Router};
use crate::space::{self, Space};

/// Replicas of a shard.
const REPLICAS: usize = 3;
/// Between two attempts of what a start needs from others.
const RETRY: Duration = Duration::from_millis(100);
/// How long an ending node waits for others to take over what it leads.
const HAND_OVER: Duration = Duration::from_secs(3);

/// When the log is cut, and how far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogCuts {
    /// The state is made durable, and the log cut behind it, when this much new log waits for it.
    pub after_bytes: u64,
    /// What stays for followers that were away for a short while; one that lacks more gets a snapshot, and what
    /// comes after that stays until it has it ([`KeepLog::bytes_max`]), unless this node is low on space.
    pub keep: KeepLog,
}

impl Default for LogCuts {
    fn default() -> Self {
        let keep = KeepLog { entries: 2_000, bytes: 1024 * 1024 * 1024 };
        Self { after_bytes: 128 * 1024 * 1024, keep }
    }
}

/// What a node is made of.
pub struct NodeOptions {
    /// This node.
    pub id: NodeId,
    /// Its directory.
    pub dir: PathBuf,
    /// What that directory is on.
    pub disk: Arc<dyn Disk>,
    /// All nodes of the cluster with their peer addresses, this one included.
    pub nodes: BTreeMap<NodeId, String>,
    /// The secret that all nodes share.
    pub token: String,
    /// Shards, if this start founds the cluster.
    pub shards: u32,
    /// How many shards a short poll asks.
    pub sample: SampleSize,
    /// What makes a shard likelier to be asked.
    pub weights: Weights,
    /// Sizes of the log.
    pub log: LogOptions,
    /// When the log is cut.
    pub log_cuts: LogCuts,
    /// Sizes of the state store.
    pub state: StateOptions,
    /// With less room than this on its disk the node takes no new messages; 0 for no bound.
    pub free_bytes_min: u64,
    /// Messages of one queue in flight, about; [`limits::IN_FLIGHT_MAX`] but for tests.
    ///
    /// [`limits::IN_FLIGHT_MAX`]: flotilla_types::limits::IN_FLIGHT_MAX
    pub in_flight_max: u32,
    /// Whether names of deleted queues and purged queues rest for a minute, as in SQS.
    pub rests: bool,
    /// Where unix time comes from.
    pub clock: Arc<dyn Clock>,
    /// Ends the process, with the reason.
    pub on_fatal: OnFatal,
}

/// See the module.
pub struct Node {
    pub(crate) id: NodeId,
    /// All other nodes.
    pub(crate) peers: Vec<NodeId>,
    pub(crate) host: Host,
    pub(crate) router: Router,
    pub(crate) hub: Arc<Hub>,
    pub(crate) decks: Decks,
    pub(crate) sampling: Sampling,
    pub(crate) counters: Arc<NodeCounters>,
    pub(crate) founding: Arc<Founding>,
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) catalog_group: OnceLock<Group>,
    pub(crate) catalog_counter: AtomicU64,
    /// For commands that are proposed to the catalog here.
    catalog_room: Semaphore,
    pub(crate) session: u64,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) rests: bool,
    /// Keeps the limit on messages in flight.
    pub(crate) crowd: Crowd,
    /// Room for what this node's front end has to answer, and for what other nodes claim of it.
    pub(crate) answers: Pool,
    pub(crate) claims: Pool,
    pub(crate) heard: Heard,
    pub(crate) space: Space,
    /// Sends that this front end's clients wait for.
    pub(crate) sends_in_work: AtomicUsize,
    /// The turn of the last send; see `gathering`.
    pub(crate) send_turn: AtomicU64,
    facts: watch::Receiver<Option<Arc<Facts>>>,
    caught_up: watch::Sender<bool>,
    stop: watch::Sender<bool>,
    /// Turns true before that: nothing that only waits may hold up the end.
    pub(crate) polls_ended: watch::Sender<bool>,
    addresses: BTreeMap<NodeId, String>,
    initial_shards: u32,
    pub(crate) cut_after_bytes: u64,
}

impl Node {
    /// Opens the stores, dials peers over `network`, answers them on `listener`, and goes on in the
    /// background until this node is part of its cluster; [`crate::api::Cluster::ready`] says when it
    /// can serve.
    ///
    /// # Errors
    /// When the stores cannot be opened.
    pub fn start(
        options: NodeOptions,
        network: impl Dial,
        listener: impl Listener,
    ) -> io::Result<Arc<Self>> {
        let on_fatal = options.on_fatal.clone();
        let (node, wakes) = Self::open(options, network)?;
        let node = Arc::new(node);
        node.host.set_handler(Arc::new(Peers(Arc::downgrade(&node))));
        tokio::spawn(node.clone().serve(listener, on_fatal.clone()));
        tokio::spawn(send_wakes(node.clone(), wakes));
        tokio::spawn(moves::run(node.clone()));
        tokio::spawn(space::run(node.clone()));
        tokio::spawn(space::reclaim(node.clone()));
        let joining = node.clone();
        tokio::spawn(async move {
            if let Err(error) = joining.join().await {
                on_fatal(format!("this node cannot take part: {error}"));
            }
        });
        Ok(node)
    }

    /// Opens the stores and begins to dial; nothing is answered yet. With what the hub has to tell other nodes.
    fn open(
        options: NodeOptions,
        network: impl Dial,
    ) -> io::Result<(Self, mpsc::UnboundedReceiver<RemoteWake>)> {
        let (id, disk) = (options.id, options.disk);
        let founding = Founding::open(disk.clone(), &options.dir, id, options.shards)?;
        let founding = Arc::new(founding);
        let others = options.nodes.iter().filter(|(node, _)| **node != id);
        let peers: Vec<NodeId> = others.clone().map(|(node, _)| *node).collect();
        let peer = |(node, address): (&NodeId, &String)| PeerConfig {
            node: *node,
            address: address.clone(),
        };
        let identity = {
            let (founding, token) = (founding.clone(), options.token);
            Arc::new(move || LocalIdentity { cluster: founding.cluster(), token: token.clone() })
        };
        let host = HostOptions {
            node: id,
            dir: options.dir.clone(),
            disk: disk.clone(),
            peers: others.map(peer).collect(),
            identity,
            log: options.log,
            keep_log: options.log_cuts.keep,
            state: options.state,
            clock: options.clock.clone(),
            on_fatal: options.on_fatal,
        };
        let host = Host::open(host, network)?;
        let counters = Arc::new(NodeCounters::default());
        let (remote, wakes) = mpsc::unbounded_channel();
        let session = rand::random();
        let catalog = Arc::new(Catalog::new());
        let node = Self {
            id,
            peers,
            router: Router::new(id, host.transport().clone(), counters.clone(), session),
            hub: Hub::new(remote),
            decks: Decks::default(),
            sampling: Sampling { size: options.sample, weights: options.weights },
            counters,
            founding,
            facts: catalog.facts(),
            catalog,
            catalog_group: OnceLock::new(),
            catalog_counter: AtomicU64::new(0),
            catalog_room: Semaphore::new(CATALOG_COMMANDS_MAX),
            session,
            clock: options.clock,
            rests: options.rests,
            crowd: Crowd::new(options.in_flight_max),
            answers: Pool::new(ANSWER_BYTES_MAX),
            claims: Pool::new(CLAIM_BYTES_MAX),
            heard: Heard::default(),
            space: Space::open(disk, options.dir, options.free_bytes_min)?,
            sends_in_work: AtomicUsize::new(0),
            send_turn: AtomicU64::new(0),
            caught_up: watch::Sender::new(false),
            stop: watch::Sender::new(false),
            polls_ended: watch::Sender::new(false),
            addresses: options.nodes,
            initial_shards: options.shards,
            cut_after_bytes: options.log_cuts.after_bytes,
            host,
        };
        Ok((node, wakes))
    }

    /// Answers other nodes until this one has handed over what it led.
    async fn serve(self: Arc<Self>, listener: impl Listener, on_fatal: OnFatal) {
        let transport = self.host.transport().clone();
        let stopped = async move {
            self.stopped().await;
            // Peers still need this node's answers while it hands over.
            tokio::time::sleep(HAND_OVER).await;
        };
        if let Err(error) = transport.serve(listener, stopped).await {
            on_fatal(error.to_string());
        }
    }

    /// Becomes part of the cluster: forms or finds it, starts the catalog, then the shards.
    async fn join(self: Arc<Self>) -> io::Result<()> {
        let transport = self.host.transport().clone();
        let draw = || format!("{:016x}", rand::random::<u64>());
        let arrival = self.founding.arrive(&transport, &self.peers, draw).await?;
        tracing::info!(cluster = self.founding.cluster(), ?arrival, "part of the cluster");
        if let Arrival::LostDisk { shards } = arrival {
            self.host.note_lost_disk((0..=shards).map(GroupId))?;
        }
        self.host.recall().await?;
        let all: Vec<NodeId> = self.addresses.keys().copied().collect();
        let catalog = self.host.start_group(GroupId::CATALOG, &all, self.catalog.clone()).await?;
        let founds = self.founding.membership().is_some_and(|membership| membership.founding);
        if founds && !catalog.is_initialized().await? {
            catalog.initialize(members(&all, &self.addresses)).await?;
        }
        // The only place that sets it.
        let _ = self.catalog_group.set(catalog);
        tokio::spawn(janitor::run(self.clone()));
        tokio::spawn(janitor::give_leaders_away(self.clone()));
        tokio::spawn(in_flight::run(self.clone()));
        tokio::spawn(fairness::run(self.clone()));
        tokio::spawn(settle::run(self.clone()));
        if founds {
            self.found().await?;
        }
        let mut facts = self.facts.clone();
        let facts = match facts.wait_for(Option::is_some).await {
            Ok(facts) => facts.clone(),
            Err(_) => None,
        };
        let facts = facts.ok_or_else(|| io::Error::other("the catalog is gone"))?;
        for place in &facts.shards {
            self.router.add(place.group, place.replicas.clone());
        }
        for place in facts.shards.iter().filter(|place| place.replicas.contains(&self.id)) {
            tokio::spawn(self.clone().run_shard(place.clone()));
        }
        tokio::select! {
            () = self.catch_up() => {}
            () = self.stopped() => {}
        }
        self.caught_up.send_replace(true);
        Ok(())
    }

    async fn found(&self) -> io::Result<()> {
        let nodes: Vec<NodeId> = self.addresses.keys().copied().collect();
        let facts = Facts {
            cluster: self.founding.cluster(),
            handle_key: rand::random(),
            shards: place_shards(&nodes, self.initial_shards),
        };
        failpoint!(FormationFound);
        while self.decide(Command::Found(facts.clone())).await.is_err() {
            tokio::time::sleep(RETRY).await;
        }
        failpoint!(FormationFinish);
        self.founding.finished()
    }

    async fn run_shard(self: Arc<Self>, place: ShardPlace) {
        let seed = ShardSeed::new(place.group, self.clock.clone(), self.hub.clone());
        let started = self.host.start_group(place.group, &place.replicas, seed.application()).await;
        let group = match started {
            Ok(group) => group,
            Err(error) => return self.host.fatal(&format!("shard {}: {error}", place.group)),
        };
        // Its members are given to it once, by the node that shall lead it: never by one that
        // lost its disk, which cannot know whether that was done before.
        let first = place.replicas.first() == Some(&self.id);
        if first && !self.host.is_reborn(place.group) {
            let initialized = group.is_initialized().await.unwrap_or(true);
            failpoint!(PlaceShard);
            if !initialized
                && let Err(error) =
                    group.initialize(members(&place.replicas, &self.addresses)).await
            {
                return self.host.fatal(&format!("shard {}: {error}", place.group));
            }
        }
        failpoint!(ShardPlaced);
        self.router.set_here(place.group, seed.start(group));
        self.hub.rearm_all();
    }

    /// Returns once this node knows the facts of its cluster, without which it cannot even read a receipt
    /// handle, and its queues as they were when it started: it may have been away while some were deleted and
    /// created anew, and what is sent to a queue that is gone is thrown away with it. A node that can ask
    /// nobody returns after a few seconds; it is no worse off then than one that was cut off while it ran.
    pub async fn caught_up(&self) {
        // The sender lives in this node.
        let _ = self.caught_up.subscribe().wait_for(|done| *done).await;
    }

    pub(crate) fn is_caught_up(&self) -> bool {
        *self.caught_up.borrow()
    }

    /// Whether this node is ending.
    pub(crate) fn stopping(&self) -> bool {
        *self.stop.borrow()
    }

    /// Returns when this node begins to end.
    pub(crate) async fn stopped(&self) {
        let _ = self.stop.subscribe().wait_for(|stop| *stop).await;
    }

    pub(crate) fn facts(&self) -> Option<Arc<Facts>> {
        self.facts.borrow().clone()
    }

    /// Counts of the shards that are led here for certain.
    pub(crate) fn counts_here(&self, queue: QueueId) -> Vec<(GroupId, Counts)> {
        let is_led = |shard: &Shard| shard.group().is_confirmed() || planted!(DeposedCounts);
        let led = self.router.all_here().into_iter().filter(is_led);
        led.filter_map(|shard| Some((shard.group().id(), self.counts_of(&shard, queue)?))).collect()
    }

    /// Counts of a shard, without the age of its backlog; `None` when it is not led here.
    pub(crate) fn counts_of(&self, shard: &Shard, queue: QueueId) -> Option<Counts> {
        let QueueCounts { visible, in_flight, delayed } = shard.counts(queue)?;
        Some(Counts { visible, in_flight, delayed, oldest_entered_ms: None })
    }

    /// Counters of this node.
    pub fn counters(&self) -> &NodeCounters {
        &self.counters
    }

    /// The cluster's id; empty before there is one.
    pub fn cluster(&self) -> String {
        self.founding.cluster()
    }

    /// Ends the node in order: parked polls end empty, others take over what it leads, then the
    /// replicas and stores close.
    pub async fn shutdown(&self) {
        self.end_polls();
        self.stop.send_replace(true);
        self.hub.rearm_all();
        self.host.leave();
        let deadline = tokio::time::Instant::now() + HAND_OVER;
        let mut asked = HashSet::new();
        while tokio::time::Instant::now() < deadline && self.hand_over_all(&mut asked).await {
            tokio::time::sleep(RETRY).await;
        }
        self.host.shutdown().await;
        self.host.transport().close();
    }

    /// Asks a peer to take over each group that is led here, once; a group that could not be handed
    /// over is tried again next time. Whether anything is still led here that somebody else could
    /// lead.
    async fn hand_over_all(&self, asked: &mut HashSet<GroupId>) -> bool {
        let mut left = false;
        for group in self.host.groups() {
            if group.leadership().borrow().leader != Some(self.id) {
                continue;
            }
            if asked.contains(&group.id()) {
                left = true;
                continue;
            }
            for peer in &self.peers {
                if self.host.transport().connected(*peer)
                    && self.host.hand_over(&group, *peer).await
                {
                    asked.insert(group.id());
                    left = true;
                    break;
                }
            }
        }
        left
    }
}

async fn send_wakes(node: Arc<Node>, mut wakes: mpsc::UnboundedReceiver<RemoteWake>) {
    loop {
        let wake = tokio::select! {
            wake = wakes.recv() => wake,
            () = node.stopped() => return,
        };
        let Some(wake) = wake else { return };
        let node = node.clone();
        // The link bounds how many calls are under way.
        tokio::spawn(async move { send_wake(&node.router, &node.hub, wake).await });
    }
}

/// Spreads shards over nodes: each on three (or all) neighbours in a ring, first ones in turn, so
/// that every node shall lead about as many as any other.
fn place_shards(nodes: &[NodeId], shards: u32) -> Vec<ShardPlace> {
    let count = nodes.len();
    let place = |shard: u32| ShardPlace {
        group: GroupId(shard + 1),
        replicas: (0..REPLICAS.min(count))
            .map(|replica| nodes[(shard as usize + replica) % count])
            .collect(),
    };
    (0..shards).map(place).collect()
}

impl Node {
    /// Proposes a catalog command here.
    pub(crate) async fn decide_here(
        &self,
        id: Option<flotilla_types::ids::CommandId>,
        command: &Command,
    ) -> Result<crate::catalog::Reply, ShardError> {
        let Some(group) = self.catalog_group.get() else {
            return Err(ShardError::NotLeader(None));
        };
        group.may_propose().map_err(ShardError::NotLeader)?;
        let Ok(_under_way) = self.catalog_room.try_acquire() else {
            return Err(ShardError::Overloaded);
        };
        let bytes = crate::catalog::command_to_bytes(self.clock.now_ms(), id, command);
        failpoint!(CatalogDecide);
        let answer =
            timeout(CALL_TIMEOUT, group.propose(flotilla_consensus::Commands(bytes))).await;
        let answer = answer.ok().and_then(Result::ok);
        answer.and_then(|answer| answer.take()).ok_or(ShardError::Unknown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_are_spread_evenly() {
        let nodes: Vec<_> = (1..=3).map(NodeId).collect();
        let places = place_shards(&nodes, 8);
        assert_eq!(places.len(), 8);
        for node in &nodes {
            let leads = places.iter().filter(|place| place.replicas[0] == *node).count();
            assert!((2..=3).contains(&leads));
            assert!(places.iter().all(|place| place.replicas.contains(node)));
        }
        let single = place_shards(&nodes[..1], 2);
        assert_eq!(single[1].replicas, [NodeId(1)]);
    }
}
