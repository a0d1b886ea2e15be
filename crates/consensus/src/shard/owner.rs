//! The shard's one task: folds what arrived into entries, hands them to Raft, rings alarms.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use flotilla_probe::{failpoint, planted, sometimes};
use flotilla_queue::command::{Attempt, Batch, Command, Identified, Lease, Receive, Reply};
use flotilla_types::ids::QueueId;
use flotilla_types::limits::{ENTRIES_IN_FLIGHT_MAX, ENTRY_BYTES_MAX, ENTRY_COMMANDS_MAX};
use flotilla_wire::command::encode_batch;
use tokio::sync::{Notify, mpsc, oneshot, watch};

use super::core::Core;
use super::pending::Pending;
use super::{ReceiveSpec, Reserved, ShardError};
use crate::group::{Group, Leadership, ProposeError};
use crate::types::{Answer, Commands};

/// An alarm is looked at again after this long at the latest: the wall clock may have been set.
const ALARM_CHECK: Duration = Duration::from_secs(1);
/// Requests that arrived in a burst reach the owner one by one, each when its connection was read.
/// So often the owner lets everything else that is ready run before it closes an entry: on an idle
/// node that is a look at the sockets (microseconds), on a busy one many requests become one
/// entry. More looks fold no more.
const LOOKS_BEFORE_ENTRY: u32 = 10;

pub(crate) enum Request {
    Submit {
        commands: Vec<Identified>,
        bytes: usize,
        /// When it was handed in.
        since: Instant,
        reply: oneshot::Sender<Result<Vec<Reply>, ShardError>>,
    },
    Receive {
        spec: ReceiveSpec,
        reserved: Reserved,
        since: Instant,
        reply: oneshot::Sender<Result<Vec<Lease>, ShardError>>,
    },
}

impl Request {
    fn since(&self) -> Instant {
        match self {
            Self::Submit { since, .. } | Self::Receive { since, .. } => *since,
        }
    }
}

/// Who gets which part of an entry's replies.
enum Slot {
    Submit {
        commands: usize,
        reply: oneshot::Sender<Result<Vec<Reply>, ShardError>>,
    },
    Receive {
        queue: QueueId,
        reserved: Reserved,
        /// They can be received again at once.
        stay_visible: bool,
        reply: oneshot::Sender<Result<Vec<Lease>, ShardError>>,
    },
}

pub(crate) struct Owner {
    group: Group,
    core: Arc<Core>,
    requests: mpsc::UnboundedReceiver<Request>,
    pending: Arc<Pending>,
    leadership: watch::Receiver<Leadership>,
    /// The leadership that `core` was last told of.
    known: Leadership,
    waiting: VecDeque<Request>,
    in_flight: Arc<AtomicUsize>,
    completed: Arc<Notify>,
}

impl Owner {
    pub(crate) fn new(
        group: Group,
        core: Arc<Core>,
        requests: mpsc::UnboundedReceiver<Request>,
        pending: Arc<Pending>,
    ) -> Self {
        let leadership = group.leadership();
        Self {
            group,
            core,
            requests,
            pending,
            leadership,
            known: Leadership::default(),
            waiting: VecDeque::new(),
            in_flight: Arc::default(),
            completed: Arc::default(),
        }
    }

