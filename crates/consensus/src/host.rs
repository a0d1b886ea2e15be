//! All replicas of one node, on its one log engine, its one state store and its links.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use flotilla_probe::{failpoint, planted};
use flotilla_storage::disk::Disk;
use flotilla_storage::log::{Damage, DamagedGroups, Engine, LogMetrics, LogOptions};
use flotilla_storage::state::{StateDb, StateOptions};
use flotilla_transport::{Dial, Handler, Identity, PeerConfig, Transport};
use flotilla_types::clock::Clock;
use flotilla_types::ids::{GroupId, NodeId};
use openraft::{Config, SnapshotPolicy};
use parking_lot::RwLock;

use crate::checkpoint::{self, Cutting, KeepLog};
use crate::clocks;
use crate::group::{Group, OnFatal, Raft};
use crate::log_store::LogStore;
use crate::memory::{self, Memory, Position};
use crate::network::Network;
use crate::off_thread::OffThread;
use crate::rebirth::{self, Marks, Standing};
use crate::recall::{self, Telling};
use crate::serve::PeerHandler;
use crate::slowness::Slowness;
use crate::state_machine::{Application, StateMachine};
use crate::types::Vote;

/// A follower that lacks more than this would keep the group waiting while it catches up.
const HAND_OVER_LAG_MAX: u64 = 64;

/// What a host is made of.
pub struct HostOptions {
    /// This node.
    pub node: NodeId,
    /// Where log and state live.
    pub dir: PathBuf,
    /// What that directory is on.
    pub disk: Arc<dyn Disk>,
    /// Every other node.
    pub peers: Vec<PeerConfig>,
    /// Who this node says it is.
    pub identity: Identity,
    /// Sizes of the log.
    pub log: LogOptions,
    /// What of it stays behind the durable state.
    pub keep_log: KeepLog,
    /// Sizes of the state store.
    pub state: StateOptions,
    /// What leaders here stamp entries with.
    pub clock: Arc<dyn Clock>,
    /// Ends the process.
    pub on_fatal: OnFatal,
}

/// A replica and whether it may vote.
#[derive(Clone)]
pub(crate) struct Replica {
    pub(crate) group: Group,
    pub(crate) voting: Arc<AtomicBool>,
    pub(crate) off_thread: OffThread,
}

impl Replica {
    pub(crate) fn may_vote(&self) -> bool {
        self.voting.load(Ordering::Acquire)
    }
}

/// The replicas that run.
#[derive(Default)]
pub(crate) struct Groups {
    replicas: RwLock<HashMap<GroupId, Replica>>,
    /// Those that lost their logs and ask the others before they run, with the vote that they know.
    asking: RwLock<HashMap<GroupId, Option<Vote>>>,
    /// This node is about to end: it still votes, but leads nothing new.
    leaving: AtomicBool,
    /// Its disk is slow: it leads nothing for as long.
    slow: AtomicBool,
}

impl Groups {
    pub(crate) fn get(&self, id: GroupId) -> Option<Replica> {
        self.replicas.read().get(&id).cloned()
    }

    /// What a member that asks is told, if anything is known of the group here.
    pub(crate) fn standing(&self, id: GroupId) -> Option<Standing> {
        if let Some(replica) = self.get(id) {
            return Some(Standing::of(&replica, self.may_lead()));
        }
        self.asking.read().get(&id).map(|vote| Standing::before(*vote))
    }

    /// Whether replicas here may become leaders.
    pub(crate) fn may_lead(&self) -> bool {
        !self.leaving.load(Ordering::Acquire) && !self.slow.load(Ordering::Acquire)
    }

    fn set_slow(&self, slow: bool) {
        match slow {
            true => tracing::warn!(
                "the disk is much slower than those of the other nodes: \
                leaderships are handed over"
            ),
            false => tracing::info!("the disk is as quick as others again"),
        }
        self.slow.store(slow, Ordering::Release);
        for replica in self.all() {
            replica.group.raft().runtime_config().elect(self.may_lead() && replica.may_vote());
        }
    }

