//! How the service hands messages out.

use flotilla_history::Outcome;
use flotilla_history::record::*;

use super::Bug;
use super::service::{INTERVAL_US, Msg, NO_QUEUE, Queue, Service, fail};

impl Service {
    pub(super) fn receive(&mut self, op: &Receive) -> Outcome<Vec<Delivered>> {
        if !self.is_there(&op.queue) {
            return fail(NO_QUEUE);
        }
        let now = self.now;
        let mut queue = self.queues.remove(&op.queue).unwrap();
        let visibility = op.visibility_ms.map_or(queue.visibility_us, |ms| ms * 1_000);
        let forget = self.strikes(Bug::AttemptForgotten, 100);
        let repeated = op.attempt.as_ref().filter(|_| queue.fifo && !forget);
        let again = repeated.and_then(|it| self.repeat(&mut queue, it, visibility));
        self.queues.insert(op.queue.clone(), queue);
        if let Some(again) = again {
            let queue = self.queues[&op.queue].clone();
            let delivered = again.iter().map(|at| self.deliver(&op.queue, &queue, *at));
            return Outcome::Ok(delivered.collect());
        }
        let in_flight = self.queues[&op.queue]
            .messages
            .iter()
            .filter(|it| it.count > it.count_before && it.visible_us > now);
        let in_flight = in_flight.count();
        let over = in_flight >= self.limit && !self.strikes(Bug::LimitIgnored, 100);
        if self.strikes(Bug::LimitTooEarly, 5) || over {
            let short = op.wait_ms.unwrap_or(0) == 0 && !self.queues[&op.queue].fifo;
            return if short { fail("OverLimit") } else { Outcome::Ok(Vec::new()) };
        }
        let short = op.wait_ms.unwrap_or(0) == 0;
        if (short && self.strikes(Bug::ShortPollBlind, 90))
            || (!short && self.strikes(Bug::LostWakeup, 100))
        {
            return Outcome::Ok(Vec::new());
        }
        let mut queue = self.queues.remove(&op.queue).unwrap();
        let room = self.limit.saturating_sub(in_flight).max(1);
        let max = (op.max as usize + usize::from(self.strikes(Bug::TooMany, 50)) * 2).min(room);
        let chosen = self.choose(&op.queue, &mut queue, max, short);
        let mut delivered = Vec::new();
        for at in &chosen {
            let stuck = self.strikes(Bug::CountStands, 30);
            let jump = self.strikes(Bug::CountJumps, 30);
            let stamp = self.ms();
            let message = &mut queue.messages[*at];
            if message.count == 0 {
                message.first_ms = stamp;
            }
            message.count += if stuck && message.count > 0 { 0 } else { 1 };
            message.count += u32::from(jump);
            message.revision += 1;
            message.visible_us = now + visibility;
            if self.strikes(Bug::LeaseIgnored, 40) {
                queue.messages[*at].visible_us = now;
            }
            delivered.push(self.deliver(&op.queue, &queue, *at));
        }
        if let Some(attempt) = op.attempt.as_ref().filter(|_| !chosen.is_empty()) {
            let rows = chosen.iter().map(|at| {
                let message = &queue.messages[*at];
                (message.id.clone(), message.count, message.revision)
            });
            queue.attempts.insert(attempt.clone(), (now, rows.collect()));
        }
        if delivered.len() > 1 && self.strikes(Bug::AnswerOutOfOrder, 50) {
            delivered.reverse();
        }
        self.queues.insert(op.queue.clone(), queue);
        Outcome::Ok(delivered)
    }

    /// Places of what this attempt handed out before, hidden anew.
    fn repeat(&mut self, queue: &mut Queue, attempt: &str, visibility: u64) -> Option<Vec<usize>> {
        let (at, rows) = queue.attempts.get(attempt).cloned()?;
        let now = self.now;
        let mut found = Vec::new();
        for (id, count, revision) in rows {
            let place = queue.messages.iter().position(|it| {
                let same = it.id == id && (it.count, it.revision) == (count, revision);
                same && it.visible_us > now && now < it.sent_us + queue.retention_us
            });
            found.push(place.filter(|_| now < at + INTERVAL_US)?);
        }
        if !self.strikes(Bug::RepeatNotRenewed, 100) {
            for place in &found {
                queue.messages[*place].visible_us = now + visibility;
            }
        }
        Some(found)
    }

