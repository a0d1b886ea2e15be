//! What is said beside findings: that too little was looked at, that a file is not whole, and how it
//! all is shown.

mod common;

use std::io::Write;

use common::{Bug, Plan, World, steady};
use flotilla_history::record::*;
use flotilla_history::{
    Answer, Bounds, Content, Digests, Header, Invariant, MessageKey, Op, Options, Outcome, Record,
    Recorder, Tail, Verdict, check, check_file,
};

const SECOND: u64 = 1_000_000;

fn content(counter: u32) -> Content {
    let key = MessageKey { writer: 1, counter };
    Content { key, digests: Digests::of(&format!("{key} x"), &[]) }
}

fn at(process: u32, from: u64, to: u64, op: Op) -> Record {
    let (status, request_id) = (Some(200), None);
    Record { process, node: process, invoked_us: from, returned_us: to, status, request_id, op }
}

fn send(counter: u32, from: u64, to: u64) -> Record {
    let sent = Sent {
        message_id: format!("id-{counter}"),
        sequence: None,
        wrong_digests: None,
        shard: Some(4),
    };
    let entry = SendEntry {
        content: content(counter),
        group: None,
        dedup: None,
        delay_ms: None,
        result: Outcome::Ok(sent),
    };
    at(1, from, to, Op::Send(Send { queue: "q".to_owned(), entries: vec![entry], answered: None }))
}

fn receive(process: u32, counter: u32, count: u32, from: u64, to: u64) -> Record {
    let delivered = Delivered {
        content: Some(content(counter)),
        message_id: format!("id-{counter}"),
        handle: format!("handle-{counter}-{count}"),
        wrong_digests: None,
        receive_count: Some(count),
        sent_ms: None,
        first_received_ms: None,
        group: None,
        dedup: None,
        sequence: None,
        source: None,
        shard: Some(4),
    };
    let receive = Receive {
        queue: "q".to_owned(),
        max: 1,
        wait_ms: Some(0),
        visibility_ms: Some(10_000),
        attempt: None,
        lost: false,
        unheard: Vec::new(),
        result: Outcome::Ok(vec![delivered]),
    };
    at(process, from, to, Op::Receive(receive))
}

fn mark(now: u64, mark: Mark) -> Record {
    at(0, now, now, Op::Mark(mark))
}

fn drained(mut records: Vec<Record>, now: u64) -> Vec<Record> {
    records.push(mark(now, Mark::DrainBegan));
    records.push(mark(now + 1, Mark::DrainEnded { complete: true }));
    records
}

fn exact() -> Header {
    let options = Options { bounds: Bounds::exact(), ..Options::default() };
    Header { options, ..Header::default() }
}

fn judge(records: &[Record]) -> Verdict {
    check(&exact(), records)
}

#[test]
fn a_finding_says_which_message_where_and_by_what() {
    let records =
        drained(vec![send(7, 1, 2), receive(2, 7, 1, 10, 20), receive(3, 7, 2, 30, 40)], SECOND);
    let verdict = judge(&records);
    assert_eq!(verdict.broken(), [Invariant::S1, Invariant::S4]);
    let finding = &verdict.tally(Invariant::S4).findings[0];
    assert_eq!(finding.message.as_deref(), Some("w1-7"));
    assert_eq!((finding.writer, finding.shard), (Some(1), Some(4)));
    assert_eq!(finding.queue.as_deref(), Some("q"));
    assert_eq!(finding.nodes, [1, 2, 3]);
    assert_eq!(finding.records, [0, 1, 2]);
    assert_eq!(
        verdict.losses,
        [
            "writer 1: 1 of 1 lost, all that it sent",
            "queue q, shard 4, acknowledged by node 1: 1 lost"
        ]
    );
}

