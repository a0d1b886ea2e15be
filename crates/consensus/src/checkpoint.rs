//! Makes the state durable and cuts the logs behind it.
//!
//! The library's own policy does not cut: it counts entries and not bytes, and what somebody else
//! asked it to cut, and it has put off, it takes for a cut of its own. So it hears what is durable
//! (a snapshot, as it calls that), and is asked to cut once it knows.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use flotilla_probe::{failpoint, planted};
use flotilla_storage::state::StateDb;
use openraft::async_runtime::watch::WatchReceiver as _;
use openraft::errors::Fatal;
use parking_lot::{Mutex, MutexGuard};
use tokio::time::Instant;

use crate::group::Group;
use crate::off_thread::OffThread;
use crate::state_machine::durable_meta;
use crate::types::{LogId, TypeConfig};

/// All replicas have heard of what is durable by then. One that has not, because it waits for its disk, is cut
/// behind what it had heard of before.
const HEARD_WITHIN: Duration = Duration::from_secs(2);
/// A cut by the number of entries takes so many if more than that stay: each cut is written to the log.
const CUT_ENTRIES_MIN: u64 = 512;
/// After a snapshot has arrived, until the first entries behind it are on their way.
const HOLD_ON: Duration = Duration::from_secs(5);
/// A snapshot that is on its way lets the logs become so many times as long as they should be, and so long in any case.
const HELD_TIMES_MAX: u64 = 4;
const HELD_BYTES_MIN: u64 = 512 << 20;

/// What stays of the log behind the durable state, so that a short absence of a follower costs a
/// piece of log instead of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeepLog {
    /// Entries of each group, about.
    pub entries: u64,
    /// Payload bytes of all groups together, about: fewer entries, where they are large.
    pub bytes: u64,
}

impl KeepLog {
    /// Payload bytes of all groups' logs behind the durable state, at most, about: as long as snapshots are on their
    /// way what comes after these stays, too.
    pub fn bytes_max(self) -> u64 {
        self.bytes.saturating_mul(HELD_TIMES_MAX).max(HELD_BYTES_MIN)
    }

    /// Where to cut a log from `first` on of whose entries those up to `durable` are not needed here any more.
    /// Without those up to `beyond` the log has no more than its share of the bytes.
    fn last_to_cut(self, first: u64, durable: u64, beyond: Option<u64>) -> Option<u64> {
        let batch = self.entries.clamp(1, CUT_ENTRIES_MIN);
        // The first entry that stays.
        let by_entries = (durable + 1).saturating_sub(self.entries);
        let by_entries = (by_entries >= first + batch).then(|| by_entries - 1);
        by_entries.max(beyond).map(|last| last.min(durable)).filter(|last| *last >= first)
    }
}

/// The share of each log, so that all of them have no more than `total`: who needs less leaves the rest to the others.
fn share(total: u64, logs: impl Iterator<Item = u64>) -> u64 {
    let mut logs: Vec<u64> = logs.collect();
    logs.sort_unstable();
    let mut rest = total;
    for (smaller, bytes) in logs.iter().enumerate() {
        let share = rest / (logs.len() - smaller) as u64;
        if *bytes > share {
            return share;
        }
        rest -= bytes;
    }
    u64::MAX
}

/// What keeps a group's log from being cut.
#[derive(Debug, Default)]
pub(crate) struct Cutting {
    /// The first entry behind the last cut that was asked for.
    asked: AtomicU64,
    /// Positions of snapshots that are on their way from here, and when they had arrived.
    held: Mutex<BTreeMap<u64, (u64, Option<Instant>)>>,
    /// What was held kept the last checkpoint from cutting.
    put_off: AtomicBool,
}

impl Cutting {
    /// Keeps what comes after a snapshot's position until its receiver asks for that. Were it cut meanwhile, the
    /// receiver would need another snapshot, and if state comes in faster than that is sent, for ever.
    pub(crate) fn hold(self: &Arc<Self>, position: u64) -> Hold {
        // Where no checkpoint is due nobody else looks, and who cannot be reached is tried again and again.
        let mut held = self.still_held(Instant::now());
        let number = held.last_key_value().map_or(0, |(last, _)| last + 1);
        held.insert(number, (position, None));
        Hold { cutting: self.clone(), number }
    }

