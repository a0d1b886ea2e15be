//! Nodes that lead are killed under load, one after the other.

use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::pulse::{Pulse, What};
use super::quantile;
use crate::{Fleet, PATIENCE};

/// Between a cluster that is whole and the next kill.
const CALM: Duration = Duration::from_secs(1);
const LOOK_AGAIN: Duration = Duration::from_millis(10);
const KINDS: [What; 3] = [What::Send, What::Receive, What::Delete];
/// Clients of either kind for each node.
const CLIENTS: usize = 2;

/// Kills the leader of some shard so many times; how long it took until each kind of request through
/// the others went well that a leader must answer, in words.
///
/// # Panics
/// When the cluster does not come back.
pub async fn failover(nodes: u64, times: u64) -> String {
    let mut fleet = Fleet::start(nodes).await;
    let mut probes = Vec::new();
    for number in 0..QUEUES {
        probes.push(fifo_queue(&fleet, number).await);
    }
    let queue = fleet.client(1).create_queue("failover").await.expect("a queue can be created");
    let pulse = Pulse::start(&fleet, &queue, CLIENTS);
    let (mut first, mut every, mut longest) = (Vec::new(), Vec::new(), Vec::new());
    for time in 0..times {
        sleep(CALM).await;
        let id = 1 + time % nodes;
        let others: Vec<u64> = fleet.ids().into_iter().filter(|other| *other != id).collect();
        pulse.take();
        let since = Instant::now();
        fleet.kill9(id);
        // Groups live on all shards: when each takes a message again, each has a leader.
        every.push(all_work(&fleet, &others, &probes, since).await);
        let mut beats = pulse.take();
        let firsts = loop {
            let ok = beats.iter().filter(|it| it.node != id && it.ok && it.asked >= since);
            let took =
                |what| ok.clone().filter(move |it| it.what == what).map(|it| it.answered - since);
            let firsts: Vec<_> = KINDS.into_iter().filter_map(|what| took(what).min()).collect();
            if firsts.len() == KINDS.len() {
                break firsts;
            }
            assert!(since.elapsed() < PATIENCE, "no service without node {id}");
            sleep(LOOK_AGAIN).await;
            beats.append(&mut pulse.take());
        };
        first.extend(firsts);
        let took = beats.iter().filter(|it| it.node != id && it.what != What::Receive);
        longest.extend(took.map(|it| it.answered - it.asked).max());
        fleet.launch(id);
        fleet.whole().await;
        until_leading(&fleet, 1 + (time + 1) % nodes).await;
    }
    pulse.stop().await;
    let line = |name: &str, mut all: Vec<Duration>| {
        all.sort_unstable();
        let [half, most, max] = [0.5, 0.99, 1.0].map(|share| quantile(&all, share).as_millis());
        format!("{name}: median {half} ms, p99 {most} ms, longest {max} ms ({})\n", all.len())
    };
    format!(
        "{times} kills of {nodes} nodes in turn\n{}{}{}",
        line("first success of a kind of request through another node", first),
        line("every shard takes messages again through every other node", every),
        line("longest send or delete through another node", longest),
    )
}

/// So many FIFO queues lie on every shard, nearly certainly.
const QUEUES: usize = 16;

async fn fifo_queue(fleet: &Fleet, number: usize) -> String {
    let name = format!("probe-{number}.fifo");
    let attributes =
        serde_json::json!({ "FifoQueue": "true", "ContentBasedDeduplication": "true" });
    let input = serde_json::json!({ "QueueName": name, "Attributes": attributes });
    let created = fleet.client(1).call("CreateQueue", &input).await;
    let created = created.expect("a queue can be created");
    created["QueueUrl"].as_str().expect("a queue has a URL").to_owned()
}

async fn all_work(fleet: &Fleet, through: &[u64], queues: &[String], since: Instant) -> Duration {
    let mut tasks = tokio::task::JoinSet::new();
    for (number, queue) in queues.iter().enumerate() {
        let mut client = fleet.client(through[number % through.len()]);
        let input = serde_json::json!({
            "QueueUrl": queue,
            "MessageBody": format!("{}", since.elapsed().as_nanos()),
            "MessageGroupId": "one",
        });
        tasks.spawn(async move {
            while client.call("SendMessage", &input).await.is_err() {
                assert!(since.elapsed() < PATIENCE, "the others do not take over");
                sleep(Duration::from_millis(10)).await;
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.expect("the others take over");
    }
    since.elapsed()
}

/// Leaders go back to where they were: without any on it, killing a node says nothing.
async fn until_leading(fleet: &Fleet, id: u64) {
    let begin = Instant::now();
    loop {
        let status = fleet.status(id).await;
        let mut groups = status["groups"].as_array().into_iter().flatten();
        if groups.any(|group| group["leads"] == true && group["group"] != "catalog") {
            return;
        }
        assert!(begin.elapsed() < PATIENCE, "node {id} leads nothing");
        sleep(Duration::from_millis(50)).await;
    }
}
