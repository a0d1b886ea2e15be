//! How many of many intervals there are at a time.

use crate::index::Span;

/// Beginnings and ends, sorted when all are there.
#[derive(Default)]
pub(super) struct Spans {
    from: Vec<u64>,
    to: Vec<u64>,
}

impl Spans {
    pub(super) fn add(&mut self, from: u64, to: u64) {
        if from < to {
            self.from.push(from);
            self.to.push(to);
        }
    }

    pub(super) fn sort(&mut self) {
        self.from.sort_unstable();
        self.to.sort_unstable();
    }

    /// No more than cover a span from end to end.
    pub(super) fn at_least(&self, during: Span) -> usize {
        let began = self.from.partition_point(|it| *it <= during.inv);
        began.saturating_sub(self.to.partition_point(|it| *it <= during.ret))
    }

    /// Those that share a moment with a span.
    pub(super) fn at_most(&self, during: Span) -> usize {
        let began = self.from.partition_point(|it| *it <= during.ret);
        began - self.to.partition_point(|it| *it < during.inv)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_counted_from_both_sides() {
        let mut spans = Spans::default();
        for (from, to) in [(10, 20), (15, 40), (30, 30), (50, 60)] {
            spans.add(from, to);
        }
        spans.sort();
        let at = |inv, ret| (spans.at_least(Span { inv, ret }), spans.at_most(Span { inv, ret }));
        assert_eq!(at(5, 9), (0, 0));
        assert_eq!(at(16, 19), (2, 2));
        assert_eq!(at(16, 30), (1, 2));
        assert_eq!(at(41, 49), (0, 0));
        assert_eq!(at(16, 55), (0, 3));
    }
}
