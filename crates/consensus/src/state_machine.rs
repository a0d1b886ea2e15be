//! One group's application behind the library's state machine trait.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use flotilla_probe::{failable, failpoint, planted, sometimes};
use flotilla_storage::state::{GroupState, Import, StateDb};
use flotilla_types::ids::GroupId;
use futures::{Stream, TryStreamExt};
use openraft::EntryPayload;
use openraft::storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine, Snapshot};
use tokio::time::Instant;

use crate::codec;
use crate::off_thread::OffThread;
use crate::types::{Answer, Commands, LogId, SnapshotMeta, StoredMembership, TypeConfig};

/// Entries applied in a row before other tasks of the thread get their turn.
const APPLY_RUN_MAX: u32 = 32;
/// Between two looks whether the store takes commits.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// What a group does with its committed entries. One application object serves one replica.
///
/// Contract: `apply` is called in log order by one task, never concurrently with itself or
/// `reload`. It must write `applied` in the same atomic commit as the effects of the commands, and
/// its effects must depend on nothing but the state and the commands.
pub trait Application: Send + Sync + 'static {
    /// Applies one entry. `answered` says whether somebody on this node waits for the answer.
    ///
    /// # Errors
    /// When the store fails or the entry cannot be decoded; the process then stops.
    fn apply(
        &self,
        state: &GroupState,
        commands: Bytes,
        applied: &[u8],
        answered: bool,
    ) -> io::Result<Answer>;

    /// The whole state was replaced by a snapshot (or is read for the first time).
    ///
    /// # Errors
    /// When the store fails.
    fn reload(&self, state: &GroupState) -> io::Result<()>;

    /// For how long a follower need not hear of what a majority has without it. Zero where
    /// followers answer from their state.
    fn follower_patience(&self) -> Duration {
        Duration::ZERO
    }
}

/// A snapshot on its way: never the bytes, only what is needed to stream or install them.
pub(crate) enum SnapshotData {
    /// Of this replica, to be exported when a follower needs it.
    Local(GroupState),
    /// Received and staged, to be made the state.
    Received { import: Box<Import>, applied: Bytes },
}

pub(crate) type RaftSnapshot = Snapshot<
    openraft::type_config::alias::CommittedLeaderIdOf<TypeConfig>,
    u64,
    openraft::impls::BasicNode,
    SnapshotData,
>;

/// See the module.
pub(crate) struct StateMachine {
    group: GroupId,
    db: StateDb,
    state: GroupState,
    application: Arc<dyn Application>,
    off_thread: OffThread,
    last: Option<LogId>,
    membership: StoredMembership,
    /// When the store was last seen to take commits.
    looked_at: Instant,
}

impl StateMachine {
    pub(crate) fn open(
        group: GroupId,
        db: StateDb,
        state: GroupState,
        application: Arc<dyn Application>,
        off_thread: OffThread,
    ) -> io::Result<Self> {
        let (last, membership) = match state.applied()? {
            Some(bytes) => codec::decode_applied(bytes)
                .map_err(|error| codec::invalid("applied record", error))?,
            None => (None, StoredMembership::default()),
        };
        application.reload(&state)?;
        let looked_at = Instant::now();
        Ok(Self { group, db, state, application, off_thread, last, membership, looked_at })
    }

