//! One follower's append requests, fewer than the library makes.
//!
//! The library makes a request for every entry, and one more for every position that becomes
//! committed while there is nothing new to append. Sent as they come, most of a busy shard's
//! traffic is of no use to anybody:
//!
//! - What is committed: a follower that applies late is not noticed, because only a leader answers
//!   from its state, and only once it has applied everything committed. The next entries carry the
//!   position too; without any it is sent after [`Pace::patience`].
//! - Entries to a follower that the majority can do without. A leader needs some followers to
//!   acknowledge an entry, the *prompt* ones, which get everything at once. The others get many
//!   entries in one request: they wake up, sync and apply once instead of many times. As soon as
//!   an entry is not committed within [`GRACE`], or a prompt follower is not there, everybody is
//!   prompt. Nothing is acknowledged that a majority has not synced, as ever; the followers that
//!   are late lack at most what was committed within the patience.
//!
//! A request that is left out or merged needs no answer of its own: the answer to a later request
//! settles all positions up to its own.

use std::collections::VecDeque;
use std::time::Duration;

use flotilla_types::ids::NodeId;
use futures::stream::Fuse;
use futures::{Stream, StreamExt};
use openraft::EntryPayload;
use openraft::raft::AppendEntriesRequest;
use tokio::time::{Instant, timeout_at};

use crate::types::{LogId, TypeConfig};

type Request = AppendEntriesRequest<TypeConfig>;

/// An entry that is not committed by then needs every follower it can get. Longer than a commit on
/// a busy node takes, and no more than a client notices.
const GRACE: Duration = Duration::from_millis(5);
/// A request is closed when its entries hold more than this.
const MERGED_BYTES_MAX: usize = 1024 * 1024;
const MERGED_ENTRIES_MAX: usize = 1_024;

/// How soon a follower must hear of things.
#[derive(Clone, Debug)]
pub(crate) struct Pace {
    /// Zero: of everything at once.
    pub(crate) patience: Duration,
    /// The followers that make up a majority with the leader, if this one is not among them.
    pub(crate) instead: Vec<NodeId>,
}

impl Pace {
    /// For a follower of a group with these members (at least both are among them). The prompt
    /// ones are those that come after the leader in the circle of all members: leaders are spread
    /// over the nodes, and so is the work.
    pub(crate) fn new(
        patience: Duration,
        leader: NodeId,
        follower: NodeId,
        members: &[NodeId],
    ) -> Self {
        let mut circle = members.to_vec();
        circle.sort();
        let at = circle.iter().position(|member| *member == leader).unwrap_or(0);
        circle.rotate_left(at);
        let needed = members.len() / 2;
        let prompt: Vec<NodeId> = circle.into_iter().skip(1).take(needed).collect();
        let instead = if prompt.contains(&follower) { Vec::new() } else { prompt };
        Self { patience, instead }
    }
}

/// See the module. `is_there` says whether a node is connected and not slow.
pub(crate) struct Requests<S, F> {
    rest: Fuse<S>,
    pace: Pace,
    is_there: F,
    /// To be returned as it is.
    ready: Option<Request>,
    held: Option<Held>,
}

/// A request that may still grow.
struct Held {
    request: Request,
    since: Instant,
    bytes: usize,
    /// The entries that are not known to be committed, by the last of each request.
    uncommitted: VecDeque<(LogId, Instant)>,
}

impl Held {
    fn new(request: Request) -> Self {
        let bytes = bytes_of(&request);
        let since = Instant::now();
        let mut held = Self { request, since, bytes, uncommitted: VecDeque::new() };
        held.note_last();
        held.note_committed();
        held
    }

    /// Takes the next request in, or gives it back.
    fn merge(&mut self, next: Request) -> Result<(), Request> {
        let last = self.request.entries.last().map(|entry| entry.log_id);
        let adjoins = next.prev_log_id == last.or(self.request.prev_log_id);
        let bytes = bytes_of(&next);
        let fits = self.bytes + bytes <= MERGED_BYTES_MAX
            && self.request.entries.len() + next.entries.len() <= MERGED_ENTRIES_MAX;
        if next.vote != self.request.vote || !adjoins || !fits {
            return Err(next);
        }
        self.bytes += bytes;
        self.request.leader_commit = next.leader_commit.max(self.request.leader_commit);
        if !next.entries.is_empty() {
            self.request.entries.extend(next.entries);
            self.note_last();
        }
        self.note_committed();
        Ok(())
    }

    fn note_last(&mut self) {
        if let Some(last) = self.request.entries.last() {
            self.uncommitted.push_back((last.log_id, Instant::now()));
        }
    }

    fn note_committed(&mut self) {
        let committed = self.request.leader_commit;
        while self.uncommitted.front().is_some_and(|(last, _)| Some(*last) <= committed) {
            self.uncommitted.pop_front();
        }
    }
}

fn bytes_of(request: &Request) -> usize {
    let bytes = request.entries.iter().map(|entry| match &entry.payload {
        EntryPayload::Normal(commands) => commands.0.len(),
        EntryPayload::Blank | EntryPayload::Membership(_) => 0,
    });
    bytes.sum()
}

