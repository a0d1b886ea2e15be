//! What can only be said when every record is known.

use crate::file::Tail;
use crate::hash::IdMap;
use crate::index::build::Builder;
use crate::index::rows::{Groups, Known, NONE, Stay};
use crate::index::{Index, NEVER, Span};

impl Builder {
    /// The whole index.
    pub(crate) fn finish(mut self, tail: Tail) -> Index {
        self.close_graph();
        let unhealed = self.close_faults();
        for touch in &mut self.touches {
            touch.delivery = self.by_handle.get(&touch.handle).copied().unwrap_or(NONE);
        }
        self.coverage.messages = self.messages.len() as u64;
        let messages = self.messages.len();
        let attempts_of_key = Groups::new(self.keys.len(), self.attempts.iter().map(|it| it.key));
        let attempts_of_message = Groups::new(messages, self.attempts.iter().map(|it| it.message));
        let mut deliveries_of_message =
            Groups::new(messages, self.deliveries.iter().map(|it| it.message));
        deliveries_of_message.sort_by_key(|row| {
            let at = self.receives[self.deliveries[row as usize].receive as usize].at;
            (at.inv, at.ret)
        });
        let owner = |delivery: u32| match delivery {
            NONE => NONE,
            delivery => self.deliveries[delivery as usize].message,
        };
        let touches_of_message =
            Groups::new(messages, self.touches.iter().map(|it| owner(it.delivery)));
        let messages_of_key = Groups::new(self.keys.len(), self.messages.iter().map(|it| it.key));
        let mut index = Index {
            header: self.header,
            tail,
            coverage: self.coverage,
            queues: self.queues,
            groups: self.groups,
            keys: self.keys,
            attempts: self.attempts,
            messages: self.messages,
            receives: self.receives,
            deliveries: self.deliveries,
            touches: self.touches,
            batches: self.batches,
            faults: self.faults,
            unhealed,
            drain: self.drain,
            drained: self.drained,
            graph: self.graph,
            attempts_of_key,
            attempts_of_message,
            deliveries_of_message,
            touches_of_message,
            messages_of_key,
            stays: Vec::new(),
            stays_of_group: Groups::default(),
            by_handle: self.by_handle,
            info_by_dedup: self.info_by_dedup,
            attempts_asked: IdMap::default(),
            unheard: self.unheard,
            refusals: self.refusals,
            recoveries: self.recoveries,
            came_out: Vec::new(),
            last_us: self.last_us,
        };
        index.came_out = (0..index.queues.len() as u32).map(|it| index.comes_out(it)).collect();
        index.settle_attempts();
        for message in 0..messages as u32 {
            index.settle(message);
        }
        index.settle_stays();
        index
    }
}

impl Index {
    fn comes_out(&self, queue: u32) -> bool {
        let Some(drained) = self.drained.filter(|_| self.whole()) else { return false };
        self.graph.reachable(queue).into_iter().all(|queue| {
            let queue = &self.queues[queue as usize];
            let retention = queue.retention_us.min(Span { inv: 0, ret: drained });
            queue.clearings.is_empty() && retention > drained
        })
    }

    fn settle_attempts(&mut self) {
        for (number, receive) in (0u32..).zip(&self.receives).filter(|it| it.1.attempt != 0) {
            let attempt = (receive.queue, receive.attempt);
            self.attempts_asked.entry(attempt).or_default().push(number);
        }
    }

    /// Where a message was first, when it came there, and in which group.
    fn settle(&mut self, message: u32) {
        let row = &self.messages[message as usize];
        let (mut queue, mut sequence) = (row.queue, row.sequence);
        // Duplicates may have been sent to other groups: what was delivered knows best.
        let mut group = NONE;
        let mut groups_differ = false;
        let deliveries = self.deliveries_of_message.of(message);
        if !row.acknowledged && row.key != NONE {
            queue = self.origin(message, queue);
        }
        let mut entered = Span { inv: NEVER, ret: NEVER };
        for attempt in self.attempts_of_message.of(message) {
            let attempt = &self.attempts[*attempt as usize];
            entered.inv = entered.inv.min(attempt.at.inv);
            entered.ret = entered.ret.min(attempt.at.ret);
            groups_differ |= group != NONE && group != attempt.group;
            group = attempt.group;
            if let Some(lost) = self.info_by_dedup.get(&(attempt.queue, attempt.dedup)) {
                entered.inv = entered.inv.min(lost.inv);
                // If one of those was accepted, this one is its duplicate: in that one's group.
                groups_differ |= lost.group != attempt.group;
            }
        }
        if row.key != NONE {
            for attempt in self.attempts_of_key.of(row.key) {
                let attempt = &self.attempts[*attempt as usize];
                if attempt.outcome == Known::Info && attempt.queue == queue {
                    entered.inv = entered.inv.min(attempt.at.inv);
                    if group == NONE {
                        group = attempt.group;
                    }
                }
            }
        }
        if groups_differ {
            group = NONE;
        }
        for delivery in deliveries {
            let row = &self.deliveries[*delivery as usize];
            entered.ret = entered.ret.min(self.at(*delivery).ret);
            if self.queue_of(*delivery) == queue {
                group = row.group;
                sequence = if sequence == 0 { row.sequence } else { sequence };
            }
        }
        if entered.inv == NEVER {
            entered.inv = 0;
        }
        let row = &mut self.messages[message as usize];
        (row.queue, row.group, row.sequence, row.entered) = (queue, group, sequence, entered);
    }

    /// The queue that a message without an acknowledged send was sent to, as far as that can be
    /// told: the one where it was seen, or one whose dead letters go there.
    fn origin(&self, message: u32, seen: u32) -> u32 {
        let attempts = self.attempts_of_key.of(self.messages[message as usize].key);
        let sent_to = |queue: u32| {
            let attempts = attempts.iter().map(|it| &self.attempts[*it as usize]);
            attempts.into_iter().any(|it| it.queue == queue && it.outcome != Known::Fail)
        };
        if sent_to(seen) {
            return seen;
        }
        self.graph.sources(seen).find(|source| sent_to(*source)).unwrap_or(seen)
    }

    fn settle_stays(&mut self) {
        let mut stays: Vec<Stay> = Vec::new();
        for message in 0..self.messages.len() as u32 {
            let row = &self.messages[message as usize];
            let first = stays.len();
            if row.group != NONE && row.sequence != 0 && self.queues[row.queue as usize].fifo {
                stays.push(Stay {
                    message,
                    group: row.group,
                    sequence: row.sequence,
                    entered: row.entered,
                    home: true,
                });
            }
            for delivery in self.deliveries_of_message.of(message) {
                let (queue, at) = (self.queue_of(*delivery), self.at(*delivery));
                let row = &self.deliveries[*delivery as usize];
                if row.group == NONE || row.sequence == 0 || !self.queues[queue as usize].fifo {
                    continue;
                }
                match stays[first..].iter_mut().find(|stay| stay.group == row.group) {
                    Some(stay) => stay.entered.ret = stay.entered.ret.min(at.ret),
                    None => stays.push(Stay {
                        message,
                        group: row.group,
                        sequence: row.sequence,
                        entered: Span { inv: 0, ret: at.ret },
                        home: false,
                    }),
                }
            }
        }
        let mut groups = Groups::new(self.groups.len(), stays.iter().map(|stay| stay.group));
        groups.sort_by_key(|row| stays[row as usize].sequence);
        (self.stays, self.stays_of_group) = (stays, groups);
    }
}
