//! Makes the state durable and cuts the logs behind it.
//!
//! The library's own policy does not cut: it counts entries and not bytes, and what somebody else
//! asked it to cut, and it has put off, it takes for a cut of its own. So it hears what is durable
//! (a snapshot, as it calls that), and is asked to cut once it knows.

use std::io;
use std::time::Duration;

use flotilla_probe::{failpoint, planted};
use flotilla_storage::state::StateDb;
use openraft::async_runtime::watch::WatchReceiver as _;
use openraft::errors::Fatal;
use tokio::time::Instant;

use crate::group::Group;
use crate::off_thread::OffThread;
use crate::state_machine::durable_meta;
use crate::types::{LogId, TypeConfig};

/// All replicas have heard of what is durable by then. One that has not, since its state store takes no
/// commits, is cut the next time.
const HEARD_WITHIN: Duration = Duration::from_secs(2);
/// A cut by the number of entries takes no fewer: each is written to the log.
const CUT_ENTRIES_MIN: u64 = 512;

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
    /// For each of so many groups.
    fn shared_by(self, groups: usize) -> Self {
        Self { bytes: self.bytes / groups.max(1) as u64, ..self }
    }

    /// Where to cut a log from `first` on of whose entries those up to `durable` are not needed here any more.
    /// Without those up to `beyond` the log has no more than its bytes.
    fn last_to_cut(self, first: u64, durable: u64, beyond: Option<u64>) -> Option<u64> {
        let batch = self.entries.clamp(1, CUT_ENTRIES_MIN);
        // The first entry that stays.
        let by_entries = (durable + 1).saturating_sub(self.entries);
        let by_entries = (by_entries >= first + batch).then(|| by_entries - 1);
        by_entries.max(beyond).map(|last| last.min(durable)).filter(|last| *last >= first)
    }
}

/// See [`Host::checkpoint`](crate::host::Host::checkpoint).
pub(crate) async fn checkpoint(
    db: &StateDb,
    off_thread: OffThread,
    groups: Vec<Group>,
    keep: KeepLog,
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
    let keep = keep.shared_by(positioned.len());
    let deadline = Instant::now() + HEARD_WITHIN;
    for (group, durable) in &positioned {
        cut(group, durable, keep, deadline).await;
    }
    Ok(())
}

/// Cuts behind what the library has heard to be durable; until the deadline it may hear of the position that is.
async fn cut(group: &Group, durable: &LogId, keep: KeepLog, deadline: Instant) {
    let patience = deadline.saturating_duration_since(Instant::now());
    let wait = group.raft().wait(Some(patience));
    let _in_time =
        wait.metrics(|it| it.snapshot.as_ref() >= Some(durable), "a durable position").await;
    let Some(heard) = group.raft().metrics().borrow_watched().snapshot else { return };
    let (first, beyond) = (group.log().state().first, group.log().last_beyond(keep.bytes));
    if let Some(last) = keep.last_to_cut(first, heard.index, beyond) {
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
    use super::KeepLog;

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
}