impl<S: Stream<Item = Request> + Unpin, F: Fn(NodeId) -> bool> Requests<S, F> {
    pub(crate) fn new(first: Request, rest: S, pace: Pace, is_there: F) -> Self {
        // The first one asks what the follower has; it neither waits nor grows.
        Self { rest: rest.fuse(), pace, is_there, ready: Some(first), held: None }
    }

    /// The next request to send.
    pub(crate) async fn next(&mut self) -> Option<Request> {
        if self.ready.is_some() {
            return self.ready.take();
        }
        loop {
            let Some(held) = &mut self.held else {
                self.held = Some(Held::new(self.rest.next().await?));
                continue;
            };
            let Some(deadline) = deadline(&self.pace, &self.is_there, held) else {
                return self.release();
            };
            match timeout_at(deadline, self.rest.next()).await {
                Ok(Some(next)) => {
                    if let Err(next) = held.merge(next) {
                        let full = self.release();
                        self.held = Some(Held::new(next));
                        return full;
                    }
                }
                Ok(None) | Err(_) => return self.release(),
            }
        }
    }

    fn release(&mut self) -> Option<Request> {
        self.held.take().map(|held| held.request)
    }
}

/// Until when a request may be held; `None`: it goes now.
fn deadline(pace: &Pace, is_there: impl Fn(NodeId) -> bool, held: &Held) -> Option<Instant> {
    let prompt = pace.instead.is_empty() || !pace.instead.iter().all(|node| is_there(*node));
    if pace.patience.is_zero() || (prompt && !held.request.entries.is_empty()) {
        return None;
    }
    let late = held.since + pace.patience;
    let stuck = held.uncommitted.front().map(|(_, since)| *since + GRACE);
    Some(stuck.map_or(late, |stuck| stuck.min(late)))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use bytes::Bytes;
    use futures::FutureExt;
    use futures::stream::BoxStream;
    use openraft::Vote;
    use openraft::impls::leader_id_adv::LeaderId;
    use tokio::sync::mpsc;

    use super::*;
    use crate::types::{Commands, Entry};

    /// Longer than any test takes.
    const PATIENCE: Duration = Duration::from_secs(600);
    const SHORT: Duration = Duration::from_millis(20);

    fn id(index: u64) -> LogId {
        LogId { leader_id: LeaderId { term: 1, node_id: 1 }, index }
    }

    fn entry(index: u64) -> Entry {
        Entry { log_id: id(index), payload: EntryPayload::Normal(Commands(Bytes::new())) }
    }

    fn request(previous: u64, entries: &[u64], committed: u64) -> Request {
        AppendEntriesRequest {
            vote: Vote { leader_id: LeaderId { term: 1, node_id: 1 }, committed: true },
            prev_log_id: Some(id(previous)),
            entries: entries.iter().copied().map(entry).collect(),
            leader_commit: Some(id(committed)),
        }
    }

    fn prompt() -> Pace {
        Pace { patience: PATIENCE, instead: Vec::new() }
    }

    fn late() -> Pace {
        Pace { patience: PATIENCE, instead: vec![NodeId(2)] }
    }

    struct Rig {
        tx: mpsc::UnboundedSender<Request>,
        missing: Arc<AtomicBool>,
        requests: Requests<BoxStream<'static, Request>, Box<dyn Fn(NodeId) -> bool>>,
    }

    impl Rig {
        /// Its first request is through.
        async fn new(pace: Pace) -> Rig {
            let (tx, rx) = mpsc::unbounded_channel();
            let rest = futures::stream::unfold(rx, |mut rx: mpsc::UnboundedReceiver<_>| async {
                Some((rx.recv().await?, rx))
            });
            let missing = Arc::new(AtomicBool::new(false));
            let flag = missing.clone();
            let is_there: Box<dyn Fn(NodeId) -> bool> =
                Box::new(move |_| !flag.load(Ordering::Relaxed));
            let requests = Requests::new(request(0, &[], 0), rest.boxed(), pace, is_there);
            let mut rig = Rig { tx, missing, requests };
            assert_eq!(rig.now(), Some((vec![], 0)), "the first request is a question");
            rig
        }

        /// Entries and committed position of what is to be sent now, if anything is.
        fn now(&mut self) -> Option<(Vec<u64>, u64)> {
            Some(parts(self.requests.next().now_or_never()?))
        }

        async fn next(&mut self) -> (Vec<u64>, u64) {
            parts(self.requests.next().await)
        }

        fn send(&self, previous: u64, entries: &[u64], committed: u64) {
            self.tx.send(request(previous, entries, committed)).unwrap();
        }
    }

    fn parts(request: Option<Request>) -> (Vec<u64>, u64) {
        let request = request.expect("the input goes on");
        let entries = request.entries.iter().map(|entry| entry.log_id.index).collect();
        (entries, request.leader_commit.unwrap().index)
    }

    #[tokio::test]
    async fn a_prompt_follower_gets_entries_at_once_and_commits_with_them() {
        let mut rig = Rig::new(prompt()).await;
        rig.send(0, &[1], 0);
        assert_eq!(rig.now(), Some((vec![1], 0)));
        rig.send(1, &[], 1);
        assert_eq!(rig.now(), None);
        rig.send(1, &[2, 3], 1);
        assert_eq!(rig.now(), Some((vec![2, 3], 1)));
        assert_eq!(rig.now(), None);
    }

    #[tokio::test]
    async fn without_entries_the_latest_commit_is_sent_after_the_patience() {
        let mut rig = Rig::new(Pace { patience: SHORT, instead: Vec::new() }).await;
        rig.send(0, &[1], 0);
        assert_eq!(rig.now(), Some((vec![1], 0)));
        rig.send(1, &[], 0);
        rig.send(1, &[], 1);
        assert_eq!(rig.next().await, (vec![], 1));
    }

    #[tokio::test]
    async fn a_late_follower_gets_committed_entries_together() {
        let mut rig = Rig::new(Pace { patience: SHORT, ..late() }).await;
        rig.send(0, &[1], 0);
        rig.send(1, &[], 1);
        rig.send(1, &[2, 3], 1);
        rig.send(3, &[4], 3);
        rig.send(4, &[], 4);
        assert_eq!(rig.next().await, (vec![1, 2, 3, 4], 4));
    }

    #[tokio::test]
    async fn a_late_follower_is_needed_for_what_is_not_committed_soon() {
        // A patience that no test outlives: it is the grace that ends.
        let mut rig = Rig::new(late()).await;
        rig.send(0, &[1], 0);
        rig.send(1, &[2], 1);
        assert_eq!(rig.now(), None);
        assert_eq!(rig.next().await, (vec![1, 2], 1));
    }

    #[tokio::test]
    async fn a_late_follower_is_prompt_while_another_is_missing() {
        let mut rig = Rig::new(late()).await;
        rig.missing.store(true, Ordering::Relaxed);
        rig.send(0, &[1], 0);
        assert_eq!(rig.now(), Some((vec![1], 0)));
    }

    #[tokio::test]
    async fn what_does_not_adjoin_is_not_merged() {
        let mut rig = Rig::new(late()).await;
        rig.send(0, &[1], 1);
        // The library went back: the follower has less than was thought.
        rig.send(0, &[1, 2], 2);
        assert_eq!(rig.now(), Some((vec![1], 1)));
        rig.send(7, &[], 7);
        assert_eq!(rig.now(), Some((vec![1, 2], 2)));
    }

    #[tokio::test]
    async fn a_full_request_goes_at_once() {
        let mut rig = Rig::new(late()).await;
        let many: Vec<u64> = (1..=MERGED_ENTRIES_MAX as u64).collect();
        rig.send(0, &many, 9_999);
        rig.send(many.len() as u64, &[5_000], 9_999);
        assert_eq!(rig.now(), Some((many, 9_999)));
        assert_eq!(rig.now(), None);
    }

    #[tokio::test]
    async fn without_patience_every_request_is_sent() {
        let mut rig = Rig::new(Pace { patience: Duration::ZERO, ..late() }).await;
        rig.send(0, &[1], 0);
        rig.send(1, &[], 1);
        rig.send(1, &[2], 1);
        assert_eq!(rig.now(), Some((vec![1], 0)));
        assert_eq!(rig.now(), Some((vec![], 1)));
        assert_eq!(rig.now(), Some((vec![2], 1)));
    }

    #[tokio::test]
    async fn ends_with_its_input_and_sends_what_it_holds() {
        let mut rig = Rig::new(late()).await;
        rig.send(0, &[1], 1);
        assert_eq!(rig.now(), None);
        drop(rig.tx);
        assert!(rig.requests.next().await.is_some());
        assert!(rig.requests.next().await.is_none());
    }

    #[test]
    fn a_majority_is_prompt_and_the_work_is_spread() {
        let nodes = |ids: &[u64]| -> Vec<NodeId> { ids.iter().copied().map(NodeId).collect() };
        let prompt = |leader: u64, members: &[u64]| -> Vec<u64> {
            let others = members.iter().copied().filter(|member| *member != leader);
            let pace = |id| Pace::new(PATIENCE, NodeId(leader), NodeId(id), &nodes(members));
            others.filter(|id| pace(*id).instead.is_empty()).collect()
        };
        assert_eq!(prompt(1, &[1, 2, 3]), [2]);
        assert_eq!(prompt(2, &[1, 2, 3]), [3]);
        assert_eq!(prompt(3, &[1, 2, 3]), [1]);
        assert_eq!(prompt(4, &[1, 2, 3, 4, 5]), [1, 5]);
        // Two members: there is nobody to do without.
        assert_eq!(prompt(1, &[1, 2]), [2]);
        let pace = Pace::new(PATIENCE, NodeId(1), NodeId(3), &nodes(&[3, 1, 2]));
        assert_eq!(pace.instead, nodes(&[2]));
    }
}
