//! The steps at which a node can be made to fail.

/// What has to be done to a node for it to come to a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Nothing but load.
    Load,
    /// It must start.
    Start,
    /// Another node must fail.
    Election,
    /// Dead letters of FIFO queues must be moved.
    FifoMove,
    /// It must have been away for so long that the others have cut their logs.
    Snapshot,
    /// The same of another node.
    SnapshotSend,
    /// It must have lost its log.
    Rebirth,
    /// It must end in order.
    Leave,
    /// A cluster of empty nodes must form.
    Formation,
    /// The same, and it must be the founder.
    Founder,
}

macro_rules! points {
    ($($point:ident $name:literal $fails:literal $stage:ident $what:literal;)*) => {
        /// A step of a node.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Point {
            $(#[doc = $what] $point,)*
        }

        impl Point {
            /// All of them, in the order of their numbers.
            pub const ALL: &[Point] = &[$(Point::$point,)*];

            /// As it is called in orders.
            pub fn name(self) -> &'static str {
                match self { $(Point::$point => $name,)* }
            }

            /// Whether the step can fail without the process ending at once.
            pub fn can_fail(self) -> bool {
                match self { $(Point::$point => $fails,)* }
            }

            /// What reaches it.
            pub fn stage(self) -> Stage {
                match self { $(Point::$point => Stage::$stage,)* }
            }
        }
    };
}

impl Point {
    /// The point of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|point| point.name() == name)
    }
}

points! {
    LogTaken "log-taken" false Load
        "The log's writer has taken what callers want written";
    LogSync "log-sync" true Load
        "A batch is complete, and not written";
    LogSynced "log-synced" false Load
        "A batch is on disk, and nobody knows";
    LogAnswered "log-answered" false Load
        "Callers have been told that their batch is on disk";
    LogRotate "log-rotate" true Load
        "The log needs another segment";
    LogMark "log-mark" true Load
        "The log notes how far it is synced";
    LogVotes "log-votes" true Election
        "The votes are about to be written beside the log";
    LogPurge "log-purge" false Load
        "The log is told that the beginning of a group's log is not needed";
    LogRecover "log-recover" true Start
        "A node that starts reads its log";
    StateCommit "state-commit" true Load
        "The rows of an applied entry are about to be committed";
    StateFlush "state-flush" true Load
        "The state is about to be made durable";
    StateFlushed "state-flushed" false Load
        "The state is durable, and the log not cut";
    Checkpoint "checkpoint" false Load
        "The logs are about to be cut behind the durable state";
    SnapshotBuild "snapshot-build" true Load
        "The library is about to be told up to where the log can be cut";
    Purge "purge" true Load
        "The library cuts a group's log";
    VoteSave "vote-save" true Election
        "A vote is about to be written";
    VoteSaved "vote-saved" false Election
        "A vote is on disk, and not given";
    ServeVote "serve-vote" false Election
        "A peer asks for a vote";
    Lead "lead" false Election
        "A shard's new leader begins";
    CommittedSave "committed-save" true Load
        "How far a group is committed is about to be noted";
    Append "append" true Load
        "Entries are about to be handed to the log";
    ServeAppend "serve-append" false Load
        "A follower has got entries";
    Propose "propose" false Load
        "A leader is about to propose an entry";
    Proposed "proposed" false Load
        "An entry is with the library";
    Apply "apply" true Load
        "A shard is about to apply an entry";
    Applied "applied" false Load
        "An entry's rows are committed, and nobody knows";
    Answer "answer" false Load
        "Those who wait for an entry are about to be answered";
    LeaseReserved "lease-reserved" false Load
        "Messages are reserved, and their receive not proposed";
    Claimed "claimed" false Load
        "Messages are leased, and not on their way to the client";
    ClaimAnswer "claim-answer" false Load
        "Messages are leased for another node, which waits for them";
    DeadLetter "dead-letter" false Load
        "A dead letter has left its queue, and has not arrived";
    Move "move" false Load
        "A task is about to move messages inside a shard";
    MovePassedOn "move-passed-on" false FifoMove
        "A FIFO message is in its new queue, and still in the old one";
    MoveReport "move-report" false Load
        "How far a task is is about to be noted";
    Forward "forward" false Load
        "A command is about to go to the node that leads";
    ForwardAnswer "forward-answer" false Load
        "Another node's command is applied, and the node does not know";
    Park "park" false Load
        "A long poll is about to wait";
    Arm "arm" false Load
        "Another node's long polls are about to be noted";
    Wake "wake" false Load
        "Long polls were woken";
    WakeElsewhere "wake-elsewhere" false Load
        "Another node's long polls are about to be woken";
    CatalogDecide "catalog-decide" false Load
        "A change of the catalog is about to be proposed";
    CatalogApply "catalog-apply" true Load
        "A change of the catalog is about to be committed";
    HandOver "hand-over" false Leave
        "Leadership is about to be handed to a peer";
    Leave "leave" false Leave
        "A node that ends has flushed its state, and not closed its log";
    SnapshotSend "snapshot-send" false SnapshotSend
        "A snapshot is about to be sent";
    SnapshotReceive "snapshot-receive" false Snapshot
        "A piece of a snapshot has come";
    SnapshotInstall "snapshot-install" true Snapshot
        "A snapshot is complete, and not installed";
    SnapshotSwitch "snapshot-switch" true Snapshot
        "A snapshot is on disk, and not the state";
    SnapshotInstalled "snapshot-installed" false Snapshot
        "A snapshot is the state, and the replica does not know";
    RebirthMarked "rebirth-marked" true Rebirth
        "A node without its log has noted that";
    RebirthPrepare "rebirth-prepare" true Rebirth
        "A replica without its log is about to ask all others for their votes";
    RebirthVote "rebirth-vote" true Rebirth
        "It knows the highest vote, and has not written it";
    RebirthBarrier "rebirth-barrier" false Rebirth
        "It knows up to where it must catch up";
    RebirthClear "rebirth-clear" true Rebirth
        "It has caught up, and its mark is still there";
    FormationGather "formation-gather" false Founder
        "The founder has written its cluster's id, and invited nobody";
    FormationJoin "formation-join" true Formation
        "A node is about to write which cluster it belongs to";
    FormationJoined "formation-joined" false Formation
        "A node has written it, and not said so";
    FormationFound "formation-found" false Founder
        "The catalog has members and does not know where the shards are";
    FormationFinish "formation-finish" false Founder
        "Everything is decided, and the founder has not noted that it is done";
    PlaceShard "place-shard" false Formation
        "A shard is about to get its members";
    ShardPlaced "shard-placed" false Formation
        "A shard has its members and is not yet routed to";
}
