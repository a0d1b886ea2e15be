//! What was sent, acknowledged and received: the judge of a run.

use crate::message::{RunId, Sequence, Stamp};

const ACKNOWLEDGED: u8 = 1;
const RECEIVED: u8 = 2;

/// What a received message was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Receipt {
    First,
    /// It had come before.
    Again,
    /// Not a message of this run, or one that was damaged on the way.
    Stranger,
}

/// One byte for each message of a run.
#[derive(Debug)]
pub(crate) struct Ledger {
    run: RunId,
    messages: Vec<u8>,
    verdict: Verdict,
}

/// The counts of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Verdict {
    pub(crate) acknowledged: u64,
    /// Received for the first time, acknowledged or not: an answer may be lost on its way.
    pub(crate) received: u64,
    /// Acknowledged and not (yet) received. After a verification: lost.
    pub(crate) missing: u64,
    pub(crate) duplicates: u64,
    pub(crate) strangers: u64,
}

impl Ledger {
    pub(crate) fn new(run: RunId) -> Self {
        Self { run, messages: Vec::new(), verdict: Verdict::default() }
    }

    /// A new message, about to be sent at a moment that the body will say.
    pub(crate) fn issue(&mut self, moment_us: u64) -> Stamp {
        let sequence = Sequence(self.messages.len() as u64);
        self.messages.push(0);
        Stamp { run: self.run, sequence, moment_us }
    }

    /// The server answered that it has the message.
    pub(crate) fn acknowledge(&mut self, sequence: Sequence) {
        let message = &mut self.messages[sequence.0 as usize];
        if *message & ACKNOWLEDGED == 0 {
            self.verdict.acknowledged += 1;
            // A message may overtake the answer to its sender.
            self.verdict.missing += u64::from(*message & RECEIVED == 0);
        }
        *message |= ACKNOWLEDGED;
    }

    /// A body came; `None` is one that could not be read.
    pub(crate) fn receive(&mut self, stamp: Option<Stamp>) -> Receipt {
        let message = stamp
            .filter(|stamp| stamp.run == self.run)
            .and_then(|stamp| self.messages.get_mut(usize::try_from(stamp.sequence.0).ok()?));
        let Some(message) = message else {
            self.verdict.strangers += 1;
            return Receipt::Stranger;
        };
        if *message & RECEIVED != 0 {
            self.verdict.duplicates += 1;
            return Receipt::Again;
        }
        self.verdict.received += 1;
        self.verdict.missing -= u64::from(*message & ACKNOWLEDGED != 0);
        *message |= RECEIVED;
        Receipt::First
    }

    pub(crate) fn verdict(&self) -> Verdict {
        self.verdict
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger(messages: usize) -> (Ledger, Vec<Stamp>) {
        let mut ledger = Ledger::new(RunId(5));
        let stamps = (0..messages).map(|moment| ledger.issue(moment as u64)).collect();
        (ledger, stamps)
    }

    #[test]
    fn what_was_acknowledged_is_missing_until_it_comes() {
        let (mut ledger, stamps) = ledger(2);
        ledger.acknowledge(stamps[0].sequence);
        ledger.acknowledge(stamps[1].sequence);
        assert_eq!(ledger.verdict().missing, 2);
        assert_eq!(ledger.receive(Some(stamps[1])), Receipt::First);
        assert_eq!(ledger.verdict().missing, 1);
        assert_eq!(ledger.receive(Some(stamps[1])), Receipt::Again);
        let expected =
            Verdict { acknowledged: 2, received: 1, missing: 1, duplicates: 1, strangers: 0 };
        assert_eq!(ledger.verdict(), expected);
    }

    #[test]
    fn a_message_may_overtake_its_acknowledgement() {
        let (mut ledger, stamps) = ledger(1);
        assert_eq!(ledger.receive(Some(stamps[0])), Receipt::First);
        ledger.acknowledge(stamps[0].sequence);
        ledger.acknowledge(stamps[0].sequence);
        let expected =
            Verdict { acknowledged: 1, received: 1, missing: 0, duplicates: 0, strangers: 0 };
        assert_eq!(ledger.verdict(), expected);
    }

    #[test]
    fn what_was_never_acknowledged_is_not_missed() {
        let (ledger, _) = ledger(3);
        assert_eq!(ledger.verdict(), Verdict::default());
    }

    #[test]
    fn strangers_are_told_apart() {
        let (mut ledger, stamps) = ledger(1);
        let other_run = Stamp { run: RunId(6), ..stamps[0] };
        let not_issued = Stamp { sequence: Sequence(1), ..stamps[0] };
        for stranger in [Some(other_run), Some(not_issued), None] {
            assert_eq!(ledger.receive(stranger), Receipt::Stranger);
        }
        assert_eq!(ledger.verdict().strangers, 3);
        assert_eq!(ledger.receive(Some(stamps[0])), Receipt::First);
    }
}