    /// Waits while a commit would keep its thread, which also hears the other nodes and the clients.
    async fn until_not_stopped(&mut self) {
        if self.looked_at.elapsed() < LOOK_AGAIN {
            return;
        }
        while self.db.write_stopped() {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        self.looked_at = Instant::now();
    }

    fn apply_commands(&mut self, commands: Commands, answered: bool) -> io::Result<Answer> {
        let applied = codec::encode_applied(self.last.as_ref(), &self.membership);
        self.application.apply(&self.state, commands.0, &applied, answered)
    }

    fn store_applied(&self) -> io::Result<()> {
        let mut batch = self.state.batch();
        batch.put_applied(&codec::encode_applied(self.last.as_ref(), &self.membership));
        self.state.commit(batch)
    }
}

/// The position that would survive a crash now, as a snapshot's. Waits for the store.
pub(crate) fn durable_meta(db: &StateDb, group: GroupId) -> io::Result<Option<SnapshotMeta>> {
    let bytes = match planted!(CutBeforeFlush) {
        true => db.group(group)?.applied(),
        false => db.durable_applied(group),
    }?;
    let Some(bytes) = bytes else { return Ok(None) };
    let (last_log_id, last_membership) = codec::decode_applied(bytes)
        .map_err(|error| codec::invalid("durable applied record", error))?;
    Ok(last_log_id.map(|_| SnapshotMeta { last_log_id, last_membership }))
}

async fn durable_meta_off_thread(
    db: &StateDb,
    group: GroupId,
    off_thread: OffThread,
) -> io::Result<Option<SnapshotMeta>> {
    let db = db.clone();
    off_thread.run(move || durable_meta(&db, group)).await?
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotData = SnapshotData;
    type SnapshotBuilder = SnapshotBuilder;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        Ok((self.last, self.membership.clone()))
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> io::Result<()>
    where
        Strm: Stream<Item = io::Result<EntryResponder<TypeConfig>>> + Unpin + Send,
    {
        let mut run = 0;
        while let Some((entry, responder)) = entries.try_next().await? {
            self.until_not_stopped().await;
            self.last = Some(entry.log_id);
            let answer = match entry.payload {
                EntryPayload::Normal(commands) => {
                    self.apply_commands(commands, responder.is_some())?
                }
                EntryPayload::Blank => {
                    self.store_applied()?;
                    Answer::none()
                }
                EntryPayload::Membership(membership) => {
                    self.membership = StoredMembership::new(Some(entry.log_id), membership);
                    self.store_applied()?;
                    Answer::none()
                }
            };
            if let Some(responder) = responder {
                responder.send(answer);
            }
            run += 1;
            if run % APPLY_RUN_MAX == 0 {
                tokio::task::yield_now().await;
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> SnapshotBuilder {
        let (db, state) = (self.db.clone(), self.state.clone());
        SnapshotBuilder { group: self.group, db, state, off_thread: self.off_thread }
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: SnapshotData,
    ) -> io::Result<()> {
        let SnapshotData::Received { import, applied } = snapshot else {
            // A replica's own snapshot is its state already.
            return Ok(());
        };
        failable!(SnapshotInstall)?;
        tracing::info!(group = %self.group, last = ?meta.last_log_id, "installing a snapshot");
        self.off_thread.run(move || import.finish(applied)).await??;
        failpoint!(SnapshotInstalled);
        sometimes!(StateReplaced);
        self.last = meta.last_log_id;
        self.membership = meta.last_membership.clone();
        if planted!(SnapshotNotLoaded) {
            return Ok(());
        }
        let (application, state) = (self.application.clone(), self.state.clone());
        self.off_thread.run(move || application.reload(&state)).await?
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<RaftSnapshot>> {
        let meta = durable_meta_off_thread(&self.db, self.group, self.off_thread).await?;
        let state = self.state.clone();
        Ok(meta.map(|meta| Snapshot { meta, snapshot: SnapshotData::Local(state) }))
    }
}

/// "Builds" a snapshot by naming the durable position: the state itself is the snapshot, and the
/// log before that position is not needed any more.
pub(crate) struct SnapshotBuilder {
    group: GroupId,
    db: StateDb,
    state: GroupState,
    off_thread: OffThread,
}

impl RaftSnapshotBuilder<TypeConfig> for SnapshotBuilder {
    type SnapshotData = SnapshotData;

    async fn build_snapshot(&mut self) -> io::Result<RaftSnapshot> {
        failable!(SnapshotBuild)?;
        let meta = durable_meta_off_thread(&self.db, self.group, self.off_thread).await?;
        let meta = meta.unwrap_or_default();
        Ok(Snapshot { meta, snapshot: SnapshotData::Local(self.state.clone()) })
    }
}
