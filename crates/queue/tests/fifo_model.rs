//! Random histories of FIFO queues: machine and ready window against a plain list.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU64;

use bytes::Bytes;
use common::{RETENTION_MS, Rig};
use flotilla_queue::command::{
    Accepted, Batch, ChangeVisibility, Command, Delete, HandleExpired, Identified, Lease, Placing,
    Receive, Redelay, Redrive, Reply, Send, VisibilityError,
};
use flotilla_queue::ready::ReadyWindow;
use flotilla_types::ids::{DedupKey, GroupKey, MessageId, QueueId, Seq};
use proptest::prelude::*;

const Q: QueueId = QueueId(1);
const DEAD: QueueId = QueueId(2);
const INTERVAL_MS: u64 = 300_000;

#[derive(Clone, Debug)]
enum Op {
    Send {
        group: u64,
        key: u8,
        delay_ms: u64,
    },
    /// Of the handles given out so far; now and then with another number.
    Delete {
        handle: usize,
        off: i8,
    },
    Change {
        handle: usize,
        off: i8,
        visibility_ms: u64,
    },
    Foreign {
        candidates: Vec<u64>,
        visibility_ms: u64,
    },
    Redelay {
        candidates: Vec<u64>,
        delay_ms: u64,
    },
    Purge,
    Expire,
}

#[derive(Clone, Debug)]
enum Step {
    Batch { advance_ms: u64, ops: Vec<Op>, with_receives: bool },
    Reserve { max: usize, visibility_ms: u64, redrive: Option<u32> },
    Fail,
    NewLeader,
}

#[derive(Clone, Debug)]
struct Entry {
    seq: u64,
    group: u64,
    sent_ms: u64,
    visible_at_ms: u64,
    delayed: bool,
    receives: u32,
    received_ms: u64,
    batch: u64,
    handed_out_by: u64,
}

#[derive(Default)]
struct Model {
    now_ms: u64,
    entries: Vec<Entry>,
    /// Key: what was accepted, and when.
    keys: BTreeMap<u8, (u64, u8, u64)>,
    /// Moved to the dead-letter queue.
    dead: u64,
    next_seq: u64,
    batch: u64,
    sent: u8,
}

impl Model {
    /// Per group what can be handed out, in order.
    fn available(&self) -> BTreeMap<u64, Vec<u64>> {
        let mut found: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
        let mut held = BTreeSet::new();
        for entry in &self.entries {
            if entry.visible_at_ms > self.now_ms {
                held.insert(entry.group);
            } else if !held.contains(&entry.group) {
                found.entry(entry.group).or_default().push(entry.seq);
            }
        }
        found
    }

    fn send(&mut self, group: u64, key: u8, delay_ms: u64, number: u8) -> (u64, u8) {
        let counts = |at: u64| self.now_ms < at + INTERVAL_MS;
        if let Some(&(seq, number, _)) = self.keys.get(&key).filter(|(_, _, at)| counts(*at)) {
            return (seq, number);
        }
        let seq = self.next_seq;
        self.next_seq += 1;
        self.keys.insert(key, (seq, number, self.now_ms));
        self.entries.push(Entry {
            seq,
            group,
            sent_ms: self.now_ms,
            visible_at_ms: self.now_ms + delay_ms,
            delayed: delay_ms > 0,
            receives: 0,
            received_ms: 0,
            batch: self.batch,
            handed_out_by: 0,
        });
        (seq, number)
    }

