//! The queues of a run.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;

use crate::PATIENCE;
use crate::chaos::actor::Actor;

/// Short, so that leases end within a fault.
pub(super) const VISIBILITY_SECONDS: u64 = 4;
/// The longest that a message is hidden from when it was last touched: what clients ask for, or a
/// delay.
pub(super) const HIDDEN_MAX: Duration = Duration::from_secs(6);
const RECEIVES_MAX: u32 = 3;

/// Where a queue is.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) name: String,
    pub(super) url: String,
    pub(super) fifo: bool,
}

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Queues {
    /// Standard.
    pub(super) orders: Place,
    /// FIFO, all groups in one line.
    pub(super) lines: Place,
    /// FIFO with high throughput.
    pub(super) lanes: Place,
    /// Standard; what is received too often goes to `dead`.
    pub(super) flaky: Place,
    pub(super) dead: Place,
    /// Standard, purged in between.
    pub(super) purged: Place,
}

impl Queues {
    /// Creates them, with names that end alike.
    ///
    /// # Panics
    /// When one cannot be created.
    pub(super) async fn create(actor: &mut Actor, suffix: &str) -> Self {
        let fifo = [("FifoQueue", "true")];
        let lanes = [
            ("FifoQueue", "true"),
            ("DeduplicationScope", "messageGroup"),
            ("FifoThroughputLimit", "perMessageGroupId"),
        ];
        let dead = create(actor, format!("dead-{suffix}"), &[]).await;
        let attributes = actor.attributes(&dead).await.unwrap_or_default();
        let arn = attributes.get("QueueArn").expect("a queue has an ARN");
        let redrive = json!({ "deadLetterTargetArn": arn, "maxReceiveCount": RECEIVES_MAX });
        let redrive = redrive.to_string();
        Self {
            orders: create(actor, format!("orders-{suffix}"), &[]).await,
            lines: create(actor, format!("lines-{suffix}.fifo"), &fifo).await,
            lanes: create(actor, format!("lanes-{suffix}.fifo"), &lanes).await,
            flaky: create(actor, format!("flaky-{suffix}"), &[("RedrivePolicy", &redrive)]).await,
            dead,
            purged: create(actor, format!("purged-{suffix}"), &[]).await,
        }
    }

    pub(super) fn all(&self) -> [&Place; 6] {
        [&self.orders, &self.lines, &self.lanes, &self.flaky, &self.dead, &self.purged]
    }
}

async fn create(actor: &mut Actor, name: String, special: &[(&str, &str)]) -> Place {
    let mut attributes: BTreeMap<String, String> = BTreeMap::new();
    attributes.insert("VisibilityTimeout".to_owned(), VISIBILITY_SECONDS.to_string());
    for (name, value) in special {
        attributes.insert((*name).to_owned(), (*value).to_owned());
    }
    let created = async {
        loop {
            if let Some(url) = actor.create(&name, &attributes).await {
                return url;
            }
        }
    };
    let url = tokio::time::timeout(PATIENCE, created).await.expect("a queue can be created");
    Place { fifo: name.ends_with(".fifo"), name, url }
}
