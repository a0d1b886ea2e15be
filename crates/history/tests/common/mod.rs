//! Histories of a service that does what it must, or of one with a fault.

#![allow(dead_code, unreachable_pub)]

mod client;
pub mod dice;
mod handing;
mod service;
pub mod steady;
mod world;

pub use world::{Plan, World};

use flotilla_history::around::Scenes;
use flotilla_history::{Verdict, report};

impl World {
    /// A verdict with the requests around the first findings.
    pub fn explain(&self, verdict: &Verdict) -> String {
        let mut scenes = Scenes::new(verdict, 3);
        self.records.iter().for_each(|record| scenes.add(record));
        report(verdict, &scenes.finish())
    }
}

/// What the service does wrong, now and then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    Loses,
    Ghost,
    Alters,
    SendDigest,
    ReceiveDigest,
    TooMany,
    Lease,
    LeaseIgnored,
    ExtensionIgnored,
    DeleteIgnored,
    OldHandleIgnored,
    HandleTwice,
    ForeignHandle,
    CountStands,
    CountJumps,
    Restamps,
    DelayIgnored,
    RetentionIgnored,
    MovedTooLate,
    MovedTooEarly,
    MovedAndKept,
    LostInMove,
    MovedTwice,
    FifoMovedTwice,
    PurgeKeeps,
    OldMessagesInNewQueue,
    WorksAfterDeletion,
    CounterLeak,
    LostWakeup,
    PollTooLong,
    ShortPollBlind,
    BatchAnsweredTwice,
    BatchOutOfOrder,
    LimitIgnored,
    LimitTooEarly,
    StaleAttributes,
    SequenceFalls,
    AnswerOutOfOrder,
    Skips,
    GroupUnlocked,
    DedupForgets,
    DedupForEver,
    AttemptForgotten,
    LateDelete,
    DeadLettersTurned,
    NeverRecovers,
    RecoversLate,
    /// A receive hides messages that it does not bring, and does not say so.
    LossNotSaid,
    /// A lease is taken for a message that can be received.
    CountedTwice,
    IdsOutlivePurge,
    IdsOutliveDeletion,
    OldHandleInNewQueue,
    RefusedInTime,
    /// Short polls see all but one shard.
    ShardForgotten,
    /// A message is stored in another queue than it was sent to.
    Misplaces,
    OtherGroup,
    OtherDedup,
    /// A dead letter of a FIFO queue keeps its deduplication id.
    LetterKeepsDedup,
    /// A message comes under another id now and then.
    NewIds,
    SequenceTwice,
    /// A duplicate is answered with a number of its own.
    DuplicateRenumbered,
    FirstReceiveMoves,
    DelayedTwice,
    /// A queue is said not to exist now and then.
    ForgetsQueue,
    /// A receive that is repeated under its attempt id brings the same, and does not hide it anew.
    RepeatNotRenewed,
    /// A task leaves a message where it was, beside what it sent.
    MoveKeeps,
    /// A send is answered as if it repeated another, and stored nowhere.
    Swallows,
    /// A receive's answer leaves something out.
    SaysLess,
    /// A send's.
    SaysNoNumber,
    /// A message of a group that was received before is passed over.
    SkipsAgain,
    /// The deletion of a queue that is not there is no error.
    DeletesNothing,
}
