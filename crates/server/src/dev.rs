//! A cluster of three nodes in one process.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use flotilla_cluster::node::{KeepLog, LogCuts, NodeOptions};
use flotilla_storage::disk::Machine;
use flotilla_storage::log::LogOptions;
use flotilla_storage::state::StateOptions;
use flotilla_types::clock::SteadyClock;
use flotilla_types::ids::NodeId;
use flotilla_types::limits;
use tempfile::TempDir;
use tokio::sync::{oneshot, watch};

use crate::args::DevArgs;
use crate::descriptors;
use crate::listen::Listeners;
use crate::lock::DirLock;
use crate::node_runner::{self, NodePlan};
use crate::out;
use crate::shutdown;
use crate::telemetry::{self, Format};

const NODES: u64 = 3;
/// Peers that end one after the other, and the library's words about it, are no news here.
const LOG_LEVEL: &str = "warn,flotilla_transport=error,openraft=error";
/// Smaller than those of `serve`: three nodes share one machine's memory and disk.
const LOG: LogOptions =
    LogOptions { segment_bytes: 8 << 20, segments_max: 8, cache_bytes: 16 << 20 };
const KEEP_LOG_BYTES: u64 = 128 << 20;
const WRITE_BUFFER_BYTES: usize = 32 << 20;
const BLOCK_CACHE_BYTES: usize = 32 << 20;
/// The directory may be in memory, where there is less room.
const FREE_BYTES_MIN: u64 = 256 << 20;

/// Runs until all nodes have ended.
///
/// # Errors
/// When the directory or a port is in use, or a node cannot start or has failed.
pub(crate) fn run(args: DevArgs) -> anyhow::Result<()> {
    telemetry::start(Format::Text, LOG_LEVEL)?;
    let dir = DataDir::open(args.data.clone())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(run_in(args, &dir))
}

async fn run_in(args: DevArgs, dir: &DataDir) -> anyhow::Result<()> {
    let mut stop = shutdown::on_signals()?;
    let listeners: Vec<Listeners> =
        (1..=NODES).map(|id| bind(&args, id)).collect::<Result<_, _>>()?;
    let welcome = welcome(&args, dir, &listeners)?;
    let (one_ended, mut any_ended) = watch::channel(false);
    let mut nodes = Vec::new();
    let mut ready = Vec::new();
    for plan in plans(args, dir.path(), listeners)? {
        let (end, ending) = watch::channel(false);
        let running = node_runner::spawn(plan, ending)?;
        ready.push(running.ready);
        let one_ended = one_ended.clone();
        let ended = tokio::spawn(async move {
            let ended = running.ended.await.context("the thread of a node is gone");
            one_ended.send_replace(true);
            ended?
        });
        nodes.push((end, ended));
    }
    let announced = tokio::spawn(announce(ready, welcome));
    // A cluster that lacks a node is not what was asked for: one that ends takes all with it.
    tokio::select! {
        _ = stop.wait_for(|stop| *stop) => {}
        _ = any_ended.wait_for(|ended| *ended) => {}
    }
    announced.abort();
    // One after the other, so that each has somebody to hand over to who stays a while.
    let mut result = Ok(());
    for (end, ended) in nodes {
        end.send_replace(true);
        result = result.and(ended.await?);
    }
    result
}

async fn announce(ready: Vec<oneshot::Receiver<()>>, text: String) {
    for node in ready {
        if node.await.is_err() {
            return;
        }
    }
    out::say(&text);
}

fn bind(args: &DevArgs, id: u64) -> anyhow::Result<Listeners> {
    // Only one node can have the ports that were asked for; it is enough to know one.
    let local = |port: u16| {
        let port = if id == 1 { port } else { 0 };
        SocketAddr::from((Ipv4Addr::LOCALHOST, port))
    };
    Listeners::bind(local(args.port), local(0), local(args.admin_port))
}

