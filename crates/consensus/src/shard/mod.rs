//! A shard: the queue machine on one replica, and on the leader its ready window and proposer.
//!
//! `core` holds what apply and reserve share; `owner` is the task that folds what arrives into
//! entries. A caller reserves in its own context (a lock, no await), so that an empty queue costs
//! no hop; everything that changes state goes through the owner's channel.

mod alarms;
mod core;
mod moving;
mod owner;
mod pending;

use std::io;
use std::sync::Arc;
use std::time::Instant;

use flotilla_probe::failpoint;
use flotilla_queue::command::{Command, Identified, Lease, Redrive, Reply};
use flotilla_queue::store::Read as _;
use flotilla_types::clock::Clock;
use flotilla_types::ids::{DedupKey, GroupId, GroupKey, NodeId, QueueId, Seq};
use tokio::sync::{mpsc, oneshot, watch};

use self::core::{Core, Look};
use self::owner::{Owner, Request};
use self::pending::Pending;
use crate::group::{Group, Leadership};
use crate::state_machine::Application;

pub use self::moving::{MoveOutcome, MoveSpec, MoveTarget, Place};
pub use flotilla_queue::machine::BusyQueue;
pub use flotilla_queue::{QueueCounts, Shares, TenantShare};

/// Some busy queues, and after which to look on, if there may be more.
pub type BusyPiece = (Vec<BusyQueue>, Option<QueueId>);

/// What a shard tells the node it is on. Called with the shard's lock held: must be quick and
/// must not call back.
pub trait ShardEvents: Send + Sync + 'static {
    /// Whether anybody waits for messages of this queue.
    fn awaited(&self, queue: QueueId) -> bool;

    /// About `count` messages of an awaited queue can be received from this shard, on this node.
    fn available(&self, shard: GroupId, queue: QueueId, count: usize);
}

/// Why a shard did not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ShardError {
    /// Not the leader here, not yet ready to decide, or left by its majority. Nothing was proposed.
    #[error("not the leader")]
    NotLeader(Option<NodeId>),
    /// Too much is waiting already. Nothing was proposed.
    #[error("overloaded")]
    Overloaded,
    /// It was handed to Raft and the answer was lost: it may be applied, now or later.
    #[error("the outcome is unknown")]
    Unknown,
}

/// What to hand out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceiveSpec {
    /// The queue.
    pub queue: QueueId,
    /// How many at most.
    pub max: usize,
    /// How long they stay hidden.
    pub visibility_ms: u64,
    /// The queue's retention.
    pub retention_ms: u64,
    /// Where messages go that were received too often.
    pub redrive: Option<Redrive>,
    /// FIFO queues: names the receive, so that it can be repeated.
    pub attempt: Option<DedupKey>,
    /// Only what a receive under this attempt was given before.
    pub only_again: bool,
    /// Nothing of noisy tenants.
    pub quiet_only: bool,
    /// Content that the caller has room for.
    pub bytes_max: usize,
    /// Not for a consumer: what was received often comes with the rest.
    pub to_move: bool,
}

/// What a shard has of a queue besides what it just gave.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Messages that can be received.
    pub visible: u64,
    /// Some tenants of the queue are noisy here.
    pub noisy: bool,
}

/// What is known in a shard of a standard queue's tenants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShardTenants {
    /// `None`: nothing of it was in flight lately.
    pub shares: Option<Shares>,
    /// Who counts as noisy here, and whether messages of theirs wait to be received.
    pub noisy: Vec<(TenantShare, bool)>,
}

/// What a queue's noisy tenants have in a shard.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ShardNoise {
    /// Who is noisy.
    pub groups: Vec<GroupKey>,
    /// Their messages.
    pub counts: QueueCounts,
    /// Since when everybody else's oldest message is there.
    pub oldest_quiet_ms: Option<u64>,
}

/// A shard before its group runs: first made, then given to the group as its application, then
/// started.
pub struct ShardSeed {
    core: Arc<Core>,
}

impl ShardSeed {
    /// For the replica of `group` on this node.
    pub fn new(group: GroupId, clock: Arc<dyn Clock>, events: Arc<dyn ShardEvents>) -> Self {
        Self { core: Arc::new(Core::new(group, clock, events)) }
    }

    /// What the group applies its entries to.
    pub fn application(&self) -> Arc<dyn Application> {
        self.core.clone()
    }