    fn receive(&mut self, receive: &Receive) -> Vec<(u64, u32)> {
        let mut leases: Vec<(u64, u32)> = Vec::new();
        for Seq(seq) in &receive.candidates {
            let Some(at) = self.entries.iter().position(|entry| entry.seq == *seq) else {
                continue;
            };
            let entry = &self.entries[at];
            let mine = |seq: u64| leases.iter().any(|lease| lease.0 == seq);
            let waits = self.entries[..at].iter().any(|earlier| {
                earlier.group == entry.group
                    && earlier.visible_at_ms > self.now_ms
                    && !mine(earlier.seq)
            });
            let fresh = entry.batch != self.batch && entry.handed_out_by != self.batch;
            if !fresh || entry.visible_at_ms > self.now_ms || waits {
                continue;
            }
            if receive.redrive.as_ref().is_some_and(|it| entry.receives >= it.receives_max) {
                self.entries.remove(at);
                self.dead += 1;
                continue;
            }
            let (now_ms, batch) = (self.now_ms, self.batch);
            let entry = &mut self.entries[at];
            entry.receives += 1;
            entry.received_ms = now_ms;
            entry.visible_at_ms = now_ms + receive.visibility_ms;
            entry.handed_out_by = batch;
            leases.push((*seq, entry.receives));
        }
        leases
    }

    fn redelay(&mut self, redelay: &Redelay) {
        for entry in &mut self.entries {
            let is_named = redelay.candidates.contains(&Seq(entry.seq));
            let waits = entry.receives == 0 && entry.visible_at_ms > self.now_ms;
            if is_named && waits && entry.batch != self.batch {
                entry.visible_at_ms = entry.sent_ms + redelay.delay_ms;
            }
        }
    }

    fn held(&mut self, seq: u64, receive: u32) -> Option<(usize, bool)> {
        let at = self.entries.iter().position(|entry| entry.seq == seq)?;
        let entry = &self.entries[at];
        if receive == 0 || receive > entry.receives {
            return None;
        }
        Some((at, receive == entry.receives && entry.visible_at_ms > self.now_ms))
    }
}

struct Proposed {
    receive: Receive,
    /// Groups that nobody else gets meanwhile.
    locks: BTreeSet<u64>,
    /// Reserved in the present leader's window.
    ours: bool,
}

struct World {
    rig: Rig,
    follower: Rig,
    model: Model,
    proposed: Vec<Proposed>,
    handles: Vec<(u64, u32)>,
}

impl World {
    fn new() -> World {
        let model = Model { now_ms: 1_000_000, ..Model::default() };
        World {
            rig: Rig::new(),
            follower: Rig::new(),
            model,
            proposed: Vec::new(),
            handles: Vec::new(),
        }
    }

    fn command(&mut self, op: Op) -> Option<Command> {
        let handle = |handle: usize, off: i8| {
            let (seq, receive) = *self.handles.get(handle % self.handles.len().max(1))?;
            Some((Seq(seq), receive.saturating_add_signed(off.into())))
        };
        Some(match op {
            Op::Send { group, key, delay_ms } => {
                self.model.sent = self.model.sent.wrapping_add(1);
                Command::Send(Send {
                    queue: Q,
                    message_id: MessageId([self.model.sent; 16]),
                    delay_ms,
                    group: NonZeroU64::new(group).map(GroupKey),
                    dedup: Some(DedupKey([key; 16])),
                    placing: Placing::default(),
                    content: Bytes::new(),
                })
            }
            Op::Delete { handle: at, off } => {
                let (seq, receive) = handle(at, off)?;
                Command::Delete(Delete { queue: Q, seq, receive })
            }
            Op::Change { handle: at, off, visibility_ms } => {
                let (seq, receive) = handle(at, off)?;
                Command::ChangeVisibility(ChangeVisibility {
                    queue: Q,
                    seq,
                    receive,
                    visibility_ms,
                })
            }
            Op::Foreign { candidates, visibility_ms } => Command::Receive(Receive {
                queue: Q,
                candidates: candidates.into_iter().map(Seq).collect(),
                visibility_ms,
                retention_ms: RETENTION_MS,
                fresh_from: Seq(0),
                redrive: None,
                attempt: None,
                bytes_max: u64::MAX,
            }),
            Op::Redelay { candidates, delay_ms } => Command::Redelay(Redelay {
                queue: Q,
                delay_ms,
                candidates: candidates.into_iter().map(Seq).collect(),
            }),
            Op::Purge => Command::Purge { queue: Q },
            Op::Expire => Command::Expire { queue: Q, retention_ms: RETENTION_MS, from: Seq(0) },
        })
    }

