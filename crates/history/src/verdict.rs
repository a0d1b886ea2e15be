//! What the checker says.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::file::Tail;
use crate::invariant::Invariant;

/// Findings of one invariant that are kept with their details; the rest is counted.
pub const FINDINGS_KEPT_MAX: usize = 20;

/// The answer to "may a queue service behave so?".
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// Nothing was found, and what had to be looked at was there.
    Pass,
    /// Nothing was found, but too little was looked at. As bad as a failure.
    Unknown,
    /// Something happened that must not.
    Fail,
}

/// Something that must not have happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Which rule is broken.
    pub invariant: Invariant,
    /// What happened, in a sentence.
    pub what: String,
    /// The message: its key, or its id where it has none.
    pub message: Option<String>,
    /// Whose message it is.
    pub writer: Option<u32>,
    /// The queue's name.
    pub queue: Option<String>,
    /// The group's name.
    pub group: Option<String>,
    /// The shard, where the server told.
    pub shard: Option<u32>,
    /// The nodes that were addressed.
    pub nodes: Vec<u32>,
    /// When it shows, in microseconds of the history's clock.
    pub at_us: u64,
    /// The requests that prove it, by their places in the history, counted from 0.
    pub records: Vec<u32>,
}

/// What one invariant has seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// Which.
    pub invariant: Invariant,
    /// Cases that were looked at and could be judged. What a case is the module says.
    pub examined: u64,
    /// Cases that nobody can judge, because of requests with unknown outcomes.
    pub undecided: u64,
    /// Cases that are wrong.
    pub found: u64,
    /// The first of them.
    pub findings: Vec<Finding>,
    /// Why it was not looked at, where the service does not promise it or the run lacks something.
    pub skipped: Option<String>,
}

impl Tally {
    pub(crate) fn new(invariant: Invariant) -> Self {
        Self { invariant, examined: 0, undecided: 0, found: 0, findings: Vec::new(), skipped: None }
    }

    pub(crate) fn saw(&mut self) {
        self.examined += 1;
    }

    pub(crate) fn undecided(&mut self) {
        self.undecided += 1;
    }

    pub(crate) fn found(&mut self, finding: impl FnOnce() -> Finding) {
        self.found += 1;
        if self.findings.len() < FINDINGS_KEPT_MAX {
            let finding = finding();
            self.findings.push(Finding { invariant: self.invariant, ..finding });
        }
    }
}

/// Faults of one name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct FaultsSeen {
    /// How often they fired.
    pub times: u64,
    /// Requests that overlapped that of them that met the fewest.
    pub requests_min: u64,
}

/// How long long polls took to see messages, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Wakes {
    /// Messages that came while somebody waited, and were received by that for the first time.
    pub count: u64,
    /// From the acknowledged send to the received answer: the middle one.
    pub median_us: u64,
    /// All but one in a hundred took no longer.
    pub p99_us: u64,
    /// The longest.
    pub max_us: u64,
    /// The longest time that a message certainly was there at the end of a poll that ended empty.
    pub missed_us: u64,
}

/// How much happened in the run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Coverage {
    /// Requests.
    pub records: u64,
    /// Requests and entries that were answered with success.
    pub ok: u64,
    /// That certainly did nothing.
    pub fail: u64,
    /// Of which nobody knows.
    pub info: u64,
    /// Messages that were sent or delivered, by message id.
    pub messages: u64,
    /// Acknowledged sends.
    pub sends: u64,
    /// Messages in answers.
    pub deliveries: u64,
    /// Of these, not the first of their message.
    pub redeliveries: u64,
    /// Acknowledged deletes.
    pub deletes: u64,
    /// Answers without messages.
    pub empty_receives: u64,
    /// Faults that fired.
    pub faults: u64,
    /// The same by name.
    pub faults_by_name: BTreeMap<String, FaultsSeen>,
    /// Nodes that were addressed.
    pub nodes: u64,
    /// Of long polls that no fault was near.
    pub wakes: Wakes,
    /// Of all others.
    pub wakes_faulty: Wakes,
    /// From the first request to the last answer.
    pub duration_us: u64,
}

/// The whole judgement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// In one word.
    pub answer: Answer,
    /// What the run says of itself.
    pub label: String,
    /// Why it is unknown.
    pub doubts: Vec<String>,
    /// How the history ends.
    #[serde(serialize_with = "tail_in_words")]
    pub tail: Tail,
    /// How much happened.
    pub coverage: Coverage,
    /// Where the lost messages lie in their writers' orders, and on which shards and nodes.
    pub losses: Vec<String>,
    /// One for each invariant, in order.
    pub tallies: Vec<Tally>,
}

fn tail_in_words<S: serde::Serializer>(tail: &Tail, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(match tail {
        Tail::Whole => "whole",
        Tail::Unfinished => "unfinished",
        Tail::Torn(_) => "torn",
    })
}

impl Verdict {
    /// 0 for pass, 1 for fail, 2 for unknown.
    pub fn exit_code(&self) -> u8 {
        match self.answer {
            Answer::Pass => 0,
            Answer::Fail => 1,
            Answer::Unknown => 2,
        }
    }

    /// What one invariant has seen.
    pub fn tally(&self, invariant: Invariant) -> &Tally {
        let found = self.tallies.iter().find(|tally| tally.invariant == invariant);
        found.expect("a verdict has a tally of every invariant")
    }

    /// The kept findings, those of the first invariants first.
    pub fn findings(&self) -> impl Iterator<Item = &Finding> {
        self.tallies.iter().flat_map(|tally| &tally.findings)
    }

    /// The invariants that are broken.
    pub fn broken(&self) -> Vec<Invariant> {
        self.tallies.iter().filter(|it| it.found > 0).map(|it| it.invariant).collect()
    }
}
