//! How nodes with empty directories become a cluster, once, by themselves.
//!
//! Each node keeps a small file that says which cluster it belongs to. At first start nobody has
//! one. The node with the lowest id asks all others; only when *all* have answered that they belong
//! to nothing does it draw a cluster id, write its own file, and tell the others, who write theirs.
//! Then the founder gives the catalog its members; the rest follows from the catalog.
//!
//! A node without a file that hears of a cluster from a peer has lost its disk (or is new in an old
//! place): it joins, and every group on it must be reborn, because it may once have voted and
//! acknowledged. So does one whose file is damaged; but it neither founds a cluster nor lets itself be
//! invited to one: there is one already, even if all nodes have forgotten which.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use flotilla_probe::{failable, failpoint};
use flotilla_storage::disk::Disk;
use flotilla_storage::note::{self, Note};
use flotilla_transport::{Lane, Transport};
use flotilla_types::ids::{GroupId, NodeId};
use flotilla_wire::proto::cluster as pb;
use parking_lot::Mutex;
use prost::Message as _;
use tokio::sync::Notify;

use crate::forward::method;

const FILE: &str = "cluster";
const FORMAT_LINE: &str = "flotilla-cluster 2";
const RETRY: Duration = Duration::from_millis(200);
const CALL_TIMEOUT: Duration = Duration::from_secs(2);

/// Which cluster this node belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Membership {
    pub(crate) cluster: String,
    /// This node founds it and has not been seen to finish.
    pub(crate) founding: bool,
}

/// How this node came to its cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// It was in it before.
    Returned,
    /// It is being founded, here or by a peer that asked this node to join.
    Founded,
    /// It existed without this node's data: everything here must be reborn.
    LostDisk {
        /// Shards of the cluster.
        shards: u32,
    },
}

/// What this node knows of the founding.
pub(crate) struct Founding {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    node: NodeId,
    shards: u32,
    /// The file was there and could not be read.
    forgot: bool,
    membership: Mutex<Option<Membership>>,
    joined: Notify,
}

impl Founding {
    /// # Errors
    /// When the file is another node's, or of a format that is not known.
    pub(crate) fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        node: NodeId,
        shards: u32,
    ) -> io::Result<Self> {
        disk.create_dir(dir)?;
        let (membership, forgot) = read(&*disk, &dir.join(FILE), node)?;
        if forgot {
            tracing::error!(
                "the file that says to which cluster this node belongs is damaged; it asks the others, \
                 and all that it holds is rebuilt"
            );
        }
        Ok(Self {
            disk,
            dir: dir.to_owned(),
            node,
            shards,
            forgot,
            membership: Mutex::new(membership),
            joined: Notify::new(),
        })
    }

    /// Until it was told.
    fn forgot(&self) -> bool {
        self.forgot && self.membership().is_none()
    }

    pub(crate) fn membership(&self) -> Option<Membership> {
        self.membership.lock().clone()
    }

    /// The cluster's id; empty before there is one.
    pub(crate) fn cluster(&self) -> String {
        self.membership().map(|membership| membership.cluster).unwrap_or_default()
    }

    fn join(&self, membership: Membership) -> io::Result<()> {
        let mut current = self.membership.lock();
        failable!(FormationJoin)?;
        write(&*self.disk, &self.dir, self.node, &membership)?;
        failpoint!(FormationJoined);
        *current = Some(membership);
        drop(current);
        self.joined.notify_waiters();
        Ok(())
    }

    /// The founder is done.
    pub(crate) fn finished(&self) -> io::Result<()> {
        match self.membership() {
            Some(membership) if membership.founding => {
                self.join(Membership { founding: false, ..membership })
            }
            _ => Ok(()),
        }
    }

    /// Waits until this node belongs to a cluster.
    pub(crate) async fn arrive(
        &self,
        transport: &Transport,
        peers: &[NodeId],
        draw_id: impl Fn() -> String,
    ) -> io::Result<Arrival> {
        if let Some(membership) = self.membership() {
            let arrival = if membership.founding { Arrival::Founded } else { Arrival::Returned };
            if membership.founding {
                self.gather(transport, peers, &membership.cluster).await;
            }
            return Ok(arrival);
        }
        let lowest = peers.iter().all(|peer| self.node < *peer);
        tracing::info!("not part of a cluster yet; asking the other nodes");
        let mut was_settled = false;
        loop {
            let joined = self.joined.notified();
            if self.membership().is_some() {
                return Ok(Arrival::Founded);
            }
            let mut answers = Vec::with_capacity(peers.len());
            for peer in peers {
                answers.push(self.ask(transport, *peer, false, String::new()).await);
            }
            if self.membership().is_some() {
                return Ok(Arrival::Founded);
            }
            let existed = existed_before(&answers, was_settled);
            was_settled = settled(&answers).count() > answers.len().div_ceil(2);
            if let Some(known) = existed {
                let cluster = known.cluster.clone();
                self.join(Membership { cluster, founding: false })?;
                return Ok(Arrival::LostDisk { shards: known.shards });
            }
            let is_new = |answer: &pb::Founding| answer.cluster.is_empty() && !answer.forgot;
            let nobody = !self.forgot && answers.iter().flatten().all(is_new);
            let lowest = lowest && nobody;
            if lowest && answers.iter().all(Option::is_some) {
                let cluster = draw_id();
                self.join(Membership { cluster: cluster.clone(), founding: true })?;
                self.gather(transport, peers, &cluster).await;
                return Ok(Arrival::Founded);
            }
            tokio::time::timeout(RETRY, joined).await.ok();
        }
    }

    /// The founder's invitation, until everybody took it.
    async fn gather(&self, transport: &Transport, peers: &[NodeId], cluster: &str) {
        failpoint!(FormationGather);
        let mut missing: Vec<NodeId> = peers.to_vec();
        while !missing.is_empty() {
            let mut left = Vec::new();
            for peer in missing {
                let answer = self.ask(transport, peer, true, cluster.to_owned()).await;
                if answer.is_none_or(|answer| answer.cluster != cluster) {
                    left.push(peer);
                }
            }
            missing = left;
            if !missing.is_empty() {
                tokio::time::sleep(RETRY).await;
            }
        }
    }

    async fn ask(
        &self,
        transport: &Transport,
        peer: NodeId,
        join: bool,
        cluster: String,
    ) -> Option<pb::Founding> {
        let (shards, forgot) = (self.shards, self.forgot());
        let message = pb::Founding { cluster, shards, join, forgot };
        let payload = message.encode_to_vec().into();
        let call = transport.call(
            peer,
            Lane::Control,
            GroupId::CATALOG,
            method::FOUNDING,
            payload,
            CALL_TIMEOUT,
        );
        pb::Founding::decode(call.await.ok()?).ok()
    }

    /// Answers a peer that asks or invites. `join` in the answer: this node's own founding is not
    /// finished.
    pub(crate) fn serve(&self, payload: Bytes) -> Result<Bytes, String> {
        let asked = pb::Founding::decode(payload).map_err(|error| error.to_string())?;
        if asked.join && self.membership().is_none() && !self.forgot {
            let membership = Membership { cluster: asked.cluster, founding: false };
            self.join(membership).map_err(|error| error.to_string())?;
        }
        let membership = self.membership();
        let founding = membership.as_ref().is_some_and(|membership| membership.founding);
        let cluster = membership.map(|membership| membership.cluster).unwrap_or_default();
        let (shards, forgot) = (self.shards, self.forgot());
        let answer = pb::Founding { cluster, shards, join: founding, forgot };
        Ok(answer.encode_to_vec().into())
    }
}

