//! Queues, what they have, and what of them outlives restarts.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use flotilla_cluster::AllGauges;
use flotilla_cluster::api::{
    AddPermissionError, Cluster as _, Counts, CreateError, Outgoing, PurgeError, Queue,
    ReceiveRequest, RemovePermissionError, TagError, Trouble,
};
use flotilla_cluster::node::Node;
use flotilla_types::attributes::{AttributePatch, GrantError, PatchFor, RevokeError};
use flotilla_types::ids::NodeId;
use flotilla_types::limits::CATALOG_COMMANDS_MAX;
use flotilla_types::names::{AccountId, QueueName};
use flotilla_types::permission::{GrantableAction, Label, Permission};
use futures::future::join_all;

use crate::fleet::{Fleet, drain, message, queue, short_poll};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_form_and_share_a_queue() {
    let fleet = Fleet::start(3).await;
    let name = QueueName::new("shared").unwrap();
    let created = queue(fleet.node(1), "shared", &[]).await;
    // Known at once through every node.
    for id in 1..=3 {
        assert_eq!(fleet.node(id).queue(&name).await.unwrap().id, created.id);
    }
    for number in 0..60 {
        let node = fleet.node(1 + number % 3);
        assert!(node.send(&created, vec![message(number)]).await[0].is_ok());
    }
    let counts = fleet.node(2).counts(&created).await.unwrap();
    assert_eq!((counts.visible, counts.in_flight), (60, 0));
    let ids = drain(fleet.node(3), &created, 60).await;
    assert_eq!(ids, (0..60).map(|number| message(number).message_id).collect::<Vec<_>>());
    let counts = fleet.node(1).counts(&created).await.unwrap();
    assert_eq!((counts.visible, counts.in_flight), (0, 0));
    fleet.node(1).delete_queue(&created).await.unwrap();
    assert!(fleet.node(1).queue(&name).await.is_err());
}

fn permission(label: &str) -> Permission {
    Permission {
        label: Label::new(label).unwrap(),
        accounts: vec![AccountId::new("111111111111").unwrap()],
        actions: vec![GrantableAction::SendMessage],
        queue_arn: "arn:aws:sqs:us-east-1:000000000000:changed".into(),
    }
}

