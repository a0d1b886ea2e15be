//! Long polls that wait while nodes fail.

use std::time::{Duration, Instant};

use flotilla_tests::{Client, Condition, Fleet, PATIENCE, Settings};
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::sleep;

/// So many FIFO queues lie on every shard, nearly certainly.
const QUEUES: usize = 16;
/// What SQS allows.
const WAIT_SECONDS: u32 = 20;
/// Until a poll that was just sent has been parked.
const SETTLED: Duration = Duration::from_secs(1);

async fn fifo_queues(fleet: &Fleet, name: &str) -> Vec<String> {
    let mut client = fleet.client(1);
    let mut queues = Vec::new();
    for number in 0..QUEUES {
        let input = json!({
            "QueueName": format!("{name}-{number}.fifo"),
            "Attributes": { "FifoQueue": "true" },
        });
        let created = client.call("CreateQueue", &input).await.unwrap();
        queues.push(created["QueueUrl"].as_str().unwrap().to_owned());
    }
    queues
}

/// As SDKs do: again until it is accepted.
async fn send_until_accepted(client: &mut Client, queue: &str, body: &str) {
    let begin = Instant::now();
    let input = json!({
        "QueueUrl": queue,
        "MessageBody": body,
        "MessageGroupId": "one",
        "MessageDeduplicationId": body,
    });
    while let Err(failure) = client.call("SendMessage", &input).await {
        assert!(failure.is_retryable() && begin.elapsed() < PATIENCE, "{failure}");
    }
}

/// Polls every queue through the nodes that live, has the victim fail, and sends to all. Each poll must end
/// with the message that comes after the election: neither with an error nor, after its whole
/// wait, with nothing.
async fn outlive(fleet: &mut Fleet, queues: &[String], victim: u64, fail: fn(&mut Fleet, u64)) {
    let others: Vec<u64> = (1..=3).filter(|id| *id != victim).collect();
    let mut polls = JoinSet::new();
    for (number, queue) in queues.iter().cloned().enumerate() {
        let mut client = fleet.client(others[number % 2]);
        polls.spawn(async move {
            let received = client.receive(&queue, 30, WAIT_SECONDS).await;
            let messages = received.unwrap_or_else(|failure| panic!("{queue}: {failure}"));
            assert_eq!(messages.len(), 1, "{queue}: it waited in vain");
            client.delete(&queue, &messages[0].receipt).await.unwrap();
            messages[0].body.clone()
        });
    }
    sleep(SETTLED).await;
    fail(fleet, victim);
    for (number, queue) in queues.iter().enumerate() {
        // Not through the node that waits, so that the message is news to it.
        let mut client = fleet.client(others[(number + 1) % 2]);
        send_until_accepted(&mut client, queue, &format!("{victim}-{number}")).await;
    }
    let mut bodies = polls.join_all().await;
    bodies.sort();
    let mut sent: Vec<String> = (0..QUEUES).map(|number| format!("{victim}-{number}")).collect();
    sent.sort();
    assert_eq!(bodies, sent);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn polls_outlive_leaders_that_are_killed() {
    let mut fleet = Fleet::start(3).await;
    let queues = fifo_queues(&fleet, "killed").await;
    for victim in 1..=3 {
        outlive(&mut fleet, &queues, victim, Fleet::kill9).await;
        fleet.launch(victim);
        fleet.whole().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn polls_outlive_leaders_that_stand_still() {
    let mut fleet = Fleet::start(3).await;
    let queues = fifo_queues(&fleet, "still").await;
    for victim in 1..=3 {
        outlive(&mut fleet, &queues, victim, |fleet, id| fleet.pause(id)).await;
        fleet.resume(victim);
        fleet.whole().await;
    }
}

/// A node that says nothing holds up nobody: a poll through another node, begun before anybody knows that
/// the link is dead, ends with a message of a third node. (Once: the message may be on the silent one.)
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn polls_do_not_wait_for_a_node_that_is_silent() {
    const ROUNDS: u32 = 8;
    let settings = Settings { links: true, ..Settings::default() };
    let mut fleet = Fleet::start_with(3, &settings).await;
    let queue = fleet.client(1).create_queue("silent").await.unwrap();
    for round in 0..ROUNDS {
        fleet.impair(&[(1, 3), (3, 1), (2, 3), (3, 2)], Condition::SHUT).await;
        let mut waiting = fleet.client(1);
        let at = queue.clone();
        // Over before the silent node is known to be gone.
        let poll = tokio::spawn(async move { waiting.receive(&at, 1, 1).await });
        sleep(Duration::from_millis(100)).await;
        let sent = fleet.client(2).send(&queue, &format!("{round}")).await;
        let received = poll.await.unwrap();
        fleet.rejoin();
        fleet.whole().await;
        if sent.is_ok() && received.is_ok_and(|messages| !messages.is_empty()) {
            return;
        }
    }
    panic!("in {ROUNDS} rounds no poll ended with a message");
}
