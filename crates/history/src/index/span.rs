//! When a request took effect: somewhere between its start and its end.

/// The end of a request of which nobody knows when, or whether, it took effect.
pub(crate) const NEVER: u64 = u64::MAX;

/// In microseconds of the history's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) inv: u64,
    pub(crate) ret: u64,
}

impl Span {
    /// Certainly earlier, whatever the server did.
    pub(crate) fn before(self, other: Self) -> bool {
        self.ret < other.inv
    }

    /// Neither is certainly earlier.
    pub(crate) fn overlaps(self, other: Self) -> bool {
        !self.before(other) && !other.before(self)
    }
}
