//! The configuration file of one node.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use flotilla_cluster::node::{KeepLog, LogCuts};
use flotilla_cluster::{SampleSize, Weights};
use flotilla_storage::log::LogOptions;
use flotilla_storage::state::StateOptions;
use flotilla_types::ids::NodeId;
use flotilla_types::limits;
use flotilla_types::names::AccountId;
use serde::{Deserialize, Deserializer, de::Error as _};

use crate::args::region;
use crate::telemetry::Format;

/// What `flotilla serve` needs to know. An unknown field is an error, not a setting that is
/// silently without effect.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// Which of `nodes` this is. A data directory belongs to one id for ever.
    pub(crate) node_id: u64,
    /// Where messages are kept; relative to the working directory.
    pub(crate) data_dir: PathBuf,
    /// Address of the SQS endpoint, e.g. `0.0.0.0:9324`.
    pub(crate) api_listen: SocketAddr,
    /// Address for the other nodes. The links are not encrypted: for a private network only.
    pub(crate) peer_listen: SocketAddr,
    /// Address of the admin port (`/metrics`, `/health`, `/ready`, `/status`).
    pub(crate) admin_listen: SocketAddr,
    /// What queue URLs start with, e.g. `https://sqs.example.com`; without it the host that each
    /// client used.
    pub(crate) public_url: Option<String>,
    /// Account that owns all queues, 12 digits.
    #[serde(default = "default_account", deserialize_with = "account")]
    pub(crate) account: AccountId,
    /// Region in ARNs.
    #[serde(default = "default_region")]
    pub(crate) region: String,
    /// The secret that all nodes share; it keeps strangers off the links.
    token: Option<String>,
    /// A file with that secret, instead of `token`.
    token_file: Option<PathBuf>,
    /// Shards, if this start founds the cluster; an existing one keeps its own number.
    #[serde(default = "default_shards")]
    pub(crate) shards: u32,
    /// Threads of the runtime. One is best on small machines.
    #[serde(default = "default_threads")]
    pub(crate) threads: NonZeroUsize,
    /// What receives do.
    #[serde(default)]
    pub(crate) polling: Polling,
    /// What changes of queues do.
    #[serde(default)]
    pub(crate) queues: Queues,
    /// Sizes of the stores.
    #[serde(default)]
    pub(crate) storage: Storage,
    /// What is logged.
    #[serde(default)]
    pub(crate) log: Log,
    /// All nodes of the cluster, this one included.
    nodes: Vec<NodeEntry>,
}

/// One node as the others see it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NodeEntry {
    /// Unique, from 1 on.
    id: u64,
    /// `host:port` at which the other nodes reach it.
    peer: String,
}

/// What receives do.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Polling {
    /// Shards that a short poll asks: a number from 1 on, or `"all"`.
    #[serde(deserialize_with = "sample")]
    pub(crate) sample: SampleSize,
    /// What makes a shard likelier to be asked: `uniform`, `backlog` or `locality`.
    #[serde(deserialize_with = "weights")]
    pub(crate) weights: Weights,
    /// Messages of one queue, about, that may be received and neither deleted nor visible again.
    pub(crate) in_flight_max: NonZeroU32,
}

impl Default for Polling {
    fn default() -> Self {
        let in_flight_max = NonZeroU32::new(limits::IN_FLIGHT_MAX).expect("it is not zero");
        Self { sample: SampleSize::default(), weights: Weights::default(), in_flight_max }
    }
}

/// What changes of queues do.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Queues {
    /// Whether the name of a deleted queue, and a queue that was purged, rest for a minute, as in SQS. `false` is for test
    /// suites that always use the same names: each request asks the catalog's leader which queue it means.
    pub(crate) rests: bool,
}

impl Default for Queues {
    fn default() -> Self {
        Self { rests: true }
    }
}

