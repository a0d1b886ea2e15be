//! A queue service as plain as possible, which can be given a fault.

use std::collections::{BTreeMap, HashMap};

use flotilla_history::record::*;
use flotilla_history::{Content, Op, Outcome};

use super::Bug;
use super::dice::Dice;

pub const WALL_ZERO_MS: u64 = 1_700_000_000_000;
pub(super) const NO_QUEUE: &str = "AWS.SimpleQueueService.NonExistentQueue";
pub(super) const INTERVAL_US: u64 = 300_000_000;
/// How long a message of a FIFO queue is hidden while a task moves it.
pub const MOVE_HIDES_US: u64 = 4_000_000;

#[derive(Clone, Debug)]
pub struct Msg {
    pub(super) id: String,
    pub(super) content: Content,
    pub(super) group: Option<String>,
    pub(super) dedup: Option<String>,
    pub(super) seq: u64,
    pub(super) sent_us: u64,
    pub(super) sent_ms: u64,
    pub(super) visible_us: u64,
    pub(super) count: u32,
    pub(super) count_before: u32,
    pub(super) first_ms: u64,
    pub(super) source: Option<String>,
    pub(super) revision: u32,
}

#[derive(Clone, Debug, Default)]
pub struct Queue {
    pub(super) there: bool,
    /// Counts its creations.
    pub(super) life: u64,
    pub(super) fifo: bool,
    pub(super) visibility_us: u64,
    pub(super) delay_us: u64,
    pub(super) retention_us: u64,
    pub(super) redrive: Option<(String, u32)>,
    pub(super) attributes: BTreeMap<String, String>,
    pub(super) before: BTreeMap<String, String>,
    pub(super) messages: Vec<Msg>,
    pub(super) dedup: HashMap<String, (String, u64, u64)>,
    pub(super) attempts: HashMap<String, Attempted>,
}

/// When a receive was, and the messages that it brought: id, count and revision.
pub type Attempted = (u64, Vec<(String, u32, u32)>);

pub struct Service {
    pub now: u64,
    pub bug: Option<Bug>,
    pub fired: u32,
    pub limit: usize,
    /// Chance in percent that a receive hides more than it brings.
    pub lost: u64,
    /// A fault is there.
    pub fault: bool,
    pub(super) dice: Dice,
    pub(super) queues: BTreeMap<String, Queue>,
    pub(super) next: u64,
}

pub(super) fn fail<T>(code: &str) -> Outcome<T> {
    Outcome::Fail(code.to_owned())
}

impl Service {
    pub fn new(seed: u64, bug: Option<Bug>, limit: usize, lost: u64) -> Self {
        let (queues, dice) = (BTreeMap::new(), Dice::new(seed));
        Self { now: 0, bug, fired: 0, limit, lost, fault: false, dice, queues, next: 1 }
    }

    /// Whether the fault shows now.
    pub fn strikes(&mut self, bug: Bug, chance: u64) -> bool {
        let strikes = self.bug == Some(bug) && self.dice.percent(chance);
        self.fired += u32::from(strikes);
        strikes
    }

    pub(super) fn ms(&self) -> u64 {
        WALL_ZERO_MS + self.now / 1_000
    }

