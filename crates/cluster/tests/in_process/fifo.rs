//! FIFO queues, and where their groups live.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU64;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use flotilla_cluster::api::{Cluster as _, DedupKeys, Outgoing, ReceiveRequest, Sent};
use flotilla_types::attributes::{AttributePatch, PatchFor};
use flotilla_types::ids::{DedupKey, GroupId, GroupKey, MessageId, Seq};
use flotilla_types::names::QueueName;

use crate::fleet::{Fleet, fifo_message, message, queue, short_poll};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_delay_of_a_fifo_queue_is_for_waiting_messages_too() {
    let fleet = Fleet::start(3).await;
    let attributes = [("FifoQueue", "true"), ("DelaySeconds", "900")];
    let created = queue(fleet.node(1), "delayed.fifo", &attributes).await;
    for number in 0..5 {
        let delayed = Outgoing { delay_seconds: 900, ..fifo_message(number) };
        fleet.node(2).send(&created, vec![delayed]).await[0].clone().unwrap();
    }
    assert_eq!(fleet.node(3).counts(&created).await.unwrap().delayed, 5);
    let patch = AttributePatch::parse(
        [("DelaySeconds", "0")],
        PatchFor::ChangeFifo(created.attributes.fifo.unwrap()),
    )
    .unwrap();
    fleet.node(3).set_attributes(&created, &patch).await.unwrap();
    let mut received = 0;
    while received < 5 {
        let request = ReceiveRequest { wait_seconds: 20, ..short_poll() };
        received += fleet.node(1).receive(&created, request).await.unwrap().messages.len();
    }
    assert_eq!(fleet.node(2).counts(&created).await.unwrap().delayed, 0);
}

/// Found by seed 166 of the simulator: it had more than was asked for, and counted what was left.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repeated_receive_that_asks_for_fewer_gets_the_first_of_the_same_messages() {
    let fleet = Fleet::start(3).await;
    // So that some live on shards whose nodes are asked before others.
    for number in 0..8 {
        let name = format!("repeated-{number}.fifo");
        let created = queue(fleet.node(1), &name, &[("FifoQueue", "true")]).await;
        let batch = (0..3).map(|it| fifo_message(10 * number + it)).collect();
        assert!(fleet.node(2).send(&created, batch).await.iter().all(Result::is_ok));
        let attempt = Some(DedupKey([number as u8; 16]));
        let mut seen = Vec::new();
        for max_messages in [10, 1, 2, 10] {
            let request = ReceiveRequest { max_messages, attempt, ..short_poll() };
            let received = fleet.node(3).receive(&created, request).await.unwrap();
            seen.push(received.messages.into_iter().map(|it| it.receipt).collect::<Vec<_>>());
        }
        assert_eq!(seen[0].len(), 3);
        assert_eq!(seen[3], seen[0]);
        assert_eq!((&seen[1][..], &seen[2][..]), (&seen[0][..1], &seen[0][..2]));
    }
}

/// Dead letters are where their queue had them. A consumer that always finds something where the
/// dead-letter queue itself lives comes upon them too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_letters_beside_sent_messages_are_not_passed_over() {
    let fleet = Fleet::start(3).await;
    let node = fleet.node(1);
    let fifo = [("FifoQueue", "true"), ("VisibilityTimeout", "0")];
    let dead = queue(node, "dead.fifo", &fifo).await;
    let policy = "{\"deadLetterTargetArn\":\"arn:aws:sqs:us-east-1:000000000000:dead.fifo\",\
                  \"maxReceiveCount\":1}";
    let again = ReceiveRequest { visibility_seconds: 0, ..short_poll() };
    let mut wanted = BTreeSet::new();
    for number in 0..8 {
        let name = format!("source-{number}.fifo");
        let redrive = [fifo[0], fifo[1], ("RedrivePolicy", policy)];
        let source = queue(node, &name, &redrive).await;
        let letter = fifo_message(number);
        wanted.insert(letter.message_id);
        node.send(&source, vec![letter]).await[0].clone().unwrap();
        assert_eq!(node.receive(&source, again).await.unwrap().messages.len(), 1);
        assert_eq!(node.receive(&source, again).await.unwrap().messages.len(), 0);
    }
    let sent = fifo_message(100);
    wanted.insert(sent.message_id);
    node.send(&dead, vec![sent]).await[0].clone().unwrap();
    let mut seen = BTreeSet::new();
    for _ in 0..100 {
        let received = node.receive(&dead, again).await.unwrap();
        assert!(!received.messages.is_empty());
        seen.extend(received.messages.iter().map(|message| message.message_id));
    }
    assert_eq!(seen, wanted);
}

