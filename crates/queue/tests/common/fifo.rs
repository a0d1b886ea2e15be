//! Short words for messages of one FIFO queue.

use std::num::NonZeroU64;

use bytes::Bytes;
use flotilla_queue::command::{Command, Placing, Send};
use flotilla_types::ids::{DedupKey, GroupKey, MessageId, QueueId};

use super::{Rig, seqs};

pub const Q: QueueId = QueueId(1);
pub const INTERVAL_MS: u64 = 300_000;
pub const T: u64 = 10 * INTERVAL_MS;

pub fn group(number: u64) -> GroupKey {
    GroupKey(NonZeroU64::new(number).unwrap())
}

pub fn message(of: u64, number: u8, delay_ms: u64) -> Send {
    Send {
        queue: Q,
        message_id: MessageId([number; 16]),
        delay_ms,
        group: Some(group(of)),
        dedup: Some(DedupKey([number; 16])),
        placing: Placing::default(),
        content: Bytes::from(vec![number]),
    }
}

/// Messages of these groups, in this order: message n has place n and content n.
pub fn with(groups: &[u64]) -> Rig {
    let mut rig = Rig::new();
    let sends = groups.iter().zip(0..).map(|(of, n)| Command::Send(message(*of, n, 0)));
    rig.run(T, sends.collect());
    rig
}

pub fn get(rig: &mut Rig, now_ms: u64, max: usize, visibility_ms: u64) -> Vec<u64> {
    seqs(&rig.receive(now_ms, Q, max, visibility_ms))
}
