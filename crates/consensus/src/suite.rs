//! The library's own storage suite, on the real log and the real store.
//!
//! A snapshot here is a position, and its bytes travel between stores by the links; the wrapper
//! below does what flush controller and links do, so that the suite can build, move and install.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use flotilla_storage::disk::Machine;
use flotilla_storage::log::{Engine, LogOptions};
use flotilla_storage::state::{GroupState, StateDb, StateOptions};
use flotilla_transport::{LocalIdentity, Transport};
use flotilla_types::ids::{GroupId, NodeId};
use futures::Stream;
use openraft::EntryPayload;
use openraft::impls::leader_id_adv::LeaderId;
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse};
use openraft::storage::{
    EntryResponder, RaftLogReader as _, RaftLogStorage as _, RaftSnapshotBuilder, RaftStateMachine,
    Snapshot,
};
use openraft::testing::log::{StoreBuilder, Suite};
use openraft::{ErrorSubject, ErrorVerb, StorageError};
use tempfile::TempDir;

use crate::codec;
use crate::group::Raft;
use crate::host::raft_config;
use crate::log_store::LogStore;
use crate::network::Network;
use crate::off_thread::OffThread;
use crate::snapshot;
use crate::state_machine::{
    Application, RaftSnapshot, SnapshotBuilder, SnapshotData, StateMachine,
};
use crate::types::{Answer, Entry, LogId, SnapshotMeta, StoredMembership, TypeConfig, Vote};

const GROUP: GroupId = GroupId(3);

/// Keeps nothing but the position.
struct Positions;

impl Application for Positions {
    fn apply(
        &self,
        state: &GroupState,
        _commands: Bytes,
        applied: &[u8],
        _answered: bool,
    ) -> io::Result<Answer> {
        let mut batch = state.batch();
        batch.put_applied(applied);
        state.commit(batch)?;
        Ok(Answer::none())
    }

    fn reload(&self, _state: &GroupState) -> io::Result<()> {
        Ok(())
    }
}

struct Flushing {
    inner: StateMachine,
    db: StateDb,
    state: GroupState,
}

struct FlushingBuilder {
    inner: SnapshotBuilder,
    db: StateDb,
}

impl RaftSnapshotBuilder<TypeConfig> for FlushingBuilder {
    type SnapshotData = SnapshotData;

    async fn build_snapshot(&mut self) -> io::Result<RaftSnapshot> {
        self.db.flush()?;
        self.inner.build_snapshot().await
    }
}

impl RaftStateMachine<TypeConfig> for Flushing {
    type SnapshotData = SnapshotData;
    type SnapshotBuilder = FlushingBuilder;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        self.inner.applied_state().await
    }

    async fn apply<Strm>(&mut self, entries: Strm) -> io::Result<()>
    where
        Strm: Stream<Item = io::Result<EntryResponder<TypeConfig>>> + Unpin + Send,
    {
        self.inner.apply(entries).await
    }

    async fn get_snapshot_builder(&mut self) -> FlushingBuilder {
        FlushingBuilder { inner: self.inner.get_snapshot_builder().await, db: self.db.clone() }
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: SnapshotData,
    ) -> io::Result<()> {
        let received = match snapshot {
            SnapshotData::Local(other) => {
                let mut import = self.state.import()?;
                let export = other.export()?;
                let applied = export.applied().cloned().unwrap_or_default();
                for chunk in export {
                    import.chunk(chunk?)?;
                }
                SnapshotData::Received { import: Box::new(import), applied }
            }
            received @ SnapshotData::Received { .. } => received,
        };
        self.inner.install_snapshot(meta, received).await
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<RaftSnapshot>> {
        self.inner.get_current_snapshot().await
    }
}

struct Builder;

/// What must outlive a log store: its engine, then the directory.
type Guard = (Engine, TempDir);

impl Builder {
    fn open(&self) -> io::Result<(Guard, LogStore, Flushing)> {
        let dir = tempfile::tempdir()?;
        let options = LogOptions { segment_bytes: 1 << 20, ..LogOptions::default() };
        let fail = Box::new(|error: &io::Error| panic!("the log failed: {error}"));
        let (engine, damage) = Engine::open(&dir.path().join("log"), options, fail)?;
        assert!(damage.is_empty(), "a new log is whole");
        let db = StateDb::open(&dir.path().join("state"), StateOptions::default())?;
        let state = db.group(GROUP)?;
        let (off_thread, application) = (OffThread::for_disk(&Machine), Arc::new(Positions));
        let inner = StateMachine::open(GROUP, db.clone(), state.clone(), application, off_thread)?;
        let log = LogStore::new(engine.group(GROUP), 0, off_thread);
        Ok(((engine, dir), log, Flushing { inner, db, state }))
    }
}

impl StoreBuilder<TypeConfig, LogStore, Flushing, Guard> for Builder {
    async fn build(&self) -> Result<(Guard, LogStore, Flushing), StorageError<TypeConfig>> {
        self.open().map_err(|error| {
            use openraft::errors::ErrorSource as _;
            let source = openraft::impls::BoxedErrorSource::from_error(&error);
            StorageError::new(ErrorSubject::Store, ErrorVerb::Read, source)
        })
    }
}

