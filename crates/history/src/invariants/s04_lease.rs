//! S4. Case: a delivery of a message that was delivered before. It must not lie wholly inside the
//! time for which the message was certainly hidden: from the answer that brought it to the earliest
//! possible end of that lease.
//!
//! Source: visibility timeouts; the lease begins at the receive's start at the earliest, an
//! acknowledged ChangeMessageVisibility replaces its end, an unknown one may have. Undecided:
//! nothing. `e` is added to the later delivery's end.

use super::hiding::{earliest_end, setters};
use super::time;
use crate::index::Index;
use crate::verdict::Tally;

pub(super) fn check(index: &Index, tally: &mut Tally) {
    let e = index.bounds().clock_us;
    let mut found = Vec::new();
    for message in 0..index.messages.len() as u32 {
        let deliveries = index.deliveries_of_message.of(message);
        if deliveries.len() < 2 {
            continue;
        }
        setters(index, message, &mut found);
        for &later in deliveries {
            let (at, row) = (index.at(later), &index.deliveries[later as usize]);
            let same = |it: u32| index.deliveries[it as usize].handle == row.handle;
            // A repetition under an attempt id brings the handle once more: F7, S7.
            if deliveries.iter().any(|other| *other != later && same(*other)) {
                continue;
            }
            let end = earliest_end(&found, at, |it| it.is_delivery && it.delivery == later);
            let Some(end) = end else { continue };
            tally.saw();
            if at.ret.saturating_add(e) >= end {
                continue;
            }
            tally.found(|| {
                let before = || found.iter().filter(|it| it.at.before(at));
                let leases = before().filter(|it| it.is_delivery).map(|it| it.delivery);
                let leases: Vec<u32> = leases.chain([later]).collect();
                let changes: Vec<u32> = before().map(|it| it.record).collect();
                let what = format!(
                    "{} was handed out at {} while it was hidden until {} at least",
                    index.name_of(message),
                    time(at.ret),
                    time(end)
                );
                index.finding_of(what, message, &leases, &changes)
            });
        }
    }
}