    fn batch(&mut self, ops: Vec<Op>, with_receives: bool) {
        let proposed = if with_receives { std::mem::take(&mut self.proposed) } else { Vec::new() };
        let mut commands: Vec<_> = ops.into_iter().filter_map(|op| self.command(op)).collect();
        commands.extend(proposed.iter().map(|it| Command::Receive(it.receive.clone())));
        let identified = |command| Identified { id: None, command };
        let batch = Batch {
            now_ms: self.model.now_ms,
            commands: commands.into_iter().map(identified).collect(),
        };
        let replies = self.rig.apply(&batch);
        assert_eq!(self.follower.apply(&batch), replies);
        self.model.batch += 1;
        for (command, reply) in batch.commands.iter().zip(replies) {
            self.check_reply(&command.command, reply);
        }
        for proposed in proposed {
            self.settle(&proposed);
        }
    }

    fn settle(&mut self, proposed: &Proposed) {
        if proposed.ours {
            self.rig.settle(Q, &proposed.receive.candidates);
        }
    }

    fn check_reply(&mut self, command: &Command, reply: Reply) {
        let now_ms = self.model.now_ms;
        match command {
            Command::Send(send) => {
                let (group, key) = (send.group.unwrap().0.get(), send.dedup.unwrap().0[0]);
                let (seq, number) =
                    self.model.send(group, key, send.delay_ms, send.message_id.0[0]);
                let message_id = MessageId([number; 16]);
                assert_eq!(reply, Reply::Sent(Some(Accepted { seq: Seq(seq), message_id })));
            }
            Command::Receive(receive) => {
                let dead = self.model.dead;
                let expected = self.model.receive(receive);
                // Each got a new place.
                self.model.next_seq += self.model.dead - dead;
                let Reply::Received(leases) = reply else { panic!("{reply:?}") };
                let got = |lease: &Lease| (lease.seq.0, lease.receive_count);
                assert_eq!(leases.iter().map(got).collect::<Vec<_>>(), expected);
                self.handles.extend(expected);
            }
            Command::Delete(delete) => {
                let expected = match self.model.held(delete.seq.0, delete.receive) {
                    Some((_, false)) => Err(HandleExpired),
                    Some((at, true)) => {
                        self.model.entries.remove(at);
                        Ok(())
                    }
                    None => Ok(()),
                };
                assert_eq!(reply, Reply::Deleted(expected));
            }
            Command::ChangeVisibility(change) => {
                let expected = match self.model.held(change.seq.0, change.receive) {
                    Some((at, true)) => {
                        self.model.entries[at].visible_at_ms = now_ms + change.visibility_ms;
                        Ok(())
                    }
                    _ => Err(VisibilityError::NotInFlight),
                };
                assert_eq!(reply, Reply::VisibilityChanged(expected));
            }
            Command::Redelay(redelay) => {
                self.model.redelay(redelay);
                assert_eq!(reply, Reply::Passed);
            }
            Command::Purge { .. } => {
                self.model.entries.clear();
                self.model.keys.clear();
                self.proposed.iter_mut().for_each(|proposed| proposed.locks.clear());
            }
            _ => assert_eq!(reply, Reply::Expired { removed: 0, resume: None }),
        }
    }

