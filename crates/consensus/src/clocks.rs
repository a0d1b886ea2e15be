//! What time it is: what most nodes say. A node hears the clocks of its peers with what they remember of it
//! ([`crate::recall`]); if they are elsewhere, its own is taken for wrong.
//!
//! A leader whose clock is ahead of its predecessor's ends every lease of its shards that much too early, and
//! shards never go back. So
//! - nobody *begins* with a clock that is ahead of most. Of all clocks that are known the median counts,
//!   and of two that differ the one that is behind: that does no harm, as who leads a shard takes
//!   over the time of its last entry ([`Clock::at_least`]);
//! - nobody *stays* away from the median of all: a time of day that is wrong is followed slowly
//!   ([`flotilla_types::clock::SteadyClock`]), and the others' clocks pull back faster than it, or
//!   timers that are too fast, pull away ([`Clock::steer`]). For that two others must be heard: of two
//!   clocks nobody knows which is right.
//!
//! Promised: while the clocks of a majority are right, and all nodes are up, clocks differ by no more than
//! twice [`TOLERANCE`] and what an answer takes. With two others missing a clock goes away from the rest
//! by 0.5 % at most, and by what its timers are wrong.
//!
//! Not covered: a majority of wrong clocks.

use std::collections::BTreeMap;
use std::time::Duration;

use flotilla_types::clock::Clock;
use flotilla_types::ids::NodeId;
use parking_lot::Mutex;
use tokio::time::Instant;

/// Clocks that differ by no more are right.
pub(crate) const TOLERANCE: Duration = Duration::from_millis(100);
/// An answer that took longer says too little about a clock that is right already.
const ANSWER_MAX: Duration = Duration::from_millis(100);
/// What was seen is believed for so long: in that time the clock here is pulled by less than the
/// tolerance, so never too far.
const BELIEVED: Duration = Duration::from_secs(1);

/// Another node's clock, as it was seen from here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Seen {
    /// By how many milliseconds it is ahead of the clock here; negative: behind.
    ahead_ms: i64,
    /// By how much that may be wrong.
    error_ms: u64,
}

impl Seen {
    /// The clock here.
    const HERE: Self = Self { ahead_ms: 0, error_ms: 0 };

    /// The clock here when the question left and when the answer came; 0 is the answer of a node that
    /// does not tell.
    pub(crate) fn of(asked_ms: u64, answered_ms: u64, told_ms: u64) -> Option<Self> {
        let error_ms = answered_ms.saturating_sub(asked_ms) / 2;
        let here = (asked_ms + error_ms) as i64;
        let ahead_ms = (told_ms as i64).saturating_sub(here);
        (told_ms > 0).then_some(Self { ahead_ms, error_ms })
    }
}

/// By how many milliseconds the clock here is to be moved so that it is where the median is; nothing if
/// it may be there. What may be wrong of that counts as if the median were behind: a clock that is moved too
/// far forward ends leases too early, and one that is behind does no harm.
fn correction_ms(others: &[Seen]) -> i64 {
    let mut all: Vec<Seen> = others.iter().copied().chain([Seen::HERE]).collect();
    all.sort_unstable();
    // Of an even number the lower one.
    let Seen { ahead_ms, error_ms } = all[(all.len() - 1) / 2];
    let is_right = ahead_ms.unsigned_abs() <= TOLERANCE.as_millis() as u64 + error_ms;
    if is_right { 0 } else { ahead_ms.saturating_sub_unsigned(error_ms) }
}

/// Lets the clock here begin where the others' are.
pub(crate) fn begin(clock: &dyn Clock, others: &[Seen]) {
    let by_ms = correction_ms(others);
    if by_ms != 0 {
        tracing::warn!(
            ahead_ms = -by_ms,
            "the clock is not where those of most nodes are: this node begins with their time"
        );
        clock.begin_at(clock.now_ms().saturating_add_signed(by_ms));
    }
}

/// The clocks of the peers, from one word to the next.
#[derive(Default)]
pub(crate) struct Clocks {
    seen: Mutex<BTreeMap<NodeId, (Seen, Instant)>>,
}

impl Clocks {
    /// A peer has answered.
    pub(crate) fn note(&self, peer: NodeId, seen: Seen, now: Instant) {
        if seen.error_ms <= ANSWER_MAX.as_millis() as u64 / 2 {
            self.seen.lock().insert(peer, (seen, now + BELIEVED));
        }
    }

