//! The same load on an empty queue and on a deep one.

use std::rc::Rc;
use std::time::Duration;

use super::{drain, empty, end_of_phase, fill, send};
use crate::args::Deep;
use crate::procfs::{Meter, rss_mib};
use crate::report::Row;
use crate::run::Run;
use crate::workers::Until;

const SETTLE_LOOK: Duration = Duration::from_secs(1);
const SETTLE_LOOKS_MAX: usize = 60;
/// Of one core, by all servers: what heartbeats take, and a little more.
const SETTLED_SHARE: f64 = 0.15;

/// Phases: sending to an empty queue, receiving what this left; filling and settling; sending and receiving at
/// depth.
pub(super) async fn run(run: &Rc<Run>, args: &Deep) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::with_capacity(4);
    rows.push(named("empty, send", send::phase(run, args.producers, args.batch).await?));
    rows.push(named("empty, receive", receive(run, args).await?));
    empty(run).await?;
    run.begin_sending();

    let rss_before = rss_mib(&run.settings.pids)?;
    let acknowledged_before = run.verdict().acknowledged;
    fill(run, args.messages).await?;
    let rss_after = rss_mib(&run.settings.pids)?;
    let filled = run.verdict().acknowledged - acknowledged_before;
    let growth = rss_before.zip(rss_after).map(|(before, after)| after - before);

    settle(run).await?;
    rows.push(named("deep, send", send::phase(run, args.producers, args.batch).await?));
    rows.push(named("deep, receive", receive(run, args).await?));
    for row in &mut rows[2..] {
        row.server_rss_mib_per_million =
            growth.filter(|_| filled > 0).map(|mib| mib * 1e6 / filled as f64);
    }
    Ok(rows)
}

/// Waits until the servers have put away what came in (or do not come to rest): what is asked here
/// is what a deep queue costs, not what filling it did.
async fn settle(run: &Rc<Run>) -> anyhow::Result<()> {
    for _ in 0..SETTLE_LOOKS_MAX {
        let meter = Meter::start(&run.settings.pids)?;
        tokio::time::sleep(SETTLE_LOOK).await;
        let usage = meter.stop()?;
        let busy_s = usage.server_cpu_s.unwrap_or(0.0);
        if busy_s < SETTLED_SHARE * usage.elapsed.as_secs_f64() {
            break;
        }
    }
    Ok(())
}

fn named(phase: &str, row: Row) -> Row {
    Row { phase: Some(phase.to_owned()), ..row }
}

/// Receives and deletes until the phase ends or nothing is left.
async fn receive(run: &Rc<Run>, args: &Deep) -> anyhow::Result<Row> {
    run.end_sending();
    let end = Until::Moment(end_of_phase(run));
    drain::phase(run, args.consumers, args.batch, end).await
}
