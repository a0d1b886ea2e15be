//! The bugs that can be planted: what each is, and which test must fail because of it.

/// Where the test lies that must catch a bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Among the unit tests of a crate.
    Unit,
    /// In one file of a crate's `tests`.
    File(&'static str),
    /// No test by itself: crashes at the failpoint that is the test's name.
    Crashes,
    /// No test by itself: simulated clusters, from the first seed on at most so many.
    Seeds(u64),
}

/// The test that must fail while a bug is planted, and passes without it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Catch {
    /// The crate.
    pub package: &'static str,
    /// Where in it.
    pub target: Target,
    /// The test's whole name.
    pub test: &'static str,
    /// What it says when it fails for this reason, and not because it could not be run.
    pub says: &'static str,
    /// What it costs to find the bug, without building, on two busy cores.
    pub seconds: u32,
}

const fn unit(
    package: &'static str,
    test: &'static str,
    says: &'static str,
    seconds: u32,
) -> Catch {
    Catch { package, target: Target::Unit, test, says, seconds }
}

const fn crashes(point: &'static str, says: &'static str, seconds: u32) -> Catch {
    Catch { package: WHOLE, target: Target::Crashes, test: point, says, seconds }
}

pub(crate) const fn file(
    package: &'static str,
    file: &'static str,
    test: &'static str,
    says: &'static str,
    seconds: u32,
) -> Catch {
    Catch { package, target: Target::File(file), test, says, seconds }
}

/// Simulated clusters notice, in so many seeds and these words.
const fn seeds(count: u64, says: &'static str) -> Catch {
    Catch {
        package: SIMULATION,
        target: Target::Seeds(count),
        test: "",
        says,
        seconds: 2 * count as u32,
    }
}

macro_rules! plants {
    ($($plant:ident $name:literal $wrong:literal $catch:expr $(, $simulated:expr)?;)*) => {
        /// A bug that can be planted.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Plant {
            $(#[doc = $wrong] $plant,)*
        }

        impl Plant {
            /// All of them.
            pub const ALL: &[Plant] = &[$(Plant::$plant,)*];

            /// As it is called on command lines.
            pub fn name(self) -> &'static str {
                match self { $(Plant::$plant => $name,)* }
            }

            /// What is wrong.
            pub fn wrong(self) -> &'static str {
                match self { $(Plant::$plant => $wrong,)* }
            }

            /// Who must notice.
            pub fn caught_by(self) -> Catch {
                match self { $(Plant::$plant => $catch,)* }
            }

            /// How simulated clusters notice, if they must.
            pub fn simulated(self) -> Option<Catch> {
                let catch = self.caught_by();
                if matches!(catch.target, Target::Seeds(_)) {
                    return Some(catch);
                }
                match self {
                    $($(Plant::$plant => Some($simulated),)?)*
                    _ => None,
                }
            }
        }
    };
}

impl Plant {
    /// The bug of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|plant| plant.name() == name)
    }
}

const CLUSTER: &str = "flotilla-cluster";
const CONSENSUS: &str = "flotilla-consensus";
const GATEWAY: &str = "flotilla-gateway";
pub(crate) const QUEUE: &str = "flotilla-queue";
const STORAGE: &str = "flotilla-storage";
const WHOLE: &str = "flotilla-tests";
const SIMULATION: &str = "flotilla-sim";

