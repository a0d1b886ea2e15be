//! Records into rows.

use std::collections::BTreeMap;

use crate::file::Header;
use crate::hash::{Id, IdMap, id};
use crate::index::keys::KeyNumbers;
use crate::index::queue::{Access, Clearing, Existence, Probe, Queue};
use crate::index::rows::{
    Attempt, Batch, Delivery, FaultWindow, Group, Key, Known, LostSends, Message, NONE, Receive,
    Recovery, Refusal, Touch, TouchKind,
};
use crate::index::{Graph, NEVER, Span};
use crate::record::{self, Mark, Op, Outcome, Record, WithAttributes};
use crate::verdict::Coverage;

/// Codes that say that a queue is not there.
const NO_QUEUE: [&str; 2] = ["AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist"];

/// Codes that say that a handle is not good any more.
const EXPIRED: [&str; 3] =
    ["InvalidParameterValue", "InvalidParameterValueException", "ReceiptHandleIsInvalid"];

fn us(ms: u64) -> u64 {
    ms.saturating_mul(1_000)
}

/// Takes records in the order of the file, which need not be that of anything else.
#[derive(Default)]
pub(crate) struct Builder {
    pub(super) header: Header,
    pub(super) coverage: Coverage,
    pub(super) queues: Vec<Queue>,
    pub(super) groups: Vec<Group>,
    pub(super) keys: Vec<Key>,
    pub(super) attempts: Vec<Attempt>,
    pub(super) messages: Vec<Message>,
    pub(super) receives: Vec<Receive>,
    pub(super) deliveries: Vec<Delivery>,
    pub(super) touches: Vec<Touch>,
    pub(super) batches: Vec<Batch>,
    pub(super) faults: Vec<FaultWindow>,
    /// Beginnings and ends of all requests.
    pub(super) requests: (Vec<u64>, Vec<u64>),
    pub(super) drain: Option<u64>,
    pub(super) drained: Option<u64>,
    pub(super) graph: Graph,
    pub(super) by_handle: IdMap<Id, u32>,
    pub(super) info_by_dedup: IdMap<(u32, Id), LostSends>,
    /// Shards that receives say they did not hear, by receive.
    pub(super) unheard: Vec<(u32, u32)>,
    pub(super) refusals: Vec<Refusal>,
    pub(super) recovery: Option<Recovery>,
    /// Those that were followed by a fault.
    pub(super) recoveries: Vec<Recovery>,
    pub(super) last_us: u64,
    pub(super) open_faults: Vec<(String, Vec<u32>, u64)>,
    first_us: Option<u64>,
    by_key: KeyNumbers,
    by_id: IdMap<Id, u32>,
    by_group: IdMap<(u32, Id), u32>,
    by_queue: BTreeMap<String, u32>,
    last_queue: u32,
    nodes: Vec<u32>,
    moves: Vec<(u32, Option<u32>, u64)>,
    pub(super) record: u32,
}

impl Builder {
    pub(crate) fn new(header: Header) -> Self {
        Self { header, ..Self::default() }
    }

