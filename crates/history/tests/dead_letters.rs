//! FIFO queues whose messages are received once, and then are dead letters.

use std::collections::BTreeMap;

use flotilla_history::record::*;
use flotilla_history::{
    Answer, Bounds, Content, Digests, Header, Invariant, MessageKey, Op, Options, Outcome,
    Promises, Record, check,
};

const SECOND: u64 = 1_000_000;
const QUEUE: &str = "lines.fifo";
const DEAD: &str = "dead.fifo";
const OTHER: &str = "other.fifo";

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
    brings_as(number, number, count, dedup)
}

/// A message under the id of another number.
fn brings_as(number: u32, id: u32, count: u32, dedup: &str) -> Outcome<Vec<Delivered>> {
    Outcome::Ok(vec![Delivered {
        content: Some(content(number)),
        message_id: format!("id-{id}"),
        handle: format!("handle-{id}-{count}"),
        wrong_digests: None,
        receive_count: Some(count),
        sent_ms: None,
        first_received_ms: None,
        group: Some("g".to_owned()),
        dedup: Some(dedup.to_owned()),
        sequence: Some(id.to_string()),
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

/// The queues, what is done, and the marks of a drain.
fn drained(records: Vec<Record>) -> Vec<Record> {
    let arn = format!("arn:aws:sqs:us-east-1:000000000000:{DEAD}");
    let policy = format!("{{\"deadLetterTargetArn\":\"{arn}\",\"maxReceiveCount\":1}}");
    let mut all = vec![
        create(DEAD, BTreeMap::new()),
        create(OTHER, BTreeMap::new()),
        create(QUEUE, [("RedrivePolicy".to_owned(), policy)].into()),
    ];
    all.extend(records);
    let end = 20 * SECOND;
    all.push(at(0, end, end, Op::Mark(Mark::DrainBegan)));
    all.push(at(0, end, end, Op::Mark(Mark::DrainEnded { complete: true })));
    all
}

fn broken(records: Vec<Record>) -> Vec<Invariant> {
    let promises = Promises {
        short_polls_for_all: Some(2),
        fifo_moves_hide_us: Some(4 * SECOND),
        ..Promises::default()
    };
    let options = Options { bounds: Bounds::exact(), promises, ..Options::default() };
    let verdict = check(&Header { options, ..Header::default() }, &drained(records));
    assert_ne!(verdict.answer, Answer::Unknown, "{:?}", verdict.doubts);
    verdict.broken()
}

/// A receive whose answer was lost, the send of message 2, two empty polls, and then what comes out:
/// message 2, and what came of message 1.
fn polled(before: Vec<Record>, after: Vec<Record>) -> Vec<Invariant> {
    let mut records = before;
    records.extend([
        receive(QUEUE, 300, unknown()),
        send(2, "g", "two", 400, stored_as(2)),
        receive(QUEUE, 500, Outcome::Ok(Vec::new())),
        receive(QUEUE, 600, Outcome::Ok(Vec::new())),
        receive(QUEUE, 8 * SECOND, brings(2, 1, "two")),
        delete(QUEUE, 2, 1, 8 * SECOND + 100),
    ]);
    records.extend(after);
    broken(records)
}

/// Message 1 as a dead letter.
fn dead() -> Vec<Record> {
    let found = receive(DEAD, 9 * SECOND, brings(1, 2, "id-1"));
    vec![found, delete(DEAD, 1, 2, 9 * SECOND + 100)]
}

/// A task moves dead letters to another queue.
fn moved() -> Record {
    let (source, destination) = (DEAD.to_owned(), Some(OTHER.to_owned()));
    let result = Outcome::Ok("task".to_owned());
    let from = 8 * SECOND + 200;
    at(3, from, from + 10, Op::StartMove(StartMove { source, destination, result }))
}

/// Message 1 was stored, and a send in another group is answered with its id.
fn stored_and_repeated() -> Vec<Record> {
    let first = send(1, "g", "one", 100, unknown());
    vec![first, send(3, "other", "one", 200, stored_as(1))]
}

#[test]
fn a_message_first_seen_as_a_dead_letter_held_its_group_back_before() {
    assert_eq!(polled(vec![send(1, "g", "one", 100, unknown())], dead()), []);
    // Nothing was before message 2.
    assert_eq!(polled(vec![send(1, "g", "one", 100, refused())], vec![]), [Invariant::S17]);
}

#[test]
fn what_was_sent_after_a_message_does_not_hold_it_back() {
    let sent_at = |from: u64| vec![send(1, "g", "one", from, unknown())];
    assert_eq!(polled(sent_at(420), dead()), [Invariant::S17]);
    assert_eq!(polled(sent_at(405), dead()), [], "perhaps earlier");
}

#[test]
fn a_duplicate_in_another_group_does_not_tell_where_the_message_is() {
    assert_eq!(polled(stored_and_repeated(), dead()), []);
}

#[test]
fn a_message_whose_id_only_a_duplicate_knows_is_found_under_its_next_id() {
    let found = receive(OTHER, 9 * SECOND, brings_as(1, 5, 1, "id-1"));
    let found = vec![moved(), found, delete(OTHER, 5, 1, 9 * SECOND + 100)];
    assert_eq!(polled(stored_and_repeated(), found), []);
    assert_eq!(polled(stored_and_repeated(), vec![moved()]), [Invariant::S1]);
}

/// A message that nobody saw became a dead letter, and a task moved it: what it became is seen before it
/// comes again, and after that, too.
fn left_behind(sent: Outcome<Sent>, fault: bool) -> Vec<Invariant> {
    let (source, destination) = (DEAD.to_owned(), None);
    let result = Outcome::Ok("task".to_owned());
    let fault_at = |us: u64, phase| {
        let fault = Fault { name: "kill".to_owned(), nodes: vec![2], phase };
        at(0, us, us, Op::Fault(fault))
    };
    let mut records = vec![
        send(1, "g", "one", 100, sent),
        receive(QUEUE, 300, unknown()),
        at(
            3,
            3 * SECOND,
            3 * SECOND + 10,
            Op::StartMove(StartMove { source, destination, result }),
        ),
        receive(QUEUE, 4 * SECOND, brings_as(1, 5, 1, "id-1")),
        receive(DEAD, 8 * SECOND, brings(1, 3, "id-1")),
        delete(DEAD, 1, 3, 8 * SECOND + 100),
        receive(DEAD, 9 * SECOND, brings_as(1, 5, 2, "id-5")),
        delete(DEAD, 5, 2, 9 * SECOND + 100),
    ];
    if fault {
        records.push(fault_at(3 * SECOND + 5, FaultPhase::Fired));
        records.push(fault_at(3 * SECOND + 50, FaultPhase::Healed));
        records.push(fault_at(3 * SECOND + 60, FaultPhase::Ready));
    }
    broken(records)
}

#[test]
fn a_message_that_a_task_left_behind_is_not_what_it_became() {
    for sent in [stored_as(1), unknown()] {
        assert_eq!(left_behind(sent.clone(), true), [], "{sent:?}");
        assert_eq!(left_behind(sent.clone(), false), [Invariant::S12], "{sent:?}");
    }
}

/// The same in the queue without dead letters.
fn in_other(number: u32, from: u64) -> Record {
    let mut sent = send(number, "g", &number.to_string(), from, stored_as(number));
    if let Op::Send(op) = &mut sent.op {
        op.queue = OTHER.into();
    }
    sent
}

fn deleted(number: u32, count: u32, from: u64, result: Outcome<()>) -> Record {
    let mut deleted = delete(OTHER, number, count, from);
    if let Op::Delete(op) = &mut deleted.op {
        op.entries[0].result = result;
    }
    deleted
}

/// A delete whose answer was lost counted as if it had worked, also when the message came again after it: that a
/// lock was forgotten with a leader was never seen, since deletes are lost with leaders, too.
#[test]
fn a_message_that_came_again_was_not_deleted_by_what_was_asked_before() {
    let twice = |second: u64| {
        vec![
            in_other(1, 100),
            in_other(2, 200),
            receive(OTHER, 300, brings(1, 1, "1")),
            deleted(1, 1, 400, unknown()),
            receive(OTHER, 2_000, brings(1, 2, "1")),
            receive(OTHER, second, brings(2, 1, "2")),
            deleted(1, 2, 5_000, Outcome::Ok(())),
            deleted(2, 1, 5_100, Outcome::Ok(())),
        ]
    };
    let mut locked = broken(twice(2_500));
    locked.retain(|it| [Invariant::F3, Invariant::F4].contains(it));
    assert_eq!(locked, [Invariant::F3, Invariant::F4]);
    // Without the second delivery the first may have been deleted.
    let mut once = twice(2_500);
    once.remove(4);
    once.retain(|it| !matches!(&it.op, Op::Delete(op) if op.entries[0].handle == "handle-1-2"));
    assert_eq!(broken(once), []);
}
