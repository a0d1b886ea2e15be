//! Random histories: machine, store and ready window against the model.

mod common;

use std::collections::BTreeSet;

use bytes::Bytes;
use common::model::Model;
use common::{Rig, change, delete, leases, send};
use flotilla_queue::command::{
    Batch, Command, Identified, Move, MoveCandidate, Placing, Receive, Redrive, Reply,
};
use flotilla_queue::machine::Machine;
use flotilla_queue::ready::ReadyWindow;
use flotilla_types::ids::{CommandId, MessageId, QueueId, Seq};
use proptest::prelude::*;

const QUEUES: u64 = 3;

#[derive(Clone, Debug)]
enum Op {
    Send {
        queue: u64,
        delay_ms: u64,
        copies: u8,
    },
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
        queue: u64,
        candidates: Vec<u64>,
        visibility_ms: u64,
        retention_ms: u64,
        redrive: Option<(u64, u32)>,
        bytes_max: u64,
    },
    Move {
        queue: u64,
        seqs: Vec<u64>,
        target: u64,
        retention_ms: u64,
    },
    Purge {
        queue: u64,
    },
    Drop {
        queue: u64,
    },
    Expire {
        queue: u64,
        retention_ms: u64,
        from: u64,
    },
    Barrier,
}

#[derive(Clone, Debug)]
enum Step {
    /// Applies, with the receives that were reserved so far put between the other commands.
    Batch {
        advance_ms: i64,
        ops: Vec<(Op, Option<(u64, u64)>)>,
        with_receives: bool,
    },
    Reserve {
        queue: u64,
        max: usize,
        ahead_ms: u64,
        visibility_ms: u64,
        retention_ms: u64,
        redrive: Option<(u64, u32)>,
        bytes_max: u64,
    },
    /// The oldest proposed receive will never be applied.
    Fail,
    /// Another replica leads; what the old leader proposed may still be applied.
    NewLeader,
    Restart,
}

fn delay() -> impl Strategy<Value = u64> {
    prop_oneof![3 => Just(0), 1 => 1..300u64]
}

fn visibility() -> impl Strategy<Value = u64> {
    prop_oneof![2 => Just(0), 4 => 1..150u64, 1 => Just(43_200_000), 1 => Just(43_200_001)]
}

fn retention() -> impl Strategy<Value = u64> {
    prop_oneof![1 => 50..500u64, 3 => Just(common::RETENTION_MS)]
}

/// Messages have one byte each.
fn bytes_max() -> impl Strategy<Value = u64> {
    prop_oneof![1 => 0..4u64, 3 => Just(u64::MAX)]
}

/// Queue and number of receives; a queue may be its own dead-letter queue.
fn redrive() -> impl Strategy<Value = Option<(u64, u32)>> {
    prop_oneof![2 => Just(None), 1 => (0..QUEUES, 1..4u32).prop_map(Some)]
}

fn op() -> impl Strategy<Value = Op> {
    let queue = || 0..QUEUES;
    prop_oneof![
        8 => (queue(), delay(), prop_oneof![9 => 1..4u8, 1 => 60..140u8])
            .prop_map(|(queue, delay_ms, copies)| Op::Send { queue, delay_ms, copies }),
        6 => (any::<usize>(), prop_oneof![6 => Just(0), 1 => -2..3i8])
            .prop_map(|(handle, off)| Op::Delete { handle, off }),
        4 => (any::<usize>(), prop_oneof![6 => Just(0), 1 => -2..3i8], visibility())
            .prop_map(|(handle, off, visibility_ms)| Op::Change { handle, off, visibility_ms }),
        3 => (
            queue(),
            prop::collection::vec(0..40u64, 0..6),
            visibility(),
            retention(),
            redrive(),
            bytes_max(),
        )
            .prop_map(|(queue, candidates, visibility_ms, retention_ms, redrive, bytes_max)| {
                Op::Foreign { queue, candidates, visibility_ms, retention_ms, redrive, bytes_max }
            }),
        2 => (queue(), prop::collection::vec(0..40u64, 0..6), queue(), retention()).prop_map(
            |(queue, seqs, target, retention_ms)| Op::Move { queue, seqs, target, retention_ms }
        ),
        1 => queue().prop_map(|queue| Op::Purge { queue }),
        1 => queue().prop_map(|queue| Op::Drop { queue }),
        2 => (queue(), retention(), prop_oneof![2 => Just(0), 1 => 0..30u64])
            .prop_map(|(queue, retention_ms, from)| Op::Expire { queue, retention_ms, from }),
        1 => Just(Op::Barrier),
    ]
}

