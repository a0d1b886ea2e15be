//! Takes messages from "Sales" and books them.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use aws_sdk_sqs::types::{
    ChangeMessageVisibilityBatchRequestEntry, Message, MessageSystemAttributeName,
    QueueAttributeName,
};
use tokio::sync::watch;

use crate::crash::{self, Moment};
use crate::database::Database;
use crate::payment::{PaymentError, Sale};
use crate::queues::{Queues, SALES};
use crate::sales::{self, BookError, Booked};

/// The longest poll there is: the queue answers at once when something comes.
pub(crate) const WAIT_S: i32 = 20;
const BATCH: i32 = 10;
const PAUSE: Duration = Duration::from_millis(500);
/// A message stays hidden for twelve hours at most; nobody wants to wait that long here.
const RETRY_MAX_S: u32 = 300;

/// While the books are closed: twice as long each time.
const CLOSED_PAUSE: Duration = Duration::from_millis(500);
const CLOSED_PAUSE_MAX: Duration = Duration::from_secs(30);
/// From the end of a pause until the books have answered, and as many messages as are held are booked.
const HOLD_MARGIN: Duration = Duration::from_secs(30);

/// Why a message is not done.
#[derive(Debug, thiserror::Error)]
enum WorkError {
    #[error("the message is none of ours: {0}")]
    Malformed(#[from] serde_json::Error),
    /// Anybody can send to a queue. The database would fail over an amount that it cannot count with.
    #[error("the message is none of ours: {0}")]
    Unpayable(#[from] PaymentError),
    #[error("product {0:?} is not known")]
    UnknownProduct(String),
    /// Not the message's fault, and so no reason to put it aside.
    #[error("the books are closed: {0:#}")]
    Closed(anyhow::Error),
}

/// What a worker needs.
struct Worker {
    database: Database,
    queues: Arc<Queues>,
    retry_s: u32,
    stop: watch::Receiver<bool>,
}

/// Runs until `stop` turns true. What it holds then is finished first, or given back.
pub(crate) async fn run(
    database: Database,
    queues: Arc<Queues>,
    retry_s: u32,
    mut stop: watch::Receiver<bool>,
) {
    let mut worker = Worker { database, queues: queues.clone(), retry_s, stop: stop.clone() };
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
                if !messages.is_empty() {
                    // Who dies here does not have them for long.
                    crash::point(Moment::Received);
                }
                worker.work_off(&url, &messages).await;
            }
            Err(error) => {
                tracing::warn!("cannot receive: {error:#}");
                queues.turn();
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

impl Worker {
    /// Until all are booked or left for later, or `stop` turns true while the books are closed.
    async fn work_off(&mut self, url: &str, messages: &[Message]) {
        let mut pause = CLOSED_PAUSE;
        let mut left = messages;
        while let Some((message, others)) = left.split_first() {
            let done = match work(&self.database, message).await {
                Ok(booked) => {
                    // A message that is not deleted now comes again, and is skipped.
                    crash::point(Moment::Booked);
                    if booked == Booked::Before {
                        let times = times_received(message);
                        tracing::info!(times, "a sale came once more, and is booked already");
                    }
                    delete(&self.queues, url, message).await
                }
                Err(WorkError::Closed(error)) => {
                    tracing::warn!("nothing can be booked: {error:#}");
                    if !self.hold(url, left, pause).await {
                        return;
                    }
                    pause = (2 * pause).min(CLOSED_PAUSE_MAX);
                    continue;
                }
                Err(error) => {
                    tracing::warn!("a message is left for later: {error:#}");
                    self.note(message, &error).await;
                    retry_later(&self.queues, url, self.retry_s, message).await
                }
            };
            // Not worth more: a message that is not deleted comes again, and what was booked is known then.
            if let Err(error) = done {
                tracing::warn!("the message will come again: {error:#}");
                self.queues.turn();
                if *self.stop.borrow() {
                    return;
                }
            }
            pause = CLOSED_PAUSE;
            left = others;
        }
    }

    /// For customers who ask. Who does not hear of it loses nothing.
    async fn note(&self, message: &Message, error: &WorkError) {
        let sale = serde_json::from_str::<Sale>(message.body().unwrap_or_default());
        // Whose it is cannot be told otherwise.
        let Ok(Sale { request_id, .. }) = sale else { return };
        let noted = async {
            let is_last = times_received(message) >= receives_max(&self.queues).await?;
            let reason = error.to_string();
            let note = move |connection: &mut _| {
                sales::note_trouble(connection, &request_id, &reason, is_last)
            };
            self.database.with(note).await
        };
        if let Err(error) = noted.await {
            tracing::warn!("customers do not hear of it: {error:#}");
        }
    }

    /// Keeps messages from other workers during a pause: each that received them meanwhile, and could not book them
    /// either, would bring good messages nearer to being put aside. False: asked to end, and they are given back.
    async fn hold(&mut self, url: &str, messages: &[Message], pause: Duration) -> bool {
        hide(&self.queues, url, messages, pause + HOLD_MARGIN).await;
        let mut stop = self.stop.clone();
        let stopped = tokio::time::timeout(pause, stop.wait_for(|stop| *stop)).await.is_ok();
        if stopped {
            hide(&self.queues, url, messages, Duration::ZERO).await;
        }
        !stopped
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

async fn work(database: &Database, message: &Message) -> Result<Booked, WorkError> {
    let sale: Sale = serde_json::from_str(message.body().unwrap_or_default())?;
    sale.payment.check()?;
    let book = move |connection: &mut _| match sales::book(connection, &sale) {
        Ok(booked) => Ok(Ok(booked)),
        Err(BookError::UnknownProduct(name)) => Ok(Err(WorkError::UnknownProduct(name))),
        Err(BookError::Database(error)) => Err(error),
    };
    database.with(book).await.map_err(WorkError::Closed)?
}

/// All of them, from now on. Should that fail, they come to another worker earlier.
async fn hide(queues: &Queues, url: &str, messages: &[Message], time: Duration) {
    let timeout_s = i32::try_from(time.as_secs()).unwrap_or(i32::MAX);
    let entry = |(index, message): (usize, &Message)| {
        ChangeMessageVisibilityBatchRequestEntry::builder()
            .id(index.to_string())
            .set_receipt_handle(message.receipt_handle().map(str::to_owned))
            .visibility_timeout(timeout_s)
            .build()
    };
    let hidden = async {
        let entries = messages.iter().enumerate().map(entry).collect::<Result<Vec<_>, _>>()?;
        let change = queues.client().change_message_visibility_batch().queue_url(url);
        let answer = change.set_entries(Some(entries)).send().await?;
        match answer.failed().first() {
            Some(failed) => bail!("{}: {}", failed.code(), failed.message().unwrap_or_default()),
            None => Ok(()),
        }
    };
    if let Err(error) = hidden.await {
        tracing::warn!("messages that wait may come to others as well: {error:#}");
        queues.turn();
    }
}

async fn delete(queues: &Queues, url: &str, message: &Message) -> anyhow::Result<()> {
    let handle = message.receipt_handle().context("a message without a handle")?;
    queues.client().delete_message().queue_url(url).receipt_handle(handle).send().await?;
    Ok(())
}

/// How often a message comes before it is put aside. It is asked each time: somebody may change it.
async fn receives_max(queues: &Queues) -> anyhow::Result<u32> {
    let policy = queues.attribute(SALES, QueueAttributeName::RedrivePolicy).await?;
    let policy: serde_json::Value = serde_json::from_str(&policy)?;
    // AWS answers with what it was given, a number or its digits.
    let count = &policy["maxReceiveCount"];
    let count = count.as_u64().or_else(|| count.as_str()?.parse().ok());
    Ok(u32::try_from(count.context("a redrive policy without a count")?)?)
}

/// This message: one that was sent twice is another one each time.
fn times_received(message: &Message) -> u32 {
    let counted = message.attributes().and_then(|attributes| {
        attributes.get(&MessageSystemAttributeName::ApproximateReceiveCount)?.parse().ok()
    });
    counted.unwrap_or(1)
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
    let delay_s = retry_s.saturating_mul(times_received(message)).min(RETRY_MAX_S);
    let change = queues.client().change_message_visibility().queue_url(url);
    change.receipt_handle(handle).visibility_timeout(delay_s.cast_signed()).send().await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;
    use rusqlite::Connection;
    use serde_json::{Value, json};

    use super::*;
    use crate::sales::Standing;
    use crate::stub;

    const PATIENCE: Duration = Duration::from_secs(60);

    /// What a worker asked for.
    type Calls = Arc<Mutex<Vec<(String, Value)>>>;

    fn sale(request_id: &str, product: &str) -> Value {
        let body = json!({
            "request_id": request_id, "customer": "Ada", "product": product, "amount_cents": 7,
        });
        json!({ "MessageId": request_id, "ReceiptHandle": request_id, "Body": body.to_string() })
    }

    /// Gives these messages once, and then none.
    async fn queue(messages: Vec<Value>) -> (Arc<Queues>, Calls) {
        let calls = Calls::default();
        let seen = calls.clone();
        let mut messages = Some(messages);
        let answer = move |action: &str, asked: &Value| {
            let is_empty = messages.is_none();
            if action != "ReceiveMessage" || !is_empty {
                seen.lock().push((action.to_owned(), asked.clone()));
            }
            match action {
                "GetQueueUrl" => json!({ "QueueUrl": "http://queue" }),
                "GetQueueAttributes" => {
                    let policy = json!({ "deadLetterTargetArn": "arn", "maxReceiveCount": 3 });
                    json!({ "Attributes": { "RedrivePolicy": policy.to_string() } })
                }
                "ReceiveMessage" if is_empty => {
                    std::thread::sleep(Duration::from_millis(20));
                    json!({})
                }
                "ReceiveMessage" => json!({ "Messages": messages.take() }),
                "ChangeMessageVisibilityBatch" => json!({ "Successful": [], "Failed": [] }),
                _ => json!({}),
            }
        };
        (Arc::new(stub::queues(answer).await), calls)
    }

    /// How often an action was asked for.
    fn count(calls: &Calls, action: &str) -> usize {
        calls.lock().iter().filter(|(asked, _)| asked == action).count()
    }

    async fn until(holds: impl Fn() -> bool) {
        let wait = async {
            while !holds() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.unwrap();
    }

    const FAIL: &str = "CREATE TRIGGER fail BEFORE INSERT ON booked
                        BEGIN SELECT raise(ABORT, 'the disk is full'); END";

    #[tokio::test]
    async fn good_messages_are_held_while_the_books_are_closed() {
        let dir = tempfile::tempdir().unwrap();
        let database = sales::open(dir.path()).unwrap();
        database.with(|connection| sales::seed(connection)).await.unwrap();
        let other = Connection::open(dir.path().join("sales.db")).unwrap();
        other.execute_batch(FAIL).unwrap();
        let (queues, calls) = queue(vec![sale("a", "home"), sale("b", "motor")]).await;
        let (stop, stopped) = watch::channel(false);
        let worker = tokio::spawn(run(database.clone(), queues, 1, stopped));
        until(|| count(&calls, "ChangeMessageVisibilityBatch") >= 2).await;
        assert_eq!(count(&calls, "ReceiveMessage"), 1);
        assert_eq!(count(&calls, "DeleteMessage") + count(&calls, "ChangeMessageVisibility"), 0);
        for (action, asked) in calls.lock().iter() {
            if action == "ChangeMessageVisibilityBatch" {
                let entries = asked["Entries"].as_array().unwrap();
                assert_eq!(entries.len(), 2);
                let hidden = |entry: &Value| entry["VisibilityTimeout"].as_i64() >= Some(30);
                assert!(entries.iter().all(hidden), "{asked}");
            }
        }
        other.execute_batch("DROP TRIGGER fail").unwrap();
        until(|| count(&calls, "DeleteMessage") == 2).await;
        stop.send_replace(true);
        tokio::time::timeout(PATIENCE, worker).await.unwrap().unwrap();
        let totals = database.with(|connection| sales::totals(connection)).await.unwrap();
        assert_eq!((totals.booked, totals.sales), (2, 2));
    }

    #[tokio::test]
    async fn a_worker_that_is_asked_to_end_while_the_books_are_closed_gives_back_what_it_holds() {
        let dir = tempfile::tempdir().unwrap();
        let database = sales::open(dir.path()).unwrap();
        database.with(|connection| connection.execute_batch(FAIL)).await.unwrap();
        let (queues, calls) = queue(vec![sale("a", "home")]).await;
        let (stop, stopped) = watch::channel(false);
        let worker = tokio::spawn(run(database, queues, 1, stopped));
        until(|| count(&calls, "ChangeMessageVisibilityBatch") >= 1).await;
        stop.send_replace(true);
        tokio::time::timeout(PATIENCE, worker).await.unwrap().unwrap();
        let (action, asked) = calls.lock().last().unwrap().clone();
        assert_eq!(action, "ChangeMessageVisibilityBatch");
        assert_eq!(asked["Entries"][0]["VisibilityTimeout"], 0);
    }

    #[tokio::test]
    async fn only_what_can_never_be_booked_is_left_for_the_dead_letters() {
        let dir = tempfile::tempdir().unwrap();
        let database = sales::open(dir.path()).unwrap();
        database.with(|connection| sales::seed(connection)).await.unwrap();
        let malformed = json!({ "MessageId": "m", "ReceiptHandle": "m", "Body": "x" });
        let amount = json!({
            "request_id": "c", "customer": "Ada", "product": "home", "amount_cents": i64::MAX,
        });
        let third = json!({ "ApproximateReceiveCount": "3" });
        let too_much =
            json!({ "ReceiptHandle": "c", "Body": amount.to_string(), "Attributes": third });
        let messages = vec![malformed, too_much, sale("a", "travel"), sale("b", "home")];
        let (queues, calls) = queue(messages).await;
        let (stop, stopped) = watch::channel(false);
        let worker = tokio::spawn(run(database.clone(), queues, 1, stopped));
        until(|| count(&calls, "DeleteMessage") == 1).await;
        stop.send_replace(true);
        tokio::time::timeout(PATIENCE, worker).await.unwrap().unwrap();
        assert_eq!(count(&calls, "ChangeMessageVisibility"), 3);
        assert_eq!(count(&calls, "ChangeMessageVisibilityBatch"), 0);
        let deleted = {
            let calls = calls.lock();
            calls.iter().find(|(action, _)| action == "DeleteMessage").unwrap().1.clone()
        };
        assert_eq!(deleted["ReceiptHandle"], "b");
        let mut found = Vec::new();
        for id in ["a", "b", "c"] {
            let standing = database.with(move |connection| sales::standing(connection, id)).await;
            found.push(standing.unwrap());
        }
        assert!(matches!(&found[0], Standing::Retried(why) if why.contains("travel")), "{found:?}");
        assert_eq!(found[1], Standing::Booked);
        assert!(matches!(found[2], Standing::PutAside(_)), "{found:?}");
    }
}