/// Sizes of the stores.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Storage {
    /// Size of one file of the Raft log.
    log_segment_bytes: u64,
    /// Files of the Raft log from which on lagging groups are carried forward.
    log_segments_max: usize,
    /// Log entries kept in memory for followers, over all groups.
    log_cache_bytes: usize,
    /// New log that starts a flush, after which the log is cut.
    log_cut_after_bytes: u64,
    /// Entries of each shard that stay in the log; a node that lacks more gets a snapshot.
    log_keep_entries: u64,
    /// Bytes of all of them, about: what one shard does not need is for the others.
    log_keep_bytes: u64,
    /// Unflushed state that starts a flush.
    write_buffer_bytes: usize,
    /// Cache of the state store for reads.
    block_cache_bytes: usize,
    /// Messages of this size or more lie apart in the state store.
    blob_bytes_min: u64,
    /// Files that the state store keeps open.
    open_files_max: i32,
    /// With less room than this on the disk of `data_dir` sends are refused (503), everything else
    /// goes on; until there is a tenth more. 0: never.
    pub(crate) free_bytes_min: u64,
}

impl Default for Storage {
    fn default() -> Self {
        let (log, state) = (LogOptions::default(), StateOptions::default());
        let cuts = LogCuts::default();
        Self {
            log_segment_bytes: log.segment_bytes,
            log_segments_max: log.segments_max,
            log_cache_bytes: log.cache_bytes,
            log_cut_after_bytes: cuts.after_bytes,
            log_keep_entries: cuts.keep.entries,
            log_keep_bytes: cuts.keep.bytes,
            write_buffer_bytes: state.write_buffer_bytes,
            block_cache_bytes: state.block_cache_bytes,
            blob_bytes_min: state.blob_bytes_min,
            open_files_max: state.open_files_max,
            free_bytes_min: limits::FREE_BYTES_MIN,
        }
    }
}

impl Storage {
    /// For the Raft log.
    pub(crate) fn log(&self) -> LogOptions {
        LogOptions {
            segment_bytes: self.log_segment_bytes,
            segments_max: self.log_segments_max,
            cache_bytes: self.log_cache_bytes,
        }
    }

    /// For the node.
    pub(crate) fn log_cuts(&self) -> LogCuts {
        let keep = KeepLog { entries: self.log_keep_entries, bytes: self.log_keep_bytes };
        LogCuts { after_bytes: self.log_cut_after_bytes, keep }
    }

    /// For the state store.
    pub(crate) fn state(&self) -> StateOptions {
        StateOptions {
            write_buffer_bytes: self.write_buffer_bytes,
            block_cache_bytes: self.block_cache_bytes,
            blob_bytes_min: self.blob_bytes_min,
            open_files_max: self.open_files_max,
        }
    }
}

/// What is logged, to standard error.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Log {
    /// `text` or `json`.
    pub(crate) format: Format,
    /// A level, or a filter such as `info,openraft=error`; `FLOTILLA_LOG` overrides it.
    pub(crate) level: String,
}

impl Default for Log {
    fn default() -> Self {
        // The library says at `info` what only its developers want to know.
        Self { format: Format::default(), level: "info,openraft=error".to_owned() }
    }
}

impl Config {
    /// # Errors
    /// When the file cannot be read or what it says cannot be.
    pub(crate) fn load(path: &Path) -> anyhow::Result<Self> {
        let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
        Self::parse(&text).with_context(|| path.display().to_string())
    }

    fn parse(text: &str) -> anyhow::Result<Self> {
        let config: Self = toml::from_str(text)?;
        config.check()?;
        Ok(config)
    }

    /// All nodes with their peer addresses.
    pub(crate) fn nodes(&self) -> BTreeMap<NodeId, String> {
        self.nodes.iter().map(|node| (NodeId(node.id), node.peer.clone())).collect()
    }

    /// The shared secret.
    ///
    /// # Errors
    /// When its file cannot be read or is empty.
    pub(crate) fn token(&self) -> anyhow::Result<String> {
        let token = match (&self.token, &self.token_file) {
            (Some(token), None) => token.clone(),
            (None, Some(file)) => {
                let text = fs::read_to_string(file).with_context(|| file.display().to_string())?;
                text.trim().to_owned()
            }
            _ => bail!("either `token` or `token_file` must be set"),
        };
        ensure!(!token.is_empty(), "the token is empty");
        Ok(token)
    }