#[test]
fn overlapping_deliveries_need_an_order_that_keeps_a_lease() {
    let twice =
        |from, to| vec![send(7, 1, 2), receive(2, 7, 1, 10, 20), receive(3, 7, 2, from, to)];
    assert!(judge(&twice(15, 40)).broken().contains(&Invariant::S3));
    // A long poll that began before the first delivery and ended after its lease.
    assert!(judge(&twice(5, 10_000_010)).broken().is_empty());
    assert!(judge(&twice(5, 10_000_009)).broken().contains(&Invariant::S3));
}

#[test]
fn the_clock_bound_is_allowed_for() {
    let records = [send(7, 1, 2), receive(2, 7, 1, 10, 20), receive(3, 7, 2, 9_600_000, 9_700_000)];
    assert!(judge(&records).broken().contains(&Invariant::S4));
    let header = Header::default();
    assert_eq!(header.options.bounds.clock_us, 500_000);
    assert!(check(&header, &records).broken().is_empty());
}

#[test]
fn a_lost_receive_explains_a_gap_in_the_counts() {
    let mut lost = receive(4, 7, 1, 3, 5);
    let Op::Receive(op) = &mut lost.op else { unreachable!() };
    op.result = Outcome::of_error(None, "reset");
    let found = receive(2, 7, 2, 10_000_010, 10_000_020);
    assert!(judge(&[send(7, 1, 2), found.clone()]).broken().contains(&Invariant::S8));
    assert!(judge(&[send(7, 1, 2), lost.clone(), found.clone()]).broken().is_empty());
    // What was proven not to be applied explains nothing.
    let Op::Receive(op) = &mut lost.op else { unreachable!() };
    op.result = Outcome::of_error(Some("not-applied"), "ServiceUnavailable");
    assert!(judge(&[send(7, 1, 2), lost, found]).broken().contains(&Invariant::S8));
}

#[test]
fn an_unknown_delete_accounts_for_a_message_and_decides_nothing() {
    let delete = |result| {
        let entry = DeleteEntry { handle: "handle-7-1".to_owned(), result };
        let op = Delete { queue: "q".to_owned(), entries: vec![entry], answered: None };
        at(2, 30, 40, Op::Delete(op))
    };
    let records =
        |result| drained(vec![send(7, 1, 2), receive(2, 7, 1, 10, 20), delete(result)], SECOND);
    let verdict = judge(&records(Outcome::Info("timeout".to_owned())));
    assert_eq!((verdict.answer, verdict.tally(Invariant::S1).undecided), (Answer::Pass, 1));
    assert_eq!(judge(&records(Outcome::Ok(()))).answer, Answer::Pass);
    let refused = judge(&records(Outcome::Fail("ServiceUnavailable".to_owned())));
    assert_eq!(refused.broken(), [Invariant::S1]);
}

#[test]
fn nothing_proves_nothing() {
    let verdict = judge(&[]);
    assert_eq!((verdict.answer, verdict.exit_code()), (Answer::Unknown, 2));
    let verdict = judge(&[send(7, 1, 2), receive(2, 7, 1, 10, 20)]);
    assert_eq!(verdict.doubts, ["there is no drain: nobody can say what was lost"]);
    let given_up = mark(9, Mark::DrainEnded { complete: false });
    let verdict = judge(&[send(7, 1, 2), mark(8, Mark::DrainBegan), given_up]);
    assert_eq!(verdict.doubts.len(), 1);
}

#[test]
fn what_was_expected_and_not_seen_is_a_doubt() {
    let mut header = exact();
    let expect = &mut header.options.expect;
    expect.invariants = vec![Invariant::S1, Invariant::F2];
    (expect.sends_min, expect.deliveries_min) = (2, 1);
    expect.faults = vec!["kill".to_owned(), "partition".to_owned()];
    let fault = |phase, now| {
        let fault = Fault { name: "kill".to_owned(), nodes: vec![1], phase };
        at(0, now, now, Op::Fault(fault))
    };
    let records = vec![send(7, 1, 2), fault(FaultPhase::Fired, 5)];
    let verdict = check(&header, &drained(records, 90));
    let doubts = verdict.doubts.join("\n");
    for part in [
        "a fault was still there in the drain",
        "1 acknowledged sends, and 2 were expected",
        "0 deliveries, and 1 were expected",
        "partition was expected and never fired",
        "kill was never healed",
        "F2 was expected and had nothing to examine",
    ] {
        assert!(doubts.contains(part), "{part}: {doubts}");
    }
    assert!(!doubts.contains("S1 was"), "{doubts}");
}