    /// By how many milliseconds the clock here is ahead of where it should be, among so many nodes.
    pub(crate) fn ahead_ms(&self, nodes: usize, now: Instant) -> i64 {
        let mut seen = self.seen.lock();
        seen.retain(|_, (_, until)| *until > now);
        let others: Vec<Seen> = seen.values().map(|(seen, _)| *seen).collect();
        match others.len() + 1 >= (nodes / 2 + 1).max(3) {
            true => -correction_ms(&others),
            false => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(ahead_ms: i64) -> Seen {
        Seen { ahead_ms, error_ms: 0 }
    }

    fn moved(others: &[i64]) -> i64 {
        correction_ms(&others.iter().map(|ahead_ms| seen(*ahead_ms)).collect::<Vec<_>>())
    }

    #[test]
    fn a_clock_that_is_ahead_of_most_goes_back_to_theirs() {
        assert_eq!(moved(&[-3_600_000, -3_599_990]), -3_599_990);
        assert_eq!(moved(&[-60_000, -60_000, -60_010, -60_010]), -60_000);
        // Of two nobody knows which is right: the one that is behind does no harm.
        assert_eq!(moved(&[-60_000]), -60_000);
    }

    #[test]
    fn one_that_is_behind_most_goes_forward() {
        assert_eq!(moved(&[60_000, 60_010]), 60_000);
        assert_eq!(moved(&[60_000]), 0, "nor does this one");
        assert_eq!(moved(&[0, 60_000, 60_000]), 0, "two of four");
    }

    #[test]
    fn one_wrong_clock_of_others_moves_nobody() {
        assert_eq!(moved(&[3_600_000, 3]), 0);
        assert_eq!(moved(&[-3_600_000, 3]), 0);
        assert_eq!(moved(&[-3_600_000, 3_600_000, 5, -5]), 0);
    }

    #[test]
    fn clocks_that_nearly_agree_stay() {
        assert_eq!(moved(&[]), 0);
        assert_eq!(moved(&[80, 100]), 0);
        assert_eq!(moved(&[-80, -100]), 0);
        assert_eq!(moved(&[-101, -101]), -101);
        let slowly = Seen { ahead_ms: -400, error_ms: 300 };
        assert_eq!(correction_ms(&[slowly, slowly]), 0, "it may be right");
        let quicker = Seen { error_ms: 299, ..slowly };
        assert_eq!(correction_ms(&[quicker, quicker]), -699);
    }

    #[test]
    fn a_clock_goes_forward_by_no_more_than_it_is_certainly_behind() {
        let slowly = Seen { ahead_ms: 2_000, error_ms: 1_500 };
        assert_eq!(correction_ms(&[slowly, slowly]), 500);
    }

    #[test]
    fn what_was_told_is_compared_with_the_middle_of_the_answer() {
        let of = |told_ms| Seen::of(1_000, 1_100, told_ms);
        assert_eq!(of(1_050), Some(Seen { ahead_ms: 0, error_ms: 50 }));
        assert_eq!(of(2_050), Some(Seen { ahead_ms: 1_000, error_ms: 50 }));
        assert_eq!(of(0), None);
        assert!(of(u64::MAX).is_some(), "it comes from others");
    }

    #[test]
    fn a_clock_is_pulled_only_by_two_others_who_spoke_a_moment_ago() {
        let (clocks, now) = (Clocks::default(), Instant::now());
        clocks.note(NodeId(2), seen(-500), now);
        assert_eq!(clocks.ahead_ms(3, now), 0, "which of two is it?");
        clocks.note(NodeId(3), seen(-510), now);
        assert_eq!(clocks.ahead_ms(3, now), 500);
        assert_eq!(clocks.ahead_ms(5, now), 500);
        assert_eq!(clocks.ahead_ms(7, now), 0, "no majority");
        assert_eq!(clocks.ahead_ms(3, now + BELIEVED), 0);
        clocks.note(NodeId(2), seen(-500), now);
        clocks.note(NodeId(3), Seen { ahead_ms: -500, error_ms: 51 }, now);
        assert_eq!(clocks.ahead_ms(3, now), 0, "an answer that took long");
    }
}
