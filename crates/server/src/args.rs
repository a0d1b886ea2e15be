//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use flotilla_autoscale::AutoscaleArgs;
use flotilla_cluster::{SampleSize, Weights};
use flotilla_types::limits::{SHARDS_DEFAULT, SHARDS_MAX};
use flotilla_types::names::AccountId;

/// A replicated message queue that speaks the Amazon SQS API.
#[derive(Debug, Parser)]
#[command(name = "flotilla", version)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Runs a cluster of three nodes in this process, for development and tests.
    Dev(DevArgs),
    /// Runs one node of a cluster.
    Serve(ServeArgs),
    /// Asks an admin port, prints the answer, and fails unless it is good.
    Health(HealthArgs),
    /// Runs as many workers of a queue as its backlog wants, or tells KEDA to.
    Autoscale(Box<AutoscaleArgs>),
}

#[derive(Debug, clap::Args)]
pub(crate) struct DevArgs {
    /// Port of node 1's SQS endpoint on 127.0.0.1 (0: any free one).
    #[arg(long, default_value_t = 9324)]
    pub(crate) port: u16,
    /// Where messages are kept; without it in a temporary directory that is removed at exit.
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Account that owns all queues, 12 digits.
    #[arg(long, default_value = "000000000000", value_parser = AccountId::new)]
    pub(crate) account: AccountId,
    /// Region in ARNs.
    #[arg(long, default_value = "us-east-1", value_parser = region)]
    pub(crate) region: String,
    /// Shards of a new cluster; an existing data directory keeps its own.
    #[arg(long, default_value_t = SHARDS_DEFAULT, value_parser = clap::value_parser!(u32).range(1..=i64::from(SHARDS_MAX)))]
    pub(crate) shards: u32,
    /// Shards that a short poll asks: a number, or `all`.
    #[arg(long, default_value = "3", value_name = "N|all")]
    pub(crate) sample: SampleSize,
    /// What makes a shard likelier to be asked: `uniform`, `backlog` or `locality`.
    #[arg(long, default_value = "backlog")]
    pub(crate) weights: Weights,
    /// Port of node 1's admin endpoint on 127.0.0.1 (0: any free one).
    #[arg(long, default_value_t = 9325)]
    pub(crate) admin_port: u16,
    /// A deleted queue's name can be used again at once, and a queue be purged twice in a minute, which SQS refuses:
    /// for test suites that always use the same names.
    #[arg(long)]
    pub(crate) no_rests: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ServeArgs {
    /// The node's configuration (TOML).
    #[arg(long, value_name = "FILE")]
    pub(crate) config: PathBuf,
}

#[derive(Debug, clap::Args)]
pub(crate) struct HealthArgs {
    /// What to ask, e.g. `/health` instead of `/ready`.
    #[arg(long, default_value = "http://127.0.0.1:9325/ready")]
    pub(crate) url: String,
}

/// A region as it may be in ARNs, whose parts are taken apart at colons.
pub(crate) fn region(text: &str) -> Result<String, &'static str> {
    let is_good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if text.is_empty() || !text.chars().all(is_good) {
        return Err("a region has small letters, digits and hyphens");
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_definition_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn defaults_and_values() {
        let Command::Dev(dev) = Args::parse_from(["flotilla", "dev"]).command else {
            panic!("another command");
        };
        assert_eq!((dev.port, dev.admin_port, dev.shards), (9324, 9325, 8));
        assert_eq!(dev.sample, SampleSize::default());
        assert_eq!(dev.weights, Weights::default());
        let all = Args::parse_from(["flotilla", "dev", "--sample", "all"]).command;
        assert!(matches!(all, Command::Dev(DevArgs { sample: SampleSize::All, .. })));
        for bad in [["--shards", "0"], ["--sample", "0"], ["--account", "1"], ["--weights", "x"]] {
            assert!(Args::try_parse_from(["flotilla", "dev"].iter().chain(&bad)).is_err());
        }
    }
}
