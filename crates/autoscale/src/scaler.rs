//! How many instances there should be: decided here, done elsewhere.

use std::collections::VecDeque;
use std::time::Duration;

use crate::policy::Policy;

/// A part of the scale-in cooldown: one without readings that is longer is a silence, of which nobody knows what was
/// wanted in it. Less than that is the odd failure, which every cooldown may have.
const SILENCE: u32 = 4;

/// What a decision rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Observed {
    /// Messages that are not finished.
    pub backlog: u64,
    /// What one instance needs for one message, on average.
    pub mean_processing: Duration,
}

/// Why there are as many instances as there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// More were started.
    ScaledOut,
    /// Some were ended.
    ScaledIn,
    /// The backlog of each is what it should be, or as near as the bounds allow.
    OnTarget,
    /// Off the target by less than the tolerance.
    WithinTolerance,
    /// More are wanted, and the last ones have just been started.
    ScaleOutCooldown,
    /// Fewer are wanted, and have not been for long enough.
    ScaleInCooldown,
    /// The queue could not be read.
    Unknown,
}

impl Reason {
    /// In a word, for logs and metrics.
    pub fn word(self) -> &'static str {
        match self {
            Self::ScaledOut => "scaled-out",
            Self::ScaledIn => "scaled-in",
            Self::OnTarget => "on-target",
            Self::WithinTolerance => "within-tolerance",
            Self::ScaleOutCooldown => "scale-out-cooldown",
            Self::ScaleInCooldown => "scale-in-cooldown",
            Self::Unknown => "unknown",
        }
    }
}

/// What is to be so from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Instances.
    pub instances: u32,
    /// Why so many.
    pub reason: Reason,
}

/// Target tracking: remembers only what cooldowns need.
#[derive(Clone, Debug)]
pub struct Scaler {
    policy: Policy,
    instances: u32,
    last_out: Option<Duration>,
    last_change: Duration,
    last_reading: Duration,
    /// Readings that failed since.
    failed: u32,
    /// When how many were wanted during the last scale-in cooldown; only those that nothing later
    /// exceeds, so the counts fall and there are no more of them than counts.
    wanted: VecDeque<(Duration, u32)>,
}

impl Scaler {
    /// Begins with the minimum. `now` is the time since any moment, here and in what follows.
    pub fn new(policy: Policy, now: Duration) -> Self {
        Self {
            policy,
            instances: policy.min,
            last_out: None,
            last_change: now,
            last_reading: now,
            failed: 0,
            wanted: VecDeque::new(),
        }
    }

    /// Instances that there should be.
    pub fn instances(&self) -> u32 {
        self.instances
    }

    /// Decides by the backlog per instance; `None` when the queue could not be read.
    pub fn decide(&mut self, now: Duration, observed: Option<Observed>) -> Decision {
        let Some(Observed { backlog, mean_processing }) = observed else {
            self.failed += 1;
            let silent = now.saturating_sub(self.last_reading);
            if self.failed > 1 && silent > self.policy.scale_in_cooldown / SILENCE {
                // As if these were wanted: the first reading after a long silence is not the only one of a cooldown.
                self.remember(now, self.instances);
            }
            return self.keep(Reason::Unknown);
        };
        let acceptable = self.policy.acceptable_backlog(mean_processing);
        // What tracks the backlog of each running instance wants `running * (backlog / running) / acceptable`: how many
        // run now cancels out. The tolerance is of those that are to run: that one has just crashed and is started
        // again is no reason for another.
        let wanted = (backlog as f64 / acceptable).ceil();
        let target = acceptable * f64::from(self.instances);
        self.settle(now, wanted, backlog as f64 / target)
    }

    /// Goes towards `wanted` instances as far as tolerance, cooldowns and bounds allow. `ratio` is
    /// what is measured, as a multiple of its target.
    pub fn settle(&mut self, now: Duration, wanted: f64, ratio: f64) -> Decision {
        let Policy { min, max, tolerance, .. } = self.policy;
        (self.last_reading, self.failed) = (now, 0);
        // Too large for the type is more than the maximum; no number (nothing of nothing) is none.
        let wanted = (wanted as u32).clamp(min, max);
        let highest = self.remember(now, wanted);
        if wanted > self.instances {
            // Without any instance the ratio is infinite.
            if ratio <= 1.0 + tolerance {
                return self.keep(Reason::WithinTolerance);
            }
            let cooldown = self.policy.scale_out_cooldown;
            if self.last_out.is_some_and(|last| now.saturating_sub(last) < cooldown) {
                return self.keep(Reason::ScaleOutCooldown);
            }
            self.last_out = Some(now);
            return self.change(now, wanted, Reason::ScaledOut);
        }
        if wanted == self.instances {
            return self.keep(Reason::OnTarget);
        }
        if ratio > 1.0 - tolerance {
            return self.keep(Reason::WithinTolerance);
        }
        let rested = now.saturating_sub(self.last_change) >= self.policy.scale_in_cooldown;
        if !rested || highest >= self.instances {
            return self.keep(Reason::ScaleInCooldown);
        }
        // A queue that has just run empty says nothing of what still arrives: half of the instances stay
        // to show whether they are needed.
        self.change(now, highest.max(self.instances / 2), Reason::ScaledIn)
    }

    /// The most that was wanted during the last scale-in cooldown, with now's.
    fn remember(&mut self, now: Duration, wanted: u32) -> u32 {
        while self.wanted.back().is_some_and(|(_, earlier)| *earlier <= wanted) {
            self.wanted.pop_back();
        }
        self.wanted.push_back((now, wanted));
        let since = now.saturating_sub(self.policy.scale_in_cooldown);
        while self.wanted.front().is_some_and(|(at, _)| *at < since) {
            self.wanted.pop_front();
        }
        self.wanted.front().map_or(wanted, |(_, highest)| *highest)
    }

    fn keep(&self, reason: Reason) -> Decision {
        Decision { instances: self.instances, reason }
    }

    fn change(&mut self, now: Duration, instances: u32, reason: Reason) -> Decision {
        self.instances = instances;
        self.last_change = now;
        Decision { instances, reason }
    }
}

#[cfg(test)]
mod tests;
