//! The admin port: what operators and their machines ask a node.
//!
//! - `/health`: 200 while the process answers at all; anything a node cannot survive ends it.
//! - `/ready`: 200 when every queue can be served through this node, else 503 and why.
//! - `/metrics`: numbers for Prometheus.
//! - `/status`: the replicas of this node as JSON, for humans.
//! - `/digest`: what they hold, as a checksum each. Reads everything; one at a time.

use std::sync::{Arc, OnceLock};

use flotilla_cluster::api::Cluster as _;
use flotilla_cluster::node::Node;
use hyper::StatusCode;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::sync::{Mutex, watch};

use crate::http::{self, Page};
use crate::metrics;
use crate::status;

/// The front end's numbers, and what is to be done before they are read.
struct GatewayMetrics {
    registry: Registry,
    prepare: Box<dyn Fn() + Send + Sync>,
}

/// What the pages are made from.
pub(crate) struct Admin {
    node: Arc<Node>,
    own: Registry,
    gateway: OnceLock<GatewayMetrics>,
    stop: watch::Receiver<bool>,
    /// Held while everything is read.
    reading: Mutex<()>,
    /// Held while queues are counted.
    counting: Arc<Mutex<()>>,
}

impl Admin {
    /// For a node that ends once `stop` turns true.
    pub(crate) fn new(node: Arc<Node>, stop: watch::Receiver<bool>) -> Self {
        let own = metrics::registry(node.clone());
        let (gateway, reading, counting) = (OnceLock::new(), Mutex::new(()), Arc::default());
        Self { own, node, gateway, stop, reading, counting }
    }

    /// The front end's metrics, which exist only once the node is part of a cluster.
    pub(crate) fn add_gateway(&self, registry: Registry, prepare: Box<dyn Fn() + Send + Sync>) {
        // A node has one front end.
        let _ = self.gateway.set(GatewayMetrics { registry, prepare });
    }

    async fn page(&self, path: &str) -> Page {
        match path {
            "/health" => Page::text(StatusCode::OK, "ok\n"),
            "/ready" => self.ready(),
            "/status" => Page {
                status: StatusCode::OK,
                content_type: "application/json",
                text: status::json(&self.node.cluster(), self.node.ready(), &self.node.status()),
            },
            "/digest" => self.digest().await,
            _ if flotilla_probe::ENABLED && path.starts_with("/probes") => probes(path),
            _ => Page::text(StatusCode::NOT_FOUND, "/health /ready /metrics /status /digest\n"),
        }
    }

    fn ready(&self) -> Page {
        if *self.stop.borrow() {
            return Page::text(StatusCode::SERVICE_UNAVAILABLE, "this node is ending\n");
        }
        if self.node.ready() {
            return Page::text(StatusCode::OK, "ready\n");
        }
        let why = status::why_not_ready(&self.node.cluster(), &self.node.status());
        Page::text(StatusCode::SERVICE_UNAVAILABLE, why)
    }

    async fn digest(&self) -> Page {
        let Ok(_reading) = self.reading.try_lock() else {
            return Page::text(StatusCode::SERVICE_UNAVAILABLE, "somebody else has just asked\n");
        };
        match self.node.digests().await {
            Ok(digests) => Page {
                status: StatusCode::OK,
                content_type: "application/json",
                text: status::digests(&digests),
            },
            Err(error) => Page::text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
        }
    }

    fn metrics(&self) -> Page {
        let gateway = self.gateway.get();
        if let Some(gateway) = gateway {
            (gateway.prepare)();
        }
        let gateway = gateway.map(|gateway| &gateway.registry);
        match metrics::text([Some(&self.own), gateway].into_iter().flatten()) {
            Ok(text) => Page { status: StatusCode::OK, content_type: metrics::CONTENT_TYPE, text },
            Err(error) => Page::text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
        }
    }
}

/// Test builds only: what was reached; `/probes/ORDERS` tells failpoints what to do.
fn probes(path: &str) -> Page {
    let orders = path.trim_start_matches("/probes").trim_start_matches('/');
    match flotilla_probe::set(orders) {
        Ok(()) => Page {
            status: StatusCode::OK,
            content_type: "application/json",
            text: flotilla_probe::report(),
        },
        Err(error) => Page::text(StatusCode::BAD_REQUEST, format!("{error}\n")),
    }
}

/// Answers on the listener until it is dropped.
pub(crate) async fn serve(admin: Arc<Admin>, listener: TcpListener) {
    let page = move |path: String| {
        let admin = admin.clone();
        async move {
            match path.as_str() {
                "/metrics" => {
                    // Of those who gave up waiting one is still at work: they must not pile up.
                    let counting = admin.counting.clone().lock_owned().await;
                    let page = move || (admin.metrics(), drop(counting)).0;
                    http::off_thread(page).await
                }
                path => admin.page(path).await,
            }
        }
    };
    http::serve(listener, page).await;
}
