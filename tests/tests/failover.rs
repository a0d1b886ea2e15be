//! Nodes that are killed, one after the other and together, under the eyes of clients.

#![allow(clippy::print_stderr, reason = "what a failover took is worth reading")]

use std::time::{Duration, Instant};

use flotilla_tests::{Connection, Failed, Fleet, Load, Plan};
use serde_json::json;
use tokio::task::JoinSet;

/// So many FIFO queues lie on every shard, nearly certainly.
const FIFO_QUEUES: usize = 16;
/// Kills of which at least one must come while a request is on its way.
const ROUNDS_MAX: usize = 12;
/// An election: followers wait for their leader's lease (700 ms, the longest election timeout) and for one timeout
/// more before they ask for votes (`raft_config` in `crates/consensus`).
const ELECTION: Duration = Duration::from_millis(700 + 700);
/// Half of the kills must be over when a second election would be, beside other tests as well. The second one is
/// for votes that are split and for the machine that tests share; whoever needs a third waits for something else
/// than an election.
const WHOLE_AGAIN: Duration = ELECTION.saturating_mul(2);
/// Each kill. Processes of a busy machine may stand still for longer than an election timeout, again and again.
const LIVENESS: Duration = ELECTION.saturating_mul(10);

fn spread(clients: u64) -> Vec<u64> {
    (0..clients).map(|client| 1 + client % 3).collect()
}