fn id() -> impl Strategy<Value = Option<(u64, u64)>> {
    let counter = prop_oneof![
        6 => 1..30u64,
        2 => 500..530u64,
        1 => 65_530..65_545u64,
        1 => 66_040..66_060u64,
    ];
    prop_oneof![1 => Just(None), 1 => (0..3u64, counter).prop_map(Some)]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        10 => (-40..120i64, prop::collection::vec((op(), id()), 0..8), any::<bool>()).prop_map(
            |(advance_ms, ops, with_receives)| Step::Batch { advance_ms, ops, with_receives }
        ),
        10 => (
            (0..QUEUES, 0..12usize, 0..60u64),
            (visibility(), retention(), redrive(), bytes_max()),
        ).prop_map(
            |((queue, max, ahead_ms), (visibility_ms, retention_ms, redrive, bytes_max))| {
                Step::Reserve {
                    queue, max, ahead_ms, visibility_ms, retention_ms, redrive, bytes_max
                }
            }
        ),
        1 => Just(Step::Fail),
        1 => Just(Step::NewLeader),
        1 => Just(Step::Restart),
    ]
}

struct Proposed {
    receive: Receive,
    /// Reserved in the present leader's window.
    ours: bool,
}

struct World {
    rig: Rig,
    follower: Rig,
    model: Model,
    now_ms: u64,
    /// The latest that `now_ms` ever was: who looks for busy queues has a clock that does not run back.
    latest_ms: u64,
    proposed: Vec<Proposed>,
    reserved: BTreeSet<(u64, Seq)>,
    handles: Vec<(u64, u64, u32)>,
    sent: u8,
}

impl World {
    fn new() -> World {
        World {
            rig: Rig::new(),
            follower: Rig::new(),
            model: Model::default(),
            now_ms: 1_000_000,
            latest_ms: 0,
            proposed: Vec::new(),
            reserved: BTreeSet::new(),
            handles: Vec::new(),
            sent: 0,
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Batch { advance_ms, ops, with_receives } => {
                self.now_ms = self.now_ms.saturating_add_signed(advance_ms);
                self.batch(ops, with_receives);
            }
            Step::Reserve {
                queue,
                max,
                ahead_ms,
                visibility_ms,
                retention_ms,
                redrive,
                bytes_max,
            } => {
                let now_ms = self.now_ms + ahead_ms;
                let receives_max = redrive.map(|(_, receives_max)| receives_max);
                let (candidates, fresh_from) = self.reserve(queue, max, now_ms, receives_max);
                self.propose(Receive {
                    queue: QueueId(queue),
                    candidates,
                    visibility_ms,
                    retention_ms,
                    fresh_from,
                    redrive: redrive.map(redrive_to),
                    attempt: None,
                    bytes_max,
                });
            }
            Step::Fail => {
                if !self.proposed.is_empty() {
                    let proposed = self.proposed.remove(0);
                    self.settle(&proposed);
                }
            }
            Step::NewLeader => {
                self.rig.window = ReadyWindow::new();
                self.reserved.clear();
                self.proposed.iter_mut().for_each(|proposed| proposed.ours = false);
            }
            Step::Restart => {
                let live = Machine::load(&self.rig.store).unwrap();
                self.rig.machine = live;
            }
        }
        self.check();
    }

