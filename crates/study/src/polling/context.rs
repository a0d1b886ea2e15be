//! What experiments share: clusters, names, seeds, and somebody to tell how far they are.

use std::future::Future;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use flotilla_client::Endpoint;
use flotilla_tests::{Fleet, Settings};
use tokio::task::JoinSet;

use super::api::{Api, Ask};
use super::deck;
use super::progress::{Plan, Progress};

/// Of the line of progress.
const REFRESH: Duration = Duration::from_secs(1);

/// What a cluster is like. The default is the server's.
#[derive(Clone, Debug)]
pub(super) struct Shape {
    pub(super) shards: usize,
    pub(super) sample: usize,
    pub(super) weights: &'static str,
    /// Whether its nodes can be cut off.
    pub(super) links: bool,
}

impl Default for Shape {
    fn default() -> Self {
        Self { shards: 8, sample: 3, weights: "backlog", links: false }
    }
}

/// Three nodes of the study's own, or somebody's.
#[derive(Debug)]
pub(super) struct Cluster {
    /// `None` for somebody's.
    pub(super) fleet: Option<Fleet>,
    /// `host:port` of each.
    pub(super) nodes: Vec<String>,
    /// Of somebody's, as far as its answers say.
    pub(super) shape: Shape,
}

impl Cluster {
    /// A node; if there are fewer, one of those that there are.
    pub(super) fn node(&self, index: usize) -> &str {
        &self.nodes[index % self.nodes.len()]
    }

    /// Processes of the servers; none of somebody's cluster.
    pub(super) fn pids(&self) -> Vec<u32> {
        let fleet = self.fleet.iter();
        fleet.flat_map(|fleet| fleet.ids().into_iter().filter_map(|id| fleet.pid(id))).collect()
    }

    /// For each node how many shards it leads; of somebody's cluster, as if they were equal.
    pub(super) async fn leads(&self) -> Vec<usize> {
        let Some(fleet) = self.fleet.as_ref() else {
            let (n, nodes) = (self.shape.shards, self.nodes.len());
            return (0..nodes).map(|node| (n + nodes - 1 - node) / nodes).collect();
        };
        let mut leads = Vec::new();
        for id in fleet.ids() {
            let status = fleet.status(id).await;
            let groups = status["groups"].as_array().cloned().unwrap_or_default();
            let led =
                |group: &&serde_json::Value| group["leads"] == true && group["group"] != "catalog";
            leads.push(groups.iter().filter(led).count());
        }
        leads
    }

