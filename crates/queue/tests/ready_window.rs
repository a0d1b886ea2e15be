//! The ready window with backlogs that are larger than it is.

mod common;

use std::cell::Cell;
use std::io;

use bytes::Bytes;
use common::{Rig, change, delete, receive, send, seqs, wanted};
use flotilla_queue::command::{Command, Redrive};
use flotilla_queue::effect::Effect;
use flotilla_queue::ready::{ReadyWindow, Wanted};
use flotilla_queue::store::{
    AttemptRow, DedupRow, Hidden, Message, MessageHead, OriginalRow, QueueRow, Read, ShardRow,
};
use flotilla_types::ids::{DedupKey, GroupKey, QueueId, Seq};
use flotilla_types::limits::READY_WINDOW_MAX;

const Q: QueueId = QueueId(7);

/// Counts what is read of a store.
struct Counting<'a> {
    store: &'a dyn Read,
    heads: Cell<usize>,
    scans: Cell<usize>,
}

impl<'a> Counting<'a> {
    fn new(store: &'a impl Read) -> Counting<'a> {
        Counting { store, heads: Cell::new(0), scans: Cell::new(0) }
    }
}

impl Read for Counting<'_> {
    fn message(&self, queue: QueueId, seq: Seq) -> io::Result<Option<Message>> {
        self.store.message(queue, seq)
    }

    fn messages_from(
        &self,
        queue: QueueId,
        from: Seq,
        limit: usize,
    ) -> io::Result<Vec<MessageHead>> {
        let heads = self.store.messages_from(queue, from, limit)?;
        self.scans.set(self.scans.get() + 1);
        self.heads.set(self.heads.get() + heads.len());
        Ok(heads)
    }

    fn shard_row(&self) -> io::Result<Option<ShardRow>> {
        self.store.shard_row()
    }

    fn queue_rows(&self) -> io::Result<Vec<(QueueId, QueueRow)>> {
        self.store.queue_rows()
    }

    fn hidden_rows(&self, queue: QueueId) -> io::Result<Vec<(Seq, Hidden)>> {
        self.store.hidden_rows(queue)
    }

    fn original(
        &self,
        queue: QueueId,
        period: u64,
        key: DedupKey,
    ) -> io::Result<Option<OriginalRow>> {
        self.store.original(queue, period, key)
    }

    fn group_messages(&self, queue: QueueId, group: GroupKey) -> io::Result<Option<u64>> {
        self.store.group_messages(queue, group)
    }

    fn groups_after(
        &self,
        queue: QueueId,
        after: Option<GroupKey>,
        limit: usize,
    ) -> io::Result<Vec<GroupKey>> {
        self.store.groups_after(queue, after, limit)
    }

    fn attempt(
        &self,
        queue: QueueId,
        period: u64,
        key: DedupKey,
    ) -> io::Result<Option<AttemptRow>> {
        self.store.attempt(queue, period, key)
    }

    fn dedup_rows(&self) -> io::Result<Vec<(u64, u64, DedupRow)>> {
        self.store.dedup_rows()
    }
}

fn rig_with(messages: usize, delay_ms: u64) -> Rig {
    let mut rig = Rig::new();
    rig.run(1_000, (0..messages).map(|_| send(Q, 1, delay_ms)).collect());
    rig
}

#[test]
fn a_deep_backlog_is_read_once_and_in_order() {
    const BACKLOG: usize = 3 * READY_WINDOW_MAX + 17;
    let rig = rig_with(BACKLOG, 0);
    let store = Counting::new(&rig.store);
    let mut window = ReadyWindow::new();
    let mut all = Vec::new();
    loop {
        let found = window.reserve(&rig.machine, &store, Q, wanted(10, 1_000)).unwrap();
        assert_eq!(found.fresh_from, Seq(0), "nothing was received yet");
        assert!(!found.unfinished);
        if found.seqs.is_empty() {
            break;
        }
        all.extend(found.seqs.into_iter().map(|seq| seq.0));
    }
    assert_eq!(all, (0..BACKLOG as u64).collect::<Vec<_>>());
    assert_eq!(store.heads.get(), BACKLOG, "no message was looked at twice");
}