    fn command(&mut self, op: Op) -> Vec<Command> {
        let handle = |handle: usize, off: i8| {
            let (queue, seq, receive) = *self.handles.get(handle % self.handles.len().max(1))?;
            Some((QueueId(queue), seq, receive.saturating_add_signed(off.into())))
        };
        match op {
            Op::Send { queue, delay_ms, copies } => (0..copies)
                .map(|_| {
                    self.sent = self.sent.wrapping_add(1);
                    send(QueueId(queue), self.sent, delay_ms)
                })
                .collect(),
            Op::Delete { handle: at, off } => handle(at, off)
                .map(|(q, seq, receive)| delete(q, seq, receive))
                .into_iter()
                .collect(),
            Op::Change { handle: at, off, visibility_ms } => handle(at, off)
                .map(|(q, seq, receive)| change(q, seq, receive, visibility_ms))
                .into_iter()
                .collect(),
            Op::Foreign { queue, candidates, visibility_ms, retention_ms, redrive, bytes_max } => {
                vec![Command::Receive(Receive {
                    queue: QueueId(queue),
                    candidates: candidates.into_iter().map(Seq).collect(),
                    visibility_ms,
                    retention_ms,
                    fresh_from: Seq(0),
                    redrive: redrive.map(redrive_to),
                    attempt: None,
                    bytes_max,
                })]
            }
            Op::Move { queue, seqs, target, retention_ms } => {
                let candidate = |seq| MoveCandidate {
                    seq: Seq(seq),
                    target: QueueId(target),
                    message_id: MessageId([seq as u8; 16]),
                    placing: Placing::default(),
                };
                vec![Command::Move(Move {
                    queue: QueueId(queue),
                    retention_ms,
                    candidates: seqs.into_iter().map(candidate).collect(),
                })]
            }
            Op::Purge { queue } => vec![Command::Purge { queue: QueueId(queue) }],
            Op::Drop { queue } => vec![Command::DropQueue { queue: QueueId(queue) }],
            Op::Expire { queue, retention_ms, from } => {
                vec![Command::Expire { queue: QueueId(queue), retention_ms, from: Seq(from) }]
            }
            Op::Barrier => vec![Command::Barrier],
        }
    }

    fn batch(&mut self, ops: Vec<(Op, Option<(u64, u64)>)>, with_receives: bool) {
        let proposed = if with_receives { std::mem::take(&mut self.proposed) } else { Vec::new() };
        let mut receives = proposed.iter();
        let mut commands = Vec::new();
        for (op, id) in ops {
            for command in self.command(op) {
                let id = id.map(|(session, counter)| CommandId { session, counter });
                commands.push(Identified { id, command });
            }
            commands.extend(receives.next().map(receive_of));
        }
        commands.extend(receives.map(receive_of));
        let batch = Batch { now_ms: self.now_ms, commands };

        let expected = self.model.apply(&batch);
        let mut replies = self.rig.apply(&batch);
        assert_eq!(self.follower.apply(&batch), replies);
        for reply in &mut replies {
            if let Reply::Expired { removed, resume } = reply {
                assert!(*removed < 1_000 || resume.is_some());
                *resume = None;
            }
        }
        assert_eq!(replies, expected, "{batch:?}");
        assert_eq!(self.follower.effects, self.rig.effects);
        for (command, reply) in batch.commands.iter().zip(replies) {
            if let (Command::Receive(receive), Reply::Received(_)) = (&command.command, &reply) {
                for lease in leases(reply) {
                    self.handles.push((receive.queue.0, lease.seq.0, lease.receive_count));
                }
            }
        }
        for proposed in &proposed {
            self.settle(proposed);
        }
    }

    fn reserve(
        &mut self,
        queue: u64,
        max: usize,
        now_ms: u64,
        receives_max: Option<u32>,
    ) -> (Vec<Seq>, Seq) {
        let found = self.rig.reserve_as(QueueId(queue), max, now_ms, receives_max);
        let mut free = self.model.available(QueueId(queue), now_ms, receives_max);
        free.retain(|seq| !self.reserved.contains(&(queue, *seq)));
        free.truncate(max);
        assert_eq!(found.seqs, free, "queue {queue} at {now_ms}");
        assert!(!found.unfinished);
        for entry in self.model.entries.iter().filter(|entry| entry.queue.0 == queue) {
            assert!(!entry.is_fresh() || entry.seq >= found.fresh_from, "{found:?} {entry:?}");
        }
        self.reserved.extend(found.seqs.iter().map(|seq| (queue, *seq)));
        (found.seqs, found.fresh_from)
    }

