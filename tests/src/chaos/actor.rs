//! A client that writes down everything that it does.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use flotilla_history::record::{
    Change, ChangeEntry, Delete, DeleteEntry, Delivered, MoveStatus, OnQueue, Receive, Send,
    SendEntry, Sent, StartMove, WithAttributes,
};
use flotilla_history::{Op, Outcome, Record};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::chaos::answer::{self, Applied, Draft};
use crate::chaos::book::Book;
use crate::chaos::queues::Place;
use crate::http::{Answer, Connection, HttpError};

/// A request whose answer takes longer, beyond the wait of a long poll, is given up. Longer than an
/// election, so that what is merely slow is not called unknown.
const PATIENCE: Duration = Duration::from_secs(10);
/// After a failure, so that a dead node's clients do not spin.
const PAUSE: Duration = Duration::from_millis(50);

/// One request and what is known of it.
struct Asked {
    node: u32,
    invoked_us: u64,
    returned_us: u64,
    status: Option<u16>,
    request_id: Option<String>,
    /// The answer, or why there is none.
    result: Outcome<Value>,
    /// What the answer says beside itself.
    aside: Aside,
}

/// What the product's headers say of what failed, and of where messages are.
#[derive(Debug, Default)]
struct Aside {
    /// Of a success: what failed of it certainly was not applied, or may have been.
    applied: Option<Applied>,
    /// Of the answer's messages, in order.
    shards: Vec<u32>,
    /// Of those that a receive could not ask.
    unheard: Vec<u32>,
}

impl Aside {
    fn of(answer: &Answer) -> Self {
        let applied = answer.header("x-flotilla-outcome").map(|text| match text {
            "not-applied" => Applied::No,
            _ => Applied::Perhaps,
        });
        let shards = answer.header("x-flotilla-shards").unwrap_or_default();
        let shards = shards.split(',').filter_map(|shard| shard.parse().ok());
        let polled = answer.header("x-flotilla-polled").unwrap_or_default();
        Self { applied, shards: shards.collect(), unheard: answer::unheard(polled) }
    }
}

impl Asked {
    fn outcome<T>(&self, made: impl FnOnce(&Value) -> T) -> Outcome<T> {
        match &self.result {
            Outcome::Ok(answer) => Outcome::Ok(made(answer)),
            Outcome::Fail(code) => Outcome::Fail(code.clone()),
            Outcome::Info(why) => Outcome::Info(why.clone()),
        }
    }
}

/// A receive as it is asked.
#[derive(Clone, Debug, Default)]
pub(super) struct Wish {
    pub(super) max: u32,
    pub(super) wait_seconds: u64,
    /// `None`: the queue's.
    pub(super) visibility_seconds: Option<u64>,
    pub(super) attempt: Option<String>,
    /// `None`: as long as it takes. What has not come by then is given up, and its connection.
    pub(super) patience: Option<Duration>,
}

/// See the module. It repeats nothing by itself.
pub(super) struct Actor {
    pub(super) process: u32,
    pub(super) book: Arc<Book>,
    pub(super) dice: StdRng,
    connections: Vec<(u32, Connection)>,
    at: usize,
}

impl Actor {
    /// A client of the nodes at these addresses; it begins with any of them.
    pub(super) fn new(process: u32, seed: u64, nodes: &[(u64, String)], book: Arc<Book>) -> Self {
        let connections = nodes.iter().map(|(id, at)| (*id as u32, Connection::new(at.as_str())));
        let connections: Vec<_> = connections.collect();
        let dice = StdRng::seed_from_u64(seed ^ (u64::from(process) << 32));
        let at = process as usize % connections.len();
        Self { process, book, dice, connections, at }
    }

    /// True once in so many times, on average.
    pub(super) fn once_in(&mut self, times: u32) -> bool {
        self.dice.random_range(0..times) == 0
    }

    /// From now on reads answers in small pieces, with pauses.
    pub(super) fn read_slowly(&mut self) {
        self.connections.iter_mut().for_each(|(_, connection)| connection.read_slowly());
    }

    /// Goes on through the next node.
    pub(super) fn move_on(&mut self) {
        self.at = (self.at + 1) % self.connections.len();
    }

