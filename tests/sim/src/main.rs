//! Whole clusters in one thread, with a simulated network, simulated clocks and modelled disks. One
//! seed decides everything: a seed and a commit are a whole bug report.
//!
//! Start with [`run`] (one seed from the empty cluster to the verdict), then [`knobs`] (what a seed
//! decides), [`nemesis`] (what is done to the cluster), [`oracle`] (what must hold of every entry that is
//! applied), [`watch`] (what must hold of replicas at every tick), [`audit`] (what must be on their disks)
//! and [`growth`] (what must be gone after a rest); what clients see is judged by `flotilla-history`.
//! [`machine`], [`net`] and [`disk`] are what the product's code runs on here.
//!
//! Invariants:
//! - The same seed gives the same history, the same log lines and the same applied entries, byte for
//!   byte. Each seed runs in a process of its own, and this is tested before anything else ([`twice`]).
//! - Nodes run the product's code down to the calls of the operating system; of the state store, RocksDB
//!   alone is replaced.
//!
//! Deliberately not here: real processes, sockets and disks (`flotilla-tests`), threads.

mod audit;
mod chaos;
mod cluster;
mod disk;
mod fault;
mod growth;
#[allow(dead_code, unreachable_pub, reason = "it is a part of a library there")]
#[path = "../../src/http.rs"]
mod http;
#[allow(unreachable_pub, reason = "it is a part of a library there")]
#[path = "../../src/journal.rs"]
mod journal;
mod knobs;
mod machine;
mod nemesis;
mod net;
mod node;
mod oracle;
mod probes;
mod record;
mod run;
mod seeds;
#[cfg(test)]
#[allow(dead_code, reason = "it is a part of a library there")]
#[path = "../../src/tool.rs"]
mod tool;
mod totals;
mod trace;
mod twice;
mod watch;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};

/// What the clients that are shared with real clusters call patience.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Parser)]
#[command(about = "Simulates clusters under faults, each from a seed")]
struct Args {
    #[command(subcommand)]
    what: What,
    /// Where histories of bad seeds are put.
    #[arg(long, global = true, default_value = "target/sim")]
    dir: PathBuf,
}

#[derive(Subcommand)]
enum What {
    /// One seed, in this process; says what was done, and what was wrong. `RUST_LOG` (error to trace):
    /// what nodes say is shown up to this level.
    One {
        /// Which.
        seed: u64,
        /// Keep the history of a good run too.
        #[arg(long)]
        keep: bool,
        /// Write every line that is logged into this file.
        #[arg(long)]
        trace: Option<PathBuf>,
    },
    /// Many seeds, one after the other, in processes of their own; a running total.
    Many(seeds::Args),
    /// The same seeds twice: nothing may differ.
    Twice(seeds::Args),
}

fn kept(trace: Option<PathBuf>) -> anyhow::Result<trace::Keep> {
    Ok(match (trace, std::env::var("RUST_LOG")) {
        (Some(path), _) => trace::Keep::All(path),
        (None, Ok(level)) if !level.is_empty() => trace::Keep::Told(level.parse()?),
        (None, _) => trace::Keep::Nothing,
    })
}

fn main() -> anyhow::Result<ExitCode> {
    let args = Args::parse();
    match args.what {
        What::One { seed, keep, trace } => {
            let outcome = run::run(knobs::Knobs::draw(seed), &args.dir, &kept(trace)?)?;
            seeds::tell(&outcome, keep)?;
            Ok(if outcome.is_good() { ExitCode::SUCCESS } else { ExitCode::from(seeds::BAD) })
        }
        What::Many(what) => seeds::many(&what, &args.dir),
        What::Twice(what) => twice::twice(&what, &args.dir),
    }
}