#[test]
fn the_bound_follows_what_was_received() {
    let mut rig = rig_with(30, 0);
    let first = rig.reserve(Q, 10, 1_000);
    let second = rig.reserve(Q, 10, 1_000);
    assert_eq!((first.fresh_from, second.fresh_from), (Seq(0), Seq(0)));
    // The second is applied, the first never.
    let candidates: Vec<u64> = second.seqs.iter().map(|seq| seq.0).collect();
    rig.one(1_001, receive(Q, &candidates, 500));
    rig.settle(Q, &second.seqs);
    rig.settle(Q, &first.seqs);
    assert_eq!(
        seqs(&rig.receive(1_002, Q, 15, 500)),
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 20, 21, 22, 23, 24]
    );
    let third = rig.reserve(Q, 1, 1_003);
    assert_eq!((third.seqs, third.fresh_from), (vec![Seq(25)], Seq(25)));
}

#[test]
fn an_empty_or_caught_up_queue_is_answered_from_memory() {
    let mut rig = Rig::new();
    rig.run(1_000, vec![send(Q, 1, 0)]);
    assert_eq!(seqs(&rig.receive(1_000, Q, 10, 60_000)), [0]);
    for number in 1..200 {
        let store = Counting::new(&rig.store);
        let found = rig.window.reserve(&rig.machine, &store, Q, wanted(10, 1_000)).unwrap();
        assert!(found.seqs.is_empty());
        assert_eq!(store.scans.get(), 0);
        rig.run(1_000, vec![send(Q, 1, 0)]);
        assert_eq!(
            rig.effects,
            [Effect::Arrived { queue: Q, seq: Seq(number), at_ms: 1_000, group: None }]
        );
        let store = Counting::new(&rig.store);
        let found = rig.window.reserve(&rig.machine, &store, Q, wanted(10, 1_000)).unwrap();
        assert_eq!((found.seqs.clone(), found.fresh_from), (vec![Seq(number)], Seq(number)));
        assert_eq!(store.scans.get(), 0, "the arrival went straight into the window");
        rig.one(1_000, receive(Q, &[number], 60_000));
        rig.settle(Q, &found.seqs);
    }
}

#[test]
fn arrivals_beyond_the_window_are_found_by_a_scan() {
    let mut rig = Rig::new();
    rig.run(1_000, vec![send(Q, 1, 0)]);
    assert_eq!(rig.receive(1_000, Q, 1, 60_000).len(), 1);
    let more = READY_WINDOW_MAX + 100;
    rig.run(1_000, (0..more).map(|_| send(Q, 1, 0)).collect());
    rig.run(1_000, vec![send(Q, 1, 0)]);
    // Room again, but not for an arrival with others missing before it.
    rig.run(1_000, vec![receive(Q, &[1, 2], 60_000)]);
    rig.run(1_000, vec![send(Q, 1, 0)]);
    let last = more as u64 + 2;
    let store = Counting::new(&rig.store);
    let mut all = Vec::new();
    while all.last() != Some(&last) {
        let found = rig.window.reserve(&rig.machine, &store, Q, wanted(1_000, 1_000)).unwrap();
        assert!(!found.seqs.is_empty());
        all.extend(found.seqs.into_iter().map(|seq| seq.0));
    }
    assert_eq!(all, (3..=last).collect::<Vec<_>>());
    assert_eq!(store.heads.get(), 102, "only what was not in the window");
    assert!(rig.reserve(Q, 1, 1_000).seqs.is_empty());
}

#[test]
fn a_long_run_of_delayed_messages_does_not_hold_up_one_reserve() {
    const DELAYED: usize = 6 * READY_WINDOW_MAX;
    let mut rig = rig_with(DELAYED, 10_000);
    rig.run(1_000, vec![send(Q, 1, 0)]);
    let first = rig.reserve(Q, 10, 1_000);
    assert!(first.seqs.is_empty() && first.unfinished);
    let second = rig.reserve(Q, 10, 1_000);
    assert_eq!((second.seqs, second.unfinished), (vec![Seq(DELAYED as u64)], false));
    // Due, they come by their time and place.
    assert_eq!(rig.reserve(Q, 3, 11_000).seqs, [Seq(0), Seq(1), Seq(2)]);
}