    fn check(&self) -> anyhow::Result<()> {
        let ids = self.nodes();
        ensure!(ids.len() == self.nodes.len(), "`nodes` has an id twice");
        ensure!(ids.len() <= limits::NODES_MAX, "more than {} `nodes`", limits::NODES_MAX);
        ensure!(!ids.contains_key(&NodeId(0)), "ids of `nodes` begin with 1");
        ensure!(ids.contains_key(&NodeId(self.node_id)), "`nodes` lacks node {}", self.node_id);
        for peer in ids.values() {
            let port = peer.rsplit_once(':').filter(|(host, _)| !host.is_empty());
            let port = port.and_then(|(_, port)| port.parse::<u16>().ok());
            ensure!(port.is_some(), "the peer address {peer:?} is not host:port");
        }
        if let Err(what) = region(&self.region) {
            bail!("`region` is {:?}: {what}", self.region);
        }
        ensure!(
            (1..=limits::SHARDS_MAX).contains(&self.shards),
            "`shards` must be 1 to {}",
            limits::SHARDS_MAX
        );
        ensure!(
            self.token.is_some() != self.token_file.is_some(),
            "either `token` or `token_file` must be set"
        );
        if let Some(url) = &self.public_url {
            let known = url.starts_with("http://") || url.starts_with("https://");
            ensure!(known, "`public_url` must begin with http:// or https://");
        }
        self.storage.check()
    }
}

impl Storage {
    fn check(&self) -> anyhow::Result<()> {
        // An entry may be half as large as a segment, and must fit.
        let segment_bytes_min = 4 * limits::ENTRY_BYTES_MAX as u64;
        ensure!(
            self.log_segment_bytes >= segment_bytes_min,
            "`log_segment_bytes` must be at least {segment_bytes_min}"
        );
        ensure!(self.log_segments_max >= 4, "`log_segments_max` must be at least 4");
        ensure!(
            self.write_buffer_bytes >= 1_048_576,
            "`write_buffer_bytes` must be at least 1048576"
        );
        ensure!(self.open_files_max >= 16, "`open_files_max` must be at least 16");
        Ok(())
    }
}

fn default_account() -> AccountId {
    AccountId::new("000000000000").expect("these are 12 digits")
}

fn default_region() -> String {
    "us-east-1".to_owned()
}

fn default_shards() -> u32 {
    limits::SHARDS_DEFAULT
}

fn default_threads() -> NonZeroUsize {
    NonZeroUsize::MIN
}

fn account<'de, D: Deserializer<'de>>(from: D) -> Result<AccountId, D::Error> {
    AccountId::new(&String::deserialize(from)?).map_err(D::Error::custom)
}

fn weights<'de, D: Deserializer<'de>>(from: D) -> Result<Weights, D::Error> {
    String::deserialize(from)?.parse().map_err(D::Error::custom)
}