    pub(crate) fn all(&self) -> Vec<Replica> {
        self.replicas.read().values().cloned().collect()
    }
}

/// See the module. Clones are the same host.
#[derive(Clone)]
pub struct Host {
    inner: Arc<Inner>,
}

struct Inner {
    node: NodeId,
    keep_log: KeepLog,
    engine: Engine,
    db: StateDb,
    transport: Transport,
    handler: Arc<PeerHandler>,
    groups: Arc<Groups>,
    marks: Marks,
    off_thread: OffThread,
    memory: Arc<Memory>,
    slowness: Arc<Slowness>,
    clock: Arc<dyn Clock>,
    peers: Vec<NodeId>,
    /// What the log lost; a group that it does not even know any more is recognised by this.
    damage: Vec<Damage>,
    config: Arc<Config>,
    on_fatal: OnFatal,
}

impl Host {
    /// Opens the stores. Must run inside a runtime; no replica runs yet.
    ///
    /// # Errors
    /// When a store cannot be opened at all. A damaged log is no error: its groups come back by
    /// rebirth (see [`Host::start_group`]).
    pub fn open(options: HostOptions, network: impl Dial) -> io::Result<Self> {
        let fatal = options.on_fatal.clone();
        let on_log_error = move |error: &io::Error| fatal(format!("the log failed: {error}"));
        let disk = options.disk;
        disk.create_dir(&options.dir)?;
        let (log_dir, state_dir) = (options.dir.join("log"), options.dir.join("state"));
        let marks = Marks::open(disk.clone(), &options.dir.join("rebirth"))?;
        // The log is made first: state without it says that there was one. Marked before it is
        // made anew, or a crash in between would hide the loss.
        if disk.exists(&state_dir) && !disk.exists(&log_dir) {
            tracing::error!(
                "the log is gone; the replicas here neither vote nor acknowledge until \
                 they are rebuilt from their peers"
            );
            marks.set_all()?;
        }
        let (engine, damage) =
            Engine::open_on(disk.clone(), &log_dir, options.log, Box::new(on_log_error))?;
        disk.create_dir(&state_dir)?;
        let db = open_state(&state_dir, &options.state, &marks)?;
        let slowness = Arc::new(Slowness::default());
        let (memory_dir, clock) = (options.dir.join("memory"), options.clock);
        let memory = Memory::open(disk.clone(), &memory_dir, slowness.clone(), clock.clone())?;
        let memory = Arc::new(memory);
        // What is in all of these is of no use after a power cut without their own names.
        disk.sync_dir(&options.dir)?;
        for damage in &damage {
            tracing::error!(what = %damage.what, groups = ?damage.groups, "the log is damaged; \
                 its replicas neither vote nor acknowledge until they are rebuilt from their peers");
            marks.note_damage(damage, &engine)?;
        }
        let groups = Arc::new(Groups::default());
        let handler =
            PeerHandler { groups: groups.clone(), memory: memory.clone(), above: OnceLock::new() };
        let handler = Arc::new(handler);
        let peers = options.peers.iter().map(|peer| peer.node).collect();
        let transport = Transport::over(network, options.node, options.identity, options.peers);
        transport.set_handler(handler.clone());
        let inner = Inner {
            node: options.node,
            engine,
            db,
            transport,
            handler,
            groups,
            marks,
            off_thread: OffThread::for_disk(&*disk),
            memory,
            slowness,
            clock,
            peers,
            damage,
            config: Arc::new(raft_config()?),
            keep_log: options.keep_log,
            on_fatal: options.on_fatal,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// This node.
    pub fn node(&self) -> NodeId {
        self.inner.node
    }

    /// The links to the peers.
    pub fn transport(&self) -> &Transport {
        &self.inner.transport
    }

    /// Who answers the methods from `FIRST_FOREIGN_METHOD` on. Once.
    pub fn set_handler(&self, handler: Arc<dyn Handler>) {
        // A second caller would be a bug of the node's own wiring; the first one stays.
        let set = self.inner.handler.above.set(handler).is_ok();
        debug_assert!(set, "the handler is set once");
    }

    pub(crate) fn off_thread(&self) -> OffThread {
        self.inner.off_thread
    }

    /// What the log engine counted.
    pub fn log_metrics(&self) -> LogMetrics {
        self.inner.engine.metrics()
    }

    /// The store of all replicas.
    pub fn state_db(&self) -> &StateDb {
        &self.inner.db
    }

    /// Declares that this node lost everything that it may once have held: every group that is
    /// started from now on must be reborn. For a node that comes to a formed cluster with an empty
    /// directory.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn note_lost_disk(&self, groups: impl IntoIterator<Item = GroupId>) -> io::Result<()> {
        groups.into_iter().try_for_each(|group| self.inner.marks.set(group))
    }

    /// Asks the peers whether this node has told them of more than it holds now; if so, every group that
    /// is started from now on must be reborn. Begins with their time if the clock here is wrong. To be
    /// called once, before any group is started; waits for a majority of the nodes.
    ///
    /// # Errors
    /// When the disk fails.
    pub async fn recall(&self) -> io::Result<()> {
        let inner = &self.inner;
        let (heard, seen) = recall::ask(&inner.transport, &inner.peers, &*inner.clock).await;
        clocks::begin(&*inner.clock, &seen);
        let here = inner.memory.position(inner.engine.recovered());
        let forgotten = memory::forgotten(here, heard.into_iter());
        if let Some(heard) = forgotten.filter(|_| !planted!(OlderDiskBelieved)) {
            tracing::error!(
                here = here.synced,
                heard = heard.synced,
                "the log is older than what this node told its peers; its replicas neither vote nor \
                 acknowledge until they are rebuilt from their peers"
            );
            let what = "it is older than what the peers have heard of".to_owned();
            let damage = Damage { groups: DamagedGroups::All, what };
            let (marks, engine) = (inner.marks.clone(), inner.engine.clone());
            inner.off_thread.run(move || marks.note_damage(&damage, &engine)).await??;
            // Last: a crash before it finds the loss again.
            inner.memory.begin_anew(heard)?;
        }
        // Before the peers are told of anything new.
        let engine = inner.engine.clone();
        inner.off_thread.run(move || engine.settle_recovery()).await??;
        let groups = inner.groups.clone();
        let fatal = inner.on_fatal.clone();
        // What a replica here has voted and acknowledged since is as it is; the next start asks again,
        // and hears it.
        let older = move |heard: Position| {
            fatal(format!(
                "the log is older than what this node told a peer ({}): it must start again, to be \
                 rebuilt",
                heard.synced
            ));
        };
        let telling = Telling {
            older: Arc::new(older),
            transport: inner.transport.clone(),
            peers: inner.peers.clone(),
            memory: inner.memory.clone(),
            slowness: inner.slowness.clone(),
            clocks: Arc::default(),
            clock: inner.clock.clone(),
            off_thread: inner.off_thread,
            log: inner.engine.downgrade(),
            changed: Box::new(move |slow| groups.set_slow(slow)),
        };
        tokio::spawn(telling.run());
        Ok(())
    }

    /// Starts a replica. One that lost (part of) its log first asks *all* other members which
    /// votes they know, then runs without voting until it holds everything that was committed
    /// before it came back; this waits for the first part only.
    ///
    /// # Errors
    /// When a store fails.
    pub async fn start_group(
        &self,
        id: GroupId,
        members: &[NodeId],
        application: Arc<dyn Application>,
    ) -> io::Result<Group> {
        let inner = &self.inner;
        let log = inner.engine.group(id);
        let state = inner.db.group(id)?;
        if inner.damage.iter().any(|damage| damage.covers(id)) {
            inner.marks.set(id)?;
        }
        let behind = rebirth::is_state_behind(&log, &state)?;
        if behind {
            tracing::error!(group = %id, "the state is older than the log; this replica neither \
                 votes nor acknowledges until it is rebuilt from its peers");
            inner.marks.set(id)?;
        }
        let reborn = inner.marks.is_set(id) && !planted!(LossForgiven);
        if reborn {
            inner.groups.asking.write().insert(id, rebirth::own_vote(&log));
            rebirth::prepare(&inner.transport, id, inner.node, members, &log).await?;
        }
        if behind {
            // Not before the others are known to have what is thrown away here.
            rebirth::forget_log(&log).await?;
        }
        let cutting = Arc::<Cutting>::default();
        let network = Network {
            group: id,
            log: log.clone(),
            local: inner.node,
            transport: inner.transport.clone(),
            off_thread: inner.off_thread,
            patience: application.follower_patience(),
            members: members.to_vec(),
            slowness: inner.slowness.clone(),
            cutting: cutting.clone(),
        };
        let (db, off_thread) = (inner.db.clone(), inner.off_thread);
        rebirth::drop_replaced(&log, &state)?;
        let machine = StateMachine::open(id, db, state.clone(), application, off_thread)?;
        let store = LogStore::new(log.clone(), inner.node.0, off_thread);
        let raft = Raft::new(inner.node.0, inner.config.clone(), network, store, machine)
            .await
            .map_err(io::Error::other)?;
        let voting = Arc::new(AtomicBool::new(!reborn));
        let group = Group::start(id, inner.node, raft, log, state, cutting, inner.on_fatal.clone());
        let replica = Replica { group: group.clone(), voting, off_thread };
        // Before the look at what all replicas may do: from here on changes of that reach it.
        inner.groups.replicas.write().insert(id, replica.clone());
        inner.groups.asking.write().remove(&id);
        group.raft().runtime_config().elect(!reborn && inner.groups.may_lead());
        if reborn {
            let (transport, marks) = (inner.transport.clone(), inner.marks.clone());
            tokio::spawn(rebirth::finish(transport, replica, marks, inner.groups.clone()));
        }
        Ok(group)
    }

    /// Whether the state was found to be damaged since the start; then this node must end.
    pub fn state_damage(&self) -> Option<&str> {
        self.inner.db.damage()
    }

    /// Ends the process: something here cannot go on.
    pub fn fatal(&self, what: &str) {
        (self.inner.on_fatal)(what.to_owned());
    }

    /// Whether a replica here may not vote yet.
    pub fn is_reborn(&self, id: GroupId) -> bool {
        self.inner.groups.get(id).is_some_and(|replica| !replica.may_vote())
    }

    /// From now on no replica here becomes a leader, by election or because it is asked to: this
    /// node is about to end.
    pub fn leave(&self) {
        self.inner.groups.leaving.store(true, Ordering::Release);
        for replica in self.inner.groups.all() {
            replica.group.raft().runtime_config().elect(false);
        }
    }

    /// Whether this node's disk is too slow to lead.
    pub fn is_slow(&self) -> bool {
        self.inner.groups.slow.load(Ordering::Acquire)
    }

    /// Hands the leadership of a group to a peer, if that peer says that it takes part in elections
    /// and lacks next to nothing. Whether it was asked.
    pub async fn hand_over(&self, group: &Group, to: NodeId) -> bool {
        if group.lag_of(to).is_none_or(|lag| lag > HAND_OVER_LAG_MAX) {
            return false;
        }
        let standing = rebirth::standing_of(&self.inner.transport, group.id(), to).await;
        if !standing.is_some_and(|standing| standing.may_lead) {
            return false;
        }
        failpoint!(HandOver);
        tracing::info!(group = %group.id(), %to, "handing over leadership");
        group.transfer_leadership(to).await;
        true
    }

    /// The replicas that run.
    pub fn groups(&self) -> Vec<Group> {
        self.inner.groups.all().into_iter().map(|replica| replica.group).collect()
    }

    /// Makes the state durable and cuts the logs behind it, after a moment at most in which replicas hear of what
    /// is durable. Also what snapshots on their way need is cut when this node is low on space.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn checkpoint(&self, low_on_space: bool) -> io::Result<()> {
        let (db, off_thread) = (&self.inner.db, self.inner.off_thread);
        checkpoint::checkpoint(db, off_thread, self.groups(), self.inner.keep_log, low_on_space)
            .await
    }

