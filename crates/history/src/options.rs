//! What the checker is told: bounds of time, choices of the service, and what a run must have seen.

use serde::{Deserialize, Serialize};

use crate::invariant::Invariant;

const MS: u64 = 1_000;
const SECOND: u64 = 1_000 * MS;

/// How exact times are, and how long what must happen may take. In microseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Bounds {
    /// `e`: how far a server's timer may be from the harness's clock over the times in question, and
    /// its wall clock from the harness's wall clock. 0 in a simulator.
    pub clock_us: u64,
    /// `L`: whatever must happen after a fault is healed happens within this.
    pub liveness_us: u64,
    /// A long poll answers by its wait plus this.
    pub poll_slack_us: u64,
    /// A message must not be visible for longer than this while a long poll that ends empty waits.
    pub wakeup_us: u64,
    /// The same when a fault fell into the poll or was healed less than `liveness_us` before: who
    /// leads a shard may have to be found out again.
    pub wakeup_faulty_us: u64,
    /// How old counts may be.
    pub counts_us: u64,
    /// How long after its retention a message may still be delivered.
    pub retention_slack_us: u64,
    /// How long after a queue's deletion or creation another node may not know of it. A node that
    /// a fault is about while a queue is deleted, or was until less than `liveness_us` before, may not
    /// know of that until `liveness_us` after its fault is healed. SQS takes a minute with any deletion.
    pub queue_slack_us: u64,
    /// A receive whose client gave up, or that says that it may have hidden more than it brings, takes
    /// effect within this after that, or never; with a fault in it or not long before, within this
    /// after all was well again. Every other request of unknown outcome is open for ever.
    pub settle_us: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            clock_us: 500 * MS,
            liveness_us: 10 * SECOND,
            poll_slack_us: 5 * SECOND,
            wakeup_us: 100 * MS,
            wakeup_faulty_us: SECOND,
            counts_us: 5 * SECOND,
            retention_slack_us: 0,
            queue_slack_us: 0,
            settle_us: 5 * SECOND,
        }
    }
}

impl Bounds {
    /// For a simulator: its one clock is everybody's clock.
    pub fn exact() -> Self {
        Self { clock_us: 0, ..Self::default() }
    }
}

/// What a handle does after a newer receive of its message, in standard queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OldHandles {
    /// As much as the newest.
    Act,
    /// Nothing.
    AreIgnored,
    /// This or that: SQS itself.
    Undefined,
}

/// Where SQS leaves a choice: what the service under test promises.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Promises {
    /// See [`OldHandles`].
    pub old_handles: OldHandles,
    /// A new `DelaySeconds` of a FIFO queue is for waiting messages too.
    pub fifo_delay_retroactive: bool,
    /// Tasks move the messages of FIFO queues by receiving, sending and deleting them, and hide each for
    /// so long meanwhile. One that a fault interrupts in between leaves the message where it was, too: it
    /// comes again after this. `None`: by one step.
    pub fifo_moves_hide_us: Option<u64>,
    /// So many short polls of one client, one after the other, see everything. `None`: short
    /// polls are samples.
    pub short_polls_for_all: Option<u32>,
    /// Most messages of a queue in flight.
    pub in_flight_max: Option<u64>,
    /// By how many the service may be wrong there, either way.
    pub in_flight_slack: u64,
    /// And it may go by what was so long ago.
    pub in_flight_stale_us: u64,
    /// A purge forgets deduplication ids, as a deletion of the queue does.
    pub purge_forgets_ids: bool,
    /// Clients ask for all of a message's attributes: one that is missing is not one that nobody asked for.
    pub tells_all: bool,
    /// Messages that went to a FIFO dead-letter queue have their message id as deduplication id.
    pub dead_letter_dedup_is_message_id: bool,
}

impl Default for Promises {
    fn default() -> Self {
        Self {
            old_handles: OldHandles::Act,
            fifo_delay_retroactive: false,
            fifo_moves_hide_us: None,
            short_polls_for_all: None,
            in_flight_max: Some(120_000),
            in_flight_slack: 0,
            in_flight_stale_us: 0,
            purge_forgets_ids: true,
            tells_all: false,
            dead_letter_dedup_is_message_id: true,
        }
    }
}

/// What a run must have seen; otherwise nothing is proven and the verdict is *unknown*.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Expect {
    /// Each of these must have examined something.
    pub invariants: Vec<Invariant>,
    /// The same of these when the run took at least so long, in microseconds: what cannot happen sooner.
    pub later: Vec<(Invariant, u64)>,
    /// Acknowledged sends.
    pub sends_min: u64,
    /// Deliveries.
    pub deliveries_min: u64,
    /// Names of faults; each must have fired and be healed.
    pub faults: Vec<String>,
    /// So many times; 0 is as good as 1.
    pub fault_times_min: u64,
    /// A time counts only if so many requests were under way, began or ended while the fault was
    /// there: what nobody looked at proves nothing.
    pub fault_requests_min: u64,
    /// The run is without a drain: nobody can say what was lost, and that is no fault.
    pub no_drain: bool,
}

/// Everything that a check is told beyond the records.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Options {
    /// Times.
    pub bounds: Bounds,
    /// Choices.
    pub promises: Promises,
    /// What must have been seen.
    pub expect: Expect,
}
