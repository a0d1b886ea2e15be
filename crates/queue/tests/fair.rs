//! Fair queues: quiet tenants' messages go out before those of noisy ones, and none is forgotten.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU64;

use bytes::Bytes;
use common::{Rig, change, delete, receive, seqs, wanted};
use flotilla_queue::command::{Command, Lease, Placing, Send};
use flotilla_queue::ready::{ReadyWindow, Wanted};
use flotilla_types::ids::{GroupKey, MessageId, QueueId, Seq};
use flotilla_types::limits::READY_WINDOW_MAX;
use proptest::prelude::*;

const Q: QueueId = QueueId(1);
const T: u64 = 1_000_000;
const VISIBILITY_MS: u64 = 60_000;
const NOISY: u64 = 1;

fn group(number: u64) -> GroupKey {
    GroupKey(NonZeroU64::new(number).unwrap())
}

/// Group 0 stands for none.
fn message(of: u64, delay_ms: u64) -> Command {
    Command::Send(Send {
        queue: Q,
        message_id: MessageId([0; 16]),
        delay_ms,
        group: (of > 0).then(|| group(of)),
        dedup: None,
        placing: Placing::default(),
        content: Bytes::new(),
    })
}

fn sent(rig: &mut Rig, now_ms: u64, of: u64, count: usize) {
    rig.run(now_ms, (0..count).map(|_| message(of, 0)).collect());
}

fn get(rig: &mut Rig, now_ms: u64, max: usize) -> Vec<Lease> {
    rig.receive(now_ms, Q, max, VISIBILITY_MS)
}

fn got(rig: &mut Rig, now_ms: u64, max: usize) -> Vec<u64> {
    seqs(&get(rig, now_ms, max))
}

fn set_noisy(rig: &mut Rig, groups: &[u64]) {
    let groups: Vec<_> = groups.iter().copied().map(group).collect();
    rig.window.set_noisy(&rig.machine, Q, &groups);
}

/// A noisy tenant with a backlog, of which 30 messages are in flight.
fn flooded(backlog: usize) -> Rig {
    let mut rig = Rig::new();
    sent(&mut rig, T, NOISY, backlog);
    for at in 0..3 {
        assert_eq!(got(&mut rig, T, 10), (at * 10..at * 10 + 10).collect::<Vec<_>>());
    }
    set_noisy(&mut rig, &[NOISY]);
    rig
}

#[test]
fn a_quiet_tenants_message_goes_before_a_noisy_ones_backlog() {
    let mut rig = flooded(100);
    sent(&mut rig, T, 2, 2);
    sent(&mut rig, T, 0, 1);
    assert_eq!(got(&mut rig, T, 4), [100, 101, 102, 30]);
    assert_eq!(got(&mut rig, T, 2), [31, 32], "noisy messages flow when nobody else waits");
}

#[test]
fn who_is_quiet_again_is_served_in_order_of_arrival() {
    let mut rig = flooded(100);
    sent(&mut rig, T, 2, 1);
    set_noisy(&mut rig, &[]);
    assert_eq!(got(&mut rig, T, 2), [30, 31]);
    set_noisy(&mut rig, &[NOISY]);
    assert_eq!(got(&mut rig, T, 2), [100, 32]);
}

#[test]
fn quiet_only_leaves_noisy_messages_alone() {
    let mut rig = flooded(100);
    sent(&mut rig, T, 2, 1);
    let quiet_only = Wanted { quiet_only: true, ..wanted(10, T) };
    let found = rig.window.reserve(&rig.machine, &rig.store, Q, quiet_only).unwrap();
    assert_eq!(found.seqs, [Seq(100)]);
}

#[test]
fn a_noisy_tenants_returned_messages_wait_too() {
    let mut rig = flooded(40);
    let later = T + VISIBILITY_MS;
    // 20 more are out when the first 30 come back.
    sent(&mut rig, later - 1, NOISY, 20);
    assert_eq!(got(&mut rig, later - 1, 30).len(), 30);
    sent(&mut rig, later, 2, 1);
    assert_eq!(got(&mut rig, later, 3), [60, 0, 1]);
}

#[test]
fn of_several_noisy_tenants_the_one_with_the_fewest_in_flight_goes_first() {
    let mut rig = Rig::new();
    sent(&mut rig, T, 1, 50);
    sent(&mut rig, T, 2, 40);
    assert_eq!(got(&mut rig, T, 90).len(), 90);
    set_noisy(&mut rig, &[1, 2]);
    sent(&mut rig, T, 1, 5);
    sent(&mut rig, T, 2, 5);
    assert_eq!(got(&mut rig, T, 6), [95, 96, 97, 98, 99, 90]);
}

#[test]
fn a_noisy_tenant_waits_while_it_has_something_to_receive() {
    let mut rig = flooded(32);
    let noisy = |rig: &Rig| rig.window.noisy(Q);
    assert_eq!(noisy(&rig), [(group(NOISY), true)]);
    assert_eq!(got(&mut rig, T, 10).len(), 2);
    assert_eq!(noisy(&rig), [(group(NOISY), false)]);
    set_noisy(&mut rig, &[]);
    assert!(noisy(&rig).is_empty());
}

