//! The history as the invariants look at it: flat tables, built in one pass over the records.
//!
//! Texts are 128-bit stand-ins, queues and groups are numbers, and a record is known by its place;
//! whoever needs its text reads it again. So ten million requests fit into a few gigabytes.

mod build;
mod faults;
mod finish;
mod graph;
mod keys;
mod queue;
mod rows;
mod span;

pub(crate) use build::Builder;
pub(crate) use graph::Graph;
pub(crate) use queue::{Access, Clearing, Existence, Probe, Queue};
pub(crate) use rows::{
    Attempt, Batch, Delivery, FaultWindow, Group, Groups, Key, Known, Lost, LostSends, Message,
    NONE, Receive, Recovery, Refusal, Stay, Touch, TouchKind,
};
pub(crate) use span::{NEVER, Span};

use crate::file::{Header, Tail};
use crate::hash::{Id, IdMap};
use crate::options::{Bounds, Promises};
use crate::verdict::{Coverage, Finding};

/// See the module.
pub(crate) struct Index {
    pub(crate) header: Header,
    pub(crate) tail: Tail,
    pub(crate) coverage: Coverage,
    pub(crate) queues: Vec<Queue>,
    pub(crate) groups: Vec<Group>,
    pub(crate) keys: Vec<Key>,
    pub(crate) attempts: Vec<Attempt>,
    pub(crate) messages: Vec<Message>,
    pub(crate) receives: Vec<Receive>,
    pub(crate) deliveries: Vec<Delivery>,
    pub(crate) touches: Vec<Touch>,
    pub(crate) batches: Vec<Batch>,
    pub(crate) faults: Vec<FaultWindow>,
    pub(crate) unhealed: Vec<String>,
    /// When the last drain began.
    pub(crate) drain: Option<u64>,
    /// It came to its end, then.
    pub(crate) drained: Option<u64>,
    pub(crate) graph: Graph,
    pub(crate) attempts_of_key: Groups,
    pub(crate) attempts_of_message: Groups,
    pub(crate) deliveries_of_message: Groups,
    pub(crate) touches_of_message: Groups,
    pub(crate) messages_of_key: Groups,
    /// Messages of FIFO queues, in order of their sequence numbers within each group.
    pub(crate) stays: Vec<Stay>,
    pub(crate) stays_of_group: Groups,
    /// Deliveries by handle; of several the first.
    pub(crate) by_handle: IdMap<Id, u32>,
    /// The earliest unknown send of a deduplication id.
    pub(crate) info_by_dedup: IdMap<(u32, Id), LostSends>,
    /// Receives by queue and attempt id.
    pub(crate) attempts_asked: IdMap<(u32, Id), Vec<u32>>,
    /// Shards that receives say they did not hear, in order of the receives.
    pub(crate) unheard: Vec<(u32, u32)>,
    /// Deletes that were refused because of their handles.
    pub(crate) refusals: Vec<Refusal>,
    /// What was tried after faults were healed.
    pub(crate) recoveries: Vec<Recovery>,
    /// By queue: what was in it and was not deleted came out in the drain, here or elsewhere.
    pub(crate) came_out: Vec<bool>,
    pub(crate) last_us: u64,
}

impl Index {
    pub(crate) fn bounds(&self) -> &Bounds {
        &self.header.options.bounds
    }

    pub(crate) fn promises(&self) -> &Promises {
        &self.header.options.promises
    }

    /// Whether no request is missing from the history. Otherwise what seems to come from nowhere
    /// may come from a request that was under way when the writing ended.
    pub(crate) fn whole(&self) -> bool {
        self.tail == Tail::Whole
    }

    /// Of a queue's attempts and deliveries: whether messages may leave it or come to it in other
    /// ways than by sends and deletes.
    pub(crate) fn is_isolated(&self, queue: u32) -> bool {
        self.graph.is_isolated(queue)
    }

    /// Whether everything that was in a queue was seen sooner or later, if it was there.
    pub(crate) fn came_out(&self, queue: u32) -> bool {
        self.came_out[queue as usize]
    }

    /// The wall clock of a moment, in milliseconds.
    pub(crate) fn wall_ms(&self, at_us: u64) -> Option<u64> {
        Some(self.header.wall_zero_ms?.saturating_add(at_us / 1_000))
    }

    /// Whether a fault was there at some moment of a span, or so shortly before that not everything
    /// need have recovered.
    pub(crate) fn disturbed(&self, span: Span) -> bool {
        faults::disturbed(&self.faults, span)
    }

    /// Whether a node may not have run at that moment.
    pub(crate) fn stood_still(&self, node: u32, us: u64) -> bool {
        let is_about = |it: &FaultWindow| it.stops_nodes() && it.nodes.contains(&node);
        self.faults.iter().any(|it| is_about(it) && it.from <= us && us <= it.ready)
    }

    /// Whether a fault that is about a node was there at a moment, and was healed during a span or after it.
    pub(crate) fn struck(&self, node: u32, us: u64, during: Span) -> bool {
        let met = |it: &FaultWindow| it.from <= us && us <= it.to && during.inv <= it.to;
        self.faults.iter().any(|it| it.nodes.contains(&node) && met(it))
    }

