//! The node's log engine as one group's Raft log.
//!
//! The library awaits these calls in the group's core, and a wait for the disk there would stall its
//! heartbeats. So nothing here waits for a sync except `save_vote`, which must; and entries that are not in
//! memory any more are read on another thread, while the core of no other group has to wait.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};

use bytes::Bytes;
use flotilla_probe::{failable, failpoint, planted};
use flotilla_storage::log::GroupLog;
use openraft::RaftLogReader;
use openraft::storage::{IOFlushed, LogState, RaftLogStorage};
use tokio::sync::oneshot;

use crate::codec;
use crate::off_thread::OffThread;
use crate::types::{Entry, LogId, TypeConfig, Vote};

/// What one read for replication may return. Followers that lag far behind are fed in steps of
/// this size.
const REPLICATION_READ_BYTES_MAX: usize = 2 * 1024 * 1024;

/// See the module. Clones share the log.
#[derive(Clone)]
pub(crate) struct LogStore {
    log: GroupLog,
    node: u64,
    off_thread: OffThread,
}

impl LogStore {
    pub(crate) fn new(log: GroupLog, node: u64, off_thread: OffThread) -> Self {
        Self { log, node, off_thread }
    }

    async fn entries(&self, from: u64, to: u64, bytes_max: usize) -> io::Result<Vec<Entry>> {
        let decode = |bytes| codec::decode_entry(bytes).map_err(|e| codec::invalid("log entry", e));
        let found = match self.log.read_in_memory(from, to, bytes_max)? {
            Some(found) => found,
            None => {
                let log = self.log.clone();
                self.off_thread.run(move || log.read(from, to, bytes_max)).await??
            }
        };
        found.into_iter().map(decode).collect()
    }

    fn bounds(&self, range: impl RangeBounds<u64>) -> (u64, u64) {
        let state = self.log.state();
        let from = match range.start_bound() {
            Bound::Included(from) => *from,
            Bound::Excluded(before) => before + 1,
            Bound::Unbounded => 0,
        };
        let to = match range.end_bound() {
            Bound::Included(last) => last + 1,
            Bound::Excluded(to) => *to,
            Bound::Unbounded => u64::MAX,
        };
        (from.max(state.first), to.min(state.next))
    }
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + Send>(
        &mut self,
        range: RB,
    ) -> io::Result<Vec<Entry>> {
        let (mut from, to) = self.bounds(range);
        let mut entries = Vec::new();
        while from < to {
            let part = self.entries(from, to, REPLICATION_READ_BYTES_MAX).await?;
            if part.is_empty() {
                return Err(codec::invalid("log", format!("entry {from} is missing")));
            }
            from += part.len() as u64;
            entries.extend(part);
        }
        Ok(entries)
    }

