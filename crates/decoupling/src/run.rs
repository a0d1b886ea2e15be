//! From the command line to what runs.

use std::io::{self, IsTerminal as _, Write as _};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use clap::Parser as _;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, watch};
use tracing_subscriber::EnvFilter;

use crate::args::{Args, Command, EndpointArgs, SetupArgs, WorkerArgs};
use crate::queues::{Patience, Queues};
use crate::{endpoint, payments, redrive, relay, report, sales, worker};

/// Runs what the command line asks for.
pub fn main() -> ExitCode {
    let filter = EnvFilter::try_from_env("FLOTILLA_LOG");
    let filter = filter.unwrap_or_else(|_| EnvFilter::new("flotilla_decoupling=info"));
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    lines.with_ansi(io::stderr().is_terminal()).init();
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn run(args: &Args) -> anyhow::Result<()> {
    let queues = Arc::new(Queues::new(&args.endpoints, Patience::default()));
    let dir = &args.data;
    match &args.command {
        Command::Demo(args) => {
            setup(dir, &queues, &SetupArgs::default()).await?;
            let stop = on_signals()?;
            let working = tokio::spawn(work(dir.clone(), queues.clone(), 2, stop.clone()));
            take_payments(dir, queues, *args, stop).await?;
            working.await??;
        }
        Command::Setup(args) => setup(dir, &queues, args).await?,
        Command::Endpoint(args) => take_payments(dir, queues, *args, on_signals()?).await?,
        Command::Worker(WorkerArgs { retry_s }) => {
            work(dir.clone(), queues, *retry_s, on_signals()?).await?;
        }
        Command::AddProduct { name } => {
            let name = name.clone();
            let add = move |connection: &mut _| sales::add_product(connection, &name);
            sales::open(dir)?.with(add).await?;
        }
        Command::Redrive => say(&format!("moved {}\n", redrive::run(dir, &queues).await?))?,
        Command::Report => say(&report::run(dir, &queues).await?)?,
    }
    Ok(())
}

async fn setup(dir: &Path, queues: &Queues, args: &SetupArgs) -> anyhow::Result<()> {
    std::fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
    payments::open(dir)?;
    sales::open(dir)?.with(|connection| sales::seed(connection)).await?;
    queues.create(args).await.context("the queues cannot be created")
}

async fn take_payments(
    dir: &Path,
    queues: Arc<Queues>,
    args: EndpointArgs,
    stop: watch::Receiver<bool>,
) -> anyhow::Result<()> {
    let database = payments::open(dir)?;
    let accepted = Arc::new(Notify::new());
    let relay = tokio::spawn(relay::run(database.clone(), queues, accepted.clone()));
    let listener = TcpListener::bind(args.listen)
        .await
        .with_context(|| format!("cannot listen on {}", args.listen))?;
    tracing::info!("taking payments on http://{}", args.listen);
    endpoint::run(listener, database, dir.to_owned(), accepted, stop).await?;
    // What it did not get to is in the outbox.
    relay.abort();
    Ok(())
}

async fn work(
    dir: std::path::PathBuf,
    queues: Arc<Queues>,
    retry_s: u32,
    stop: watch::Receiver<bool>,
) -> anyhow::Result<()> {
    worker::run(sales::open(&dir)?, queues, retry_s, stop).await;
    Ok(())
}

/// Turns true at SIGINT or SIGTERM; the second one ends the process.
fn on_signals() -> io::Result<watch::Receiver<bool>> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let (stop, stopped) = watch::channel(false);
    tokio::spawn(async move {
        for begun in [false, true] {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            if begun {
                // Somebody may hold half a request for as long as they like.
                std::process::exit(130);
            }
            stop.send_replace(true);
        }
    });
    Ok(stopped)
}

fn say(text: &str) -> io::Result<()> {
    io::stdout().lock().write_all(text.as_bytes())
}