#[test]
fn a_quiet_message_behind_a_deep_backlog_is_found_and_the_backlog_is_not_forgotten() {
    const BACKLOG: usize = 5 * READY_WINDOW_MAX;
    let mut rig = flooded(BACKLOG);
    sent(&mut rig, T, 2, 1);
    let mut receives = 0;
    while !got(&mut rig, T, 1).contains(&(BACKLOG as u64)) {
        receives += 1;
        assert!(receives < 8, "each receive searches on for a while");
    }
    // From now on at once, however much of the noisy tenant arrives in between.
    sent(&mut rig, T, NOISY, 100);
    sent(&mut rig, T, 3, 1);
    assert_eq!(got(&mut rig, T, 1), [BACKLOG as u64 + 101]);
    let noise = rig.window.noise(&rig.machine, Q, T).unwrap();
    let counts = rig.machine.counts(Q, T);
    assert_eq!((noise.visible, noise.in_flight), (counts.visible, counts.in_flight - 2));
    let mut rest = 0;
    while let found @ 1.. = got(&mut rig, T, 1_000).len() {
        rest += found;
    }
    assert_eq!(rest as u64, counts.visible);
}

#[test]
fn a_new_leader_finds_quiet_messages_in_a_deep_backlog() {
    const BACKLOG: usize = 3 * READY_WINDOW_MAX;
    let mut rig = flooded(BACKLOG);
    sent(&mut rig, T, 2, 3);
    rig.window = ReadyWindow::new();
    set_noisy(&mut rig, &[NOISY]);
    let mut found = BTreeSet::new();
    for _ in 0..6 {
        found.extend(got(&mut rig, T, 3).into_iter().filter(|seq| *seq >= BACKLOG as u64));
    }
    assert_eq!(found.len(), 3);
}

#[test]
fn the_metrics_leave_noisy_tenants_out() {
    let mut rig = flooded(50);
    rig.run(T, vec![message(NOISY, 5_000), message(2, 5_000), message(2, 0), message(2, 0)]);
    assert_eq!(got(&mut rig, T, 1), [52]);
    let noise = rig.window.noise(&rig.machine, Q, T).unwrap();
    assert_eq!((noise.visible, noise.in_flight, noise.delayed), (20, 30, 1));
    assert_eq!(noise.oldest_quiet, Some(Seq(51)), "the delayed one");
}

#[derive(Clone, Debug)]
enum Step {
    Send {
        of: u64,
        count: usize,
        delay_ms: u64,
    },
    Receive {
        max: usize,
        visibility_ms: u64,
    },
    /// Reserved and not applied.
    Fail {
        max: usize,
    },
    Change {
        pick: usize,
        visibility_ms: u64,
    },
    Delete {
        pick: usize,
    },
    /// A receive that another leader proposed.
    Foreign {
        pick: usize,
    },
    Noisy {
        groups: Vec<u64>,
    },
    NewLeader,
    Wait {
        ms: u64,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let count = prop_oneof![20 => 1..10usize, 3 => 40..80usize, 1 => 4_000..6_000usize];
    let visibility_ms = || prop_oneof![4 => 1..60_000u64, 1 => Just(0)];
    let delay_ms = prop_oneof![5 => Just(0), 1 => 1..5_000u64];
    let max = || prop_oneof![5 => 1..11usize, 1 => 50..100usize];
    prop_oneof![
        6 => (0..5u64, count, delay_ms)
            .prop_map(|(of, count, delay_ms)| Step::Send { of, count, delay_ms }),
        8 => (max(), visibility_ms())
            .prop_map(|(max, visibility_ms)| Step::Receive { max, visibility_ms }),
        1 => max().prop_map(|max| Step::Fail { max }),
        2 => (any::<usize>(), visibility_ms())
            .prop_map(|(pick, visibility_ms)| Step::Change { pick, visibility_ms }),
        6 => any::<usize>().prop_map(|pick| Step::Delete { pick }),
        1 => any::<usize>().prop_map(|pick| Step::Foreign { pick }),
        3 => prop::sample::subsequence(vec![1, 2, 3, 4], 0..4)
            .prop_map(|groups| Step::Noisy { groups }),
        1 => Just(Step::NewLeader),
        3 => (1..90_000u64).prop_map(|ms| Step::Wait { ms }),
    ]
}

/// What is stored, by place: the group.
type Stored = BTreeMap<u64, u64>;

struct World {
    rig: Rig,
    now_ms: u64,
    stored: Stored,
    /// What was skipped of these is found later than what arrives of them when they are quiet.
    ever_noisy: BTreeSet<u64>,
}

impl World {
    fn receivable(&self) -> BTreeSet<u64> {
        let free = |seq: &u64| {
            let row = self.rig.machine.hidden(Q, Seq(*seq));
            row.is_none_or(|row| row.visible_at_ms <= self.now_ms)
        };
        self.stored.keys().copied().filter(free).collect()
    }

