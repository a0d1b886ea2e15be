//! A clean history of any length: every message is sent, received, now and then left to its timeout
//! and received again, and deleted.

use flotilla_history::record::*;
use flotilla_history::{Content, Digests, MessageKey, Op, Outcome, Record};

/// Messages under way at the same time.
const DEPTH: u64 = 2_000;
/// Between two requests of the same moment of their messages' lives.
const STEP_US: u64 = 100;
const LEASE_MS: u64 = 150;

fn record(process: u32, at: u64, took: u64, op: Op) -> Record {
    let (node, status, request_id) = (process % 3 + 1, None, None);
    Record { process, node, invoked_us: at, returned_us: at + took, status, request_id, op }
}

/// The requests of one message, by time.
fn life(number: u64, digests: Digests, mut emit: impl FnMut(Record)) {
    let start = number * STEP_US;
    let key = MessageKey { writer: (number % 8) as u32, counter: (number / 8) as u32 };
    let content = Content { key, digests };
    let message_id = format!("{number:08x}-0000-4000-8000-000000000000");
    let queue = || "orders".to_owned();
    let sent = Sent { message_id, sequence: None, wrong_digests: None, shard: None };
    let message_id = sent.message_id.clone();
    let result = Outcome::Ok(sent);
    let entry = SendEntry { content, group: None, dedup: None, delay_ms: None, result };
    let send = Send { queue: queue(), entries: vec![entry], answered: None };
    emit(record(key.writer, start, 3_000, Op::Send(send)));
    let receives = if number.is_multiple_of(10) { 2 } else { 1 };
    for receive in 1..=receives {
        let at = start + 5_000 + (receive - 1) * (LEASE_MS * 1_000 + 5_000);
        let delivered = Delivered {
            content: Some(content),
            message_id: message_id.clone(),
            handle: format!("AQEBAgAAAAAAAAABAAAAAQAAAAAAAAAB{number:016x}{receive:08x}"),
            wrong_digests: None,
            receive_count: Some(receive as u32),
            sent_ms: None,
            first_received_ms: None,
            group: None,
            dedup: None,
            sequence: None,
            source: None,
            shard: None,
        };
        let handle = delivered.handle.clone();
        let asked = Receive {
            queue: queue(),
            max: 1,
            wait_ms: Some(20_000),
            visibility_ms: Some(LEASE_MS),
            attempt: None,
            lost: false,
            unheard: Vec::new(),
            result: Outcome::Ok(vec![delivered]),
        };
        emit(record(100 + key.writer, at, 2_000, Op::Receive(asked)));
        if receive == receives {
            let entries = vec![DeleteEntry { handle, result: Outcome::Ok(()) }];
            let delete = Delete { queue: queue(), entries, answered: None };
            emit(record(100 + key.writer, at + 10_000, 2_000, Op::Delete(delete)));
        }
    }
}

/// All requests. Like those of many clients they are nearly, not quite, in order of time.
pub fn history(messages: u64, mut emit: impl FnMut(Record)) {
    let digests = Digests::of("a message like all the others", &[]);
    let mut window = Vec::new();
    for number in 0..messages {
        life(number, digests, |record| window.push(record));
        if number % DEPTH == DEPTH - 1 || number == messages - 1 {
            window.sort_by_key(|record| record.returned_us);
            window.drain(..).for_each(&mut emit);
        }
    }
    let end = messages * STEP_US + 1_000_000;
    emit(record(0, end, 0, Op::Mark(Mark::DrainBegan)));
    emit(record(0, end, 0, Op::Mark(Mark::DrainEnded { complete: true })));
}
