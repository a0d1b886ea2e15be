//! What is wanted of a scaler.

use std::time::Duration;

/// More instances than this are not for one controller.
pub(crate) const INSTANCES_MAX: u32 = 10_000;

/// When instances are started and ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Policy {
    /// From send to completion, as long as a message may take.
    pub acceptable_latency: Duration,
    /// Instances at all times.
    pub min: u32,
    /// Instances, at most.
    pub max: u32,
    /// Hysteresis: the part of the acceptable backlog by which an instance's may be above or below
    /// it without a change.
    pub tolerance: f64,
    /// After instances were started, the time in which no more are: they have to begin to work first.
    pub scale_out_cooldown: Duration,
    /// How long fewer instances must have been enough before any is ended, and the time after any
    /// change in which none is.
    pub scale_in_cooldown: Duration,
}

/// A policy that cannot be followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// Nothing is ready at once.
    #[error("the acceptable latency must be more than nothing")]
    Latency,
    /// More than [`Policy::max`], or that is none.
    #[error("instances: the minimum must not exceed the maximum, which is 1 to {INSTANCES_MAX}")]
    Instances,
    /// No part of one.
    #[error("the tolerance is at least 0 and less than 1")]
    Tolerance,
}

impl Policy {
    /// The policy, if it can be followed.
    ///
    /// # Errors
    /// When it contradicts itself.
    pub fn checked(self) -> Result<Self, PolicyError> {
        if self.acceptable_latency.is_zero() {
            return Err(PolicyError::Latency);
        }
        if self.min > self.max || self.max == 0 || self.max > INSTANCES_MAX {
            return Err(PolicyError::Instances);
        }
        if !(0.0..1.0).contains(&self.tolerance) {
            return Err(PolicyError::Tolerance);
        }
        Ok(self)
    }

    /// How many messages one instance may have before it. At least one: two instances cannot share
    /// a message, however long it takes.
    pub fn acceptable_backlog(&self, mean_processing: Duration) -> f64 {
        acceptable_backlog(self.acceptable_latency, mean_processing)
    }
}

/// See [`Policy::acceptable_backlog`].
pub(crate) fn acceptable_backlog(latency: Duration, mean_processing: Duration) -> f64 {
    // A mean of nothing would make every backlog acceptable.
    let mean = mean_processing.max(Duration::from_micros(1));
    (latency.as_secs_f64() / mean.as_secs_f64()).max(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> Policy {
        Policy {
            acceptable_latency: Duration::from_secs(10),
            min: 1,
            max: 10,
            tolerance: 0.1,
            scale_out_cooldown: Duration::from_secs(5),
            scale_in_cooldown: Duration::from_secs(60),
        }
    }

    #[test]
    fn ten_seconds_of_tenths_are_a_hundred_messages() {
        let backlog = |ms| policy().acceptable_backlog(Duration::from_millis(ms));
        assert_eq!(backlog(100), 100.0);
        assert_eq!(backlog(10_000), 1.0);
        assert_eq!(backlog(30_000), 1.0);
        assert!(backlog(0).is_finite());
    }

    #[test]
    fn contradictions_are_refused() {
        assert!(policy().checked().is_ok());
        assert!(Policy { min: 0, ..policy() }.checked().is_ok());
        let wrong = |policy: Policy| policy.checked().unwrap_err();
        assert_eq!(wrong(Policy { min: 11, ..policy() }), PolicyError::Instances);
        assert_eq!(wrong(Policy { min: 0, max: 0, ..policy() }), PolicyError::Instances);
        assert_eq!(wrong(Policy { tolerance: 1.0, ..policy() }), PolicyError::Tolerance);
        assert_eq!(wrong(Policy { tolerance: f64::NAN, ..policy() }), PolicyError::Tolerance);
        let latency = Duration::ZERO;
        assert_eq!(wrong(Policy { acceptable_latency: latency, ..policy() }), PolicyError::Latency);
    }
}
