//! FIFO queues: order and exclusivity of groups, deduplication, handles.

mod common;

use bytes::Bytes;
use common::fifo::{INTERVAL_MS, Q, T, get, group, message, with};
use common::{RETENTION_MS, Rig, change, delete, leases, receive, seqs};
use flotilla_queue::command::{
    Accepted, Batch, Command, Elsewhere, HandleExpired, Identified, Placing, Receive, Redelay,
    Redrive, Reply, Send, VisibilityError,
};
use flotilla_queue::effect::Effect;
use flotilla_queue::machine::Machine;
use flotilla_types::ids::{CommandId, DedupKey, MessageId, QueueId, Seq};
use flotilla_types::limits::FIFO_WINDOW_MAX;

#[test]
fn a_receive_fills_up_from_one_group_first() {
    // Vector 14.
    let mut rig = with(&[1, 2, 1, 1]);
    assert_eq!(get(&mut rig, T, 10, 30), [0, 2, 3, 1]);
}

#[test]
fn a_group_is_held_while_a_message_of_it_is_out() {
    // Vector 15.
    let mut rig = with(&[1, 1, 1, 1, 2, 3]);
    assert_eq!(get(&mut rig, T, 2, 30), [0, 1]);
    assert_eq!(get(&mut rig, T, 1, 30), [4]);
    assert_eq!(rig.machine.groups_in_flight(Q, T), 2);
    assert_eq!(get(&mut rig, T + 30, 10, 0), [5, 0, 1, 2, 3, 4]);
    assert_eq!(rig.machine.groups_in_flight(Q, T + 30), 0);
}

#[test]
fn visible_messages_of_all_groups_come_in_order() {
    // Vector 16.
    let mut rig = with(&[1, 2, 2, 3, 1]);
    assert_eq!(get(&mut rig, T, 3, 0), [0, 4, 1]);
    assert_eq!(get(&mut rig, T, 10, 0), [3, 0, 4, 1, 2]);
}

#[test]
fn a_released_message_comes_although_a_later_one_is_out() {
    // Vector 17.
    let mut rig = with(&[1, 1, 2]);
    assert_eq!(get(&mut rig, T, 2, 30_000), [0, 1]);
    rig.one(T, change(Q, 0, 1, 0));
    assert_eq!(get(&mut rig, T, 3, 30_000), [2, 0]);
}

#[test]
fn what_lies_before_an_extended_message_comes_again() {
    // Vector 18.
    for (extended, again) in [(0, vec![]), (1, vec![0]), (2, vec![0, 1])] {
        let mut rig = with(&[1, 1, 1]);
        assert_eq!(get(&mut rig, T, 3, 1_000), [0, 1, 2]);
        rig.one(T, change(Q, extended, 1, 4_000));
        assert_eq!(get(&mut rig, T + 2_500, 5, 1_000), again);
    }
}

#[test]
fn deleting_all_that_is_out_frees_the_group() {
    // Vector 19.
    let mut rig = with(&[1, 1, 1, 1]);
    assert_eq!(get(&mut rig, T, 2, 30_000), [0, 1]);
    rig.one(T, delete(Q, 0, 1));
    assert!(rig.effects.contains(&Effect::Freed { queue: Q, group: group(1) }));
    assert!(get(&mut rig, T, 10, 30_000).is_empty());
    rig.one(T, delete(Q, 1, 1));
    assert_eq!(get(&mut rig, T, 10, 30_000), [2, 3]);
}

#[test]
fn a_handle_is_good_as_long_as_its_receive_holds_the_message() {
    // Vector 20.
    let mut rig = with(&[1]);
    let expired = Reply::Deleted(Err(HandleExpired));
    let not_in_flight = Reply::VisibilityChanged(Err(VisibilityError::NotInFlight));
    get(&mut rig, T, 1, 1_000);
    assert_eq!(rig.one(T + 1_000, delete(Q, 0, 1)), expired);
    assert_eq!(rig.one(T + 1_000, change(Q, 0, 1, 5_000)), not_in_flight);
    get(&mut rig, T + 1_000, 1, 1_000);
    assert_eq!(rig.one(T + 1_500, delete(Q, 0, 1)), expired);
    assert_eq!(rig.one(T + 1_500, change(Q, 0, 1, 5_000)), not_in_flight);
    let changed = Reply::VisibilityChanged(Ok(()));
    assert_eq!(rig.one(T + 1_500, change(Q, 0, 2, 5_000)), changed);
    assert_eq!(rig.one(T + 6_000, delete(Q, 0, 2)), Reply::Deleted(Ok(())));
    assert_eq!(rig.one(T + 6_000, delete(Q, 0, 2)), Reply::Deleted(Ok(())), "it is gone");
}

