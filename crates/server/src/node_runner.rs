//! What one node does from its start to its end, on a thread of its own.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use flotilla_cluster::api::Cluster as _;
use flotilla_cluster::node::{Node, NodeOptions};
use flotilla_gateway::{Config, Gateway};
use flotilla_transport::Tcp;
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;
use tokio::runtime::{self, Runtime};
use tokio::sync::{oneshot, watch};
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::admin::{self, Admin};
use crate::listen::Listeners;

/// How long begun requests may take to end once the process is asked to.
const DRAIN: Duration = Duration::from_secs(10);
/// How long what is left may block the end of a runtime.
const RUNTIME_END: Duration = Duration::from_secs(2);
/// Between two looks at whether the node can serve.
const READY_LOOK: Duration = Duration::from_millis(50);

/// What a node is made of, whoever decided it.
pub(crate) struct NodePlan {
    pub(crate) node: NodeOptions,
    pub(crate) gateway: Config,
    pub(crate) listeners: Listeners,
    /// Of the runtime.
    pub(crate) threads: NonZeroUsize,
}

/// A node on its way.
pub(crate) struct Running {
    /// Answers once the node can serve every queue; never if it ends before.
    pub(crate) ready: oneshot::Receiver<()>,
    /// Answers once the node has ended; its stores are closed by then.
    pub(crate) ended: oneshot::Receiver<anyhow::Result<()>>,
}

/// Starts a node on its own thread. It ends when `stop` turns true.
///
/// # Errors
/// When there is no thread or runtime for it.
pub(crate) fn spawn(plan: NodePlan, stop: watch::Receiver<bool>) -> anyhow::Result<Running> {
    let id = plan.node.id;
    let name = format!("node-{id}");
    let runtime = runtime(plan.threads, &name).context("no runtime")?;
    let (tell_ready, ready) = oneshot::channel();
    let (tell_ended, ended) = oneshot::channel();
    let body = move || {
        let result = runtime.block_on(Box::pin(run(plan, stop, tell_ready)));
        runtime.shutdown_timeout(RUNTIME_END);
        // Nobody waits when the process ends for another reason.
        let _ = tell_ended.send(result.with_context(|| format!("node {id}")));
    };
    thread::Builder::new().name(name).spawn(body).context("no thread")?;
    Ok(Running { ready, ended })
}

/// One thread unless more are asked for: on a small machine every hop between threads costs more
/// than a second thread brings.
fn runtime(threads: NonZeroUsize, name: &str) -> std::io::Result<Runtime> {
    let mut builder = match threads.get() {
        1 => runtime::Builder::new_current_thread(),
        more => {
            let mut builder = runtime::Builder::new_multi_thread();
            builder.worker_threads(more);
            builder
        }
    };
    builder.thread_name(name).enable_all().build()
}

async fn run(
    plan: NodePlan,
    mut stop: watch::Receiver<bool>,
    tell_ready: oneshot::Sender<()>,
) -> anyhow::Result<()> {
    let NodePlan { node, gateway, listeners, .. } = plan;
    let peer = TcpListener::from_std(listeners.peer)?;
    let admin_port = TcpListener::from_std(listeners.admin)?;
    let api = TcpListener::from_std(listeners.api)?;

    let node = Node::start(node, Tcp, peer).context("the node cannot start")?;
    let admin = Arc::new(Admin::new(node.clone(), stop.clone()));
    // It goes on until the runtime ends, so that an ending node can be watched.
    tokio::spawn(admin::serve(admin.clone(), admin_port));

    let knows_queues = tokio::select! {
        () = node.caught_up() => true,
        _ = stop.wait_for(|stop| *stop) => false,
    };
    if knows_queues {
        let mut registry = Registry::with_prefix(crate::metrics::PREFIX);
        let gateway = Arc::new(Gateway::new(gateway, node.clone(), &mut registry));
        let of_metrics = gateway.clone();
        admin.add_gateway(registry, Box::new(move || of_metrics.forget_gone_queues()));
        let requests = tokio::spawn(flotilla_gateway::serve(gateway, api, stop.clone()));
        let ready = tokio::select! {
            () = until_ready(&node) => true,
            _ = stop.wait_for(|stop| *stop) => false,
        };
        if ready {
            tracing::info!("ready");
            // Whoever started this node may not care.
            let _ = tell_ready.send(());
        }
        let _ = stop.wait_for(|stop| *stop).await;
        node.end_polls();
        if timeout(DRAIN, requests).await.is_err() {
            tracing::warn!("requests were still in work after {} s", DRAIN.as_secs());
        }
    }
    node.shutdown().await;
    tracing::info!("ended");
    Ok(())
}

async fn until_ready(node: &Node) {
    let mut looks = interval(READY_LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !node.ready() {
        looks.tick().await;
    }
}
