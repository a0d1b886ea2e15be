//! Whether a message may be half moved: sent to its new queue, and hidden in the old one, where it would come
//! back after the task was called completed.
//!
//! It cannot be told from one that a consumer hides. So the task goes on until nothing is hidden, or until
//! whatever was hidden to be moved must have come back, and then until nothing is found once more.

use std::time::Duration;

use tokio::time::Instant;

use super::step::HIDDEN;
use crate::router::CALL_TIMEOUT;

/// For how long a message can be hidden that somebody was about to move. What was asked for may have been done
/// later than its answer was given up.
const DOUBT: Duration = HIDDEN.saturating_add(CALL_TIMEOUT).saturating_add(CALL_TIMEOUT);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Doubt {
    until: Option<Instant>,
    /// Since then it was seen that nothing is hidden any more.
    is_over: bool,
}

impl Doubt {
    /// Somebody may just have left a message half moved.
    pub(super) fn arises(&mut self, now: Instant) {
        *self = Self { until: Some(now + DOUBT), is_over: false };
    }

    /// Whether finding nothing now means that there is nothing.
    pub(super) fn is_settled(&self) -> bool {
        self.until.is_none() || self.is_over
    }

    /// After nothing was found: whether to look for the last time, at once. `hides`: something was hidden
    /// then.
    pub(super) fn looked(&mut self, now: Instant, hides: bool) -> bool {
        self.is_over = !hides || self.until.is_none_or(|until| now >= until);
        self.is_over
    }

    /// Whether what is left to be moved may be more than what was there at the start of the task less what was
    /// moved: until what came back has had as much time again to be moved.
    pub(super) fn is_recent(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| now < until + DOUBT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_ends_only_with_a_look_after_nothing_was_hidden() {
        let now = Instant::now();
        let mut doubt = Doubt::default();
        assert!(doubt.is_settled() && !doubt.is_recent(now));
        doubt.arises(now);
        assert!(!doubt.is_settled() && doubt.is_recent(now));
        assert!(!doubt.looked(now, true) && !doubt.is_settled());
        // It came back between that look and this one: the next look finds it.
        assert!(doubt.looked(now, false) && doubt.is_settled());
        doubt.arises(now);
        assert!(!doubt.is_settled());
    }

    #[test]
    fn consumers_hide_messages_for_as_long_as_they_like() {
        let now = Instant::now();
        let mut doubt = Doubt::default();
        doubt.arises(now);
        let later = now + DOUBT;
        assert!(!doubt.looked(later - Duration::from_millis(1), true));
        assert!(doubt.looked(later, true) && doubt.is_recent(later));
        assert!(!doubt.is_recent(later + DOUBT));
    }
}
