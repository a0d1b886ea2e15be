//! Disks that are nearly full.

use std::time::{Duration, Instant};

use flotilla_cluster::api::{Cluster as _, Queue, ReceiveRequest, Trouble};
use flotilla_cluster::node::Node;
use flotilla_types::ids::NodeId;

use crate::fleet::{Fleet, message, queue, short_poll};

/// Sends through a node until it says something else than `not`.
async fn send_until_not(
    node: &Node,
    queue: &Queue,
    not: Result<(), Trouble>,
) -> Result<(), Trouble> {
    let begin = Instant::now();
    loop {
        let sent = node.send(queue, vec![message(1_000)]).await.remove(0).map(|_| ());
        if sent != not {
            return sent;
        }
        assert!(begin.elapsed() < Duration::from_secs(60), "still {sent:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sends_are_refused_while_a_live_node_is_low_on_space_and_nothing_else_is() {
    let mut fleet = Fleet::start(3).await;
    let created = queue(fleet.node(1), "nearly-full", &[]).await;
    for number in 0..30 {
        fleet.node(1).send(&created, vec![message(number)]).await[0].clone().unwrap();
    }
    fleet.stop(NodeId(3)).await;
    fleet.settings.free_bytes_min = u64::MAX;
    fleet.restart(NodeId(3)).await;
    fleet.ready().await;

    // Node 3 knows it by itself, the others by its word; it is ready all the same.
    for id in [3, 1, 2] {
        let node = fleet.node(id);
        assert_eq!(send_until_not(node, &created, Ok(())).await, Err(Trouble::LowOnSpace));
        assert_eq!(
            node.send(&created, vec![message(0); 2]).await,
            vec![Err(Trouble::LowOnSpace); 2]
        );
        let status = node.status();
        assert_eq!(status.low_on_space, id == 3);
        let elsewhere = if id == 3 { vec![] } else { vec![NodeId(3)] };
        assert_eq!(status.low_on_space_elsewhere, elsewhere);
        assert!(status.free_bytes > 0 && node.ready());
    }
    for id in 1..=3 {
        let node = fleet.node(id);
        for _ in 0..5 {
            let request = ReceiveRequest { max_messages: 1, wait_seconds: 20, ..short_poll() };
            let one = node.receive(&created, request).await.unwrap().messages.remove(0).receipt;
            assert_eq!(node.change_visibility(&created, vec![(one, 0)]).await, vec![Ok(())]);
            let one = node.receive(&created, request).await.unwrap().messages.remove(0).receipt;
            assert_eq!(node.delete(&created, vec![one]).await, vec![Ok(())]);
        }
    }
    fleet.node(1).purge_queue(&created).await.unwrap();

    // A node that is down holds nobody up: its word expires.
    fleet.stop(NodeId(3)).await;
    for id in [1, 2] {
        let refused = Err(Trouble::LowOnSpace);
        assert_eq!(send_until_not(fleet.node(id), &created, refused).await, Ok(()));
    }
    fleet.settings.free_bytes_min = 0;
    fleet.restart(NodeId(3)).await;
    fleet.ready().await;
    for id in 1..=3 {
        assert!(fleet.node(id).send(&created, vec![message(7)]).await[0].is_ok());
    }
}
