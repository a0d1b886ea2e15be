//! Producers send as fast as answers come; nobody receives meanwhile.

use std::rc::Rc;

use super::end_of_phase;
use crate::args::Send;
use crate::procfs::Meter;
use crate::report::Row;
use crate::run::Run;
use crate::supply::Supply;
use crate::workers::Team;

pub(super) async fn run(run: &Rc<Run>, args: &Send) -> anyhow::Result<Row> {
    phase(run, args.producers, args.batch).await
}

/// One timed phase of sending.
pub(super) async fn phase(run: &Rc<Run>, producers: usize, batch: usize) -> anyhow::Result<Row> {
    let before = run.verdict().acknowledged;
    run.take_latencies();
    let supply = Supply::Until(end_of_phase(run));
    let mut team = Team::producers(run, producers, batch, supply).await?;
    let meter = Meter::start(&run.settings.pids)?;
    team.join().await?;
    let usage = meter.stop()?;
    let messages = run.verdict().acknowledged - before;
    Ok(Row::new(String::new(), run, messages, &usage, &run.take_latencies()))
}