    /// Starts the owner task; it ends when the last handle is dropped.
    pub fn start(self, group: Group) -> Shard {
        let (requests, receiver) = mpsc::unbounded_channel();
        let pending = Arc::new(Pending::default());
        let leadership = group.leadership();
        let owner = Owner::new(group.clone(), self.core.clone(), receiver, pending.clone());
        tokio::spawn(owner.run());
        Shard { core: self.core, group, requests, pending, leadership }
    }
}

/// Handle of a running shard replica. Cheap to clone.
#[derive(Clone)]
pub struct Shard {
    core: Arc<Core>,
    group: Group,
    requests: mpsc::UnboundedSender<Request>,
    pending: Arc<Pending>,
    leadership: watch::Receiver<Leadership>,
}

impl Shard {
    /// The replica's group.
    pub fn group(&self) -> &Group {
        &self.group
    }

    /// Who leads, as this node knows.
    pub fn leadership(&self) -> Leadership {
        *self.leadership.borrow()
    }

    fn check_leader(&self) -> Result<(), ShardError> {
        let now = self.leadership();
        if now.here { Ok(()) } else { Err(ShardError::NotLeader(now.leader)) }
    }

    /// Has the commands applied, in this order and in one entry; one reply each.
    ///
    /// # Errors
    /// See [`ShardError`]; it holds for all of them.
    pub async fn submit(&self, commands: Vec<Identified>) -> Result<Vec<Reply>, ShardError> {
        self.group.may_propose().map_err(ShardError::NotLeader)?;
        let bytes = commands.iter().map(command_bytes).sum();
        if !self.pending.admit(commands.len(), bytes) {
            return Err(ShardError::Overloaded);
        }
        let (reply, answer) = oneshot::channel();
        // The owner outlives every handle; should it be gone, the dropped sender says so below.
        let _ =
            self.requests.send(Request::Submit { commands, bytes, since: Instant::now(), reply });
        answer.await.unwrap_or(Err(ShardError::Unknown))
    }

    /// Reserves up to `max` messages that can be received now and has them handed out. `None` when
    /// there are none: known at once, without a proposal.
    ///
    /// # Errors
    /// See [`ShardError`].
    pub fn claim(&self, spec: ReceiveSpec) -> Result<Option<Claim>, ShardError> {
        self.check_leader()?;
        if !self.pending.admit(1, 0) {
            return Err(ShardError::Overloaded);
        }
        let reserved = match self.core.reserve(self.group.state(), &spec) {
            Ok(Look::Found(reserved)) => reserved,
            Ok(Look::Nothing { .. }) => {
                self.pending.release(1, 0);
                return Ok(None);
            }
            Ok(Look::NotLeading) => {
                self.pending.release(1, 0);
                return Err(ShardError::NotLeader(None));
            }
            Err(error) => {
                self.pending.release(1, 0);
                self.group.fatal(format!("the state cannot be read: {error}"));
                return Err(ShardError::Unknown);
            }
        };
        failpoint!(LeaseReserved);
        let count = reserved.seqs.len();
        let (reply, answer) = oneshot::channel();
        let _ =
            self.requests.send(Request::Receive { spec, reserved, since: Instant::now(), reply });
        Ok(Some(Claim { count, answer }))
    }

    /// About how many messages of the queue can be received now, and from now on an alarm for the
    /// next one that becomes visible by time alone. `None` when this replica does not lead.
    pub fn arm(&self, queue: QueueId) -> Option<usize> {
        self.core.arm(queue)
    }

    /// Counts as of now; `None` when this replica does not lead.
    pub fn counts(&self, queue: QueueId) -> Option<QueueCounts> {
        self.check_leader().ok()?;
        Some(self.core.counts(queue))
    }

    /// The messages of a queue that wait for the end of their delay, in no particular order; none
    /// when this replica does not lead. Looks at every message that was received or delayed.
    pub fn delayed(&self, queue: QueueId) -> Vec<Seq> {
        self.check_leader().map_or_else(|_| Vec::new(), |()| self.core.delayed(queue))
    }

    /// What is left of the queue here; `None` when this replica does not lead.
    pub fn backlog(&self, queue: QueueId) -> Option<Backlog> {
        self.check_leader().ok()?;
        Some(self.core.backlog(queue))
    }

    /// Queues of which messages are in flight or delayed, or tenants' were lately, after one, in order; none
    /// when this replica does not lead. Looks at `limit` queues at most: those at rest cost nothing.
    pub fn busy_after(&self, after: Option<QueueId>, limit: usize) -> BusyPiece {
        self.check_leader()
            .map_or_else(|_| (Vec::new(), None), |()| self.core.busy_after(after, limit))
    }

