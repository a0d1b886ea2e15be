//! Tasks that move dead letters, as a front end sees them.

use flotilla_types::ids::TaskId;
use flotilla_types::names::QueueName;

use super::Trouble;

/// How far a task is that moves dead letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MoveStatus {
    /// It moves messages, or will as soon as somebody leads.
    Running,
    /// Everything that was there at its start was moved.
    Completed,
    /// It was told to end; a few more messages may be moved.
    Cancelling,
    /// It ended before it was done because it was told to.
    Cancelled,
    /// It ended before it was done; see [`MoveTask::failure`].
    Failed,
}

/// Why a move task ended before it was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MoveFailure {
    /// The queue that a message should go to is gone.
    DestinationGone,
    /// A message that was not moved by a redrive policy has no queue to go back to.
    NoSource,
    /// A message's queue may not use the dead-letter queue any more, and gets nothing back from it.
    SourceForbidden,
    /// It ran for `limits::MOVE_TASK_HOURS_MAX`.
    TimedOut,
}

/// A task that moves the messages of a dead-letter queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MoveTask {
    /// Drawn by the front end.
    pub id: TaskId,
    /// The dead-letter queue.
    pub source: QueueName,
    /// Where all messages go; `None`: each to the queue that it came from.
    pub destination: Option<QueueName>,
    /// Messages a second, if that was asked for.
    pub rate: Option<u32>,
    /// How far it is.
    pub status: MoveStatus,
    /// Present exactly when it failed.
    pub failure: Option<MoveFailure>,
    /// Messages moved so far, as last reported.
    pub moved: u64,
    /// Messages that the dead-letter queue had at the start.
    pub to_move: u64,
    /// Unix milliseconds.
    pub started_ms: u64,
}

/// Why a move task was not started.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StartMoveError {
    /// No such queue (any more).
    #[error("no such queue")]
    NotFound,
    /// No queue's redrive policy names it.
    #[error("no queue's dead-letter queue")]
    NotDeadLetterQueue,
    /// The queue has a task that has not ended.
    #[error("there is a task already")]
    AlreadyRunning,
    /// `limits::MOVE_TASKS_MAX`.
    #[error("too many tasks")]
    TooMany,
    /// See [`Trouble`].
    #[error(transparent)]
    Trouble(#[from] Trouble),
}

/// Why a move task was not cancelled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CancelMoveError {
    /// No such task (any more).
    #[error("no such task")]
    NotFound,
    /// It has ended or is being cancelled.
    #[error("the task does not run")]
    NotRunning,
    /// See [`Trouble`].
    #[error(transparent)]
    Trouble(#[from] Trouble),
}