#[test]
fn messages_that_came_back_once_go_before_fresh_ones_earliest_due_first() {
    let mut rig = rig_with(6, 0);
    assert_eq!(seqs(&rig.receive(1_000, Q, 3, 100)), [0, 1, 2]);
    rig.one(1_010, change(Q, 2, 1, 10));
    assert_eq!(rig.machine.next_visible_at_ms(Q, 0), Some(1_020));
    assert_eq!(rig.machine.next_visible_at_ms(Q, 1_020), Some(1_100));
    assert_eq!(rig.reserve(Q, 10, 1_019).seqs, [Seq(3), Seq(4), Seq(5)]);
    assert_eq!(rig.reserve(Q, 10, 1_100).seqs, [Seq(2), Seq(0), Seq(1)]);
    assert!(rig.reserve(Q, 10, 9_000).seqs.is_empty());
    rig.settle(Q, &[Seq(0), Seq(4)]);
    assert_eq!(rig.reserve(Q, 10, 9_000).seqs, [Seq(0), Seq(4)]);
}

#[test]
fn a_message_that_was_received_three_times_goes_behind_what_is_there() {
    let mut rig = rig_with(2, 0);
    for received in 1..=3 {
        assert_eq!(seqs(&rig.receive(1_000 + received, Q, 1, 0)), [0], "receive {received}");
    }
    assert_eq!(seqs(&rig.receive(1_010, Q, 1, 100)), [1]);
    rig.run(1_020, vec![send(Q, 1, 0), send(Q, 1, 50)]);
    rig.one(1_020, receive(Q, &[0], 10));
    rig.one(1_040, send(Q, 1, 0));
    assert_eq!(rig.reserve(Q, 3, 1_040).seqs, [Seq(2), Seq(0), Seq(4)], "one is delayed");
    rig.settle(Q, &[Seq(2), Seq(0), Seq(4)]);
    // What is due, what came back once, what was there when the failing one came back, that, and what
    // arrived since.
    let order = [Seq(3), Seq(1), Seq(2), Seq(0), Seq(4)];
    assert_eq!(rig.reserve(Q, 10, 1_200).seqs, order);
    assert!(rig.reserve(Q, 10, 1_200).seqs.is_empty());
    // Whoever leads next sees the same.
    rig.window = ReadyWindow::new();
    assert_eq!(rig.reserve(Q, 10, 1_200).seqs, order);
}

/// A move task ends when it finds nothing that was there at its start.
#[test]
fn who_moves_messages_finds_those_that_were_received_too_often_before_fresh_ones() {
    let mut rig = rig_with(2, 0);
    for received in 1..=3 {
        assert_eq!(seqs(&rig.receive(1_000 + received, Q, 1, 0)), [0]);
    }
    let to_move = Wanted { to_move: true, ..wanted(1, 1_010) };
    let mut first = |wanted| {
        let found = rig.window.reserve(&rig.machine, &rig.store, Q, wanted).unwrap().seqs;
        rig.window.settle(&rig.machine, Q, &found);
        found
    };
    assert_eq!(first(to_move), [Seq(0)]);
    assert_eq!(first(wanted(1, 1_010)), [Seq(1)]);
    assert_eq!(first(to_move), [Seq(0)]);
}

#[test]
fn failing_messages_do_not_starve_fresh_ones() {
    const FAILING: u64 = 10;
    let mut rig = rig_with(FAILING as usize, 0);
    let mut now_ms = 1_000;
    let mut delivered = 0;
    for _ in 0..100 {
        now_ms += 1;
        rig.run(now_ms, vec![send(Q, 1, 0)]);
        for lease in rig.receive(now_ms, Q, FAILING as usize, 0) {
            if lease.seq.0 >= FAILING {
                rig.one(now_ms, delete(Q, lease.seq.0, lease.receive_count));
                delivered += 1;
            }
        }
    }
    // The last one may still have its turn after those that came back before it was sent.
    assert!(delivered >= 99, "{delivered}");
    assert_eq!(rig.machine.counts(Q, now_ms).visible, FAILING + 100 - delivered);
}

/// Producers outrun consumers here, so that there is always something fresh.
#[test]
fn failing_messages_are_tried_again_while_more_comes_than_is_received() {
    let mut rig = rig_with(2, 0);
    let (mut now_ms, mut tries) = (1_000, 0);
    for _ in 0..100 {
        now_ms += 10;
        rig.run(now_ms, vec![send(Q, 1, 0), send(Q, 1, 0)]);
        let found = rig.receive(now_ms, Q, 1, 0);
        tries += found.iter().filter(|lease| lease.seq == Seq(0)).count();
        for lease in found.iter().filter(|lease| lease.seq != Seq(0)) {
            rig.one(now_ms, delete(Q, lease.seq.0, lease.receive_count));
        }
    }
    assert!((5..20).contains(&tries), "{tries}");
}

