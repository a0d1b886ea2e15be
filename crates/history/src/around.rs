//! The requests around a finding, read from the history once more: what a verdict needs to be
//! understood.

use std::collections::{BTreeMap, BTreeSet};

use crate::file::ReadError;
use crate::record::{Op, Record};
use crate::verdict::{Finding, Verdict};

/// Requests of a timeline, besides those that prove the finding.
const NEIGHBOURS_MAX: usize = 60;
/// How far around a finding a timeline looks for faults and marks, in microseconds.
const MARGIN_US: u64 = 2_000_000;

/// A request of a timeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// Its place in the history.
    pub number: u32,
    /// It proves the finding.
    pub proof: bool,
    /// The request.
    pub record: Record,
}

/// A finding and what lay around it, in order of time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scene {
    /// What was found.
    pub finding: Finding,
    /// The requests.
    pub shown: Vec<Shown>,
}

/// Collects the scenes of a verdict's kept findings while its history passes by again.
pub struct Scenes {
    scenes: Vec<Scene>,
    wanted: BTreeMap<u32, Vec<usize>>,
    next: u32,
}

impl Scenes {
    /// Of at most `max` findings; of each invariant one before any has two.
    pub fn new(verdict: &Verdict, max: usize) -> Self {
        let mut findings: Vec<(usize, &Finding)> =
            verdict.tallies.iter().flat_map(|tally| tally.findings.iter().enumerate()).collect();
        findings.sort_by_key(|(place, _)| *place);
        findings.truncate(max);
        let mut wanted: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
        let mut scenes = Vec::new();
        for (_, finding) in findings {
            for record in &finding.records {
                wanted.entry(*record).or_default().push(scenes.len());
            }
            scenes.push(Scene { finding: finding.clone(), shown: Vec::new() });
        }
        Self { scenes, wanted, next: 0 }
    }

    /// The next record of the same history.
    pub fn add(&mut self, record: &Record) {
        let number = self.next;
        self.next += 1;
        let proves = self.wanted.get(&number).map_or(&[][..], Vec::as_slice);
        for (place, scene) in self.scenes.iter_mut().enumerate() {
            let proof = proves.contains(&place);
            if !proof && !is_near(&scene.finding, record) {
                continue;
            }
            let shown = Shown { number, proof, record: record.clone() };
            scene.shown.push(shown);
            if scene.shown.len() > 2 * NEIGHBOURS_MAX {
                keep_nearest(scene);
            }
        }
    }

    /// The scenes, those of the first invariants first.
    pub fn finish(mut self) -> Vec<Scene> {
        for scene in &mut self.scenes {
            keep_nearest(scene);
            scene.shown.sort_by_key(|it| (it.record.invoked_us, it.number));
        }
        self.scenes.sort_by_key(|it| it.finding.invariant);
        self.scenes
    }
}

/// Reads scenes from a history.
///
/// # Errors
/// When it cannot be read.
pub fn scenes(
    verdict: &Verdict,
    max: usize,
    records: impl Iterator<Item = Result<Record, ReadError>>,
) -> Result<Vec<Scene>, ReadError> {
    let mut scenes = Scenes::new(verdict, max);
    for record in records {
        scenes.add(&record?);
    }
    Ok(scenes.finish())
}

/// Requests of the same queue, faults and marks, not far from when it shows.
fn is_near(finding: &Finding, record: &Record) -> bool {
    let near = record.invoked_us <= finding.at_us.saturating_add(MARGIN_US)
        && record.returned_us.saturating_add(MARGIN_US) >= finding.at_us;
    near && match &record.op {
        Op::Fault(_) | Op::Mark(_) => true,
        op => finding.queue.is_none() || queue_of(op) == finding.queue.as_deref(),
    }
}

fn keep_nearest(scene: &mut Scene) {
    let at = scene.finding.at_us;
    let distance = |it: &Shown| match it.proof {
        true => 0,
        false => 1 + it.record.invoked_us.abs_diff(at),
    };
    scene.shown.sort_by_key(distance);
    let proofs: BTreeSet<u32> =
        scene.shown.iter().filter(|it| it.proof).map(|it| it.number).collect();
    scene.shown.truncate(proofs.len() + NEIGHBOURS_MAX);
}

/// The queue that a request is about.
pub(crate) fn queue_of(op: &Op) -> Option<&str> {
    Some(match op {
        Op::Send(op) => &op.queue,
        Op::Receive(op) => &op.queue,
        Op::Delete(op) => &op.queue,
        Op::Change(op) => &op.queue,
        Op::Purge(op) | Op::DeleteQueue(op) => &op.queue,
        Op::CreateQueue(op) | Op::SetAttributes(op) => &op.queue,
        Op::GetAttributes(op) => &op.queue,
        Op::StartMove(op) => &op.source,
        Op::ListMoves(op) => &op.queue,
        Op::CancelMove(op) => &op.queue,
        Op::Fault(_) | Op::Mark(_) => return None,
    })
}
