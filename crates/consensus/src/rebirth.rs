//! How a replica that lost (part of) its log comes back as itself.
//!
//! Such a replica may have acknowledged entries, and given votes, that it does not know any more.
//! Two things must not happen: that it helps to elect a leader which never had those entries, and
//! that it helps an old leader commit in a term that it had left behind by a vote.
//!
//! 1. It takes part in nothing until *every* other member has told its vote, and a majority of all
//!    members is whole; it adopts the highest. A candidate that it had voted for is among those
//!    members, so its term is known now. If that candidate is being rebuilt as well, its candidacy
//!    is over, unless it was elected: then a whole member voted for it.
//! 2. It takes appends and snapshots (it acknowledges only what it holds again), but neither votes
//!    nor campaigns.
//! 3. It asks the leader to commit something new. Once that entry is applied here, everything that
//!    was committed before it came back is here too, and it votes again.
//!
//! A mark on disk keeps it in this state over crashes. With half or more of a group's members in it no
//! majority may vote: the group refuses to serve rather than to guess.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use flotilla_probe::{failable, failpoint, sometimes};
use flotilla_storage::disk::{Disk, Open};
use flotilla_storage::log::{Damage, DamagedGroups, Engine, GroupLog};
use flotilla_storage::state::GroupState;
use flotilla_transport::{Lane, Transport};
use flotilla_types::ids::{GroupId, NodeId};
use flotilla_wire::DecodeError;
use flotilla_wire::proto::raft as pb;
use prost::Message as _;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::codec;
use crate::host::{Groups, Replica};
use crate::network::method;
use crate::types::{LogId, Vote};

/// Between two attempts to reach a member.
const RETRY: Duration = Duration::from_millis(300);
const CALL_TIMEOUT: Duration = Duration::from_secs(2);
/// Between two lines of the log that say for whom a replica waits.
const SAY_EVERY: Duration = Duration::from_secs(5);
/// Names of files begin with one of them.
const GROUP: &str = "group-";
const REBUILT: &str = "rebuilt-";

/// One file per group that must be reborn; or one for all, also those that nothing here knows any
/// more, and then one per group that has been.
#[derive(Clone)]
pub(crate) struct Marks {
    disk: Arc<dyn Disk>,
    dir: Arc<PathBuf>,
}

impl Marks {
    pub(crate) fn open(disk: Arc<dyn Disk>, dir: &Path) -> io::Result<Self> {
        disk.create_dir(dir)?;
        Ok(Self { disk, dir: Arc::new(dir.to_owned()) })
    }

    fn file(&self, group: GroupId) -> PathBuf {
        self.dir.join(format!("{GROUP}{group}"))
    }

    fn all(&self) -> PathBuf {
        self.dir.join("all")
    }

    fn rebuilt(&self, group: GroupId) -> PathBuf {
        self.dir.join(format!("{REBUILT}{group}"))
    }

    pub(crate) fn is_set(&self, group: GroupId) -> bool {
        let there = |file: PathBuf| self.disk.exists(&file);
        there(self.file(group)) || (there(self.all()) && !there(self.rebuilt(group)))
    }

    /// Whether a group that is known by name is to be reborn.
    pub(crate) fn is_any_set(&self) -> io::Result<bool> {
        let is_group = |file: &PathBuf| {
            file.file_name().is_some_and(|name| name.to_string_lossy().starts_with(GROUP))
        };
        Ok(self.disk.list(&self.dir)?.iter().any(is_group))
    }

    pub(crate) fn set(&self, group: GroupId) -> io::Result<()> {
        self.create(&self.file(group))?;
        self.disk.sync_dir(&self.dir)
    }

    /// Every group that this node may host.
    pub(crate) fn set_all(&self) -> io::Result<()> {
        for file in self.disk.list(&self.dir)? {
            let name = file.file_name().unwrap_or_default();
            if name.to_string_lossy().starts_with(REBUILT) {
                self.disk.remove(&file)?;
            }
        }
        self.create(&self.all())?;
        failable!(RebirthMarked)?;
        self.disk.sync_dir(&self.dir)
    }