    /// Takes the next record.
    pub(crate) fn add(&mut self, record: &Record) {
        let at = Span { inv: record.invoked_us, ret: record.returned_us };
        self.first_us = Some(self.first_us.map_or(at.inv, |first| first.min(at.inv)));
        self.last_us = self.last_us.max(at.ret);
        self.coverage.duration_us = self.last_us - self.first_us.unwrap_or(0);
        self.coverage.records += 1;
        if !matches!(record.op, Op::Fault(_) | Op::Mark(_)) {
            self.requests.0.push(at.inv);
            self.requests.1.push(at.ret);
        }
        match &record.op {
            Op::Send(op) => self.send(record, at, op),
            Op::Receive(op) => self.receive(record, at, op),
            Op::Delete(op) => {
                let entries = op.entries.iter();
                let entries = entries.map(|it| (&it.handle, TouchKind::Delete, &it.result));
                self.touch(record, at, &op.queue, entries);
                self.batch(&op.answered, op.entries.len(), NONE);
            }
            Op::Change(op) => {
                let entries = op.entries.iter();
                let entries = entries
                    .map(|it| (&it.handle, TouchKind::Change(us(it.visibility_ms)), &it.result));
                self.touch(record, at, &op.queue, entries);
                self.batch(&op.answered, op.entries.len(), NONE);
            }
            Op::Purge(op) => self.clear(record, at, &op.queue, &op.result, false),
            Op::DeleteQueue(op) => self.clear(record, at, &op.queue, &op.result, true),
            Op::CreateQueue(op) => self.attributes(record, at, op, true),
            Op::SetAttributes(op) => self.attributes(record, at, op, false),
            Op::GetAttributes(op) => {
                let queue = self.queue(&op.queue);
                self.note(record, at, queue, "GetQueueAttributes", &op.result);
                if let Outcome::Ok(attributes) = &op.result {
                    let attributes = attributes.clone();
                    let (writes, certain, node) = (false, true, record.node);
                    let record = self.record;
                    let access = Access { record, node, at, writes, certain, attributes };
                    self.queues[queue as usize].accesses.push(access);
                }
            }
            Op::StartMove(op) => {
                let queue = self.queue(&op.source);
                let target = op.destination.as_ref().map(|name| self.queue(name));
                if self.note(record, at, queue, "StartMessageMoveTask", &op.result) != Known::Fail {
                    self.moves.push((queue, target, at.inv));
                }
            }
            Op::ListMoves(op) => {
                let queue = self.queue(&op.queue);
                self.note(record, at, queue, "ListMessageMoveTasks", &op.result);
            }
            Op::CancelMove(op) => {
                let queue = self.queue(&op.queue);
                self.note(record, at, queue, "CancelMessageMoveTask", &op.result);
            }
            Op::Fault(fault) => self.fault(at, fault),
            Op::Mark(Mark::DrainBegan) => self.drain = Some(at.ret),
            Op::Mark(Mark::DrainEnded { complete }) => {
                self.drained = complete.then_some(at.inv);
            }
            Op::Mark(Mark::Note(_)) => {}
        }
        self.record += 1;
    }

    /// Edges that need to know every redrive policy first.
    pub(super) fn close_graph(&mut self) {
        for (number, queue) in (0u32..).zip(&self.queues) {
            for redrive in queue.redrive.all().flatten() {
                self.graph.add_redrive(number, redrive.target);
            }
        }
        for (from, to, at) in std::mem::take(&mut self.moves) {
            self.graph.add_move(from, to, at);
        }
        self.coverage.nodes = self.nodes.len() as u64;
    }

    /// What is true of every request; its outcome.
    fn note<T>(
        &mut self,
        record: &Record,
        at: Span,
        queue: u32,
        kind: &'static str,
        result: &Outcome<T>,
    ) -> Known {
        if !self.nodes.contains(&record.node) {
            self.nodes.push(record.node);
        }
        let known = match result {
            Outcome::Ok(_) => Known::Ok,
            Outcome::Fail(_) => Known::Fail,
            Outcome::Info(_) => Known::Info,
        };
        match known {
            Known::Ok => self.coverage.ok += 1,
            Known::Fail => self.coverage.fail += 1,
            Known::Info => self.coverage.info += 1,
        }
        let gone = result.reason().is_some_and(|code| NO_QUEUE.contains(&code));
        if gone {
            let probe = Probe { record: self.record, node: record.node, at, there: false };
            self.queues[queue as usize].probes.push(probe);
        }
        self.note_trial(record, at, kind, known, gone);
        known
    }

    fn send(&mut self, record: &Record, at: Span, op: &record::Send) {
        let queue = self.queue(&op.queue);
        let first_attempt = self.attempts.len() as u32;
        for entry in &op.entries {
            let outcome = self.note(record, at, queue, "SendMessage", &entry.result);
            let at = open_unless_known(at, outcome);
            let key = self.key(entry.content.key);
            let group = self.group(queue, entry.group.as_deref());
            let by_content = || {
                let queue = &self.queues[queue as usize];
                let by_content = queue.dedup_by_content.possible(at).any(|it| *it);
                if queue.fifo && by_content { entry.content.digests.body.as_id() } else { 0 }
            };
            let dedup = entry.dedup.as_deref().map_or_else(by_content, id);
            let sent = entry.result.ok();
            let message = sent.map_or(NONE, |sent| self.message(id(&sent.message_id), queue));
            if let Some(sent) = sent {
                self.coverage.sends += 1;
                let row = &mut self.messages[message as usize];
                row.acknowledged = true;
                row.queue = queue;
                if let Some(sequence) = sent.sequence.as_ref().and_then(|text| text.parse().ok()) {
                    row.sequence = sequence;
                }
                if row.key == NONE {
                    row.key = key;
                }
            }
            if outcome == Known::Info && dedup != 0 {
                let none = || LostSends { inv: at.inv, group, attempts: Vec::new() };
                let lost = self.info_by_dedup.entry((queue, dedup)).or_insert_with(none);
                lost.inv = at.inv.min(lost.inv);
                if lost.group != group {
                    lost.group = NONE;
                }
                lost.attempts.push(self.attempts.len() as u32);
            }
            self.attempts.push(Attempt {
                record: self.record,
                node: record.node,
                key,
                queue,
                group,
                message,
                shard: sent.and_then(|sent| sent.shard).unwrap_or(NONE),
                outcome,
                digests_agree: sent.is_none_or(|sent| sent.wrong_digests.is_none()),
                at,
                content: entry.content.digests.folded(),
                delay_us: entry.delay_ms.map_or(NEVER, us),
                dedup,
                sequence: sent.and_then(|sent| sent.sequence.as_ref()?.parse().ok()).unwrap_or(0),
            });
        }
        self.batch(&op.answered, op.entries.len(), first_attempt);
    }

