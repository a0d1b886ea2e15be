//! The queues of a run, and the kinds of work that they stand for.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde_json::json;

use crate::PATIENCE;
use crate::chaos::actor::Actor;

/// Short, so that leases end within a fault.
pub(super) const VISIBILITY_SECONDS: u64 = 4;
/// The longest that a message is hidden from when it was last touched: what clients ask for, or a
/// delay. (A task that moves messages of a FIFO queue hides them longer: the counts tell.)
pub(super) const HIDDEN_MAX: Duration = Duration::from_secs(6);
const RECEIVES_MAX: u32 = 3;

/// What clients do with a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Work {
    /// Sends, long polls and deletes of a standard queue.
    Standard,
    /// The same in groups of FIFO queues, in one line and in many.
    FifoGroups,
    /// Each send to a FIFO queue is repeated until it succeeds, and often once more.
    FifoRetry,
    /// Dead letters of both kinds of queues, and tasks that bring them back.
    DeadLetters,
    /// Delays, visibility timeouts that are changed, messages that are too old or too many in flight.
    Timers,
    /// Queues that are nearly always empty, under long and short polls.
    Polls,
    /// Queues that come and go, are purged and get other attributes.
    Admin,
    /// Everything in batches.
    Batches,
}

impl Work {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Standard,
        Self::FifoGroups,
        Self::FifoRetry,
        Self::DeadLetters,
        Self::Timers,
        Self::Polls,
        Self::Admin,
        Self::Batches,
    ];

    /// In a word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Standard => "standard",
            Self::FifoGroups => "fifo-groups",
            Self::FifoRetry => "fifo-retry",
            Self::DeadLetters => "dead-letters",
            Self::Timers => "timers",
            Self::Polls => "polls",
            Self::Admin => "admin",
            Self::Batches => "batches",
        }
    }

    /// What the queue of this name is for.
    pub(super) fn of(queue: &str) -> Self {
        match queue.split('-').next().unwrap_or_default() {
            "lines" | "lanes" | "held" => Self::FifoGroups,
            "retried" | "twins" | "echoes" => Self::FifoRetry,
            "flaky" | "dead" | "stumbling" | "fallen" | "wandering" | "parked" | "straying"
            | "strayed" => Self::DeadLetters,
            "timed" | "late" | "fleeting" | "hoarded" => Self::Timers,
            "waited" | "glanced" => Self::Polls,
            "purged" | "wiped" | "tuned" | BRIEF => Self::Admin,
            "cartons" => Self::Batches,
            _ => Self::Standard,
        }
    }
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A FIFO queue whose groups are spread over the shards.
pub(super) const HIGH_THROUGHPUT: [(&str, &str); 3] = [
    ("FifoQueue", "true"),
    ("DeduplicationScope", "messageGroup"),
    ("FifoThroughputLimit", "perMessageGroupId"),
];

/// How the names of queues begin that do not outlive a run's load.
pub(super) const BRIEF: &str = "brief";

/// Where a queue is.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) name: String,
    pub(super) url: String,
    pub(super) arn: String,
    pub(super) fifo: bool,
}

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Queues {
    /// What their names end with.
    pub(super) suffix: String,
    /// Standard.
    pub(super) orders: Place,
    /// FIFO, all groups in one line.
    pub(super) lines: Place,
    /// FIFO with high throughput.
    pub(super) lanes: Place,
    /// FIFO, for sends that are repeated.
    pub(super) retried: Place,
    /// Standard; what is received too often goes to `dead`.
    pub(super) flaky: Place,
    pub(super) dead: Place,
    /// The same in FIFO.
    pub(super) stumbling: Place,
    pub(super) fallen: Place,
    /// Standard; tasks move its dead letters from `parked` back.
    pub(super) wandering: Place,
    pub(super) parked: Place,
    /// The same in FIFO.
    pub(super) straying: Place,
    pub(super) strayed: Place,
    /// Standard, for delays and visibility timeouts.
    pub(super) timed: Place,
    /// Standard, nearly always empty.
    pub(super) waited: Place,
    /// Standard, purged in between.
    pub(super) purged: Place,
    /// Standard, with changing attributes.
    pub(super) tuned: Place,
    /// Standard, for batches.
    pub(super) cartons: Place,
}

