//! Consumers receive and delete what is in a filled queue.

use std::rc::Rc;

use super::{SHORT_WAIT_S, fill};
use crate::args::Drain;
use crate::procfs::Meter;
use crate::report::Row;
use crate::run::Run;
use crate::workers::{Intake, Team, Until};

pub(super) async fn run(run: &Rc<Run>, args: &Drain) -> anyhow::Result<Row> {
    fill(run, args.messages).await?;
    run.end_sending();
    phase(run, args.consumers, args.batch, Until::Complete).await
}

/// Receives and deletes until then or until nothing is left; nobody sends any more.
pub(super) async fn phase(
    run: &Rc<Run>,
    consumers: usize,
    batch: usize,
    until: Until,
) -> anyhow::Result<Row> {
    let before = run.verdict().received;
    run.take_latencies();
    let intake = Intake { batch, wait_s: SHORT_WAIT_S, until };
    let mut consumers = Team::consumers(run, consumers, intake).await?;
    let meter = Meter::start(&run.settings.pids)?;
    // The consumers themselves end later, after an answer without messages.
    tokio::select! {
        () = run.wait_until_complete() => {}
        result = consumers.join() => result?,
    }
    let usage = meter.stop()?;
    let messages = run.verdict().received - before;
    let latencies = run.take_latencies();
    consumers.join().await?;
    Ok(Row::new(String::new(), run, messages, &usage, &latencies))
}
