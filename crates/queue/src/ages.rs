//! How old the messages of a queue can be, where their places do not tell.

use flotilla_types::ids::Seq;

/// The largest part of its retention by which a message may be kept for longer before it is looked for, and the
/// longest time: else every message that gets too old would be a walk over all. No receive hands it out meanwhile.
const LATE_PART: u64 = 100;
const LATE_MAX_MS: u64 = 60_000;

/// A bound on the age of all messages that a queue has in a shard. Volatile: it only saves walks over all
/// messages, and nothing that is applied depends on it.
#[derive(Debug, Default)]
pub(crate) struct Ages {
    /// No message is from before this time; `None`: not known.
    oldest_ms: Option<u64>,
    /// A walk over all messages that goes on from a place, and the oldest that it or anybody brought since.
    walk: Option<(Seq, u64)>,
    /// The oldest that the batch brought whose messages begin with this place. Walks do not see those.
    batch: Option<(Seq, u64)>,
}

impl Ages {
    /// Of a queue without messages.
    pub(crate) fn of_none() -> Ages {
        Ages { oldest_ms: Some(u64::MAX), ..Ages::default() }
    }

    /// A message came, in the batch whose messages begin with `first_seq`.
    pub(crate) fn came(&mut self, first_seq: Seq, since_ms: u64) {
        self.batch = Some((first_seq, self.oldest_of_batch(first_seq).min(since_ms)));
        self.oldest_ms = self.oldest_ms.map(|oldest_ms| oldest_ms.min(since_ms));
        self.walk = self.walk.map(|(at, oldest_ms)| (at, oldest_ms.min(since_ms)));
    }

    fn oldest_of_batch(&self, first_seq: Seq) -> u64 {
        self.batch.filter(|(of, _)| *of == first_seq).map_or(u64::MAX, |(_, ms)| ms)
    }

    /// All messages from a place on were seen, up to `resume` or all that there are. The oldest of those that
    /// stay is from then.
    pub(crate) fn walked(
        &mut self,
        first_seq: Seq,
        from: Seq,
        resume: Option<Seq>,
        oldest_ms: u64,
    ) {
        let before_ms = match self.walk.take() {
            _ if from == Seq(0) => Some(self.oldest_of_batch(first_seq)),
            Some((at, before_ms)) if at == from => Some(before_ms),
            _ => None,
        };
        let Some(before_ms) = before_ms else { return };
        let oldest_ms = before_ms.min(oldest_ms);
        match resume {
            Some(at) => self.walk = Some((at, oldest_ms)),
            None => self.oldest_ms = Some(oldest_ms),
        }
    }

    /// Whether all messages are known to be from after this time.
    pub(crate) fn are_younger(&self, since_ms: u64) -> bool {
        self.oldest_ms.is_some_and(|oldest_ms| since_ms < oldest_ms)
    }

    /// Whether a walk may find a message past this retention.
    pub(crate) fn may_be_past(&self, retention_ms: u64, now_ms: u64) -> bool {
        let late_ms = (retention_ms / LATE_PART).min(LATE_MAX_MS);
        let past_ms = |since_ms: u64| since_ms.saturating_add(retention_ms).saturating_add(late_ms);
        self.oldest_ms.is_none_or(|since_ms| past_ms(since_ms) <= now_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RETENTION_MS: u64 = 1_000;

    fn due_at(ages: &Ages) -> Option<u64> {
        (0..10_000).find(|now_ms| ages.may_be_past(RETENTION_MS, *now_ms))
    }

    #[test]
    fn what_comes_into_an_empty_queue_is_all_that_there_is() {
        let mut ages = Ages::of_none();
        assert_eq!(due_at(&ages), None);
        ages.came(Seq(5), 900);
        assert_eq!(due_at(&ages), Some(900 + 1_010));
        ages.came(Seq(6), 300);
        ages.came(Seq(7), 500);
        assert_eq!(due_at(&ages), Some(300 + 1_010));
    }

    #[test]
    fn a_walk_over_all_tells_how_old_they_are() {
        let mut ages = Ages::default();
        assert_eq!(due_at(&ages), Some(0), "nothing is known");
        ages.walked(Seq(90), Seq(0), Some(Seq(40)), 700);
        assert_eq!(due_at(&ages), Some(0), "nor half way");
        ages.came(Seq(95), 650);
        ages.walked(Seq(99), Seq(40), None, 800);
        assert_eq!(due_at(&ages), Some(650 + 1_010));
        // What began in the middle has not seen all.
        ages.walked(Seq(99), Seq(40), None, 2_000);
        assert_eq!(due_at(&ages), Some(650 + 1_010));
        ages.walked(Seq(99), Seq(0), None, 2_000);
        assert_eq!(due_at(&ages), Some(2_000 + 1_010));
    }

    #[test]
    fn a_walk_does_not_forget_what_its_own_batch_brought_before_it() {
        let mut ages = Ages::of_none();
        ages.came(Seq(99), 100);
        ages.walked(Seq(99), Seq(0), None, 500);
        assert_eq!(due_at(&ages), Some(100 + 1_010));
        ages.walked(Seq(100), Seq(0), None, 500);
        assert_eq!(due_at(&ages), Some(500 + 1_010));
    }

    #[test]
    fn messages_are_kept_a_minute_longer_at_most() {
        let mut ages = Ages::of_none();
        ages.came(Seq(1), 0);
        let days_ms = 4 * 86_400_000;
        assert!(!ages.may_be_past(days_ms, days_ms + 59_999));
        assert!(ages.may_be_past(days_ms, days_ms + 60_000));
    }
}
