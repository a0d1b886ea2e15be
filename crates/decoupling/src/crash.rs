//! Moments at which a test lets this program crash: those between two steps of which one is done. What keeps a
//! promise there is said where they are.
//!
//! Only `flotilla-decoupling-crash`, which tests start, is ever told to; in `flotilla-decoupling` nothing can.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    /// A payment is on disk, and its customer does not know.
    Accepted,
    /// The queue has messages, and the outbox has them still.
    Sent,
    /// A worker has messages, and has done nothing about them.
    Received,
    /// A sale is in the books, and its message still in the queue.
    Booked,
    /// What the queue refused is in the outbox again, and nothing was moved back.
    Retried,
    /// The queue has begun to move messages back, and nobody waits for it.
    Moving,
}

impl Moment {
    const ALL: [Self; 6] =
        [Self::Accepted, Self::Sent, Self::Received, Self::Booked, Self::Retried, Self::Moving];

    fn name(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Sent => "sent",
            Self::Received => "received",
            Self::Booked => "booked",
            Self::Retried => "retried",
            Self::Moving => "moving",
        }
    }
}

/// At which moment, and how often it is let pass before.
struct Plan {
    moment: Moment,
    left: AtomicU64,
}

static PLAN: OnceLock<Plan> = OnceLock::new();

/// `moment@n`: the n-th time that this process comes to it.
///
/// # Errors
/// When that is not understood: a test that asks for nothing finds nothing.
pub fn arm(order: &str) -> Result<(), String> {
    PLAN.set(read(order)?).map_err(|_| "a process crashes only once".to_owned())
}

fn read(order: &str) -> Result<Plan, String> {
    let bad = || format!("no moment to crash at: {order:?}");
    let (name, times) = order.split_once('@').ok_or_else(bad)?;
    let moment = Moment::ALL.into_iter().find(|one| one.name() == name).ok_or_else(bad)?;
    let times: u64 = times.parse().ok().filter(|times| *times > 0).ok_or_else(bad)?;
    Ok(Plan { moment, left: AtomicU64::new(times) })
}

impl Plan {
    fn is_due(&self, moment: Moment) -> bool {
        moment == self.moment && self.left.fetch_sub(1, Ordering::Relaxed) == 1
    }
}

/// A moment has come.
pub(crate) fn point(moment: Moment) {
    if PLAN.get().is_some_and(|plan| plan.is_due(moment)) {
        // Nothing is closed or written any more, as when it is killed.
        std::process::abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_read_or_refused() {
        let plan = read("booked@2").unwrap();
        let due = [Moment::Sent, Moment::Booked, Moment::Booked, Moment::Booked];
        assert_eq!(due.map(|moment| plan.is_due(moment)), [false, false, true, false]);
        for wrong in ["", "booked", "booked@", "booked@0", "booked@x", "else@1"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