    pub(super) fn name(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    pub fn visible(&self) -> usize {
        self.queues.values().map(|queue| queue.messages.len()).sum()
    }

    /// Does it now, and fills the results in.
    pub fn serve(&mut self, op: &mut Op) {
        match op {
            Op::Send(op) => self.send(op),
            Op::Receive(op) => {
                op.result = self.receive(op);
                self.lose_some(op);
            }
            Op::Delete(op) => {
                for entry in &mut op.entries {
                    entry.result = self.delete(&op.queue, &entry.handle);
                }
            }
            Op::Change(op) => {
                for entry in &mut op.entries {
                    entry.result = self.change(&op.queue, &entry.handle, entry.visibility_ms);
                }
            }
            Op::Purge(op) => op.result = self.clear(&op.queue, false),
            Op::DeleteQueue(op) => op.result = self.clear(&op.queue, true),
            Op::CreateQueue(op) => op.result = self.create(&op.queue, &op.attributes),
            Op::SetAttributes(op) => op.result = self.set(&op.queue, &op.attributes),
            Op::GetAttributes(op) => op.result = self.get(&op.queue),
            Op::StartMove(op) => op.result = self.start_move(op),
            Op::ListMoves(op) => op.result = Outcome::Ok(None),
            Op::CancelMove(op) => op.result = fail("ResourceNotFoundException"),
            Op::Fault(_) | Op::Mark(_) => {}
        }
    }

    /// An answer inside the service was lost: what it would have brought stays hidden.
    fn lose_some(&mut self, op: &mut Receive) {
        let Outcome::Ok(delivered) = &mut op.result else { return };
        if delivered.is_empty() {
            return;
        }
        if self.strikes(Bug::LossNotSaid, 20) {
            delivered.pop();
        } else if self.dice.percent(self.lost) {
            delivered.pop();
            op.lost = true;
        }
    }

    pub(super) fn is_there(&mut self, queue: &str) -> bool {
        let there = self.queues.get(queue).is_some_and(|it| it.there);
        there || (self.queues.contains_key(queue) && self.strikes(Bug::WorksAfterDeletion, 100))
    }

    fn create(&mut self, name: &str, attributes: &BTreeMap<String, String>) -> Outcome<()> {
        if let Some(queue) = self.queues.get(name).filter(|queue| queue.there) {
            let same = queue.attributes == *attributes;
            return if same { Outcome::Ok(()) } else { fail("QueueAlreadyExists") };
        }
        let keep = self.strikes(Bug::OldMessagesInNewQueue, 100);
        let keep_ids = self.strikes(Bug::IdsOutliveDeletion, 100);
        let queue = self.queues.entry(name.to_owned()).or_default();
        let messages = if keep { std::mem::take(&mut queue.messages) } else { Vec::new() };
        let dedup = if keep_ids { std::mem::take(&mut queue.dedup) } else { HashMap::new() };
        *queue = Queue {
            there: true,
            life: queue.life + 1,
            dedup,
            fifo: name.ends_with(".fifo"),
            visibility_us: 30_000_000,
            retention_us: 345_600_000_000,
            messages,
            ..Queue::default()
        };
        self.set(name, attributes)
    }

    fn set(&mut self, name: &str, attributes: &BTreeMap<String, String>) -> Outcome<()> {
        let Some(queue) = self.queues.get_mut(name).filter(|queue| queue.there) else {
            return fail(NO_QUEUE);
        };
        queue.before = queue.attributes.clone();
        for (name, value) in attributes {
            queue.attributes.insert(name.clone(), value.clone());
            let us = (value.parse::<f64>().unwrap_or(0.0) * 1e6) as u64;
            match name.as_str() {
                "VisibilityTimeout" => queue.visibility_us = us,
                "DelaySeconds" => queue.delay_us = us,
                "MessageRetentionPeriod" => queue.retention_us = us,
                "RedrivePolicy" => {
                    let policy: serde_json::Value = serde_json::from_str(value).unwrap();
                    let arn = policy["deadLetterTargetArn"].as_str().unwrap();
                    let target = arn.rsplit(':').next().unwrap().to_owned();
                    let count = policy["maxReceiveCount"].as_u64().unwrap();
                    queue.redrive = Some((target, count as u32));
                }
                _ => {}
            }
        }
        Outcome::Ok(())
    }

    fn get(&mut self, name: &str) -> Outcome<BTreeMap<String, String>> {
        if !self.is_there(name) || self.strikes(Bug::ForgetsQueue, 20) {
            return fail(NO_QUEUE);
        }
        let stale = self.strikes(Bug::StaleAttributes, 50);
        let leak = self.strikes(Bug::CounterLeak, 50);
        let twice = self.strikes(Bug::CountedTwice, 50);
        let delayed_twice = self.strikes(Bug::DelayedTwice, 50);
        let (now, queue) = (self.now, &self.queues[name]);
        let mut attributes = if stale { queue.before.clone() } else { queue.attributes.clone() };
        let messages = queue.messages.iter().filter(|it| now < it.sent_us + queue.retention_us);
        let visible = messages.clone().filter(|it| it.visible_us <= now).count();
        let hidden = messages.filter(|it| it.visible_us > now);
        let received = |it: &&Msg| it.count > it.count_before;
        let flying = hidden.clone().filter(received).count();
        let delayed = (hidden.count() - flying) * if delayed_twice { 2 } else { 1 };
        let visible = if leak { visible + 50 } else { visible };
        let (visible, flying) = if twice { (visible + flying, 0) } else { (visible, flying) };
        for (name, count) in [("", visible), ("NotVisible", flying), ("Delayed", delayed)] {
            attributes.insert(format!("ApproximateNumberOfMessages{name}"), count.to_string());
        }
        Outcome::Ok(attributes)
    }

    fn clear(&mut self, name: &str, deletes: bool) -> Outcome<()> {
        if !self.is_there(name) {
            let deleted = deletes && self.strikes(Bug::DeletesNothing, 50);
            return if deleted { Outcome::Ok(()) } else { fail(NO_QUEUE) };
        }
        let keep = match deletes {
            true => self.bug == Some(Bug::OldMessagesInNewQueue),
            false => self.strikes(Bug::PurgeKeeps, 100),
        };
        let keep_ids = match deletes {
            true => self.bug == Some(Bug::IdsOutliveDeletion),
            false => self.strikes(Bug::IdsOutlivePurge, 100),
        };
        let queue = self.queues.get_mut(name).unwrap();
        queue.there = !deletes;
        if !keep_ids {
            queue.dedup.clear();
        }
        queue.attempts.clear();
        if !keep {
            queue.messages.clear();
        }
        Outcome::Ok(())
    }

    fn send(&mut self, op: &mut Send) {
        let mut answered: Vec<u32> = Vec::new();
        let places: Vec<usize> = match self.strikes(Bug::BatchOutOfOrder, 50) {
            true => (0..op.entries.len()).rev().collect(),
            false => (0..op.entries.len()).collect(),
        };
        for place in places {
            op.entries[place].result = self.send_one(&op.queue, &op.entries[place]);
            answered.push(place as u32);
        }
        if self.strikes(Bug::BatchAnsweredTwice, 50) {
            answered[0] = *answered.last().unwrap();
        }
        if op.answered.is_some() {
            op.answered = Some(answered);
        }
    }

    fn send_one(&mut self, name: &str, entry: &SendEntry) -> Outcome<Sent> {
        if !self.is_there(name) {
            return fail(NO_QUEUE);
        }
        let now = self.now;
        let forgets = self.strikes(Bug::DedupForgets, 60);
        let for_ever = self.bug == Some(Bug::DedupForEver);
        let renumbers = self.strikes(Bug::DuplicateRenumbered, 100);
        let queue = &self.queues[name];
        let fifo = queue.fifo;
        let dedup = entry.dedup.as_ref().filter(|_| fifo && !forgets);
        let first = dedup.and_then(|dedup| queue.dedup.get(dedup));
        if let Some((id, seq, at)) = first.filter(|it| now < it.2 + INTERVAL_US || for_ever) {
            let number = if renumbers { seq + 500_000 } else { *seq };
            let answer = sent(id.clone(), fifo.then_some(number));
            self.fired += u32::from(now >= at + INTERVAL_US);
            return Outcome::Ok(answer);
        }
        let last = self.queues[name].messages.last().map(|it| (it.id.clone(), it.seq));
        if let Some((id, seq)) = last.filter(|_| self.strikes(Bug::Swallows, 20)) {
            return Outcome::Ok(sent(id, fifo.then_some(seq)));
        }
        let number = self.name();
        let wrong_number = fifo && self.strikes(Bug::SequenceFalls, 30);
        let again = fifo && self.strikes(Bug::SequenceTwice, 30);
        let last = self.queues[name].messages.last().map(|it| it.seq).filter(|_| again);
        let seq = if wrong_number { 1_000_000 - number } else { 1_000_000 + number };
        let seq = last.unwrap_or(seq);
        let id = format!("00000000-0000-4000-8000-{number:012x}");
        let ignore = self.strikes(Bug::DelayIgnored, 50);
        let lose = self.strikes(Bug::Loses, 20);
        let sent_ms = self.ms();
        let wrong = self.strikes(Bug::SendDigest, 20);
        let misplaced = name == "orders" && self.strikes(Bug::Misplaces, 20);
        let queue = self.queues.get_mut(if misplaced { "plain" } else { name }).unwrap();
        let own = entry.delay_ms.filter(|_| !fifo).map(|ms| ms * 1_000);
        let delay = own.unwrap_or(queue.delay_us);
        if let Some(dedup) = &entry.dedup {
            queue.dedup.insert(dedup.clone(), (id.clone(), seq, now));
        }
        if !lose {
            queue.messages.push(Msg {
                id: id.clone(),
                content: entry.content,
                group: entry.group.clone(),
                dedup: entry.dedup.clone(),
                seq,
                sent_us: now,
                sent_ms,
                visible_us: now + if ignore { 0 } else { delay },
                count: 0,
                count_before: 0,
                first_ms: 0,
                source: None,
                revision: 0,
            });
        }
        let says_less = self.strikes(Bug::SaysNoNumber, 20);
        let mut answer = sent(id, fifo.then_some(seq).filter(|_| !says_less));
        if wrong {
            answer.wrong_digests = Some(flotilla_history::Digests::of("other", &[]));
        }
        Outcome::Ok(answer)
    }

    /// The message of a handle, if it is in this queue, and the receive's number.
    fn find(&mut self, name: &str, handle: &str) -> Result<Option<(usize, u32)>, &'static str> {
        let parts: Vec<&str> = handle.split('|').collect();
        if parts[0] != name && self.bug != Some(Bug::ForeignHandle) {
            return Err("ReceiptHandleIsInvalid");
        }
        let old = parts[3] != self.queues[name].life.to_string();
        if old && parts[0] == name && !self.strikes(Bug::OldHandleInNewQueue, 100) {
            return Err("ReceiptHandleIsInvalid");
        }
        let messages = &self.queues[name].messages;
        let place = messages.iter().position(|it| it.id == parts[1] && it.count > it.count_before);
        Ok(place.map(|place| (place, parts[2].parse().unwrap())))
    }