    /// What is offered is the beginning of what each free group has, and nothing is kept back while
    /// there is room.
    fn reserve(&mut self, max: usize, visibility_ms: u64, redrive: Option<u32>) {
        let found = self.rig.reserve(Q, max, self.model.now_ms);
        assert!(!found.unfinished);
        let mut free = self.model.available();
        free.retain(|group, _| self.proposed.iter().all(|it| !it.locks.contains(group)));
        let mut offered: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
        for Seq(seq) in &found.seqs {
            let entry = self.model.entries.iter().find(|entry| entry.seq == *seq);
            offered.entry(entry.expect("is there").group).or_default().push(*seq);
        }
        let all: usize = free.values().map(Vec::len).sum();
        assert_eq!(found.seqs.len(), all.min(max), "{free:?} {offered:?}");
        for (group, seqs) in &offered {
            assert_eq!(seqs[..], free[group][..seqs.len()], "group {group}");
        }
        let partly = offered.iter().filter(|(group, seqs)| seqs.len() < free[group].len());
        assert!(partly.count() <= 1, "one group is emptied before the next is begun");
        for entry in &self.model.entries {
            let is_fresh = !entry.delayed && entry.receives == 0;
            assert!(!is_fresh || Seq(entry.seq) >= found.fresh_from);
        }
        let source = Bytes::from_static(b"q");
        let redrive = redrive.map(|receives_max| Redrive { target: DEAD, receives_max, source });
        let receive = Receive {
            queue: Q,
            candidates: found.seqs,
            visibility_ms,
            retention_ms: RETENTION_MS,
            fresh_from: found.fresh_from,
            redrive,
            attempt: None,
            bytes_max: u64::MAX,
        };
        self.proposed.push(Proposed { receive, locks: offered.into_keys().collect(), ours: true });
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Batch { advance_ms, ops, with_receives } => {
                self.model.now_ms += advance_ms;
                self.batch(ops, with_receives);
            }
            Step::Reserve { max, visibility_ms, redrive } => {
                self.reserve(max, visibility_ms, redrive);
            }
            Step::Fail if self.proposed.is_empty() => {}
            Step::Fail => {
                let proposed = self.proposed.remove(0);
                self.settle(&proposed);
            }
            Step::NewLeader => {
                self.rig.window = ReadyWindow::new();
                for proposed in &mut self.proposed {
                    (proposed.ours, proposed.locks) = (false, BTreeSet::new());
                }
            }
        }
        assert_eq!(self.rig.machine, self.follower.machine);
        let stored = self.rig.store.messages().filter(|(queue, ..)| *queue == Q);
        let stored: Vec<_> = stored.map(|(_, seq, _)| seq.0).collect();
        let expected: Vec<_> = self.model.entries.iter().map(|entry| entry.seq).collect();
        assert_eq!(stored, expected);
        assert_eq!(self.rig.machine.counts(DEAD, 0).visible, self.model.dead);
    }
}

fn visibility() -> impl Strategy<Value = u64> {
    prop_oneof![2 => Just(0), 4 => 1..150u64]
}

fn op() -> impl Strategy<Value = Op> {
    let off = || prop_oneof![6 => Just(0), 1 => -2..3i8];
    prop_oneof![
        8 => (1..5u64, 0..40u8, prop_oneof![5 => Just(0), 1 => 1..300u64])
            .prop_map(|(group, key, delay_ms)| Op::Send { group, key, delay_ms }),
        6 => (any::<usize>(), off()).prop_map(|(handle, off)| Op::Delete { handle, off }),
        4 => (any::<usize>(), off(), visibility())
            .prop_map(|(handle, off, visibility_ms)| Op::Change { handle, off, visibility_ms }),
        2 => (prop::collection::vec(0..40u64, 0..6), visibility())
            .prop_map(|(candidates, visibility_ms)| Op::Foreign { candidates, visibility_ms }),
        2 => (prop::collection::vec(0..40u64, 0..12), 0..300u64)
            .prop_map(|(candidates, delay_ms)| Op::Redelay { candidates, delay_ms }),
        1 => Just(Op::Purge),
        1 => Just(Op::Expire),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let advance = prop_oneof![20 => 0..120u64, 1 => 200_000..400_000u64];
    let redrive = prop_oneof![2 => Just(None), 1 => (1..4u32).prop_map(Some)];
    prop_oneof![
        10 => (advance, prop::collection::vec(op(), 0..8), any::<bool>()).prop_map(
            |(advance_ms, ops, with_receives)| Step::Batch { advance_ms, ops, with_receives }
        ),
        10 => (0..12usize, visibility(), redrive).prop_map(
            |(max, visibility_ms, redrive)| Step::Reserve { max, visibility_ms, redrive }
        ),
        1 => Just(Step::Fail),
        1 => Just(Step::NewLeader),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    #[test]
    fn machine_and_window_keep_the_order_of_groups(
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let mut world = World::new();
        for step in steps {
            world.step(step);
        }
    }
}