fn plans(args: DevArgs, dir: &Path, listeners: Vec<Listeners>) -> anyhow::Result<Vec<NodePlan>> {
    let mut nodes = BTreeMap::new();
    for (id, sockets) in (1..).zip(&listeners) {
        nodes.insert(NodeId(id), sockets.peer.local_addr()?.to_string());
    }
    // Nobody else shall get at the links, and nobody needs to know it.
    let token = format!("{:032x}", rand::random::<u128>());
    let state = StateOptions {
        write_buffer_bytes: WRITE_BUFFER_BYTES,
        block_cache_bytes: BLOCK_CACHE_BYTES,
        ..StateOptions::default()
    };
    let usual = LogCuts::default();
    let keep = KeepLog { bytes: KEEP_LOG_BYTES, ..usual.keep };
    let log_cuts = LogCuts { keep, ..usual };
    let own = descriptors::own(&LOG, &log_cuts, &state);
    let capacity = descriptors::capacity(listeners.len(), own);
    let plan = |(id, listeners): (u64, Listeners)| NodePlan {
        node: NodeOptions {
            id: NodeId(id),
            dir: dir.join(format!("node-{id}")),
            disk: Arc::new(Machine),
            nodes: nodes.clone(),
            token: token.clone(),
            shards: args.shards,
            sample: args.sample,
            weights: args.weights,
            log: LOG,
            log_cuts,
            state: state.clone(),
            free_bytes_min: FREE_BYTES_MIN,
            in_flight_max: limits::IN_FLIGHT_MAX,
            rests: !args.no_rests,
            clock: Arc::new(SteadyClock::start()),
            on_fatal: shutdown::on_fatal(),
        },
        gateway: flotilla_gateway::Config {
            account: args.account.clone(),
            region: args.region.clone(),
            public_url: None,
            timeouts: flotilla_gateway::Timeouts::default(),
            capacity,
        },
        listeners,
        threads: NonZeroUsize::MIN,
    };
    Ok((1..).zip(listeners).map(plan).collect())
}

fn welcome(args: &DevArgs, dir: &DataDir, listeners: &[Listeners]) -> anyhow::Result<String> {
    let mut api = Vec::new();
    let mut admin = Vec::new();
    for sockets in listeners {
        api.push(format!("http://{}", sockets.api.local_addr()?));
        admin.push(format!("http://{}", sockets.admin.local_addr()?));
    }
    let (endpoint, region, account) = (&api[0], &args.region, &args.account);
    let fate = if dir.is_temporary() { " (removed at exit)" } else { "" };
    // The first CLI overlooks the variable in the oldest regions, so its lines name the endpoint.
    Ok(format!(
        "Flotilla is ready: {NODES} nodes, every message on a majority of them.\n\
         \n  SQS endpoint  {endpoint}\n  other nodes   {}\n  admin         {}/status /metrics /ready\
         \n  their admin   {}\n  data          {}{fate}\n\
         \nPoint an AWS SDK or the AWS CLI at it (any credentials will do):\n\
         \n  export AWS_ENDPOINT_URL_SQS={endpoint}\
         \n  export AWS_REGION={region} AWS_DEFAULT_REGION={region}\
         \n  export AWS_ACCESS_KEY_ID=local AWS_SECRET_ACCESS_KEY=local\
         \n  aws --endpoint-url {endpoint} sqs create-queue --queue-name orders\
         \n  aws --endpoint-url {endpoint} sqs send-message \\\
         \n      --queue-url {endpoint}/{account}/orders --message-body hello\n\
         \nCtrl-C ends it.",
        api[1..].join(" "),
        admin[0],
        admin[1..].join(" "),
        dir.path().display(),
    ))
}

/// Where the cluster lives.
struct DataDir {
    path: PathBuf,
    temporary: Option<TempDir>,
    _lock: DirLock,
}

impl DataDir {
    fn open(path: Option<PathBuf>) -> anyhow::Result<Self> {
        let (path, temporary) = match path {
            Some(path) => (path, None),
            None => {
                let dir = tempfile::Builder::new().prefix("flotilla-dev-").tempdir()?;
                (dir.path().to_owned(), Some(dir))
            }
        };
        let lock = DirLock::take(&path)?;
        Ok(Self { path, temporary, _lock: lock })
    }

    fn path(&self) -> &Path {
        &self.path
    }

    fn is_temporary(&self) -> bool {
        self.temporary.is_some()
    }
}
