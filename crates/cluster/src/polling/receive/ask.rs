//! Asking shards for messages: in which order, through whom, and what their answers say.

use flotilla_consensus::shard::ReceiveSpec;
use flotilla_types::ids::{GroupId, NodeId};
use flotilla_types::limits::CONTENT_BYTES_MAX;
use flotilla_types::names::QueueName;
use tokio::time::Instant;

use super::super::claim::{Claimed, Missed, claim_at, claim_here};
use super::Poll;
use crate::api::{Incoming, Receipt, ShardAnswer};

impl Poll<'_> {
    /// Asks shards until there is enough, in the order given. Returns those that were asked.
    ///
    /// Room for what they give is taken first, and what was not needed is given back. With little room
    /// left only small messages come; when there are only larger ones it is tried again with as much as a
    /// largest one needs.
    pub(super) async fn ask(&mut self, shards: &[GroupId]) -> Vec<GroupId> {
        if shards.is_empty() {
            return Vec::new();
        }
        // What stands for an attempt is answered whatever its size.
        let repeats = self.spec.attempt.is_some();
        let wanted = self.max * CONTENT_BYTES_MAX;
        let mut least = if repeats { wanted } else { 0 };
        loop {
            let Ok(bytes) = self.room.open(least, wanted).await else {
                self.full = true;
                return Vec::new();
            };
            (self.bytes_left, self.withheld) = (bytes, false);
            let asked = self.ask_in_turn(shards).await;
            let messages = &self.received.messages;
            self.room.hold(messages.iter().map(|message| message.content.len()).sum());
            if !self.withheld || !messages.is_empty() || bytes >= CONTENT_BYTES_MAX {
                return asked;
            }
            least = CONTENT_BYTES_MAX;
        }
    }

    /// A receive that can be repeated takes from one shard only: whether it still stands is then
    /// known where its messages are. If that shard is not heard, it goes no further.
    async fn ask_in_turn(&mut self, shards: &[GroupId]) -> Vec<GroupId> {
        if self.spec.attempt.is_none() || self.spec.only_again {
            return self.ask_together(shards).await;
        }
        let mut asked = Vec::new();
        for shard in shards {
            if !self.received.messages.is_empty() || self.missed {
                break;
            }
            asked.append(&mut self.ask_together(&[*shard]).await);
        }
        asked
    }

    /// Runs of shards with the same leader at once; one that turns out to be led elsewhere once more, there.
    async fn ask_together(&mut self, shards: &[GroupId]) -> Vec<GroupId> {
        let mut asked = Vec::with_capacity(shards.len());
        let mut redirected = Vec::new();
        let mut rest: Vec<GroupId> = shards.to_vec();
        while let Some(first) = rest.first().copied() {
            let found = self.received.messages.len();
            // What stands for an attempt is on one shard, and that may give fewer than are asked for.
            let left = self.max.saturating_sub(found);
            let is_last = self.spec.only_again || self.withheld;
            if left == 0 || (is_last && found > 0) {
                break;
            }
            let leader = self.node.router.leader(first);
            let (run, others): (Vec<_>, Vec<_>) =
                rest.into_iter().partition(|group| self.node.router.leader(*group) == leader);
            rest = others;
            let spec = ReceiveSpec { max: left, bytes_max: self.bytes_left, ..self.spec.clone() };
            for claimed in self.claim(leader, &run, spec).await {
                if self.is_elsewhere(&claimed) && !redirected.contains(&claimed.shard) {
                    redirected.push(claimed.shard);
                    rest.push(claimed.shard);
                    continue;
                }
                asked.push(claimed.shard);
                self.take(claimed);
            }
        }
        asked
    }

    async fn claim(
        &self,
        leader: Option<NodeId>,
        shards: &[GroupId],
        spec: ReceiveSpec,
    ) -> Vec<Claimed> {
        let router = &self.node.router;
        match leader {
            Some(leader) if leader != self.node.id => {
                let (queue, hides) = (spec.queue, spec.visibility_ms > 0 && !spec.only_again);
                let claimed = claim_at(router, leader, shards, spec).await;
                for one in claimed.iter().filter(|one| hides && one.count() > 0) {
                    self.node.crowd.note(leader, one.shard, queue, one.count() as i64);
                }
                claimed
            }
            // Without a known leader this answers that it is not the leader.
            _ => claim_here(router, shards, spec).await,
        }
    }

    /// Whether a shard without a replica here was asked where it is not led, and somewhere else is
    /// known to ask. Nothing was reserved then.
    fn is_elsewhere(&self, claimed: &Claimed) -> bool {
        let leader = claimed.leader();
        leader.is_some_and(|leader| self.node.router.note_hint(claimed.shard, Some(leader)))
    }

    fn take(&mut self, claimed: Claimed) {
        let count = claimed.count();
        if claimed.leases.is_ok() {
            self.reached_at = Some(Instant::now());
        }
        self.missed |= claimed.leases.is_err();
        self.received.lost |= claimed.leases == Err(Missed::Lost);
        self.withheld |= claimed.withheld;
        self.bytes_left = self.bytes_left.saturating_sub(claimed.bytes());
        if let Some(place) = self.groups.iter().position(|group| *group == claimed.shard) {
            let (n, now_ms) = (self.groups.len(), self.node.clock.now_ms());
            self.node.decks.with(self.spec.queue, n, |deck| {
                deck.note_backlog(place, claimed.backlog, now_ms);
                let newest = claimed.leases.iter().flatten().map(|lease| lease.sent_ms).max();
                deck.note_reached(place, newest.unwrap_or_default());
                if count > 0 {
                    deck.note_due(place, now_ms + self.spec.visibility_ms);
                }
                if claimed.leases.is_ok() {
                    deck.note_noise(place, claimed.noisy);
                }
            });
            // What has just been given up is there, and nobody else tells this node.
            if let Some(redrive) = self.spec.redrive.as_ref().filter(|_| claimed.dead_letters > 0) {
                self.node.decks.with(redrive.target, n, |deck| {
                    deck.note_backlog(place, claimed.dead_letters, now_ms);
                });
            }
        }
        if self.request.explain {
            let asked = &mut self.received.asked;
            // It may have been asked for quiet tenants' messages before.
            let before = match asked.iter().position(|(shard, _)| *shard == claimed.shard) {
                Some(at) => asked.remove(at).1,
                None => ShardAnswer::Unreachable,
            };
            let earlier = match before {
                ShardAnswer::Heard { taken, .. } => taken,
                ShardAnswer::Unreachable => 0,
            };
            let answer = match claimed.leases {
                Ok(_) => ShardAnswer::Heard { taken: earlier + count, left: claimed.backlog },
                Err(_) => before,
            };
            asked.push((claimed.shard, answer));
        }
        let queue = self.spec.queue;
        let shard = claimed.shard;
        let leases = claimed.leases.into_iter().flatten();
        self.received.messages.extend(leases.map(|lease| Incoming {
            receipt: Receipt { queue, shard, seq: lease.seq, receive: lease.receive_count },
            message_id: lease.message_id,
            receive_count: lease.receive_count,
            first_received_ms: lease.first_received_ms,
            sent_ms: lease.sent_ms,
            moved_from: lease.moved_from.and_then(|name| queue_name(&name)),
            content: lease.content,
        }));
    }
}

fn queue_name(source: &[u8]) -> Option<QueueName> {
    QueueName::new(std::str::from_utf8(source).ok()?).ok()
}
