//! S20. Case: an attribute of a queue that was written and read. Its writes and reads must have an
//! order in time in which each read sees the latest write.
//!
//! Source: SetQueueAttributes and GetQueueAttributes; up to a minute's lag in SQS, one register here.
//! Undecided: queues that were deleted meanwhile, and histories with too many writes of unknown
//! outcome to search. What was there before the first write may be anything, but one thing. No clock.

use std::collections::BTreeSet;

use crate::index::{Access, Index, Queue};
use crate::linear::{Call, Linear, linearize};
use crate::verdict::Tally;

pub(super) fn check(index: &Index, tally: &mut Tally) {
    for queue in &index.queues {
        let written = queue.accesses.iter().filter(|it| it.writes);
        let names: BTreeSet<&String> = written.flat_map(|it| it.attributes.keys()).collect();
        for name in names {
            check_attribute(index, tally, queue, name);
        }
    }
}

fn check_attribute(index: &Index, tally: &mut Tally, queue: &Queue, name: &str) {
    let accesses = queue.accesses.iter().filter(|it| it.attributes.contains_key(name));
    let accesses: Vec<&Access> = accesses.collect();
    if accesses.iter().all(|it| it.writes) {
        return;
    }
    if queue.existence.iter().any(|it| !it.creates) {
        tally.undecided();
        return;
    }
    let values: Vec<serde_json::Value> = accesses.iter().map(|it| value(it, name)).collect();
    let call = |it: &&Access| Call { inv: it.at.inv, ret: it.at.ret, optional: !it.certain };
    let calls: Vec<Call> = accesses.iter().map(call).collect();
    // Values by number.
    let first_equal = |call: &serde_json::Value| values.iter().position(|value| value == call);
    let numbers: Vec<Option<usize>> = values.iter().map(first_equal).collect();
    // What never changes is right in any order.
    let changes = numbers.iter().any(|number| *number != numbers[0]);
    let result = linearize(&calls, None, |state: &Option<usize>, call| {
        let seen = accesses[call].writes || state.is_none() || *state == numbers[call];
        seen.then_some(numbers[call])
    });
    match result {
        Linear::Yes => tally.examined += u64::from(changes),
        Linear::Unknown => tally.undecided(),
        Linear::No => tally.found(|| {
            let what =
                format!("no order of the writes and reads of {name} of {} is possible", queue.name);
            let at = accesses.iter().map(|it| it.at.inv).min().unwrap_or(0);
            let mut finding = index.finding(what, at);
            finding.queue = Some(queue.name.clone());
            finding.records = accesses.iter().take(20).map(|it| it.record).collect();
            finding
        }),
    }
}

/// Policies may be written in other words than they are read.
fn value(access: &Access, name: &str) -> serde_json::Value {
    let text = &access.attributes[name];
    serde_json::from_str(text).unwrap_or_else(|_| serde_json::Value::String(text.clone()))
}