    /// For each shard the node that leads it. Which one it is makes no difference to any theory.
    pub(super) async fn leaders(&self) -> Vec<usize> {
        deck::leaders(&self.leads().await)
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Context {
    pub(super) quick: bool,
    pub(super) seed: u64,
    /// Where the report goes.
    pub(super) out: PathBuf,
    outside: Vec<Endpoint>,
    /// Of somebody's cluster, if it says so.
    shape: Option<Shape>,
    queues: AtomicU64,
    progress: Progress,
}

impl Context {
    pub(super) fn new(quick: bool, seed: u64, outside: Vec<Endpoint>, out: PathBuf) -> Self {
        let (shape, queues, progress) = (None, AtomicU64::new(0), Progress::new());
        Self { quick, seed, out, outside, shape, queues, progress }
    }

    /// Asks somebody's cluster how many shards it has, and how many of them a short poll asks.
    pub(super) async fn learn_shape(&mut self) -> anyhow::Result<()> {
        let Some(node) = self.outside.first() else { return Ok(()) };
        let secure = self.outside.iter().find(|node| node.is_secure());
        anyhow::ensure!(secure.is_none(), "the study polls over plain HTTP: give http://host:port");
        let mut api = Api::new(node.authority());
        let queue = self.queue(&mut api).await?;
        let answer = api.receive(&queue, Ask::SHORT).await?;
        self.shape = answer.shards.map(|shards| Shape {
            shards,
            sample: answer.asked.len(),
            // It does not say.
            weights: "unknown",
            links: false,
        });
        // Somebody's to see, if it stays.
        let _ = api.delete_queue(&queue).await;
        Ok(())
    }

    /// Whether shapes are known: of clusters of the study's own, or of one that says what it has.
    pub(super) fn knows_shapes(&self) -> bool {
        self.has_own_clusters() || self.shape.is_some()
    }

    /// Whether messages can be sent through another node than the polled one.
    pub(super) fn has_other_nodes(&self) -> bool {
        self.outside.len() != 1
    }

    /// How many, in a quick run and in a full one.
    pub(super) fn pick<T>(&self, quick: T, full: T) -> T {
        if self.quick { quick } else { full }
    }

    /// Whether experiments may have clusters of their own.
    pub(super) fn has_own_clusters(&self) -> bool {
        self.outside.is_empty()
    }

    /// A cluster of this shape; somebody's as it is, if one was given.
    pub(super) async fn cluster(&self, shape: &Shape) -> Cluster {
        if !self.has_own_clusters() {
            let nodes = self.outside.iter().map(|node| node.authority().to_owned()).collect();
            let shape =
                self.shape.clone().unwrap_or(Shape { shards: 0, sample: 0, ..Shape::default() });
            return Cluster { fleet: None, nodes, shape };
        }
        let Shape { shards, sample, weights, links } = shape;
        self.tell(&format!(
            "starting three nodes, {shards} shards, samples of {sample}, {weights}"
        ));
        let settings = Settings {
            lines: format!("[polling]\nsample = {sample}\nweights = \"{weights}\"\n"),
            links: *links,
            shards: Some(*shards),
            ..Settings::default()
        };
        let mut fleet = Fleet::start_with(3, &settings).await;
        fleet.whole().await;
        let nodes = fleet.ids().into_iter().map(|id| fleet.endpoint(id)).collect();
        Cluster { fleet: Some(fleet), nodes, shape: shape.clone() }
    }

    /// A new queue.
    pub(super) async fn queue(&self, api: &mut Api) -> anyhow::Result<String> {
        api.create_queue(&self.queue_name()).await
    }

    /// No other run has one of this name.
    pub(super) fn queue_name(&self) -> String {
        let number = self.queues.fetch_add(1, Ordering::Relaxed);
        format!("polling-{}-{:x}-{number}", std::process::id(), self.seed)
    }

    /// Runs trials, some of them at the same time.
    pub(super) async fn trials<T: Send + 'static, F>(
        &self,
        what: &str,
        count: u32,
        at_once: u32,
        trial: impl Fn(u32) -> F,
    ) -> anyhow::Result<Vec<T>>
    where
        F: Future<Output = anyhow::Result<T>> + Send + 'static,
    {
        let (mut tasks, mut next, mut results) = (JoinSet::new(), 0, Vec::new());
        while (results.len() as u32) < count {
            while next < count && tasks.len() < at_once as usize {
                tasks.spawn(trial(next));
                next += 1;
            }
            let Some(result) = tasks.join_next().await else { break };
            results.push(result??);
            self.tell(&format!("{what}: {} of {count}", results.len()));
        }
        Ok(results)
    }

    /// Says where it is now.
    pub(super) fn tell(&self, what: &str) {
        self.progress.tell(what);
    }

    /// A new experiment begins, this one of the plan.
    pub(super) fn begin(&mut self, plan: &Plan, index: usize) {
        self.progress.begin(plan, index);
    }

    /// Does something, and says all the while how long it still takes.
    pub(super) async fn watching<T>(&self, what: impl Future<Output = T>) -> T {
        let mut what = std::pin::pin!(what);
        let mut tick = tokio::time::interval(REFRESH);
        loop {
            tokio::select! {
                done = &mut what => return done,
                _ = tick.tick() => self.progress.refresh(),
            }
        }
    }

    /// The line of progress is not needed any more.
    pub(super) fn end(&self) {
        self.progress.clear();
    }
}

#[cfg(test)]
mod tests {
    use flotilla_cluster::{SampleSize, Weights};
    use flotilla_types::limits::SHARDS_DEFAULT;

    use super::*;

    #[test]
    fn the_default_shape_is_the_servers() {
        let Shape { shards, sample, weights, links } = Shape::default();
        assert_eq!(shards, SHARDS_DEFAULT as usize);
        assert_eq!(sample, SampleSize::default().of(usize::MAX));
        assert_eq!(weights.parse(), Ok(Weights::default()));
        assert!(!links);
    }
}