#[test]
fn blocked_messages_count_as_visible() {
    // Vector 21.
    let mut rig = with(&[1, 1, 2, 2, 3, 3]);
    get(&mut rig, T, 1, 30_000);
    get(&mut rig, T, 1, 30_000);
    let counts = rig.machine.counts(Q, T);
    assert_eq!((counts.visible, counts.in_flight), (4, 2));
}

#[test]
fn a_key_is_remembered_for_an_interval_from_its_first_message() {
    // Vector 22.
    let mut rig = Rig::new();
    let accepted = |seq, number| {
        Reply::Sent(Some(Accepted { seq: Seq(seq), message_id: MessageId([number; 16]) }))
    };
    let again = |of, number| {
        Command::Send(Send { message_id: MessageId([number; 16]), ..message(of, 1, 0) })
    };
    let begin = T + INTERVAL_MS / 2;
    let replies = rig.run(begin, vec![again(1, 1), again(1, 2), again(2, 3)]);
    assert_eq!(replies, [accepted(0, 1), accepted(0, 1), accepted(0, 1)]);
    assert_eq!(rig.store.messages().count(), 1);
    get(&mut rig, begin, 1, 1_000);
    rig.one(begin, delete(Q, 0, 1));
    // In the next period, and a duplicate prolongs nothing.
    assert_eq!(rig.one(begin + INTERVAL_MS - 1, again(1, 4)), accepted(0, 1));
    assert_eq!(rig.one(begin + INTERVAL_MS, again(1, 5)), accepted(1, 5));
    rig.run(begin + INTERVAL_MS, vec![Command::Purge { queue: Q }, again(1, 6), again(1, 7)]);
    assert_eq!(rig.one(begin + INTERVAL_MS, again(1, 8)), accepted(2, 6));
    rig.one(begin + INTERVAL_MS, Command::Purge { queue: Q });
    assert_eq!(rig.one(begin + INTERVAL_MS, again(1, 9)), accepted(3, 9));
}

#[test]
fn old_keys_are_removed_with_the_next_message_or_by_expire() {
    let mut rig = with(&[1]);
    let expire = || Command::Expire { queue: Q, retention_ms: RETENTION_MS, from: Seq(0) };
    assert!(!rig.machine.may_expire(Q, RETENTION_MS, T + INTERVAL_MS, &rig.store).unwrap());
    rig.one(T + 2 * INTERVAL_MS, Command::Send(message(1, 1, 0)));
    assert_eq!(rig.store.originals(), 1);
    assert_eq!(rig.machine.queue(Q).unwrap().originals, Some((12, 12)));
    let later = T + 4 * INTERVAL_MS;
    assert!(rig.machine.may_expire(Q, RETENTION_MS, later, &rig.store).unwrap());
    rig.one(later, expire());
    assert_eq!((rig.store.originals(), rig.machine.queue(Q).unwrap().originals), (0, None));
    rig.one(later, Command::Send(message(1, 2, 0)));
    rig.one(later, Command::DropQueue { queue: Q });
    assert_eq!(rig.store.originals(), 0);
}

#[test]
fn a_delayed_message_holds_back_those_behind_it() {
    let mut rig = Rig::new();
    rig.run(T, vec![Command::Send(message(1, 0, 500)), Command::Send(message(1, 1, 0))]);
    assert!(get(&mut rig, T, 10, 0).is_empty());
    assert_eq!(get(&mut rig, T + 500, 10, 0), [0, 1]);
}

#[test]
fn an_expired_message_frees_the_one_behind_it() {
    let mut rig = with(&[1, 1]);
    get(&mut rig, T, 1, 30_000);
    rig.run(T + 10, vec![Command::Send(message(1, 9, 0))]);
    rig.one(T + 100, Command::Expire { queue: Q, retention_ms: 100, from: Seq(0) });
    assert_eq!(get(&mut rig, T + 100, 10, 30_000), [2]);
}

