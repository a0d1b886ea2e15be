//! What a shard must do, written down as plainly as possible: one list, searched from the start.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use flotilla_queue::QueueCounts;
use flotilla_queue::command::{Batch, Command, Lease, Receive, Reply, VisibilityError};
use flotilla_types::ids::{MessageId, QueueId, Seq};

#[derive(Clone, Debug)]
pub struct Entry {
    pub queue: QueueId,
    pub seq: Seq,
    pub sent_ms: u64,
    pub message_id: MessageId,
    pub content: Bytes,
    pub visible_at_ms: u64,
    pub delayed: bool,
    pub receive_count: u32,
    pub first_received_ms: u64,
    pub received_ms: u64,
    /// The queue that it came from, and how often it had been received there.
    pub moved: Option<(Bytes, u32)>,
    /// Number of the batch that sent it.
    pub batch: u64,
    /// Number of the batch that handed it out last.
    pub handed_out_by: u64,
}

impl Entry {
    /// Visible from the start and never received.
    pub fn is_fresh(&self) -> bool {
        !self.delayed && self.receives_here() == 0
    }

    /// Receives that count against the queue it is in.
    fn receives_here(&self) -> u32 {
        self.receive_count - self.moved.as_ref().map_or(0, |moved| moved.1)
    }
}

#[derive(Debug, Default)]
pub struct Model {
    pub clock_ms: u64,
    pub entries: Vec<Entry>,
    next_seq: u64,
    batch: u64,
    /// Session: last change, counters applied.
    sessions: BTreeMap<u64, (u64, BTreeSet<u64>)>,
}

impl Model {
    pub fn apply(&mut self, batch: &Batch) -> Vec<Reply> {
        self.batch += 1;
        self.clock_ms = self.clock_ms.max(batch.now_ms);
        let commands = batch.commands.iter();
        commands
            .map(|command| match command.id.map(|id| self.admit(id.session, id.counter)) {
                None | Some(Ok(true)) => self.command(&command.command),
                Some(Ok(false)) => self.repeated(&command.command),
                Some(Err(())) => Reply::Forgotten,
            })
            .collect()
    }

    pub fn counts(&self, queue: QueueId, now_ms: u64) -> QueueCounts {
        let now_ms = now_ms.max(self.clock_ms);
        let mut counts = QueueCounts::default();
        for entry in self.entries.iter().filter(|entry| entry.queue == queue) {
            if entry.visible_at_ms <= now_ms {
                counts.visible += 1;
            } else if entry.receives_here() > 0 {
                counts.in_flight += 1;
            } else {
                counts.delayed += 1;
            }
        }
        counts
    }

    /// What a receive may hand out: those received or delayed before by their time, then the
    /// never-received ones by their arrival, and among these those that were received three times, unless
    /// they leave the queue because they were received so often.
    pub fn available(&self, queue: QueueId, now_ms: u64, receives_max: Option<u32>) -> Vec<Seq> {
        let now_ms = now_ms.max(self.clock_ms);
        let mut found: Vec<_> = self
            .entries
            .iter()
            .filter(|entry| entry.queue == queue && entry.visible_at_ms <= now_ms)
            .map(|entry| match (entry.is_fresh(), entry.receive_count) {
                (true, _) => (1, entry.visible_at_ms, 0, entry.seq),
                (false, 3..) if receives_max != Some(entry.receive_count) => {
                    (1, entry.visible_at_ms, 1, entry.seq)
                }
                (false, _) => (0, entry.visible_at_ms, 0, entry.seq),
            })
            .collect();
        found.sort_unstable();
        found.into_iter().map(|(.., seq)| seq).collect()
    }

    /// `Ok(true)` for new, `Ok(false)` for applied before, `Err` for too old to know.
    fn admit(&mut self, session: u64, counter: u64) -> Result<bool, ()> {
        if !self.sessions.contains_key(&session) && self.sessions.len() == 64 {
            let oldest = self.sessions.iter().min_by_key(|(number, s)| (s.0, **number));
            let oldest = *oldest.unwrap().0;
            self.sessions.remove(&oldest);
        }
        let (changed_ms, applied) = self.sessions.entry(session).or_default();
        let last_block = applied.last().map_or(0, |last| last / 512);
        if counter / 512 + 128 <= last_block {
            return Err(());
        }
        let new = applied.insert(counter);
        if new {
            *changed_ms = self.clock_ms;
        }
        Ok(new)
    }

