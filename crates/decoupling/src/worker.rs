//! Takes messages from "Sales" and books them.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use aws_sdk_sqs::types::{Message, MessageSystemAttributeName};
use tokio::sync::watch;

use crate::database::Database;
use crate::payment::Sale;
use crate::queues::{Queues, SALES};
use crate::sales::{self, BookError, Booked};

/// The longest poll there is: the queue answers at once when something comes.
pub(crate) const WAIT_S: i32 = 20;
const BATCH: i32 = 10;
const PAUSE: Duration = Duration::from_millis(500);
/// A message stays hidden for twelve hours at most; nobody wants to wait that long here.
const RETRY_MAX_S: u32 = 300;

/// Why a message is not done.
#[derive(Debug, thiserror::Error)]
enum WorkError {
    #[error("the message is none of ours: {0}")]
    Malformed(#[from] serde_json::Error),
    #[error(transparent)]
    Book(#[from] BookError),
}

/// Runs until `stop` turns true. What it holds then is finished first.
pub(crate) async fn run(
    database: Database,
    queues: Arc<Queues>,
    retry_s: u32,
    mut stop: watch::Receiver<bool>,
) {
    let mut url = None;
    while !*stop.borrow() {
        let polled = tokio::select! {
            polled = poll(&queues, &mut url) => polled,
            // Hangs up in the middle of a poll. Should a message be on its way, it is hidden for its visibility
            // timeout, and then comes to another worker.
            _ = stop.changed() => return,
        };
        match polled {
            Ok((url, messages)) => {
                for message in messages {
                    handle(&database, &queues, &url, retry_s, &message).await;
                }
            }
            Err(error) => {
                tracing::warn!("cannot receive: {error:#}");
                queues.turn();
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

async fn poll(
    queues: &Queues,
    known: &mut Option<String>,
) -> anyhow::Result<(String, Vec<Message>)> {
    let url = match known {
        Some(url) => url.clone(),
        None => known.insert(queues.url(SALES).await?).clone(),
    };
    let receive = queues.client().receive_message().queue_url(&url).max_number_of_messages(BATCH);
    let received = receive
        .wait_time_seconds(WAIT_S)
        .message_system_attribute_names(MessageSystemAttributeName::ApproximateReceiveCount)
        .send()
        .await?;
    Ok((url, received.messages.unwrap_or_default()))
}

/// Nothing here is worth an error: a message that is not deleted comes again, and what was booked is
/// known then.
async fn handle(database: &Database, queues: &Queues, url: &str, retry_s: u32, message: &Message) {
    let failed = match work(database, message).await {
        Ok(booked) => {
            if booked == Booked::Before {
                tracing::info!("a sale came once more, and is booked already");
            }
            delete(queues, url, message).await
        }
        Err(error) => {
            tracing::warn!("a message is left for later: {error:#}");
            retry_later(queues, url, retry_s, message).await
        }
    };
    if let Err(error) = failed {
        tracing::warn!("the message will come again: {error:#}");
        queues.turn();
    }
}

async fn work(database: &Database, message: &Message) -> anyhow::Result<Booked> {
    let body = message.body().unwrap_or_default();
    let sale: Sale = serde_json::from_str(body).map_err(WorkError::Malformed)?;
    database.with(move |connection| sales::book(connection, &sale).map_err(WorkError::Book)).await
}

async fn delete(queues: &Queues, url: &str, message: &Message) -> anyhow::Result<()> {
    let handle = message.receipt_handle().context("a message without a handle")?;
    queues.client().delete_message().queue_url(url).receipt_handle(handle).send().await?;
    Ok(())
}

/// Each time later, by the visibility timeout alone: nobody has to keep the message meanwhile. The
/// queue counts, and puts it aside in the end.
async fn retry_later(
    queues: &Queues,
    url: &str,
    retry_s: u32,
    message: &Message,
) -> anyhow::Result<()> {
    let handle = message.receipt_handle().context("a message without a handle")?;
    let counted = message.attributes().and_then(|attributes| {
        attributes.get(&MessageSystemAttributeName::ApproximateReceiveCount)?.parse().ok()
    });
    let delay_s = retry_s.saturating_mul(counted.unwrap_or(1)).min(RETRY_MAX_S);
    let change = queues.client().change_message_visibility().queue_url(url);
    change.receipt_handle(handle).visibility_timeout(delay_s.cast_signed()).send().await?;
    Ok(())
}