    async fn ask(&mut self, action: &str, input: &Value, patience: Duration) -> Asked {
        // Most clients stay where they are, none for ever.
        if self.once_in(10) {
            self.move_on();
        }
        let head = format!(
            "POST / HTTP/1.1\r\ncontent-type: application/x-amz-json-1.0\r\n\
             x-flotilla-explain: 1\r\nx-amz-target: AmazonSQS.{action}"
        );
        let (node, connection) = &mut self.connections[self.at];
        let node = *node;
        let invoked_us = self.book.now_us();
        let reply = connection.request(&head, &input.to_string(), patience).await;
        let returned_us = self.book.now_us();
        let (mut status, mut request_id, mut aside) = (None, None, Aside::default());
        let result = match reply {
            Err(HttpError::NotSent(why)) => Outcome::Fail(format!("not sent: {why}")),
            Err(HttpError::NoAnswer(why)) => Outcome::Info(why),
            Ok(reply) => {
                let outcome = reply.header("x-flotilla-outcome");
                aside = Aside::of(&reply);
                status = Some(reply.status);
                request_id = reply.header("x-amzn-requestid").map(str::to_owned);
                let empty = reply.body.is_empty();
                let body = if empty { Ok(Value::Null) } else { serde_json::from_str(&reply.body) };
                match body {
                    Err(error) => Outcome::Info(format!("not JSON: {error}")),
                    Ok(body) if reply.status == 200 => Outcome::Ok(body),
                    Ok(body) => {
                        let shape = body["__type"].as_str().unwrap_or_default();
                        let code = shape.rsplit('#').next().unwrap_or_default();
                        Outcome::of_error(outcome, code)
                    }
                }
            }
        };
        if result.ok().is_none() {
            self.move_on();
            sleep(PAUSE).await;
        }
        Asked { node, invoked_us, returned_us, status, request_id, result, aside }
    }

    fn record(&self, asked: Asked, op: Op) {
        let Asked { node, invoked_us, returned_us, status, request_id, .. } = asked;
        let process = self.process;
        self.book.record(&Record {
            process,
            node,
            invoked_us,
            returned_us,
            status,
            request_id,
            op,
        });
    }

    /// Sends one message, or several as a batch.
    pub(super) async fn send(&mut self, queue: &Place, drafts: &[Draft]) -> Vec<Outcome<Sent>> {
        let one = drafts.len() == 1;
        let fields = drafts.iter().map(Draft::fields);
        let (asked, (results, answered)) = match one {
            true => {
                let mut input = drafts[0].fields();
                input["QueueUrl"] = json!(queue.url);
                let asked = self.ask("SendMessage", &input, PATIENCE).await;
                let shard = asked.aside.shards.first().copied();
                let result = asked.outcome(|answer| drafts[0].sent(answer, shard));
                (asked, (vec![result], None))
            }
            false => {
                let made = |place: usize, answer: &Value, shard| drafts[place].sent(answer, shard);
                self.batch("SendMessageBatch", queue, fields, drafts.len(), made).await
            }
        };
        let entries = drafts.iter().zip(&results).map(|(draft, result)| SendEntry {
            content: draft.content(),
            group: draft.group.clone(),
            dedup: draft.dedup.clone(),
            delay_ms: draft.delay_seconds.map(|seconds| seconds * 1_000),
            result: result.clone(),
        });
        let op = Send { queue: queue.name.clone(), entries: entries.collect(), answered };
        self.record(asked, Op::Send(op));
        results
    }

    async fn batch<T>(
        &mut self,
        action: &str,
        queue: &Place,
        fields: impl Iterator<Item = Value>,
        count: usize,
        made: impl Fn(usize, &Value, Option<u32>) -> T,
    ) -> (Asked, (Vec<Outcome<T>>, Option<Vec<u32>>)) {
        let entries: Vec<Value> = fields
            .enumerate()
            .map(|(place, mut fields)| {
                fields["Id"] = json!(answer::entry_id(place));
                fields
            })
            .collect();
        let input = json!({ "QueueUrl": queue.url, "Entries": entries });
        let asked = self.ask(action, &input, PATIENCE).await;
        let results = match &asked.result {
            Outcome::Ok(answer) => {
                let Aside { applied, shards, .. } = &asked.aside;
                answer::entries(answer, count, *applied, shards, made)
            }
            Outcome::Fail(why) => ((0..count).map(|_| Outcome::Fail(why.clone())).collect(), None),
            Outcome::Info(why) => ((0..count).map(|_| Outcome::Info(why.clone())).collect(), None),
        };
        (asked, results)
    }