#[test]
fn a_fault_counts_only_as_often_as_somebody_looked() {
    let mut header = exact();
    let expect = &mut header.options.expect;
    expect.faults = vec!["kill".to_owned()];
    (expect.fault_times_min, expect.fault_requests_min) = (2, 2);
    let fault = |phase, now| {
        let fault = Fault { name: "kill".to_owned(), nodes: vec![1], phase };
        at(0, now, now, Op::Fault(fault))
    };
    let mut records = vec![
        fault(FaultPhase::Fired, 10),
        send(1, 5, 10),
        send(2, 20, 30),
        fault(FaultPhase::Healed, 20),
        fault(FaultPhase::Fired, 40),
        send(3, 31, 39),
        send(4, 45, 46),
        fault(FaultPhase::Healed, 50),
        send(5, 51, 52),
        receive(2, 5, 1, 1_000, 1_001),
    ];
    let doubts = |records: &[Record]| check(&header, records).doubts.join("\n");
    let few = doubts(&drained(records.clone(), 90));
    assert!(few.contains("expected 2 times with 2 requests in each; of the 2"), "{few}");
    assert!(few.contains("1 had as many"), "{few}");
    records.push(send(6, 30, 60));
    let verdict = check(&header, &drained(records, 90));
    assert!(!verdict.doubts.join("\n").contains("kill"), "{:?}", verdict.doubts);
    let seen = verdict.coverage.faults_by_name["kill"];
    assert_eq!((seen.times, seen.requests_min), (2, 2));
    let text = flotilla_history::report(&verdict, &[]);
    assert!(text.contains("fault kill: 2 times, each met by 2 requests or more"), "{text}");
}

#[test]
fn counts_leave_nothing_out_in_a_fault_either() {
    let fault = |phase, now| {
        let fault = Fault { name: "kill".to_owned(), nodes: vec![1], phase };
        at(0, now, now, Op::Fault(fault))
    };
    let verdict = |counted: u32, now| {
        let names = ["", "NotVisible", "Delayed"];
        let counts = names.map(|name| format!("ApproximateNumberOfMessages{name}"));
        let counts = counts.into_iter().zip([counted, 0, 0].map(|count| count.to_string()));
        let (queue, result) = ("q".to_owned(), Outcome::Ok(counts.collect()));
        let read = Op::GetAttributes(OnQueue { queue, result });
        let records = vec![
            send(7, 1, 2),
            fault(FaultPhase::Fired, 10 * SECOND),
            fault(FaultPhase::Healed, 11 * SECOND),
            at(2, now, now + 1, read),
            receive(2, 7, 1, 60 * SECOND, 60 * SECOND + 1),
        ];
        check(&exact(), &records).tally(Invariant::S15).found
    };
    let (faulty, calm) = (12 * SECOND, 30 * SECOND);
    assert_eq!([0, 1, 2].map(|counted| verdict(counted, faulty)), [1, 0, 1]);
    assert_eq!([0, 1, 2].map(|counted| verdict(counted, calm)), [1, 0, 1]);
}

fn write(records: &[Record], end: bool, file: &std::path::Path) {
    let sink = std::io::BufWriter::new(std::fs::File::create(file).unwrap());
    let recorder = Recorder::new(&exact(), sink).unwrap();
    records.iter().for_each(|record| recorder.record(record));
    if end {
        recorder.finish().unwrap();
    } else {
        recorder.flush().unwrap();
    }
}

