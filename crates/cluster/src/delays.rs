//! A changed delay of a FIFO queue holds for the messages that already wait, too.
//!
//! Each shard's leader compares the delay that the catalog says with the one that it saw to last,
//! once in a while, and gives what waits the other. Twice: a node that heard late of the change may
//! still have sent a message with the delay of before.

use std::collections::HashMap;

use flotilla_consensus::shard::{Shard, ShardError};
use flotilla_queue::command::{Command, Redelay};
use flotilla_types::ids::{GroupId, QueueId};
use flotilla_types::limits::REDELAY_MESSAGES_MAX;

use crate::api::Queue;
use crate::router::decide_in;

/// How often what waits is looked at after a change.
const LOOKS: u32 = 2;

/// What the leaders on this node have seen to.
#[derive(Default)]
pub(crate) struct Delays(HashMap<(GroupId, QueueId), Seen>);

struct Seen {
    delay_seconds: u32,
    looks_left: u32,
}

impl Delays {
    /// Whether it is time to see to a queue's delay. A queue that this leader has not met yet is:
    /// the leader before may not have come to it.
    fn is_due(&mut self, place: (GroupId, QueueId), delay_seconds: u32) -> bool {
        let fresh = || Seen { delay_seconds, looks_left: LOOKS };
        let seen = self.0.entry(place).or_insert_with(fresh);
        if seen.delay_seconds != delay_seconds {
            *seen = fresh();
        }
        let due = seen.looks_left > 0;
        seen.looks_left = seen.looks_left.saturating_sub(1);
        due
    }

    /// For a shard that is not led here, or queues that are gone.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(GroupId, QueueId) -> bool) {
        self.0.retain(|(shard, queue), _| keep(*shard, *queue));
    }

    /// Sees to one queue in one shard that is led here.
    pub(crate) async fn enforce(&mut self, shard: &Shard, queue: &Queue) -> Result<(), ShardError> {
        let place = (shard.group().id(), queue.id);
        let delay_seconds = queue.attributes.delay_seconds;
        if queue.attributes.fifo.is_none() || !self.is_due(place, delay_seconds) {
            return Ok(());
        }
        for candidates in shard.delayed(queue.id).chunks(REDELAY_MESSAGES_MAX) {
            let command = Command::Redelay(Redelay {
                queue: queue.id,
                delay_ms: u64::from(delay_seconds) * 1_000,
                candidates: candidates.to_vec(),
            });
            if let Err(error) = decide_in(shard, command).await {
                self.0.remove(&place);
                return Err(error);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_seen_to_twice_and_then_left_alone() {
        let mut delays = Delays::default();
        let place = (GroupId(1), QueueId(7));
        let mut looks = |seconds| [(); 3].map(|()| delays.is_due(place, seconds));
        assert_eq!(looks(5), [true, true, false]);
        assert_eq!(looks(5), [false, false, false]);
        assert_eq!(looks(9), [true, true, false]);
        // A new leader knows nothing of it.
        delays.retain(|_, _| false);
        assert!(delays.is_due(place, 9));
    }
}
