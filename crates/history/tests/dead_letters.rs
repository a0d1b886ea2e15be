//! What may keep short polls of a FIFO queue from bringing a message: an earlier one of its group.

use std::collections::BTreeMap;

use flotilla_history::record::*;
use flotilla_history::{
    Answer, Bounds, Content, Digests, Header, Invariant, MessageKey, Op, Options, Outcome,
    Promises, Record, check,
};

const SECOND: u64 = 1_000_000;
const QUEUE: &str = "lines.fifo";
const DEAD: &str = "dead.fifo";

fn at(process: u32, from: u64, to: u64, op: Op) -> Record {
    let (status, request_id) = (None, None);
    Record { process, node: 1, invoked_us: from, returned_us: to, status, request_id, op }
}

fn unknown<T>() -> Outcome<T> {
    Outcome::Info("timeout".to_owned())
}

fn refused<T>() -> Outcome<T> {
    Outcome::Fail("ServiceUnavailable".to_owned())
}

/// Numbers of messages are their sequence numbers, too.
fn stored_as(number: u32) -> Outcome<Sent> {
    let (message_id, sequence) = (format!("id-{number}"), Some(number.to_string()));
    Outcome::Ok(Sent { message_id, sequence, wrong_digests: None, shard: None })
}

fn content(number: u32) -> Content {
    let key = MessageKey { writer: 1, counter: number };
    Content { key, digests: Digests::of(&format!("{key} x"), &[]) }
}

fn create(queue: &str, attributes: BTreeMap<String, String>) -> Record {
    let (queue, result) = (queue.to_owned(), Outcome::Ok(()));
    at(1, 1, 2, Op::CreateQueue(WithAttributes { queue, attributes, result }))
}

fn send(number: u32, group: &str, dedup: &str, from: u64, result: Outcome<Sent>) -> Record {
    let entry = SendEntry {
        content: content(number),
        group: Some(group.to_owned()),
        dedup: Some(dedup.to_owned()),
        delay_ms: None,
        result,
    };
    let send = Send { queue: QUEUE.to_owned(), entries: vec![entry], answered: None };
    at(1, from, from + 10, Op::Send(send))
}

fn receive(queue: &str, from: u64, result: Outcome<Vec<Delivered>>) -> Record {
    let receive = Receive {
        queue: queue.to_owned(),
        max: 1,
        wait_ms: Some(0),
        visibility_ms: Some(1_000),
        attempt: None,
        lost: false,
        unheard: Vec::new(),
        result,
    };
    at(2, from, from + 10, Op::Receive(receive))
}

fn brings(number: u32, count: u32, dedup: &str) -> Outcome<Vec<Delivered>> {
    Outcome::Ok(vec![Delivered {
        content: Some(content(number)),
        message_id: format!("id-{number}"),
        handle: format!("handle-{number}-{count}"),
        wrong_digests: None,
        receive_count: Some(count),
        sent_ms: None,
        first_received_ms: None,
        group: Some("g".to_owned()),
        dedup: Some(dedup.to_owned()),
        sequence: Some(number.to_string()),
        source: None,
        shard: None,
    }])
}

fn delete(queue: &str, number: u32, count: u32, from: u64) -> Record {
    let handle = format!("handle-{number}-{count}");
    let entries = vec![DeleteEntry { handle, result: Outcome::Ok(()) }];
    let delete = Delete { queue: queue.to_owned(), entries, answered: None };
    at(2, from, from + 10, Op::Delete(delete))
}

/// A receive whose answer was lost, the send of message 2, two empty polls, and then what comes out:
/// message 2, and message 1 as a dead letter if it was ever stored. Those are received once at most.
fn history(before: Vec<Record>, stored: bool) -> Vec<Record> {
    let arn = format!("arn:aws:sqs:us-east-1:000000000000:{DEAD}");
    let policy = format!("{{\"deadLetterTargetArn\":\"{arn}\",\"maxReceiveCount\":1}}");
    let mut records = vec![
        create(DEAD, BTreeMap::new()),
        create(QUEUE, [("RedrivePolicy".to_owned(), policy)].into()),
    ];
    records.extend(before);
    records.extend([
        receive(QUEUE, 300, unknown()),
        send(2, "g", "two", 400, stored_as(2)),
        receive(QUEUE, 500, Outcome::Ok(Vec::new())),
        receive(QUEUE, 600, Outcome::Ok(Vec::new())),
        receive(QUEUE, 8 * SECOND, brings(2, 1, "two")),
        delete(QUEUE, 2, 1, 8 * SECOND + 100),
    ]);
    if stored {
        records.push(receive(DEAD, 9 * SECOND, brings(1, 2, "id-1")));
        records.push(delete(DEAD, 1, 2, 9 * SECOND + 100));
    }
    let end = 20 * SECOND;
    records.push(at(0, end, end, Op::Mark(Mark::DrainBegan)));
    records.push(at(0, end, end, Op::Mark(Mark::DrainEnded { complete: true })));
    records
}

fn broken(before: Vec<Record>, stored: bool) -> Vec<Invariant> {
    let promises = Promises { short_polls_for_all: Some(2), ..Promises::default() };
    let options = Options { bounds: Bounds::exact(), promises, ..Options::default() };
    let verdict = check(&Header { options, ..Header::default() }, &history(before, stored));
    assert_ne!(verdict.answer, Answer::Unknown, "{:?}", verdict.doubts);
    verdict.broken()
}

#[test]
fn a_message_first_seen_as_a_dead_letter_held_its_group_back_before() {
    assert_eq!(broken(vec![send(1, "g", "one", 100, unknown())], true), []);
    // Nothing was before message 2, or nothing of its group.
    assert_eq!(broken(vec![send(1, "g", "one", 100, refused())], false), [Invariant::S17]);
}

#[test]
fn what_was_sent_after_a_message_does_not_hold_it_back() {
    let later = || vec![send(1, "g", "one", 420, unknown())];
    assert_eq!(broken(later(), true), [Invariant::S17]);
    let perhaps_earlier = || vec![send(1, "g", "one", 405, unknown())];
    assert_eq!(broken(perhaps_earlier(), true), []);
}

#[test]
fn a_duplicate_in_another_group_does_not_tell_where_the_message_is() {
    let before = vec![
        send(1, "g", "one", 100, unknown()),
        // The first was stored, and this one is answered with its id.
        send(3, "other", "one", 200, stored_as(1)),
    ];
    assert_eq!(broken(before, true), []);
}