#[test]
fn a_file_is_judged_and_its_findings_are_drawn() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("run.jsonl");
    let world = World::run(Plan { bug: Some(Bug::LeaseIgnored), ..Plan::new(3) });
    let evil = Mark::Note("</svg><script>alert(\"1\")</script>".to_owned());
    let mut records = world.records;
    let in_memory = check(&exact(), &records);
    let middle = in_memory.findings().next().unwrap().at_us;
    records.insert(0, mark(middle, evil));
    write(&records, true, &path);
    let checked = check_file(&path).unwrap();
    assert_eq!(checked.verdict.answer, Answer::Fail);
    assert_eq!(checked.verdict.broken(), in_memory.broken());
    assert!(checked.report.starts_with("FAIL"));
    assert!(checked.report.contains("S4 a leased message is handed to nobody else"));
    let page = std::fs::read_to_string(checked.timeline.unwrap()).unwrap();
    assert!(page.contains("<svg") && page.contains("&lt;script&gt;alert(&quot;1&quot;)"));
    assert!(!page.contains("<script"), "nothing of the history is markup");
    assert_eq!(page.matches("<svg").count(), page.matches("</svg>").count());
    assert!(!page.contains("http"), "it needs nothing else");
    let json = std::fs::read_to_string(checked.json).unwrap();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["answer"], "fail");
    let places: Vec<&str> = json["tallies"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["invariant"].as_str().unwrap())
        .collect();
    assert!(places.contains(&"S1b") && places.contains(&"F11"));
}

#[test]
fn a_history_without_its_end_is_judged_and_never_passes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("run.jsonl");
    let world = World::run(Plan { seconds: 3, ..Plan::new(4) });
    write(&world.records, false, &path);
    let checked = check_file(&path).unwrap();
    assert_eq!((checked.verdict.answer, checked.verdict.tail), (Answer::Unknown, Tail::Unfinished));
    std::fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(b"{\"p\":1,").unwrap();
    let checked = check_file(&path).unwrap();
    assert_eq!((checked.verdict.exit_code(), checked.verdict.tail), (2, Tail::Torn(7)));
    assert!(checked.report.contains("torn"), "{}", checked.report);
    assert!(checked.timeline.is_none());
}

#[test]
fn what_seems_to_come_from_nowhere_is_not_held_against_half_a_history() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("run.jsonl");
    let records = [receive(2, 7, 3, 10, 20)];
    assert_eq!(judge(&records).broken(), [Invariant::S2, Invariant::S8]);
    write(&records, false, &path);
    assert_eq!(check_file(&path).unwrap().verdict.answer, Answer::Unknown);
}

#[test]
fn a_million_requests_are_judged() {
    let mut checker = flotilla_history::Checker::new(exact());
    steady::history(1_000_000 * 10 / 31, |record| checker.add(&record));
    let verdict = checker.finish(Tail::Whole);
    assert_eq!(verdict.answer, Answer::Pass, "{}", flotilla_history::report(&verdict, &[]));
    assert!(verdict.coverage.records > 999_000);
    assert!(verdict.tally(Invariant::S4).examined > 30_000);
}

#[test]
fn a_node_that_is_cut_off_may_hear_of_a_deletion_later() {
    let fault = |phase, now| {
        let fault = Fault { name: "partition".to_owned(), nodes: vec![1], phase };
        at(0, now, now, Op::Fault(fault))
    };
    let delete = |from, to| {
        let op = OnQueue { queue: "q".to_owned(), result: Outcome::Ok(()) };
        at(3, from, to, Op::DeleteQueue(op))
    };
    let through = |node: u32, seconds: u64| {
        let sent = send(1, seconds * SECOND, seconds * SECOND + 1);
        vec![delete(2_000, 3_000), Record { node, ..sent }]
    };
    let in_fault = |mut records: Vec<Record>| {
        records.insert(0, fault(FaultPhase::Fired, 1_000));
        records.push(fault(FaultPhase::Healed, 40 * SECOND));
        records.push(fault(FaultPhase::Ready, 41 * SECOND));
        drained(records, 80 * SECOND)
    };
    let broken = |records: &[Record]| judge(records).broken();
    for (node, seconds, wrong) in [(1, 1, false), (1, 49, false), (1, 51, true), (2, 1, true)] {
        let expected: &[Invariant] = if wrong { &[Invariant::S1, Invariant::S14] } else { &[] };
        assert_eq!(broken(&in_fault(through(node, seconds))), expected, "node {node}, {seconds} s");
    }
    let calm = drained(through(1, 1), 80 * SECOND);
    assert_eq!(broken(&calm), [Invariant::S1, Invariant::S14]);
}

