//! Interesting states that the tests must reach: a test that never meets them proves less than it seems
//! to.

use crate::plant::{Catch, QUEUE, file};

/// What must come to a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    /// The crashes at all failpoints, and simulated clusters.
    Crashes,
    /// Simulated clusters.
    Seeds,
    /// This test.
    Test(Catch),
}

macro_rules! sights {
    ($($sight:ident $name:literal $what:literal $by:expr;)*) => {
        /// A state that must be reached by some test.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Sight {
            $(#[doc = $what] $sight,)*
        }

        impl Sight {
            /// All of them, in the order of their numbers.
            pub const ALL: &[Sight] = &[$(Sight::$sight,)*];

            /// As it is called in reports.
            pub fn name(self) -> &'static str {
                match self { $(Sight::$sight => $name,)* }
            }

            fn by(self) -> By {
                match self { $(Sight::$sight => $by,)* }
            }
        }
    };
}

impl Sight {
    /// The test that must reach it, where that is a single one.
    pub fn reached_by(self) -> Option<Catch> {
        match self.by() {
            By::Test(catch) => Some(catch),
            By::Crashes | By::Seeds => None,
        }
    }

    /// Whether the crashes at all failpoints must come to it.
    pub fn is_crashed_into(self) -> bool {
        self.by() == By::Crashes
    }

    /// Whether simulated clusters must come to it: all seeds of a run together.
    pub fn is_simulated(self) -> bool {
        self.reached_by().is_none()
    }
}

sights! {
    CommandRepeated "command-repeated"
        "A command came again under its id"
        By::Crashes;
    DuplicateFound "duplicate-found"
        "A FIFO message came again under its deduplication id"
        By::Crashes;
    AttemptRepeated "attempt-repeated"
        "A receive came again under its attempt id, and got the same"
        By::Crashes;
    CandidateGone "candidate-gone"
        "A receive was proposed for a message that was gone or out when it was applied"
        By::Crashes;
    LetterArrived "letter-arrived"
        "A message became a dead letter"
        By::Crashes;
    StateReplaced "state-replaced"
        "A replica took over another's state"
        By::Crashes;
    LeaderDeposedWithProposals "leader-deposed-with-proposals"
        "A leader was deposed while its proposals were under way"
        By::Crashes;
    ReceiverGone "receiver-gone"
        "A client went away before its receive was proposed"
        By::Crashes;
    VoteRefusedByReborn "vote-refused-by-reborn"
        "A replica that is being rebuilt was asked for its vote"
        By::Crashes;
    Reborn "reborn"
        "A replica that had lost its log votes again"
        By::Crashes;
    WakePassedOn "wake-passed-on"
        "A long poll went away with a wake-up, which was passed on"
        By::Crashes;
    WokenFromElsewhere "woken-from-elsewhere"
        "A node was told that another one has something for its long polls"
        By::Crashes;
    StalePlacing "stale-placing"
        "A FIFO message came that was placed before its queue's placement changed"
        By::Test(file(QUEUE, "fifo", "earlier_decisions_are_refused_once_a_later_one_was_heard_of", "", 1));
    GroupHeldAtApply "group-held-at-apply"
        "A receive was proposed for a group that had a message out when it was applied"
        By::Test(file(QUEUE, "fifo", "apply_refuses_what_a_wrong_leader_offers", "", 1));
    Expired "expired"
        "A message was removed because of its age"
        By::Test(file(QUEUE, "against_model", "machine_and_window_do_what_the_model_does", "", 5));
    LogTruncated "log-truncated"
        "A follower's entries were replaced by those of another leader"
        By::Seeds;
    TailTorn "tail-torn"
        "A node that started found a write that was torn"
        By::Seeds;
}