    fn clear(&self, group: GroupId) -> io::Result<()> {
        failable!(RebirthClear)?;
        if self.disk.exists(&self.all()) {
            self.create(&self.rebuilt(group))?;
        }
        match self.disk.remove(&self.file(group)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        self.disk.sync_dir(&self.dir)
    }

    fn create(&self, file: &Path) -> io::Result<()> {
        self.disk.open(file, Open::Anew)?.sync_all()
    }

    /// Marks first, then wipes the damaged logs: a crash in between repeats both. A vote that is
    /// still readable stays. Nobody waits for the wiping: all that a replica will write comes behind
    /// it, and is durable only with it.
    pub(crate) fn note_damage(&self, damage: &Damage, engine: &Engine) -> io::Result<()> {
        let groups = match &damage.groups {
            DamagedGroups::All => {
                self.set_all()?;
                engine.groups()
            }
            DamagedGroups::Some(groups) => groups.iter().copied().collect(),
        };
        for group in groups {
            self.set(group)?;
            let log = engine.group(group);
            let vote = log.state().vote;
            log.reset(Box::new(drop));
            if let Some(vote) = vote {
                log.save_vote(vote, Box::new(drop));
            }
        }
        Ok(())
    }
}

/// Whether the log was cut behind what the state holds: the state was lost, or put back to an earlier
/// one. What lies in between is nowhere on this node.
pub(crate) fn is_state_behind(log: &GroupLog, state: &GroupState) -> io::Result<bool> {
    let Some((purged, _)) = log.state().purged else { return Ok(false) };
    Ok(applied(state)?.is_none_or(|applied| applied.index < purged))
}

/// Cuts off entries that another leader had replaced, when the process ended after what took their
/// place was applied and before the log had heard of it: a log that ends in an earlier term than the
/// state is refused by the library, at every start. Nothing of them was committed.
pub(crate) fn drop_replaced(log: &GroupLog, state: &GroupState) -> io::Result<()> {
    let (Some(applied), held) = (applied(state)?, log.state()) else { return Ok(()) };
    if held.damaged || !(held.first..held.next).contains(&applied.index) {
        return Ok(());
    }
    let last = log.read(held.next - 1, held.next, 1)?.pop();
    let last = last.ok_or_else(|| codec::invalid("log", "the last entry is missing"))?;
    let last = codec::decode_entry(last).map_err(|error| codec::invalid("log entry", error))?;
    if last.log_id < applied {
        tracing::warn!(%applied, last = %last.log_id, "entries are cut off that were replaced");
        log.truncate_from(applied.index);
    }
    Ok(())
}

fn applied(state: &GroupState) -> io::Result<Option<LogId>> {
    let Some(bytes) = state.applied()? else { return Ok(None) };
    let record = codec::decode_applied(bytes);
    Ok(record.map_err(|error| codec::invalid("applied record", error))?.0)
}

/// Empties a log, but for its vote. A crash in between is one before it: the mark is set, and the
/// vote is asked for again.
pub(crate) async fn forget_log(log: &GroupLog) -> io::Result<()> {
    let vote = log.state().vote;
    let (tx, rx) = oneshot::channel();
    log.reset(Box::new(move |result| drop(tx.send(result))));
    rx.await.unwrap_or_else(|_| Err(io::Error::other("the log writer stopped")))?;
    let Some(vote) = vote else { return Ok(()) };
    let (tx, rx) = oneshot::channel();
    log.save_vote(vote, Box::new(move |result| drop(tx.send(result))));
    rx.await.unwrap_or_else(|_| Err(io::Error::other("the log writer stopped")))
}

/// What a member knows of a group's votes.
pub(crate) struct Standing {
    vote: Option<Vote>,
    /// Whether it may be asked to take over.
    pub(crate) may_lead: bool,
    /// It is being rebuilt itself.
    reborn: bool,
}

impl Standing {
    pub(crate) fn of(replica: &Replica, may_lead: bool) -> Self {
        let votes = replica.may_vote();
        let vote = own_vote(replica.group.log());
        Self { vote, may_lead: votes && may_lead, reborn: !votes }
    }

