//! An open loop: messages are due at fixed moments, and times count from these. A server that
//! stalls is charged for every message that was due meanwhile.

use std::rc::Rc;

use super::SHORT_WAIT_S;
use crate::args::Latency;
use crate::pacer::Pacer;
use crate::procfs::Meter;
use crate::report::Row;
use crate::run::Run;
use crate::sqs::Client;
use crate::workers::{Intake, Sender, Team, Until, clients};

/// Few messages a poll, many polls: what comes is handed out at once.
const RECEIVE_BATCH: usize = 10;

pub(super) async fn run(run: &Rc<Run>, args: &Latency) -> anyhow::Result<Row> {
    let intake = Intake { batch: RECEIVE_BATCH, wait_s: 2 * SHORT_WAIT_S, until: Until::Complete };
    let mut consumers = Team::consumers(run, args.consumers, intake).await?;
    let clients = clients(run, args.producers, 0).await?;
    let pacer = Rc::new(Pacer::start(args.rate, run.settings.seconds, args.producers)?);
    let mut producers = Team::default();
    let meter = Meter::start(&run.settings.pids)?;
    for client in clients {
        producers.add(produce(run.clone(), client, pacer.clone()));
    }
    producers.join().await?;
    run.end_sending();
    tokio::select! {
        () = run.wait_until_complete() => {}
        result = consumers.join() => result?,
    }
    let usage = meter.stop()?;
    let messages = run.verdict().received;
    consumers.join().await?;
    Ok(Row::new(String::new(), run, messages, &usage, &run.take_latencies()))
}

async fn produce(run: Rc<Run>, mut client: Client, pacer: Rc<Pacer>) -> anyhow::Result<()> {
    let mut sender = Sender::default();
    while let Some(moment) = pacer.next().await {
        sender.send(&run, &mut client, 1, moment).await?;
    }
    Ok(())
}
