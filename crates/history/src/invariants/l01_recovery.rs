//! L1. Case: a kind of operation through a node that was tried after the last fault was healed. It
//! goes well once within `liveness_us`; what failed then less than `FAILURES_MIN` times may have had
//! bad luck.
//!
//! Source: liveness after heal. Undecided: what was not tried so soon, or did not fail by then.
//! A refusal that is the client's own fault counts neither way.

use super::time;
use crate::index::Index;
use crate::verdict::Tally;

const FAILURES_MIN: usize = 3;

pub(super) fn check(index: &Index, tally: &mut Tally) {
    let Some(recovery) = &index.recovery else { return };
    let deadline = recovery.since.saturating_add(index.bounds().liveness_us);
    for ((node, kind), trials) in &recovery.trials {
        let in_time = trials.failures.iter().filter(|failure| failure.0 <= deadline);
        match trials.first_ok {
            Some(ok) if ok <= deadline => tally.saw(),
            _ if in_time.count() >= FAILURES_MIN && index.last_us >= deadline => {
                tally.found(|| {
                    let what = match trials.first_ok {
                        Some(ok) => format!(
                            "{kind} through node {node} first went well {} after the last heal",
                            time(ok - recovery.since)
                        ),
                        None => format!(
                            "{kind} through node {node} never went well after the last heal"
                        ),
                    };
                    let mut finding = index.finding(what, deadline);
                    finding.nodes = vec![*node];
                    finding.records = trials.failures.iter().map(|failure| failure.1).collect();
                    finding
                });
            }
            _ => tally.undecided(),
        }
    }
}