    /// Of a replica that does not run before it has asked the others.
    pub(crate) fn before(vote: Option<Vote>) -> Self {
        Self { vote, may_lead: false, reborn: true }
    }

    pub(crate) fn encode(&self) -> Bytes {
        let vote = self.vote.as_ref().map(codec::vote_to_pb);
        let message = pb::Standing { vote, may_lead: self.may_lead, reborn: self.reborn };
        message.encode_to_vec().into()
    }

    pub(crate) fn decode(bytes: Bytes) -> Result<Self, DecodeError> {
        let pb::Standing { vote, may_lead, reborn } = pb::Standing::decode(bytes)?;
        let vote = vote.map(|vote| codec::vote_from_pb(Some(vote))).transpose()?;
        Ok(Self { vote, may_lead, reborn })
    }
}

pub(crate) fn own_vote(log: &GroupLog) -> Option<Vote> {
    log.state().vote.and_then(|bytes| codec::decode_vote(bytes).ok())
}

/// Whether all other members have answered, and those that are whole are a majority.
fn is_enough(members: &[NodeId], answers: &BTreeMap<NodeId, Standing>) -> bool {
    let whole = answers.values().filter(|standing| !standing.reborn).count();
    answers.len() + 1 >= members.len() && (members.len() == 1 || 2 * whole > members.len())
}

pub(crate) async fn standing_of(
    transport: &Transport,
    group: GroupId,
    member: NodeId,
) -> Option<Standing> {
    let empty = Bytes::new();
    let call = transport.call(member, Lane::Control, group, method::STANDING, empty, CALL_TIMEOUT);
    match call.await.map(Standing::decode) {
        Ok(Ok(standing)) => return Some(standing),
        Ok(Err(error)) => tracing::warn!(%group, %member, %error, "malformed standing"),
        Err(error) => tracing::debug!(%group, %member, %error, "no standing"),
    }
    None
}

/// The vote that takes the place of a replica's own; `None` when its own is the highest and stays.
///
/// By term, then by node: the order in which the library lets one vote replace another. What was heard is
/// kept as not granted by a quorum, so that it can only be replaced by what a leader really sends. An own
/// vote that a leader has sent is such a one already, as when the process ended while its log was rebuilt,
/// and a vote that was kept never goes back. The replica's candidacy of its own is over in any case: with a
/// granted vote for itself the library would let it lead at once.
fn adopted(own: Option<Vote>, heard: impl Iterator<Item = Vote>, local: NodeId) -> Option<Vote> {
    let order = |vote: &Vote| (vote.leader_id.term, vote.leader_id.node_id);
    let heard = heard.max_by_key(order);
    let highest = match (own, heard) {
        (Some(own), heard) if heard.is_none_or(|heard| order(&heard) <= order(&own)) => {
            let is_led = own.committed && own.leader_id.node_id == local.0;
            is_led.then_some(own)
        }
        (_, heard) => heard,
    };
    highest.map(|vote| Vote { committed: false, ..vote })
}

/// Step 1. Waits for all other members, however long it takes. Of two that are being rebuilt in a group
/// of five each tells the other what it knows.
pub(crate) async fn prepare(
    transport: &Transport,
    group: GroupId,
    local: NodeId,
    members: &[NodeId],
    log: &GroupLog,
) -> io::Result<()> {
    tracing::warn!(%group, "this replica lost its log; asking all other members for their votes");
    failable!(RebirthPrepare)?;
    let mut answers: BTreeMap<NodeId, Standing> = BTreeMap::new();
    let mut said = Instant::now();
    loop {
        for member in members.iter().filter(|member| **member != local) {
            if answers.get(member).is_some_and(|standing| !standing.reborn) {
                continue;
            }
            if let Some(standing) = standing_of(transport, group, *member).await {
                answers.insert(*member, standing);
            }
        }
        if is_enough(members, &answers) {
            break;
        }
        if said.elapsed() >= SAY_EVERY {
            said = Instant::now();
            let is_whole = |it: &NodeId| answers.get(it).is_some_and(|standing| !standing.reborn);
            let missing = members.iter().filter(|it| **it != local && !is_whole(it));
            let missing: Vec<String> = missing.map(ToString::to_string).collect();
            tracing::error!(%group, waits_for = missing.join(", "), "this replica serves nothing \
                 before these nodes have told their votes; if they lost their logs, too, what was \
                 acknowledged is in no place that is known to be complete: repair one of the disks");
        }
        tokio::time::sleep(RETRY).await;
    }
    let heard = answers.into_values().filter_map(|standing| standing.vote);
    let Some(vote) = adopted(own_vote(log), heard, local) else { return Ok(()) };
    failable!(RebirthVote)?;
    let (tx, rx) = oneshot::channel();
    log.save_vote(codec::encode_vote(&vote), Box::new(move |result| drop(tx.send(result))));
    rx.await.unwrap_or_else(|_| Err(io::Error::other("the log writer stopped")))
}

/// Steps 2 and 3.
pub(crate) async fn finish(
    transport: Transport,
    replica: Replica,
    marks: Marks,
    groups: Arc<Groups>,
) {
    let group = &replica.group;
    let id = group.id();
    let index = loop {
        let leader = group.leadership().borrow().leader;
        if let Some(leader) = leader.filter(|leader| *leader != group.node()) {
            let call = transport.call(
                leader,
                Lane::Control,
                id,
                method::BARRIER,
                Bytes::new(),
                CALL_TIMEOUT,
            );
            match call.await.map(pb::LogId::decode) {
                Ok(Ok(barrier)) => break barrier.index,
                Ok(Err(error)) => tracing::warn!(group = %id, %error, "malformed barrier"),
                Err(error) => tracing::debug!(group = %id, %error, "no barrier yet"),
            }
        }
        tokio::time::sleep(RETRY).await;
    };
    failpoint!(RebirthBarrier);
    let applied = group.raft().wait(None).applied_index_at_least(Some(index), "rebirth").await;
    if let Err(error) = applied {
        return group.fatal(format!("rebirth: {error}"));
    }
    // Several syncs, on a disk that may be slow.
    let cleared = replica.off_thread.run(move || marks.clear(id)).await;
    if let Err(error) = cleared.flatten() {
        return group.fatal(format!("rebirth: {error}"));
    }
    sometimes!(Reborn);
    replica.voting.store(true, Ordering::Release);
    group.raft().runtime_config().elect(groups.may_lead());
    tracing::warn!(group = %id, index, "this replica is rebuilt and votes again");
}

/// The leader's part of step 3: an entry that did not exist before the question.
pub(crate) async fn serve_barrier(replica: &Replica) -> Result<Bytes, String> {
    let written = replica.group.raft().write_blank().await.map_err(|error| error.to_string())?;
    Ok(codec::log_id_to_pb(&written.log_id).encode_to_vec().into())
}

#[cfg(test)]
mod tests {
    use flotilla_storage::disk::Machine;
    use flotilla_storage::log::LogOptions;
    use flotilla_storage::state::{StateDb, StateOptions};
    use openraft::EntryPayload;
    use openraft::impls::leader_id_adv::LeaderId;