    fn delete(&mut self, name: &str, handle: &str) -> Outcome<()> {
        if !self.is_there(name) {
            return fail(NO_QUEUE);
        }
        let found = match self.find(name, handle) {
            Ok(Some(found)) => found,
            Ok(None) => return Outcome::Ok(()),
            Err(code) => return fail(code),
        };
        let message = &self.queues[name].messages[found.0];
        let (now, newest) = (self.now, message.count == found.1);
        let expired = self.queues[name].fifo && (!newest || message.visible_us <= now);
        if expired && !self.strikes(Bug::LateDelete, 100) {
            return fail("InvalidParameterValue");
        }
        if self.queues[name].fifo && !expired && self.strikes(Bug::RefusedInTime, 10) {
            return fail("InvalidParameterValue");
        }
        let ignored = match newest {
            true => self.strikes(Bug::DeleteIgnored, 20),
            false => self.strikes(Bug::OldHandleIgnored, 100),
        };
        if !ignored {
            self.queues.get_mut(name).unwrap().messages.remove(found.0);
        }
        Outcome::Ok(())
    }

    fn change(&mut self, name: &str, handle: &str, ms: u64) -> Outcome<()> {
        if !self.is_there(name) {
            return fail(NO_QUEUE);
        }
        let found = match self.find(name, handle) {
            Ok(Some(found)) => found,
            Ok(None) => return fail("InvalidParameterValue"),
            Err(code) => return fail(code),
        };
        let ignored = self.strikes(Bug::ExtensionIgnored, 100);
        let now = self.now;
        let queue = self.queues.get_mut(name).unwrap();
        let message = &mut queue.messages[found.0];
        if queue.fifo && (message.count != found.1 || message.visible_us <= now) {
            return fail("InvalidParameterValue");
        }
        if !ignored {
            message.visible_us = now + ms * 1_000;
            message.revision += 1;
        }
        Outcome::Ok(())
    }

