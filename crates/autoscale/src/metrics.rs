//! What Prometheus is told.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::backlog::Backlog;
use crate::scaler::Decision;

/// Of the page.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

type Number = Gauge<f64, AtomicU64>;
type Reasons = Family<[(&'static str, &'static str); 1], Counter>;

/// All metrics of a controller.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    visible: Number,
    in_flight: Number,
    per_instance: Number,
    acceptable: Number,
    mean_processing: Number,
    desired: Number,
    running: Number,
    stopping: Number,
    decisions: Reasons,
    pub(crate) crashes: Counter,
    pub(crate) kills: Counter,
    pub(crate) read_failures: Counter,
}

impl Metrics {
    /// Of the controller of this queue.
    pub fn new(queue: &str) -> Self {
        let labels = [("queue".into(), queue.to_owned().into())];
        let mut registry =
            Registry::with_prefix_and_labels("flotilla_autoscale", labels.into_iter());
        let mut number = |name: &str, help: &str| {
            let number = Number::default();
            registry.register(name, help, number.clone());
            number
        };
        let visible =
            number("visible_messages", "Messages that wait; NaN while the queue cannot be read");
        let in_flight = number("in_flight_messages", "Messages that are being worked on");
        let per_instance =
            number("backlog_per_instance", "Messages that count, per running instance");
        let acceptable = number("acceptable_backlog_per_instance", "The target of the one before");
        let mean_processing =
            number("mean_processing_seconds", "Time that an instance takes for a message");
        let desired = number("desired_instances", "Instances as decided");
        let running = number("running_instances", "Instances that run");
        let stopping = number("stopping_instances", "Instances that were asked to end");
        let decisions = Reasons::default();
        registry.register("decisions", "Decisions by their reasons", decisions.clone());
        let mut counter = |name: &str, help: &str| {
            let counter = Counter::default();
            registry.register(name, help, counter.clone());
            counter
        };
        let crashes = counter("crashes", "Instances that ended without being asked to");
        let kills = counter("kills", "Instances that did not end in time when asked to");
        let read_failures = counter("read_failures", "Times that the queue could not be read");
        Self {
            registry,
            visible,
            in_flight,
            per_instance,
            acceptable,
            mean_processing,
            desired,
            running,
            stopping,
            decisions,
            crashes,
            kills,
            read_failures,
        }
    }

    /// The page.
    ///
    /// # Errors
    /// None that is known: memory takes all that is written.
    pub fn text(&self) -> Result<String, std::fmt::Error> {
        let mut page = String::new();
        text::encode(&mut page, &self.registry)?;
        Ok(page)
    }

    pub(crate) fn read(&self, backlog: Option<Backlog>) {
        // A stale number would look like a queue that stands still.
        let [visible, in_flight] = backlog
            .map_or([f64::NAN; 2], |backlog| [backlog.visible as f64, backlog.in_flight as f64]);
        self.visible.set(visible);
        self.in_flight.set(in_flight);
    }

    pub(crate) fn decided(
        &self,
        decision: Decision,
        messages: Option<u64>,
        acceptable: f64,
        mean_processing: Duration,
    ) {
        self.desired.set(f64::from(decision.instances));
        self.acceptable.set(acceptable);
        self.mean_processing.set(mean_processing.as_secs_f64());
        // Before anything runs, what is there waits for the first.
        let instances = self.running.get().max(1.0);
        self.per_instance.set(messages.map_or(f64::NAN, |messages| messages as f64 / instances));
        self.decisions.get_or_create(&[("reason", decision.reason.word())]).inc();
    }

    pub(crate) fn workers(&self, running: usize, stopping: usize) {
        self.running.set(running as f64);
        self.stopping.set(stopping as f64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scaler::Reason;

    #[test]
    fn the_page_has_what_was_last_seen() {
        let metrics = Metrics::new("jobs");
        metrics.workers(2, 1);
        metrics.read(Some(Backlog { visible: 90, in_flight: 10 }));
        let decision = Decision { instances: 2, reason: Reason::WithinTolerance };
        metrics.decided(decision, Some(100), 40.0, Duration::from_millis(50));
        let page = metrics.text().unwrap();
        for line in [
            "flotilla_autoscale_visible_messages{queue=\"jobs\"} 90.0",
            "flotilla_autoscale_backlog_per_instance{queue=\"jobs\"} 50.0",
            "flotilla_autoscale_acceptable_backlog_per_instance{queue=\"jobs\"} 40.0",
            "flotilla_autoscale_mean_processing_seconds{queue=\"jobs\"} 0.05",
            "flotilla_autoscale_running_instances{queue=\"jobs\"} 2.0",
            "flotilla_autoscale_stopping_instances{queue=\"jobs\"} 1.0",
            "flotilla_autoscale_decisions_total{queue=\"jobs\",reason=\"within-tolerance\"} 1",
        ] {
            assert!(page.contains(line), "{line} is missing in\n{page}");
        }
        metrics.read(None);
        assert!(metrics.text().unwrap().contains("visible_messages{queue=\"jobs\"} NaN"));
    }
}
