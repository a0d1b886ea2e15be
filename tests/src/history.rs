//! What clients saw, and what must be true of it.
//!
//! Times are of one monotonic clock, taken by the clients: a request takes effect somewhere between
//! its start and its answer, so only what holds for every such moment is called a violation.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crate::client::{Failed, Failure};

/// Nodes count in whole milliseconds.
const ROUNDING: Duration = Duration::from_millis(2);

/// A message that came with a receive.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// Its body, which is unique to one send.
    pub body: String,
    /// Its id.
    pub message_id: String,
    /// When the receive was sent.
    pub asked: Instant,
    /// When its answer was there.
    pub answered: Instant,
    /// For how long it was asked to stay hidden.
    pub visibility: Duration,
}

#[derive(Clone, Debug)]
enum Sent {
    /// Stored, with this id.
    Stored(String),
    NotApplied,
    Unknown,
}

/// See the module.
#[derive(Debug, Default)]
pub struct History {
    sent: BTreeMap<String, Sent>,
    deliveries: BTreeMap<String, Vec<Delivery>>,
    /// By message id: when the first acknowledged delete was answered.
    deleted: BTreeMap<String, Instant>,
    /// Failures that no client should see.
    bad_failures: Vec<String>,
}

impl History {
    /// Notes a send with a body that no other send has.
    pub fn sent(&mut self, body: String, result: &Result<String, Failure>) {
        let sent = match result {
            Ok(id) => Sent::Stored(id.clone()),
            Err(failure) if failure.outcome == Failed::NotApplied => Sent::NotApplied,
            Err(_) => Sent::Unknown,
        };
        let again = self.sent.insert(body, sent).is_some();
        assert!(!again, "bodies are unique");
    }

    /// Notes a delivery.
    pub fn delivered(&mut self, delivery: Delivery) {
        self.deliveries.entry(delivery.body.clone()).or_default().push(delivery);
    }

    /// Notes an acknowledged delete.
    pub fn deleted(&mut self, message_id: &str, answered: Instant) {
        self.deleted.entry(message_id.to_owned()).or_insert(answered);
    }

    /// Notes a failure that its client must not see.
    pub fn bad_failure(&mut self, what: String) {
        self.bad_failures.push(what);
    }

    /// Acknowledged sends so far.
    pub fn stored(&self) -> usize {
        self.sent.values().filter(|sent| matches!(sent, Sent::Stored(_))).count()
    }

    /// Sends whose outcome nobody knows.
    pub fn unknown(&self) -> usize {
        self.sent.values().filter(|sent| matches!(sent, Sent::Unknown)).count()
    }

    /// Sends that were refused.
    pub fn refused(&self) -> usize {
        self.sent.values().filter(|sent| matches!(sent, Sent::NotApplied)).count()
    }

    /// Acknowledged bodies that were never delivered yet.
    pub fn missing(&self) -> Vec<&str> {
        let stored = self.sent.iter().filter(|(_, sent)| matches!(sent, Sent::Stored(_)));
        stored
            .map(|(body, _)| body.as_str())
            .filter(|body| !self.deliveries.contains_key(*body))
            .collect()
    }

    /// Distinct message ids under which a body was delivered.
    pub fn ids_of(&self, body: &str) -> BTreeSet<&str> {
        let deliveries = self.deliveries.get(body).into_iter().flatten();
        deliveries.map(|delivery| delivery.message_id.as_str()).collect()
    }

    /// What must not have happened, one line each. Call it when everything is drained.
    pub fn violations(&self) -> Vec<String> {
        let mut found = self.bad_failures.clone();
        found.extend(self.missing().iter().map(|body| format!("lost: {body}")));
        for (body, deliveries) in &self.deliveries {
            match self.sent.get(body) {
                None => found.push(format!("never sent: {body}")),
                Some(Sent::NotApplied) => found.push(format!("refused, yet delivered: {body}")),
                Some(Sent::Stored(id)) if self.ids_of(body).into_iter().any(|seen| seen != id) => {
                    found.push(format!("another id than the send's: {body}"));
                }
                Some(_) if self.ids_of(body).len() > 1 => {
                    found.push(format!("sent once, stored twice: {body}"));
                }
                Some(_) => {}
            }
            found.extend(self.too_early(deliveries));
            found.extend(self.after_delete(deliveries));
        }
        found
    }

