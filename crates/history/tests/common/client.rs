//! What clients ask for next.

use std::collections::BTreeMap;

use flotilla_history::content::{Attribute, Value};
use flotilla_history::record::*;
use flotilla_history::{Content, Digests, MessageKey, Op, Outcome};

use super::dice::Dice;

pub enum Role {
    Producer {
        last: Option<Send>,
        dedups: Vec<String>,
    },
    Consumer {
        handles: Vec<String>,
        old: Vec<String>,
        attempt: Option<String>,
    },
    Purger,
    /// Deletes and creates its queue.
    Recreator,
    Reader,
    Mover,
    /// Comes with handles to another queue.
    Stranger {
        handles: Vec<String>,
    },
}

pub struct Client {
    pub process: u32,
    pub node: u32,
    pub queue: String,
    pub role: Role,
    pub counter: u32,
    pub pause_us: u64,
    /// Attributes that its queue is created with.
    pub attributes: BTreeMap<String, String>,
    pub waits: bool,
}

/// The result that a request has until it is answered.
pub fn pending<T>() -> Outcome<T> {
    Outcome::Info("timeout".to_owned())
}

pub fn on_queue<T>(queue: &str) -> OnQueue<T> {
    OnQueue { queue: queue.to_owned(), result: pending() }
}

impl Client {
    fn fifo(&self) -> bool {
        self.queue.ends_with(".fifo")
    }

    pub fn next(&mut self, dice: &mut Dice) -> Op {
        let (queue, fifo) = (self.queue.clone(), self.fifo());
        match &mut self.role {
            Role::Producer { last, dedups } => {
                let again = last.take().filter(|_| fifo);
                if let Some(send) = again {
                    return Op::Send(send);
                }
                let count = if dice.percent(40) { dice.between(2, 4) } else { 1 };
                let numbers = self.counter + 1..=self.counter + count as u32;
                self.counter += count as u32;
                let entries =
                    numbers.map(|number| entry(self.process, number, fifo, dedups, dice)).collect();
                let answered = (count > 1).then(Vec::new);
                Op::Send(Send { queue, entries, answered })
            }
            Role::Consumer { handles, old, attempt } => {
                if !old.is_empty() && dice.percent(30) {
                    let handle = old.swap_remove(dice.below(old.len() as u64) as usize);
                    return delete(queue, vec![handle]);
                }
                if !handles.is_empty() && dice.percent(60) {
                    let handle = handles.swap_remove(dice.below(handles.len() as u64) as usize);
                    if dice.percent(25) {
                        let visibility_ms = [0, 300, 1_500, 3_000][dice.below(4) as usize];
                        handles.push(handle.clone());
                        let entries =
                            vec![ChangeEntry { handle, visibility_ms, result: pending() }];
                        return Op::Change(Change { queue, entries, answered: None });
                    }
                    if dice.percent(15) {
                        // Left to its timeout.
                        old.push(handle);
                    } else {
                        let mut batch = vec![handle];
                        batch.extend(handles.pop().filter(|_| dice.percent(30)));
                        return delete(queue, batch);
                    }
                }
                if fifo && attempt.is_none() && dice.percent(30) {
                    *attempt = Some(format!("a{}-{}", self.process, dice.below(1_000_000)));
                }
                Op::Receive(Receive {
                    queue,
                    max: dice.between(1, 4) as u32,
                    wait_ms: Some(if self.waits && dice.percent(50) { 2_000 } else { 0 }),
                    visibility_ms: dice.percent(60).then(|| dice.between(400, 3_000)),
                    attempt: attempt.clone(),
                    lost: false,
                    unheard: Vec::new(),
                    result: pending(),
                })
            }
            Role::Purger => Op::Purge(on_queue(&queue)),
            Role::Recreator if dice.percent(40) => Op::DeleteQueue(on_queue(&queue)),
            Role::Recreator => Op::CreateQueue(WithAttributes {
                queue,
                attributes: self.attributes.clone(),
                result: pending(),
            }),
            Role::Reader if dice.percent(30) => {
                let seconds = dice.between(1, 3).to_string();
                let attributes = [("VisibilityTimeout".to_owned(), seconds)].into();
                Op::SetAttributes(WithAttributes { queue, attributes, result: pending() })
            }
            Role::Reader => Op::GetAttributes(on_queue(&queue)),
            Role::Mover => {
                Op::StartMove(StartMove { source: queue, destination: None, result: pending() })
            }
            Role::Stranger { handles } => match handles.pop() {
                Some(handle) => delete(queue, vec![handle]),
                None => Op::GetAttributes(on_queue(&queue)),
            },
        }
    }

    /// Learns what came of a request.
    pub fn learn(&mut self, op: &Op, dice: &mut Dice) {
        match (&mut self.role, op) {
            (Role::Producer { last, .. }, Op::Send(send)) => {
                let unknown = |it: &&SendEntry| matches!(it.result, Outcome::Info(_));
                let unknown: Vec<SendEntry> =
                    send.entries.iter().filter(unknown).cloned().collect();
                if !unknown.is_empty() {
                    let answered = (unknown.len() > 1).then(Vec::new);
                    *last = Some(Send { entries: unknown, answered, ..send.clone() });
                }
            }
            (Role::Consumer { handles, old, attempt }, Op::Receive(receive)) => {
                match &receive.result {
                    Outcome::Ok(delivered) => {
                        // Sometimes once more, to see the same.
                        if delivered.is_empty() || dice.percent(70) {
                            *attempt = None;
                        }
                        for delivered in delivered {
                            if !handles.contains(&delivered.handle) {
                                handles.push(delivered.handle.clone());
                            }
                        }
                        if handles.len() > 6 {
                            old.extend(handles.drain(..3));
                        }
                    }
                    Outcome::Fail(_) => *attempt = None,
                    Outcome::Info(_) => {}
                }
            }
            _ => {}
        }
    }
}

fn delete(queue: String, handles: Vec<String>) -> Op {
    let answered = (handles.len() > 1).then(|| (0..handles.len() as u32).collect());
    let entries = handles.into_iter().map(|handle| DeleteEntry { handle, result: pending() });
    Op::Delete(Delete { queue, entries: entries.collect(), answered })
}

fn entry(
    writer: u32,
    counter: u32,
    fifo: bool,
    dedups: &mut Vec<String>,
    dice: &mut Dice,
) -> SendEntry {
    let key = MessageKey { writer, counter };
    let size = Attribute { name: "n", data_type: "Number", value: Value::Text("1") };
    let attributes = if dice.percent(50) { vec![size] } else { vec![] };
    let digests = Digests::of(&format!("{key} body"), &attributes);
    let dedup = fifo.then(|| {
        // Sometimes that of another message: then this one is not stored.
        let again = !dedups.is_empty() && dice.percent(8);
        match again {
            true => dedups[dice.below(dedups.len() as u64) as usize].clone(),
            false => format!("d{key}"),
        }
    });
    dedups.extend(dedup.clone());
    let delays = [None, None, Some(0), Some(700), Some(1_500)];
    SendEntry {
        content: Content { key, digests },
        group: fifo.then(|| format!("g{}", dice.below(3))),
        dedup,
        delay_ms: if fifo { None } else { delays[dice.below(5) as usize] },
        result: pending(),
    }
}
