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

/// Who starts the workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drive {
    /// This controller; or nobody, and it says what it would do.
    Here,
    /// Somebody else, whose instances are not known here.
    Elsewhere,
}

type Number = Gauge<f64, AtomicU64>;
type Reasons = Family<[(&'static str, &'static str); 1], Counter>;

/// All metrics of a controller.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    visible: Number,
    in_flight: Number,
    backlog_s: Number,
    acceptable: Number,
    mean_processing: Number,
    pub(crate) read_failures: Counter,
    pub(crate) instances: Instances,
}

/// What is known of instances that are started here.
#[derive(Debug, Default)]
pub(crate) struct Instances {
    backlog: Number,
    desired: Number,
    running: Number,
    stopping: Number,
    decisions: Reasons,
    pub(crate) crashes: Counter,
    pub(crate) kills: Counter,
}

impl Metrics {
    /// Of the controller of this queue.
    pub fn new(queue: &str, drive: Drive) -> Self {
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
        let backlog_s = number(
            "backlog_seconds",
            "Time that one instance would need for the messages that count; what KEDA is told",
        );
        let acceptable =
            number("acceptable_backlog_per_instance", "Messages that an instance may have");
        let mean_processing =
            number("mean_processing_seconds", "Time that an instance takes for a message");
        let read_failures = Counter::default();
        let help = "Times that the queue could not be read";
        registry.register("read_failures", help, read_failures.clone());
        let instances = Instances::default();
        // Numbers of instances that nobody has counted would be read as if somebody had.
        if drive == Drive::Here {
            instances.register(&mut registry);
        }
        Self {
            registry,
            visible,
            in_flight,
            backlog_s,
            acceptable,
            mean_processing,
            read_failures,
            instances,
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

    /// What the queue's messages mean for whoever works on them.
    pub(crate) fn backlog(&self, seconds: f64, acceptable: f64, mean_processing: Duration) {
        self.backlog_s.set(seconds);
        self.acceptable.set(acceptable);
        self.mean_processing.set(mean_processing.as_secs_f64());
    }
}

impl Instances {
    fn register(&self, registry: &mut Registry) {
        for (name, help, number) in [
            ("backlog_per_instance", "Messages that count, per running instance", &self.backlog),
            ("desired_instances", "Instances as decided", &self.desired),
            ("running_instances", "Instances that run", &self.running),
            ("stopping_instances", "Instances that were asked to end", &self.stopping),
        ] {
            registry.register(name, help, number.clone());
        }
        registry.register("decisions", "Decisions by their reasons", self.decisions.clone());
        for (name, help, counter) in [
            ("crashes", "Instances that ended without being asked to", &self.crashes),
            ("kills", "Instances that did not end in time when asked to", &self.kills),
        ] {
            registry.register(name, help, counter.clone());
        }
    }

    pub(crate) fn decided(&self, decision: Decision, messages: Option<u64>) {
        self.desired.set(f64::from(decision.instances));
        // Before anything runs, what is there waits for the first.
        let instances = self.running.get().max(1.0);
        self.backlog.set(messages.map_or(f64::NAN, |messages| messages as f64 / instances));
        self.decisions.get_or_create(&[("reason", decision.reason.word())]).inc();
    }

    pub(crate) fn count(&self, running: usize, stopping: usize) {
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
        let metrics = Metrics::new("jobs", Drive::Here);
        metrics.instances.count(2, 1);
        metrics.read(Some(Backlog { visible: 90, in_flight: 10 }));
        metrics.backlog(5.0, 40.0, Duration::from_millis(50));
        let decision = Decision { instances: 2, reason: Reason::WithinTolerance };
        metrics.instances.decided(decision, Some(100));
        let page = metrics.text().unwrap();
        for line in [
            "flotilla_autoscale_visible_messages{queue=\"jobs\"} 90.0",
            "flotilla_autoscale_backlog_per_instance{queue=\"jobs\"} 50.0",
            "flotilla_autoscale_acceptable_backlog_per_instance{queue=\"jobs\"} 40.0",
            "flotilla_autoscale_backlog_seconds{queue=\"jobs\"} 5.0",
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

    #[test]
    fn what_is_not_known_here_is_not_on_the_page() {
        let page = Metrics::new("jobs", Drive::Elsewhere).text().unwrap();
        let own = [
            "backlog_per_instance",
            "desired",
            "running",
            "stopping",
            "decisions",
            "crashes",
            "kills",
        ];
        for name in own {
            assert!(!page.contains(&format!("flotilla_autoscale_{name}")), "{name} in\n{page}");
        }
        for name in ["backlog_seconds", "acceptable_backlog_per_instance", "visible_messages"] {
            assert!(
                page.contains(&format!("flotilla_autoscale_{name}{{queue=\"jobs\"}}")),
                "{page}"
            );
        }
    }
}
