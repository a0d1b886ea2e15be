//! Keeps the right number of workers at a queue: as many as hold the backlog of each at what one can
//! work off within an acceptable latency.
//!
//! The rule: one instance may have a backlog of `acceptable latency / mean processing time`
//! messages; so many instances are wanted as bring the queue's backlog below that. With it the
//! queue's latency settles at the acceptable one whatever the load is, and the loop is stable as
//! long as reading, deciding and starting a worker together take less than that latency: a
//! backlog decays like `exp(-t / acceptable latency)`. The bare number of messages has neither property,
//! because it does not say how many instances there are to work on them.
//!
//! Start with [`Policy`] and [`Scaler::decide`], which is all of the deciding; then `slots` (which
//! process is started, ended, killed and restarted when), `controller` (the loop that reads,
//! decides and does), and what others are told: `metrics` for Prometheus, `keda` for Kubernetes.
//!
//! Invariants:
//! - Deciding is pure: the same observations at the same times give the same instances.
//! - Never fewer than the minimum, never more than the maximum, and never a change within the cooldown
//!   after the last one that the policy asks for; never more than half, rounded up, are ended at once.
//! - A queue that cannot be read changes nothing: not knowing is no reason to stop workers.
//! - Workers are asked to end (SIGTERM) and have a grace period to finish or release what they hold;
//!   a killed one's message comes back by its visibility timeout. Nothing here deletes messages.
//! - A worker is all that its command starts, its group of processes: it has ended when none is left.
//! - Every restart waits longer than the one before, unless the worker ran well meanwhile.
//! - Queues are only read, through SQS's API: any endpoint will do, AWS's too. Requests are signed with the
//!   key of the environment, if there is one.
//! - Nothing is said of instances that somebody else starts: they are not counted here.
//!
//! Deliberately not here: workers on other machines (KEDA has those), predictions. Workers of a controller
//! that is itself killed go on working; a supervisor that ends the whole group of processes (systemd does)
//! ends them.

mod args;
mod backlog;
mod controller;
mod keda;
mod mean;
mod metrics;
mod policy;
mod scaler;
mod slots;
mod statsd;
#[cfg(test)]
mod stub;
mod workers;

pub use args::{AutoscaleArgs, SettingsError};
pub use backlog::{Backlog, BacklogError, Count, QueueReader};
pub use controller::{Controller, StartError};
pub use keda::{ScalerService, listen as listen_for_keda};
pub use mean::MeanProcessing;
pub use metrics::{CONTENT_TYPE, Drive, Metrics};
pub use policy::{Policy, PolicyError};
pub use scaler::{Decision, Observed, Reason, Scaler};
pub use slots::{Order, SlotId, Slots, Supervision};
pub use workers::LiveWorkers;

/// Generated code. Field docs are in the `.proto` file.
#[allow(missing_docs, unreachable_pub, clippy::all)]
pub mod proto {
    tonic::include_proto!("externalscaler");
}