    async fn entries_stream<RB>(
        &mut self,
        range: RB,
    ) -> impl futures::Stream<Item = io::Result<Entry>> + Send
    where
        RB: RangeBounds<u64> + Clone + Debug + Send,
    {
        let (from, to) = self.bounds(range);
        let store = self.clone();
        // In chunks: a replica that comes back far behind must not load its whole log at once.
        let chunks = futures::stream::unfold((from, store), move |(from, store)| async move {
            if from >= to {
                return None;
            }
            let chunk = store.entries(from, to, REPLICATION_READ_BYTES_MAX).await;
            let (next, items) = match chunk {
                Ok(chunk) if chunk.is_empty() => {
                    let missing = codec::invalid("log", format!("entry {from} is missing"));
                    (to, vec![Err(missing)])
                }
                Ok(chunk) => (from + chunk.len() as u64, chunk.into_iter().map(Ok).collect()),
                Err(error) => (to, vec![Err(error)]),
            };
            Some((futures::stream::iter(items), (next, store)))
        });
        Box::pin(futures::StreamExt::flatten(chunks))
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        let vote = self.log.state().vote.map(codec::decode_vote).transpose();
        vote.map_err(|error| codec::invalid("vote", error))
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        let (from, to) = self.bounds(start..end);
        // What was cut since the library chose the range is not skipped: entries must follow the one
        // before `start`. The follower gets a snapshot; `network` ends the stream of which nothing is left.
        let is_cut = || self.log.state().first > start;
        if is_cut() || from >= to {
            return Ok(Vec::new());
        }
        match self.entries(from, to, REPLICATION_READ_BYTES_MAX).await {
            // Cut while another thread was to read it.
            Err(_) if is_cut() => Ok(Vec::new()),
            read => read,
        }
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> io::Result<LogState<TypeConfig>> {
        let state = self.log.state();
        let purged = state.purged.map(|(_, id)| codec::decode_log_id(id)).transpose();
        let last_purged_log_id = purged.map_err(|error| codec::invalid("purge point", error))?;
        let last_log_id: Option<LogId> = if state.next > state.first {
            let last = self.entries(state.next - 1, state.next, 1).await?.pop();
            let last = last.ok_or_else(|| codec::invalid("log", "the last entry is missing"))?;
            Some(last.log_id)
        } else {
            last_purged_log_id
        };
        Ok(LogState { last_purged_log_id, last_log_id })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        failable!(VoteSave)?;
        if planted!(VoteNotSaved) {
            return Ok(());
        }
        let (tx, rx) = oneshot::channel();
        let done = Box::new(move |result| {
            // The group may have been shut down meanwhile; then nobody waits.
            let _ = tx.send(result);
        });
        self.log.save_vote(codec::encode_vote(vote), done);
        let saved = rx.await;
        failpoint!(VoteSaved);
        saved.unwrap_or_else(|_| Err(io::Error::other("the log writer stopped")))
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> io::Result<()> {
        failable!(CommittedSave)?;
        if let Some(id) = committed {
            self.log.save_committed(codec::encode_log_id(&id));
        }
        Ok(())
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogId>> {
        let committed = self.log.state().committed.map(codec::decode_log_id).transpose();
        committed.map_err(|error| codec::invalid("committed point", error))
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + Send,
        I::IntoIter: Send,
    {
        failable!(Append)?;
        let (mut first, mut by) = (None, 0);
        let encode = |entry: Entry| {
            first.get_or_insert(entry.log_id.index);
            by = entry.log_id.leader_id.node_id;
            codec::encode_entry(&entry)
        };
        let encoded: Vec<Bytes> = entries.into_iter().map(encode).collect();
        let Some(first) = first else {
            callback.io_completed(Ok(()));
            return Ok(());
        };
        if planted!(SyncOnLeaderOnly) && by != self.node {
            callback.io_completed(Ok(()));
            self.log.append(first, encoded, Box::new(drop));
            return Ok(());
        }
        self.log.append(first, encoded, Box::new(move |result| callback.io_completed(result)));
        Ok(())
    }

    async fn truncate_after(&mut self, last_log_id: Option<LogId>) -> io::Result<()> {
        self.log.truncate_from(last_log_id.map_or(0, |id| id.index + 1));
        Ok(())
    }

    async fn purge(&mut self, log_id: LogId) -> io::Result<()> {
        failable!(Purge)?;
        self.log.purge_to(log_id.index, codec::encode_log_id(&log_id));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use flotilla_storage::disk::Machine;
    use flotilla_storage::log::{Engine, LogOptions};
    use flotilla_types::ids::GroupId;
    use futures::FutureExt as _;
    use openraft::EntryPayload;
    use openraft::impls::leader_id_adv::LeaderId;

    use super::*;

    fn store_on_disk(dir: &std::path::Path) -> (Engine, LogStore) {
        let options = LogOptions { cache_bytes: 0, ..LogOptions::default() };
        let fail = Box::new(|error: &io::Error| panic!("{error}"));
        let (engine, _) = Engine::open(dir, options, fail).unwrap();
        let log = engine.group(GroupId(3));
        let entry = |index| {
            let leader_id = LeaderId { term: 1, node_id: 1 };
            Entry { log_id: LogId { leader_id, index }, payload: EntryPayload::Blank }
        };
        let entries = (1..=9).map(|index| codec::encode_entry(&entry(index))).collect();
        log.append(1, entries, Box::new(|result| result.unwrap()));
        // Until they are on disk they are in memory.
        while log.read_in_memory(1, 10, usize::MAX).unwrap().is_some() {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        (engine, LogStore::new(log, 0, OffThread::for_disk(&Machine)))
    }

    /// With one thread for what waits.
    fn runtime() -> tokio::runtime::Runtime {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.max_blocking_threads(1).enable_time().build().unwrap()
    }

    /// That thread does nothing else until it is told to go on.
    fn occupy() -> std::sync::mpsc::Sender<()> {
        let (go_on, wait) = std::sync::mpsc::channel();
        tokio::task::spawn_blocking(move || wait.recv());
        go_on
    }

    /// While nobody works off what was handed to other threads, nothing is read.
    #[test]
    fn entries_that_are_not_in_memory_are_read_on_another_thread() {
        let runtime = runtime();
        let dir = tempfile::tempdir().unwrap();
        let (_engine, mut store) = store_on_disk(dir.path());
        runtime.block_on(async {
            let go_on = occupy();
            let mut other = store.clone();
            let mut read = other.limited_get_log_entries(1, 10).boxed();
            let stream = store.entries_stream(1..10).await;
            let mut chunks = futures::StreamExt::collect::<Vec<_>>(stream).boxed();
            assert!((&mut read).now_or_never().is_none());
            assert!((&mut chunks).now_or_never().is_none());
            go_on.send(()).unwrap();
            assert_eq!(read.await.unwrap().len(), 9);
            assert_eq!(chunks.await.len(), 9);
        });
    }

    /// The library took the error for one of the disk, and the node ended.
    #[test]
    fn what_is_cut_while_it_is_to_be_read_is_not_there() {
        let runtime = runtime();
        let dir = tempfile::tempdir().unwrap();
        let (_engine, mut store) = store_on_disk(dir.path());
        runtime.block_on(async {
            let go_on = occupy();
            let log = store.log.clone();
            let mut read = store.limited_get_log_entries(1, 10).boxed();
            assert!((&mut read).now_or_never().is_none());
            log.purge_to(4, bytes::Bytes::new());
            go_on.send(()).unwrap();
            assert_eq!(read.await.unwrap(), []);
            let rest = store.limited_get_log_entries(5, 10).await.unwrap();
            assert_eq!(rest.len(), 5);
        });
    }
}
