//! Empties the outbox into the queue.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use aws_sdk_sqs::types::SendMessageBatchRequestEntry;
use tokio::sync::Notify;

use crate::database::Database;
use crate::payments::{self, Outgoing};
use crate::queues::{Queues, SALES};

/// As many as a request takes.
const BATCH: usize = 10;
/// After an error, and for messages that nobody told of.
const PAUSE: Duration = Duration::from_millis(500);

/// Runs for ever. `accepted` is told of each new message.
///
/// There may be only one relay at a time for speed, not for safety: what two of them send twice is booked
/// once.
pub(crate) async fn run(database: Database, queues: Arc<Queues>, accepted: Arc<Notify>) {
    let mut url = None;
    loop {
        match send_some(&database, &queues, &mut url).await {
            Ok(true) => {}
            Ok(false) => {
                // A notice that is missed delays a message, it does not lose it.
                let _ = tokio::time::timeout(PAUSE, accepted.notified()).await;
            }
            Err(error) => {
                tracing::warn!("the outbox waits: {error:#}");
                queues.turn();
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Whether there was anything to send.
async fn send_some(
    database: &Database,
    queues: &Queues,
    known: &mut Option<String>,
) -> anyhow::Result<bool> {
    let waiting = database.with(|connection| payments::outgoing(connection, BATCH)).await?;
    if waiting.is_empty() {
        return Ok(false);
    }
    let url = match known {
        Some(url) => url.clone(),
        None => known.insert(queues.url(SALES).await?).clone(),
    };
    let entry = |message: &Outgoing| {
        SendMessageBatchRequestEntry::builder()
            .id(message.sequence.to_string())
            .message_body(&message.body)
            .build()
    };
    let entries = waiting.iter().map(entry).collect::<Result<Vec<_>, _>>()?;
    let send = queues.client().send_message_batch().queue_url(url);
    let answer = send.set_entries(Some(entries)).send().await?;
    // Only what the queue has acknowledged leaves the outbox.
    let sent = answer.successful().iter().map(|entry| entry.id().parse::<i64>());
    let sent = sent.collect::<Result<Vec<_>, _>>().context("an answer to another request")?;
    let complete = sent.len() == waiting.len();
    database.with(move |connection| payments::sent(connection, &sent)).await?;
    anyhow::ensure!(complete, "the queue did not take all messages of a batch");
    Ok(true)
}