    fn reserve(&mut self, max: usize, quiet_only: bool) -> (Vec<u64>, bool) {
        let asked = Wanted { quiet_only, ..wanted(max, self.now_ms) };
        let found = self.rig.window.reserve(&self.rig.machine, &self.rig.store, Q, asked).unwrap();
        let fresh_from = found.fresh_from.0;
        for seq in self.receivable().range(..fresh_from) {
            assert!(self.rig.machine.hidden(Q, Seq(*seq)).is_some(), "{seq} below {fresh_from}");
        }
        (found.seqs.into_iter().map(|seq| seq.0).collect(), found.unfinished)
    }

    fn settle(&mut self, seqs: &[u64]) {
        let seqs: Vec<_> = seqs.iter().copied().map(Seq).collect();
        self.rig.settle(Q, &seqs);
    }

    /// Reserves everything, quiet tenants' messages first, and gives it back.
    fn everything_is_found(&mut self) {
        let receivable = self.receivable();
        let mut found = Vec::new();
        loop {
            let (seqs, unfinished) = self.reserve(1_000, true);
            found.extend_from_slice(&seqs);
            if seqs.is_empty() && !unfinished {
                break;
            }
        }
        let noise = self.rig.window.noise(&self.rig.machine, Q, self.now_ms);
        let noisy = noise.map_or_else(Vec::new, |noise| noise.groups);
        let is_noisy = |of: u64| of > 0 && noisy.contains(&group(of));
        for seq in &receivable {
            let of = self.stored[seq];
            let may_wait = is_noisy(of) || (self.ever_noisy.contains(&of) && !noisy.is_empty());
            assert!(may_wait || found.contains(seq), "{seq} of quiet {of} is not found");
        }
        loop {
            let (seqs, unfinished) = self.reserve(1_000, false);
            found.extend_from_slice(&seqs);
            if seqs.is_empty() && !unfinished {
                break;
            }
        }
        assert_eq!(found.iter().copied().collect::<BTreeSet<_>>(), receivable);
        assert_eq!(found.len(), receivable.len(), "nothing twice");
        self.settle(&found);
    }

    fn picked(&self, pick: usize) -> Option<(u64, u32)> {
        let out = |seq: &u64| {
            let row = self.rig.machine.hidden(Q, Seq(*seq))?;
            (row.receive_count > 0).then_some((*seq, row.receive_count))
        };
        let out: Vec<_> = self.stored.keys().filter_map(out).collect();
        out.get(pick.checked_rem(out.len())?).copied()
    }

    fn run(&mut self, step: &Step) {
        match *step {
            Step::Send { of, count, delay_ms } => {
                let first = self.rig.machine.next_seq().0;
                self.stored.extend((first..first + count as u64).map(|seq| (seq, of)));
                self.rig.run(self.now_ms, (0..count).map(|_| message(of, delay_ms)).collect());
            }
            Step::Receive { max, visibility_ms } => {
                let (seqs, _) = self.reserve(max, false);
                self.rig.one(self.now_ms, receive(Q, &seqs, visibility_ms));
                self.settle(&seqs);
            }
            Step::Fail { max } => {
                let (seqs, _) = self.reserve(max, false);
                self.settle(&seqs);
            }
            Step::Change { pick, visibility_ms } => {
                if let Some((seq, number)) = self.picked(pick) {
                    self.rig.one(self.now_ms, change(Q, seq, number, visibility_ms));
                }
            }
            Step::Delete { pick } => {
                if let Some((seq, number)) = self.picked(pick) {
                    self.rig.one(self.now_ms, delete(Q, seq, number));
                    self.stored.remove(&seq);
                }
            }
            Step::Foreign { pick } => {
                let receivable: Vec<_> = self.receivable().into_iter().collect();
                if let Some(at) = pick.checked_rem(receivable.len()) {
                    self.rig.one(self.now_ms, receive(Q, &[receivable[at]], 5_000));
                }
            }
            Step::Noisy { ref groups } => {
                set_noisy(&mut self.rig, groups);
                self.ever_noisy.extend(groups);
            }
            Step::NewLeader => self.rig.window = ReadyWindow::new(),
            Step::Wait { ms } => self.now_ms += ms,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 60,
        max_shrink_iters: 500,
        ..ProptestConfig::default()
    })]

    #[test]
    fn nothing_is_forgotten_and_quiet_tenants_go_first(
        steps in prop::collection::vec((step(), any::<bool>()), 1..60),
    ) {
        let mut world = World {
            rig: Rig::new(),
            now_ms: T,
            stored: Stored::new(),
            ever_noisy: BTreeSet::new(),
        };
        for (step, look) in &steps {
            world.run(step);
            if *look {
                world.everything_is_found();
            }
        }
        world.everything_is_found();
    }
}