/// Found by failpoints: a node ended 60 ms after a deletion, and took a message 10 ms after it was back.
#[test]
fn a_node_that_ends_right_after_a_deletion_may_hear_of_it_once_more() {
    let records = |node: u32, ended: u64| {
        let fault = |phase, now| {
            let fault = Fault { name: "crash".to_owned(), nodes: vec![1], phase };
            at(0, now, now, Op::Fault(fault))
        };
        let delete = OnQueue { queue: "q".to_owned(), result: Outcome::Ok(()) };
        let sent = send(1, ended + SECOND + 1, ended + SECOND + 2);
        let records = vec![
            at(3, 2_000, 3_000, Op::DeleteQueue(delete)),
            fault(FaultPhase::Fired, ended),
            fault(FaultPhase::Healed, ended + SECOND),
            Record { node, ..sent },
            fault(FaultPhase::Ready, ended + 2 * SECOND),
        ];
        judge(&drained(records, 80 * SECOND)).broken()
    };
    assert_eq!(records(1, 60_000), []);
    assert_eq!(records(2, 60_000), [Invariant::S1, Invariant::S14], "another node");
    assert_eq!(records(1, 20 * SECOND), [Invariant::S1, Invariant::S14], "long after it");
}

/// A long poll of five seconds that ended empty.
fn empty_poll(from: u64, to: u64, unheard: &[u32]) -> Record {
    let receive = Receive {
        queue: "q".to_owned(),
        max: 1,
        wait_ms: Some(5_000),
        visibility_ms: Some(10_000),
        attempt: None,
        lost: false,
        unheard: unheard.to_vec(),
        result: Outcome::Ok(Vec::new()),
    };
    at(3, from, to, Op::Receive(receive))
}

fn s16(records: &[Record]) -> (u64, u64, u64) {
    let verdict = judge(records);
    let tally = verdict.tally(Invariant::S16);
    (tally.found, tally.examined, tally.undecided)
}

#[test]
fn an_empty_poll_is_judged_by_its_last_tenth_of_a_second() {
    const POLL: (u64, u64) = (10 * SECOND, 15_010_000);
    let sent_at = |us: u64| {
        vec![
            send(7, us - 1, us),
            empty_poll(POLL.0, POLL.1, &[]),
            receive(2, 7, 1, 20 * SECOND, 20_000_001),
        ]
    };
    // It waits at the server for five seconds from its beginning at least.
    assert_eq!(s16(&sent_at(14_900_000)), (1, 1, 0));
    assert_eq!(s16(&sent_at(14_900_002)), (0, 1, 0));
    let fault = |phase, now| {
        let fault = Fault { name: "kill".to_owned(), nodes: vec![1], phase };
        at(0, now, now, Op::Fault(fault))
    };
    let in_fault = |us: u64| {
        let mut records = sent_at(us);
        records.insert(0, fault(FaultPhase::Fired, 9 * SECOND));
        records.push(fault(FaultPhase::Healed, 9_500_000));
        records.push(fault(FaultPhase::Ready, 10_500_000));
        records
    };
    assert_eq!(s16(&in_fault(14_000_000)), (1, 1, 0));
    assert_eq!(s16(&in_fault(14_000_002)), (0, 1, 0));
}