plants! {
    ChangeIgnored "change-ignored"
        "ChangeMessageVisibility says yes to a later end and keeps the earlier one"
        file(QUEUE, "commands", "visibility_changes_with_any_handle_also_after_the_lease_ended", "panicked at crates/queue/tests/commands.rs", 1);
    OldHandleDeletes "old-handle-deletes"
        "A FIFO queue deletes a message with the handle of a receive that is over"
        file(QUEUE, "fifo", "a_handle_is_good_as_long_as_its_receive_holds_the_message", "panicked at crates/queue/tests/fifo.rs", 1),
        seeds(20, "FOUND");
    GroupNotLocked "group-not-locked"
        "Applying a receive does not look whether an earlier message of the group is out"
        file(QUEUE, "fifo", "apply_refuses_what_a_wrong_leader_offers", "panicked at crates/queue/tests/fifo.rs", 1);
    GroupForgotten "group-forgotten"
        "A FIFO group's lock is gone when a replica loads its state: after a restart, or a snapshot"
        file(QUEUE, "fifo", "a_loaded_replica_holds_the_same_groups", "panicked at crates/queue/tests/fifo.rs", 1),
        seeds(20, "which group has which does not follow");
    FenceForgotten "fence-forgotten"
        "A purge makes a shard forget that earlier decisions about a group are void"
        file(QUEUE, "fifo", "earlier_decisions_are_refused_once_a_later_one_was_heard_of", "panicked at crates/queue/tests/fifo.rs", 1);
    DuplicateRenews "duplicate-renews"
        "A duplicate begins the deduplication interval anew"
        file(QUEUE, "fifo", "a_key_is_remembered_for_an_interval_from_its_first_message", "put twice", 1);
    ExpiredHandedOut "expired-handed-out"
        "A message that is past its retention is handed out"
        file(QUEUE, "commands", "a_candidate_past_retention_is_removed_instead", "panicked at crates/queue/tests/commands.rs", 1);
    CommandIdsIgnored "command-ids-ignored"
        "A command that is repeated under its id is applied again"
        file(QUEUE, "commands", "a_repeated_command_is_answered_and_not_applied", "panicked at crates/queue/tests/commands.rs", 1),
        seeds(20, "FOUND");
    CommandIdsNotLoaded "command-ids-not-loaded"
        "A replica that loads its state has forgotten which commands it applied"
        file(QUEUE, "against_model", "machine_and_window_do_what_the_model_does", "panicked at crates/queue/tests/", 1),
        seeds(20, "what the rows say");
    LeasesNotLoaded "leases-not-loaded"
        "A replica that loads its state knows no leases: what is out is visible again"
        file(QUEUE, "against_model", "machine_and_window_do_what_the_model_does", "panicked at crates/queue/tests/", 1),
        seeds(20, "in memory, and from the rows");
    ReceivesNotLoaded "receives-not-loaded"
        "A replica that loads its state counts the receives of each message from 1 on"
        file(QUEUE, "against_model", "machine_and_window_do_what_the_model_does", "panicked at crates/queue/tests/", 1),
        seeds(20, "in memory, and from the rows");
    PlacesRestart "places-restart"
        "A replica that loads its state gives places to messages that others have had"
        file(QUEUE, "against_model", "machine_and_window_do_what_the_model_does", "panicked at crates/queue/tests/", 1),
        seeds(20, "what the rows say");
    CounterLeak "counter-leak"
        "A lease that ends by itself stays in the number of messages in flight"
        file(QUEUE, "against_model", "machine_and_window_do_what_the_model_does", "panicked at crates/queue/tests/", 1),
        seeds(20, "BROKEN");
    LetterTwice "letter-twice"
        "A message that becomes a dead letter arrives twice"
        file(QUEUE, "dead_letters", "the_receive_after_the_last_allowed_one_moves_and_hands_out_nothing", "panicked at crates/queue/tests/dead_letters.rs", 1),
        seeds(20, "FOUND");
    LetterLost "letter-lost"
        "A message leaves its queue, and its dead-letter queue takes nothing before it had something in the shard"
        file(QUEUE, "dead_letters", "the_receive_after_the_last_allowed_one_moves_and_hands_out_nothing", "panicked at crates/queue/tests/dead_letters.rs", 1),
        seeds(20, "FOUND");
    LetterYoung "letter-young"
        "The retention of a standard queue's message begins anew when it becomes a dead letter"
        file(QUEUE, "dead_letters", "the_receive_after_the_last_allowed_one_moves_and_hands_out_nothing", "panicked at crates/queue/tests/dead_letters.rs", 1),
        seeds(20, "FOUND");
    PurgeOfLater "purge-of-later"
        "A purge also takes the next message that is sent"
        file(QUEUE, "commands", "purge_takes_visible_delayed_and_in_flight_messages", "panicked at crates/queue/tests/commands.rs", 1);
    AckBeforeWrite "ack-before-write"
        "The log says that a batch is durable before it is written"
        file(STORAGE, "log_crash", "a_killed_process_loses_nothing", "panicked at crates/storage/tests/log_load/mod.rs", 1);
    SyncSkipped "sync-skipped"
        "The log writes and does not sync"
        file(STORAGE, "log_power_cut", "a_power_cut_loses_nothing", "panicked at crates/storage/tests/log_load/mod.rs", 1),
        seeds(20, "which is durable on nodes");
    TruncateForgotten "truncate-forgotten"
        "Entries that a new leader had removed are back after a restart"
        unit(STORAGE, "log::tests::model::the_log_is_what_it_was_told", "panicked at crates/storage/src/log/tests/model.rs", 8);
    DamageTakenForTear "damage-taken-for-tear"
        "A log that ends early is taken for one whose last write was torn"
        unit(STORAGE, "log::tests::damage::a_truncated_segment_is_damage", "panicked at crates/storage/src/log/tests/damage.rs", 1);
    DamageHidden "damage-hidden"
        "A log that lost something is just shorter"
        unit(STORAGE, "log::tests::damage::a_flip_in_any_batch_is_noticed", "panicked at crates/storage/src/log/tests/damage.rs", 1);
    CommandIdsNotSent "command-ids-not-sent"
        "A snapshot does not carry which commands were applied"
        file(STORAGE, "state", "transfer::an_import_equals_its_export", "panicked at crates/storage/tests/state/transfer.rs", 1),
        seeds(20, "applied the same up to entry");
    VoteNotSaved "vote-not-saved"
        "A vote is given before it is written down, and never written down"
        unit(CONSENSUS, "suite::a_vote_that_was_given_is_there_after_a_restart", "the vote is gone", 1),
        seeds(20, "goes back in its vote");
    ClockOfReplica "clock-of-replica"
        "Delays and leases are measured from when a replica applies them, by its own clock"
        unit(CONSENSUS, "shard::core::tests::what_is_applied_does_not_depend_on_when_and_where", "panicked at crates/consensus/src/shard/core.rs", 1),
        seeds(20, "applied the same up to entry");
    LeasesOnLeaderOnly "leases-on-leader-only"
        "Followers do not apply receives: leases end with their leader"
        file(WHOLE, "restart", "messages_and_leases_outlive_every_order_of_restarts", "panicked at tests/tests/restart.rs", 6),
        seeds(20, "applied the same up to entry");
    SnapshotNotLoaded "snapshot-not-loaded"
        "A replica that took over a snapshot goes on with what it knew before"
        file(WHOLE, "restart", "a_node_that_was_away_for_long_comes_back_by_snapshot", "panicked at tests/tests/restart.rs", 72);
    LossForgiven "loss-forgiven"
        "A replica whose log lost something votes and acknowledges at once"
        file(WHOLE, "damage", "a_flipped_byte_in_the_log_is_noticed_and_mended", "it votes before all others have told their votes", 2);
    LostAnswerRefused "lost-answer-refused"
        "A leader that lost its leadership says that what it had proposed was not"
        unit(CONSENSUS, "shard::owner::tests::a_lost_answer_is_no_refusal", "panicked at crates/consensus/src/shard/owner.rs", 1);
    DoubtForgotten "doubt-forgotten"
        "A node forgets that an attempt of a request may have been carried out, and says that nothing was"
        file(WHOLE, "failover", "a_node_alone_acknowledges_nothing", "was certainly not carried out", 18);
    RetryAsNew "retry-as-new"
        "A node repeats what may have been carried out under a new id"
        crashes("forward-answer", "S5", 37);
    WakeOnlyHere "wake-only-here"
        "A message wakes long polls at the node that leads its shard, and at no other"
        file(CLUSTER, "in_process", "polls::a_long_poll_is_woken_by_a_send_through_another_node", "panicked at crates/cluster/tests/in_process/polls.rs", 24);
    WakeLostWithLeader "wake-lost-with-leader"
        "Long polls that wait when a leader changes are not woken by the next one"
        file(CLUSTER, "in_process", "polls::a_long_poll_outlives_the_leader_that_it_waits_for", "panicked at crates/cluster/tests/in_process/polls.rs", 22);
    EpochKept "epoch-kept"
        "A change of where a FIFO queue's groups live does not make earlier decisions void"
        file(CLUSTER, "in_process", "fifo::who_has_not_heard_of_a_change_puts_nothing_where_groups_lived_before", "is on two shards", 5);
    FloorForgotten "floor-forgotten"
        "The numbers of a FIFO group's messages fall when it moves to a shard that had fewer"
        file(QUEUE, "fifo", "a_group_that_comes_from_another_shard_gets_a_place_above_all_that_it_had_there", "panicked at crates/queue/tests/fifo.rs", 1);
    SettledEarly "settled-early"
        "A shard is said to have no group any more that lived there before, and has"
        file(CLUSTER, "in_process", "fifo::a_shard_does_not_settle_while_a_group_stays", "panicked at crates/cluster/tests/in_process/fifo.rs", 8);
    QueueIdReused "queue-id-reused"
        "A queue that is created gets the id, and with it the messages, of one that was deleted"
        unit(CLUSTER, "catalog::machine::tests::a_deleted_name_rests_for_a_minute_and_comes_back_as_another_queue", "panicked at crates/cluster/src/catalog/machine.rs", 1);
    BatchSaysOk "batch-says-ok"
        "DeleteMessageBatch says yes to entries that were not carried out"
        file(GATEWAY, "api", "fifo::expired_handles_delete_nothing", "panicked at crates/gateway/tests/api/", 1);
    ForeignHandle "foreign-handle"
        "A receipt handle of another queue is accepted"
        file(GATEWAY, "api", "messages::handles_that_are_none", "panicked at crates/gateway/tests/api/", 1);
    DoubtNotSaid "doubt-not-said"
        "An answer says that nothing was done although that is not known"
        file(GATEWAY, "api", "trouble::trouble_says_whether_anything_was_done", "panicked at crates/gateway/tests/api/trouble.rs", 1);
    SyncOnLeaderOnly "sync-on-leader-only"
        "A follower says that it has entries before they are synced"
        seeds(20, "which is durable on nodes");
    ConflictAsMatch "conflict-as-match"
        "A leader reads the answer that a follower lacks an entry as that it has it"
        seeds(20, "BROKEN");
    CutBeforeFlush "cut-before-flush"
        "The log is cut behind what is applied, and not behind what is durable of it"
        seeds(20, "BROKEN");
    ClockGoesBack "clock-goes-back"
        "A shard's clock goes back with a leader whose own is behind"
        file(QUEUE, "commands", "the_clock_never_runs_back", "panicked at crates/queue/tests/commands.rs", 1);
    OriginalsNotSent "originals-not-sent"
        "A snapshot does not carry which messages deduplication ids stand for"
        seeds(20, "applied the same up to entry");
    OlderDiskBelieved "older-disk-believed"
        "A disk that was put back is believed, although peers remember more"
        seeds(20, "BROKEN");
    PurgeHalfDone "purge-half-done"
        "A purge is answered with success although shards did not do it"
        file(CLUSTER, "in_process", "queues::a_purge_that_a_shard_missed_can_be_repeated_until_all_have_done_it", "panicked at crates/cluster/tests/in_process/queues.rs", 15);
    StaleAttributes "stale-attributes"
        "Attributes are read from what the node has heard of the catalog"
        seeds(20, "FOUND S20 ");
    DeposedCounts "deposed-counts"
        "A leader that was deposed and does not know answers with its counts"
        file(WHOLE, "disks", "a_leader_whose_disk_stands_still_does_not_count", "panicked at tests/tests/disks.rs", 30);
}
