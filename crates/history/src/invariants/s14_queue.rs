//! S14. Cases: a deletion of a queue (nothing that was in it comes out of a queue of that name); a
//! queue whose creations and deletions must have an order that explains their answers; and each
//! request that begins after a deletion and ends before the next creation (it finds no queue), or that
//! finds none (it does not begin after a creation and end before the next deletion); and each use of a
//! handle from before a deletion.
//!
//! Source: CreateQueue, DeleteQueue; a minute's grace in SQS, at once here, with
//! `queue_slack_us` for other nodes to hear of it (a node that a fault is about hears later: see there).
//! Undecided: what overlaps a creation or deletion of
//! unknown outcome, and histories with too many of those to search. `e` is not used: nothing here
//! is a timer.

use crate::index::{Clearing, Existence, Index, Known, NEVER, NONE, Probe, Queue, Span};
use crate::linear::{Call, Linear, linearize};
use crate::verdict::Tally;

pub(super) fn check(index: &Index, tally: &mut Tally) {
    super::s13_purge::check_clearings(index, tally, true);
    let mut absences = Vec::with_capacity(index.queues.len());
    for queue in &index.queues {
        absences.push(absences_of(index, queue));
        if !queue.existence.is_empty() {
            check_order(index, tally, queue);
            check_presence(index, tally, queue);
        }
    }
    check_absence(index, tally, &absences);
    check_handles(index, tally);
}

/// Handles of a queue are good for nothing in the next one of its name.
fn check_handles(index: &Index, tally: &mut Tally) {
    let between = |delivery: u32, queue: u32, node: u32, at: Span| {
        let mut deletions = index.queues[queue as usize].clearings.iter().filter(|it| {
            it.deletes_queue && index.at(delivery).ret < it.at.inv && it.over_at(node) < at.inv
        });
        (index.queue_of(delivery) == queue).then(|| deletions.next())?
    };
    for touch in index.touches.iter().filter(|it| it.delivery != NONE && it.outcome == Known::Ok) {
        let deletion = between(touch.delivery, touch.queue, touch.node, touch.at);
        if let Some(deletion) = deletion {
            tally.found(|| {
                let message = index.deliveries[touch.delivery as usize].message;
                let name = &index.queues[touch.queue as usize].name;
                let what = format!("a handle from before the deletion of {name} is accepted");
                index.finding_of(what, message, &[touch.delivery], &[deletion.record, touch.record])
            });
        }
    }
    for refusal in &index.refusals {
        let delivery = index.by_handle.get(&refusal.handle);
        let deletion = delivery.and_then(|it| between(*it, refusal.queue, NONE, refusal.at));
        tally.examined += u64::from(deletion.is_some());
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
        let from = it.at.ret.saturating_add(bounds.queue_slack_us);
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

/// A time in which a queue was certainly not there.
struct Absence<'a> {
    during: Span,
    record: u32,
    /// For who may have heard of it later.
    deletion: Option<&'a Clearing>,
}

impl Absence<'_> {
    /// Whether a request through this node must have found no queue.
    fn covers(&self, node: u32, at: Span) -> bool {
        let known = self.deletion.map_or(0, |it| it.over_at(node)).max(self.during.inv);
        known < at.inv && at.ret < self.during.ret
    }
}

fn absences_of<'a>(index: &Index, queue: &'a Queue) -> Vec<Absence<'a>> {
    let absence = |(during, record): (Span, u32)| Absence {
        during,
        record,
        deletion: queue.clearings.iter().find(|it| it.record == record),
    };
    certain(index, queue, false).into_iter().map(absence).collect()
}

fn check_absence(index: &Index, tally: &mut Tally, absences: &[Vec<Absence<'_>>]) {
    let mut check = |queue: u32, at: Span, record: u32, node: u32, worked: bool| {
        let absence = absences[queue as usize].iter().find(|it| it.covers(node, at));
        let Some(absence) = absence else { return };
        tally.saw();
        if worked {
            let (queue, records) = (&index.queues[queue as usize], [absence.record, record]);
            contradiction(index, tally, queue, at, &records, "works after its deletion");
        }
    };
    for it in index.attempts.iter().filter(|it| it.outcome == Known::Ok) {
        check(it.queue, it.at, it.record, it.node, true);
    }
    for it in index.receives.iter().filter(|it| it.outcome == Known::Ok) {
        check(it.queue, it.at, it.record, it.node, true);
    }
    for it in index.touches.iter().filter(|it| it.outcome == Known::Ok) {
        check(it.queue, it.at, it.record, it.node, true);
    }
    for (number, queue) in (0u32..).zip(&index.queues) {
        for it in queue.accesses.iter().filter(|it| !it.writes) {
            check(number, it.at, it.record, it.node, true);
        }
        for it in queue.probes.iter().filter(|it| !it.there) {
            check(number, it.at, it.record, it.node, false);
        }
    }
}

fn check_presence(index: &Index, tally: &mut Tally, queue: &Queue) {
    let there = certain(index, queue, true);
    for Probe { record, at, there: seen, .. } in &queue.probes {
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