impl Queues {
    /// Creates them, with names that end alike.
    ///
    /// # Panics
    /// When one cannot be created.
    pub(super) async fn create(actor: &mut Actor, suffix: &str) -> Self {
        let fifo = ("FifoQueue", "true");
        let name = |name: &str| format!("{name}-{suffix}");
        let fifo_name = |name: &str| format!("{name}-{suffix}.fifo");
        let redrive = |to: &Place| {
            let count = RECEIVES_MAX;
            json!({ "deadLetterTargetArn": to.arn, "maxReceiveCount": count }).to_string()
        };
        let dead = create(actor, name("dead"), &[]).await;
        let fallen = create(actor, fifo_name("fallen"), &[fifo]).await;
        let parked = create(actor, name("parked"), &[]).await;
        let strayed = create(actor, fifo_name("strayed"), &[fifo]).await;
        let [to_dead, to_fallen, to_parked, to_strayed] =
            [&dead, &fallen, &parked, &strayed].map(redrive);
        Self {
            suffix: suffix.to_owned(),
            orders: create(actor, name("orders"), &[]).await,
            lines: create(actor, fifo_name("lines"), &[fifo]).await,
            lanes: create(actor, fifo_name("lanes"), &HIGH_THROUGHPUT).await,
            retried: create(actor, fifo_name("retried"), &[fifo]).await,
            flaky: create(actor, name("flaky"), &[("RedrivePolicy", &to_dead)]).await,
            dead,
            stumbling: create(
                actor,
                fifo_name("stumbling"),
                &[fifo, ("RedrivePolicy", &to_fallen)],
            )
            .await,
            fallen,
            wandering: create(actor, name("wandering"), &[("RedrivePolicy", &to_parked)]).await,
            parked,
            straying: create(actor, fifo_name("straying"), &[fifo, ("RedrivePolicy", &to_strayed)])
                .await,
            strayed,
            timed: create(actor, name("timed"), &[]).await,
            waited: create(actor, name("waited"), &[]).await,
            purged: create(actor, name("purged"), &[]).await,
            tuned: create(actor, name("tuned"), &[]).await,
            cartons: create(actor, name("cartons"), &[]).await,
        }
    }

    pub(super) fn all(&self) -> [&Place; 17] {
        let Self { orders, lines, lanes, retried, flaky, dead, stumbling, fallen, .. } = self;
        let Self { wandering, parked, straying, strayed, timed, waited, .. } = self;
        let Self { purged, tuned, cartons, .. } = self;
        [
            orders, lines, lanes, retried, flaky, dead, stumbling, fallen, wandering, parked,
            straying, strayed, timed, waited, purged, tuned, cartons,
        ]
    }
}

/// The attributes that each queue of a run begins with, and these.
pub(super) fn attributes(special: &[(&str, &str)]) -> BTreeMap<String, String> {
    let visibility = VISIBILITY_SECONDS.to_string();
    let all = [("VisibilityTimeout", &*visibility)].into_iter().chain(special.iter().copied());
    all.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// Creates a queue, however often that fails.
///
/// # Panics
/// When it fails for long.
pub(super) async fn create(actor: &mut Actor, name: String, special: &[(&str, &str)]) -> Place {
    let attributes = attributes(special);
    let created = async {
        loop {
            if let Some(url) = actor.create(&name, &attributes).await {
                return url;
            }
        }
    };
    let url = tokio::time::timeout(PATIENCE, created).await.expect("a queue can be created");
    let mut place = Place { fifo: name.ends_with(".fifo"), name, url, arn: String::new() };
    let arn = async {
        loop {
            if let Some(attributes) = actor.attributes(&place).await {
                return attributes.get("QueueArn").expect("a queue has an ARN").clone();
            }
        }
    };
    place.arn = tokio::time::timeout(PATIENCE, arn).await.expect("a queue can be asked");
    place
}
