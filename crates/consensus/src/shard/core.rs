//! What applying and reserving share, under one short lock that is never held over an await.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use flotilla_probe::{failable, failpoint, planted};
use flotilla_queue::QueueCounts;
use flotilla_queue::command::Command;
use flotilla_queue::effect::Effect;
use flotilla_queue::machine::Machine;
use flotilla_queue::ready::{Noise, ReadyWindow, Wanted};
use flotilla_queue::store::Read as _;
use flotilla_storage::state::GroupState;
use flotilla_types::clock::Clock;
use flotilla_types::ids::{GroupId, GroupKey, QueueId, Seq};
use flotilla_wire::command::decode_batch;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;

use super::alarms::{Alarms, Earliest};
use super::{Backlog, BusyPiece, ReceiveSpec, Reserved, ShardEvents, ShardNoise, ShardTenants};
use crate::codec::invalid;
use crate::state_machine::Application;
use crate::types::Answer;

/// What a new leader may have to apply before it serves is what one shard commits in this time.
const FOLLOWER_PATIENCE: Duration = Duration::from_millis(25);

/// What a look for messages came to.
pub(crate) enum Look {
    /// These, until they are settled.
    Found(Reserved),
    /// No more now than the `held` ones that are reserved already, by anybody.
    Nothing { held: usize },
    /// This replica does not lead, or has not been told yet: it does not know.
    NotLeading,
}

pub(crate) struct Core {
    group: GroupId,
    clock: Arc<dyn Clock>,
    events: Arc<dyn ShardEvents>,
    /// Rings when the earliest alarm may have changed.
    pub(crate) alarm_changed: Notify,
    /// When that one is due, for who looks without the lock.
    earliest: Arc<Earliest>,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    /// `None` until the replica was loaded.
    machine: Option<Machine>,
    leading: Option<Leading>,
    /// Counts leaderships, so that a reservation of an earlier one is recognised.
    epoch: u64,
    /// Reused from batch to batch.
    effects: Vec<Effect>,
}

/// What a replica holds only while it leads.
struct Leading {
    window: ReadyWindow,
    alarms: Alarms,
}

impl Core {
    pub(crate) fn new(group: GroupId, clock: Arc<dyn Clock>, events: Arc<dyn ShardEvents>) -> Self {
        let (alarm_changed, earliest) = (Notify::new(), Arc::default());
        Self { group, clock, events, alarm_changed, earliest, inner: Mutex::default() }
    }

    pub(crate) fn now_ms(&self) -> u64 {
        self.clock.now_ms()
    }

    /// A new leadership begins: nothing of an earlier one counts any more.
    pub(crate) fn lead(&self) {
        failpoint!(Lead);
        let mut inner = self.inner.lock();
        inner.epoch += 1;
        let alarms = Alarms::new(self.earliest.clone());
        inner.leading = Some(Leading { window: ReadyWindow::new(), alarms });
        // Whoever waited at the old leader waits here now.
        let queues: Vec<_> = inner.machine().queues().map(|(queue, _)| queue).collect();
        // Or the shard would stand still until this node's clock has caught up.
        self.clock.at_least(inner.machine().clock_ms());
        let now_ms = self.now_ms();
        for queue in queues {
            if self.events.awaited(queue) && !planted!(WakeLostWithLeader) {
                self.announce(&mut inner, queue, now_ms);
            }
        }
    }

    pub(crate) fn follow(&self) {
        self.inner.lock().leading = None;
    }

