//! Each command's rules, one by one.

mod common;

use bytes::Bytes;
use common::{Rig, change, delete, leases, receive, send, seqs};
use flotilla_queue::QueueCounts;
use flotilla_queue::command::{Batch, Command, Identified, Receive, Reply, Send, VisibilityError};
use flotilla_queue::machine::Machine;
use flotilla_queue::mem_store::MemBatch;
use flotilla_queue::store::{Read, ShardRow, Write};
use flotilla_types::ids::{CommandId, QueueId, Seq};

const Q: QueueId = QueueId(1);
const OTHER: QueueId = QueueId(2);
const TWELVE_HOURS_MS: u64 = 43_200_000;

fn counts(visible: u64, in_flight: u64, delayed: u64) -> QueueCounts {
    QueueCounts { visible, in_flight, delayed }
}

#[test]
fn the_clock_never_runs_back() {
    let mut rig = Rig::new();
    rig.one(1_000, send(Q, 1, 0));
    rig.one(900, send(Q, 2, 50));
    assert_eq!(rig.machine.clock_ms(), 1_000);
    assert_eq!(rig.machine.hidden(Q, Seq(1)).unwrap().visible_at_ms, 1_050);
    assert_eq!(rig.store.message(Q, Seq(1)).unwrap().unwrap().sent_ms, 1_000);
}

#[test]
fn places_are_the_shards_and_grow_by_one() {
    let mut rig = Rig::new();
    rig.run(1_000, vec![send(Q, 1, 0), send(OTHER, 2, 0), send(Q, 3, 0)]);
    assert_eq!(rig.machine.next_seq(), Seq(3));
    let stored: Vec<_> = rig.store.messages().map(|(queue, seq, _)| (queue.0, seq.0)).collect();
    assert_eq!(stored, [(1, 0), (1, 2), (2, 1)]);
}

#[test]
fn an_empty_batch_writes_only_a_later_clock() {
    let mut rig = Rig::new();
    rig.run(1_000, vec![Command::Barrier]);
    let mut staged = MemBatch::default();
    let batch = Batch { now_ms: 1_000, commands: Vec::new() };
    rig.machine.apply(&batch, &rig.store, &mut staged, &mut Vec::new()).unwrap();
    assert!(staged.is_empty());
    let shard = rig.store.shard_row().unwrap();
    assert_eq!(shard, Some(ShardRow { clock_ms: 1_000, next_seq: Seq(0) }));
}

#[test]
fn a_lease_carries_content_and_counts() {
    let mut rig = Rig::new();
    rig.one(1_000, send(Q, 9, 0));
    let first = rig.receive(2_000, Q, 10, 100).remove(0);
    assert_eq!((first.receive_count, first.first_received_ms, first.sent_ms), (1, 2_000, 1_000));
    assert_eq!((first.message_id.0, &first.content[..]), ([9; 16], &[9][..]));
    assert!(rig.receive(2_099, Q, 10, 100).is_empty());
    let second = rig.receive(2_100, Q, 10, 100).remove(0);
    assert_eq!((second.receive_count, second.first_received_ms), (2, 2_000));
    let row = rig.machine.hidden(Q, Seq(0)).unwrap();
    assert_eq!((row.revision, row.received_ms, row.visible_at_ms), (2, 2_100, 2_200));
}

#[test]
fn visibility_zero_leaves_it_visible_but_not_twice_in_one_batch() {
    let mut rig = Rig::new();
    rig.one(1_000, send(Q, 1, 0));
    let twice = vec![receive(Q, &[0, 0], 0), receive(Q, &[0], 0)];
    let replies = rig.run(1_000, twice);
    let handed_out: Vec<_> = replies.into_iter().map(|reply| leases(reply).len()).collect();
    assert_eq!(handed_out, [1, 0]);
    assert_eq!(rig.machine.counts(Q, 0), counts(1, 0, 0));
    let lease = rig.receive(1_000, Q, 1, 0).remove(0);
    assert_eq!(lease.receive_count, 2);
}

