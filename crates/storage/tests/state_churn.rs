//! Messages that are sent, received and deleted leave nothing behind that grows with their number.

mod common;

use std::collections::VecDeque;

use bytes::Bytes;
use common::env_number;
use flotilla_queue::store::{Hidden, Message, Read, ShardRow, Write};
use flotilla_storage::state::{GroupState, StateDb, StateOptions};
use flotilla_types::ids::{GroupId, MessageId, QueueId, Seq};

const QUEUE: QueueId = QueueId(1);
const BACKLOG: u64 = 1_000;
const MESSAGES_PER_COMMIT: u64 = 10;
const CONTENT_BYTES: usize = 300;

fn hidden(revision: u32) -> Hidden {
    Hidden {
        revision,
        visible_at_ms: 30_000,
        receive_count: revision,
        first_received_ms: 1,
        received_ms: 2,
        group: None,
    }
}

/// Sends, receives and deletes `count` messages behind a backlog that stays.
fn churn(group: &GroupState, in_flight: &mut VecDeque<Seq>, next: &mut Seq, count: u64) {
    let mut left = count;
    while left > 0 {
        let mut batch = group.batch();
        for _ in 0..MESSAGES_PER_COMMIT.min(left) {
            let message = Message {
                sent_ms: next.0,
                message_id: MessageId([1; 16]),
                delayed: false,
                group: None,
                moved: None,
                content: Bytes::from(vec![next.0 as u8; CONTENT_BYTES]),
            };
            batch.put_message(QUEUE, *next, &message);
            in_flight.push_back(*next);
            *next = next.next();
            left -= 1;
            // Received one commit's messages later, deleted when the backlog is full behind it.
            if in_flight.len() as u64 > BACKLOG {
                let received = in_flight[in_flight.len() - 20];
                batch.put_hidden(QUEUE, received, &hidden(1));
                let seq = in_flight.pop_front().expect("is full");
                batch.remove_message(QUEUE, seq);
                // The first ones were never received.
                if seq.0 >= BACKLOG {
                    batch.remove_hidden(QUEUE, seq, 1);
                }
            }
        }
        batch.put_shard(&ShardRow { clock_ms: next.0, next_seq: *next });
        batch.put_applied(&next.0.to_be_bytes());
        group.commit(batch).expect("commits");
    }
}

#[test]
fn disk_use_follows_the_backlog_and_not_the_messages_processed() {
    let dir = tempfile::tempdir().unwrap();
    // A flush about every thousand messages: far more pairs of put and removal are torn apart
    // than with the memory a node has.
    let options = StateOptions { write_buffer_bytes: 1_048_576, ..StateOptions::default() };
    let db = StateDb::open(dir.path(), options).unwrap();
    let group = db.group(GroupId(1)).unwrap();
    let (mut in_flight, mut next) = (VecDeque::new(), Seq(0));
    let total = env_number("FLOTILLA_TEST_CHURN_MESSAGES", 300_000);
    let mut peaks = Vec::new();
    for _ in 0..10 {
        churn(&group, &mut in_flight, &mut next, total / 10);
        db.flush().unwrap();
        db.trim().unwrap();
        db.settle().unwrap();
        let (entries, removals) = db.disk_entries().unwrap();
        peaks.push((entries, removals, db.disk_bytes()));
    }
    let live = group.messages_from(QUEUE, Seq(0), usize::MAX).unwrap().len() as u64;
    assert_eq!(live, BACKLOG);
    for (entries, removals, disk_bytes) in &peaks {
        // Backlog plus what a few flushes hold that no compaction has seen together.
        assert!(*entries < 30 * BACKLOG, "{peaks:?}");
        // Fewer are not worth a compaction.
        assert!(*removals < 10_000, "{peaks:?}");
        assert!(*disk_bytes < 4 * 1_048_576, "{peaks:?}");
    }
}