    use super::*;
    use crate::types::{Entry, StoredMembership};

    #[test]
    fn everybody_has_answered_and_a_majority_is_whole() {
        let whole = || Standing { vote: None, may_lead: true, reborn: false };
        let enough = |members: u64, wholes: u64, reborn: u64| {
            let members: Vec<NodeId> = (1..=members).map(NodeId).collect();
            let standing = |id| if id < 2 + wholes { whole() } else { Standing::before(None) };
            let answers = (2..2 + wholes + reborn).map(|id| (NodeId(id), standing(id)));
            is_enough(&members, &answers.collect())
        };
        assert!(enough(1, 0, 0));
        assert!(enough(3, 2, 0));
        assert!(!enough(3, 1, 0));
        assert!(!enough(3, 1, 1));
        assert!(enough(5, 4, 0));
        assert!(enough(5, 3, 1));
        assert!(!enough(5, 3, 0));
        assert!(!enough(5, 2, 2));
    }

    /// A second attempt heard of the same vote again and made of one that the leader had sent one that
    /// nobody was known to have granted.
    #[test]
    fn a_vote_that_a_leader_sent_outlives_a_repeated_rebuild() {
        let vote = |term, node_id, committed| {
            let leader_id = LeaderId { term, node_id };
            Vote { leader_id, committed }
        };
        let adopts =
            |own: Option<Vote>, heard: &[Vote]| adopted(own, heard.iter().copied(), NodeId(3));
        let led = vote(1, 1, true);
        assert_eq!(adopts(Some(led), &[led, led]), None);
        assert_eq!(adopts(Some(led), &[vote(1, 1, false)]), None);
        assert_eq!(adopts(Some(vote(1, 1, false)), &[led]), None, "only a leader says so");
        assert_eq!(adopts(Some(led), &[vote(1, 2, true), led]), Some(vote(1, 2, false)));
        assert_eq!(adopts(Some(led), &[vote(2, 1, true)]), Some(vote(2, 1, false)));
        assert_eq!(adopts(None, &[led]), Some(vote(1, 1, false)));
        assert_eq!(adopts(None, &[]), None);
        // It must not lead with what it was elected for before it lost its log.
        assert_eq!(adopts(Some(vote(2, 3, true)), &[led]), Some(vote(2, 3, false)));
        assert_eq!(adopts(Some(vote(2, 3, true)), &[vote(2, 3, true)]), Some(vote(2, 3, false)));
        assert_eq!(adopts(Some(vote(2, 3, false)), &[led]), None);
    }