    /// Both receives were answered before the lease of either can have ended: one of them handed
    /// out a message that was in flight.
    fn too_early(&self, deliveries: &[Delivery]) -> Vec<String> {
        let mut found = Vec::new();
        for (place, one) in deliveries.iter().enumerate() {
            for other in &deliveries[place + 1..] {
                let same = one.message_id == other.message_id;
                let one_ends = one.asked + one.visibility;
                let other_ends = other.asked + other.visibility;
                let both = one.answered.max(other.answered) + ROUNDING;
                if same && both < one_ends.min(other_ends) {
                    let apart = one.answered.max(other.answered) - one.answered.min(other.answered);
                    found.push(format!("leased twice, answers {apart:?} apart: {}", one.body));
                }
            }
        }
        found
    }

    fn after_delete(&self, deliveries: &[Delivery]) -> Vec<String> {
        let late = deliveries.iter().filter(|delivery| {
            let deleted = self.deleted.get(&delivery.message_id);
            deleted.is_some_and(|deleted| *deleted < delivery.asked)
        });
        late.map(|delivery| format!("delivered after its delete: {}", delivery.body)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(begin: Instant, ms: u64) -> Instant {
        begin + Duration::from_millis(ms)
    }

    fn delivery(body: &str, id: &str, asked: Instant, answered: Instant) -> Delivery {
        Delivery {
            body: body.into(),
            message_id: id.into(),
            asked,
            answered,
            visibility: Duration::from_secs(1),
        }
    }

    fn failure(outcome: Failed) -> Failure {
        Failure { outcome, status: None, text: String::new() }
    }

    #[test]
    fn a_good_history_has_no_violations() {
        let begin = Instant::now();
        let mut history = History::default();
        history.sent("a".into(), &Ok("1".into()));
        history.sent("b".into(), &Err(failure(Failed::Unknown)));
        history.sent("c".into(), &Err(failure(Failed::NotApplied)));
        history.delivered(delivery("a", "1", begin, at(begin, 10)));
        // The lease was granted between the first two moments, so it may have ended.
        history.delivered(delivery("a", "1", at(begin, 900), at(begin, 1_001)));
        history.deleted("1", at(begin, 1_100));
        history.delivered(delivery("b", "2", begin, at(begin, 10)));
        assert_eq!(history.violations(), Vec::<String>::new());
        assert_eq!((history.stored(), history.unknown(), history.refused()), (1, 1, 1));
    }

    #[test]
    fn each_violation_is_found() {
        let begin = Instant::now();
        let check = |fill: &dyn Fn(&mut History), says: &str| {
            let mut history = History::default();
            fill(&mut history);
            let found = history.violations();
            assert!(found.len() == 1 && found[0].starts_with(says), "{says}: {found:?}");
        };
        check(&|history| history.sent("a".into(), &Ok("1".into())), "lost");
        check(&|history| history.delivered(delivery("a", "1", begin, begin)), "never sent");
        let sent = |history: &mut History, result: Result<String, Failure>| {
            history.sent("a".into(), &result);
            history.delivered(delivery("a", "1", begin, at(begin, 10)));
        };
        check(&|history| sent(history, Err(failure(Failed::NotApplied))), "refused, yet");
        check(&|history| sent(history, Ok("2".into())), "another id");
        check(
            &|history| {
                sent(history, Err(failure(Failed::Unknown)));
                history.delivered(delivery("a", "2", begin, begin));
            },
            "sent once, stored twice",
        );
        check(
            &|history| {
                sent(history, Ok("1".into()));
                history.delivered(delivery("a", "1", at(begin, 900), at(begin, 990)));
            },
            "leased twice",
        );
        check(
            &|history| {
                sent(history, Ok("1".into()));
                history.deleted("1", at(begin, 20));
                history.delivered(delivery("a", "1", at(begin, 2_000), at(begin, 2_001)));
            },
            "delivered after",
        );
    }
}