    fn still_held(&self, now: Instant) -> MutexGuard<'_, BTreeMap<u64, (u64, Option<Instant>)>> {
        let mut held = self.held.lock();
        held.retain(|_, (_, arrived)| arrived.is_none_or(|at| now < at + HOLD_ON));
        held
    }

    /// The last entry that may be cut.
    fn held_behind(&self, now: Instant) -> Option<u64> {
        self.still_held(now).values().map(|(position, _)| *position).min()
    }

    /// Whether there is something to cut that was held and is not any more.
    pub(crate) fn is_due(&self, low_on_space: bool) -> bool {
        self.put_off.load(Ordering::Relaxed)
            && (low_on_space || self.held_behind(Instant::now()).is_none())
    }

    /// Whether a cut may be asked for. While the library has put off one, since a follower takes the entries in
    /// question, asking for more makes it wait for more: behind a busy follower, for ever.
    fn may_ask(&self, first: u64) -> bool {
        self.asked.load(Ordering::Relaxed) <= first
    }
}

/// See [`Cutting::hold`].
pub(crate) struct Hold {
    cutting: Arc<Cutting>,
    number: u64,
}

impl Drop for Hold {
    fn drop(&mut self) {
        if let Some((_, arrived)) = self.cutting.held.lock().get_mut(&self.number) {
            *arrived = Some(Instant::now());
        }
    }
}

/// See [`Host::checkpoint`](crate::host::Host::checkpoint).
pub(crate) async fn checkpoint(
    db: &StateDb,
    off_thread: OffThread,
    groups: Vec<Group>,
    keep: KeepLog,
    low_on_space: bool,
) -> io::Result<()> {
    if !planted!(CutBeforeFlush) {
        let db = db.clone();
        off_thread.run(move || db.flush()).await??;
    }
    failpoint!(Checkpoint);
    let db = db.clone();
    let with_position = move || {
        let mut positioned = Vec::with_capacity(groups.len());
        for group in groups {
            // A replica that never applied anything has no position to cut at.
            if let Some(durable) = durable_meta(&db, group.id())?.and_then(|meta| meta.last_log_id)
            {
                positioned.push((group, durable));
            }
        }
        io::Result::Ok(positioned)
    };
    let positioned = off_thread.run(with_position).await??;
    for (group, _) in &positioned {
        check(group, group.raft().trigger().snapshot().await);
    }
    let deadline = Instant::now() + HEARD_WITHIN;
    let mut heard = Vec::with_capacity(positioned.len());
    for (group, durable) in positioned {
        if let Some(position) = heard_by(&group, &durable, deadline).await {
            heard.push((group, position));
        }
    }
    let logs = || heard.iter().map(|(group, _)| group.log_bytes());
    let may_hold = !low_on_space && logs().sum::<u64>() < keep.bytes_max();
    let share = share(keep.bytes, logs());
    for (group, position) in heard {
        cut(&group, position, keep, share, may_hold).await;
    }
    Ok(())
}

/// The last entry that the library has heard to be durable; until the deadline it may hear of the one that is.
async fn heard_by(group: &Group, durable: &LogId, deadline: Instant) -> Option<u64> {
    let patience = deadline.saturating_duration_since(Instant::now());
    let wait = group.raft().wait(Some(patience));
    let _in_time =
        wait.metrics(|it| it.snapshot.as_ref() >= Some(durable), "a durable position").await;
    group.raft().metrics().borrow_watched().snapshot.map(|heard| heard.index)
}

async fn cut(group: &Group, heard: u64, keep: KeepLog, share: u64, may_hold: bool) {
    let cutting = group.cutting();
    let held = cutting.held_behind(Instant::now()).filter(|_| may_hold).unwrap_or(heard);
    let (first, beyond) = (group.log().state().first, group.log().last_beyond(share));
    let wanted = keep.last_to_cut(first, heard, beyond);
    cutting.put_off.store(wanted > Some(held), Ordering::Relaxed);
    let last = wanted.map(|last| last.min(held)).filter(|last| *last >= first);
    if let Some(last) = last.filter(|_| cutting.may_ask(first)) {
        cutting.asked.store(last + 1, Ordering::Relaxed);
        check(group, group.raft().trigger().purge_log(last).await);
    }
}

