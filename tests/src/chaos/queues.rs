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
    pub(super) arn: String,
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
    /// The same in FIFO.
    pub(super) stumbling: Place,
    pub(super) fallen: Place,
    /// Standard; tasks move its dead letters from `parked` back.
    pub(super) wandering: Place,
    pub(super) parked: Place,
    /// Standard, purged in between.
    pub(super) purged: Place,
}

impl Queues {
    /// Creates them, with names that end alike.
    ///
    /// # Panics
    /// When one cannot be created.
    pub(super) async fn create(actor: &mut Actor, suffix: &str) -> Self {
        let fifo = ("FifoQueue", "true");
        let lanes = [
            fifo,
            ("DeduplicationScope", "messageGroup"),
            ("FifoThroughputLimit", "perMessageGroupId"),
        ];
        let name = |name: &str| format!("{name}-{suffix}");
        let fifo_name = |name: &str| format!("{name}-{suffix}.fifo");
        let redrive = |to: &Place| {
            let count = RECEIVES_MAX;
            json!({ "deadLetterTargetArn": to.arn, "maxReceiveCount": count }).to_string()
        };
        let dead = create(actor, name("dead"), &[]).await;
        let fallen = create(actor, fifo_name("fallen"), &[fifo]).await;
        let parked = create(actor, name("parked"), &[]).await;
        let to_dead = redrive(&dead);
        let to_fallen = redrive(&fallen);
        let to_parked = redrive(&parked);
        Self {
            orders: create(actor, name("orders"), &[]).await,
            lines: create(actor, fifo_name("lines"), &[fifo]).await,
            lanes: create(actor, fifo_name("lanes"), &lanes).await,
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
            purged: create(actor, name("purged"), &[]).await,
        }
    }

    pub(super) fn all(&self) -> [&Place; 10] {
        let Self { orders, lines, lanes, flaky, dead, stumbling, fallen, .. } = self;
        let Self { wandering, parked, purged, .. } = self;
        [orders, lines, lanes, flaky, dead, stumbling, fallen, wandering, parked, purged]
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