    /// Whether a checkpoint would cut what the last one had to leave for a snapshot that was on its way.
    pub fn is_cut_due(&self, low_on_space: bool) -> bool {
        self.groups().iter().any(|group| group.cutting().is_due(low_on_space))
    }

    /// Has the state store give back the room of what was removed; if `all`, everything that it can.
    /// Takes as long as the disk takes.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn reclaim(&self, all: bool) -> io::Result<()> {
        let db = self.inner.db.clone();
        let work = move || {
            db.reclaim_cleared()?;
            db.trim()?;
            if all {
                // Only removals that are flushed can make room.
                db.flush()?;
                db.reclaim();
            }
            Ok(())
        };
        self.inner.off_thread.run(work).await?
    }

    /// Ends all replicas and both stores in order: state first flushed, so that the next start
    /// has nothing to replay.
    pub async fn shutdown(&self) {
        for replica in self.inner.groups.all() {
            replica.group.shutdown().await;
        }
        // The replicas hold the links, and the links' handler holds the replicas.
        self.inner.groups.replicas.write().clear();
        let (db, engine) = (self.inner.db.clone(), self.inner.engine.clone());
        let ended = self.inner.off_thread.run(move || {
            let flushed = db.flush();
            failpoint!(Leave);
            engine.shutdown();
            flushed
        });
        match ended.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the state was not flushed at the end"),
            Err(error) => tracing::warn!(%error, "the stores did not end in order"),
        }
    }
}

