//! Every fault of a service is found, and called by its name.

mod common;

use common::{Bug, Plan, World};
use flotilla_history::{Answer, Invariant, check};

/// In some run in which the fault showed, this invariant is broken; and wherever it is found at all
/// the verdict is a failure.
fn finds(bug: Bug, invariant: Invariant, change: impl Fn(&mut Plan)) {
    finds_saying(bug, invariant, "", change);
}

/// The same, and one of its findings says this.
fn finds_saying(bug: Bug, invariant: Invariant, says: &str, change: impl Fn(&mut Plan)) {
    let mut fired = 0;
    let mut broken: Vec<Vec<Invariant>> = Vec::new();
    for seed in 0..6 {
        let mut plan = Plan { bug: Some(bug), info: 2, ..Plan::new(seed) };
        change(&mut plan);
        let world = World::run(plan);
        let verdict = check(&world.header, &world.records);
        fired += world.fired;
        let findings = &verdict.tally(invariant).findings;
        if findings.iter().any(|finding| finding.what.contains(says)) {
            assert_eq!(verdict.answer, Answer::Fail);
            assert!(!findings[0].what.is_empty());
            return;
        }
        broken.push(verdict.broken());
    }
    panic!("{bug:?} showed {fired} times, and {invariant} did not find it: {broken:?}");
}

fn found(bug: Bug, invariant: Invariant) {
    finds(bug, invariant, |_| {});
}

macro_rules! planted {
    ($($name:ident: $bug:ident $invariant:ident;)+) => {
        $(#[test]
        fn $name() {
            found(Bug::$bug, Invariant::$invariant);
        })+
    };
}

planted! {
    a_lost_message: Loses S1;
    a_message_lost_between_queue_and_dead_letter_queue: LostInMove S1;
    a_refused_message: Ghost S1b;
    an_altered_message: Alters S2;
    a_wrong_digest_of_a_send: SendDigest S2;
    a_wrong_digest_of_a_receive: ReceiveDigest S2;
    more_than_was_asked_for: TooMany S2;
    a_message_handed_out_in_its_lease: Lease S4;
    a_lease_that_was_not_kept: LeaseIgnored S4;
    an_extension_that_was_not_kept: ExtensionIgnored S4;
    a_deleted_message: DeleteIgnored S5;
    an_old_handle_that_does_nothing: OldHandleIgnored S6;
    one_handle_twice: HandleTwice S7;
    a_handle_of_another_queue: ForeignHandle S7;
    a_count_that_stands: CountStands S8;
    a_count_that_jumps: CountJumps S8;
    a_new_time_of_sending: Restamps S8;
    a_delay_cut_short: DelayIgnored S9;
    too_many_receives: MovedTooLate S11;
    too_few_receives: MovedTooEarly S11;
    a_dead_letter_in_both_queues: MovedAndKept S11;
    a_move_task_that_copies: MovedTwice S12;
    a_move_task_of_a_fifo_queue_that_copies: FifoMovedTwice S12;
    ids_that_are_known_after_a_purge: IdsOutlivePurge F5;
    ids_that_are_known_in_the_next_queue: IdsOutliveDeletion F5;
    a_purge_that_keeps: PurgeKeeps S13;
    a_queue_with_a_past: OldMessagesInNewQueue S14;
    a_queue_that_works_after_its_deletion: WorksAfterDeletion S14;
    counts_of_messages_that_are_gone: CounterLeak S15;
    a_lost_wakeup: LostWakeup S16;
    short_polls_that_see_nothing: ShortPollBlind S17;
    an_entry_answered_twice: BatchAnsweredTwice S18;
    a_batch_in_another_order: BatchOutOfOrder S18;
    old_attributes: StaleAttributes S20;
    sequence_numbers_that_fall: SequenceFalls F1;
    an_answer_in_another_order: AnswerOutOfOrder F2;
    a_skipped_message: Skips F4;
    a_message_that_is_passed_over_the_second_time: SkipsAgain F4;
    an_order_that_is_broken: Skips F2;
    a_group_handed_out_twice: GroupUnlocked F3;
    a_group_handed_out_twice_through_two_nodes: GroupUnlocked F11;
    an_attempt_that_is_forgotten: AttemptForgotten F7;
    a_late_delete: LateDelete F8;
    dead_letters_in_another_order: DeadLettersTurned F9;
    a_node_that_never_recovers: NeverRecovers L1;
    a_node_that_does_not_recover_before_the_next_fault: RecoversLate L1;
    a_receive_that_hides_more_than_it_says: LossNotSaid S8;
    a_lease_that_is_counted_as_visible: CountedTwice S15;
    a_handle_of_the_deleted_queue: OldHandleInNewQueue S14;
    a_delete_in_time_that_is_refused: RefusedInTime F8;
    short_polls_that_forget_a_shard: ShardForgotten S17;
    a_repeated_receive_that_does_not_renew_its_lease: RepeatNotRenewed S4;
}

