//! How much producers may send.

use std::cell::Cell;
use std::time::Instant;

/// Shared by all producers of a phase.
#[derive(Debug)]
pub(crate) enum Supply {
    /// Anything, up to a moment.
    Until(Instant),
    /// So many messages are left.
    Count(Cell<u64>),
}

impl Supply {
    pub(crate) fn count(messages: u64) -> Self {
        Self::Count(Cell::new(messages))
    }

    /// How many messages the next request carries: at most `batch`, none at the end.
    pub(crate) fn take(&self, batch: usize) -> usize {
        match self {
            Self::Until(moment) if Instant::now() < *moment => batch,
            Self::Until(_) => 0,
            Self::Count(left) => {
                let taken = left.get().min(batch as u64);
                left.set(left.get() - taken);
                taken as usize
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_count_is_used_up_exactly() {
        let supply = Supply::count(25);
        let taken: Vec<usize> = (0..4).map(|_| supply.take(10)).collect();
        assert_eq!(taken, [10, 10, 5, 0]);
    }

    #[test]
    fn a_moment_ends_it() {
        let now = Instant::now();
        assert_eq!(Supply::Until(now + Duration::from_secs(3600)).take(3), 3);
        assert_eq!(Supply::Until(now).take(3), 0);
    }
}
