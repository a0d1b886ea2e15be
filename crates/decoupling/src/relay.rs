//! Empties the outbox into the queue.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use aws_sdk_sqs::types::{BatchResultErrorEntry, SendMessageBatchRequestEntry};
use tokio::sync::Notify;

use crate::crash::{self, Moment};
use crate::database::Database;
use crate::payments::{self, Outgoing, Refused};
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
    // Who dies here sends them once more, and the books skip what they have.
    crash::point(Moment::Sent);
    // Only what the queue has acknowledged, or will never take, leaves the outbox.
    let sent = answer.successful().iter().map(|entry| sequence(entry.id()));
    let sent = sent.collect::<anyhow::Result<Vec<_>>>()?;
    let refused = refused(answer.failed())?;
    let complete = sent.len() + refused.len() == waiting.len();
    database.with(move |connection| payments::settle(connection, &sent, &refused)).await?;
    anyhow::ensure!(complete, "the queue did not take all messages of a batch");
    Ok(true)
}

/// Those that are the sender's fault: the same message would be refused the next time, too. The others are
/// the queue's trouble, and tried again.
fn refused(failed: &[BatchResultErrorEntry]) -> anyhow::Result<Vec<Refused>> {
    let mut refused = Vec::new();
    for entry in failed {
        let reason = format!("{}: {}", entry.code(), entry.message().unwrap_or_default());
        if entry.sender_fault() {
            tracing::error!(sequence = entry.id(), "the queue refuses a message: {reason}");
            refused.push(Refused { sequence: sequence(entry.id())?, reason });
        } else {
            tracing::warn!(sequence = entry.id(), "a message has to wait: {reason}");
        }
    }
    Ok(refused)
}

fn sequence(id: &str) -> anyhow::Result<i64> {
    id.parse().context("an answer to another request")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::payment::Payment;
    use crate::stub;

    /// Refuses what is for "never", and the first time also what is for "later".
    fn answer(action: &str, asked: &Value, is_first: bool) -> Value {
        if action == "GetQueueUrl" {
            return json!({ "QueueUrl": "http://queue" });
        }
        let (mut successful, mut failed) = (Vec::new(), Vec::new());
        for entry in asked["Entries"].as_array().unwrap() {
            let (id, body) = (&entry["Id"], entry["MessageBody"].as_str().unwrap());
            let never = body.contains("never");
            if never || is_first && body.contains("later") {
                failed.push(json!({
                    "Id": id, "SenderFault": never, "Code": "Some", "Message": "why",
                }));
            } else {
                successful.push(json!({ "Id": id, "MessageId": "m", "MD5OfMessageBody": "x" }));
            }
        }
        json!({ "Successful": successful, "Failed": failed })
    }

    #[tokio::test]
    async fn messages_that_the_queue_refuses_do_not_stop_those_behind_them() {
        let dir = tempfile::tempdir().unwrap();
        let database = payments::open(dir.path()).unwrap();
        let products = ["never"; BATCH].into_iter().chain(["later", "home"]);
        let mut ids = Vec::new();
        for (key, product) in products.enumerate() {
            let payment =
                Payment { customer: "Ada".into(), product: product.into(), amount_cents: 1 };
            let accept =
                move |connection: &mut _| payments::accept(connection, &key.to_string(), &payment);
            ids.push(database.with(accept).await.unwrap().request_id);
        }
        let mut requests = 0;
        let queues = stub::queues(move |action, asked| {
            requests += usize::from(action == "SendMessageBatch");
            // The first is refused as a whole, so the second has what the queue takes later.
            answer(action, asked, requests <= 2)
        })
        .await;
        let mut url = None;
        assert!(send_some(&database, &queues, &mut url).await.unwrap());
        let left = database.with(|connection| payments::outgoing(connection, BATCH)).await.unwrap();
        assert_eq!(left.len(), 2);
        // What is not the sender's fault stays, and is tried again.
        send_some(&database, &queues, &mut url).await.unwrap_err();
        assert!(send_some(&database, &queues, &mut url).await.unwrap());
        assert!(!send_some(&database, &queues, &mut url).await.unwrap());
        let totals = database.with(|connection| payments::totals(connection)).await.unwrap();
        assert_eq!((totals.outbox, totals.refused), (0, BATCH as i64));
        let id = ids[0].clone();
        let progress = database.with(move |connection| payments::progress(connection, &id)).await;
        assert_eq!(progress.unwrap(), Some(payments::Progress::Refused));
    }
}
