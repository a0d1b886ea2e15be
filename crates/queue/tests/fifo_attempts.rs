//! Receives of FIFO queues that are repeated under one attempt id.

mod common;

use common::fifo::{INTERVAL_MS, Q, T, get, with};
use common::{RETENTION_MS, Rig, change, delete, leases};
use flotilla_queue::command::{Attempt, Command, Receive, Reply};
use flotilla_queue::store::Read as _;
use flotilla_types::ids::{DedupKey, Seq};

fn attempt(rig: &mut Rig, now_ms: u64, key: u8, candidates: &[u64]) -> Vec<(u64, u32)> {
    attempt_few(rig, now_ms, key, 10, candidates)
}

fn attempt_few(
    rig: &mut Rig,
    now_ms: u64,
    key: u8,
    max: usize,
    candidates: &[u64],
) -> Vec<(u64, u32)> {
    let receive = Command::Receive(named(key, max, candidates));
    let got = leases(rig.one(now_ms, receive));
    got.iter().map(|lease| (lease.seq.0, lease.receive_count)).collect()
}

fn named(key: u8, max: usize, candidates: &[u64]) -> Receive {
    Receive {
        queue: Q,
        candidates: candidates.iter().copied().map(Seq).collect(),
        visibility_ms: 1_000,
        retention_ms: RETENTION_MS,
        fresh_from: Seq(0),
        redrive: None,
        attempt: Some(Attempt { key: DedupKey([key; 16]), max }),
        bytes_max: u64::MAX,
    }
}

fn attempted(rig: &Rig, now_ms: u64, key: u8) -> Option<Vec<Seq>> {
    attempted_within(rig, RETENTION_MS, now_ms, key)
}

fn attempted_within(rig: &Rig, retention_ms: u64, now_ms: u64, key: u8) -> Option<Vec<Seq>> {
    rig.machine.attempted(Q, DedupKey([key; 16]), retention_ms, now_ms, &rig.store).unwrap()
}

#[test]
fn a_repeated_attempt_gets_the_same_messages_hidden_anew() {
    let mut rig = with(&[1, 1, 2]);
    assert_eq!(attempt(&mut rig, T, 7, &[0, 1]), [(0, 1), (1, 1)]);
    assert_eq!(attempted(&rig, T + 900, 7), Some(vec![Seq(0), Seq(1)]));
    assert_eq!(attempt(&mut rig, T + 900, 7, &[2]), [(0, 1), (1, 1)]);
    // Each repetition can be repeated; the first handle is as good as ever.
    assert_eq!(attempt(&mut rig, T + 1_800, 7, &[]), [(0, 1), (1, 1)]);
    assert_eq!(attempted(&rig, T + 2_800, 7), None, "the lease is over");
    assert_eq!(attempt(&mut rig, T + 1_800, 8, &[2]), [(2, 1)], "another attempt");
    assert_eq!(rig.one(T + 2_000, delete(Q, 0, 1)), Reply::Deleted(Ok(())));
    assert_eq!(attempted(&rig, T + 2_000, 7), None, "one is gone");
    assert_eq!(attempt(&mut rig, T + 2_000, 7, &[]), []);
}

#[test]
fn a_repeated_attempt_that_asks_for_fewer_gets_the_first_ones_and_the_others_stay_out() {
    let mut rig = with(&[1, 1, 1]);
    assert_eq!(attempt(&mut rig, T, 7, &[0, 1, 2]), [(0, 1), (1, 1), (2, 1)]);
    assert_eq!(attempt_few(&mut rig, T + 500, 7, 2, &[]), [(0, 1), (1, 1)]);
    assert_eq!(attempt(&mut rig, T + 900, 7, &[]), [(0, 1), (1, 1), (2, 1)]);
    assert_eq!(attempt_few(&mut rig, T + 1_800, 7, 1, &[]), [(0, 1)]);
    assert_eq!(attempted(&rig, T + 1_899, 7).unwrap().len(), 3);
    // The lease of the others was not prolonged, and with it the attempt ends.
    assert_eq!(attempted(&rig, T + 1_900, 7), None);
    assert!(get(&mut rig, T + 1_900, 10, 0).is_empty(), "the first one of the group is still out");
}

#[test]
fn a_changed_visibility_ends_an_attempt() {
    let mut rig = with(&[1]);
    attempt(&mut rig, T, 7, &[0]);
    rig.one(T, change(Q, 0, 1, 500));
    assert_eq!(attempted(&rig, T, 7), None);
    rig.one(T, change(Q, 0, 1, 0));
    // A new receive then, under the same name.
    assert_eq!(attempt(&mut rig, T, 7, &[0]), [(0, 2)]);
    assert_eq!(attempt(&mut rig, T, 7, &[]), [(0, 2)]);
}

/// Found by reading: what was past its retention was handed out again until somebody swept it away.
#[test]
fn an_attempt_ends_with_the_retention_of_one_of_its_messages() {
    let mut rig = with(&[1, 1]);
    attempt(&mut rig, T, 7, &[0, 1]);
    let sent_ms = rig.store.message(Q, Seq(0)).unwrap().unwrap().sent_ms;
    let retention_ms = T + 500 - sent_ms;
    let repeat = || Command::Receive(Receive { retention_ms, ..named(7, 10, &[]) });
    assert_eq!(attempted_within(&rig, retention_ms, T + 499, 7).unwrap().len(), 2);
    assert_eq!(leases(rig.one(T + 499, repeat())).len(), 2);
    assert_eq!(attempted_within(&rig, retention_ms, T + 500, 7), None);
    assert_eq!(leases(rig.one(T + 500, repeat())), []);
}

#[test]
fn attempts_are_remembered_for_an_interval_and_until_a_purge() {
    let mut rig = with(&[1]);
    let long = |rig: &mut Rig, at_ms| {
        rig.one(at_ms, change(Q, 0, 1, 43_000_000));
    };
    attempt(&mut rig, T, 7, &[0]);
    assert_eq!(attempt(&mut rig, T + 999, 7, &[]), [(0, 1)]);
    for at_ms in (T + 1_900..T + INTERVAL_MS).step_by(900) {
        assert_eq!(attempt(&mut rig, at_ms, 7, &[]), [(0, 1)]);
    }
    assert_eq!(attempt(&mut rig, T + INTERVAL_MS, 7, &[]), []);
    long(&mut rig, T + INTERVAL_MS);
    rig.one(
        T + 3 * INTERVAL_MS,
        Command::Expire { queue: Q, retention_ms: RETENTION_MS, from: Seq(0) },
    );
    assert_eq!(rig.store.originals(), 0);
}
