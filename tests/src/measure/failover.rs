//! Nodes that lead are killed under load, one after the other.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::pulse::{Pulse, What};
use super::{Judgement, quantile};
use crate::client::Client;
use crate::http::Connection;
use crate::{Fleet, PATIENCE};

/// Between a cluster that is whole and the next kill.
const CALM: Duration = Duration::from_secs(1);
const LOOK_AGAIN: Duration = Duration::from_millis(10);
/// Clients of either kind for each node.
const CLIENTS: usize = 2;
/// So many FIFO queues lie on every shard, nearly certainly.
const QUEUES: usize = 16;
/// What is promised of the slowest of a hundred.
const PROMISED: Duration = Duration::from_secs(3);

/// Kills a node that leads so many times; how long it took until each kind of request went well, through
/// other nodes, that only the leader of a shard can answer which the node had led.
///
/// # Panics
/// When the cluster does not come back.
pub(super) async fn failover(nodes: u64, times: u64) -> Judgement {
    let mut fleet = Fleet::start(nodes).await;
    let probes = probes(&fleet).await;
    let queue = fleet.client(1).create_queue("failover").await.expect("a queue can be created");
    let pulse = Pulse::start(&fleet, &queue, CLIENTS);
    let (mut first, mut longest) = (Vec::new(), Vec::new());
    for time in 0..times {
        let id = 1 + time % nodes;
        let led = until_leading(&fleet, id).await;
        sleep(CALM).await;
        let others: Vec<u64> = fleet.ids().into_iter().filter(|other| *other != id).collect();
        let mut ready = Vec::new();
        for shard in led {
            if let Some(queue) = probes.get(&shard) {
                ready.push(prepare(&fleet, &others, queue).await);
            }
        }
        pulse.take();
        let since = Instant::now();
        fleet.kill9(id);
        let mut asking = JoinSet::new();
        ready.into_iter().for_each(|one| one.ask(&mut asking, since));
        while let Some(took) = asking.join_next().await {
            first.push(took.expect("the others take over"));
        }
        let beats = pulse.take();
        let took = beats.iter().filter(|it| it.node != id && it.what != What::Receive);
        longest.extend(took.map(|it| it.answered - it.asked).max());
        fleet.launch(id);
        fleet.whole().await;
    }
    pulse.stop().await;
    let of = |what| {
        let mut all: Vec<Duration> =
            first.iter().filter(|it: &&(What, Duration)| it.0 == what).map(|it| it.1).collect();
        all.sort_unstable();
        all
    };
    let mut text = format!("{times} kills of {nodes} nodes in turn\n");
    let mut failed = Vec::new();
    let name = "of a shard that the node had led, through another one";
    for what in [What::Send, What::Receive, What::Delete] {
        let all = of(what);
        text.push_str(&line(&format!("first {} {name}", what.name()), &all));
        if all.is_empty() || quantile(&all, 0.99) > PROMISED {
            failed.push(format!("the p99 of {} is not within {PROMISED:?}", what.name()));
        }
    }
    longest.sort_unstable();
    text.push_str(&line("longest send or delete through another node", &longest));
    Judgement { text, failed }
}

fn line(name: &str, sorted: &[Duration]) -> String {
    let [half, most, max] = [0.5, 0.99, 1.0].map(|share| quantile(sorted, share).as_millis());
    format!("{name}: median {half} ms, p99 {most} ms, longest {max} ms ({})\n", sorted.len())
}

/// A FIFO queue for each shard.
async fn probes(fleet: &Fleet) -> BTreeMap<String, String> {
    let mut probes = BTreeMap::new();
    for number in 0..QUEUES {
        let queue = fifo_queue(fleet, number).await;
        probes.insert(shard_of(fleet, &queue).await, queue);
    }
    probes
}

async fn fifo_queue(fleet: &Fleet, number: usize) -> String {
    let name = format!("probe-{number}.fifo");
    let attributes = json!({ "FifoQueue": "true", "ContentBasedDeduplication": "true" });
    let input = json!({ "QueueName": name, "Attributes": attributes });
    let created = fleet.client(1).call("CreateQueue", &input).await;
    let created = created.expect("a queue can be created");
    created["QueueUrl"].as_str().expect("a queue has a URL").to_owned()
}

