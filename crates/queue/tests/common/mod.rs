//! A machine with its store and ready window, driven the way a replica drives it.
#![allow(dead_code, unreachable_pub)]

pub mod fifo;
pub mod model;

use std::collections::BTreeMap;

use bytes::Bytes;
use flotilla_queue::command::{
    Batch, ChangeVisibility, Command, Delete, Identified, Lease, Placing, Receive, Redrive, Reply,
    Send,
};
use flotilla_queue::effect::Effect;
use flotilla_queue::machine::Machine;
use flotilla_queue::mem_store::{MemBatch, MemStore};
use flotilla_queue::ready::{ReadyWindow, Reservation, Wanted};
use flotilla_types::ids::{MessageId, QueueId, Seq};

/// Long enough that nothing expires by accident.
pub const RETENTION_MS: u64 = 1_000_000_000;

pub struct Rig {
    pub store: MemStore,
    pub machine: Machine,
    pub window: ReadyWindow,
    pub effects: Vec<Effect>,
    /// Of every queue, for [`Rig::receive`].
    pub redrive: Option<Redrive>,
}

impl Rig {
    pub fn new() -> Rig {
        let store = MemStore::new();
        let machine = Machine::load(&store).unwrap();
        Rig { store, machine, window: ReadyWindow::new(), effects: Vec::new(), redrive: None }
    }

    /// Applies and commits; the loaded machine must equal the live one.
    pub fn apply(&mut self, batch: &Batch) -> Vec<Reply> {
        let mut staged = MemBatch::default();
        self.effects.clear();
        let replies =
            self.machine.apply(batch, &self.store, &mut staged, &mut self.effects).unwrap();
        assert_eq!(replies.len(), batch.commands.len());
        self.store.commit(staged);
        self.window.observe(&self.effects);
        assert_eq!(Machine::load(&self.store).unwrap(), self.machine);
        self.check_groups();
        replies
    }

    /// The numbers of messages of the groups of FIFO queues are those of the messages.
    fn check_groups(&self) {
        let is_fifo = |queue| self.machine.queue(queue).is_some_and(|row| row.fifo);
        let mut counted = BTreeMap::new();
        for (queue, _, message) in self.store.messages().filter(|(queue, ..)| is_fifo(*queue)) {
            if let Some(group) = message.group {
                *counted.entry((queue, group)).or_insert(0) += 1;
            }
        }
        let stored = self.store.groups().map(|(queue, group, messages)| ((queue, group), messages));
        assert_eq!(stored.collect::<BTreeMap<_, u64>>(), counted);
    }

    pub fn run(&mut self, now_ms: u64, commands: Vec<Command>) -> Vec<Reply> {
        let commands =
            commands.into_iter().map(|command| Identified { id: None, command }).collect();
        self.apply(&Batch { now_ms, commands })
    }

    pub fn one(&mut self, now_ms: u64, command: Command) -> Reply {
        self.run(now_ms, vec![command]).remove(0)
    }

    pub fn reserve(&mut self, queue: QueueId, max: usize, now_ms: u64) -> Reservation {
        self.reserve_as(queue, max, now_ms, None)
    }

    /// For a queue whose messages become dead letters after so many receives.
    pub fn reserve_as(
        &mut self,
        queue: QueueId,
        max: usize,
        now_ms: u64,
        receives_max: Option<u32>,
    ) -> Reservation {
        let wanted = Wanted { receives_max, ..wanted(max, now_ms) };
        self.window.reserve(&self.machine, &self.store, queue, wanted).unwrap()
    }

    pub fn settle(&mut self, queue: QueueId, seqs: &[Seq]) {
        self.window.settle(&self.machine, queue, seqs);
    }

    /// Reserve, apply, settle.
    pub fn receive(
        &mut self,
        now_ms: u64,
        queue: QueueId,
        max: usize,
        visibility_ms: u64,
    ) -> Vec<Lease> {
        let receives_max = self.redrive.as_ref().map(|redrive| redrive.receives_max);
        let reservation = self.reserve_as(queue, max, now_ms, receives_max);
        let command = Command::Receive(Receive {
            queue,
            candidates: reservation.seqs.clone(),
            visibility_ms,
            retention_ms: RETENTION_MS,
            fresh_from: reservation.fresh_from,
            redrive: self.redrive.clone(),
            attempt: None,
            bytes_max: u64::MAX,
        });
        let reply = self.one(now_ms, command);
        self.settle(queue, &reservation.seqs);
        leases(reply)
    }
}

pub fn wanted(max: usize, now_ms: u64) -> Wanted {
    Wanted { max, now_ms, quiet_only: false, to_move: false, receives_max: None }
}

pub fn leases(reply: Reply) -> Vec<Lease> {
    match reply {
        Reply::Received(leases) => leases,
        other => panic!("not a receive's reply: {other:?}"),
    }
}

pub fn seqs(leases: &[Lease]) -> Vec<u64> {
    leases.iter().map(|lease| lease.seq.0).collect()
}

pub fn send(queue: QueueId, number: u8, delay_ms: u64) -> Command {
    Command::Send(Send {
        queue,
        message_id: MessageId([number; 16]),
        delay_ms,
        group: None,
        dedup: None,
        placing: Placing::default(),
        content: Bytes::from(vec![number]),
    })
}

pub fn receive(queue: QueueId, candidates: &[u64], visibility_ms: u64) -> Command {
    Command::Receive(Receive {
        queue,
        candidates: candidates.iter().copied().map(Seq).collect(),
        visibility_ms,
        retention_ms: RETENTION_MS,
        fresh_from: Seq(0),
        redrive: None,
        attempt: None,
        bytes_max: u64::MAX,
    })
}

pub fn delete(queue: QueueId, seq: u64, receive: u32) -> Command {
    Command::Delete(Delete { queue, seq: Seq(seq), receive })
}

pub fn change(queue: QueueId, seq: u64, receive: u32, visibility_ms: u64) -> Command {
    Command::ChangeVisibility(ChangeVisibility { queue, seq: Seq(seq), receive, visibility_ms })
}