    /// Looks for messages that can be received now.
    pub(crate) fn reserve(&self, state: &GroupState, spec: &ReceiveSpec) -> io::Result<Look> {
        let now_ms = self.now_ms();
        let mut inner = self.inner.lock();
        loop {
            let Inner { machine: Some(machine), leading: Some(leading), epoch, .. } = &mut *inner
            else {
                return Ok(Look::NotLeading);
            };
            let epoch = *epoch;
            let ReceiveSpec { queue, retention_ms, max, quiet_only, to_move, .. } = *spec;
            if let Some(key) = spec.attempt
                && let Some(mut seqs) =
                    machine.attempted(queue, key, retention_ms, now_ms, state)?
            {
                seqs.truncate(max);
                let fresh_from = Seq(0);
                return Ok(Look::Found(Reserved { epoch, seqs, fresh_from, again: true }));
            }
            if spec.only_again {
                return Ok(Look::Nothing { held: 0 });
            }
            let receives_max = spec.redrive.as_ref().map(|redrive| redrive.receives_max);
            let wanted = Wanted { max, now_ms, quiet_only, to_move, receives_max };
            let reservation = leading.window.reserve(machine, state, queue, wanted)?;
            let (seqs, fresh_from) = (reservation.seqs, reservation.fresh_from);
            if !seqs.is_empty() {
                return Ok(Look::Found(Reserved { epoch, seqs, fresh_from, again: false }));
            }
            // Whoever wants only quiet tenants' messages has others to fall back on, and comes again.
            if !reservation.unfinished || quiet_only {
                return Ok(Look::Nothing { held: leading.window.reserved(queue) });
            }
            // The search is bounded so that what other threads do with the shard has its turn.
            MutexGuard::bump(&mut inner);
        }
    }

    /// Ends reservations whose outcome is known. All but the `gone` ones can be received again.
    pub(crate) fn settle(&self, queue: QueueId, reserved: &Reserved, gone: usize) {
        let mut inner = self.inner.lock();
        let Inner { machine: Some(machine), leading: Some(leading), epoch, .. } = &mut *inner
        else {
            return;
        };
        if *epoch != reserved.epoch || reserved.again {
            return;
        }
        leading.window.settle(machine, queue, &reserved.seqs);
        let back = reserved.seqs.len() - gone.min(reserved.seqs.len());
        if back > 0 && self.events.awaited(queue) {
            self.events.available(self.group, queue, back);
        }
    }

    pub(crate) fn arm(&self, queue: QueueId) -> Option<usize> {
        let now_ms = self.now_ms();
        let mut inner = self.inner.lock();
        inner.leading.as_ref()?;
        self.set_alarm(&mut inner, queue, now_ms);
        Some(inner.machine().counts(queue, now_ms).visible as usize)
    }

    pub(crate) fn next_alarm_ms(&self) -> Option<u64> {
        self.earliest.at_ms()
    }

    /// Announces the queues whose alarm is due; takes no lock when none is.
    pub(crate) fn ring(&self) {
        let Some(first_ms) = self.next_alarm_ms() else { return };
        let now_ms = self.now_ms();
        if first_ms > now_ms {
            return;
        }
        let mut inner = self.inner.lock();
        while let Some(queue) =
            inner.leading.as_mut().and_then(|leading| leading.alarms.pop_due(now_ms))
        {
            if self.events.awaited(queue) {
                self.announce(&mut inner, queue, now_ms);
            }
        }
    }

    pub(crate) fn counts(&self, queue: QueueId) -> QueueCounts {
        let now_ms = self.now_ms();
        self.inner.lock().machine().counts(queue, now_ms)
    }

    pub(crate) fn delayed(&self, queue: QueueId) -> Vec<Seq> {
        let now_ms = self.now_ms();
        self.inner.lock().machine().delayed(queue, now_ms)
    }

    pub(crate) fn backlog(&self, queue: QueueId) -> Backlog {
        let now_ms = self.now_ms();
        let inner = self.inner.lock();
        let visible = inner.machine().counts(queue, now_ms).visible;
        let leading = inner.leading.as_ref();
        Backlog { visible, noisy: leading.is_some_and(|leading| leading.window.is_noisy(queue)) }
    }

    pub(crate) fn next_seq(&self) -> Seq {
        self.inner.lock().machine().next_seq()
    }

    pub(crate) fn busy_after(&self, after: Option<QueueId>, limit: usize) -> BusyPiece {
        let now_ms = self.now_ms();
        let mut inner = self.inner.lock();
        match &mut inner.machine {
            Some(machine) => machine.busy_after(after, limit, now_ms),
            None => (Vec::new(), None),
        }
    }

    pub(crate) fn messages(&self) -> u64 {
        self.inner.lock().machine().messages()
    }

    pub(crate) fn set_noisy(&self, queue: QueueId, groups: &[GroupKey]) {
        let mut inner = self.inner.lock();
        let Inner { machine: Some(machine), leading: Some(leading), .. } = &mut *inner else {
            return;
        };
        leading.window.set_noisy(machine, queue, groups);
    }

