//! F10. Case: a message of a FIFO queue with a delay, delivered. As S9, but the delay is the queue's
//! alone; whether a new one is for waiting messages too is what the service promises (in SQS it is).
//!
//! Source: `DelaySeconds` of FIFO queues. Undecided: nothing. `e` as in S9.

use crate::index::Index;
use crate::verdict::Tally;

pub(super) fn check(index: &Index, tally: &mut Tally) {
    super::s09_delay::check_queues(index, tally, true);
}