    fn receive(&mut self, record: &Record, at: Span, op: &record::Receive) {
        let queue = self.queue(&op.queue);
        let outcome = self.note(record, at, queue, "ReceiveMessage", &op.result);
        let over_limit = op.result.reason().is_some_and(|code| code == "OverLimit");
        if outcome == Known::Fail && !over_limit {
            return;
        }
        let lost = outcome == Known::Info || op.lost;
        let (first, receive) = (self.deliveries.len() as u32, self.receives.len() as u32);
        let delivered = op.result.ok().map_or(&[][..], Vec::as_slice);
        if outcome == Known::Ok && delivered.is_empty() {
            self.coverage.empty_receives += 1;
        }
        for delivered in delivered {
            self.delivery(queue, receive, delivered);
        }
        self.receives.push(Receive {
            record: self.record,
            node: record.node,
            process: record.process,
            queue,
            first,
            count: self.deliveries.len() as u32 - first,
            max: op.max,
            outcome,
            lost,
            over_limit,
            at: open_unless_known(at, outcome),
            gave_up: at.ret,
            wait_us: op.wait_ms.map(us),
            visibility_us: op.visibility_ms.map(us),
            attempt: op.attempt.as_deref().map_or(0, id),
        });
        self.unheard.extend(op.unheard.iter().map(|shard| (receive, *shard)));
    }

    fn delivery(&mut self, queue: u32, receive: u32, delivered: &record::Delivered) {
        self.coverage.deliveries += 1;
        let message = self.message(id(&delivered.message_id), queue);
        let group = self.group(queue, delivered.group.as_deref());
        let key = delivered.content.map_or(NONE, |content| self.key(content.key));
        let handle = id(&delivered.handle);
        self.by_handle.entry(handle).or_insert(self.deliveries.len() as u32);
        // What was delivered knows best which of several sends it comes from.
        if key != NONE {
            self.messages[message as usize].key = key;
        }
        let number = |text: &Option<String>| text.as_ref().and_then(|it| it.parse().ok());
        self.deliveries.push(Delivery {
            receive,
            message,
            key,
            group,
            shard: delivered.shard.unwrap_or(NONE),
            count: delivered.receive_count.unwrap_or(0),
            digests_agree: delivered.wrong_digests.is_none(),
            content: delivered.content.map_or(0, |content| content.digests.folded()),
            sent_ms: delivered.sent_ms.unwrap_or(0),
            first_received_ms: delivered.first_received_ms.unwrap_or(0),
            handle,
            dedup: delivered.dedup.as_deref().map_or(0, id),
            sequence: number(&delivered.sequence).unwrap_or(0),
        });
    }