    pub(crate) fn tenants(&self, queue: QueueId, part: u64) -> ShardTenants {
        let now_ms = self.now_ms();
        let inner = self.inner.lock();
        let Some(leading) = &inner.leading else { return ShardTenants::default() };
        let noisy = leading.window.noisy(queue).into_iter();
        let noisy =
            noisy.map(|(group, waits)| (inner.machine().share(queue, group, now_ms), waits));
        ShardTenants { shares: inner.machine().shares(queue, part, now_ms), noisy: noisy.collect() }
    }

    pub(crate) fn noise(
        &self,
        state: &GroupState,
        queue: QueueId,
    ) -> io::Result<Option<ShardNoise>> {
        let now_ms = self.now_ms();
        let inner = self.inner.lock();
        let Some(leading) = &inner.leading else { return Ok(None) };
        let Some(noise) = leading.window.noise(inner.machine(), queue, now_ms) else {
            return Ok(None);
        };
        let Noise { groups, visible, in_flight, delayed, oldest_quiet } = noise;
        let oldest = match oldest_quiet {
            Some(seq) => state.message(queue, seq)?,
            None => None,
        };
        Ok(Some(ShardNoise {
            groups,
            counts: QueueCounts { visible, in_flight, delayed },
            oldest_quiet_ms: oldest.map(|message| message.entered_ms()),
        }))
    }

    pub(crate) fn groups_in_flight(&self, queue: QueueId) -> u64 {
        let now_ms = self.now_ms();
        self.inner.lock().machine().groups_in_flight(queue, now_ms)
    }

    pub(crate) fn queues_after(&self, after: Option<QueueId>, limit: usize) -> Vec<QueueId> {
        self.inner.lock().machine().queues_after(after, limit)
    }

    pub(crate) fn oldest_entered_ms(
        &self,
        state: &GroupState,
        queue: QueueId,
    ) -> io::Result<Option<u64>> {
        let mut inner = self.inner.lock();
        let Some(machine) = &mut inner.machine else { return Ok(None) };
        Ok(machine.oldest_of_backlog(queue, state)?.map(|head| head.entered_ms))
    }

    pub(crate) fn may_expire(
        &self,
        state: &GroupState,
        queue: QueueId,
        retention_ms: u64,
    ) -> io::Result<bool> {
        let now_ms = self.now_ms();
        let mut inner = self.inner.lock();
        let Some(machine) = &mut inner.machine else { return Ok(false) };
        machine.may_expire(queue, retention_ms, now_ms, state)
    }

    pub(crate) fn check(&self, state: &GroupState) -> io::Result<Option<String>> {
        let inner = self.inner.lock();
        let Some(machine) = &inner.machine else { return Ok(None) };
        machine.check(state)
    }

    fn announce(&self, inner: &mut Inner, queue: QueueId, now_ms: u64) {
        let visible = inner.machine().counts(queue, now_ms).visible as usize;
        if visible > 0 {
            self.events.available(self.group, queue, visible);
        }
        self.set_alarm(inner, queue, now_ms);
    }

    fn set_alarm(&self, inner: &mut Inner, queue: QueueId, now_ms: u64) {
        let Some(at_ms) = inner.machine().next_visible_at_ms(queue, now_ms) else { return };
        let Some(leading) = &mut inner.leading else { return };
        if leading.alarms.set(queue, at_ms) {
            self.alarm_changed.notify_one();
        }
    }

    /// Tells the window, the waiters and the alarms what a batch changed.
    fn observe(&self, inner: &mut Inner) {
        let Inner { machine: Some(machine), leading: Some(leading), effects, .. } = inner else {
            return;
        };
        leading.window.observe(effects);
        let clock_ms = machine.clock_ms();
        let mut run: Option<(QueueId, usize)> = None;
        for effect in effects.iter() {
            let queue = match *effect {
                Effect::Arrived { queue, .. } => queue,
                Effect::VisibleAt { queue, at_ms, .. } if at_ms <= clock_ms => queue,
                Effect::VisibleAt { queue, at_ms, .. } => {
                    if self.events.awaited(queue) && leading.alarms.set(queue, at_ms) {
                        self.alarm_changed.notify_one();
                    }
                    continue;
                }
                // Whatever was behind it in its group.
                Effect::Freed { queue, .. } => queue,
                Effect::Gone { .. } | Effect::Cleared { .. } => continue,
            };
            match &mut run {
                Some((same, count)) if *same == queue => *count += 1,
                _ => {
                    self.tell(run.replace((queue, 1)));
                }
            }
        }
        self.tell(run);
    }