#[tokio::test]
async fn the_stores_pass_the_librarys_suite() {
    Suite::<TypeConfig, LogStore, Flushing, Builder, Guard>::test_all(Builder).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vote_that_was_given_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let open = || {
        let fail = Box::new(|error: &io::Error| panic!("{error}"));
        let (engine, _) = Engine::open(dir.path(), LogOptions::default(), fail).unwrap();
        (LogStore::new(engine.group(GROUP), 1, OffThread::for_disk(&Machine)), engine)
    };
    let leader_id = LeaderId { term: 7, node_id: 2 };
    let vote = Vote { leader_id, committed: false };
    let (mut store, engine) = open();
    store.save_vote(&vote).await.unwrap();
    drop((store, engine));
    let (mut store, _engine) = open();
    assert_eq!(store.read_vote().await.unwrap(), Some(vote), "the vote is gone");
}

/// Found by crashes of a node that was being rebuilt: the leader had begun to send it a snapshot and cut
/// its log, and a reader of before went on behind the cut, with a gap.
#[tokio::test(flavor = "multi_thread")]
async fn a_reader_does_not_skip_what_was_cut() {
    let dir = tempfile::tempdir().unwrap();
    let fail = Box::new(|error: &io::Error| panic!("{error}"));
    let (engine, _) = Engine::open(dir.path(), LogOptions::default(), fail).unwrap();
    let log = engine.group(GROUP);
    let id = |index| {
        let leader_id = LeaderId { term: 1, node_id: 1 };
        LogId { leader_id, index }
    };
    let entries = (1..=9).map(|index| {
        let entry = Entry { log_id: id(index), payload: EntryPayload::Blank };
        codec::encode_entry(&entry)
    });
    let (tx, rx) = tokio::sync::oneshot::channel();
    log.append(1, entries.collect(), Box::new(move |result| tx.send(result).unwrap()));
    rx.await.unwrap().unwrap();
    log.purge_to(5, codec::encode_log_id(&id(5)));
    let mut store = LogStore::new(log, 0, OffThread::for_disk(&Machine));
    let mut read = async |start| {
        let entries = store.limited_get_log_entries(start, 9).await.unwrap();
        entries.into_iter().map(|entry| entry.log_id.index).collect::<Vec<_>>()
    };
    assert_eq!(read(4).await, [] as [u64; 0]);
    assert_eq!(read(6).await, [6, 7, 8]);
}

/// Found by simulated clusters: a follower that was heard of nothing had got more entries than the snapshot
/// that was on its way, and its leader had not told it yet that they were decided.
#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_of_less_than_the_log_holds_is_not_installed() {
    let (guard, log, Flushing { inner, state, .. }) = Builder.open().unwrap();
    let identity = || LocalIdentity { cluster: String::new(), token: String::new() };
    let network = Network {
        group: GROUP,
        log: guard.0.group(GROUP),
        local: NodeId(1),
        transport: Transport::new(NodeId(1), Arc::new(identity), Vec::new()),
        off_thread: OffThread::for_disk(&Machine),
        patience: Duration::from_millis(25),
        members: vec![NodeId(1), NodeId(2)],
        slowness: Arc::default(),
        cutting: Arc::default(),
    };
    let config = Arc::new(raft_config().unwrap());
    let raft = Raft::new(1, config, network, log, inner).await.unwrap();
    let leader_id = LeaderId { term: 1, node_id: 2 };
    let (vote, id) = (Vote { leader_id, committed: true }, |index| LogId { leader_id, index });
    let append = async |indexes: std::ops::Range<u64>, commit: u64| {
        let prev_log_id = indexes.start.checked_sub(1).map(id);
        let entry = |index| Entry { log_id: id(index), payload: EntryPayload::Blank };
        let (entries, leader_commit) = (indexes.map(entry).collect(), Some(id(commit)));
        let request = AppendEntriesRequest { vote, prev_log_id, entries, leader_commit };
        raft.append_entries(request).await.unwrap()
    };
    let snapshot = |index| {
        let membership = StoredMembership::default();
        let meta =
            SnapshotMeta { last_log_id: Some(id(index)), last_membership: membership.clone() };
        let applied = codec::encode_applied(Some(&id(index)), &membership);
        let mut import = Box::new(state.import().unwrap());
        state.export().unwrap().for_each(|chunk| import.chunk(chunk.unwrap()).unwrap());
        let snapshot = Snapshot { meta, snapshot: SnapshotData::Received { import, applied } };
        snapshot::Received { vote, snapshot }
    };
    assert_eq!(append(0..6, 2).await, AppendEntriesResponse::Success);
    let answer = snapshot::install(&raft, snapshot(4)).await;
    assert_eq!(answer.unwrap().vote, vote);
    assert_eq!(append(6..8, 7).await, AppendEntriesResponse::Success);
    let applied = raft.wait(None).applied_index_at_least(Some(7), "what follows").await;
    assert_eq!(applied.unwrap().last_log_index, Some(7));
    // What the log does not hold is installed.
    snapshot::install(&raft, snapshot(20)).await.unwrap();
    assert_eq!(append(21..22, 21).await, AppendEntriesResponse::Success);
    raft.wait(None).applied_index_at_least(Some(21), "behind a snapshot").await.unwrap();
    raft.shutdown().await.unwrap();
}