    fn propose(&mut self, receive: Receive) {
        self.proposed.push(Proposed { receive, ours: true });
    }

    fn settle(&mut self, proposed: &Proposed) {
        if proposed.ours {
            let receive = &proposed.receive;
            self.rig.settle(receive.queue, &receive.candidates);
            for seq in &receive.candidates {
                self.reserved.remove(&(receive.queue.0, *seq));
            }
        }
    }

    fn check(&mut self) {
        assert_eq!(self.rig.machine, self.follower.machine);
        assert_eq!(self.rig.machine.clock_ms(), self.model.clock_ms);
        let stored: Vec<_> = self.rig.store.messages().map(|(q, seq, _)| (q, seq)).collect();
        let mut expected: Vec<_> = self.model.entries.iter().map(|e| (e.queue, e.seq)).collect();
        expected.sort_unstable();
        assert_eq!(stored, expected);
        assert_eq!(self.rig.machine.messages(), expected.len() as u64);
        self.check_busy();
        for queue in (0..QUEUES).map(QueueId) {
            let mine = || self.model.entries.iter().filter(|entry| entry.queue == queue);
            for later_ms in [0, 30, 200] {
                let at_ms = self.now_ms + later_ms;
                let machine = &self.rig.machine;
                assert_eq!(machine.counts(queue, at_ms), self.model.counts(queue, at_ms));
                let future = at_ms.max(self.model.clock_ms);
                let next = mine().map(|e| e.visible_at_ms).filter(|at| *at > future).min();
                assert_eq!(machine.next_visible_at_ms(queue, at_ms), next);
            }
            let oldest = mine().map(|entry| entry.seq).min();
            let found = self.rig.machine.oldest(queue, &self.rig.store).unwrap();
            assert_eq!(found.map(|head| head.seq), oldest);
            if let Some(row) = self.rig.machine.queue(queue) {
                assert!(mine().all(|entry| !entry.is_fresh() || entry.seq >= row.fresh_from));
            }
        }
    }

    /// Looked at one by one, the queues are found of which messages are hidden, and no others.
    fn check_busy(&mut self) {
        self.latest_ms = self.latest_ms.max(self.now_ms);
        let now_ms = self.latest_ms;
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let (busy, resume) = self.rig.machine.busy_after(after, 1, now_ms);
            found.extend(busy.iter().map(|busy| (busy.queue, busy.counts)));
            after = resume;
            if after.is_none() {
                break;
            }
        }
        let counted = (0..QUEUES).map(QueueId).map(|it| (it, self.model.counts(it, now_ms)));
        let hidden = counted.filter(|(_, counts)| counts.in_flight + counts.delayed > 0);
        assert_eq!(found, hidden.collect::<Vec<_>>());
    }

    /// Everything that is left can be received once nothing is reserved and all time has passed.
    fn drain(&mut self) {
        self.step(Step::Batch { advance_ms: 0, ops: Vec::new(), with_receives: true });
        self.now_ms += 100_000_000;
        for queue in 0..QUEUES {
            while self.model.counts(QueueId(queue), self.now_ms).visible > 0 {
                let (candidates, fresh_from) = self.reserve(queue, 10, self.now_ms, None);
                self.propose(Receive {
                    queue: QueueId(queue),
                    candidates,
                    visibility_ms: 1000,
                    retention_ms: u64::MAX / 2,
                    fresh_from,
                    redrive: None,
                    attempt: None,
                    bytes_max: u64::MAX,
                });
                assert!(!self.proposed[0].receive.candidates.is_empty());
                self.batch(Vec::new(), true);
                self.check();
            }
        }
    }
}

fn redrive_to((target, receives_max): (u64, u32)) -> Redrive {
    Redrive { target: QueueId(target), receives_max, source: Bytes::from_static(b"source") }
}

fn receive_of(proposed: &Proposed) -> Identified {
    Identified { id: None, command: Command::Receive(proposed.receive.clone()) }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn machine_and_window_do_what_the_model_does(
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let mut world = World::new();
        for step in steps {
            world.step(step);
        }
        world.drain();
    }
}
