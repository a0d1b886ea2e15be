//! Messages of FIFO queues that move inside their shard.

mod common;

use common::fifo::{Q, T, get, group, message, with};
use common::{RETENTION_MS, Rig, delete, leases, receive};
use flotilla_queue::command::{Command, Lease, Move, MoveCandidate, Placing, Reply, Send};
use flotilla_types::ids::{MessageId, QueueId, Seq};

/// Where they go.
const THERE: QueueId = QueueId(2);

fn to_there(seqs: &[u64], placing: Placing) -> Command {
    let candidate = |seq: &u64| MoveCandidate {
        seq: Seq(*seq),
        target: THERE,
        message_id: MessageId([100 + *seq as u8; 16]),
        placing,
    };
    let candidates = seqs.iter().map(candidate).collect();
    Command::Move(Move { queue: Q, retention_ms: RETENTION_MS, candidates })
}

fn moved(rig: &mut Rig, seqs: &[u64]) -> u64 {
    match rig.one(T + 100, to_there(seqs, Placing::default())) {
        Reply::Moved(moved) => moved,
        other => panic!("{other:?}"),
    }
}

fn there(rig: &mut Rig) -> Vec<Lease> {
    rig.receive(T + 200, THERE, 10, 0)
}

#[test]
fn messages_move_in_the_order_of_their_groups_as_new_ones() {
    let mut rig = with(&[1, 2, 1]);
    // Their receives are forgotten, and so is when they were sent.
    assert_eq!(get(&mut rig, T, 1, 0), [0]);
    assert_eq!(moved(&mut rig, &[0, 2, 1]), 3);
    assert_eq!(rig.machine.queue(Q).unwrap().messages, 0);
    assert!(rig.machine.queue(THERE).unwrap().fifo);
    let found: Vec<_> = there(&mut rig)
        .into_iter()
        .map(|lease| (lease.group, lease.message_id.0[0], lease.receive_count, lease.sent_ms))
        .collect();
    let (one, two) = (Some(group(1)), Some(group(2)));
    assert_eq!(found, [(one, 100, 1, T + 100), (one, 102, 1, T + 100), (two, 101, 1, T + 100)]);
    assert_eq!(moved(&mut rig, &[0, 1, 2]), 0, "repeated, it finds nothing");
}

#[test]
fn what_lies_behind_a_message_that_is_out_stays() {
    let mut rig = with(&[1, 1, 2]);
    assert_eq!(get(&mut rig, T, 1, 60_000), [0]);
    assert_eq!(moved(&mut rig, &[0, 1, 2]), 1);
    assert_eq!(there(&mut rig)[0].message_id.0[0], 102);
    rig.one(T + 150, delete(Q, 0, 1));
    assert_eq!(moved(&mut rig, &[1]), 1);
}

#[test]
fn a_group_that_lives_elsewhere_by_a_later_decision_stays() {
    let mut rig = with(&[1, 1]);
    rig.one(T, Command::Fence { queue: THERE, epoch: 2 });
    let earlier = Placing { epoch: 1, ..Placing::default() };
    assert_eq!(rig.one(T, to_there(&[0, 1], earlier)), Reply::Moved(0));
    assert_eq!(rig.machine.queue(Q).unwrap().messages, 2);
    // And what is placed by a later one voids the earlier ones here too.
    let later = Placing { epoch: 3, floor: Seq(50), ..Placing::default() };
    assert_eq!(rig.one(T, to_there(&[0], later)), Reply::Moved(1));
    assert_eq!(rig.one(T, to_there(&[1], earlier)), Reply::Moved(0));
    assert_eq!(there(&mut rig)[0].seq, Seq(50), "above what the group had in other shards");
}

#[test]
fn moved_messages_are_not_duplicates_and_have_none() {
    let mut rig = with(&[1]);
    assert_eq!(moved(&mut rig, &[0]), 1);
    // The same deduplication key, in the queue where the message is now.
    let again = Send { queue: THERE, ..message(1, 0, 0) };
    assert!(matches!(rig.one(T + 150, Command::Send(again)), Reply::Sent(Some(_))));
    assert_eq!(there(&mut rig).len(), 2);
}

#[test]
fn what_is_past_its_retention_goes_instead_of_moving() {
    let mut rig = with(&[1, 1]);
    let Command::Move(command) = to_there(&[0, 1], Placing::default()) else { unreachable!() };
    let old = Command::Move(Move { retention_ms: 100, ..command });
    assert_eq!(rig.one(T + 100, old), Reply::Moved(0));
    assert_eq!(rig.machine.queue(Q).unwrap().messages, 0);
    assert!(leases(rig.one(T + 100, receive(Q, &[0, 1], 0))).is_empty());
}
