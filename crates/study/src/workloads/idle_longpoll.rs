//! Single messages into a queue whose consumers wait in long polls: what a wake-up takes.

use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::args::IdleLongpoll;
use crate::procfs::Meter;
use crate::report::Row;
use crate::run::Run;
use crate::workers::{Intake, Sender, Team, Until};

const LONG_WAIT_S: u32 = 20;
/// Long enough for a consumer to delete and to be waiting again.
const PAUSE: Duration = Duration::from_millis(50);
/// A message that takes longer is left to the final check.
const RECEIPT_TIMEOUT: Duration = Duration::from_secs(5);

pub(super) async fn run(run: &Rc<Run>, args: &IdleLongpoll) -> anyhow::Result<Row> {
    let intake = Intake { batch: 1, wait_s: LONG_WAIT_S, until: Until::Complete };
    let consumers = Team::consumers(run, args.consumers, intake).await?;
    let mut client = run.client(0).await?;
    let mut sender = Sender::default();
    let meter = Meter::start(&run.settings.pids)?;
    for _ in 0..args.messages {
        tokio::time::sleep(PAUSE).await;
        sender.send(run, &mut client, 1, Instant::now()).await?;
        // The outcome is in the ledger; this only paces.
        let _ = tokio::time::timeout(RECEIPT_TIMEOUT, run.received.notified()).await;
    }
    tokio::time::sleep(PAUSE).await;
    let usage = meter.stop()?;
    // They wait for what will not come.
    drop(consumers);
    let messages = run.verdict().received;
    Ok(Row::new(String::new(), run, messages, &usage, &run.take_latencies()))
}