    /// Places of what can be handed out; what was received too often is moved away.
    fn choose(&mut self, name: &str, queue: &mut Queue, max: usize, short: bool) -> Vec<usize> {
        let (now, fifo) = (self.now, queue.fifo);
        if self.bug != Some(Bug::RetentionIgnored) {
            let retention = queue.retention_us;
            queue.messages.retain(|it| now < it.sent_us + retention);
        }
        let mut chosen: Vec<usize> = Vec::new();
        let mut blocked: Vec<Option<String>> = Vec::new();
        let mut dead = Vec::new();
        let unlocked = self.strikes(Bug::GroupUnlocked, 50);
        let skips = self.strikes(Bug::Skips, 30);
        let skips_again = self.strikes(Bug::SkipsAgain, 30);
        let forgotten = short && self.strikes(Bug::ShardForgotten, 100);
        for at in 0..queue.messages.len() {
            if chosen.len() == max {
                break;
            }
            let message = &queue.messages[at];
            if forgotten && message.seq % 3 == 1 {
                continue;
            }
            if fifo && blocked.contains(&message.group) {
                continue;
            }
            let again = message.count > 0 && self.strikes(Bug::Lease, 20);
            let message = &queue.messages[at];
            if message.visible_us > now && !again {
                if !unlocked {
                    blocked.push(message.group.clone());
                }
                continue;
            }
            if skips_again && fifo && message.count > 0 && self.dice.percent(50) {
                continue;
            }
            if skips && message.count == 0 && self.dice.percent(50) {
                continue;
            }
            let here = message.count - message.count_before;
            let enough = queue.redrive.as_ref().map_or(u32::MAX, |redrive| redrive.1);
            let early = here + 1 == enough && here > 0 && self.strikes(Bug::MovedTooEarly, 50);
            if (here >= enough && !self.strikes(Bug::MovedTooLate, 50)) || early {
                dead.push(at);
            } else {
                chosen.push(at);
            }
        }
        let target = queue.redrive.as_ref().map(|redrive| redrive.0.clone());
        let mut letters = Vec::new();
        let keep = !dead.is_empty() && self.strikes(Bug::MovedAndKept, 60);
        for at in dead.into_iter().rev() {
            let kept = queue.messages[at].clone();
            let letter = if keep { kept } else { queue.messages.remove(at) };
            if keep {
                // It may be handed out once more.
                queue.messages[at].count_before += 1;
            }
            chosen.iter_mut().filter(|it| **it > at && !keep).for_each(|it| *it -= 1);
            letters.push(letter);
        }
        if !self.strikes(Bug::DeadLettersTurned, 100) {
            letters.reverse();
        }
        for letter in letters {
            self.bury(name, target.as_deref().unwrap(), letter);
        }
        chosen
    }

    fn bury(&mut self, source: &str, target: &str, letter: Msg) {
        if self.strikes(Bug::LostInMove, 50) {
            return;
        }
        let seq = 1_000_000 + self.name();
        let (now, stamp) = (self.now, self.ms());
        let keeps = self.strikes(Bug::LetterKeepsDedup, 50);
        let queue = self.queues.get_mut(target).unwrap();
        let fifo = queue.fifo;
        queue.messages.push(Msg {
            seq,
            visible_us: now,
            count_before: letter.count,
            source: Some(source.to_owned()),
            sent_us: if fifo { now } else { letter.sent_us },
            sent_ms: if fifo { stamp } else { letter.sent_ms },
            dedup: fifo
                .then(|| letter.dedup.clone().filter(|_| keeps).unwrap_or(letter.id.clone())),
            ..letter
        });
    }

    fn deliver(&mut self, name: &str, queue: &Queue, at: usize) -> Delivered {
        let message = &queue.messages[at];
        let mut content = message.content;
        let mut wrong_digests = None;
        if self.strikes(Bug::Alters, 20) {
            content.digests = flotilla_history::Digests::of("altered", &[]);
        }
        if self.strikes(Bug::ReceiveDigest, 20) {
            wrong_digests = Some(flotilla_history::Digests::of("other", &[]));
        }
        let restamped = message.count > 1 && self.strikes(Bug::Restamps, 50);
        let moves = message.count > 1 && self.strikes(Bug::FirstReceiveMoves, 50);
        let count = if self.strikes(Bug::HandleTwice, 40) { 1 } else { message.count };
        let other = |it: &Option<String>| it.as_ref().map(|it| format!("other-{it}"));
        let group = match self.strikes(Bug::OtherGroup, 20) {
            true => other(&message.group),
            false => message.group.clone(),
        };
        let dedup = match message.source.is_none() && self.strikes(Bug::OtherDedup, 20) {
            true => other(&message.dedup),
            false => message.dedup.clone(),
        };
        let message_id = match self.strikes(Bug::NewIds, 20) {
            true => format!("00000000-0000-4000-8000-{:012x}", self.name()),
            false => message.id.clone(),
        };
        let says_less = self.strikes(Bug::SaysLess, 50);
        Delivered {
            content: Some(content),
            message_id,
            handle: format!("{name}|{}|{count}|{}", message.id, queue.life),
            wrong_digests,
            receive_count: (!says_less).then_some(message.count),
            sent_ms: Some(if restamped { self.ms() + 5 } else { message.sent_ms }),
            first_received_ms: Some(message.first_ms + if moves { 5_000 } else { 0 }),
            group,
            dedup,
            sequence: queue.fifo.then(|| message.seq.to_string()),
            source: message.source.clone(),
            shard: Some(message.seq as u32 % 3),
        }
    }
}