    fn command(&mut self, command: &Command) -> Reply {
        let now_ms = self.clock_ms;
        match command {
            Command::Send(send) => {
                let entry = Entry {
                    queue: send.queue,
                    seq: Seq(0),
                    sent_ms: now_ms,
                    message_id: send.message_id,
                    content: send.content.clone(),
                    visible_at_ms: now_ms + send.delay_ms,
                    delayed: send.delay_ms > 0,
                    receive_count: 0,
                    first_received_ms: 0,
                    received_ms: 0,
                    moved: None,
                    batch: 0,
                    handed_out_by: 0,
                };
                self.append(entry);
                Reply::Sent(None)
            }
            Command::Receive(receive) => {
                let (mut leases, mut dead) = (Vec::new(), Vec::new());
                let mut room = receive.bytes_max;
                for seq in &receive.candidates {
                    match self.lease(receive, *seq, &mut room, &mut dead) {
                        Some(lease) => leases.extend(lease),
                        None => break,
                    }
                }
                dead.into_iter().for_each(|entry| self.append(entry));
                Reply::Received(leases)
            }
            Command::Move(command) => {
                let mut moved = 0;
                for candidate in &command.candidates {
                    let at = self.entries.iter().position(|entry| {
                        (entry.queue, entry.seq) == (command.queue, candidate.seq)
                            && entry.visible_at_ms <= now_ms
                            && entry.batch != self.batch
                            && entry.handed_out_by != self.batch
                    });
                    let Some(at) = at else { continue };
                    let entry = self.entries.remove(at);
                    if entry.sent_ms + command.retention_ms <= now_ms {
                        continue;
                    }
                    moved += 1;
                    self.append(Entry {
                        queue: candidate.target,
                        sent_ms: now_ms,
                        message_id: candidate.message_id,
                        visible_at_ms: now_ms,
                        delayed: false,
                        receive_count: 0,
                        first_received_ms: 0,
                        received_ms: 0,
                        moved: None,
                        handed_out_by: 0,
                        ..entry
                    });
                }
                Reply::Moved(moved)
            }
            Command::Delete(delete) => {
                self.entries.retain(|entry| {
                    let is_it = entry.queue == delete.queue && entry.seq == delete.seq;
                    !(is_it
                        && delete.receive >= 1
                        && delete.receive <= entry.receive_count
                        && entry.receives_here() > 0)
                });
                Reply::Deleted(Ok(()))
            }
            Command::ChangeVisibility(change) => {
                let entry = self
                    .entries
                    .iter_mut()
                    .find(|entry| entry.queue == change.queue && entry.seq == change.seq);
                Reply::VisibilityChanged(match entry {
                    Some(entry)
                        if change.receive >= 1
                            && change.receive <= entry.receive_count
                            && entry.receives_here() > 0 =>
                    {
                        let end_ms = now_ms + change.visibility_ms;
                        if end_ms - entry.received_ms > 12 * 60 * 60 * 1000 {
                            Err(VisibilityError::BeyondLimit)
                        } else {
                            entry.visible_at_ms = end_ms;
                            Ok(())
                        }
                    }
                    _ => Err(VisibilityError::NotInFlight),
                })
            }
            Command::Purge { queue } | Command::DropQueue { queue } => {
                let before = self.entries.len();
                self.entries.retain(|entry| entry.queue != *queue);
                Reply::Purged((before - self.entries.len()) as u64)
            }
            Command::Expire { queue, retention_ms, from } => {
                let mut removed = 0;
                let batch = self.batch;
                self.entries.retain(|entry| {
                    let expires = entry.queue == *queue
                        && entry.seq >= *from
                        && entry.batch != batch
                        && entry.sent_ms + retention_ms <= now_ms
                        && removed < 1000;
                    removed += u64::from(expires);
                    !expires
                });
                // Whether and where to go on is the machine's business.
                Reply::Expired { removed, resume: None }
            }
            Command::Redelay(redelay) => {
                for entry in &mut self.entries {
                    let waits = entry.receive_count == 0 && entry.visible_at_ms > now_ms;
                    let is_named = entry.queue == redelay.queue
                        && redelay.candidates.contains(&entry.seq)
                        && entry.batch != self.batch;
                    if waits && is_named {
                        entry.visible_at_ms = entry.sent_ms + redelay.delay_ms;
                    }
                }
                Reply::Passed
            }
            Command::Fence { .. } | Command::Barrier => Reply::Passed,
        }
    }

