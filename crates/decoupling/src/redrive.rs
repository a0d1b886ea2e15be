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
    let arn = queues.attribute(DEAD, QueueAttributeName::QueueArn).await?;
    queues.ask(|client| start(client, &arn)).await?;
    crash::point(Moment::Moving);
    // Not before: what does not move is still put aside, and its customers shall hear so.
    sales::open(dir)?.with(|connection| sales::redriven(connection)).await?;
    Ok(moved(queues, &arn).await? + i64::try_from(refused)?)
}

/// The number of messages, when all are moved.
async fn moved(queues: &Queues, arn: &str) -> anyhow::Result<i64> {
    loop {
        let listed = queues.ask(|client| {
            let list = client.list_message_move_tasks().source_arn(arn);
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::sales::Standing;
    use crate::stub;

    /// What a customer hears of a message that was put aside, after a redrive.
    async fn heard(starts: bool) -> (bool, Standing) {
        let dir = tempfile::tempdir().unwrap();
        let database = sales::open(dir.path()).unwrap();
        let note = |connection: &mut _| sales::note_trouble(connection, "a", "why", true);
        database.with(note).await.unwrap();
        let queues = stub::queues(move |action, _| match action {
            "GetQueueUrl" => json!({ "QueueUrl": "http://queue" }),
            "GetQueueAttributes" => json!({ "Attributes": { "QueueArn": "arn" } }),
            "StartMessageMoveTask" if starts => json!({ "TaskHandle": "t" }),
            "StartMessageMoveTask" => stub::refusal("ResourceNotFoundException"),
            "ListMessageMoveTasks" if starts => json!({ "Results": [{ "Status": "COMPLETED" }] }),
            "ListMessageMoveTasks" => json!({ "Results": [] }),
            other => panic!("{other}"),
        });
        let has_moved = run(dir.path(), &queues.await).await.is_ok();
        let standing = database.with(|connection| sales::standing(connection, "a")).await;
        (has_moved, standing.unwrap())
    }

    #[tokio::test]
    async fn what_could_not_be_moved_stays_put_aside() {
        assert_eq!(heard(false).await, (false, Standing::PutAside("why".into())));
        assert_eq!(heard(true).await, (true, Standing::Retried("why".into())));
    }
}