#[test]
fn a_group_goes_on_when_its_first_message_is_a_dead_letter() {
    // Vector 24.
    let mut rig = with(&[1, 1]);
    let dead = QueueId(2);
    let source = Bytes::from_static(b"q");
    rig.redrive = Some(Redrive { target: dead, receives_max: 2, source });
    assert_eq!(get(&mut rig, T, 1, 0), [0]);
    assert_eq!(get(&mut rig, T, 1, 0), [0]);
    assert!(get(&mut rig, T + 5, 1, 0).is_empty());
    assert_eq!(get(&mut rig, T + 5, 1, 0), [1]);
    rig.redrive = None;
    let moved = rig.receive(T + 9, dead, 10, 0).remove(0);
    assert_eq!((moved.message_id, moved.sent_ms), (MessageId([0; 16]), T));
    assert!(rig.machine.queue(dead).unwrap().fifo);
    // It is as young as its last move, and so the queue has no messages of all ages.
    assert!(!rig.machine.queue(dead).unwrap().mixed_ages);
    let mut expire = |at_ms| {
        rig.one(at_ms, Command::Expire { queue: dead, retention_ms: 100, from: Seq(0) });
        (
            rig.machine.queue(dead).unwrap().messages,
            rig.machine.may_expire(dead, 100, at_ms, &rig.store).unwrap(),
        )
    };
    assert_eq!(expire(T + 104), (1, false));
    assert_eq!(expire(T + 105).0, 0);
}

#[test]
fn a_fifo_dead_letter_is_handed_out_until_its_retention_ends_counted_from_the_move() {
    let mut rig = with(&[1]);
    let dead = QueueId(2);
    let source = Bytes::from_static(b"q");
    rig.redrive = Some(Redrive { target: dead, receives_max: 1, source });
    assert_eq!(get(&mut rig, T, 1, 0), [0]);
    assert!(get(&mut rig, T + 500, 1, 0).is_empty());
    let mut take = |at_ms| {
        let receive = Receive {
            queue: dead,
            candidates: vec![Seq(1)],
            visibility_ms: 0,
            retention_ms: 1_000,
            fresh_from: Seq(0),
            redrive: None,
            attempt: None,
            bytes_max: u64::MAX,
        };
        leases(rig.one(at_ms, Command::Receive(receive))).len()
    };
    assert_eq!((take(T + 1_499), take(T + 1_500)), (1, 0));
}

#[test]
fn apply_refuses_what_a_wrong_leader_offers() {
    let mut rig = with(&[1, 1, 2]);
    assert_eq!(get(&mut rig, T, 1, 1_000), [0]);
    assert_eq!(seqs(&leases(rig.one(T, receive(Q, &[1, 2], 1_000)))), [2]);
}

#[test]
fn while_messages_of_a_group_are_reserved_nobody_gets_any_of_it() {
    let mut rig = with(&[1, 1, 2]);
    let first = rig.reserve(Q, 1, T);
    let second = rig.reserve(Q, 10, T);
    assert_eq!((first.seqs.clone(), second.seqs), (vec![Seq(0)], vec![Seq(2)]));
    assert_eq!(first.fresh_from, Seq(0));
    rig.settle(Q, &first.seqs);
    assert_eq!(rig.reserve(Q, 10, T).seqs, [Seq(0), Seq(1)]);
}

#[test]
fn a_new_leader_finds_the_same() {
    let mut rig = with(&[1, 2, 1, 3]);
    get(&mut rig, T, 2, 1_000);
    rig.window = flotilla_queue::ready::ReadyWindow::new();
    assert_eq!(get(&mut rig, T, 10, 0), [1, 3]);
    rig.window = flotilla_queue::ready::ReadyWindow::new();
    assert_eq!(get(&mut rig, T + 1_000, 10, 0), [1, 3, 0, 2], "by the ends of their leases");
}

#[test]
fn a_loaded_replica_holds_the_same_groups() {
    let mut rig = with(&[1, 2, 1, 1]);
    assert_eq!(get(&mut rig, T, 1, 1_000), [0]);
    rig.machine = Machine::load(&rig.store).unwrap();
    rig.window = flotilla_queue::ready::ReadyWindow::new();
    assert_eq!(rig.machine.groups_in_flight(Q, T), 1);
    assert_eq!(get(&mut rig, T, 10, 0), [1]);
    // Nor does it hand anything out because it is told to.
    assert_eq!(rig.one(T, receive(Q, &[2, 3], 30)), Reply::Received(vec![]));
    assert_eq!(get(&mut rig, T + 1_000, 10, 0), [1, 0, 2, 3]);
}