    fn append(&mut self, entry: Entry) {
        self.entries.push(Entry { seq: Seq(self.next_seq), batch: self.batch, ..entry });
        self.next_seq += 1;
    }

    /// `None`: there is no room for it.
    fn lease(
        &mut self,
        receive: &Receive,
        seq: Seq,
        room: &mut u64,
        dead: &mut Vec<Entry>,
    ) -> Option<Option<Lease>> {
        let queue = receive.queue;
        let (now_ms, batch) = (self.clock_ms, self.batch);
        let is_it = |entry: &Entry| entry.queue == queue && entry.seq == seq;
        let Some(at) = self.entries.iter().position(is_it) else { return Some(None) };
        let entry = &mut self.entries[at];
        if entry.visible_at_ms > now_ms || entry.batch == batch || entry.handed_out_by == batch {
            return Some(None);
        }
        if entry.sent_ms + receive.retention_ms <= now_ms {
            self.entries.remove(at);
            return Some(None);
        }
        if let Some(redrive) = &receive.redrive
            && entry.receives_here() >= redrive.receives_max
        {
            let entry = self.entries.remove(at);
            dead.push(Entry {
                queue: redrive.target,
                moved: Some((redrive.source.clone(), entry.receive_count)),
                visible_at_ms: now_ms,
                delayed: false,
                handed_out_by: 0,
                ..entry
            });
            return Some(None);
        }
        *room = room.checked_sub(entry.content.len() as u64)?;
        if entry.receive_count == 0 {
            entry.first_received_ms = now_ms;
        }
        entry.receive_count += 1;
        entry.received_ms = now_ms;
        entry.visible_at_ms = now_ms + receive.visibility_ms;
        entry.handed_out_by = batch;
        Some(Some(Lease {
            seq,
            receive_count: entry.receive_count,
            first_received_ms: entry.first_received_ms,
            sent_ms: entry.sent_ms,
            message_id: entry.message_id,
            group: None,
            moved_from: entry.moved.as_ref().map(|moved| moved.0.clone()),
            content: entry.content.clone(),
        }))
    }

    fn repeated(&self, command: &Command) -> Reply {
        match command {
            Command::Send(_) => Reply::Sent(None),
            Command::Receive(_) => Reply::Received(Vec::new()),
            Command::Move(_) => Reply::Moved(0),
            Command::Delete(_) => Reply::Deleted(Ok(())),
            Command::ChangeVisibility(change) => {
                let is_it = |entry: &&Entry| {
                    entry.queue == change.queue
                        && entry.seq == change.seq
                        && entry.receives_here() > 0
                        && entry.receive_count == change.receive
                };
                let end_ms = self.clock_ms + change.visibility_ms;
                match self.entries.iter().find(is_it) {
                    Some(_) if change.visibility_ms == 0 => Reply::VisibilityChanged(Ok(())),
                    Some(entry)
                        if entry.visible_at_ms > self.clock_ms
                            && end_ms - entry.received_ms <= 12 * 60 * 60 * 1000 =>
                    {
                        Reply::VisibilityChanged(Ok(()))
                    }
                    _ => Reply::Forgotten,
                }
            }
            Command::Purge { .. } | Command::DropQueue { .. } => Reply::Purged(0),
            Command::Expire { .. } => Reply::Expired { removed: 0, resume: None },
            Command::Redelay(_) | Command::Fence { .. } | Command::Barrier => Reply::Passed,
        }
    }
}