#[test]
fn a_poll_that_is_over_while_its_node_stands_still_is_not_judged() {
    let records = |name: &str, node: u32| {
        let fault = |phase, now| {
            let fault = Fault { name: name.to_owned(), nodes: vec![node], phase };
            at(0, now, now, Op::Fault(fault))
        };
        let poll = empty_poll(10 * SECOND, 16 * SECOND, &[]);
        vec![
            send(7, 1, 2),
            poll,
            fault(FaultPhase::Fired, 11 * SECOND),
            fault(FaultPhase::Healed, 16 * SECOND - 1),
            fault(FaultPhase::Ready, 16 * SECOND - 1),
            receive(2, 7, 1, 20 * SECOND, 20_000_001),
        ]
    };
    let polled = empty_poll(0, 1, &[]).node;
    assert_eq!(s16(&records("pause", polled)), (0, 0, 1));
    assert_eq!(s16(&records("pause", polled + 1)), (1, 1, 0), "another node");
    assert_eq!(s16(&records("partition", polled)), (1, 1, 0), "it runs");
}

/// Found by simulated clusters: the wake-up was lost with a link that was cut and not yet seen to be down.
#[test]
fn what_came_while_a_node_was_cut_off_need_not_be_told_to_it_at_once() {
    let polled = empty_poll(0, 1, &[]).node;
    let records = |sent: u64, healed: u64| {
        let fault = |phase, now| {
            let fault = Fault { name: "isolate".to_owned(), nodes: vec![polled], phase };
            at(0, now, now, Op::Fault(fault))
        };
        vec![
            send(7, sent - 1, sent),
            fault(FaultPhase::Fired, 11 * SECOND),
            fault(FaultPhase::Healed, healed),
            empty_poll(10 * SECOND, 15 * SECOND, &[]),
            receive(2, 7, 1, 20 * SECOND, 20_000_001),
        ]
    };
    assert_eq!(s16(&records(12 * SECOND, 14_500_000)), (0, 0, 1));
    assert_eq!(s16(&records(10_500_000, 14_500_000)), (1, 1, 0), "it came before that");
    assert_eq!(s16(&records(12 * SECOND, 13_500_000)), (1, 1, 0), "there was time enough");
}

#[test]
fn a_poll_answers_for_the_shards_that_it_heard() {
    let records = |unheard: &[u32]| {
        let poll = empty_poll(10 * SECOND, 15 * SECOND, unheard);
        vec![send(7, 1, 2), poll, receive(2, 7, 1, 20 * SECOND, 20_000_001)]
    };
    assert_eq!(s16(&records(&[])), (1, 1, 0));
    assert_eq!(s16(&records(&[3])), (1, 1, 0));
    assert_eq!(s16(&records(&[4])), (0, 1, 0), "that is where it was");
}

#[test]
fn a_count_tells_whether_somebody_else_had_a_message_meanwhile() {
    let records = |count: u32, said: bool| {
        let mut other = receive(4, 8, 1, 9 * SECOND, 9_000_001);
        let Op::Receive(op) = &mut other.op else { unreachable!() };
        op.result = Outcome::of_error(None, "reset");
        op.lost = said;
        let poll = empty_poll(10 * SECOND, 15 * SECOND, &[]);
        vec![send(7, 1, 2), other, poll, receive(2, 7, count, 30 * SECOND, 30_000_001)]
    };
    assert_eq!(s16(&records(1, false)), (1, 1, 0), "nobody had it");
    assert_eq!(s16(&records(2, false)), (0, 0, 1), "the lost receive had it");
    // An answer that says so is as good as none.
    let mut said = records(2, true);
    let Op::Receive(op) = &mut said[1].op else { unreachable!() };
    op.result = Outcome::Ok(Vec::new());
    assert_eq!(s16(&said), (0, 0, 1));
    let Op::Receive(op) = &mut said[1].op else { unreachable!() };
    op.lost = false;
    assert!(judge(&said).broken().contains(&Invariant::S8), "and one that does not is a lie");
}