/// A message placed by a later decision: to where its group was before, or to where it goes.
fn placed(of: u64, number: u8, epoch: u64, only_if_present: bool) -> Command {
    let placing = Placing { epoch, only_if_present, ..Placing::default() };
    Command::Send(Send { placing, ..message(of, number, 0) })
}

#[test]
fn a_group_stays_where_it_has_messages_and_leaves_with_the_last() {
    let mut rig = with(&[1, 1]);
    assert!(matches!(rig.one(T, placed(1, 2, 1, true)), Reply::Sent(Some(_))));
    assert_eq!(rig.one(T, placed(2, 3, 1, true)), absent(3));
    assert_eq!(get(&mut rig, T, 10, 1_000), [0, 1, 2]);
    rig.run(T, (0..3).map(|seq| delete(Q, seq, 1)).collect());
    assert_eq!(rig.one(T, placed(1, 4, 1, true)), absent(3));
}

fn absent(below: u64) -> Reply {
    Reply::Elsewhere(Elsewhere::Absent { below: Seq(below) })
}

/// Found by reading: sequence numbers are made of places, and those of a group fell when its queue
/// was placed anew and its new shard had had fewer messages than the one before.
#[test]
fn a_group_that_comes_from_another_shard_gets_a_place_above_all_that_it_had_there() {
    let mut rig = with(&[1]);
    let placing = |floor| Placing { epoch: 1, floor: Seq(floor), ..Placing::default() };
    let come =
        |number, floor| Command::Send(Send { placing: placing(floor), ..message(2, number, 0) });
    let place = |reply| match reply {
        Reply::Sent(Some(accepted)) => accepted.seq.0,
        other => panic!("{other:?}"),
    };
    let places: Vec<_> =
        rig.run(T, vec![come(1, 100), come(2, 100), come(3, 0)]).into_iter().map(place).collect();
    assert_eq!(places, [100, 101, 102]);
    assert_eq!(place(rig.one(T, come(4, 50))), 103, "it is above already");
    // What is a duplicate or has its place elsewhere moves nothing.
    assert_eq!(place(rig.one(T, come(4, 500))), 103);
    let stale = Send { placing: Placing { epoch: 0, ..placing(500) }, ..message(2, 5, 0) };
    assert_eq!(rig.one(T, Command::Send(stale)), Reply::Elsewhere(Elsewhere::Stale));
    assert_eq!(rig.machine.next_seq(), Seq(104));
    assert_eq!(get(&mut rig, T, 10, 1_000), [0, 100, 101, 102, 103]);
}

#[test]
fn within_a_batch_a_group_that_arrives_or_goes_counts_at_once() {
    let mut rig = with(&[1]);
    assert_eq!(get(&mut rig, T, 1, 1_000), [0]);
    let batch =
        vec![delete(Q, 0, 1), placed(1, 1, 1, true), placed(1, 2, 1, false), placed(1, 3, 1, true)];
    let replies = rig.run(T, batch);
    assert_eq!(replies[1], absent(1));
    assert!(matches!(replies[2..], [Reply::Sent(Some(_)), Reply::Sent(Some(_))]));
}

#[test]
fn earlier_decisions_are_refused_once_a_later_one_was_heard_of() {
    let mut rig = with(&[1]);
    // Even by a message that had its place elsewhere.
    assert_eq!(rig.one(T, placed(2, 1, 2, true)), absent(1));
    assert_eq!(rig.one(T, placed(1, 2, 1, false)), Reply::Elsewhere(Elsewhere::Stale));
    assert_eq!(rig.one(T, Command::Fence { queue: Q, epoch: 1 }), Reply::Passed);
    assert!(matches!(rig.one(T, placed(1, 3, 2, false)), Reply::Sent(Some(_))));
    rig.one(T, Command::Fence { queue: Q, epoch: 5 });
    rig.one(T, Command::Purge { queue: Q });
    assert_eq!(rig.one(T, placed(1, 4, 4, false)), Reply::Elsewhere(Elsewhere::Stale));
}