#[test]
fn what_failed_for_the_last_time_becomes_a_dead_letter_before_anything_fresh() {
    let mut rig = rig_with(1, 0);
    let redrive = Redrive { target: QueueId(8), receives_max: 4, source: Bytes::new() };
    rig.redrive = Some(redrive);
    for received in 1..=4 {
        assert_eq!(seqs(&rig.receive(1_000 + received, Q, 1, 0)), [0], "receive {received}");
    }
    // Came back later than this one arrived, and does not wait for it all the same.
    rig.run(1_004, vec![send(Q, 1, 0)]);
    assert!(rig.receive(1_010, Q, 1, 0).is_empty());
    assert_eq!(rig.machine.counts(QueueId(8), 1_010).visible, 1);
    assert_eq!(seqs(&rig.receive(1_010, Q, 1, 0)), [1]);
}

#[test]
fn a_message_made_visible_behind_the_cursor_is_offered() {
    let mut rig = rig_with(2, 0);
    assert_eq!(seqs(&rig.receive(1_000, Q, 2, 100)), [0, 1]);
    // The leader's clock is ahead of the stamp of the next batch.
    assert_eq!(rig.reserve(Q, 1, 1_500).seqs, [Seq(0)]);
    rig.one(1_050, change(Q, 1, 1, 0));
    assert_eq!(
        rig.effects,
        [Effect::VisibleAt { queue: Q, seq: Seq(1), at_ms: 1_050, group: None }]
    );
    assert_eq!(rig.reserve(Q, 10, 1_500).seqs, [Seq(1)]);
}

#[test]
fn a_reserved_message_that_changes_stays_reserved() {
    let mut rig = rig_with(1, 0);
    assert_eq!(seqs(&rig.receive(1_000, Q, 1, 100)), [0]);
    assert_eq!(rig.reserve(Q, 1, 1_500).seqs, [Seq(0)]);
    // Behind the cursor, then after it.
    rig.one(1_050, change(Q, 0, 1, 0));
    assert!(rig.reserve(Q, 1, 1_500).seqs.is_empty());
    rig.one(1_600, change(Q, 0, 1, 0));
    assert!(rig.reserve(Q, 1, 1_700).seqs.is_empty());
    rig.settle(Q, &[Seq(0)]);
    assert_eq!(rig.reserve(Q, 1, 1_700).seqs, [Seq(0)]);
}

#[test]
fn removed_messages_are_not_offered() {
    let mut rig = rig_with(4, 0);
    assert_eq!(rig.reserve(Q, 1, 1_000).seqs, [Seq(0)]);
    rig.one(1_000, receive(Q, &[1, 2], 0));
    rig.one(1_000, delete(Q, 1, 1));
    assert_eq!(rig.reserve(Q, 10, 1_000).seqs, [Seq(2), Seq(3)]);
    rig.one(2_000, Command::Expire { queue: Q, retention_ms: 500, from: Seq(0) });
    assert_eq!(rig.effects.len(), 2, "{:?}", rig.effects);
    rig.settle(Q, &[Seq(0), Seq(2), Seq(3)]);
    assert!(rig.reserve(Q, 10, 9_000).seqs.is_empty());
}

#[test]
fn a_purge_ends_reservations() {
    let mut rig = rig_with(4, 0);
    let before = rig.reserve(Q, 2, 1_000);
    rig.run(1_000, vec![Command::Purge { queue: Q }, send(Q, 9, 0)]);
    rig.settle(Q, &before.seqs);
    assert_eq!(rig.reserve(Q, 10, 1_000).seqs, [Seq(4)]);
}

#[test]
fn idle_windows_are_swept_and_nothing_is_lost() {
    const QUEUES: u64 = 5_000;
    let mut rig = Rig::new();
    rig.run(1_000, (0..QUEUES).map(|queue| send(QueueId(queue), 1, 0)).collect());
    let held = rig.reserve(QueueId(0), 1, 1_000);
    for queue in 1..QUEUES {
        let found = rig.reserve(QueueId(queue), 1, 1_000);
        assert_eq!(found.seqs, [Seq(queue)]);
        rig.settle(QueueId(queue), &found.seqs);
    }
    assert!(rig.reserve(QueueId(0), 1, 1_000).seqs.is_empty(), "{held:?} is still reserved");
    for queue in 1..QUEUES {
        assert_eq!(rig.reserve(QueueId(queue), 1, 1_000).seqs, [Seq(queue)]);
    }
}