    pub(crate) async fn run(mut self) {
        loop {
            let full = !self.may_propose();
            tokio::select! {
                biased;
                changed = self.leadership.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    self.leadership_changed();
                }
                () = self.completed.notified(), if full => {}
                request = self.requests.recv() => {
                    let Some(request) = request else { return };
                    self.waiting.push_back(request);
                }
                () = sleep_until_alarm(&self.core) => {}
                () = self.core.alarm_changed.notified() => {}
            }
            // Each time: under load there is always a request, and nothing waits for the alarm.
            self.core.ring();
            self.collect().await;
            self.propose().await;
            self.pending.note_front(self.waiting.front().map(Request::since));
        }
    }

    fn may_propose(&self) -> bool {
        self.in_flight.load(Ordering::Acquire) < ENTRIES_IN_FLIGHT_MAX
    }

    /// Takes what has arrived, and what is about to, if an entry is to be made of it.
    async fn collect(&mut self) {
        if !self.waiting.is_empty() && self.may_propose() {
            for _ in 0..LOOKS_BEFORE_ENTRY {
                tokio::task::yield_now().await;
            }
        }
        while let Ok(request) = self.requests.try_recv() {
            self.waiting.push_back(request);
        }
    }

    fn leadership_changed(&mut self) {
        let now = *self.leadership.borrow_and_update();
        if now.here && (!self.known.here || self.known.term != now.term) {
            self.core.lead();
        } else if !now.here {
            self.core.follow();
        }
        self.known = now;
    }

    /// Hands entries to Raft while it may take more. With everything taken at once, the size of an
    /// entry follows the load: nothing waits on an idle shard, much is folded on a busy one.
    async fn propose(&mut self) {
        if !self.leadership.borrow().here {
            return self.turn_away();
        }
        while !self.waiting.is_empty() && self.may_propose() {
            let (commands, slots) = self.fold();
            if commands.is_empty() {
                continue;
            }
            failpoint!(Propose);
            let counters = self.group.counters();
            counters.commands.fetch_add(commands.len() as u64, Ordering::Relaxed);
            let batch = Batch { now_ms: self.core.now_ms(), commands };
            let entry = Commands(encode_batch(&batch));
            self.in_flight.fetch_add(1, Ordering::AcqRel);
            let core = self.core.clone();
            let in_flight = self.in_flight.clone();
            let completed = self.completed.clone();
            let then = move |result| {
                in_flight.fetch_sub(1, Ordering::AcqRel);
                completed.notify_one();
                answer(&core, slots, result);
            };
            self.group.propose_then(entry, then).await;
            failpoint!(Proposed);
        }
    }

    /// Not the leader any more: what was not handed over certainly did not happen.
    fn turn_away(&mut self) {
        let error = ShardError::NotLeader(self.leadership.borrow().leader);
        for request in self.waiting.drain(..) {
            match request {
                Request::Submit { commands, bytes, reply, .. } => {
                    self.pending.release(commands.len(), bytes);
                    let _ = reply.send(Err(error));
                }
                Request::Receive { spec, reserved, reply, .. } => {
                    self.pending.release(1, 0);
                    self.core.settle(spec.queue, &reserved, 0);
                    let _ = reply.send(Err(error));
                }
            }
        }
    }

    /// Takes waiting requests up to the bounds of one entry.
    fn fold(&mut self) -> (Vec<Identified>, Vec<Slot>) {
        let mut commands = Vec::new();
        let mut slots = Vec::with_capacity(self.waiting.len().min(ENTRY_COMMANDS_MAX));
        let mut entry_bytes = 0;
        while let Some(request) = self.waiting.front() {
            let (count, bytes) = match request {
                Request::Submit { commands, bytes, .. } => (commands.len(), *bytes),
                Request::Receive { .. } => (1, 0),
            };
            let fits = commands.len() + count <= ENTRY_COMMANDS_MAX
                && entry_bytes + bytes <= ENTRY_BYTES_MAX;
            if !fits && !commands.is_empty() {
                break;
            }
            entry_bytes += bytes;
            self.pending.release(count, bytes);
            match self.waiting.pop_front().expect("looked at above") {
                Request::Submit { commands: mut more, reply, .. } => {
                    commands.append(&mut more);
                    slots.push(Slot::Submit { commands: count, reply });
                }
                Request::Receive { spec, reserved, reply, .. } => {
                    // Nothing is leased for a caller that has gone.
                    if reply.is_closed() {
                        sometimes!(ReceiverGone);
                        self.core.settle(spec.queue, &reserved, 0);
                        continue;
                    }
                    commands.push(Identified { id: None, command: receive(&spec, &reserved) });
                    let (queue, stay_visible) = (spec.queue, spec.visibility_ms == 0);
                    slots.push(Slot::Receive { queue, reserved, stay_visible, reply });
                }
            }
        }
        (commands, slots)
    }
}

fn receive(spec: &ReceiveSpec, reserved: &Reserved) -> Command {
    Command::Receive(Receive {
        queue: spec.queue,
        candidates: reserved.seqs.clone(),
        visibility_ms: spec.visibility_ms,
        retention_ms: spec.retention_ms,
        fresh_from: reserved.fresh_from,
        redrive: spec.redrive.clone(),
        attempt: spec.attempt.map(|key| Attempt { key, max: spec.max }),
        bytes_max: spec.bytes_max as u64,
    })
}

async fn sleep_until_alarm(core: &Core) {
    match core.next_alarm_ms() {
        Some(at_ms) => {
            let wait = Duration::from_millis(at_ms.saturating_sub(core.now_ms()));
            tokio::time::sleep(wait.min(ALARM_CHECK)).await;
        }
        None => std::future::pending().await,
    }
}

/// Splits an entry's replies among those who wait for them. A caller that has gone is no error.
fn answer(core: &Core, slots: Vec<Slot>, result: Result<Answer, ProposeError>) {
    failpoint!(Answer);
    if result.is_err() {
        sometimes!(LeaderDeposedWithProposals);
    }
    let replies = result.map(|answer| answer.take::<Vec<Reply>>().unwrap_or_default());
    // Also when the library says that the proposal was not appended: it was handed over, and
    // whoever asks learns no more than that.
    let error = match planted!(LostAnswerRefused) {
        true => ShardError::NotLeader(None),
        false => ShardError::Unknown,
    };
    let mut replies = replies.unwrap_or_default().into_iter();
    for slot in slots {
        match slot {
            Slot::Submit { commands, reply } => {
                let mine: Vec<Reply> = replies.by_ref().take(commands).collect();
                let complete = mine.len() == commands;
                let _ = reply.send(if complete { Ok(mine) } else { Err(error) });
            }
            Slot::Receive { queue, reserved, stay_visible, reply } => {
                let leases = match replies.next() {
                    Some(Reply::Received(leases)) => Ok(leases),
                    _ => Err(error),
                };
                // Who was woken when this was applied found the messages still reserved.
                let gone = if stay_visible { 0 } else { leases.as_ref().map_or(0, Vec::len) };
                core.settle(queue, &reserved, gone);
                let _ = reply.send(leases);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use flotilla_types::clock::SystemClock;
    use flotilla_types::ids::GroupId;

    use super::*;
    use crate::shard::ShardEvents;

    struct Nobody;

    impl ShardEvents for Nobody {
        fn awaited(&self, _queue: QueueId) -> bool {
            false
        }

        fn available(&self, _shard: GroupId, _queue: QueueId, _count: usize) {}
    }

    /// Whatever the library says: it was handed over, and may be applied by another leader.
    #[test]
    fn a_lost_answer_is_no_refusal() {
        let core = Core::new(GroupId(1), Arc::new(SystemClock), Arc::new(Nobody));
        for error in [ProposeError::NotLeader(None), ProposeError::Unknown] {
            let (reply, mut answer) = oneshot::channel();
            super::answer(&core, vec![Slot::Submit { commands: 1, reply }], Err(error));
            assert_eq!(answer.try_recv().unwrap(), Err(ShardError::Unknown));
        }
    }
}
