//! The `flotilla` program: a node of a cluster, or a whole cluster for development.
//!
//! Start with `args` (what can be asked for), then `node_runner` (what one node's thread does):
//! `serve` runs it once with a configuration file, `dev` three times with one made up. Beside the
//! API each node has an admin port (`admin`, `metrics`). `autoscale` is no node: it speaks to any
//! endpoint, and what it decides is in a crate of its own.
//!
//! Invariants:
//! - A node of `dev` and a node of `serve` are the same code with other settings.
//! - A directory is used by one process at a time.
//! - The first signal ends in order: no new requests, the begun ones answered, leadership handed
//!   over, stores flushed. The second ends at once. An error that a node cannot survive ends the
//!   process with exit code 70, for a supervisor to start it again.
//!
//! Deliberately not here: anything that decides about messages, queues or requests.

mod admin;
mod args;
mod autoscale;
mod config;
mod descriptors;
mod dev;
mod health;
mod http;
mod listen;
mod lock;
mod metrics;
mod node_runner;
mod out;
mod serve;
mod shutdown;
mod status;
mod telemetry;

use std::process::ExitCode;

use clap::Parser as _;

use crate::args::{Args, Command};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    flotilla_probe::begin();
    let result = match Args::parse().command {
        Command::Dev(args) => dev::run(args),
        Command::Serve(args) => serve::run(&args),
        Command::Health(args) => health::run(&args),
        Command::Autoscale(args) => autoscale::run(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            out::complain(&format!("flotilla: {error:#}"));
            ExitCode::FAILURE
        }
    }
}
