//! Brings back what the queue put aside, and what it refused.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use aws_sdk_sqs::Client;
use aws_sdk_sqs::types::QueueAttributeName;

use crate::crash::{self, Moment};
use crate::queues::{DEAD, Queues};
use crate::{payments, sales};

const LOOK_AGAIN: Duration = Duration::from_millis(300);
const RUNNING: &str = "RUNNING";

/// Moves everything back to where it came from; the number of messages that were moved. What was refused is
/// in the outbox then, for the relay. Whoever dies over it begins again.
pub(crate) async fn run(dir: &Path, queues: &Queues) -> anyhow::Result<i64> {
    let refused = payments::open(dir)?.with(payments::retry_refused).await?;
    crash::point(Moment::Retried);
    sales::open(dir)?.with(|connection| sales::redriven(connection)).await?;
    Ok(move_back(queues).await? + i64::try_from(refused)?)
}

async fn move_back(queues: &Queues) -> anyhow::Result<i64> {
    let arn = queues.attribute(DEAD, QueueAttributeName::QueueArn).await?;
    queues.ask(|client| start(client, &arn)).await?;
    crash::point(Moment::Moving);
    loop {
        let listed = queues.ask(|client| {
            let list = client.list_message_move_tasks().source_arn(&arn);
            async move { Ok(list.send().await?) }
        });
        let list = listed.await?;
        let task = list.results().first().context("the task is not known")?;
        match task.status() {
            Some("COMPLETED") => return Ok(task.approximate_number_of_messages_moved()),
            Some(RUNNING) => tokio::time::sleep(LOOK_AGAIN).await,
            other => bail!("the task is {other:?}: {:?}", task.failure_reason()),
        }
    }
}

/// Another endpoint may have started it before its answer was lost: only one task can run. One that ended since it was
/// in the way may have begun before the last of what is there now.
async fn start(client: Client, arn: &str) -> anyhow::Result<()> {
    let ask = || client.start_message_move_task().source_arn(arn).send();
    if ask().await.is_ok() {
        return Ok(());
    }
    let list = client.list_message_move_tasks().source_arn(arn).send().await?;
    let is_running = list.results().first().is_some_and(|task| task.status() == Some(RUNNING));
    if !is_running {
        ask().await?;
    }
    Ok(())
}
