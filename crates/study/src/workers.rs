//! The loops of producers and consumers.

use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::bail;
use flotilla_client::CallError;
use tokio::task::JoinSet;

use crate::message::Stamp;
use crate::run::Run;
use crate::sqs::{Client, Outcome, Received};
use crate::supply::Supply;

/// Long enough for a cluster to elect a leader and short enough not to hide that it is gone.
const FAILURES_IN_A_ROW_MAX: u32 = 600;
const PAUSE_AFTER_FAILURE: Duration = Duration::from_millis(50);

/// When a consumer ends.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Until {
    Moment(Instant),
    /// Everything that was acknowledged has come, and after that an answer was empty; or what is
    /// missing is lost.
    Complete,
}

/// What a consumer asks for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Intake {
    pub(crate) batch: usize,
    pub(crate) wait_s: u32,
    pub(crate) until: Until,
}

/// The workers of a phase. Those that are left when it is dropped are ended.
#[derive(Debug, Default)]
pub(crate) struct Team(JoinSet<anyhow::Result<()>>);

impl Team {
    /// Producers with indices from 0.
    pub(crate) async fn producers(
        run: &Rc<Run>,
        count: usize,
        batch: usize,
        supply: Supply,
    ) -> anyhow::Result<Self> {
        let supply = Rc::new(supply);
        let mut team = Self::default();
        for client in clients(run, count, 0).await? {
            team.0.spawn_local(produce(run.clone(), client, supply.clone(), batch));
        }
        Ok(team)
    }

    /// Consumers; the first has another endpoint than the first producer.
    pub(crate) async fn consumers(
        run: &Rc<Run>,
        count: usize,
        intake: Intake,
    ) -> anyhow::Result<Self> {
        let mut team = Self::default();
        for client in clients(run, count, 1).await? {
            team.0.spawn_local(consume(run.clone(), client, intake));
        }
        Ok(team)
    }

    pub(crate) fn add(&mut self, worker: impl Future<Output = anyhow::Result<()>> + 'static) {
        self.0.spawn_local(worker);
    }

    /// Waits for all; the first error ends the others.
    pub(crate) async fn join(&mut self) -> anyhow::Result<()> {
        while let Some(result) = self.0.join_next().await {
            result??;
        }
        Ok(())
    }
}

/// Connected clients, before anything is timed.
pub(crate) async fn clients(run: &Run, count: usize, first: usize) -> anyhow::Result<Vec<Client>> {
    let mut clients = Vec::with_capacity(count);
    for index in 0..count {
        clients.push(run.client(first + index).await?);
    }
    Ok(clients)
}

async fn produce(
    run: Rc<Run>,
    mut client: Client,
    supply: Rc<Supply>,
    batch: usize,
) -> anyhow::Result<()> {
    let mut sender = Sender::default();
    loop {
        if let Supply::Until(moment) = &*supply
            && !run.wait_for_room(batch, *moment).await
        {
            return Ok(());
        }
        let messages = supply.take(batch);
        if messages == 0 {
            return Ok(());
        }
        sender.send(&run, &mut client, messages, Instant::now()).await?;
    }
}

/// Sends, and counts failures.
#[derive(Debug, Default)]
pub(crate) struct Sender {
    stamps: Vec<Stamp>,
    patience: Patience,
}

impl Sender {
    /// One request with new messages, timed since `moment`. A failure is noted and not repeated.
    pub(crate) async fn send(
        &mut self,
        run: &Run,
        client: &mut Client,
        messages: usize,
        moment: Instant,
    ) -> anyhow::Result<()> {
        run.issue(messages, moment, &mut self.stamps);
        match client.send(&run.queue, &self.stamps).await {
            Ok(Outcome { succeeded, failure }) => {
                self.patience = Patience::default();
                let accepted = succeeded.iter().filter_map(|index| self.stamps.get(*index));
                run.note_sent(moment, accepted.copied());
                run.make_room(messages.saturating_sub(succeeded.len()));
                if let Some(code) = failure {
                    run.note_error(code);
                }
                Ok(())
            }
            Err(error) => {
                // They may still come: then the window is that much wider, which does no harm.
                run.make_room(messages);
                self.patience.failed(run, &error).await
            }
        }
    }
}

async fn consume(run: Rc<Run>, mut client: Client, intake: Intake) -> anyhow::Result<()> {
    let mut patience = Patience::default();
    loop {
        if let Until::Moment(moment) = intake.until
            && Instant::now() >= moment
        {
            return Ok(());
        }
        let since = Instant::now();
        match client.receive(&run.queue, intake.batch, intake.wait_s).await {
            Ok(messages) if messages.is_empty() => {
                let done = run.is_complete() || run.is_hopeless();
                if matches!(intake.until, Until::Complete) && done {
                    return Ok(());
                }
            }
            Ok(messages) => {
                patience = Patience::default();
                run.note_received(since, &messages);
                delete(&run, &mut client, &messages).await?;
            }
            Err(error) => patience.failed(&run, &error).await?,
        }
    }
}

/// Deletes, again if the answer is an error: what stays would come a second time.
async fn delete(run: &Run, client: &mut Client, messages: &[Received]) -> anyhow::Result<()> {
    let mut patience = Patience::default();
    loop {
        match client.delete(&run.queue, messages).await {
            Ok(Outcome { failure, .. }) => {
                if let Some(code) = failure {
                    run.note_error(code);
                }
                return Ok(());
            }
            Err(error) => patience.failed(run, &error).await?,
        }
    }
}

/// Counts failures in a row.
#[derive(Debug, Default)]
struct Patience {
    failures: u32,
}

impl Patience {
    /// Notes an error and pauses; ends the run when there were only errors for long.
    async fn failed(&mut self, run: &Run, error: &CallError) -> anyhow::Result<()> {
        run.note_error(error.to_string());
        self.failures += 1;
        if self.failures >= FAILURES_IN_A_ROW_MAX {
            bail!("{} failures in a row, the last: {error}", self.failures);
        }
        tokio::time::sleep(PAUSE_AFTER_FAILURE).await;
        Ok(())
    }
}
