//! Sums over runs.

use std::fmt;

use flotilla_history::{Answer, Invariant, Verdict};
use serde::{Deserialize, Serialize};

/// What several verdicts say together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Verdicts.
    pub runs: u64,
    /// Of which these are not a pass.
    pub bad: u64,
    /// Faults that were made.
    pub faults: u64,
    /// Messages whose send was answered with success.
    pub acknowledged: u64,
    /// Of them, those that never came out (S1).
    pub lost: u64,
    /// Delivered while somebody else certainly had them (S3, S4).
    pub early: u64,
    /// In FIFO queues: out of order, skipped, a group in two hands (F1 to F4, F11).
    pub disordered: u64,
    /// Delivered after their delete was answered with success (S5, S6).
    pub after_delete: u64,
    /// Everything else that must not have happened.
    pub other: u64,
}

impl Totals {
    /// Adds a verdict.
    pub fn add(&mut self, verdict: &Verdict) {
        self.runs += 1;
        self.bad += u64::from(verdict.answer != Answer::Pass);
        self.faults += verdict.coverage.faults;
        self.acknowledged += verdict.coverage.sends;
        for tally in &verdict.tallies {
            let sum = match tally.invariant {
                Invariant::S1 => &mut self.lost,
                Invariant::S3 | Invariant::S4 => &mut self.early,
                Invariant::S5 | Invariant::S6 => &mut self.after_delete,
                Invariant::F1 | Invariant::F2 | Invariant::F3 | Invariant::F4 | Invariant::F11 => {
                    &mut self.disordered
                }
                _ => &mut self.other,
            };
            *sum += tally.found;
        }
    }

    /// Adds those of other runs.
    pub fn merge(&mut self, other: &Self) {
        self.runs += other.runs;
        self.bad += other.bad;
        self.faults += other.faults;
        self.acknowledged += other.acknowledged;
        self.lost += other.lost;
        self.early += other.early;
        self.disordered += other.disordered;
        self.after_delete += other.after_delete;
        self.other += other.other;
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} runs ({} bad), {} faults, {} messages acknowledged: {} lost, {} early duplicates, {} \
             order breaks, {} deliveries after delete, {} other findings",
            self.runs,
            self.bad,
            self.faults,
            self.acknowledged,
            self.lost,
            self.early,
            self.disordered,
            self.after_delete,
            self.other
        )
    }
}