    /// Receives; `None` when it failed.
    pub(super) async fn receive(&mut self, queue: &Place, wish: &Wish) -> Option<Vec<Delivered>> {
        let mut input = json!({
            "QueueUrl": queue.url,
            "MaxNumberOfMessages": wish.max,
            "WaitTimeSeconds": wish.wait_seconds,
            "MessageSystemAttributeNames": ["All"],
            "MessageAttributeNames": ["All"],
        });
        if let Some(seconds) = wish.visibility_seconds {
            input["VisibilityTimeout"] = json!(seconds);
        }
        if let Some(attempt) = &wish.attempt {
            input["ReceiveRequestAttemptId"] = json!(attempt);
        }
        let patience = wish.patience.unwrap_or(PATIENCE + Duration::from_secs(wish.wait_seconds));
        let asked = self.ask("ReceiveMessage", &input, patience).await;
        let result = asked.outcome(|answer| answer::delivered(answer, &asked.aside.shards));
        let messages = result.ok().cloned();
        let lost = messages.is_some() && asked.aside.applied.is_some();
        let op = Receive {
            queue: queue.name.clone(),
            max: wish.max,
            wait_ms: Some(wish.wait_seconds * 1_000),
            visibility_ms: wish.visibility_seconds.map(|seconds| seconds * 1_000),
            attempt: wish.attempt.clone(),
            lost,
            unheard: asked.aside.unheard.clone(),
            result,
        };
        self.record(asked, Op::Receive(op));
        messages
    }

    /// Deletes one message, or several as a batch.
    pub(super) async fn delete(&mut self, queue: &Place, handles: &[String]) {
        let (asked, (results, answered)) = match handles {
            [handle] => {
                let input = json!({ "QueueUrl": queue.url, "ReceiptHandle": handle });
                let asked = self.ask("DeleteMessage", &input, PATIENCE).await;
                let result = asked.outcome(|_| ());
                (asked, (vec![result], None))
            }
            _ => {
                let fields = handles.iter().map(|handle| json!({ "ReceiptHandle": handle }));
                self.batch("DeleteMessageBatch", queue, fields, handles.len(), |_, _, _| ()).await
            }
        };
        let entries = handles.iter().zip(results);
        let entries =
            entries.map(|(handle, result)| DeleteEntry { handle: handle.clone(), result });
        let op = Delete { queue: queue.name.clone(), entries: entries.collect(), answered };
        self.record(asked, Op::Delete(op));
    }

    /// Changes a visibility timeout, or several as a batch.
    pub(super) async fn change(&mut self, queue: &Place, changes: &[(String, u64)]) {
        let fields = |change: &(String, u64)| {
            let (handle, seconds) = change;
            json!({ "ReceiptHandle": handle, "VisibilityTimeout": seconds })
        };
        let (asked, (results, answered)) = match changes {
            [change] => {
                let mut input = fields(change);
                input["QueueUrl"] = json!(queue.url);
                let asked = self.ask("ChangeMessageVisibility", &input, PATIENCE).await;
                let result = asked.outcome(|_| ());
                (asked, (vec![result], None))
            }
            _ => {
                let action = "ChangeMessageVisibilityBatch";
                let count = changes.len();
                self.batch(action, queue, changes.iter().map(fields), count, |_, _, _| ()).await
            }
        };
        let entry = |((handle, seconds), result): (&(String, u64), _)| ChangeEntry {
            handle: handle.clone(),
            visibility_ms: seconds * 1_000,
            result,
        };
        let entries = changes.iter().zip(results).map(entry).collect();
        let op = Change { queue: queue.name.clone(), entries, answered };
        self.record(asked, Op::Change(op));
    }

    /// Purges; whether it was done.
    pub(super) async fn purge(&mut self, queue: &Place) -> bool {
        let asked = self.ask("PurgeQueue", &json!({ "QueueUrl": queue.url }), PATIENCE).await;
        let result = asked.outcome(|_| ());
        let done = result.ok().is_some();
        self.record(asked, Op::Purge(OnQueue { queue: queue.name.clone(), result }));
        done
    }