#[test]
fn what_a_batch_sends_or_removes_cannot_be_received_in_it() {
    let mut rig = Rig::new();
    rig.run(1_000, vec![send(Q, 1, 0), send(Q, 2, 0)]);
    rig.one(1_000, receive(Q, &[0], 0));
    let replies = rig.run(
        1_001,
        vec![
            delete(Q, 0, 1),
            send(Q, 3, 0),
            receive(Q, &[0, 1, 2, 3, 77], 500),
            Command::DropQueue { queue: Q },
            send(Q, 4, 0),
            receive(Q, &[0, 1, 2, 3], 500),
        ],
    );
    assert_eq!(seqs(&leases(replies[2].clone())), [1]);
    assert_eq!(replies[3], Reply::Purged(2));
    assert_eq!(replies[5], Reply::Received(Vec::new()));
    assert_eq!(seqs(&rig.receive(1_002, Q, 10, 500)), [3]);
}

#[test]
fn a_candidate_past_retention_is_removed_instead() {
    let mut rig = Rig::new();
    rig.run(1_000, vec![send(Q, 1, 0), send(Q, 2, 20)]);
    rig.run(1_001, vec![send(Q, 3, 0)]);
    let receive = Command::Receive(Receive {
        queue: Q,
        candidates: vec![Seq(0), Seq(1), Seq(2)],
        visibility_ms: 10,
        retention_ms: 100,
        fresh_from: Seq(0),
        redrive: None,
        attempt: None,
        bytes_max: u64::MAX,
    });
    assert_eq!(seqs(&leases(rig.one(1_100, receive))), [2]);
    assert_eq!(rig.machine.counts(Q, 0), counts(0, 1, 0));
}

#[test]
fn any_receive_of_a_message_deletes_it_but_nothing_else_does() {
    let mut rig = Rig::new();
    rig.run(1_000, vec![send(Q, 1, 0), send(Q, 2, 5), send(Q, 3, 0)]);
    // Never received, fresh or delayed.
    rig.run(1_000, vec![delete(Q, 0, 1), delete(Q, 0, 0), delete(Q, 1, 0), delete(Q, 1, 1)]);
    assert_eq!(rig.machine.queue(Q).unwrap().messages, 3);
    rig.receive(1_010, Q, 10, 10);
    rig.receive(1_020, Q, 10, 10);
    // Not issued yet, or of another queue.
    rig.run(1_020, vec![delete(Q, 0, 3), delete(Q, 0, 0), delete(OTHER, 0, 1)]);
    assert_eq!(rig.machine.queue(Q).unwrap().messages, 3);
    // Older handle; latest handle; after the lease ended; and again.
    assert_eq!(
        rig.run(1_020, vec![delete(Q, 0, 1), delete(Q, 1, 2)]),
        [Reply::Deleted(Ok(())), Reply::Deleted(Ok(()))]
    );
    assert_eq!(
        rig.run(9_000, vec![delete(Q, 2, 2), delete(Q, 2, 2)]),
        [Reply::Deleted(Ok(())), Reply::Deleted(Ok(()))]
    );
    assert_eq!(rig.machine.queue(Q).unwrap().messages, 0);
    assert_eq!(rig.store.messages().count(), 0);
}

#[test]
fn visibility_changes_with_any_handle_also_after_the_lease_ended() {
    let mut rig = Rig::new();
    let refused = |error| Reply::VisibilityChanged(Err(error));
    rig.run(1_000, vec![send(Q, 1, 0), send(Q, 2, 50)]);
    assert_eq!(rig.one(1_000, change(Q, 0, 1, 5)), refused(VisibilityError::NotInFlight));
    assert_eq!(rig.one(1_000, change(Q, 1, 0, 5)), refused(VisibilityError::NotInFlight));
    assert_eq!(rig.one(1_000, change(OTHER, 0, 1, 5)), refused(VisibilityError::NotInFlight));
    rig.receive(1_000, Q, 1, 10);
    assert_eq!(rig.one(1_500, change(Q, 0, 1, 100)), Reply::VisibilityChanged(Ok(())));
    assert!(rig.receive(1_599, Q, 1, 10).iter().all(|lease| lease.seq == Seq(1)));
    assert_eq!(seqs(&rig.receive(1_600, Q, 1, 10)), [0]);
    // No third receive issued that handle; the first one's still acts.
    assert_eq!(rig.one(1_600, change(Q, 0, 3, 9)), refused(VisibilityError::NotInFlight));
    assert_eq!(rig.one(1_600, change(Q, 0, 1, 0)), Reply::VisibilityChanged(Ok(())));
    assert_eq!(rig.machine.hidden(Q, Seq(0)).unwrap().visible_at_ms, 1_600);
    rig.run(1_600, vec![delete(Q, 0, 1)]);
    assert_eq!(rig.one(1_600, change(Q, 0, 1, 0)), refused(VisibilityError::NotInFlight));
}

