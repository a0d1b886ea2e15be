//! What many verdicts have examined together: a run of a few seconds cannot see everything, all runs
//! together must.

use std::collections::BTreeMap;
use std::fmt;

use crate::invariant::Invariant;
use crate::verdict::{Answer, Verdict};

/// Of one invariant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Cases that were looked at and could be judged.
    pub examined: u64,
    /// Cases that nobody can judge.
    pub undecided: u64,
    /// Cases that are wrong.
    pub found: u64,
    /// Verdicts that examined any.
    pub runs: u64,
}

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    /// Verdicts.
    pub runs: u64,
    /// Of these, not a pass.
    pub bad: u64,
    seen: BTreeMap<Invariant, Seen>,
}

impl Sum {
    /// Adds a verdict.
    pub fn add(&mut self, verdict: &Verdict) {
        self.runs += 1;
        self.bad += u64::from(verdict.answer != Answer::Pass);
        for tally in &verdict.tallies {
            let seen = self.seen.entry(tally.invariant).or_default();
            seen.examined += tally.examined;
            seen.undecided += tally.undecided;
            seen.found += tally.found;
            seen.runs += u64::from(tally.examined > 0);
        }
    }

    /// Adds what another sum has seen.
    pub fn join(&mut self, other: &Self) {
        self.runs += other.runs;
        self.bad += other.bad;
        for (invariant, more) in &other.seen {
            let seen = self.seen.entry(*invariant).or_default();
            seen.examined += more.examined;
            seen.undecided += more.undecided;
            seen.found += more.found;
            seen.runs += more.runs;
        }
    }

    /// What was seen of one invariant.
    pub fn of(&self, invariant: Invariant) -> Seen {
        self.seen.get(&invariant).copied().unwrap_or_default()
    }

    /// Those of these invariants for which there never was a case: they prove nothing.
    pub fn missing(&self, expected: &[Invariant]) -> Vec<Invariant> {
        expected.iter().copied().filter(|it| self.of(*it).examined == 0).collect()
    }
}

impl fmt::Display for Sum {
    /// A line for each invariant.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} runs, {} bad\n     found   examined  undecided   in runs",
            self.runs, self.bad
        )?;
        for invariant in Invariant::ALL {
            let Seen { examined, undecided, found, runs } = self.of(*invariant);
            let title = invariant.title();
            writeln!(
                f,
                "{invariant:>3} {found:>6} {examined:>10} {undecided:>10} {runs:>9}  {title}"
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::{Header, check};

    use super::*;

    #[test]
    fn what_no_run_examined_is_missing() {
        let mut sum = Sum::default();
        sum.add(&check(&Header::default(), &[]));
        assert_eq!((sum.runs, sum.bad), (1, 1), "nothing proves nothing");
        assert_eq!(sum.missing(&[Invariant::S1, Invariant::F2]), [Invariant::S1, Invariant::F2]);
        let seen = Seen { examined: 3, runs: 1, ..Seen::default() };
        sum.seen.insert(Invariant::F2, seen);
        let mut both = sum.clone();
        both.join(&sum);
        assert_eq!(both.of(Invariant::F2), Seen { examined: 6, runs: 2, ..Seen::default() });
        assert_eq!(both.missing(Invariant::ALL).len(), Invariant::ALL.len() - 1);
        assert!(both.to_string().contains(" F2      0          6"), "{both}");
    }
}