    /// Messages of all queues; 0 when this replica does not lead.
    pub fn messages(&self) -> u64 {
        self.check_leader().map_or(0, |()| self.core.messages())
    }

    /// Says whose messages of a standard queue are handed out only when there are no others, until
    /// the next word or the end of this leadership.
    pub fn set_noisy(&self, queue: QueueId, groups: &[GroupKey]) {
        self.core.set_noisy(queue, groups);
    }

    /// Who uses a standard queue how much, naming those with more than a `part`-th of this shard's
    /// part of it, and those that are noisy. Looks at every tenant.
    pub fn tenants(&self, queue: QueueId, part: u64) -> ShardTenants {
        self.check_leader()
            .map_or_else(|_| ShardTenants::default(), |()| self.core.tenants(queue, part))
    }

    /// What the noisy tenants of a standard queue have here; `None` when there are none or when
    /// this replica does not lead. Looks at every message that was received or delayed.
    ///
    /// # Errors
    /// When the store fails.
    pub fn noise(&self, queue: QueueId) -> io::Result<Option<ShardNoise>> {
        self.core.noise(self.group.state(), queue)
    }

    /// Groups of a FIFO queue with messages in flight in this shard; 0 when this replica does not
    /// lead. Looks at every message that was received or delayed.
    pub fn groups_in_flight(&self, queue: QueueId) -> u64 {
        self.check_leader().map_or(0, |()| self.core.groups_in_flight(queue))
    }

    /// Up to `limit` groups of a FIFO queue that have messages in this shard, after one, in order.
    ///
    /// # Errors
    /// When the store fails.
    pub fn groups_after(
        &self,
        queue: QueueId,
        after: Option<GroupKey>,
        limit: usize,
    ) -> io::Result<Vec<GroupKey>> {
        self.group.state().groups_after(queue, after, limit)
    }

    /// Up to `limit` queues that have state in this shard, after one, in order.
    pub fn queues_after(&self, after: Option<QueueId>, limit: usize) -> Vec<QueueId> {
        self.core.queues_after(after, limit)
    }

    /// All messages that this replica has stored so far have places below.
    pub fn next_seq(&self) -> Seq {
        self.core.next_seq()
    }

    /// Since when the queue has the message in this shard that tells how old its backlog is; see
    /// [`flotilla_queue::machine::Machine::oldest_of_backlog`].
    ///
    /// # Errors
    /// When the store fails.
    pub fn oldest_entered_ms(&self, queue: QueueId) -> io::Result<Option<u64>> {
        self.core.oldest_entered_ms(self.group.state(), queue)
    }

    /// What this replica keeps in memory that does not follow from its rows; `None` when all of it
    /// does. For who looks from outside: reads everything.
    ///
    /// # Errors
    /// When the store fails.
    pub fn check(&self) -> io::Result<Option<String>> {
        self.core.check(self.group.state())
    }

    /// Whether the queue may have messages in this shard that are past its retention.
    ///
    /// # Errors
    /// When the store fails.
    pub fn may_expire(&self, queue: QueueId, retention_ms: u64) -> io::Result<bool> {
        self.core.may_expire(self.group.state(), queue, retention_ms)
    }
}

fn command_bytes(identified: &Identified) -> usize {
    match &identified.command {
        Command::Send(send) => send.content.len(),
        _ => 0,
    }
}

/// Messages that are being handed out. Dropping it before they were proposed gives them back.
pub struct Claim {
    count: usize,
    answer: oneshot::Receiver<Result<Vec<Lease>, ShardError>>,
}

impl Claim {
    /// How many were reserved; some may turn out to be gone.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The messages, once that is committed.
    ///
    /// # Errors
    /// After `Unknown` some messages may stay hidden until their timeout.
    pub async fn leases(self) -> Result<Vec<Lease>, ShardError> {
        self.answer.await.unwrap_or(Err(ShardError::Unknown))
    }
}

/// Candidates that nobody else gets until they are settled.
#[derive(Debug)]
pub(crate) struct Reserved {
    /// The window that they are from: a later one knows nothing of them.
    epoch: u64,
    seqs: Vec<Seq>,
    fresh_from: Seq,
    /// They are out already, and the window does not know of this.
    again: bool,
}