    /// Creates a queue; its URL when that went well.
    pub(super) async fn create(
        &mut self,
        name: &str,
        attributes: &BTreeMap<String, String>,
    ) -> Option<String> {
        let input = json!({ "QueueName": name, "Attributes": attributes });
        let asked = self.ask("CreateQueue", &input, PATIENCE).await;
        let url = asked.result.ok().and_then(|answer| answer["QueueUrl"].as_str());
        let url = url.map(str::to_owned);
        let result = asked.outcome(|_| ());
        let (queue, attributes) = (name.to_owned(), attributes.clone());
        self.record(asked, Op::CreateQueue(WithAttributes { queue, attributes, result }));
        url
    }

    /// Reads all attributes.
    pub(super) async fn attributes(&mut self, queue: &Place) -> Option<BTreeMap<String, String>> {
        let input = json!({ "QueueUrl": queue.url, "AttributeNames": ["All"] });
        let asked = self.ask("GetQueueAttributes", &input, PATIENCE).await;
        let result = asked.outcome(|answer| {
            let attributes = answer["Attributes"].as_object().into_iter().flatten();
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            attributes.map(|(name, value)| (name.clone(), text(value))).collect()
        });
        let attributes = result.ok().cloned();
        self.record(asked, Op::GetAttributes(OnQueue { queue: queue.name.clone(), result }));
        attributes
    }

    /// Changes attributes.
    pub(super) async fn set_attributes(
        &mut self,
        queue: &Place,
        attributes: BTreeMap<String, String>,
    ) {
        let input = json!({ "QueueUrl": queue.url, "Attributes": attributes });
        let asked = self.ask("SetQueueAttributes", &input, PATIENCE).await;
        let result = asked.outcome(|_| ());
        let queue = queue.name.clone();
        self.record(asked, Op::SetAttributes(WithAttributes { queue, attributes, result }));
    }

    /// Deletes a queue.
    pub(super) async fn delete_queue(&mut self, queue: &Place) -> Outcome<()> {
        let input = json!({ "QueueUrl": queue.url });
        let asked = self.ask("DeleteQueue", &input, PATIENCE).await;
        let result = asked.outcome(|_| ());
        let op = OnQueue { queue: queue.name.clone(), result: result.clone() };
        self.record(asked, Op::DeleteQueue(op));
        result
    }

    /// Starts to move dead letters, back to where they came from or elsewhere; the task's handle.
    pub(super) async fn start_move(
        &mut self,
        source: &Place,
        to: Option<&Place>,
    ) -> Option<String> {
        let mut input = json!({ "SourceArn": source.arn });
        if let Some(to) = to {
            input["DestinationArn"] = json!(to.arn);
        }
        let asked = self.ask("StartMessageMoveTask", &input, PATIENCE).await;
        let result = asked.outcome(|answer| answer["TaskHandle"].as_str().unwrap_or("").to_owned());
        let task = result.ok().cloned();
        let destination = to.map(|to| to.name.clone());
        let op = StartMove { source: source.name.clone(), destination, result };
        self.record(asked, Op::StartMove(op));
        task
    }

    /// Ends a task.
    pub(super) async fn cancel_move(&mut self, source: &Place, task: &str) {
        let input = json!({ "TaskHandle": task });
        let asked = self.ask("CancelMessageMoveTask", &input, PATIENCE).await;
        let moved = |answer: &Value| answer["ApproximateNumberOfMessagesMoved"].as_u64();
        let result = asked.outcome(|answer| moved(answer).unwrap_or(0));
        self.record(asked, Op::CancelMove(OnQueue { queue: source.name.clone(), result }));
    }

    /// Asks how far the newest move task is.
    pub(super) async fn list_moves(&mut self, source: &Place) {
        let input = json!({ "SourceArn": source.arn });
        let asked = self.ask("ListMessageMoveTasks", &input, PATIENCE).await;
        let result = asked.outcome(|answer| {
            let newest = answer["Results"].get(0)?;
            let status = newest["Status"].as_str()?.to_owned();
            let moved = newest["ApproximateNumberOfMessagesMoved"].as_u64().unwrap_or(0);
            Some(MoveStatus { status, moved })
        });
        self.record(asked, Op::ListMoves(OnQueue { queue: source.name.clone(), result }));
    }
}
