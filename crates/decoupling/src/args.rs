//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Parser, Subcommand};

/// Takes payments and books them as sales, with a queue between the two.
#[derive(Debug, Parser)]
#[command(name = "flotilla-decoupling", version)]
pub(crate) struct Args {
    /// SQS endpoints; another is taken after an error.
    #[arg(long, global = true, value_delimiter = ',', default_value = "http://127.0.0.1:9324")]
    pub(crate) endpoints: Vec<String>,
    /// Where the two databases are.
    #[arg(long, global = true, default_value = "insurance", value_name = "DIR")]
    pub(crate) data: PathBuf,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Everything in one process, to try it.
    Demo(EndpointArgs),
    /// Creates the queues and the databases.
    Setup(SetupArgs),
    /// Takes payments over HTTP, and relays them to the queue.
    Endpoint(EndpointArgs),
    /// Books sales from the queue.
    Worker(WorkerArgs),
    /// Adds a product that the sales department did not know of.
    AddProduct {
        /// Its name in payments.
        name: String,
    },
    /// Moves messages that were put aside back into the queue, and waits until that is done; what the
    /// queue refused goes back into the outbox.
    Redrive,
    /// Says what was paid, what was booked and what lies where.
    Report,
}

/// See [`Command::Setup`].
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct SetupArgs {
    /// Seconds that a worker has for a batch of messages.
    #[arg(long, default_value_t = 30)]
    pub(crate) visibility_timeout_s: u32,
    /// Times that a message is tried before it is put aside.
    #[arg(long, default_value_t = 4)]
    pub(crate) receives: u32,
}

impl Default for SetupArgs {
    fn default() -> Self {
        Self { visibility_timeout_s: 30, receives: 4 }
    }
}

/// See [`Command::Endpoint`].
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct EndpointArgs {
    /// Where to listen.
    #[arg(long, default_value = "127.0.0.1:8080", value_name = "ADDRESS")]
    pub(crate) listen: SocketAddr,
}

/// See [`Command::Worker`].
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct WorkerArgs {
    /// Seconds until a message that failed is tried again; twice and three times that later on.
    #[arg(long, default_value_t = 2)]
    pub(crate) retry_s: u32,
}
