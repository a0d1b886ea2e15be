//! One replica of one group: its raft, and what others may know of its leadership.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use flotilla_storage::log::GroupLog;
use flotilla_storage::state::GroupState;
use flotilla_types::ids::{GroupId, NodeId};
use openraft::ReadPolicy;
use openraft::async_runtime::Instant as _;
use openraft::async_runtime::watch::WatchReceiver as _;
use openraft::errors::ClientWriteError;
use openraft::impls::BasicNode;
use openraft::raft::ClientWriteResult;
use tokio::sync::{oneshot, watch};

use crate::checkpoint::Cutting;
use crate::state_machine::StateMachine;
use crate::types::{Answer, Callback, Commands, LogId, TypeConfig};

pub(crate) type Raft = openraft::Raft<TypeConfig, StateMachine>;

/// Who leads a group, as this node knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Leadership {
    /// The leader, if one is known.
    pub leader: Option<NodeId>,
    /// Its term.
    pub term: u64,
    /// This node leads *and* has applied everything that earlier leaders committed: only then may
    /// it decide from its own state.
    pub here: bool,
}

/// Why a proposal did not get an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// This node does not lead the group; the library refused before it appended anything.
    #[error("not the leader")]
    NotLeader(Option<NodeId>),
    /// It was appended, and then another leader took over: it may be applied or not.
    #[error("the outcome is unknown")]
    Unknown,
}

/// What the library says of a replica, for who watches it from outside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standpoint {
    /// It leads, whether it is ready to decide or not.
    pub leads: bool,
    /// Its vote: term, node, and whether a majority has granted it.
    pub vote: (u64, u64, bool),
    /// The last entry that it holds; 0 for none.
    pub last_log: u64,
    /// The last that was cut off; 0 for none.
    pub purged: u64,
    /// The last that it knows to be committed, and holds; 0 for none.
    pub committed: u64,
    /// The last that it has applied; 0 for none.
    pub applied: u64,
}

/// Counters of one replica, for the metrics.
#[derive(Debug, Default)]
pub struct GroupCounters {
    /// Entries proposed here.
    pub proposals: AtomicU64,
    /// Commands in them (shards only).
    pub commands: AtomicU64,
    /// Times that the known leader changed.
    pub leader_changes: AtomicU64,
}

/// Called once, with the reason, when a replica cannot go on; it must end the process.
pub type OnFatal = Arc<dyn Fn(String) + Send + Sync>;

/// See the module. Clones are the same replica.
#[derive(Clone)]
pub struct Group {
    inner: Arc<Inner>,
}

struct Inner {
    id: GroupId,
    node: NodeId,
    raft: Raft,
    log: GroupLog,
    state: GroupState,
    leadership: watch::Receiver<Leadership>,
    /// The last term whose leadership was given away from here.
    given_away_term: AtomicU64,
    cutting: Arc<Cutting>,
    counters: GroupCounters,
    stopping: AtomicBool,
    on_fatal: OnFatal,
}

impl Group {
    pub(crate) fn start(
        id: GroupId,
        node: NodeId,
        raft: Raft,
        log: GroupLog,
        state: GroupState,
        cutting: Arc<Cutting>,
        on_fatal: OnFatal,
    ) -> Self {
        let (publish, leadership) = watch::channel(Leadership::default());
        let inner = Arc::new(Inner {
            id,
            node,
            raft,
            log,
            state,
            leadership,
            given_away_term: AtomicU64::new(0),
            cutting,
            counters: GroupCounters::default(),
            stopping: AtomicBool::new(false),
            on_fatal,
        });
        let group = Self { inner };
        tokio::spawn(group.clone().follow_leadership(publish));
        group
    }

    /// Its id.
    pub fn id(&self) -> GroupId {
        self.inner.id
    }

    /// The node that this replica is on.
    pub fn node(&self) -> NodeId {
        self.inner.node
    }

    /// The replica's state, for reading.
    pub fn state(&self) -> &GroupState {
        &self.inner.state
    }

    /// Bytes of its log that are not purged.
    pub fn log_bytes(&self) -> u64 {
        self.inner.log.state().bytes
    }

    /// How far it is: the last entry that it holds, and the last that it has applied; 0 for none.
    pub fn position(&self) -> (u64, u64) {
        let metrics = self.inner.raft.metrics();
        let metrics = metrics.borrow_watched();
        let applied = metrics.last_applied.as_ref().map_or(0, |last| last.index);
        (metrics.last_log_index.unwrap_or(0), applied)
    }

