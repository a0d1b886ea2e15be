//! Numbers for operators. Per queue under the names that CloudWatch has for them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use flotilla_cluster::api::{Queue, Sent};
use flotilla_types::ids::QueueId;
use flotilla_types::limits;
use flotilla_types::names::QueueName;
use parking_lot::RwLock;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use crate::action::ActionName;

/// Queues beyond the bound on series count together under this name, which no queue can have.
const OTHER_QUEUES: &str = "(other)";

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct QueueLabel {
    queue_name: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ActionLabel {
    action: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabel {
    action: &'static str,
    code: &'static str,
}

type PerQueue<M, F = fn() -> M> = Family<QueueLabel, M, F>;

/// The numbers of one queue; handles that are looked up once per request.
#[derive(Clone)]
pub(crate) struct QueueMetrics {
    sent: Counter,
    /// Of a standard queue: not registered, and stays zero.
    deduplicated: Counter,
    pub(crate) received: Counter,
    pub(crate) deleted: Counter,
    pub(crate) empty_receives: Counter,
    sent_bytes: Histogram,
}

impl QueueMetrics {
    /// Counts a send that succeeded.
    pub(crate) fn count_sent(&self, sent: &Sent, bytes: usize) {
        if sent.duplicate {
            self.deduplicated.inc();
        } else {
            self.sent.inc();
            self.sent_bytes.observe(bytes as f64);
        }
    }
}

/// The numbers that go under a name, and the newest queue of that name.
struct Named {
    queue: QueueId,
    metrics: Arc<QueueMetrics>,
}

/// All numbers of this crate but those of the bounds on work.
pub(crate) struct Metrics {
    sent: PerQueue<Counter>,
    deduplicated: PerQueue<Counter>,
    received: PerQueue<Counter>,
    deleted: PerQueue<Counter>,
    empty_receives: PerQueue<Counter>,
    sent_bytes: PerQueue<Histogram>,
    queues: RwLock<HashMap<QueueName, Named>>,
    requests: Family<ResultLabel, Counter>,
    /// By action; what `requests` holds under code `OK`.
    succeeded: Vec<Counter>,
    /// By action.
    seconds: Vec<Histogram>,
    /// Receives that did not wait, and those of them that found nothing: together the share of
    /// empty answers that asking a sample of the shards causes.
    pub(crate) short_polls: Counter,
    pub(crate) short_polls_empty: Counter,
}

impl Metrics {
    pub(crate) fn new(registry: &mut Registry) -> Self {
        let counters: fn() -> PerQueue<Counter> =
            || PerQueue::new_with_constructor(Counter::default as fn() -> Counter);
        let bytes: fn() -> Histogram = || Histogram::new(exponential_buckets(64.0, 4.0, 8));
        let seconds =
            Family::new_with_constructor(|| Histogram::new(exponential_buckets(0.000_25, 2.0, 18)));
        let requests = Family::<ResultLabel, Counter>::default();
        let actions = ActionName::ALL.iter().map(|action| action.as_str());
        let succeeded = actions
            .clone()
            .map(|action| requests.get_or_create(&ResultLabel { action, code: "OK" }).clone());
        let by_action =
            actions.map(|action| seconds.get_or_create(&ActionLabel { action }).clone());
        let metrics = Self {
            sent: counters(),
            deduplicated: counters(),
            received: counters(),
            deleted: counters(),
            empty_receives: counters(),
            sent_bytes: PerQueue::new_with_constructor(bytes),
            queues: RwLock::default(),
            succeeded: succeeded.collect(),
            seconds: by_action.collect(),
            requests,
            short_polls: Counter::default(),
            short_polls_empty: Counter::default(),
        };
        metrics.register(seconds, registry);
        metrics
    }

    fn register(
        &self,
        seconds: Family<
            ActionLabel,
            Histogram,
            impl Fn() -> Histogram + Clone + Send + Sync + 'static,
        >,
        registry: &mut Registry,
    ) {
        let per_queue = [
            ("NumberOfMessagesSent", "Messages added to the queue", &self.sent),
            (
                "NumberOfDeduplicatedSentMessages",
                "Messages sent to a FIFO queue that has another of their deduplication id",
                &self.deduplicated,
            ),
            ("NumberOfMessagesReceived", "Messages returned by receives", &self.received),
            ("NumberOfMessagesDeleted", "Messages deleted", &self.deleted),
            ("NumberOfEmptyReceives", "Receives that returned nothing", &self.empty_receives),
        ];
        for (name, help, family) in per_queue {
            registry.register(name, help, family.clone());
        }
        registry.register(
            "SentMessageSize",
            "Bytes of messages added to the queue",
            self.sent_bytes.clone(),
        );
        registry.register("requests", "Requests by action and code", self.requests.clone());
        registry.register("request_seconds", "Time from request to response", seconds);
        registry.register("short_polls", "Receives that did not wait", self.short_polls.clone());
        registry.register(
            "short_polls_empty",
            "Receives that did not wait and returned nothing",
            self.short_polls_empty.clone(),
        );
    }

    /// The numbers of a queue.
    pub(crate) fn queue(&self, queue: &Queue) -> Arc<QueueMetrics> {
        if let Some(known) = self.queues.read().get(&queue.name)
            && known.queue >= queue.id
        {
            return known.metrics.clone();
        }
        let mut queues = self.queues.write();
        if let Some(known) = queues.get_mut(&queue.name) {
            // The next queue of its name goes on with its numbers: counters must not fall.
            known.queue = known.queue.max(queue.id);
            return known.metrics.clone();
        }
        let full = queues.len() >= limits::QUEUE_SERIES_MAX;
        let name = if full { OTHER_QUEUES } else { queue.name.as_str() };
        let label = QueueLabel { queue_name: name.to_owned() };
        let deduplicated = match queue.attributes.fifo {
            Some(_) => self.deduplicated.get_or_create(&label).clone(),
            None => Counter::default(),
        };
        let metrics = Arc::new(QueueMetrics {
            sent: self.sent.get_or_create(&label).clone(),
            deduplicated,
            received: self.received.get_or_create(&label).clone(),
            deleted: self.deleted.get_or_create(&label).clone(),
            empty_receives: self.empty_receives.get_or_create(&label).clone(),
            sent_bytes: self.sent_bytes.get_or_create(&label).clone(),
        });
        if !full {
            let known = Named { queue: queue.id, metrics: metrics.clone() };
            queues.insert(queue.name.clone(), known);
        }
        metrics
    }

    /// Forgets queues that are gone, whoever deleted them.
    pub(crate) fn forget_gone(&self, is_there: impl Fn(QueueId) -> bool) {
        self.queues.write().retain(|name, known| {
            let stays = is_there(known.queue);
            if !stays {
                self.forget_numbers(name);
            }
            stays
        });
    }

    /// Forgets a deleted queue.
    pub(crate) fn forget(&self, queue: &Queue) {
        let mut queues = self.queues.write();
        if queues.get(&queue.name).is_some_and(|known| known.queue <= queue.id) {
            queues.remove(&queue.name);
            self.forget_numbers(&queue.name);
        }
    }

    fn forget_numbers(&self, name: &QueueName) {
        let label = QueueLabel { queue_name: name.to_string() };
        self.sent.remove(&label);
        self.deduplicated.remove(&label);
        self.received.remove(&label);
        self.deleted.remove(&label);
        self.empty_receives.remove(&label);
        self.sent_bytes.remove(&label);
    }

    /// Counts an answered request; `code` is `None` when it succeeded.
    pub(crate) fn answered(
        &self,
        action: Option<ActionName>,
        code: Option<&'static str>,
        took: Duration,
    ) {
        match (action, code) {
            (Some(action), None) => {
                self.succeeded[action as usize].inc();
            }
            (action, code) => {
                let action = action.map_or("(unknown)", ActionName::as_str);
                let code = code.unwrap_or("OK");
                self.requests.get_or_create(&ResultLabel { action, code }).inc();
            }
        }
        if let Some(action) = action {
            self.seconds[action as usize].observe(took.as_secs_f64());
        }
    }
}

#[cfg(test)]
mod tests {
    use flotilla_cluster::api::Placement;
    use flotilla_types::attributes::QueueAttributes;
    use prometheus_client::encoding::text::encode;

    use super::*;

    fn queue(id: u64, name: &str) -> Queue {
        Queue {
            id: QueueId(id),
            name: QueueName::new(name).unwrap(),
            placement: Placement::default(),
            attributes: QueueAttributes::default(),
            tags: Default::default(),
            created_s: 0,
            modified_s: 0,
        }
    }

    #[test]
    fn a_queue_that_is_gone_is_forgotten_and_one_that_came_back_goes_on() {
        let mut registry = Registry::default();
        let metrics = Metrics::new(&mut registry);
        for (id, name) in [(1, "gone"), (2, "back"), (3, "stays")] {
            metrics.queue(&queue(id, name)).received.inc();
        }
        metrics.queue(&queue(4, "back")).received.inc();
        metrics.forget_gone(|id| id.0 >= 3);
        let page = || {
            let mut text = String::new();
            encode(&mut text, &registry).unwrap();
            text
        };
        assert!(!page().contains("\"gone\""), "{}", page());
        let received = |name: &str, count: u64| {
            format!("NumberOfMessagesReceived_total{{queue_name=\"{name}\"}} {count}\n")
        };
        assert!(page().contains(&received("back", 2)), "{}", page());
        assert!(page().contains(&received("stays", 1)), "{}", page());
        metrics.queue(&queue(4, "back")).received.inc();
        assert!(page().contains(&received("back", 3)), "{}", page());
    }
}