#[test]
fn a_lost_receive_explains_what_happens_soon_after_it_only() {
    let records = |found: u64, again: bool| {
        let mut lost = receive(4, 7, 1, 3, 5);
        let Op::Receive(op) = &mut lost.op else { unreachable!() };
        op.result = Outcome::of_error(None, "reset");
        let mut records = vec![send(7, 1, 2), lost];
        if again {
            records.push(receive(2, 7, 1, 20 * SECOND, 20_000_001));
        }
        let count = if again { 3 } else { 2 };
        records.push(receive(2, 7, count, found, found + 1));
        records
    };
    assert_eq!(judge(&records(40 * SECOND, false)).broken(), []);
    // Since the delivery before nobody can have had it.
    assert_eq!(judge(&records(40 * SECOND, true)).broken(), [Invariant::S8]);
}

#[test]
fn every_heal_is_judged_that_is_followed_by_calm() {
    let fault = |phase, seconds: u64| {
        let fault = Fault { name: "kill".to_owned(), nodes: vec![1], phase };
        at(0, seconds * SECOND, seconds * SECOND, Op::Fault(fault))
    };
    let failed = |seconds: u64| {
        let mut record = send(seconds as u32, seconds * SECOND, seconds * SECOND + 1);
        let Op::Send(op) = &mut record.op else { unreachable!() };
        op.entries[0].result = Outcome::Fail("not sent".to_owned());
        Record { status: None, ..record }
    };
    let records = |next: u64, works: bool| {
        let mut records = vec![fault(FaultPhase::Fired, 10), fault(FaultPhase::Healed, 12)];
        records.extend([13, 15, 17].map(failed));
        records.push(if works { send(9, 19 * SECOND, 19_000_001) } else { failed(19) });
        records.extend([fault(FaultPhase::Fired, next), fault(FaultPhase::Healed, next + 1)]);
        records.push(send(10, (next + 2) * SECOND, (next + 2) * SECOND + 1));
        records.push(mark((next + 40) * SECOND, Mark::Note("the end".to_owned())));
        judge(&records).tally(Invariant::L1).found
    };
    assert_eq!(records(25, true), 0);
    assert_eq!(records(25, false), 1);
    assert_eq!(records(20, false), 0, "ten seconds were not over");
    let mut batch = failed(13);
    let Op::Send(op) = &mut batch.op else { unreachable!() };
    op.entries = vec![op.entries[0].clone(); 4];
    let once = vec![
        fault(FaultPhase::Fired, 10),
        fault(FaultPhase::Healed, 12),
        batch,
        mark(60 * SECOND, Mark::Note("the end".to_owned())),
    ];
    assert_eq!(judge(&once).tally(Invariant::L1).found, 0, "a batch failed, not four requests");
    let lost = |took_us: u64| {
        let mut records = vec![fault(FaultPhase::Fired, 10), fault(FaultPhase::Healed, 12)];
        records.extend([13, 15, 17].map(|seconds| {
            let mut record = failed(seconds);
            let Op::Send(op) = &mut record.op else { unreachable!() };
            op.entries[0].result = Outcome::Info("closed before the answer".to_owned());
            Record { returned_us: record.invoked_us + took_us, ..record }
        }));
        records.push(mark(60 * SECOND, Mark::Note("the end".to_owned())));
        judge(&records).tally(Invariant::L1).found
    };
    assert_eq!(lost(1_000), 1);
    assert_eq!(lost(1), 0, "connections had been closed long before");
}

#[test]
fn what_cannot_happen_sooner_is_expected_of_long_runs_only() {
    let mut header = exact();
    header.options.expect.later = vec![(Invariant::S10, 60 * SECOND)];
    let run = |seconds: u64| {
        let records = drained(vec![send(7, 1, 2), receive(2, 7, 1, 10, 20)], seconds * SECOND);
        check(&header, &records).doubts
    };
    assert!(run(59).iter().all(|it| !it.contains("S10")), "{:?}", run(59));
    assert!(run(61).iter().any(|it| it.contains("S10 was expected")), "{:?}", run(61));
}
