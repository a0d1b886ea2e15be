//! Messages that were received too often.

mod common;

use bytes::Bytes;
use common::{RETENTION_MS, Rig, delete, leases, receive, send, seqs};
use flotilla_queue::QueueCounts;
use flotilla_queue::command::{Command, Receive, Redrive, Reply};
use flotilla_queue::effect::Effect;
use flotilla_queue::machine::Machine;
use flotilla_queue::store::Read;
use flotilla_types::ids::{QueueId, Seq};

const Q: QueueId = QueueId(1);
const DEAD: QueueId = QueueId(2);

fn redrive(receives_max: u32) -> Redrive {
    Redrive { target: DEAD, receives_max, source: Bytes::from_static(b"q") }
}

fn rig(receives_max: u32) -> Rig {
    let mut rig = Rig::new();
    rig.redrive = Some(redrive(receives_max));
    rig
}

#[test]
fn the_receive_after_the_last_allowed_one_moves_and_hands_out_nothing() {
    let mut rig = rig(2);
    rig.run(1_000, vec![send(Q, 7, 0)]);
    for count in [1, 2] {
        assert_eq!(rig.receive(2_000, Q, 10, 0)[0].receive_count, count);
    }
    // Its lease being over is not enough: only a receive moves.
    assert_eq!(rig.machine.counts(DEAD, 9_000), QueueCounts::default());
    assert_eq!(rig.receive(3_000, Q, 10, 0), []);
    assert!(rig.effects.contains(&Effect::Arrived {
        queue: DEAD,
        seq: Seq(1),
        at_ms: 3_000,
        group: None
    }));
    assert_eq!(rig.machine.counts(Q, 0), QueueCounts::default());

    rig.redrive = None;
    let lease = rig.receive(4_000, DEAD, 10, 50).remove(0);
    assert_eq!((lease.receive_count, lease.first_received_ms, lease.sent_ms), (3, 2_000, 1_000));
    assert_eq!((lease.message_id.0, &lease.content[..]), ([7; 16], &[7][..]));
    assert_eq!(lease.moved_from.as_deref(), Some(&b"q"[..]));
    let oldest = rig.machine.oldest(DEAD, &rig.store).unwrap().unwrap();
    assert_eq!((oldest.sent_ms, oldest.entered_ms), (1_000, 3_000));
    let telling = rig.machine.oldest_of_backlog(DEAD, &rig.store).unwrap();
    assert_eq!(telling, Some(oldest), "received three times, but most of them elsewhere");
    rig.one(4_000, delete(DEAD, 1, 3));
    assert_eq!(rig.store.messages().count(), 0);
}

#[test]
fn the_others_of_a_receive_are_handed_out() {
    let mut rig = rig(1);
    rig.run(1_000, vec![send(Q, 1, 0), send(Q, 2, 0)]);
    rig.receive(1_000, Q, 1, 0);
    assert_eq!(seqs(&rig.receive(1_000, Q, 10, 60)), [1]);
}

#[test]
fn receives_in_another_queue_do_not_count() {
    let mut rig = rig(1);
    rig.run(1_000, vec![send(Q, 1, 0)]);
    rig.receive(1_000, Q, 1, 0);
    rig.receive(1_000, Q, 1, 0);
    // The dead-letter queue has one of its own, with the same limit.
    rig.redrive = Some(Redrive { target: QueueId(3), ..redrive(1) });
    assert_eq!(rig.receive(1_000, DEAD, 1, 0)[0].receive_count, 2);
    assert_eq!(rig.receive(1_000, DEAD, 1, 0), []);
    assert_eq!(rig.receive(1_000, QueueId(3), 1, 0)[0].receive_count, 3);
}

#[test]
fn a_queue_can_be_its_own_dead_letter_queue() {
    let mut rig = rig(1);
    rig.redrive = Some(Redrive { target: Q, ..redrive(1) });
    rig.run(1_000, vec![send(Q, 1, 0)]);
    assert_eq!(seqs(&rig.receive(1_000, Q, 1, 0)), [0]);
    assert!(rig.receive(1_000, Q, 1, 0).is_empty());
    assert_eq!(seqs(&rig.receive(1_000, Q, 1, 0)), [1]);
    assert_eq!(rig.machine.counts(Q, 0).visible, 1);
}

#[test]
fn what_is_too_old_is_removed_and_not_moved() {
    let mut rig = rig(1);
    rig.run(1_000, vec![send(Q, 1, 0)]);
    rig.receive(1_000, Q, 1, 0);
    let command = Command::Receive(Receive {
        queue: Q,
        candidates: vec![Seq(0)],
        visibility_ms: 0,
        retention_ms: 100,
        fresh_from: Seq(0),
        redrive: rig.redrive.clone(),
        attempt: None,
        bytes_max: u64::MAX,
    });
    assert_eq!(leases(rig.one(1_100, command)), []);
    assert_eq!(rig.store.messages().count(), 0);
}

