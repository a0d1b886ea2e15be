//! L1. Case: a kind of operation through a node that was tried after a fault was healed, when it then
//! was calm for `liveness_us` at least: after each such heal. It goes well once within that time; what
//! failed then less than `FAILURES_MIN` times may have had bad luck. A request that began in its first
//! half and was not answered by its end failed, too.
//!
//! Source: liveness after heal. Undecided: what was not tried so soon, or did not fail by then.
//! A refusal that is the client's own fault counts neither way.

use super::time;
use crate::index::{Index, Recovery, Span};
use crate::verdict::Tally;

const FAILURES_MIN: usize = 3;

pub(super) fn check(index: &Index, tally: &mut Tally) {
    for recovery in &index.recoveries {
        let deadline = recovery.since.saturating_add(index.bounds().liveness_us);
        if recovery.until.min(index.last_us) >= deadline {
            check_recovery(index, tally, recovery, deadline);
        }
    }
}

fn check_recovery(index: &Index, tally: &mut Tally, recovery: &Recovery, deadline: u64) {
    let half = recovery.since + (deadline - recovery.since) / 2;
    for ((node, kind), trials) in &recovery.trials {
        let in_time = |failure: &&(Span, u32)| failure.0.ret <= deadline || failure.0.inv <= half;
        let failed = trials.failures.iter().filter(in_time).count();
        match trials.first_ok {
            Some(ok) if ok <= deadline => tally.saw(),
            _ if failed >= FAILURES_MIN => tally.found(|| {
                let what = match trials.first_ok {
                    Some(ok) => format!(
                        "{kind} through node {node} first went well {} after a heal",
                        time(ok - recovery.since)
                    ),
                    None => format!("{kind} through node {node} never went well after a heal"),
                };
                let mut finding = index.finding(what, deadline);
                finding.nodes = vec![*node];
                finding.records = trials.failures.iter().map(|failure| failure.1).collect();
                finding
            }),
            _ => tally.undecided(),
        }
    }
}