/// Until a node's replica of the catalog has a queue like this.
async fn known(node: &Node, name: &QueueName, like: impl Fn(&Queue) -> bool) {
    let begin = Instant::now();
    loop {
        let queue = node.queue(name).await.unwrap();
        if like(&queue) {
            return;
        }
        assert!(begin.elapsed() < Duration::from_secs(60), "still {queue:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Every node carries out and refuses changes, wherever the catalog's leader is; all of it
/// outlives the processes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tags_permissions_and_sources_are_the_same_through_every_node() {
    let mut fleet = Fleet::start(3).await;
    let to_itself = "{\"deadLetterTargetArn\":\"arn:aws:sqs:us-east-1:000000000000:changed\",\
                     \"maxReceiveCount\":3}";
    let created = queue(fleet.node(1), "changed", &[("RedrivePolicy", to_itself)]).await;
    let pair = |key: u64| (key.to_string(), "v".to_owned());
    for id in 1..=3 {
        let node = fleet.node(id);
        let tags = BTreeMap::from([pair(id), pair(10 + id)]);
        node.tag_queue(&created, &tags).await.unwrap();
        node.untag_queue(&created, &BTreeSet::from([(10 + id).to_string()])).await.unwrap();
        let too_many = node.tag_queue(&created, &(0..51).map(pair).collect()).await;
        assert_eq!(too_many, Err(TagError::TooMany));
        let added = permission(&id.to_string());
        node.add_permission(&created, &added).await.unwrap();
        let again = node.add_permission(&created, &added).await;
        assert_eq!(again, Err(AddPermissionError::Refused(GrantError::LabelExists)));
        let none = node.remove_permission(&created, &Label::new("none").unwrap()).await;
        assert_eq!(none, Err(RemovePermissionError::Refused(RevokeError::NoSuchLabel)));
        let tags = (1..=id).map(pair).collect();
        known(node, &created.name, |queue| queue.tags == tags).await;
    }
    fleet.node(2).remove_permission(&created, &Label::new("2").unwrap()).await.unwrap();
    let sids = |queue: &Queue| {
        queue.attributes.policy.as_deref().map_or(0, |policy| policy.matches("\"Sid\"").count())
    };
    known(fleet.node(2), &created.name, |queue| sids(queue) == 2).await;
    let before = fleet.node(2).queue(&created.name).await.unwrap();
    for id in 1..=3 {
        fleet.stop(NodeId(id)).await;
    }
    for id in 1..=3 {
        fleet.restart(NodeId(id)).await;
    }
    fleet.ready().await;
    let node = fleet.node(3);
    known(node, &created.name, |queue| *queue == *before).await;
    let sources = node.dead_letter_sources(&before, None, 9).await.unwrap();
    assert_eq!(sources, std::slice::from_ref(&before.name));
    let gone = [3, 1].map(|id| Label::new(&id.to_string()).unwrap());
    for label in &gone {
        node.remove_permission(&before, label).await.unwrap();
    }
    known(node, &before.name, |queue| queue.attributes.policy.is_none()).await;
}

/// A node that had been away found queues that were gone by then, and took messages for them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_comes_back_knows_the_queues_before_it_serves() {
    let mut fleet = Fleet::start(3).await;
    queue(fleet.node(3), "gone", &[]).await;
    for round in 1..=3 {
        let before = if round == 1 { "gone".to_owned() } else { format!("came-{}", round - 1) };
        let before = fleet.node(1).queue(&QueueName::new(&before).unwrap()).await.unwrap();
        fleet.stop(NodeId(3)).await;
        for number in 0..50 {
            queue(fleet.node(1), &format!("more-{round}-{number}"), &[]).await;
        }
        fleet.node(2).delete_queue(&before).await.unwrap();
        let came = queue(fleet.node(1), &format!("came-{round}"), &[]).await;
        fleet.restart(NodeId(3)).await;
        fleet.node(3).caught_up().await;
        // What this node itself knows.
        let known = fleet.node(3).list_queues("", None, 1_000).await.unwrap();
        assert!(known.contains(&came.name) && !known.contains(&before.name), "round {round}");
        assert_eq!(known.len(), 1 + 50 * round);
        fleet.ready().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_cluster_has_everything() {
    let mut fleet = Fleet::start(3).await;
    let created = queue(fleet.node(1), "kept", &[("VisibilityTimeout", "7")]).await;
    for number in 0..20 {
        fleet.node(1).send(&created, vec![message(number)]).await[0].clone().unwrap();
    }
    for node in std::mem::take(&mut fleet.nodes).into_values() {
        node.shutdown().await;
        // The stores close with the last handle.
        while Arc::strong_count(&node) > 1 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    for id in [3, 1, 2] {
        fleet.restart(NodeId(id)).await;
    }
    fleet.ready().await;
    let again = fleet.node(2).queue(&created.name).await.unwrap();
    assert_eq!(again.attributes.visibility_seconds, 7);
    assert_eq!(drain(fleet.node(2), &again, 20).await.len(), 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counts_are_of_all_shards_or_an_error() {
    let mut fleet = Fleet::start(3).await;
    let created = queue(fleet.node(1), "counted", &[]).await;
    for number in 0..60 {
        let node = fleet.node(1 + number % 3);
        node.send(&created, vec![message(number)]).await[0].clone().unwrap();
    }
    // Its shards have no leader for a moment: the count waits for the next ones.
    fleet.stop(NodeId(3)).await;
    for id in [1, 2, 1, 2] {
        assert_eq!(fleet.node(id).counts(&created).await.unwrap().visible, 60);
    }
    fleet.stop(NodeId(2)).await;
    // What it leads it can count, because nobody else can change it.
    let alone = fleet.node(1).counts(&created).await.map(|counts| counts.visible);
    let refused = Err(Trouble::Unavailable { maybe_applied: false });
    assert!(alone == Ok(60) || alone == refused, "{alone:?}");
}

/// The metrics of a million queues would cost more than the queues.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queues_beyond_a_bound_have_their_numbers_together() {
    let fleet = Fleet::start(1).await;
    let node = fleet.node(1);
    for (name, count) in [("a", 1), ("b", 2), ("c", 4), ("d", 8)] {
        let created = queue(node, name, &[]).await;
        for number in 0..count {
            node.send(&created, vec![message(number)]).await[0].clone().unwrap();
        }
        let delayed = Outgoing { delay_seconds: 900, ..message(100) };
        node.send(&created, vec![delayed]).await[0].clone().unwrap();
        let one = ReceiveRequest { max_messages: 1, wait_seconds: 1, ..short_poll() };
        assert_eq!(node.receive(&created, one).await.unwrap().messages.len(), 1);
    }
    let counts = |visible| Counts { visible, in_flight: 1, delayed: 1, oldest_entered_ms: None };
    let AllGauges { queues, others } = node.queue_gauges(4);
    let seen = queues.into_iter().map(|(queue, gauges)| {
        assert!(gauges.all.oldest_entered_ms.is_some());
        (queue.name.to_string(), Counts { oldest_entered_ms: None, ..gauges.all })
    });
    let all = [("a", 0), ("b", 1), ("c", 3), ("d", 7)].map(|(name, n)| (name.into(), counts(n)));
    assert_eq!(seen.collect::<Vec<_>>(), all);
    assert_eq!(others, None);
    let AllGauges { queues, others } = node.queue_gauges(2);
    assert_eq!(queues.len(), 2);
    assert_eq!(others, Some(counts(3).plus(counts(7))));
}

/// Who is told that a purge failed asks again, and must not hear for a minute that it is under way.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_purge_that_a_shard_missed_can_be_repeated_until_all_have_done_it() {
    let mut fleet = Fleet::start(5).await;
    let created = queue(fleet.node(3), "purged", &[]).await;
    for number in 0..60 {
        let node = fleet.node(1 + number % 5);
        node.send(&created, vec![message(number)]).await[0].clone().unwrap();
    }
    // One of the four shards has two of its three replicas on these.
    fleet.stop(NodeId(1)).await;
    fleet.stop(NodeId(2)).await;
    let failed = fleet.node(4).purge_queue(&created).await;
    assert_eq!(failed, Err(Trouble::Unavailable { maybe_applied: true }.into()));
    fleet.restart(NodeId(1)).await;
    fleet.ready().await;
    // A leader that outlived its majority may have decided it now, which nobody was told.
    assert_eq!(fleet.node(3).purge_queue(&created).await, Ok(()));
    assert_eq!(fleet.node(4).counts(&created).await.unwrap().visible, 0);
    // What comes later stays, and the next purge has to wait.
    fleet.node(5).send(&created, vec![message(60)]).await[0].clone().unwrap();
    assert_eq!(fleet.node(4).purge_queue(&created).await, Err(PurgeError::InProgress));
    assert_eq!(drain(fleet.node(1), &created, 1).await, [message(60).message_id]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shorter_retention_drops_what_is_older() {
    let fleet = Fleet::start(3).await;
    let name = QueueName::new("aging").unwrap();
    let created = queue(fleet.node(1), name.as_str(), &[]).await;
    for number in 0..20 {
        fleet.node(1).send(&created, vec![message(number)]).await[0].clone().unwrap();
    }
    let hidden = ReceiveRequest { visibility_seconds: 43_200, max_messages: 3, ..short_poll() };
    while fleet.node(2).receive(&created, hidden).await.unwrap().messages.is_empty() {}
    fleet.clock.ahead_ms.store(120_000, Ordering::Relaxed);
    fleet.node(3).send(&created, vec![message(100)]).await[0].clone().unwrap();
    let shorter = [("MessageRetentionPeriod", "60")];
    let patch = AttributePatch::parse(shorter, PatchFor::Change).unwrap();
    fleet.node(2).set_attributes(&created, &patch).await.unwrap();
    // Nobody gets an old one any more, and soon they are gone, those in flight too.
    let changed = fleet.node(3).queue_now(&name).await.unwrap();
    assert_eq!(drain(fleet.node(3), &changed, 1).await, [message(100).message_id]);
    let begin = Instant::now();
    loop {
        let counts = fleet.node(1).counts(&created).await.unwrap();
        if (counts.visible, counts.in_flight) == (0, 0) {
            break;
        }
        assert!(begin.elapsed() < Duration::from_secs(60), "{counts:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_of_queues_beyond_a_bound_are_refused_at_once() {
    let fleet = Fleet::start(1).await;
    let node = fleet.node(1);
    let attributes = AttributePatch::parse([], PatchFor::Create).unwrap();
    let name = |number: usize| QueueName::new(&format!("queue-{number}")).unwrap();
    let names: Vec<QueueName> = (0..5 * CATALOG_COMMANDS_MAX).map(name).collect();
    let all = join_all(names.iter().map(|name| node.create_queue(name, &attributes, None))).await;
    let (created, refused): (Vec<_>, Vec<_>) =
        names.iter().zip(all).partition(|(_, result)| result.is_ok());
    assert!(created.len() >= CATALOG_COMMANDS_MAX && !refused.is_empty());
    for (name, result) in refused {
        assert_eq!(result.unwrap_err(), CreateError::Trouble(Trouble::Overloaded), "{name}");
    }
    // Whoever was refused comes again.
    node.create_queue(&names[names.len() - 1], &attributes, None).await.unwrap();
}