const GROUPS: u64 = 30;

fn group(number: u64) -> GroupKey {
    // Keys are digests: spread over all bits.
    GroupKey(NonZeroU64::new(number.wrapping_mul(0x9e37_79b9_7f4a_7c15)).unwrap())
}

/// The last place of each group; the number of a message is made of its place.
type Places = BTreeMap<u64, (Seq, GroupId)>;

/// Message `n` of group `g` is `1000 g + n`.
fn of_round(of: u64, round: u64) -> Outgoing {
    let number = 1_000 * of + round;
    let mut key = [0; 16];
    key[..8].copy_from_slice(&number.to_be_bytes());
    let in_queue = DedupKey(key);
    key[15] = 1;
    let dedup = Some(DedupKeys { in_queue, in_group: DedupKey(key) });
    Outgoing { group: Some(group(of)), dedup, ..message(number) }
}

/// One more message of each group, each through another node. Its number is larger than those of the group before.
async fn send_round(fleet: &Fleet, name: &QueueName, round: u64, places: &mut Places) {
    for of in 1..=GROUPS {
        let node = fleet.node(1 + (of + round) % 3);
        let queue = node.queue(name).await.unwrap();
        let outgoing = of_round(of, round);
        let again = Outgoing { message_id: MessageId([0xff; 16]), ..outgoing.clone() };
        let sent = node.send(&queue, vec![outgoing, again]).await;
        let sent: Vec<_> = sent.into_iter().map(Result::unwrap).collect();
        assert_eq!(sent.iter().map(|sent| sent.duplicate).collect::<Vec<_>>(), [false, true]);
        let place = |sent: &Sent| (sent.shard, sent.seq.unwrap());
        assert_eq!(place(&sent[0]), place(&sent[1]), "a duplicate has the number of its original");
        let (shard, seq) = place(&sent[0]);
        let before = places.insert(of, (seq, shard));
        assert!(before < Some((seq, shard)), "group {of}: {before:?}, then {seq:?} on {shard:?}");
    }
}

/// Receives everything; the shards where it was.
async fn take_in_order(fleet: &Fleet, name: &QueueName, rounds: std::ops::Range<u64>) -> usize {
    let mut next = vec![rounds.start; GROUPS as usize + 1];
    let mut shards: BTreeSet<GroupId> = BTreeSet::new();
    let mut left = GROUPS * (rounds.end - rounds.start);
    while left > 0 {
        let node = fleet.node(1 + left % 3);
        let queue = node.queue(name).await.unwrap();
        let received = node.receive(&queue, short_poll()).await.unwrap();
        for message in &received.messages {
            let number = u64::from_be_bytes(message.message_id.0[..8].try_into().unwrap());
            let (of, round) = ((number / 1_000) as usize, number % 1_000);
            assert_eq!(round, next[of], "group {of}");
            next[of] += 1;
            left -= 1;
            shards.insert(message.receipt.shard);
        }
        let receipts = received.messages.iter().map(|message| message.receipt).collect();
        assert!(node.delete(&queue, receipts).await.into_iter().all(|result| result.is_ok()));
    }
    shards.len()
}

async fn scope(fleet: &Fleet, name: &QueueName, scope: &str) {
    let node = fleet.node(2);
    let queue = node.queue(name).await.unwrap();
    let purpose = PatchFor::change(&queue.attributes);
    let patch = AttributePatch::parse([("DeduplicationScope", scope)], purpose).unwrap();
    node.set_attributes(&queue, &patch).await.unwrap();
}

