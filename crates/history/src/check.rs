//! Records in, verdict out.

use std::collections::BTreeMap;
use std::io::BufRead;

use crate::file::{Header, ReadError, Reader, Tail};
use crate::index::{Builder, Index};
use crate::invariant::Invariant;
use crate::invariants;
use crate::record::Record;
use crate::verdict::{Answer, Coverage, FaultsSeen, Tally, Verdict};

/// Judges records in memory; `header` says how.
pub fn check<'a>(header: &Header, records: impl IntoIterator<Item = &'a Record>) -> Verdict {
    let mut checker = Checker::new(header.clone());
    records.into_iter().for_each(|record| checker.add(record));
    checker.finish(Tail::Whole)
}

/// Judges a history as it is read.
///
/// # Errors
/// When it cannot be read.
pub fn check_reader<R: BufRead>(reader: &mut Reader<R>) -> Result<Verdict, ReadError> {
    let mut checker = Checker::new(reader.header().clone());
    while let Some(record) = reader.read()? {
        checker.add(&record);
    }
    Ok(checker.finish(reader.tail().unwrap_or(Tail::Unfinished)))
}

/// Judges records as they come. It keeps some hundred bytes of each, not the records.
pub struct Checker {
    builder: Builder,
}

impl Checker {
    /// With nothing yet.
    pub fn new(header: Header) -> Self {
        Self { builder: Builder::new(header) }
    }

    /// Takes the next record. They may come in any order.
    pub fn add(&mut self, record: &Record) {
        self.builder.add(record);
    }

    /// The verdict on all of them.
    pub fn finish(self, tail: Tail) -> Verdict {
        let index = self.builder.finish(tail);
        let (tallies, wakes) = invariants::check_all(&index);
        let losses = invariants::losses_by_place(&index);
        let mut coverage = index.coverage.clone();
        coverage.redeliveries = redeliveries(&index);
        coverage.faults_by_name = faults_by_name(&index);
        (coverage.wakes, coverage.wakes_faulty) = wakes;
        let doubts = doubts(&index, &coverage, &tallies);
        let answer = match () {
            () if tallies.iter().any(|tally| tally.found > 0) => Answer::Fail,
            () if !doubts.is_empty() => Answer::Unknown,
            () => Answer::Pass,
        };
        Verdict { answer, label: index.header.label, doubts, tail, coverage, losses, tallies }
    }
}

fn redeliveries(index: &Index) -> u64 {
    let messages = 0..index.messages.len() as u32;
    let counts = messages.map(|it| index.deliveries_of_message.of(it).len() as u64);
    counts.map(|count| count.saturating_sub(1)).sum()
}

fn faults_by_name(index: &Index) -> BTreeMap<String, FaultsSeen> {
    let mut seen: BTreeMap<String, FaultsSeen> = BTreeMap::new();
    for fault in &index.faults {
        let first = FaultsSeen { times: 0, requests_min: fault.requests };
        let of = seen.entry(fault.name.clone()).or_insert(first);
        of.times += 1;
        of.requests_min = of.requests_min.min(fault.requests);
    }
    seen
}

/// Why "nothing found" would prove nothing.
fn doubts(index: &Index, coverage: &Coverage, tallies: &[Tally]) -> Vec<String> {
    let expect = &index.header.options.expect;
    let mut doubts = Vec::new();
    match index.tail {
        Tail::Whole => {}
        Tail::Unfinished => doubts.push("the history has no end: requests are missing".to_owned()),
        Tail::Torn(bytes) => {
            doubts
                .push(format!("the history's last record is torn ({bytes} bytes of it are there)"));
        }
    }
    if coverage.ok == 0 {
        doubts.push("nothing went well in this run".to_owned());
    }
    if !expect.no_drain && index.drained.is_none() {
        let why = match index.drain {
            None => "there is no drain",
            Some(_) => "the drain did not come to its end",
        };
        doubts.push(format!("{why}: nobody can say what was lost"));
    }
    let drain = index.drain.filter(|_| !expect.no_drain);
    if drain.is_some_and(|drain| index.faults.iter().any(|fault| fault.to > drain)) {
        doubts.push("a fault was still there in the drain".to_owned());
    }
    for (what, seen, wanted) in [
        ("acknowledged sends", coverage.sends, expect.sends_min),
        ("deliveries", coverage.deliveries, expect.deliveries_min),
    ] {
        if seen < wanted {
            doubts.push(format!("{seen} {what}, and {wanted} were expected"));
        }
    }
    doubts.extend(expect.faults.iter().filter_map(|name| doubt_of_fault(index, name)));
    for fault in &index.unhealed {
        doubts.push(format!("the fault {fault} was never healed"));
    }
    let later = expect.later.iter().filter(|it| it.1 <= coverage.duration_us).map(|it| it.0);
    let expected: Vec<Invariant> = expect.invariants.iter().copied().chain(later).collect();
    for tally in tallies.iter().filter(|it| expected.contains(&it.invariant)) {
        if tally.examined == 0 {
            let why = tally.skipped.as_ref().map_or(String::new(), |why| format!(" ({why})"));
            doubts
                .push(format!("{} was expected and had nothing to examine{why}", tally.invariant));
        }
    }
    doubts
}

/// Whether a fault that was expected came often enough, and while clients were looking.
fn doubt_of_fault(index: &Index, name: &str) -> Option<String> {
    let expect = &index.header.options.expect;
    let requests = || index.faults.iter().filter(|it| it.name == name).map(|it| it.requests);
    let times = requests().count() as u64;
    let counted = requests().filter(|it| *it >= expect.fault_requests_min).count() as u64;
    let wanted = expect.fault_times_min.max(1);
    match times {
        0 => Some(format!("the fault {name} was expected and never fired")),
        _ if counted >= wanted => None,
        _ => Some(format!(
            "the fault {name} was expected {wanted} times with {} requests in each; of the {times} \
             times that it fired {counted} had as many",
            expect.fault_requests_min
        )),
    }
}
