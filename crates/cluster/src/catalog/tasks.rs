//! Tasks that move dead letters, and their bytes.

use std::collections::BTreeMap;

use bytes::Bytes;
use flotilla_types::ids::{CommandId, QueueId, TaskId};
use flotilla_types::names::QueueName;
use flotilla_wire::DecodeError;
use flotilla_wire::proto::catalog as pb;
use prost::Message as _;

use crate::api::{MoveFailure, MoveStatus, MoveTask};

/// A task with what only the catalog and the one who carries it out need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Task {
    pub(crate) shown: MoveTask,
    pub(crate) source: QueueId,
    pub(crate) destination: Option<QueueId>,
    /// The command that cancelled it: repeated, it gets the same answer.
    pub(crate) cancelled_by: Option<CommandId>,
}

/// What a front end asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StartMove {
    pub(crate) task: TaskId,
    pub(crate) source: QueueId,
    pub(crate) destination: Option<QueueId>,
    pub(crate) rate: Option<u32>,
    pub(crate) to_move: u64,
}

/// How far the one who carries it out is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MoveReport {
    pub(crate) task: TaskId,
    /// From the start of the task on.
    pub(crate) moved: u64,
    /// Set when it has ended.
    pub(crate) end: Option<Result<(), MoveFailure>>,
}

/// By id. Tasks of a queue go with the queue.
pub(crate) type Tasks = BTreeMap<TaskId, Task>;

impl Task {
    /// Whether it has not ended.
    pub(crate) fn is_active(&self) -> bool {
        matches!(self.shown.status, MoveStatus::Running | MoveStatus::Cancelling)
    }
}

fn status_to_pb(status: MoveStatus) -> pb::MoveStatus {
    match status {
        MoveStatus::Running => pb::MoveStatus::Running,
        MoveStatus::Completed => pb::MoveStatus::Completed,
        MoveStatus::Cancelling => pb::MoveStatus::Cancelling,
        MoveStatus::Cancelled => pb::MoveStatus::Cancelled,
        MoveStatus::Failed => pb::MoveStatus::Failed,
    }
}

fn status_from_pb(status: i32) -> Result<MoveStatus, DecodeError> {
    Ok(match pb::MoveStatus::try_from(status) {
        Ok(pb::MoveStatus::Running) => MoveStatus::Running,
        Ok(pb::MoveStatus::Completed) => MoveStatus::Completed,
        Ok(pb::MoveStatus::Cancelling) => MoveStatus::Cancelling,
        Ok(pb::MoveStatus::Cancelled) => MoveStatus::Cancelled,
        Ok(pb::MoveStatus::Failed) => MoveStatus::Failed,
        Ok(pb::MoveStatus::Unspecified) | Err(_) => return Err(DecodeError::Field("status")),
    })
}

fn failure_to_pb(failure: Option<MoveFailure>) -> pb::MoveFailure {
    match failure {
        None => pb::MoveFailure::None,
        Some(MoveFailure::DestinationGone) => pb::MoveFailure::DestinationGone,
        Some(MoveFailure::NoSource) => pb::MoveFailure::NoSource,
        Some(MoveFailure::SourceForbidden) => pb::MoveFailure::SourceForbidden,
        Some(MoveFailure::TimedOut) => pb::MoveFailure::TimedOut,
    }
}

fn failure_from_pb(failure: i32) -> Result<Option<MoveFailure>, DecodeError> {
    Ok(match pb::MoveFailure::try_from(failure) {
        Ok(pb::MoveFailure::None) => None,
        Ok(pb::MoveFailure::DestinationGone) => Some(MoveFailure::DestinationGone),
        Ok(pb::MoveFailure::NoSource) => Some(MoveFailure::NoSource),
        Ok(pb::MoveFailure::SourceForbidden) => Some(MoveFailure::SourceForbidden),
        Ok(pb::MoveFailure::TimedOut) => Some(MoveFailure::TimedOut),
        Err(_) => return Err(DecodeError::Field("failure")),
    })
}

pub(crate) fn task_id_to_pb(id: TaskId) -> Bytes {
    Bytes::copy_from_slice(&id.0)
}

pub(crate) fn task_id_from_pb(bytes: &[u8]) -> Result<TaskId, DecodeError> {
    Ok(TaskId(bytes.try_into().map_err(|_| DecodeError::Field("task"))?))
}

pub(super) fn start_to_pb(start: &StartMove) -> pb::StartMove {
    pb::StartMove {
        task: task_id_to_pb(start.task),
        source: start.source.0,
        destination: start.destination.map_or(0, |queue| queue.0),
        rate: start.rate.unwrap_or(0),
        to_move: start.to_move,
    }
}

pub(super) fn start_from_pb(message: &pb::StartMove) -> Result<StartMove, DecodeError> {
    Ok(StartMove {
        task: task_id_from_pb(&message.task)?,
        source: QueueId(message.source),
        destination: (message.destination > 0).then_some(QueueId(message.destination)),
        rate: (message.rate > 0).then_some(message.rate),
        to_move: message.to_move,
    })
}

pub(super) fn report_to_pb(report: &MoveReport) -> pb::MoveReport {
    pb::MoveReport {
        task: task_id_to_pb(report.task),
        moved: report.moved,
        ended: report.end.is_some(),
        failure: failure_to_pb(report.end.and_then(Result::err)).into(),
    }
}

pub(super) fn report_from_pb(message: &pb::MoveReport) -> Result<MoveReport, DecodeError> {
    let end = failure_from_pb(message.failure)?.map_or(Ok(()), Err);
    Ok(MoveReport {
        task: task_id_from_pb(&message.task)?,
        moved: message.moved,
        end: message.ended.then_some(end),
    })
}

pub(super) fn task_to_row(task: &Task, format: u32) -> Vec<u8> {
    let shown = &task.shown;
    let (session, counter) = task.cancelled_by.map_or((0, 0), |id| (id.session, id.counter));
    let row = pb::MoveTask {
        format,
        start: Some(pb::StartMove {
            task: task_id_to_pb(shown.id),
            source: task.source.0,
            destination: task.destination.map_or(0, |queue| queue.0),
            rate: shown.rate.unwrap_or(0),
            to_move: shown.to_move,
        }),
        source: shown.source.to_string(),
        destination: shown.destination.as_ref().map(ToString::to_string).unwrap_or_default(),
        status: status_to_pb(shown.status).into(),
        failure: failure_to_pb(shown.failure).into(),
        moved: shown.moved,
        started_ms: shown.started_ms,
        session,
        counter,
    };
    row.encode_to_vec()
}

/// The row's format, and the task.
pub(super) fn task_from_row(bytes: Bytes) -> Result<(u32, Task), DecodeError> {
    let row = pb::MoveTask::decode(bytes)?;
    let start = start_from_pb(&row.start.ok_or(DecodeError::Field("start"))?)?;
    let name = |text: &str| QueueName::new(text).map_err(|_| DecodeError::Field("name"));
    let destination = (!row.destination.is_empty()).then(|| name(&row.destination)).transpose()?;
    let shown = MoveTask {
        id: start.task,
        source: name(&row.source)?,
        destination,
        rate: start.rate,
        status: status_from_pb(row.status)?,
        failure: failure_from_pb(row.failure)?,
        moved: row.moved,
        to_move: start.to_move,
        started_ms: row.started_ms,
    };
    let cancelled_by =
        (row.counter > 0).then_some(CommandId { session: row.session, counter: row.counter });
    let StartMove { source, destination, .. } = start;
    Ok((row.format, Task { shown, source, destination, cancelled_by }))
}
