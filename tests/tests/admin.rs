//! Queues that change, seen through every node.

use flotilla_tests::{Client, Fleet};
use serde_json::json;

const ROUNDS: u32 = 20;

fn clients(fleet: &Fleet) -> Vec<Client> {
    (1..=3).map(|id| fleet.client(id)).collect()
}

/// What one node answered with success every other one reads, without any wait.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attributes_are_read_as_they_were_written_through_another_node() {
    let fleet = Fleet::start(3).await;
    let mut clients = clients(&fleet);
    let queue = clients[0].create_queue("tuned").await.unwrap();
    for round in 0..ROUNDS {
        let wanted = (2_000 + round).to_string();
        let attributes = json!({ "MaximumMessageSize": wanted });
        let input = json!({ "QueueUrl": queue, "Attributes": attributes });
        let writer = round as usize % 3;
        clients[writer].call("SetQueueAttributes", &input).await.unwrap();
        for reader in 1..3 {
            let client = &mut clients[(writer + reader) % 3];
            let input = json!({ "QueueUrl": queue, "AttributeNames": ["MaximumMessageSize"] });
            let answer = client.call("GetQueueAttributes", &input).await.unwrap();
            assert_eq!(answer["Attributes"]["MaximumMessageSize"], wanted, "round {round}");
        }
    }
}

/// A deletion that one node answered with success holds on every node that can be reached.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_queue_is_gone_on_every_node_at_once() {
    let fleet = Fleet::start(3).await;
    let mut clients = clients(&fleet);
    for round in 0..ROUNDS {
        let queue = clients[0].create_queue(&format!("brief-{round}")).await.unwrap();
        let deleter = round as usize % 3;
        for client in &mut clients {
            client.send(&queue, "before").await.unwrap();
        }
        clients[deleter].call("DeleteQueue", &json!({ "QueueUrl": queue })).await.unwrap();
        for other in 1..3 {
            let client = &mut clients[(deleter + other) % 3];
            let failure = client.send(&queue, "after").await.unwrap_err();
            assert!(failure.text.contains("QueueDoesNotExist"), "round {round}: {failure}");
        }
    }
}
