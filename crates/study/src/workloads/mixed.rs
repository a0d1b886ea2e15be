//! Producers and consumers at once, with a bound on what is under way.
//!
//! When producers are the faster ones, the end-to-end latency is the window divided by the rate.

use std::rc::Rc;

use super::{SHORT_WAIT_S, end_of_phase};
use crate::args::Mixed;
use crate::procfs::Meter;
use crate::report::Row;
use crate::run::Run;
use crate::supply::Supply;
use crate::workers::{Intake, Team, Until};

pub(super) async fn run(run: &Rc<Run>, args: &Mixed) -> anyhow::Result<Row> {
    let end = end_of_phase(run);
    let intake = Intake { batch: args.batch, wait_s: SHORT_WAIT_S, until: Until::Moment(end) };
    let mut consumers = Team::consumers(run, args.consumers, intake).await?;
    let mut producers =
        Team::producers(run, args.producers, args.batch, Supply::Until(end)).await?;
    let meter = Meter::start(&run.settings.pids)?;
    tokio::time::sleep_until(end.into()).await;
    let usage = meter.stop()?;
    let messages = run.verdict().received;
    let latencies = run.take_latencies();
    producers.join().await?;
    consumers.join().await?;
    Ok(Row::new(String::new(), run, messages, &usage, &latencies))
}