#[test]
fn twelve_hours_are_counted_from_the_latest_receive() {
    let mut rig = Rig::new();
    rig.one(1_000, send(Q, 1, 0));
    rig.receive(2_000, Q, 1, 10);
    rig.receive(3_000, Q, 1, 10);
    let beyond = Reply::VisibilityChanged(Err(VisibilityError::BeyondLimit));
    assert_eq!(rig.one(3_001, change(Q, 0, 2, TWELVE_HOURS_MS)), beyond);
    assert_eq!(rig.machine.hidden(Q, Seq(0)).unwrap().visible_at_ms, 3_010, "not clamped");
    let last = change(Q, 0, 2, TWELVE_HOURS_MS - 1);
    assert_eq!(rig.one(3_001, last), Reply::VisibilityChanged(Ok(())));
    assert_eq!(rig.machine.next_visible_at_ms(Q, 0), Some(3_000 + TWELVE_HOURS_MS));
}

#[test]
fn purge_takes_visible_delayed_and_in_flight_messages() {
    let mut rig = Rig::new();
    assert_eq!(rig.one(1_000, Command::Purge { queue: Q }), Reply::Purged(0));
    rig.run(1_000, vec![send(Q, 1, 0), send(Q, 2, 500), send(OTHER, 3, 0), send(Q, 4, 0)]);
    rig.receive(1_000, Q, 1, 10);
    let replies = rig.run(
        1_001,
        vec![
            send(Q, 5, 0),
            Command::Purge { queue: Q },
            delete(Q, 0, 1),
            change(Q, 0, 1, 5),
            send(Q, 6, 0),
        ],
    );
    assert_eq!(replies[1], Reply::Purged(4));
    assert_eq!(replies[2], Reply::Deleted(Ok(())), "an old handle does no harm");
    assert_eq!(replies[3], Reply::VisibilityChanged(Err(VisibilityError::NotInFlight)));
    let row = rig.machine.queue(Q).unwrap();
    assert_eq!((row.purged_below, row.fresh_from), (Seq(5), Seq(5)));
    assert_eq!(rig.machine.counts(Q, 9_000), counts(1, 0, 0));
    assert_eq!(rig.machine.counts(OTHER, 9_000), counts(1, 0, 0));
    assert_eq!(seqs(&rig.receive(9_000, Q, 10, 10)), [5]);
}

/// What a caller has no room for stays as it was, and so does all that is behind it.
#[test]
fn a_receive_ends_before_what_its_caller_has_no_room_for() {
    let mut rig = Rig::new();
    let content = |bytes| Bytes::from(vec![7; bytes]);
    let sized = |number, bytes| match send(Q, number, 0) {
        Command::Send(send) => Command::Send(Send { content: content(bytes), ..send }),
        other => other,
    };
    rig.run(1_000, vec![sized(1, 40), sized(2, 50), sized(3, 20), sized(4, 10)]);
    let within = |candidates: &[u64], bytes_max| match receive(Q, candidates, 500) {
        Command::Receive(receive) => Command::Receive(Receive { bytes_max, ..receive }),
        other => other,
    };
    assert_eq!(leases(rig.one(1_000, within(&[0, 1, 2, 3], 39))), []);
    assert_eq!(rig.machine.counts(Q, 1_000), counts(4, 0, 0));
    assert_eq!(seqs(&leases(rig.one(1_000, within(&[0, 1, 2, 3], 109)))), [0, 1]);
    assert_eq!(rig.machine.counts(Q, 1_000), counts(2, 2, 0));
    // Not the next one that would fit: what is behind it would overtake.
    assert_eq!(seqs(&leases(rig.one(1_000, within(&[2, 3], 15)))), [0; 0]);
    assert_eq!(seqs(&leases(rig.one(1_000, within(&[2, 3], 30)))), [2, 3]);
}