fn check(group: &Group, asked: Result<(), Fatal<TypeConfig>>) {
    if let Err(fatal) = asked {
        group.fatal(format!("the log cannot be cut: {fatal}"));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{Cutting, HOLD_ON, Instant, KeepLog, Ordering, share};

    #[test]
    fn cuts_by_entries_in_batches() {
        let cut = |entries, first, durable| {
            KeepLog { entries, bytes: 0 }.last_to_cut(first, durable, None)
        };
        assert_eq!(cut(2_000, 0, 1_000), None);
        assert_eq!(cut(2_000, 0, 2_510), None);
        assert_eq!(cut(2_000, 0, 2_511), Some(511));
        assert_eq!(cut(2_000, 512, 2_511), None);
        assert_eq!(cut(10, 0, 18), None);
        assert_eq!(cut(10, 0, 19), Some(9));
        assert_eq!(cut(0, 7, 7), Some(7));
        assert_eq!(cut(0, 8, 7), None);
        assert_eq!(cut(u64::MAX, 0, 1 << 40), None);
    }

    /// Two thousand messages of a megabyte in each shard stayed on the disk.
    #[test]
    fn cuts_by_bytes_at_once_and_not_beyond_what_is_durable() {
        let cut = |first, durable, beyond| {
            KeepLog { entries: 2_000, bytes: 0 }.last_to_cut(first, durable, Some(beyond))
        };
        assert_eq!(cut(5, 100, 5), Some(5));
        assert_eq!(cut(5, 100, 101), Some(100));
        assert_eq!(cut(0, 3_000, 10), Some(1_000));
        assert_eq!(cut(101, 100, 110), None);
    }

    #[test]
    fn a_log_that_needs_more_has_what_others_do_not_need() {
        assert_eq!(share(100, [10, 20, 30].into_iter()), u64::MAX);
        assert_eq!(share(100, [10, 20, 200].into_iter()), 70);
        assert_eq!(share(100, [200, 10, 90].into_iter()), 45);
        assert_eq!(share(90, [200, 100, 31].into_iter()), 30);
        assert_eq!(share(0, [1].into_iter()), 0);
        assert_eq!(share(100, [].into_iter()), u64::MAX);
    }

    /// A receiver whose snapshot took longer than what stays of the log got one after the other.
    #[test]
    fn what_follows_a_snapshot_stays_until_its_receiver_has_it() {
        let cutting = Arc::new(Cutting::default());
        let now = Instant::now();
        assert_eq!(cutting.held_behind(now), None);
        let first = cutting.hold(70);
        let second = cutting.hold(50);
        assert_eq!(cutting.held_behind(now), Some(50));
        drop(second);
        assert_eq!(cutting.held_behind(Instant::now()), Some(50));
        assert_eq!(cutting.held_behind(Instant::now() + HOLD_ON), Some(70));
        assert_eq!(cutting.held_behind(now + 100 * HOLD_ON), Some(70));
        drop(first);
        assert_eq!(cutting.held_behind(Instant::now() + HOLD_ON), None);
    }

    /// Once what was held is free nothing may be written any more that would make a checkpoint due.
    #[test]
    fn what_was_held_is_cut_when_it_is_free_or_room_is_short() {
        let cutting = Arc::new(Cutting::default());
        let hold = cutting.hold(70);
        assert!(!cutting.is_due(true));
        cutting.put_off.store(true, Ordering::Relaxed);
        assert!(!cutting.is_due(false));
        assert!(cutting.is_due(true));
        cutting.held.lock().clear();
        assert!(cutting.is_due(false));
        drop(hold);
    }

    #[test]
    fn snapshots_that_are_tried_again_and_again_leave_nothing() {
        let cutting = Arc::new(Cutting::default());
        let long_ago = Instant::now().checked_sub(HOLD_ON).unwrap();
        for number in 1..100 {
            drop(cutting.hold(number));
            assert_eq!(cutting.held.lock().len(), 1);
            cutting.held.lock().values_mut().for_each(|held| held.1 = Some(long_ago));
        }
    }

    #[test]
    fn nothing_more_is_asked_for_before_the_last_cut_is_made() {
        let cutting = Cutting::default();
        assert!(cutting.may_ask(0));
        cutting.asked.store(8, Ordering::Relaxed);
        assert!(!cutting.may_ask(7));
        assert!(cutting.may_ask(8));
    }
}