    fn touch<'a>(
        &mut self,
        record: &Record,
        at: Span,
        queue: &str,
        entries: impl Iterator<Item = (&'a String, TouchKind, &'a Outcome<()>)>,
    ) {
        let queue = self.queue(queue);
        for (handle, kind, result) in entries {
            let name = match kind {
                TouchKind::Delete => "DeleteMessage",
                TouchKind::Change(_) => "ChangeMessageVisibility",
            };
            let outcome = self.note(record, at, queue, name, result);
            if outcome == Known::Fail {
                let expired = result.reason().is_some_and(|code| EXPIRED.contains(&code));
                if kind == TouchKind::Delete && expired {
                    let (record, handle) = (self.record, id(handle));
                    self.refusals.push(Refusal { record, queue, at, handle });
                }
                continue;
            }
            self.coverage.deletes += u64::from(kind == TouchKind::Delete && outcome == Known::Ok);
            self.touches.push(Touch {
                record: self.record,
                node: record.node,
                queue,
                delivery: NONE,
                kind,
                outcome,
                at: open_unless_known(at, outcome),
                handle: id(handle),
            });
        }
    }

    fn batch(&mut self, answered: &record::Answered, entries: usize, first_attempt: u32) {
        let Some(answered) = answered else { return };
        let mut seen = vec![false; entries];
        let mut wrong = None;
        for place in answered {
            match seen.get_mut(*place as usize) {
                None => wrong = Some("an entry is answered that was not asked"),
                Some(true) => wrong = Some("an entry is answered twice"),
                Some(seen) => *seen = true,
            }
        }
        if wrong.is_none() && seen.contains(&false) {
            wrong = Some("an entry is not answered");
        }
        let entries = entries as u32;
        self.batches.push(Batch { record: self.record, entries, wrong, first_attempt });
    }

    fn clear(
        &mut self,
        record: &Record,
        at: Span,
        queue: &str,
        result: &Outcome<()>,
        deletes_queue: bool,
    ) {
        let queue = self.queue(queue);
        let kind = if deletes_queue { "DeleteQueue" } else { "PurgeQueue" };
        let outcome = self.note(record, at, queue, kind, result);
        let at = open_unless_known(at, outcome);
        let queue = &mut self.queues[queue as usize];
        if outcome != Known::Fail {
            let (record, late) = (self.record, Vec::new());
            queue.clearings.push(Clearing { record, at, deletes_queue, late });
        }
        if deletes_queue {
            queue.existence.push(Existence {
                record: self.record,
                at,
                outcome,
                creates: false,
                attributes: BTreeMap::new(),
                code: result.reason().unwrap_or_default().to_owned(),
            });
        }
    }

    fn attributes(&mut self, record: &Record, at: Span, op: &WithAttributes, creates: bool) {
        let number = self.queue(&op.queue);
        let kind = if creates { "CreateQueue" } else { "SetQueueAttributes" };
        let outcome = self.note(record, at, number, kind, &op.result);
        let at = open_unless_known(at, outcome);
        if creates {
            self.queues[number as usize].existence.push(Existence {
                record: self.record,
                at,
                outcome,
                creates: true,
                attributes: op.attributes.clone(),
                code: op.result.reason().unwrap_or_default().to_owned(),
            });
        }
        if outcome == Known::Fail {
            return;
        }
        let certain = outcome == Known::Ok;
        // Numbering the target may move the table: the row is taken out meanwhile.
        let placeholder = Queue::new(&op.queue);
        let mut queue = std::mem::replace(&mut self.queues[number as usize], placeholder);
        let defaults = Queue::default_attributes();
        if creates {
            let missing = defaults.into_iter().filter(|it| !op.attributes.contains_key(&it.0));
            // An existing queue keeps what a creation does not name.
            let first = certain && !std::mem::replace(&mut queue.created, true);
            queue.set(at, first, &missing.collect(), &mut |name| self.queue(name));
        }
        queue.set(at, certain, &op.attributes, &mut |name| self.queue(name));
        let (attributes, node) = (op.attributes.clone(), record.node);
        let access = Access { record: self.record, node, at, writes: true, certain, attributes };
        queue.accesses.push(access);
        self.queues[number as usize] = queue;
    }

    fn queue(&mut self, name: &str) -> u32 {
        if self.queues.get(self.last_queue as usize).is_some_and(|queue| queue.name == name) {
            return self.last_queue;
        }
        self.last_queue = match self.by_queue.get(name) {
            Some(number) => *number,
            None => {
                self.queues.push(Queue::new(name));
                let number = self.queues.len() as u32 - 1;
                self.by_queue.insert(name.to_owned(), number);
                number
            }
        };
        self.last_queue
    }

    fn group(&mut self, queue: u32, name: Option<&str>) -> u32 {
        let Some(name) = name else { return NONE };
        *self.by_group.entry((queue, id(name))).or_insert_with(|| {
            self.groups.push(Group { name: name.to_owned(), queue });
            self.groups.len() as u32 - 1
        })
    }

    fn key(&mut self, key: crate::MessageKey) -> u32 {
        let next = self.keys.len() as u32;
        let number = self.by_key.number(key, next);
        if number == next {
            self.keys.push(Key { key });
        }
        number
    }

    fn message(&mut self, id: Id, queue: u32) -> u32 {
        *self.by_id.entry(id).or_insert_with(|| {
            let entered = Span { inv: 0, ret: NEVER };
            let (key, group) = (NONE, NONE);
            let (sequence, acknowledged) = (0, false);
            self.messages.push(Message { id, key, group, queue, entered, sequence, acknowledged });
            self.messages.len() as u32 - 1
        })
    }
}

fn open_unless_known(at: Span, outcome: Known) -> Span {
    if outcome == Known::Info { Span { ret: NEVER, ..at } } else { at }
}