/// What is looked at every second must not be all that a shard knows.
#[test]
fn queues_at_rest_are_not_busy() {
    let mut rig = Rig::new();
    let queues = (1..=1_000).map(QueueId);
    rig.run(1_000, queues.map(|queue| send(queue, 1, 0)).collect());
    assert_eq!(rig.machine.messages(), 1_000);
    let busy = |rig: &mut Rig, now_ms| {
        let (busy, resume) = rig.machine.busy_after(None, 10, now_ms);
        assert_eq!(resume, None);
        busy.into_iter().map(|busy| (busy.queue, busy.counts)).collect::<Vec<_>>()
    };
    assert_eq!(busy(&mut rig, 1_000), []);
    assert_eq!(rig.receive(1_000, QueueId(7), 1, 500).len(), 1);
    rig.one(1_000, send(QueueId(9), 2, 700));
    let leased = (QueueId(7), counts(0, 1, 0));
    assert_eq!(busy(&mut rig, 1_000), [leased, (QueueId(9), counts(1, 0, 1))]);
    assert_eq!(busy(&mut rig, 1_500), [(QueueId(9), counts(1, 0, 1))]);
    // Received again, it is found again.
    assert_eq!(rig.receive(1_500, QueueId(7), 1, 500).len(), 1);
    assert_eq!(busy(&mut rig, 1_999), [leased]);
    assert_eq!(busy(&mut rig, 2_000), []);
    // All of them, too, can be walked piece by piece.
    let pieces = [None, Some(QueueId(998)), Some(QueueId(1_000))];
    let pieces = pieces.map(|after| rig.machine.queues_after(after, 3));
    assert_eq!(pieces[0], [1, 2, 3].map(QueueId));
    assert_eq!(pieces[1], [999, 1_000].map(QueueId));
    assert_eq!(pieces[2], []);
}

#[test]
fn a_dropped_queue_leaves_nothing() {
    let mut rig = Rig::new();
    rig.run(1_000, vec![send(Q, 1, 0), send(Q, 2, 500), send(OTHER, 3, 0)]);
    assert_eq!(rig.one(1_000, Command::DropQueue { queue: Q }), Reply::Purged(2));
    assert_eq!(rig.one(1_000, Command::DropQueue { queue: Q }), Reply::Purged(0));
    assert_eq!(rig.machine.queues().map(|(queue, _)| queue).collect::<Vec<_>>(), [OTHER]);
    assert_eq!(rig.store.queue_rows().unwrap().len(), 1);
    assert!(rig.machine.queue(Q).is_none());
    // Known and dropped in one batch: no row is ever written.
    rig.run(1_000, vec![send(Q, 4, 0), Command::DropQueue { queue: Q }]);
    assert_eq!(rig.store.queue_rows().unwrap().len(), 1);
}

/// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-available-cloudwatch-metrics.html>
#[test]
fn a_message_that_nobody_can_work_on_does_not_make_the_backlog_old() {
    let mut rig = Rig::new();
    let oldest = |rig: &mut Rig| {
        let head = rig.machine.oldest_of_backlog(Q, &rig.store).unwrap();
        head.map(|head| (head.seq.0, head.entered_ms))
    };
    rig.run(1_000, vec![send(Q, 1, 0), send(Q, 2, 0)]);
    rig.run(2_000, vec![send(Q, 3, 0)]);
    for _ in 0..2 {
        rig.one(3_000, receive(Q, &[0, 1], 0));
        assert_eq!(oldest(&mut rig), Some((0, 1_000)));
    }
    rig.one(3_000, receive(Q, &[0], 0));
    assert_eq!(oldest(&mut rig), Some((1, 1_000)));
    rig.one(3_000, receive(Q, &[1], 0));
    assert_eq!(oldest(&mut rig), Some((2, 2_000)));
    for _ in 0..3 {
        rig.one(3_000, receive(Q, &[2], 0));
    }
    assert_eq!(oldest(&mut rig), None);
    assert_eq!(rig.machine.oldest(Q, &rig.store).unwrap().unwrap().seq, Seq(0), "they expire");
}