#[test]
fn a_fence_is_remembered_by_a_shard_that_never_had_the_queue() {
    let mut rig = Rig::new();
    rig.one(T, Command::Fence { queue: Q, epoch: 1 });
    assert_eq!(rig.one(T, placed(1, 1, 0, false)), Reply::Elsewhere(Elsewhere::Stale));
}

#[test]
fn a_duplicate_of_before_the_change_is_known_where_it_was_stored() {
    let mut rig = with(&[1]);
    assert_eq!(get(&mut rig, T, 1, 1_000), [0]);
    rig.one(T, delete(Q, 0, 1));
    let placing = Placing {
        epoch: 1,
        only_if_present: true,
        dedup_before: Some(DedupKey([0; 16])),
        floor: Seq(0),
    };
    let again = Send { placing, dedup: Some(DedupKey([99; 16])), ..message(1, 7, 0) };
    let earlier = Accepted { seq: Seq(0), message_id: MessageId([0; 16]) };
    assert_eq!(rig.one(T, Command::Send(again)), Reply::Sent(Some(earlier)));
}

#[test]
fn another_delay_counts_from_when_the_message_came_and_only_while_it_waits() {
    let mut rig = Rig::new();
    let redelay = |delay_ms| {
        let candidates = vec![Seq(0), Seq(1), Seq(2), Seq(9)];
        Command::Redelay(Redelay { queue: Q, delay_ms, candidates })
    };
    rig.run(
        T,
        [(1, 0, 5_000), (2, 1, 50_000), (1, 2, 50_000)]
            .map(|(of, number, delay_ms)| Command::Send(message(of, number, delay_ms)))
            .to_vec(),
    );
    assert_eq!(rig.machine.delayed(Q, T).len(), 3);
    // The first one's delay is over, and it stays so.
    assert_eq!(rig.one(T + 6_000, redelay(8_000)), Reply::Passed);
    assert_eq!(get(&mut rig, T + 7_999, 10, 0), [0]);
    assert_eq!(get(&mut rig, T + 8_000, 10, 0).len(), 3);
    assert_eq!(rig.one(T + 8_000, redelay(90_000)), Reply::Passed);
    assert!(rig.machine.delayed(Q, T + 8_000).is_empty());
}

/// Found by killing leaders: the node that asked for the first answer asked again, and told its
/// client that a message was deleted which the next receive brought.
#[test]
fn a_repeated_delete_that_came_too_late_is_refused_again() {
    let mut rig = with(&[1]);
    let id = |counter| Some(CommandId { session: 1, counter });
    let delete_as = |counter| Identified { id: id(counter), command: delete(Q, 0, 1) };
    let batch = |now_ms, command| Batch { now_ms, commands: vec![command] };
    assert_eq!(get(&mut rig, T, 1, 1_000), [0]);
    let late = vec![Reply::Deleted(Err(HandleExpired))];
    assert_eq!(rig.apply(&batch(T + 1_000, delete_as(1))), late);
    assert_eq!(rig.apply(&batch(T + 1_001, delete_as(1))), late);
    // And one that was in time has deleted it, however late the question comes again.
    assert_eq!(get(&mut rig, T + 2_000, 1, 1_000), [0]);
    let in_time = Identified { id: id(2), command: delete(Q, 0, 2) };
    let gone = vec![Reply::Deleted(Ok(()))];
    assert_eq!(rig.apply(&batch(T + 2_999, in_time.clone())), gone);
    assert_eq!(rig.apply(&batch(T + 9_000, in_time)), gone);
}

#[test]
fn a_repeated_change_of_visibility_says_only_what_the_state_shows() {
    let mut rig = with(&[1]);
    let as_id = |counter, command| {
        let id = Some(CommandId { session: 1, counter });
        Batch { now_ms: 0, commands: vec![Identified { id, command }] }
    };
    let mut ask =
        |now_ms, counter, command| rig.apply(&Batch { now_ms, ..as_id(counter, command) });
    let ok = [Reply::VisibilityChanged(Ok(()))];
    let received = ask(T, 1, receive(Q, &[0], 1_000));
    assert!(matches!(&received[..], [Reply::Received(leases)] if leases.len() == 1));
    assert_eq!(ask(T + 500, 2, change(Q, 0, 1, 2_000)), ok);
    assert_eq!(ask(T + 501, 2, change(Q, 0, 1, 2_000)), ok);
    assert_eq!(ask(T + 502, 3, change(Q, 0, 1, 0)), ok);
    assert_eq!(ask(T + 503, 3, change(Q, 0, 1, 0)), ok);
    // This one is refused, and what is left does not say so for ever.
    let late = [Reply::VisibilityChanged(Err(VisibilityError::NotInFlight))];
    assert_eq!(ask(T + 504, 4, change(Q, 0, 1, 9_000)), late);
    assert_eq!(ask(T + 505, 4, change(Q, 0, 1, 9_000)), [Reply::Forgotten]);
}

