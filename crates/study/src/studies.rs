//! What `flotilla-study` can be asked for.

use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::autoscale::{self, LiveArgs, ModelArgs};
use crate::polling::{self, PollingArgs};
use crate::worker::{self, WorkerArgs};

/// Exit code of a run in which something was lost.
const UNSOUND: u8 = 3;

/// Shows what queues do, with charts.
#[derive(Debug, Parser)]
#[command(name = "flotilla-study", version)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Simulates an hour and a half of scaling by backlog per instance and by the number of messages
    /// alone.
    Autoscale(ModelArgs),
    /// Has `flotilla autoscale` drive real workers at a running queue whose load rises, bursts and
    /// falls. Exit code 3: a message was lost.
    AutoscaleLive(LiveArgs),
    /// Measures short and long polling beside their theory, and scaling, with clusters of its own unless endpoints are
    /// given.
    /// Exit code 3: a promise was broken.
    Polling(PollingArgs),
    /// One of those workers.
    Worker(WorkerArgs),
}

/// Runs what the command line asks for.
pub fn study() -> ExitCode {
    match run(&Args::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(UNSOUND),
        Err(error) => {
            // Nothing is left to be done if even this cannot be said.
            let _ = writeln!(io::stderr(), "flotilla-study: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> anyhow::Result<bool> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match &args.command {
        Command::Autoscale(args) => autoscale::model(args).map(|()| true),
        Command::AutoscaleLive(args) => runtime.block_on(autoscale::live(args)),
        Command::Polling(args) => runtime.block_on(polling::run(args)),
        Command::Worker(args) => runtime.block_on(worker::work(args)).map(|()| true),
    }
}
