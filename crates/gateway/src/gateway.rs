//! What all requests share.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use flotilla_cluster::api::Cluster;
use flotilla_cluster::room::Room;
use flotilla_types::limits;
use flotilla_types::names::AccountId;
use prometheus_client::registry::Registry;

use crate::bounds::Bounds;
use crate::metrics::Metrics;
use crate::receipt::Sealer;

/// How the service presents itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The account that owns all queues.
    pub account: AccountId,
    /// Region in ARNs.
    pub region: String,
    /// What queue URLs start with, e.g. `https://sqs.example.com`; without it the host that each
    /// client used, with scheme `http`.
    pub public_url: Option<String>,
    /// How long callers may take.
    pub timeouts: Timeouts,
    /// How much at a time.
    pub capacity: Capacity,
}

/// What is in work at a time at most; more is refused at once. [`Default`] is what there is room for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Connections of callers.
    pub connections: usize,
    /// Requests, waiting receives not counted.
    pub requests: usize,
    /// Bytes of request bodies in memory.
    pub request_bytes: usize,
}

impl Default for Capacity {
    fn default() -> Self {
        Self {
            connections: limits::CONNECTIONS_MAX,
            requests: limits::REQUESTS_IN_WORK_MAX,
            request_bytes: limits::REQUEST_BYTES_IN_WORK_MAX,
        }
    }
}

/// How long callers may take. [`Default`] is what they get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// To bring the head of a connection's next request, idle time included.
    pub head: Duration,
    /// To bring the body of a request.
    pub body: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { head: Duration::from_secs(75), body: Duration::from_secs(30) }
    }
}

/// The front end: shared by all connections of a node.
pub struct Gateway<C> {
    pub(crate) config: Config,
    pub(crate) cluster: Arc<C>,
    pub(crate) sealer: Sealer,
    pub(crate) metrics: Metrics,
    pub(crate) bounds: Bounds,
}

/// A long answer was not to be held.
pub(crate) struct NoRoom;

impl<C: Cluster> Gateway<C> {
    /// An answer as it waits to be written: it takes room until it is. What was received has taken its room
    /// before, and so may be written in any case; of all else only what changed nothing is refused.
    pub(crate) fn hold(
        &self,
        answer: Bytes,
        received: Option<Room>,
        is_read: bool,
    ) -> Result<Bytes, NoRoom> {
        if answer.len() <= limits::ANSWER_BYTES_UNCOUNTED_MAX {
            return Ok(answer);
        }
        if let Some(room) = received {
            return Ok(room.fill(answer));
        }
        let mut room = self.cluster.answers().room();
        if room.try_hold(answer.len()).is_err() && is_read {
            return Err(NoRoom);
        }
        Ok(room.fill(answer))
    }

    /// Before its metrics are read: those of queues that are gone need not be.
    pub fn forget_gone_queues(&self) {
        self.metrics.forget_gone(|id| self.cluster.has_queue(id));
    }

    /// Registers its metrics (prefix `sqs`) and takes the key of receipt handles from the cluster.
    pub fn new(mut config: Config, cluster: Arc<C>, registry: &mut Registry) -> Self {
        let registry = registry.sub_registry_with_prefix("sqs");
        if let Some(url) = &mut config.public_url {
            url.truncate(url.trim_end_matches('/').len());
        }
        let Capacity { requests, request_bytes, .. } = config.capacity;
        Self {
            config,
            sealer: Sealer::new(&cluster.handle_key()),
            cluster,
            metrics: Metrics::new(registry),
            bounds: Bounds::new(requests, request_bytes, registry),
        }
    }
}