/// All of such a queue lies on one shard; who receives can ask which.
async fn shard_of(fleet: &Fleet, queue: &str) -> String {
    let head = "POST / HTTP/1.1\r\ncontent-type: application/x-amz-json-1.0\r\n\
                x-amz-target: AmazonSQS.ReceiveMessage\r\nx-flotilla-explain: 1";
    let body = json!({ "QueueUrl": queue }).to_string();
    let answer = Connection::new(fleet.endpoint(1)).request(head, &body, PATIENCE).await;
    let answer = answer.expect("a whole cluster answers");
    // shards=1; asked=3:0
    let polled = answer.header("x-flotilla-polled").unwrap_or_default();
    let asked = polled.split("asked=").nth(1).and_then(|asked| asked.split(':').next());
    format!("shard-{}", asked.expect("it says which shards it has asked"))
}

/// A queue in which a message waits to be received, and another one to be deleted.
struct Ready {
    clients: Vec<Client>,
    queue: String,
    receipt: String,
}

async fn prepare(fleet: &Fleet, through: &[u64], queue: &str) -> Ready {
    let mut client = fleet.client(through[0]);
    let clients = (0..3).map(|place| fleet.client(through[place % through.len()])).collect();
    let expected = "a whole cluster takes and gives messages";
    client.call("SendMessage", &message(queue, "old")).await.expect(expected);
    // Also what is left of the last time.
    let mut receipt = String::new();
    let begin = Instant::now();
    while receipt.is_empty() {
        assert!(begin.elapsed() < PATIENCE, "{expected}");
        for message in client.receive(queue, 600, 1).await.expect(expected) {
            if receipt.is_empty() {
                receipt = message.receipt;
            } else {
                client.delete(queue, &message.receipt).await.expect(expected);
            }
        }
    }
    client.call("SendMessage", &message(queue, "waiting")).await.expect(expected);
    Ready { clients, queue: queue.to_owned(), receipt }
}

/// In a group of its own, so that it waits for none.
fn message(queue: &str, what: &str) -> Value {
    let group = format!("{what}-{}", rand::random::<u64>());
    json!({ "QueueUrl": queue, "MessageBody": group, "MessageGroupId": group })
}

impl Ready {
    /// Each kind of request until it goes well.
    fn ask(mut self, tasks: &mut JoinSet<(What, Duration)>, since: Instant) {
        let Self { queue, receipt, .. } = self;
        for what in [What::Send, What::Receive, What::Delete] {
            let (queue, receipt) = (queue.clone(), receipt.clone());
            let mut client = self.clients.pop().expect("there is one for each");
            tasks.spawn(async move {
                loop {
                    let is_done = match what {
                        What::Send => {
                            client.call("SendMessage", &message(&queue, "new")).await.is_ok()
                        }
                        // An empty answer may come from somebody who did not ask the leader.
                        What::Receive => {
                            client.receive(&queue, 600, 0).await.is_ok_and(|it| !it.is_empty())
                        }
                        What::Delete => client.delete(&queue, &receipt).await.is_ok(),
                    };
                    if is_done {
                        return (what, since.elapsed());
                    }
                    assert!(since.elapsed() < PATIENCE, "nobody takes over a {}", what.name());
                    sleep(LOOK_AGAIN).await;
                }
            });
        }
    }
}

/// Leaders go back to where they were: without any on it, killing a node says nothing. The shards that it
/// leads.
async fn until_leading(fleet: &Fleet, id: u64) -> Vec<String> {
    let begin = Instant::now();
    loop {
        let status = fleet.status(id).await;
        let groups = status["groups"].as_array().into_iter().flatten();
        let led = groups.filter(|it| it["leads"] == true && it["group"] != "catalog");
        let led: Vec<String> =
            led.filter_map(|group| group["group"].as_str().map(str::to_owned)).collect();
        if !led.is_empty() {
            return led;
        }
        assert!(begin.elapsed() < PATIENCE, "node {id} leads nothing");
        sleep(Duration::from_millis(50)).await;
    }
}