#[test]
fn a_moved_message_cannot_be_received_in_the_batch_that_moves_it() {
    let mut rig = rig(1);
    rig.run(1_000, vec![send(Q, 1, 0)]);
    rig.receive(1_000, Q, 1, 0);
    let moves = Command::Receive(Receive {
        queue: Q,
        candidates: vec![Seq(0), Seq(0)],
        visibility_ms: 0,
        retention_ms: RETENTION_MS,
        fresh_from: Seq(0),
        redrive: rig.redrive.clone(),
        attempt: None,
        bytes_max: u64::MAX,
    });
    let replies = rig.run(1_000, vec![moves.clone(), moves, receive(DEAD, &[1], 0)]);
    assert!(replies.into_iter().all(|reply| leases(reply).is_empty()));
    assert_eq!(rig.machine.counts(DEAD, 0).visible, 1);
    assert!(rig.store.message(DEAD, Seq(1)).unwrap().is_some());
}

/// Its age counts from when it was sent, so an older message may come to lie behind a younger one.
#[test]
fn expire_finds_old_messages_behind_younger_ones() {
    let mut rig = rig(1);
    rig.run(1_000, vec![send(Q, 1, 0)]);
    rig.receive(1_000, Q, 1, 0);
    rig.run(1_900, vec![send(DEAD, 2, 0)]);
    let expire = |from| Command::Expire { queue: DEAD, retention_ms: 1_000, from: Seq(from) };
    assert!(!rig.machine.may_expire(DEAD, 1_000, 2_000, &rig.store).unwrap());
    rig.receive(1_900, Q, 1, 0);
    assert!(rig.machine.queue(DEAD).unwrap().mixed_ages);
    assert!(rig.machine.may_expire(DEAD, 1_000, 2_010, &rig.store).unwrap());
    assert_eq!(rig.one(1_999, expire(0)), Reply::Expired { removed: 0, resume: None });
    assert_eq!(rig.one(2_000, expire(0)), Reply::Expired { removed: 1, resume: None });
    assert_eq!(rig.machine.counts(DEAD, 0).visible, 1);
}

#[test]
fn a_search_among_many_young_messages_goes_on_where_it_stopped() {
    let mut rig = rig(1);
    rig.run(1_000, vec![send(Q, 1, 0)]);
    rig.receive(1_000, Q, 1, 0);
    rig.run(5_000, (0..5_000).map(|_| send(DEAD, 2, 0)).collect());
    rig.receive(5_000, Q, 1, 0);
    let expire = |from| Command::Expire { queue: DEAD, retention_ms: 1_000, from };
    let first = rig.one(5_000, expire(Seq(0)));
    assert_eq!(first, Reply::Expired { removed: 0, resume: Some(Seq(1_025)) });
    let mut resume = Some(Seq(1_025));
    let mut removed_in_all = 0;
    while let Some(place) = resume {
        let reply = rig.one(5_000, expire(place));
        let Reply::Expired { removed, resume: next } = reply else { panic!("{reply:?}") };
        removed_in_all += removed;
        resume = next;
    }
    assert_eq!(removed_in_all, 1);
    let oldest = rig.machine.oldest(DEAD, &rig.store).unwrap().unwrap();
    assert_eq!(oldest.seq, Seq(1), "what a search from further up did not see is still there");
}

/// Every five seconds all dead letters were read on every replica, for as long as there were any.
#[test]
fn dead_letters_are_searched_only_when_one_can_be_too_old() {
    let mut rig = rig(1);
    let expire = Command::Expire { queue: DEAD, retention_ms: 1_000, from: Seq(0) };
    let may_expire =
        |rig: &mut Rig, now_ms| rig.machine.may_expire(DEAD, 1_000, now_ms, &rig.store).unwrap();
    for sent_ms in [5_000, 5_500] {
        rig.run(sent_ms, vec![send(Q, 1, 0)]);
        rig.receive(sent_ms, Q, 1, 0);
        rig.receive(sent_ms + 100, Q, 1, 0);
    }
    assert!(!may_expire(&mut rig, 6_009));
    assert!(may_expire(&mut rig, 6_010));
    assert_eq!(rig.one(6_010, expire.clone()), Reply::Expired { removed: 1, resume: None });
    assert!(!may_expire(&mut rig, 6_509));
    // What is older comes later, and is known.
    rig.run(5_900, vec![send(Q, 1, 0)]);
    rig.receive(6_200, Q, 1, 0);
    rig.receive(6_200, Q, 1, 0);
    assert!(!may_expire(&mut rig, 6_509));
    assert!(may_expire(&mut rig, 6_510));
    // A replica that starts again knows nothing, until it has looked.
    rig.machine = Machine::load(&rig.store).unwrap();
    assert!(may_expire(&mut rig, 6_300));
    assert_eq!(rig.one(6_300, expire), Reply::Expired { removed: 0, resume: None });
    assert!(!may_expire(&mut rig, 6_509));
    assert!(may_expire(&mut rig, 6_510));
}