async fn until_stored(load: &Load, more: usize) {
    let wanted = load.stored().await + more;
    let begin = Instant::now();
    while load.stored().await < wanted {
        assert!(begin.elapsed() < flotilla_tests::PATIENCE, "no progress");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_node_in_turn_is_killed_under_load() {
    let mut fleet = Fleet::start(3).await;
    let queue = fleet.client(1).create_queue("turns").await.unwrap();
    let plan = Plan { producers: spread(8), consumers: spread(8), visibility_seconds: 30 };
    let load = Load::start(&fleet, &queue, &plan);
    let mut whole = Vec::new();
    for id in 1..=3 {
        until_stored(&load, 300).await;
        let takeover = load.kill9(&mut fleet, id).await;
        eprintln!("{takeover}");
        whole.push(takeover.whole());
        load.assert_live(LIVENESS).await;
        until_stored(&load, 300).await;
        fleet.launch(id);
        fleet.whole().await;
        load.healed();
    }
    until_stored(&load, 300).await;
    let history = load.finish().await;
    eprintln!(
        "{} stored, {} refused, {} unknown",
        history.stored(),
        history.refused(),
        history.unknown()
    );
    whole.sort();
    assert!(whole[1] <= WHOLE_AGAIN, "whole again after {whole:?}");
}

/// What the front end says of a request that failed, by the id that its client was told, is said of where it
/// failed, too.
fn assert_failures_are_traced(log: &str) {
    let id = |line: &str| {
        let (_, rest) = line.split_once("request_id=")?;
        rest.split_whitespace().next().map(str::to_owned)
    };
    let failed = log.lines().filter(|line| line.contains("request failed"));
    let failed: Vec<String> = failed.filter_map(id).collect();
    assert!(!failed.is_empty(), "no failed request is in\n{log}");
    for id in failed {
        let lines = log.lines().filter(|line| line.contains(&id)).count();
        assert!(lines > 1, "one line of request {id} is not enough in\n{log}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_alone_acknowledges_nothing() {
    let mut fleet = Fleet::start(3).await;
    let queue = fleet.client(1).create_queue("alone").await.unwrap();
    let mut client = fleet.client(1);
    let mut stored = Vec::new();
    for number in 0..20 {
        let body = format!("before {number}");
        client.send(&queue, &body).await.unwrap();
        stored.push(body);
    }
    fleet.kill9(2);
    fleet.kill9(3);
    let mut refused = Vec::new();
    // At once: what the node takes before it knows that it is alone is in doubt.
    for number in 0..3 {
        let begin = Instant::now();
        let body = format!("alone {number}");
        let failure = client.send(&queue, &body).await.unwrap_err();
        assert!(failure.is_retryable() && failure.status.is_some(), "{failure}");
        assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
        assert!(
            failure.outcome == Failed::Unknown || failure.status == Some(503),
            "certainly not done is said with 503: {failure}"
        );
        if failure.outcome != Failed::Unknown {
            refused.push(body);
        }
    }
    // Nobody is to be sent here.
    let begin = Instant::now();
    let mut admin = Connection::new(fleet.admin(1));
    while admin.get("/ready").await.unwrap().status != 503 {
        assert!(begin.elapsed() < Duration::from_secs(20), "it says that it is ready");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(admin.get("/health").await.unwrap().status, 200);
    // What cannot be counted is not left out.
    let ask = json!({"QueueUrl": queue, "AttributeNames": ["ApproximateNumberOfMessages"]});
    match client.call("GetQueueAttributes", &ask).await {
        Ok(answer) => assert_eq!(answer["Attributes"]["ApproximateNumberOfMessages"], "20"),
        Err(failure) => {
            assert_eq!((failure.status, failure.outcome), (Some(503), Failed::NotApplied))
        }
    }
    assert_failures_are_traced(&fleet.log(1));
    fleet.launch(2);
    fleet.launch(3);
    fleet.whole().await;
    client.send(&queue, "after").await.unwrap();
    stored.push("after".into());
    let mut bodies = drain(&fleet, 2, &queue, &stored).await;
    // Others may still have been carried out, but never the certainly refused.
    bodies.extend(drain_rest(&fleet, 3, &queue).await);
    for body in &refused {
        assert!(!bodies.contains(body), "{body} was certainly not carried out, and came");
    }
    bodies.retain(|body| !body.starts_with("alone"));
    bodies.sort();
    stored.sort();
    assert_eq!(bodies, stored);
}

/// FIFO queues, each of which lies on one shard: a node alone knows for certain that it did nothing for a shard that
/// the dead led. It is in doubt about those that it leads itself, and only until it knows that it has lost them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_said_not_to_be_applied_never_comes() {
    let mut fleet = Fleet::start(3).await;
    let mut queues = Vec::new();
    for number in 0..FIFO_QUEUES {
        let name = format!("certain-{number}.fifo");
        let input = json!({ "QueueName": name, "Attributes": { "FifoQueue": "true" } });
        let created = fleet.client(1).call("CreateQueue", &input).await.unwrap();
        queues.push(created["QueueUrl"].as_str().unwrap().to_owned());
    }
    fleet.kill9(2);
    fleet.kill9(3);
    let first = send_to_each(&fleet, &queues, "first").await;
    let of = |wanted| first.iter().filter(|outcome| **outcome == wanted).count();
    let (certain, doubtful) = (of(Failed::NotApplied), of(Failed::Unknown));
    eprintln!("{certain} certainly not applied, {doubtful} in doubt");
    assert!(certain > 0, "everything is in doubt");
    // Each of these was answered after longer than any election takes.
    let second = send_to_each(&fleet, &queues, "second").await;
    assert!(second.iter().all(|outcome| *outcome == Failed::NotApplied), "{second:?}");
    let created = fleet.client(1).create_queue("certainly-not").await.unwrap_err();
    assert_eq!(created.outcome, Failed::NotApplied, "{created}");
    fleet.launch(2);
    fleet.launch(3);
    fleet.whole().await;
    let mut receives = JoinSet::new();
    for (queue, outcome) in queues.into_iter().zip(first) {
        let mut client = fleet.client(2);
        receives.spawn(async move {
            let came = client.receive(&queue, 30, 2).await.unwrap().len();
            let most = usize::from(outcome == Failed::Unknown);
            assert!(came <= most, "{queue}: {outcome:?}, and {came} came");
        });
    }
    receives.join_all().await;
}

/// One message to each of the queues at once, through a node that cannot store it.
async fn send_to_each(fleet: &Fleet, queues: &[String], body: &'static str) -> Vec<Failed> {
    let mut sends = JoinSet::new();
    for (number, queue) in queues.iter().cloned().enumerate() {
        let mut client = fleet.client(1);
        sends.spawn(async move {
            let input = json!({
                "QueueUrl": queue,
                "MessageBody": body,
                "MessageGroupId": "one",
                "MessageDeduplicationId": body,
            });
            let failure = client.call("SendMessage", &input).await.unwrap_err();
            assert!(failure.is_retryable() && failure.status.is_some(), "{failure}");
            (number, failure.outcome)
        });
    }
    let mut outcomes = sends.join_all().await;
    outcomes.sort_by_key(|(number, _)| *number);
    outcomes.into_iter().map(|(_, outcome)| outcome).collect()
}

/// Receives and deletes until everything expected has come; what came.
async fn drain(fleet: &Fleet, id: u64, queue: &str, expected: &[String]) -> Vec<String> {
    let mut client = fleet.client(id);
    let mut bodies: Vec<String> = Vec::new();
    let begin = Instant::now();
    while expected.iter().any(|body| !bodies.contains(body)) {
        assert!(begin.elapsed() < flotilla_tests::PATIENCE, "only {bodies:?}");
        let Ok(messages) = client.receive(queue, 30, 1).await else {
            continue;
        };
        for message in messages {
            client.delete(queue, &message.receipt).await.unwrap();
            bodies.push(message.body);
        }
    }
    bodies
}

/// What is left in the queue.
async fn drain_rest(fleet: &Fleet, id: u64, queue: &str) -> Vec<String> {
    let mut client = fleet.client(id);
    let mut bodies = Vec::new();
    loop {
        let messages = client.receive(queue, 30, 2).await.unwrap();
        if messages.is_empty() {
            return bodies;
        }
        for message in messages {
            client.delete(queue, &message.receipt).await.unwrap();
            bodies.push(message.body);
        }
    }
}

/// Forwarded sends whose answers are lost are repeated by the node, never by the client: however
/// often leaders die, one success is one message.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repeated_send_is_stored_once() {
    let mut fleet = Fleet::start(3).await;
    let queue = fleet.client(1).create_queue("once").await.unwrap();
    // Everything goes through node 1, and most of it to the leaders that are killed.
    let plan = Plan { producers: vec![1; 8], consumers: vec![1; 8], visibility_seconds: 30 };
    let load = Load::start(&fleet, &queue, &plan);
    // Three times, and again while by luck no request was on its way to the node that was killed.
    let mut retries = 0;
    for (round, id) in [2, 3].into_iter().cycle().enumerate() {
        if round >= 3 && retries > 0 {
            break;
        }
        assert!(round < ROUNDS_MAX, "nothing had to be repeated");
        until_stored(&load, 100).await;
        // It stands still first, so that some requests are certainly on their way to it.
        fleet.pause(id);
        tokio::time::sleep(Duration::from_millis(300)).await;
        eprintln!("{}", load.kill9(&mut fleet, id).await);
        load.assert_live(LIVENESS).await;
        fleet.launch(id);
        fleet.whole().await;
        load.healed();
        // Until leaders are where they were: without one on it, killing a node proves nothing.
        let begin = Instant::now();
        while !leads(&fleet, id).await {
            assert!(begin.elapsed() < flotilla_tests::PATIENCE, "nothing goes back to node {id}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        retries = counter(&fleet.metrics(1).await, "flotilla_retries_total");
    }
    until_stored(&load, 100).await;
    // Two ids for one body are a violation, and so is the wrong one.
    let history = load.finish().await;
    eprintln!("{} stored, {} unknown, {retries} repeated", history.stored(), history.unknown());
}

async fn leads(fleet: &Fleet, id: u64) -> bool {
    let status = fleet.status(id).await;
    let groups = status["groups"].as_array().cloned().unwrap_or_default();
    groups.iter().any(|group| group["leads"] == true && group["group"] != "catalog")
}

fn counter(metrics: &str, name: &str) -> u64 {
    let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no {name}"))
}

/// A leader that stands still is replaced, and when it goes on it must not act as one: neither
/// hand out what others lease meanwhile, nor acknowledge what nobody stores.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_node_in_turn_stands_still_under_load() {
    let mut fleet = Fleet::start(3).await;
    let queue = fleet.client(1).create_queue("still").await.unwrap();
    let plan = Plan { producers: spread(6), consumers: spread(6), visibility_seconds: 30 };
    let load = Load::start(&fleet, &queue, &plan);
    for id in 1..=3 {
        until_stored(&load, 100).await;
        fleet.pause(id);
        until_stored(&load, 300).await;
        fleet.resume(id);
        fleet.whole().await;
    }
    until_stored(&load, 100).await;
    let history = load.finish().await;
    eprintln!("{} stored, {} unknown", history.stored(), history.unknown());
}