fn sample<'de, D: Deserializer<'de>>(from: D) -> Result<SampleSize, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum NumberOrText {
        Number(u64),
        Text(String),
    }
    let text = match NumberOrText::deserialize(from)? {
        NumberOrText::Number(number) => number.to_string(),
        NumberOrText::Text(text) => text,
    };
    text.parse().map_err(D::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALLEST: &str = r#"
        node_id = 1
        data_dir = "data"
        api_listen = "127.0.0.1:9324"
        peer_listen = "127.0.0.1:9401"
        admin_listen = "127.0.0.1:9325"
        token = "secret"
        nodes = [{ id = 1, peer = "127.0.0.1:9401" }]
    "#;

    #[test]
    fn the_smallest_file_has_defaults() {
        let config = Config::parse(SMALLEST).unwrap();
        assert_eq!(config.account.as_str(), "000000000000");
        assert_eq!((config.shards, config.threads.get()), (8, 1));
        assert_eq!(config.polling.sample, SampleSize::default());
        assert_eq!(config.polling.in_flight_max.get(), 120_000);
        assert!(config.queues.rests);
        assert_eq!(config.storage.log(), LogOptions::default());
        assert_eq!(config.storage.log_cuts(), LogCuts::default());
        assert_eq!(config.storage.free_bytes_min, 512 * 1_048_576);
        assert_eq!(config.token().unwrap(), "secret");
        assert_eq!(config.nodes()[&NodeId(1)], "127.0.0.1:9401");
    }

    #[test]
    fn tables() {
        let more = "[polling]\nsample = \"all\"\nweights = \"locality\"\n[log]\nformat = \"json\"";
        let config = Config::parse(&format!("{SMALLEST}\n{more}")).unwrap();
        assert_eq!(config.polling.sample, SampleSize::All);
        assert_eq!(config.polling.weights, Weights::Locality);
        assert_eq!(config.log.format, Format::Json);
        assert!(
            !Config::parse(&format!("{SMALLEST}\n[queues]\nrests = false")).unwrap().queues.rests
        );
        let five = Config::parse(&format!("{SMALLEST}\n[polling]\nsample = 5")).unwrap();
        assert_eq!(five.polling.sample, "5".parse().unwrap());
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for (more, says) in [
            ("colour = 1", "unknown field `colour`"),
            ("[storage]\nlog_bytes = 1", "unknown field `log_bytes`"),
            ("[storage]\nfree_bytes = 1", "unknown field `free_bytes`"),
            ("[storage]\nfree_bytes_min = -1", "free_bytes_min"),
            ("[polling]\nin_flight_max = 0", "in_flight_max"),
            ("[polling]\nsample = 0", "sample size"),
            ("[polling]\nweights = \"x\"", "weights"),
            ("shards = 0", "`shards`"),
            ("threads = 0", "threads"),
            ("account = \"1\"", "12 digits"),
            ("region = \"\"", "`region`"),
            ("region = \"eu:west\"", "`region`"),
            ("public_url = \"example.com\"", "`public_url`"),
            ("token_file = \"t\"", "either `token` or `token_file`"),
            ("[storage]\nlog_segment_bytes = 4096", "`log_segment_bytes`"),
        ] {
            let error = Config::parse(&format!("{SMALLEST}\n{more}")).unwrap_err();
            assert!(format!("{error:#}").contains(says), "{more}: {error:#}");
        }
        for (from, to, says) in [
            ("node_id = 1", "node_id = 2", "lacks node 2"),
            ("token = \"secret\"", "", "either `token`"),
            ("{ id = 1, peer = \"127.0.0.1:9401\" }", "{ id = 1, peer = \"a\" }", "host:port"),
        ] {
            let error = Config::parse(&SMALLEST.replace(from, to)).unwrap_err();
            assert!(format!("{error:#}").contains(says), "{to}: {error:#}");
        }
    }

    #[test]
    fn a_token_may_lie_in_a_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "from-file\n").unwrap();
        let line = format!("token_file = {:?}", file.path());
        let config = Config::parse(&SMALLEST.replace("token = \"secret\"", &line)).unwrap();
        assert_eq!(config.token().unwrap(), "from-file");
        fs::write(file.path(), "\n").unwrap();
        assert!(config.token().is_err());
    }

    #[test]
    fn shipped_files_are_clusters() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../cluster-configs");
        for cluster in ["three-node", "docker"] {
            let load = |n: u64| Config::load(&root.join(format!("{cluster}/{n}.toml"))).unwrap();
            let configs = [1, 2, 3].map(load);
            for (config, id) in configs.iter().zip(1..) {
                assert_eq!(config.node_id, id, "{cluster}");
                assert_eq!(config.nodes(), configs[0].nodes(), "{cluster}");
                assert_eq!(config.token().unwrap(), configs[0].token().unwrap(), "{cluster}");
                assert_eq!(config.shards, configs[0].shards, "{cluster}");
                let port = format!(":{}", config.peer_listen.port());
                assert!(config.nodes()[&NodeId(id)].ends_with(&port), "{cluster}");
            }
        }
    }
}
