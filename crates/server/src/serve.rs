//! One node of a cluster, as its configuration says.

use std::sync::Arc;

use anyhow::Context as _;
use flotilla_cluster::node::NodeOptions;
use flotilla_storage::disk::Machine;
use flotilla_types::clock::SteadyClock;
use flotilla_types::ids::NodeId;

use crate::args::ServeArgs;
use crate::config::Config;
use crate::descriptors;
use crate::listen::Listeners;
use crate::lock::DirLock;
use crate::node_runner::{self, NodePlan};
use crate::shutdown;
use crate::telemetry;

/// Runs until the node has ended.
///
/// # Errors
/// When the configuration cannot be used or the node cannot start.
pub(crate) fn run(args: &ServeArgs) -> anyhow::Result<()> {
    let config = Config::load(&args.config)?;
    telemetry::start(config.log.format, &config.log.level)?;
    let _lock = DirLock::take(&config.data_dir)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let stop = shutdown::on_signals()?;
        let running = node_runner::spawn(plan(config)?, stop)?;
        running.ended.await.context("the node's thread is gone")?
    })
}

fn plan(config: Config) -> anyhow::Result<NodePlan> {
    let listeners = Listeners::bind(config.api_listen, config.peer_listen, config.admin_listen)?;
    tracing::info!(
        node = config.node_id,
        api = %config.api_listen,
        peer = %config.peer_listen,
        admin = %config.admin_listen,
        data = %config.data_dir.display(),
        version = env!("CARGO_PKG_VERSION"),
        "starting"
    );
    let (log, log_cuts) = (config.storage.log(), config.storage.log_cuts());
    let state = config.storage.state();
    let capacity = descriptors::capacity(1, descriptors::own(&log, &log_cuts, &state));
    let node = NodeOptions {
        id: NodeId(config.node_id),
        nodes: config.nodes(),
        token: config.token()?,
        shards: config.shards,
        sample: config.polling.sample,
        weights: config.polling.weights,
        log,
        log_cuts,
        state,
        free_bytes_min: config.storage.free_bytes_min,
        in_flight_max: config.polling.in_flight_max.get(),
        rests: config.queues.rests,
        dir: config.data_dir,
        disk: Arc::new(Machine),
        clock: Arc::new(SteadyClock::start()),
        on_fatal: shutdown::on_fatal(),
    };
    let gateway = flotilla_gateway::Config {
        account: config.account,
        region: config.region,
        public_url: config.public_url,
        timeouts: flotilla_gateway::Timeouts::default(),
        capacity,
    };
    Ok(NodePlan { node, gateway, listeners, threads: config.threads })
}
