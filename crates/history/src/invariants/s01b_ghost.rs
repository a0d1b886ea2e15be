//! S1b. Case: a key of which some send was certainly refused. It must not be delivered under more
//! ids than there are sends that were not refused.
//!
//! Source: the answer's `not-applied`, which must never be given once a command was proposed.
//! Undecided: nothing; keys that move tasks may have given new ids are left to S12. No clock.

use crate::index::{Index, Known};
use crate::verdict::Tally;

pub(super) fn check(index: &Index, tally: &mut Tally) {
    for key in 0..index.keys.len() as u32 {
        let attempts = index.attempts_of_key.of(key).iter();
        let refused = attempts.filter(|it| index.attempts[**it as usize].outcome == Known::Fail);
        let refused: Vec<u32> = refused.map(|it| index.attempts[*it as usize].record).collect();
        if refused.is_empty() {
            continue;
        }
        tally.saw();
        if let Some(message) = super::s02_invention::surplus(index, key) {
            tally.found(|| {
                let what = format!(
                    "{} was refused as certainly not applied, and was delivered",
                    index.name_of(message)
                );
                let deliveries = index.deliveries_of_message.of(message);
                index.finding_of(what, message, &deliveries[..1], &refused)
            });
        }
    }
}