    /// Where it stands.
    pub fn standpoint(&self) -> Standpoint {
        let metrics = self.inner.raft.metrics();
        let metrics = metrics.borrow_watched();
        let leader = metrics.vote.leader_id;
        let index = |id: &Option<LogId>| id.map_or(0, |id| id.index);
        Standpoint {
            leads: metrics.state.is_leader(),
            vote: (leader.term, leader.node_id, metrics.vote.committed),
            last_log: metrics.last_log_index.unwrap_or(0),
            purged: index(&metrics.purged),
            committed: index(&metrics.local_committed),
            applied: index(&metrics.last_applied),
        }
    }

    /// Counters for the metrics.
    pub fn counters(&self) -> &GroupCounters {
        &self.inner.counters
    }

    /// Who leads, now and from now on.
    pub fn leadership(&self) -> watch::Receiver<Leadership> {
        self.inner.leadership.clone()
    }

    /// Proposes one entry and waits until it is applied here.
    ///
    /// # Errors
    /// See [`ProposeError`].
    pub async fn propose(&self, commands: Commands) -> Result<Answer, ProposeError> {
        let (tx, rx) = oneshot::channel();
        self.propose_then(commands, move |result| {
            // The caller may have gone; the entry is applied all the same.
            let _ = tx.send(result);
        })
        .await;
        rx.await.unwrap_or(Err(ProposeError::Unknown))
    }

    /// Proposes one entry; `then` runs with the outcome, on the applying task, and must be quick.
    /// Entries are appended in the order of these calls.
    pub(crate) async fn propose_then(
        &self,
        commands: Commands,
        then: impl FnOnce(Result<Answer, ProposeError>) + Send + 'static,
    ) {
        self.inner.counters.proposals.fetch_add(1, Ordering::Relaxed);
        let callback = Callback::new(move |result: ClientWriteResult<TypeConfig>| {
            then(match result {
                Ok(response) => Ok(response.data),
                Err(ClientWriteError::ForwardToLeader(forward)) => {
                    Err(ProposeError::NotLeader(forward.leader_id.map(NodeId)))
                }
                Err(
                    ClientWriteError::LogEntryDiscarded(_)
                    | ClientWriteError::ChangeMembershipError(_)
                    | ClientWriteError::PreconditionFailed(_),
                ) => Err(ProposeError::Unknown),
            });
        });
        if let Err(fatal) = self.inner.raft.client_write_ff(commands, Some(callback)).await {
            self.fatal(format!("a proposal failed: {fatal}"));
        }
    }

