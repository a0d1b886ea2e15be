//! A long poll that waits: arm, ask all, park.

use flotilla_types::ids::GroupId;
use tokio::time::Instant;

use super::super::arm::Arming;
use super::super::hub::{Parked, Wake};
use super::Poll;
use crate::api::ShardAnswer;
use crate::router::LOOK_AGAIN;

impl<'a> Poll<'a> {
    /// Whether there is an answer, or no sense in waiting for one.
    fn is_over(&self) -> bool {
        self.is_answered() || self.node.polls_ended()
    }

    async fn ask_anew(&mut self, shards: &[GroupId]) {
        self.renew();
        self.missed = false;
        self.ask(shards).await;
    }

    /// Arm, ask all, park; again whenever something was there and somebody else was faster.
    pub(super) async fn wait(&mut self, deadline: Instant) {
        let node = self.node;
        // Of a shard that refused: others hear of it when this poll ends.
        let mut untaken = None;
        while !self.is_over() {
            let Some(mut parked) = node.hub.park(self.spec.queue) else {
                // Too many wait already: the rest of this poll is a short one.
                return;
            };
            let Some(wake) = self.until_woken(&mut parked, deadline).await else { return };
            if let Wake::Available(shard) = wake {
                // Without room it goes away, and the wake-up is passed on.
                if !self.has_room_in_flight(deadline).await {
                    return;
                }
                self.ask_anew(&[shard]).await;
                if self.full {
                    return;
                }
            }
            // Only now: until here, going away would have passed the wake-up on.
            if self.missed && self.received.messages.is_empty() {
                untaken = parked.refused().or(untaken);
            } else {
                parked.taken();
            }
            if self.missed && !self.is_over() {
                // A shard that hands its leadership over refuses at once, gives back what it had
                // reserved, and wakes with that: without a pause this would go round and round.
                self.missed = false;
                tokio::time::sleep_until(deadline.min(Instant::now() + LOOK_AGAIN)).await;
            }
        }
    }

    /// Asks shards that say that they have something, while the poll is parked; `None` when it is over.
    async fn until_woken(&mut self, parked: &mut Parked, deadline: Instant) -> Option<Wake> {
        let node = self.node;
        let mut arming = Arming::begin(&node.router, &node.peers, self.spec.queue);
        loop {
            let found = tokio::select! {
                // The end first: a shard that cannot decide anything gives back at once what was asked for,
                // and wakes with that. It would go round and round.
                biased;
                () = tokio::time::sleep_until(deadline) => {
                    self.ask_at_last(parked, arming, deadline).await;
                    return None;
                }
                () = node.end_of_polls() => {
                    self.note_unheard(&arming);
                    return None;
                }
                wake = parked.woken() => {
                    self.note_heard(&arming);
                    return Some(wake);
                }
                found = arming.next(), if !arming.is_over() => found,
            };
            self.note_heard(&arming);
            if !self.has_room_in_flight(deadline).await {
                return None;
            }
            // Still parked: what arrives while these are asked is not missed.
            let (_, wake) = parked.meanwhile(self.ask_anew(&found)).await;
            if self.is_over() {
                return None;
            }
            if wake.is_some() {
                return wake;
            }
            if self.missed {
                arming.tell_again(&found);
            }
            // Reserved by others; if one of them gives something back, that wakes.
        }
    }

    /// The time is over. A poll that waited for an answer until now, which may be seconds when a link
    /// breaks, has not asked the shards yet that have something. Once: then it ends.
    async fn ask_at_last(
        &mut self,
        parked: &mut Parked,
        mut arming: Arming<'a>,
        deadline: Instant,
    ) {
        let (node, wake) = (self.node, parked.woken_by_now());
        if wake == Some(Wake::Rearm) {
            // Only what is led here can be asked at once.
            arming = Arming::begin(&node.router, &node.peers, self.spec.queue);
        }
        let mut told = arming.told();
        if let Some(Wake::Available(shard)) = wake {
            told.retain(|it| *it != shard);
            told.push(shard);
        }
        if !told.is_empty() && self.has_room_in_flight(deadline).await {
            self.ask_anew(&told).await;
        }
        self.note_unheard(&arming);
    }

    /// A shard counts as long as it would tell of what arrives.
    fn note_heard(&mut self, arming: &Arming<'_>) {
        if self.groups.iter().any(|shard| self.hears_of(arming, *shard)) {
            self.reached_at = Some(Instant::now());
        }
    }

    fn hears_of(&self, arming: &Arming<'_>, shard: GroupId) -> bool {
        arming.hears_of(shard) && !self.node.router.is_cut_off(shard)
    }

    /// Also for the caller who wants to know: shards of which this poll would not have heard lately.
    fn note_unheard(&mut self, arming: &Arming<'_>) {
        self.note_heard(arming);
        if !self.request.explain {
            return;
        }
        for shard in self.groups.iter() {
            if !self.hears_of(arming, *shard) {
                self.received.asked.retain(|(asked, _)| asked != shard);
                self.received.asked.push((*shard, ShardAnswer::Unreachable));
            }
        }
    }
}