/// The cluster that this node was in before it lost its file: only when everybody else belongs to
/// one and nobody is founding it, for a founder ends its founding after every node took the
/// invitation. A mixed picture is one that changed while it was being asked for; but if a majority
/// belonged to it when they were asked the time before, there was a founder then, and who still
/// belongs to none has lost its file as well.
fn existed_before(answers: &[Option<pb::Founding>], was_settled: bool) -> Option<&pb::Founding> {
    let known = settled(answers).next()?;
    let nobody_founds = answers.iter().all(|it| it.as_ref().is_some_and(|answer| !answer.join));
    let all = settled(answers).count() == answers.len();
    let most = settled(answers).count() > answers.len().div_ceil(2);
    (nobody_founds && (all || (most && was_settled))).then_some(known)
}

fn settled(answers: &[Option<pb::Founding>]) -> impl Iterator<Item = &pb::Founding> {
    answers.iter().flatten().filter(|answer| !answer.cluster.is_empty() && !answer.join)
}

/// What the file says, and whether it is damaged.
fn read(disk: &dyn Disk, file: &Path, node: NodeId) -> io::Result<(Option<Membership>, bool)> {
    let text = match note::read(disk, file)? {
        Note::Missing => return Ok((None, false)),
        Note::Damaged => return Ok((None, true)),
        Note::Text(text) => text,
    };
    let bad = |what: &str| {
        let what = format!("{}: {what}", file.display());
        io::Error::new(io::ErrorKind::InvalidData, what)
    };
    let mut lines = text.lines();
    if lines.next() != Some(FORMAT_LINE) {
        return Err(bad("unknown format"));
    }
    let mut field = |name: &str| {
        let line = lines.next().and_then(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.map(str::to_owned).ok_or_else(|| bad(&format!("{name} is missing")))
    };
    let cluster = field("cluster")?;
    let owner = field("node")?;
    let founding = field("founding")? == "true";
    if owner != node.to_string() {
        return Err(bad(&format!("this directory belongs to node {owner}, not to node {node}")));
    }
    Ok((Some(Membership { cluster, founding }), false))
}

fn write(disk: &dyn Disk, dir: &Path, node: NodeId, membership: &Membership) -> io::Result<()> {
    let Membership { cluster, founding } = membership;
    let text = format!("{FORMAT_LINE}\ncluster {cluster}\nnode {node}\nfounding {founding}\n");
    note::write(disk, dir, FILE, &text)
}

#[cfg(test)]
mod tests {
    use flotilla_storage::disk::Machine;

    use super::*;

    fn answered(cluster: &str, join: bool) -> pb::Founding {
        pb::Founding { cluster: cluster.into(), shards: 8, join, forgot: false }
    }

    #[test]
    fn the_file_is_read_back_and_belongs_to_one_node() {
        let dir = tempfile::tempdir().unwrap();
        let founding = Founding::open(Arc::new(Machine), dir.path(), NodeId(2), 8).unwrap();
        assert_eq!(founding.membership(), None);
        let membership = Membership { cluster: "abc".into(), founding: true };
        founding.join(membership.clone()).unwrap();
        let again = Founding::open(Arc::new(Machine), dir.path(), NodeId(2), 8).unwrap();
        assert_eq!(again.membership(), Some(membership));
        again.finished().unwrap();
        assert!(
            !Founding::open(Arc::new(Machine), dir.path(), NodeId(2), 8)
                .unwrap()
                .membership()
                .unwrap()
                .founding
        );
        assert!(Founding::open(Arc::new(Machine), dir.path(), NodeId(3), 8).is_err());
        note::write(&Machine, dir.path(), FILE, "flotilla-cluster 3\n").unwrap();
        assert!(Founding::open(Arc::new(Machine), dir.path(), NodeId(2), 8).is_err());
    }

    /// Found by chaos with bits that turn over: the node ended at its damaged file, at every start.
    #[test]
    fn a_damaged_file_makes_a_node_ask_and_never_found_or_join_anew() {
        let dir = tempfile::tempdir().unwrap();
        let open = || Founding::open(Arc::new(Machine), dir.path(), NodeId(2), 8).unwrap();
        let membership = Membership { cluster: "abc".into(), founding: false };
        open().join(membership.clone()).unwrap();
        let good = std::fs::read(dir.path().join(FILE)).unwrap();
        for bit in 0..8 * good.len() {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(dir.path().join(FILE), &bad).unwrap();
            let founding = open();
            if founding.membership().is_some() {
                assert_eq!(founding.membership(), Some(membership.clone()), "bit {bit}");
                continue;
            }
            let invite =
                pb::Founding { cluster: "another".into(), join: true, ..pb::Founding::default() };
            let answer = founding.serve(invite.encode_to_vec().into()).unwrap();
            let answer = pb::Founding::decode(answer).unwrap();
            assert!(answer.cluster.is_empty() && answer.forgot, "bit {bit}: {answer:?}");
            founding.join(membership.clone()).unwrap();
            assert!(!founding.forgot());
        }
    }

    /// Found by a cluster that never got ready: a node that asked the founder before and its other
    /// peer after the founding began took itself for one without its disk.
    #[test]
    fn a_picture_that_changes_while_it_is_asked_for_is_no_lost_disk() {
        let answer = |cluster: &str, join| Some(answered(cluster, join));
        let existed = |answers: &[_], before| existed_before(answers, before).is_some();
        for before in [false, true] {
            assert!(!existed(&[answer("", false), answer("one", false)], before));
            assert!(!existed(&[answer("one", true), answer("one", false)], before));
            assert!(!existed(&[None, answer("one", false)], before));
            assert!(!existed(&[], before));
            assert!(existed(&[answer("one", false), answer("one", false)], before));
        }
    }

    #[test]
    fn two_of_five_that_lost_their_disks_do_not_wait_for_each_other() {
        let answer = |cluster: &str, join| Some(answered(cluster, join));
        let one = || answer("one", false);
        let existed = |answers: &[_], before| existed_before(answers, before).is_some();
        let picture = [one(), answer("", false), one(), one()];
        assert!(!existed(&picture, false), "the second may be about to say that it founds");
        assert!(existed(&picture, true));
        assert!(!existed(&[one(), answer("one", true), one(), one()], true));
        assert!(!existed(&[one(), None, one(), one()], true));
        assert!(!existed(&[one(), answer("", false), answer("", false), one()], true));
    }

    #[test]
    fn an_invitation_is_taken_once() {
        let dir = tempfile::tempdir().unwrap();
        let founding = Founding::open(Arc::new(Machine), dir.path(), NodeId(2), 8).unwrap();
        let invite = |cluster: &str| {
            let message = answered(cluster, true);
            let answer = founding.serve(message.encode_to_vec().into()).unwrap();
            pb::Founding::decode(answer).unwrap().cluster
        };
        assert_eq!(invite("one"), "one");
        assert_eq!(invite("two"), "one");
    }
}