    /// The process ended after an entry was applied and before the log had heard that it took the
    /// place of others.
    #[test]
    fn replaced_entries_are_cut_off_and_others_are_not() {
        let id = |term, index| LogId { leader_id: LeaderId { term, node_id: 1 }, index };
        let next_after = |entries: &[LogId], applied: LogId| {
            let dir = tempfile::tempdir().unwrap();
            let (engine, _) =
                Engine::open(&dir.path().join("log"), LogOptions::default(), Box::new(|_| {}))
                    .unwrap();
            let log = engine.group(GroupId(1));
            let entries = entries.iter().map(|id| {
                codec::encode_entry(&Entry { log_id: *id, payload: EntryPayload::Blank })
            });
            log.append(100, entries.collect(), Box::new(drop));
            let db = StateDb::open(&dir.path().join("state"), StateOptions::default()).unwrap();
            let state = db.group(GroupId(1)).unwrap();
            let mut batch = state.batch();
            let membership = StoredMembership::default();
            batch.put_applied(&codec::encode_applied(Some(&applied), &membership));
            state.commit(batch).unwrap();
            drop_replaced(&log, &state).unwrap();
            log.state().next
        };
        let old = [id(1, 100), id(1, 101), id(1, 102)];
        assert_eq!(next_after(&old, id(2, 101)), 101);
        assert_eq!(next_after(&old, id(1, 101)), 103, "what is not applied yet stays");
        assert_eq!(next_after(&old, id(2, 200)), 103, "the library cuts what a snapshot covers");
        assert_eq!(next_after(&[id(1, 100), id(2, 101), id(2, 102)], id(2, 101)), 103);
    }

    #[test]
    fn marks_are_set_and_cleared() {
        let dir = tempfile::tempdir().unwrap();
        let marks = Marks::open(Arc::new(Machine), dir.path()).unwrap();
        let set = |marks: &Marks| [0, 1, 2].map(|group| marks.is_set(GroupId(group)));
        assert_eq!(set(&marks), [false; 3]);
        marks.set(GroupId(1)).unwrap();
        assert_eq!(set(&marks), [false, true, false]);
        marks.clear(GroupId(1)).unwrap();
        assert_eq!(set(&marks), [false; 3]);
        // All, and a single one as well: each is cleared by itself, and that outlives a restart.
        marks.set(GroupId(2)).unwrap();
        marks.set_all().unwrap();
        assert_eq!(set(&marks), [true; 3]);
        marks.clear(GroupId(0)).unwrap();
        marks.clear(GroupId(2)).unwrap();
        let marks = Marks::open(Arc::new(Machine), dir.path()).unwrap();
        assert_eq!(set(&marks), [false, true, false]);
        // And set again after that.
        marks.set_all().unwrap();
        assert_eq!(set(&marks), [true; 3]);
    }
}