    /// The receives that were asked under the attempt id of this one, this one included.
    pub(crate) fn asked_again(&self, receive: &Receive) -> &[u32] {
        let asked = self.attempts_asked.get(&(receive.queue, receive.attempt));
        asked.filter(|_| receive.attempt != 0).map_or(&[], Vec::as_slice)
    }

    /// The sends that a message may be of: those that were answered with its id, and those of unknown
    /// outcome under their deduplication ids or its key. A send may be answered with the id of another's
    /// message.
    pub(crate) fn sends_of(&self, message: u32) -> impl Iterator<Item = &Attempt> + '_ {
        let row = &self.messages[message as usize];
        let answered = self.attempts_of_message.of(message);
        let lost = answered.iter().filter_map(|it| {
            let attempt = &self.attempts[*it as usize];
            self.info_by_dedup.get(&(attempt.queue, attempt.dedup))
        });
        let of_key = if row.key == NONE { &[][..] } else { self.attempts_of_key.of(row.key) };
        let open = of_key.iter().filter(|it| {
            let attempt = &self.attempts[**it as usize];
            attempt.outcome == Known::Info && attempt.queue == row.queue
        });
        let lost = lost.flat_map(|it| &it.attempts);
        answered.iter().chain(lost).chain(open).map(|it| &self.attempts[*it as usize])
    }

    /// Shards that a receive says it did not hear.
    pub(crate) fn unheard_by(&self, receive: u32) -> impl Iterator<Item = u32> + '_ {
        let first = self.unheard.partition_point(|it| it.0 < receive);
        self.unheard[first..].iter().take_while(move |it| it.0 == receive).map(|it| it.1)
    }

    /// The shard that a message was sent to, or seen on.
    pub(crate) fn shard_of(&self, message: u32) -> u32 {
        let sends = self.attempts_of_message.of(message).iter();
        let sent = sends.map(|it| self.attempts[*it as usize].shard).find(|it| *it != NONE);
        let seen = self.deliveries_of_message.of(message).iter();
        let mut seen = seen.map(|it| self.deliveries[*it as usize].shard).filter(|it| *it != NONE);
        sent.or_else(|| seen.next()).unwrap_or(NONE)
    }

    /// A finding about nothing in particular yet.
    pub(crate) fn finding(&self, what: String, at_us: u64) -> Finding {
        Finding {
            invariant: crate::Invariant::S1,
            what,
            message: None,
            writer: None,
            queue: None,
            group: None,
            shard: None,
            nodes: Vec::new(),
            at_us,
            records: Vec::new(),
        }
    }

    /// The same about a receive.
    pub(crate) fn finding_of_receive(&self, what: String, receive: &Receive) -> Finding {
        let mut finding = self.finding(what, receive.at.inv);
        finding.queue = Some(self.queues[receive.queue as usize].name.clone());
        finding.nodes = vec![receive.node];
        finding.records = vec![receive.record];
        finding
    }

    /// A finding about a message and requests of it.
    pub(crate) fn finding_of(
        &self,
        what: String,
        message: u32,
        deliveries: &[u32],
        records: &[u32],
    ) -> Finding {
        let row = &self.messages[message as usize];
        let sends = self.attempts_of_message.of(message);
        let mut finding = self.finding(what, 0);
        finding.message = Some(self.name_of(message));
        finding.writer = (row.key != NONE).then(|| self.keys[row.key as usize].key.writer);
        let mut queue = sends.first().map_or(NONE, |it| self.attempts[*it as usize].queue);
        for send in sends {
            let send = &self.attempts[*send as usize];
            finding.records.push(send.record);
            finding.nodes.push(send.node);
            finding.at_us = finding.at_us.max(send.at.inv);
            finding.shard = finding.shard.or((send.shard != NONE).then_some(send.shard));
        }
        for delivery in deliveries {
            let delivery = &self.deliveries[*delivery as usize];
            let receive = &self.receives[delivery.receive as usize];
            queue = receive.queue;
            finding.records.push(receive.record);
            finding.nodes.push(receive.node);
            finding.at_us = finding.at_us.max(receive.at.inv);
            finding.shard = (delivery.shard != NONE).then_some(delivery.shard).or(finding.shard);
        }
        finding.records.extend_from_slice(records);
        finding.queue = (queue != NONE).then(|| self.queues[queue as usize].name.clone());
        finding.group = (row.group != NONE).then(|| self.groups[row.group as usize].name.clone());
        finding.nodes.sort_unstable();
        finding.nodes.dedup();
        let mut seen = std::collections::HashSet::new();
        finding.records.retain(|record| seen.insert(*record));
        finding
    }

    /// What a message is called.
    pub(crate) fn name_of(&self, message: u32) -> String {
        let row = &self.messages[message as usize];
        match row.key {
            NONE => format!("id {:032x}", row.id),
            key => self.keys[key as usize].key.to_string(),
        }
    }

    /// When a delivery was asked for and answered.
    pub(crate) fn at(&self, delivery: u32) -> Span {
        self.receives[self.deliveries[delivery as usize].receive as usize].at
    }

    /// The queue that a delivery came from.
    pub(crate) fn queue_of(&self, delivery: u32) -> u32 {
        self.receives[self.deliveries[delivery as usize].receive as usize].queue
    }
}