#[test]
fn expire_removes_oldest_first_up_to_its_limit() {
    let mut rig = Rig::new();
    rig.run(1_000, (0..2_100).map(|_| send(Q, 1, 0)).collect());
    rig.run(1_000, vec![send(Q, 1, 9_000), send(OTHER, 1, 0)]);
    rig.run(1_500, vec![send(Q, 2, 0)]);
    // In flight is no protection.
    rig.receive(1_500, Q, 5, 60_000);
    let expire = || Command::Expire { queue: Q, retention_ms: 100, from: Seq(0) };
    let expired =
        |removed, resume: Option<u64>| Reply::Expired { removed, resume: resume.map(Seq) };
    assert_eq!(rig.one(1_099, expire()), expired(1_000, Some(1_000)), "the clock is at 1500");
    assert_eq!(rig.machine.queue(Q).unwrap().fresh_from, Seq(1_000));
    let replies = rig.run(1_500, vec![expire(), expire(), expire()]);
    assert_eq!(replies, [expired(1_000, Some(2_000)), expired(101, None), expired(0, None)]);
    let oldest = rig.machine.oldest(Q, &rig.store).unwrap().unwrap();
    assert_eq!((oldest.seq, oldest.sent_ms), (Seq(2_102), 1_500));
    assert_eq!(rig.one(1_600, expire()), expired(1, None));
    assert_eq!(rig.machine.oldest(Q, &rig.store).unwrap(), None);
    assert_eq!(rig.machine.counts(OTHER, 0), counts(1, 0, 0));
}

#[test]
fn counts_move_with_time_and_not_only_with_commands() {
    let mut rig = Rig::new();
    rig.run(1_000, vec![send(Q, 1, 0), send(Q, 2, 0), send(Q, 3, 100)]);
    rig.receive(1_000, Q, 1, 50);
    assert_eq!(rig.machine.counts(Q, 1_049), counts(1, 1, 1));
    assert_eq!(rig.machine.counts(Q, 1_050), counts(2, 0, 1));
    assert_eq!(rig.machine.counts(Q, 1_100), counts(3, 0, 0));
    assert_eq!(rig.machine.counts(Q, 0), counts(1, 1, 1));
    assert_eq!(rig.machine.counts(OTHER, 0), QueueCounts::default());
}

#[test]
fn a_repeated_command_is_answered_and_not_applied() {
    let mut rig = Rig::new();
    let id = |counter| Some(CommandId { session: 5, counter });
    let commands = vec![
        Identified { id: id(1), command: send(Q, 1, 0) },
        Identified { id: id(1), command: send(Q, 1, 0) },
        Identified { id: id(70_000), command: Command::Barrier },
        Identified { id: id(2), command: send(Q, 1, 0) },
    ];
    let replies = rig.apply(&Batch { now_ms: 1_000, commands });
    assert_eq!(replies, [Reply::Sent(None), Reply::Sent(None), Reply::Passed, Reply::Forgotten]);
    assert_eq!(rig.machine.queue(Q).unwrap().messages, 1);
}

#[test]
fn a_store_that_lost_a_received_message_is_an_error() {
    let mut rig = Rig::new();
    rig.one(1_000, send(Q, 1, 0));
    rig.receive(1_000, Q, 1, 0);
    let mut loss = MemBatch::default();
    loss.remove_message(Q, Seq(0));
    rig.store.commit(loss);
    let command = Identified { id: None, command: receive(Q, &[0], 0) };
    let batch = Batch { now_ms: 1_000, commands: vec![command] };
    let mut staged = MemBatch::default();
    let result = rig.machine.apply(&batch, &rig.store, &mut staged, &mut Vec::new());
    assert_eq!(result.unwrap_err().kind(), std::io::ErrorKind::InvalidData);
}

#[test]
fn loading_skips_what_was_purged() {
    let mut rig = Rig::new();
    rig.run(1_000, vec![send(Q, 1, 500)]);
    let mut row = *rig.machine.queue(Q).unwrap();
    (row.messages, row.purged_below) = (0, Seq(1));
    let mut purge = MemBatch::default();
    purge.put_queue(Q, &row);
    rig.store.commit(purge);
    let machine = Machine::load(&rig.store).unwrap();
    assert_eq!(machine.hidden(Q, Seq(0)), None);
    assert_eq!(machine.counts(Q, 0), QueueCounts::default());
}