    fn tell(&self, run: Option<(QueueId, usize)>) {
        if let Some((queue, count)) = run
            && self.events.awaited(queue)
        {
            self.events.available(self.group, queue, count);
        }
    }
}

impl Inner {
    fn machine(&self) -> &Machine {
        self.machine.as_ref().expect("a replica is loaded before it runs")
    }
}

impl Application for Core {
    fn apply(
        &self,
        state: &GroupState,
        commands: Bytes,
        applied: &[u8],
        answered: bool,
    ) -> io::Result<Answer> {
        failable!(Apply)?;
        let mut batch =
            decode_batch(commands).map_err(|error| invalid("batch of commands", error))?;
        if planted!(LeasesOnLeaderOnly) && !answered {
            batch.commands.retain(|it| !matches!(it.command, Command::Receive(_)));
        }
        if planted!(ClockOfReplica) {
            batch.now_ms = self.now_ms();
        }
        let mut write = state.batch();
        // Held until the rows are committed: a reserve in between would look for messages that
        // the machine counts and the store does not show yet.
        let mut inner = self.inner.lock();
        let Inner { machine: Some(machine), effects, .. } = &mut *inner else {
            return Err(io::Error::other("applied to a replica that was not loaded"));
        };
        effects.clear();
        let replies = machine.apply(&batch, state, &mut write, effects)?;
        write.put_applied(applied);
        state.commit(write)?;
        failpoint!(Applied);
        self.observe(&mut inner);
        Ok(if answered { Answer::of(replies) } else { Answer::none() })
    }

    /// Nobody asks a follower of a shard for anything.
    fn follower_patience(&self) -> Duration {
        FOLLOWER_PATIENCE
    }

