//! S14. Cases: a deletion of a queue (nothing that was in it comes out of a queue of that name); a
//! queue whose creations and deletions must have an order that explains their answers; and each
//! request that begins after a deletion and ends before the next creation, or the other way round.
//!
//! Source: CreateQueue, DeleteQueue; a minute's grace in SQS, at once here, with
//! `queue_slack_us` for other nodes to hear of it (`queue_slack_faulty_us` of a deletion in a fault,
//! also for what S1, S13 and others make of it). Undecided: what overlaps a creation or deletion of
//! unknown outcome, and histories with too many of those to search. `e` is not used: nothing here
//! is a timer.

use crate::index::{Existence, Index, Known, NEVER, Probe, Queue, Span};
use crate::linear::{Call, Linear, linearize};
use crate::verdict::Tally;

pub(super) fn check(index: &Index, tally: &mut Tally) {
    super::s13_purge::check_clearings(index, tally, true);
    for (number, queue) in (0u32..).zip(&index.queues) {
        if queue.existence.is_empty() {
            continue;
        }
        check_order(index, tally, queue);
        check_absence(index, tally, number, queue);
        check_presence(index, tally, queue);
    }
}

/// Codes of refusals that say something about the queue.
const EXISTS: [&str; 2] = ["QueueAlreadyExists", "QueueNameExists"];
const DELETED_RECENTLY: [&str; 2] =
    ["AWS.SimpleQueueService.QueueDeletedRecently", "QueueDeletedRecently"];
const NO_QUEUE: [&str; 2] = ["AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist"];

/// What a queue can be: absent, or there with the attributes of one of its creations.
type State = Option<usize>;

fn check_order(index: &Index, tally: &mut Tally, queue: &Queue) {
    let calls: Vec<Call> = queue.existence.iter().map(|it| call(it.at, it.outcome)).collect();
    // Attributes that were set later are not those of any creation.
    let settled = !queue
        .accesses
        .iter()
        .any(|it| it.writes && !queue.existence.iter().any(|other| other.record == it.record));
    let step = |state: &State, number: usize| {
        let it = &queue.existence[number];
        let other_set = |a: usize| settled && queue.existence[a].attributes != it.attributes;
        let code = it.code.as_str();
        let refused = it.outcome == Known::Fail;
        match (state, it.creates) {
            (None, true) if refused && EXISTS.contains(&code) => None,
            (None, true) if refused => Some(None),
            (None, true) => Some(Some(number)),
            (Some(_), true) if refused && DELETED_RECENTLY.contains(&code) => None,
            (Some(there), true) if refused => Some(Some(*there)),
            (Some(there), true) if other_set(*there) => None,
            (Some(there), true) => Some(Some(*there)),
            (None, false) if refused => Some(None),
            (None, false) => None,
            (Some(_), false) if refused && NO_QUEUE.contains(&code) => None,
            (Some(there), false) if refused => Some(Some(*there)),
            (Some(_), false) => Some(None),
        }
    };
    let absent_first = linearize(&calls, None, step);
    // It may have been there before the history began, with whatever attributes.
    let first = queue.existence.iter().position(|it| !it.creates || it.outcome != Known::Fail);
    let there_first = match (absent_first, first) {
        (Linear::No, Some(first)) => linearize(&calls, Some(first), step),
        (result, _) => result,
    };
    match there_first {
        Linear::Yes => tally.saw(),
        Linear::Unknown => tally.undecided(),
        Linear::No => tally.found(|| {
            let what = format!(
                "no order of the creations and deletions of {} explains their answers",
                queue.name
            );
            let at = queue.existence.iter().map(|it| it.at.inv).min().unwrap_or(0);
            let mut finding = index.finding(what, at);
            finding.queue = Some(queue.name.clone());
            finding.records = queue.existence.iter().take(20).map(|it| it.record).collect();
            finding
        }),
    }
}

fn call(at: Span, outcome: Known) -> Call {
    Call { inv: at.inv, ret: at.ret, optional: outcome == Known::Info }
}

/// From when to when the queue was certainly as `created` says.
fn certain(index: &Index, queue: &Queue, created: bool) -> Vec<(Span, u32)> {
    let bounds = index.bounds();
    let done = |it: &&Existence| it.creates == created && it.outcome == Known::Ok;
    let mut spans = Vec::new();
    for it in queue.existence.iter().filter(done) {
        let others = queue.existence.iter().filter(|other| other.creates != created);
        // Anything that may be ordered after it ends what is certain.
        let undone = others
            .filter(|other| other.outcome != Known::Fail && !other.at.before(it.at))
            .map(|other| other.at.inv)
            .min()
            .unwrap_or(NEVER);
        let late = !created && index.disturbed(it.at);
        let slack = if late { bounds.queue_slack_faulty_us } else { bounds.queue_slack_us };
        let from = it.at.ret.saturating_add(slack);
        if from < undone {
            spans.push((Span { inv: from, ret: undone }, it.record));
        }
    }
    spans
}

fn within(spans: &[(Span, u32)], at: Span) -> Option<u32> {
    let found = spans.iter().find(|(span, _)| span.inv < at.inv && at.ret < span.ret);
    found.map(|(_, record)| *record)
}

fn check_absence(index: &Index, tally: &mut Tally, number: u32, queue: &Queue) {
    let absent = certain(index, queue, false);
    if absent.is_empty() {
        return;
    }
    let sends = index.attempts.iter().filter(|it| it.queue == number && it.outcome == Known::Ok);
    let sends = sends.map(|it| (it.at, it.record));
    let receives = index.receives.iter().filter(|it| it.queue == number);
    let receives = receives.filter(|it| it.outcome == Known::Ok).map(|it| (it.at, it.record));
    let touches = index.touches.iter().filter(|it| it.queue == number);
    let touches = touches.filter(|it| it.outcome == Known::Ok).map(|it| (it.at, it.record));
    let reads = queue.accesses.iter().filter(|it| !it.writes).map(|it| (it.at, it.record));
    for (at, record) in sends.chain(receives).chain(touches).chain(reads) {
        tally.saw();
        if let Some(deletion) = within(&absent, at) {
            contradiction(index, tally, queue, at, &[deletion, record], "works after its deletion");
        }
    }
}

fn check_presence(index: &Index, tally: &mut Tally, queue: &Queue) {
    let there = certain(index, queue, true);
    for Probe { record, at, there: seen } in &queue.probes {
        tally.saw();
        if let Some(creation) = within(&there, *at).filter(|_| !seen) {
            let records = [creation, *record];
            contradiction(index, tally, queue, *at, &records, "is said not to exist, and does");
        }
    }
}

fn contradiction(
    index: &Index,
    tally: &mut Tally,
    queue: &Queue,
    at: Span,
    records: &[u32],
    what: &str,
) {
    tally.found(|| {
        let mut finding = index.finding(format!("{} {what}", queue.name), at.inv);
        finding.queue = Some(queue.name.clone());
        finding.records = records.to_vec();
        finding
    });
}
