//! Interesting states that the tests must reach: a test that never meets them proves less than it seems
//! to.

use crate::plant::{Catch, QUEUE, STORAGE, file, unit};

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

            /// The test that must reach it; `None`: the crashes at all failpoints.
            pub fn reached_by(self) -> Option<Catch> {
                match self { $(Sight::$sight => $by,)* }
            }
        }
    };
}

sights! {
    CommandRepeated "command-repeated"
        "A command came again under its id"
        None;
    DuplicateFound "duplicate-found"
        "A FIFO message came again under its deduplication id"
        None;
    AttemptRepeated "attempt-repeated"
        "A receive came again under its attempt id, and got the same"
        None;
    CandidateGone "candidate-gone"
        "A receive was proposed for a message that was gone or out when it was applied"
        None;
    LetterArrived "letter-arrived"
        "A message became a dead letter"
        None;
    StateReplaced "state-replaced"
        "A replica took over another's state"
        None;
    LeaderDeposedWithProposals "leader-deposed-with-proposals"
        "A leader was deposed while its proposals were under way"
        None;
    ReceiverGone "receiver-gone"
        "A client went away before its receive was proposed"
        None;
    VoteRefusedByReborn "vote-refused-by-reborn"
        "A replica that is being rebuilt was asked for its vote"
        None;
    Reborn "reborn"
        "A replica that had lost its log votes again"
        None;
    WakePassedOn "wake-passed-on"
        "A long poll went away with a wake-up, which was passed on"
        None;
    WokenFromElsewhere "woken-from-elsewhere"
        "A node was told that another one has something for its long polls"
        None;
    StalePlacing "stale-placing"
        "A FIFO message came that was placed before its queue's placement changed"
        Some(file(QUEUE, "fifo", "earlier_decisions_are_refused_once_a_later_one_was_heard_of", "", 1));
    GroupHeldAtApply "group-held-at-apply"
        "A receive was proposed for a group that had a message out when it was applied"
        Some(file(QUEUE, "fifo", "apply_refuses_what_a_wrong_leader_offers", "", 1));
    Expired "expired"
        "A message was removed because of its age"
        Some(file(QUEUE, "against_model", "machine_and_window_do_what_the_model_does", "", 5));
    LogTruncated "log-truncated"
        "A follower's entries were replaced by those of another leader"
        Some(unit(STORAGE, "log::tests::model::the_log_is_what_it_was_told", "", 5));
    TailTorn "tail-torn"
        "A node that started found a write that was torn"
        Some(unit(STORAGE, "log::tests::damage::a_torn_tail_is_cut_wherever_it_tears", "", 5));
}
