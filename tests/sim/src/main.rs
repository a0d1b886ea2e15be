//! Whole clusters in one thread, with a simulated network, simulated clocks and modelled disks. One
//! seed decides everything: a seed and a commit are a whole bug report.
//!
//! Start with [`run`] (one seed from the empty cluster to the verdict), then [`knobs`] (what a seed
//! decides), [`nemesis`] (what is done to the cluster), [`watch`] (what must hold of replicas at
//! every moment) and [`audit`] (what must be on their disks; what clients see is judged by `flotilla-history`). [`machine`], [`net`] and
//! [`disk`] are what the product's code runs on here.
//!
//! Invariants:
//! - The same seed gives the same history, byte for byte. [`seeds`] runs each seed in a process of
//!   its own, and this is tested before anything else.
//! - Nodes run the product's code down to the calls of the operating system; of the state store, RocksDB
//!   alone is replaced.
//!
//! Deliberately not here: real processes, sockets and disks (`flotilla-tests`), threads.

mod audit;
mod chaos;
mod cluster;
mod disk;
mod fault;
#[allow(dead_code, unreachable_pub, reason = "it is a part of a library there")]
#[path = "../../src/http.rs"]
mod http;
mod knobs;
mod machine;
mod nemesis;
mod net;
mod node;
mod run;
mod seeds;
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
    /// One seed, in this process; says what was done, and what was wrong.
    One {
        /// Which.
        seed: u64,
        /// Keep the history of a good run too.
        #[arg(long)]
        keep: bool,
    },
    /// Many seeds, one after the other, in processes of their own; a running total.
    Many(seeds::Args),
    /// The same seeds twice: nothing may differ.
    Twice(seeds::Args),
}

fn main() -> anyhow::Result<ExitCode> {
    let args = Args::parse();
    match args.what {
        What::One { seed, keep } => {
            let outcome = run::run(knobs::Knobs::draw(seed), &args.dir)?;
            seeds::tell(&outcome, keep)?;
            Ok(if outcome.is_good() { ExitCode::SUCCESS } else { ExitCode::from(seeds::BAD) })
        }
        What::Many(what) => seeds::many(&what, &args.dir),
        What::Twice(what) => seeds::twice(&what, &args.dir),
    }
}