/// Until a queue's shards have all said that no group lives where it should not.
async fn settled(fleet: &Fleet, name: &QueueName) {
    let begin = Instant::now();
    while !fleet.node(3).queue(name).await.unwrap().placement.unsettled.is_empty() {
        assert!(begin.elapsed() < Duration::from_secs(60));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn groups_keep_their_order_when_their_queue_is_placed_anew() {
    let fleet = Fleet::start(3).await;
    let name = QueueName::new("groups.fifo").unwrap();
    queue(fleet.node(1), name.as_str(), &[("FifoQueue", "true")]).await;
    let mut places = Places::new();
    send_round(&fleet, &name, 0, &mut places).await;
    send_round(&fleet, &name, 1, &mut places).await;
    scope(&fleet, &name, "messageGroup").await;
    // While a group has messages, further ones go where they are.
    send_round(&fleet, &name, 2, &mut places).await;
    assert_eq!(take_in_order(&fleet, &name, 0..3).await, 1);
    // Now it moves.
    send_round(&fleet, &name, 3, &mut places).await;
    // And back before those are received; what comes meanwhile stays with them.
    scope(&fleet, &name, "queue").await;
    send_round(&fleet, &name, 4, &mut places).await;
    assert_eq!(take_in_order(&fleet, &name, 3..5).await, 4);
    send_round(&fleet, &name, 5, &mut places).await;
    // A shard settles when the last group has left it, and not within the time of duplicates.
    assert_eq!(fleet.node(1).queue(&name).await.unwrap().placement.unsettled.len(), 4);
    fleet.clock.ahead_ms.store(301_000, Ordering::Relaxed);
    settled(&fleet, &name).await;
    send_round(&fleet, &name, 6, &mut places).await;
    assert_eq!(take_in_order(&fleet, &name, 5..7).await, 1);
}

/// Where a group stayed on its shard, only the key of after the change was looked for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn duplicates_of_before_a_change_are_known_wherever_their_groups_live() {
    let fleet = Fleet::start(3).await;
    let name = QueueName::new("twice.fifo").unwrap();
    queue(fleet.node(1), name.as_str(), &[("FifoQueue", "true")]).await;
    let mut places = Places::new();
    send_round(&fleet, &name, 0, &mut places).await;
    scope(&fleet, &name, "messageGroup").await;
    send_round(&fleet, &name, 1, &mut places).await;
    take_in_order(&fleet, &name, 0..2).await;
    for to in ["messageGroup", "queue"] {
        scope(&fleet, &name, to).await;
        for (of, round) in (1..=GROUPS).flat_map(|of| [(of, 0), (of, 1)]) {
            let node = fleet.node(1 + (of + round) % 3);
            let queue = node.queue(&name).await.unwrap();
            let again = Outgoing { message_id: MessageId([0xff; 16]), ..of_round(of, round) };
            let sent = node.send(&queue, vec![again]).await[0].clone().unwrap();
            assert!(sent.duplicate, "group {of}, round {round}, ids unique in {to}");
        }
    }
}

/// A group would be on two shards, and its messages handed out by both.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_not_heard_of_a_change_puts_nothing_where_groups_lived_before() {
    let fleet = Fleet::start(3).await;
    let name = QueueName::new("unheard.fifo").unwrap();
    let before = queue(fleet.node(1), name.as_str(), &[("FifoQueue", "true")]).await;
    scope(&fleet, &name, "messageGroup").await;
    let now = fleet.node(2).queue(&name).await.unwrap();
    for number in 0..8 {
        let first = fleet.node(2).send(&now, vec![fifo_message(number)]).await[0].clone().unwrap();
        let second = Outgoing { group: fifo_message(number).group, ..fifo_message(100 + number) };
        let second = fleet.node(1).send(&before, vec![second]).await[0].clone().unwrap();
        let shards = [first.shard, second.shard];
        assert_eq!(shards[0], shards[1], "the group of message {number} is on two shards");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shard_does_not_settle_while_a_group_stays() {
    let fleet = Fleet::start(3).await;
    let name = QueueName::new("staying.fifo").unwrap();
    queue(fleet.node(1), name.as_str(), &[("FifoQueue", "true")]).await;
    let mut places = Places::new();
    send_round(&fleet, &name, 0, &mut places).await;
    scope(&fleet, &name, "messageGroup").await;
    fleet.clock.ahead_ms.store(301_000, Ordering::Relaxed);
    // The three shards where nothing was settle, the fourth does not.
    let begin = Instant::now();
    let unsettled = async || fleet.node(3).queue(&name).await.unwrap().placement.unsettled.len();
    while unsettled().await > 1 {
        assert!(begin.elapsed() < Duration::from_secs(60));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(unsettled().await, 1);
    send_round(&fleet, &name, 1, &mut places).await;
    assert_eq!(take_in_order(&fleet, &name, 0..2).await, 1);
    settled(&fleet, &name).await;
    // Straight to shards that never had a message, and the numbers go on rising.
    send_round(&fleet, &name, 2, &mut places).await;
    assert_eq!(take_in_order(&fleet, &name, 2..3).await, 4);
}