    /// Returns once this node is known to lead and to have applied everything that was committed
    /// before the call: up to which entry.
    ///
    /// # Errors
    /// With the leader to ask instead, if one is known; nothing was changed in any case.
    pub async fn linearize(&self) -> Result<u64, Option<NodeId>> {
        use openraft::errors::{LinearizableReadError, RaftError};
        match self.inner.raft.ensure_linearizable(ReadPolicy::ReadIndex).await {
            Ok(read) => Ok(read.index()),
            Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(forward))) => {
                Err(forward.leader_id.map(NodeId))
            }
            Err(RaftError::APIError(_)) => Err(None),
            Err(RaftError::Fatal(fatal)) => {
                self.fatal(format!("a read failed: {fatal}"));
                Err(None)
            }
        }
    }

    /// Gives the group its first members. Only for a group that was never started anywhere.
    ///
    /// # Errors
    /// When the replica is not empty, or fails.
    pub async fn initialize(&self, members: BTreeMap<NodeId, String>) -> io::Result<()> {
        let nodes = members.into_iter().map(|(id, address)| (id.0, BasicNode::new(address)));
        self.inner.raft.initialize(BTreeMap::from_iter(nodes)).await.map_err(io::Error::other)
    }

    /// Whether the replica holds anything at all.
    ///
    /// # Errors
    /// When the replica failed.
    pub async fn is_initialized(&self) -> io::Result<bool> {
        self.inner.raft.is_initialized().await.map_err(io::Error::other)
    }

    /// Entries that a follower still lacks; `None` when this node does not lead or does not know.
    pub fn lag_of(&self, follower: NodeId) -> Option<u64> {
        let metrics = self.inner.raft.metrics();
        let metrics = metrics.borrow_watched();
        let matched = metrics.replication.as_ref()?.get(&follower.0)?.as_ref()?.index;
        Some(metrics.last_log_index?.saturating_sub(matched))
    }

    /// Whether this node leads and a majority said so lately enough that nobody else can lead: what is
    /// applied here is what the group has acknowledged. A leader whose disk stands still cannot
    /// write down that another was elected, and takes itself for the leader until it can. One that
    /// gave its leadership away is not: its peer need not wait until the lease is over.
    pub fn is_confirmed(&self) -> bool {
        let leadership = *self.inner.leadership.borrow();
        if leadership.term <= self.inner.given_away_term.load(Ordering::Acquire) {
            return false;
        }
        leadership.here && self.heard_quorum_within(crate::LEASE) == Some(true)
    }

    /// Whether this node may hand over proposals that somebody waits for. Not when it takes itself for the leader and no
    /// majority has answered it for so long that there may be another one, or none for a while: what it proposed now
    /// would be in doubt, and it is certain as yet that nothing was.
    ///
    /// # Errors
    /// With the leader to ask instead, if one is known.
    pub fn may_propose(&self) -> Result<(), Option<NodeId>> {
        let leadership = *self.inner.leadership.borrow();
        if !leadership.here {
            return Err(leadership.leader);
        }
        match self.heard_quorum_within(crate::QUORUM_LOST) {
            Some(false) => Err(None),
            Some(true) | None => Ok(()),
        }
    }

    /// Whether a majority answered the leader that this node is so lately; `None` if none ever has. One without
    /// followers is its own majority.
    fn heard_quorum_within(&self, limit: Duration) -> Option<bool> {
        let metrics = self.inner.raft.metrics();
        let metrics = metrics.borrow_watched();
        let heard = metrics.last_quorum_acked.map(|at| at.into_inner().elapsed() < limit);
        // Each proposal comes here, and to look at the members is to copy them.
        if heard == Some(true) || metrics.membership_config.membership().voter_ids().count() == 1 {
            return Some(true);
        }
        heard
    }

    /// Asks a follower to take over. From here on this replica takes no proposals any more, so the
    /// follower must be one that can.
    pub async fn transfer_leadership(&self, to: NodeId) {
        let term = self.inner.leadership.borrow().term;
        self.inner.given_away_term.fetch_max(term, Ordering::AcqRel);
        if let Err(fatal) = self.inner.raft.trigger().transfer_leader(to.0).await {
            self.fatal(format!("a leadership transfer failed: {fatal}"));
        }
    }

    pub(crate) fn cutting(&self) -> &Cutting {
        &self.inner.cutting
    }

    pub(crate) fn raft(&self) -> &Raft {
        &self.inner.raft
    }

    pub(crate) fn log(&self) -> &GroupLog {
        &self.inner.log
    }

    /// Ends the replica in order.
    pub async fn shutdown(&self) {
        self.inner.stopping.store(true, Ordering::Release);
        // A join error says that the core panicked; there is nothing left to do about it here.
        if let Err(error) = self.inner.raft.shutdown().await {
            tracing::warn!(group = %self.inner.id, %error, "the replica did not end in order");
        }
    }

    pub(crate) fn fatal(&self, what: String) {
        if !self.inner.stopping.load(Ordering::Acquire) {
            (self.inner.on_fatal)(format!("group {}: {what}", self.inner.id));
        }
    }

    /// Publishes who leads; `here` only after the read barrier of the new term.
    async fn follow_leadership(self, publish: watch::Sender<Leadership>) {
        let mut metrics = self.inner.raft.server_metrics();
        loop {
            let (leader, term) = {
                let now = metrics.borrow_and_update();
                (now.current_leader.map(NodeId), now.vote.leader_id.term)
            };
            let known = Leadership { leader, term, here: false };
            let before = *publish.borrow();
            if (before.leader, before.term) != (leader, term) {
                self.inner.counters.leader_changes.fetch_add(1, Ordering::Relaxed);
                tracing::info!(group = %self.inner.id, ?leader, term, "leadership");
                publish.send_replace(known);
            }
            let here = *publish.borrow();
            if leader == Some(self.inner.node) && !here.here {
                let barrier = self.linearize();
                tokio::select! {
                    biased;
                    changed = metrics.changed() => {
                        if changed.is_err() {
                            break;
                        }
                    }
                    passed = barrier => match passed {
                        Ok(_) => {
                            publish.send_replace(Leadership { here: true, ..known });
                        }
                        // No quorum yet: the library's own rhythm is the heartbeat.
                        Err(_) => tokio::time::sleep(crate::HEARTBEAT).await,
                    },
                }
                continue;
            }
            if metrics.changed().await.is_err() {
                break;
            }
        }
        publish.send_replace(Leadership::default());
        self.fatal("the replica stopped".into());
    }
}