/// Reserves until the window has looked as far as it does.
fn reserved(rig: &mut Rig, max: usize) -> Vec<u64> {
    loop {
        let found = rig.reserve(Q, max, T);
        if !found.seqs.is_empty() || !found.unfinished {
            return found.seqs.iter().map(|seq| seq.0).collect();
        }
    }
}

#[test]
fn a_group_with_a_backlog_as_long_as_the_window_hides_those_behind_it() {
    const WINDOW: u64 = FIFO_WINDOW_MAX as u64;
    let mut rig = Rig::new();
    let unique = |seq: u64, of| {
        let mut key = [0; 16];
        key[..8].copy_from_slice(&seq.to_be_bytes());
        Command::Send(Send { dedup: Some(DedupKey(key)), ..message(of, 0, 0) })
    };
    let mut backlog: Vec<_> = (0..=WINDOW).map(|seq| unique(seq, 1)).collect();
    backlog.push(unique(WINDOW + 1, 2));
    rig.run(T, backlog);
    // One is out and holds its group; behind it are as many as are looked at.
    let first = reserved(&mut rig, 1);
    assert_eq!(first, [0]);
    rig.one(T, receive(Q, &first, 60_000));
    rig.settle(Q, &[Seq(0)]);
    assert!(reserved(&mut rig, 10).is_empty(), "the other group is not seen");
    // It goes on, and with the next one there is room for one more.
    rig.one(T, delete(Q, 0, 1));
    let next = reserved(&mut rig, 1);
    assert_eq!(next, [1]);
    rig.one(T, receive(Q, &next, 60_000));
    rig.settle(Q, &[Seq(1)]);
    assert_eq!(reserved(&mut rig, 10), [WINDOW + 1]);
}

/// It was answered as one that was refused: the client was told that it was certainly not sent.
#[test]
fn a_repeated_send_of_what_was_purged_meanwhile_was_not_refused() {
    let mut rig = Rig::new();
    let send = |epoch| {
        let placing = Placing { epoch, ..Placing::default() };
        let command = Command::Send(Send { placing, ..message(1, 0, 0) });
        Identified { id: Some(CommandId { session: 1, counter: 7 }), command }
    };
    let batch = |command| Batch { now_ms: T, commands: vec![command] };
    let sent = rig.apply(&batch(send(3)));
    assert!(matches!(sent[..], [Reply::Sent(Some(_))]), "{sent:?}");
    rig.one(T, Command::Purge { queue: Q });
    assert_eq!(rig.apply(&batch(send(3))), [Reply::Forgotten]);
    // It may have been, if the shard has heard of a later change.
    rig.one(T, Command::Fence { queue: Q, epoch: 4 });
    assert_eq!(rig.apply(&batch(send(3))), [Reply::Elsewhere(Elsewhere::Stale)]);
}

/// Its client was told that nobody knows, or that it was certainly not sent.
#[test]
fn a_repeated_duplicate_of_before_a_change_is_one_again() {
    let mut rig = with(&[1]);
    let placing = Placing { epoch: 1, dedup_before: Some(DedupKey([0; 16])), ..Placing::default() };
    let command = Send { placing, dedup: Some(DedupKey([99; 16])), ..message(1, 7, 0) };
    let id = Some(CommandId { session: 1, counter: 7 });
    let send = Identified { id, command: Command::Send(command) };
    let earlier = Accepted { seq: Seq(0), message_id: MessageId([0; 16]) };
    for _ in 0..2 {
        let batch = Batch { now_ms: T, commands: vec![send.clone()] };
        assert_eq!(rig.apply(&batch), [Reply::Sent(Some(earlier))]);
    }
}