    fn start_move(&mut self, op: &StartMove) -> Outcome<String> {
        let now = self.now;
        let fifo = op.source.ends_with(".fifo");
        let queue = self.queues.get_mut(&op.source).unwrap();
        let mut kept = Vec::new();
        let mut blocked: Vec<Option<String>> = Vec::new();
        let mut moved = Vec::new();
        for message in std::mem::take(&mut queue.messages) {
            let waits = fifo && blocked.contains(&message.group);
            if message.visible_us > now || waits {
                blocked.push(message.group.clone());
                kept.push(message);
            } else {
                moved.push(message);
            }
        }
        queue.messages = kept;
        for mut message in moved {
            self.move_one(op, &message);
            if !fifo && self.strikes(Bug::MoveKeeps, 50) {
                self.queues.get_mut(&op.source).unwrap().messages.push(message);
                continue;
            }
            // Received and sent, and then the task ended.
            if fifo && self.fault && self.dice.percent(50) {
                message.visible_us = now + MOVE_HIDES_US;
                message.count += 1;
                message.revision += 1;
                let queue = self.queues.get_mut(&op.source).unwrap();
                queue.messages.push(message);
                queue.messages.sort_by_key(|it| it.seq);
            }
        }
        Outcome::Ok("task".to_owned())
    }

    fn move_one(&mut self, op: &StartMove, message: &Msg) {
        let source = message.source.clone().expect("only dead letters are in it");
        let to = op.destination.clone().unwrap_or(source);
        let fifo = to.ends_with(".fifo");
        let key = format!("move {}", message.id);
        let known = fifo && self.queues[&to].dedup.contains_key(&key);
        let bug = if fifo { Bug::FifoMovedTwice } else { Bug::MovedTwice };
        let copies = u64::from(!known) + u64::from(self.strikes(bug, 50));
        for _ in 0..copies {
            let (number, now, sent_ms) = (self.name(), self.now, self.ms());
            let (id, seq) = (format!("00000000-0000-4000-8000-{number:012x}"), 1_000_000 + number);
            let queue = self.queues.get_mut(&to).unwrap();
            if fifo {
                queue.dedup.insert(key.clone(), (id.clone(), seq, now));
            }
            queue.messages.push(Msg {
                id,
                seq,
                sent_us: now,
                sent_ms,
                visible_us: now,
                count: 0,
                count_before: 0,
                source: None,
                ..message.clone()
            });
        }
    }
}

fn sent(id: String, seq: Option<u64>) -> Sent {
    let sequence = seq.map(|seq| seq.to_string());
    Sent { message_id: id, sequence, wrong_digests: None, shard: None }
}