/// Rules of one invariant that another of its rules would hide.
#[test]
fn each_rule_of_what_is_delivered_is_found() {
    for (bug, says) in [
        (Bug::Alters, "another body"),
        (Bug::Misplaces, "from a queue that it was not sent to"),
        (Bug::OtherGroup, "in another group"),
        (Bug::OtherDedup, "another deduplication id than it was sent with"),
        (Bug::NewIds, "under more message ids than it was sent"),
        (Bug::Swallows, "has the id of another message"),
        (Bug::SaysLess, "without an attribute that it must have"),
        (Bug::SaysNoNumber, "has no sequence number"),
    ] {
        finds_saying(bug, Invariant::S2, says, |_| {});
    }
}

#[test]
fn each_rule_of_numbers_stamps_counts_and_names_is_found() {
    for (bug, invariant, says) in [
        (Bug::SequenceTwice, Invariant::F1, "have one sequence number"),
        (Bug::DuplicateRenumbered, Invariant::F1, "and two sequence numbers"),
        (Bug::FirstReceiveMoves, Invariant::S8, "its first receive was at"),
        (Bug::DelayedTwice, Invariant::S15, "delayed at"),
        (Bug::ForgetsQueue, Invariant::S14, "is said not to exist, and does"),
        (Bug::DeletesNothing, Invariant::S14, "no order of the creations and deletions"),
        (Bug::MoveKeeps, Invariant::S12, "as what it was before a task moved it"),
    ] {
        finds_saying(bug, invariant, says, |_| {});
    }
}

#[test]
fn a_dead_letter_with_another_deduplication_id() {
    let says = "another deduplication id there than its message id";
    finds_saying(Bug::LetterKeepsDedup, Invariant::F9, says, |_| {});
}

#[test]
fn two_leases_at_once() {
    // Only requests that are under way together can be in either order.
    finds(Bug::LeaseIgnored, Invariant::S3, |plan| plan.seconds = 120);
}

#[test]
fn a_poll_that_does_not_end() {
    // Polls near a fault may take their time.
    finds(Bug::PollTooLong, Invariant::S16, |plan| plan.seconds = 120);
}

#[test]
fn a_message_past_its_retention() {
    finds(Bug::RetentionIgnored, Invariant::S10, |plan| plan.retention_s = 4);
}

#[test]
fn more_in_flight_than_allowed() {
    finds(Bug::LimitIgnored, Invariant::S19, |plan| plan.limit = 4);
}

#[test]
fn a_refusal_for_nothing() {
    finds(Bug::LimitTooEarly, Invariant::S19, |plan| plan.limit = 1_000);
}

#[test]
fn a_duplicate_that_is_stored() {
    finds(Bug::DedupForgets, Invariant::F5, |plan| plan.info = 0);
}

#[test]
fn a_repeated_send_that_is_stored_twice() {
    finds(Bug::DedupForgets, Invariant::F6, |plan| plan.info = 20);
}

#[test]
fn an_id_that_is_remembered_for_too_long() {
    finds(Bug::DedupForEver, Invariant::F5, |plan| {
        (plan.seconds, plan.info, plan.slower) = (400, 0, 10);
    });
}

#[test]
fn a_fifo_queue_delay_cut_short() {
    finds(Bug::DelayIgnored, Invariant::F10, |plan| plan.fifo_delay_s = 1);
}