    fn reload(&self, state: &GroupState) -> io::Result<()> {
        let machine = Machine::load(state)?;
        let mut inner = self.inner.lock();
        inner.machine = Some(machine);
        inner.leading = None;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use flotilla_queue::command::{Batch, Identified, Placing, Receive, Send};
    use flotilla_queue::store::Hidden;
    use flotilla_storage::state::{StateDb, StateOptions};
    use flotilla_types::ids::MessageId;
    use flotilla_wire::command::encode_batch;

    use super::*;

    const QUEUE: QueueId = QueueId(1);
    const STAMP_MS: u64 = 1_000_000;

    struct At(u64);

    impl Clock for At {
        fn now_ms(&self) -> u64 {
            self.0
        }
    }

    struct Nobody;

    impl ShardEvents for Nobody {
        fn awaited(&self, _queue: QueueId) -> bool {
            false
        }

        fn available(&self, _shard: GroupId, _queue: QueueId, _count: usize) {}
    }

    fn send(delay_ms: u64) -> Command {
        Command::Send(Send {
            queue: QUEUE,
            message_id: MessageId([1; 16]),
            delay_ms,
            group: None,
            dedup: None,
            placing: Placing::default(),
            content: Bytes::from_static(b"content"),
        })
    }

    fn receive(seq: Seq) -> Command {
        Command::Receive(Receive {
            queue: QUEUE,
            candidates: vec![seq],
            visibility_ms: 30_000,
            retention_ms: 60_000,
            fresh_from: Seq(0),
            redrive: None,
            attempt: None,
            bytes_max: u64::MAX,
        })
    }

    /// What a replica holds whose clock shows this when it applies the entries.
    fn held(now_ms: u64, answered: bool) -> Vec<(Seq, Hidden)> {
        let dir = tempfile::tempdir().unwrap();
        let db = StateDb::open(dir.path(), StateOptions::default()).unwrap();
        let state = db.group(GroupId(1)).unwrap();
        let core = Core::new(GroupId(1), Arc::new(At(now_ms)), Arc::new(Nobody));
        core.reload(&state).unwrap();
        for commands in [vec![send(5_000), send(0)], vec![receive(Seq(1))]] {
            let identified = |command| Identified { id: None, command };
            let commands = commands.into_iter().map(identified).collect();
            let batch = Batch { now_ms: STAMP_MS, commands };
            core.apply(&state, encode_batch(&batch), b"", answered).unwrap();
        }
        state.hidden_rows(QUEUE).unwrap()
    }

    struct Ticking(AtomicU64);

    impl Clock for Ticking {
        fn now_ms(&self) -> u64 {
            self.0.load(Ordering::Relaxed)
        }
    }

    /// Waits for everything, and counts what it is told of.
    #[derive(Default)]
    struct Somebody(AtomicU64);

    impl ShardEvents for Somebody {
        fn awaited(&self, _queue: QueueId) -> bool {
            true
        }

        fn available(&self, _shard: GroupId, _queue: QueueId, count: usize) {
            self.0.fetch_add(count as u64, Ordering::Relaxed);
        }
    }

    /// The owner rings in each turn, whatever else it has to do.
    #[test]
    fn ringing_tells_of_what_is_due_and_takes_no_lock_before() {
        let dir = tempfile::tempdir().unwrap();
        let db = StateDb::open(dir.path(), StateOptions::default()).unwrap();
        let state = db.group(GroupId(1)).unwrap();
        let (clock, told) =
            (Arc::new(Ticking(AtomicU64::new(STAMP_MS))), Arc::new(Somebody::default()));
        let core = Core::new(GroupId(1), clock.clone(), told.clone());
        core.reload(&state).unwrap();
        core.lead();
        assert_eq!(core.next_alarm_ms(), None);
        for delay_ms in [7_000, 5_000] {
            let commands = vec![Identified { id: None, command: send(delay_ms) }];
            let batch = Batch { now_ms: STAMP_MS, commands };
            core.apply(&state, encode_batch(&batch), b"", true).unwrap();
        }
        let first_ms = STAMP_MS + 5_000;
        assert_eq!(core.next_alarm_ms(), Some(first_ms));
        {
            let _inner = core.inner.lock();
            core.ring();
        }
        let told = || told.0.load(Ordering::Relaxed);
        assert_eq!(told(), 0);
        clock.0.store(first_ms, Ordering::Relaxed);
        core.ring();
        assert_eq!(told(), 1);
        assert_eq!(core.next_alarm_ms(), Some(STAMP_MS + 7_000));
        core.follow();
        assert_eq!(core.next_alarm_ms(), None);
    }

    /// A follower may apply an entry long after it was proposed, and a node that starts again does.
    #[test]
    fn what_is_applied_does_not_depend_on_when_and_where() {
        let leader = held(STAMP_MS, true);
        assert_eq!(leader.len(), 2);
        for now_ms in [0, STAMP_MS, STAMP_MS + 10_000, STAMP_MS + 1_000_000] {
            assert_eq!(held(now_ms, false), leader);
        }
    }

    /// It was answered like an empty queue by one that did not know that it led, and would have brought what it
    /// applied before.
    #[test]
    fn who_has_not_been_told_that_it_leads_does_not_know_of_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let db = StateDb::open(dir.path(), StateOptions::default()).unwrap();
        let state = db.group(GroupId(1)).unwrap();
        let core = Core::new(GroupId(1), Arc::new(At(STAMP_MS)), Arc::new(Nobody));
        core.reload(&state).unwrap();
        let commands = vec![Identified { id: None, command: send(0) }];
        let batch = Batch { now_ms: STAMP_MS, commands };
        core.apply(&state, encode_batch(&batch), b"", true).unwrap();
        let spec = ReceiveSpec {
            queue: QUEUE,
            max: 10,
            visibility_ms: 0,
            retention_ms: 60_000,
            redrive: None,
            attempt: None,
            only_again: false,
            quiet_only: false,
            bytes_max: usize::MAX,
            to_move: false,
        };
        assert!(matches!(core.reserve(&state, &spec).unwrap(), Look::NotLeading));
        core.lead();
        let found = core.reserve(&state, &spec).unwrap();
        assert!(matches!(found, Look::Found(Reserved { seqs, .. }) if seqs == [Seq(0)]));
        let nothing = core.reserve(&state, &spec).unwrap();
        assert!(matches!(nothing, Look::Nothing { held: 1 }));
        core.follow();
        assert!(matches!(core.reserve(&state, &spec).unwrap(), Look::NotLeading));
    }
}