/// Damaged state is put aside; what was in it comes back from the log, or else from the peers.
fn open_state(dir: &Path, options: &StateOptions, marks: &Marks) -> io::Result<StateDb> {
    let (db, damage) = StateDb::open_or_replace(dir, options)?;
    match damage {
        Some(what) => tracing::error!(
            %what,
            "the state is damaged; it was put aside and will be rebuilt"
        ),
        None if marks.is_any_set()? => {}
        None => StateDb::forget_damaged(dir)?,
    }
    Ok(db)
}

pub(crate) fn raft_config() -> io::Result<Config> {
    let heartbeat_ms = crate::HEARTBEAT.as_millis() as u64;
    let config = Config {
        cluster_name: "flotilla".into(),
        heartbeat_interval: heartbeat_ms,
        // A follower that acknowledged an append meanwhile needs no heartbeat.
        heartbeat_min_interval: Some(heartbeat_ms),
        election_timeout_min: crate::LEASE.as_millis() as u64,
        election_timeout_max: crate::ELECTION_MAX.as_millis() as u64,
        enable_pre_vote: Some(true),
        // A restarted leader that went on leading would serve before it knows what it missed.
        enable_leader_restore: Some(false),
        snapshot_policy: SnapshotPolicy::Never,
        // Never by itself: a checkpoint cuts.
        max_in_snapshot_log_to_keep: u64::MAX,
        replication_lag_threshold: u64::MAX,
        install_snapshot_timeout: 600_000,
        // A replica whose log was damaged comes back with less than it acknowledged; the rebirth
        // protocol makes that safe.
        allow_log_reversion: Some(true),
        ..Config::default()
    };
    config.validate().map_err(io::Error::other)
}

/// The members of a group with their addresses, as [`Group::initialize`] wants them.
pub fn members(
    replicas: &[NodeId],
    addresses: &BTreeMap<NodeId, String>,
) -> BTreeMap<NodeId, String> {
    let address = |node: &NodeId| addresses.get(node).cloned().unwrap_or_default();
    replicas.iter().map(|node| (*node, address(node))).collect()
}

/// Whether the directory holds a node's stores already.
pub fn exists(dir: &Path) -> bool {
    dir.join("log").exists() || dir.join("state").exists()
}
