//! Commands of a shard and their replies, as Raft entries and forwarded requests hold them.

use std::num::NonZeroU64;

use bytes::Bytes;
use flotilla_queue::command::{
    Accepted, Attempt, Batch, ChangeVisibility, Command, Delete, Elsewhere, HandleExpired,
    Identified, Lease, Move, MoveCandidate, Placing, Receive, Redelay, Redrive, Reply, Send,
    VisibilityError,
};
use flotilla_types::ids::{CommandId, DedupKey, GroupKey, MessageId, QueueId, Seq};
use prost::Message as _;

use crate::{DecodeError, proto::command as pb};

/// The format of [`encode_batch`]. Another one, if an entry of before would be applied otherwise: 2 since receives
/// say what room there is for content, and since a look for old messages ends sooner.
pub const BATCH_FORMAT: u32 = 2;

/// The bytes of one Raft entry.
pub fn encode_batch(batch: &Batch) -> Bytes {
    let message = pb::Batch {
        format: BATCH_FORMAT,
        now_ms: batch.now_ms,
        commands: batch.commands.iter().map(command_to_pb).collect(),
    };
    message.encode_to_vec().into()
}

/// # Errors
/// When the bytes are not a batch of a known format.
pub fn decode_batch(bytes: Bytes) -> Result<Batch, DecodeError> {
    let message = pb::Batch::decode(bytes)?;
    if message.format != BATCH_FORMAT {
        return Err(DecodeError::UnknownFormat(message.format));
    }
    let commands = message.commands.into_iter().map(command_from_pb);
    Ok(Batch { now_ms: message.now_ms, commands: commands.collect::<Result<_, _>>()? })
}

/// Answers to forwarded commands, in their order, as part of the peers' messages.
pub fn replies_to_pb(replies: Vec<Reply>) -> pb::Replies {
    pb::Replies { replies: replies.into_iter().map(reply_to_pb).collect() }
}

/// # Errors
/// When a field is missing or impossible.
pub fn replies_from_pb(message: pb::Replies) -> Result<Vec<Reply>, DecodeError> {
    message.replies.into_iter().map(reply_from_pb).collect()
}

/// One command as the peer protocol and the log carry it.
pub fn command_to_pb(identified: &Identified) -> pb::Command {
    use pb::command::Kind;
    let kind = match &identified.command {
        Command::Send(send) => Kind::Send(pb::Send {
            queue: send.queue.0,
            message_id: Bytes::copy_from_slice(&send.message_id.0),
            delay_ms: send.delay_ms,
            content: send.content.clone(),
            group: send.group.map_or(0, |group| group.0.get()),
            dedup: send.dedup.map(|key| Bytes::copy_from_slice(&key.0)),
            epoch: send.placing.epoch,
            only_if_present: send.placing.only_if_present,
            dedup_before: send.placing.dedup_before.map(|key| Bytes::copy_from_slice(&key.0)),
            floor: send.placing.floor.0,
        }),
        Command::Receive(receive) => Kind::Receive(pb::Receive {
            queue: receive.queue.0,
            candidates: receive.candidates.iter().map(|seq| seq.0).collect(),
            visibility_ms: receive.visibility_ms,
            retention_ms: receive.retention_ms,
            fresh_from: receive.fresh_from.0,
            redrive: receive.redrive.as_ref().map(redrive_to_pb),
            attempt: receive.attempt.map(|attempt| pb::Attempt {
                key: Bytes::copy_from_slice(&attempt.key.0),
                max: attempt.max as u32,
            }),
            bytes_max: receive.bytes_max,
        }),
        Command::Move(command) => Kind::Move(move_to_pb(command)),
        Command::Delete(delete) => Kind::Delete(pb::Delete {
            queue: delete.queue.0,
            seq: delete.seq.0,
            receive: delete.receive,
        }),
        Command::ChangeVisibility(change) => Kind::ChangeVisibility(pb::ChangeVisibility {
            queue: change.queue.0,
            seq: change.seq.0,
            receive: change.receive,
            visibility_ms: change.visibility_ms,
        }),
        Command::Purge { queue } => Kind::Purge(pb::Purge { queue: queue.0 }),
        Command::DropQueue { queue } => Kind::DropQueue(pb::DropQueue { queue: queue.0 }),
        Command::Expire { queue, retention_ms, from } => {
            Kind::Expire(pb::Expire { queue: queue.0, retention_ms: *retention_ms, from: from.0 })
        }
        Command::Redelay(redelay) => Kind::Redelay(pb::Redelay {
            queue: redelay.queue.0,
            delay_ms: redelay.delay_ms,
            candidates: redelay.candidates.iter().map(|seq| seq.0).collect(),
        }),
        Command::Fence { queue, epoch } => Kind::Fence(pb::Fence { queue: queue.0, epoch: *epoch }),
        Command::Barrier => Kind::Barrier(pb::Barrier {}),
    };
    let (session, counter) = identified.id.map_or((0, 0), |id| (id.session, id.counter));
    pb::Command { session, counter, kind: Some(kind) }
}

/// # Errors
/// When a field is missing or impossible.
pub fn command_from_pb(message: pb::Command) -> Result<Identified, DecodeError> {
    use pb::command::Kind;
    let command = match message.kind.ok_or(DecodeError::Field("kind"))? {
        Kind::Send(send) => Command::Send(Send {
            queue: QueueId(send.queue),
            message_id: message_id(&send.message_id)?,
            delay_ms: send.delay_ms,
            group: NonZeroU64::new(send.group).map(GroupKey),
            dedup: send.dedup.map(|key| dedup_key(&key)).transpose()?,
            placing: Placing {
                epoch: send.epoch,
                only_if_present: send.only_if_present,
                dedup_before: send.dedup_before.map(|key| dedup_key(&key)).transpose()?,
                floor: Seq(send.floor),
            },
            content: send.content,
        }),
        Kind::Receive(receive) => Command::Receive(Receive {
            queue: QueueId(receive.queue),
            candidates: receive.candidates.into_iter().map(Seq).collect(),
            visibility_ms: receive.visibility_ms,
            retention_ms: receive.retention_ms,
            fresh_from: Seq(receive.fresh_from),
            redrive: receive.redrive.map(redrive_from_pb),
            attempt: receive.attempt.map(attempt_from_pb).transpose()?,
            bytes_max: receive.bytes_max,
        }),
        Kind::Move(command) => Command::Move(move_from_pb(command)?),
        Kind::Delete(delete) => Command::Delete(Delete {
            queue: QueueId(delete.queue),
            seq: Seq(delete.seq),
            receive: delete.receive,
        }),
        Kind::ChangeVisibility(change) => Command::ChangeVisibility(ChangeVisibility {
            queue: QueueId(change.queue),
            seq: Seq(change.seq),
            receive: change.receive,
            visibility_ms: change.visibility_ms,
        }),
        Kind::Purge(purge) => Command::Purge { queue: QueueId(purge.queue) },
        Kind::DropQueue(drop) => Command::DropQueue { queue: QueueId(drop.queue) },
        Kind::Expire(expire) => Command::Expire {
            queue: QueueId(expire.queue),
            retention_ms: expire.retention_ms,
            from: Seq(expire.from),
        },
        Kind::Redelay(redelay) => Command::Redelay(Redelay {
            queue: QueueId(redelay.queue),
            delay_ms: redelay.delay_ms,
            candidates: redelay.candidates.into_iter().map(Seq).collect(),
        }),
        Kind::Fence(fence) => Command::Fence { queue: QueueId(fence.queue), epoch: fence.epoch },
        Kind::Barrier(pb::Barrier {}) => Command::Barrier,
    };
    let id = (message.counter > 0)
        .then_some(CommandId { session: message.session, counter: message.counter });
    Ok(Identified { id, command })
}

/// A queue's dead letters, as receives carry them.
pub fn redrive_to_pb(redrive: &Redrive) -> pb::Redrive {
    pb::Redrive {
        target: redrive.target.0,
        receives_max: redrive.receives_max,
        source: redrive.source.clone(),
    }
}

/// The reverse of [`redrive_to_pb`].
pub fn redrive_from_pb(message: pb::Redrive) -> Redrive {
    Redrive {
        target: QueueId(message.target),
        receives_max: message.receives_max,
        source: message.source,
    }
}

fn attempt_from_pb(message: pb::Attempt) -> Result<Attempt, DecodeError> {
    Ok(Attempt { key: dedup_key(&message.key)?, max: message.max as usize })
}

fn move_to_pb(command: &Move) -> pb::Move {
    let candidates = command.candidates.iter().map(|candidate| pb::MoveCandidate {
        seq: candidate.seq.0,
        target: candidate.target.0,
        message_id: Bytes::copy_from_slice(&candidate.message_id.0),
        epoch: candidate.placing.epoch,
        floor: candidate.placing.floor.0,
    });
    pb::Move {
        queue: command.queue.0,
        retention_ms: command.retention_ms,
        candidates: candidates.collect(),
    }
}

fn move_from_pb(message: pb::Move) -> Result<Move, DecodeError> {
    let candidates = message.candidates.into_iter().map(|candidate| {
        Ok(MoveCandidate {
            seq: Seq(candidate.seq),
            target: QueueId(candidate.target),
            message_id: message_id(&candidate.message_id)?,
            placing: Placing {
                epoch: candidate.epoch,
                floor: Seq(candidate.floor),
                ..Placing::default()
            },
        })
    });
    Ok(Move {
        queue: QueueId(message.queue),
        retention_ms: message.retention_ms,
        candidates: candidates.collect::<Result<_, DecodeError>>()?,
    })
}

/// # Errors
/// When it is not 16 bytes.
pub fn dedup_key(bytes: &[u8]) -> Result<DedupKey, DecodeError> {
    Ok(DedupKey(bytes.try_into().map_err(|_| DecodeError::Field("dedup"))?))
}

fn message_id(bytes: &[u8]) -> Result<MessageId, DecodeError> {
    Ok(MessageId(bytes.try_into().map_err(|_| DecodeError::Field("message_id"))?))
}

fn reply_to_pb(reply: Reply) -> pb::Reply {
    use pb::reply::Kind;
    let kind = match reply {
        Reply::Sent(accepted) => Kind::Sent(pb::Sent {
            seq: accepted.map(|accepted| accepted.seq.0),
            message_id: accepted
                .map_or_else(Bytes::new, |accepted| Bytes::copy_from_slice(&accepted.message_id.0)),
        }),
        Reply::Elsewhere(Elsewhere::Stale) => Kind::Stale(pb::Empty {}),
        Reply::Elsewhere(Elsewhere::Absent { below }) => Kind::AbsentFrom(below.0),
        Reply::Received(leases) => {
            Kind::Received(pb::Leases { leases: leases.into_iter().map(lease_to_pb).collect() })
        }
        Reply::Moved(count) => Kind::Moved(count),
        Reply::Deleted(result) => Kind::Deleted(pb::Deleted { expired: result.is_err() }),
        Reply::VisibilityChanged(result) => Kind::Visibility(
            match result {
                Ok(()) => pb::VisibilityResult::Changed,
                Err(VisibilityError::NotInFlight) => pb::VisibilityResult::NotInFlight,
                Err(VisibilityError::BeyondLimit) => pb::VisibilityResult::BeyondLimit,
            }
            .into(),
        ),
        Reply::Purged(count) => Kind::Purged(count),
        Reply::Expired { removed, resume } => {
            Kind::Expired(pb::Expired { removed, resume: resume.map(|seq| seq.0) })
        }
        Reply::Passed => Kind::Passed(pb::Empty {}),
        Reply::Forgotten => Kind::IdForgotten(pb::Empty {}),
    };
    pb::Reply { kind: Some(kind) }
}

fn reply_from_pb(message: pb::Reply) -> Result<Reply, DecodeError> {
    use pb::reply::Kind;
    Ok(match message.kind.ok_or(DecodeError::Field("kind"))? {
        Kind::Sent(sent) => {
            let accepted = |seq| -> Result<_, DecodeError> {
                Ok(Accepted { seq: Seq(seq), message_id: message_id(&sent.message_id)? })
            };
            Reply::Sent(sent.seq.map(accepted).transpose()?)
        }
        Kind::Stale(_) => Reply::Elsewhere(Elsewhere::Stale),
        Kind::AbsentFrom(below) => Reply::Elsewhere(Elsewhere::Absent { below: Seq(below) }),
        Kind::Received(leases) => {
            let leases = leases.leases.into_iter().map(lease_from_pb);
            Reply::Received(leases.collect::<Result<_, _>>()?)
        }
        Kind::Moved(count) => Reply::Moved(count),
        Kind::Deleted(pb::Deleted { expired: false }) => Reply::Deleted(Ok(())),
        Kind::Deleted(pb::Deleted { expired: true }) => Reply::Deleted(Err(HandleExpired)),
        Kind::Visibility(code) => {
            let result = pb::VisibilityResult::try_from(code)
                .map_err(|_| DecodeError::Field("visibility"))?;
            Reply::VisibilityChanged(match result {
                pb::VisibilityResult::Changed => Ok(()),
                pb::VisibilityResult::NotInFlight => Err(VisibilityError::NotInFlight),
                pb::VisibilityResult::BeyondLimit => Err(VisibilityError::BeyondLimit),
            })
        }
        Kind::Purged(count) => Reply::Purged(count),
        Kind::Expired(expired) => {
            Reply::Expired { removed: expired.removed, resume: expired.resume.map(Seq) }
        }
        Kind::Passed(_) => Reply::Passed,
        Kind::IdForgotten(_) => Reply::Forgotten,
    })
}

/// A handed-out message on its way between nodes.
pub fn lease_to_pb(lease: Lease) -> pb::Lease {
    pb::Lease {
        seq: lease.seq.0,
        receive_count: lease.receive_count,
        first_received_ms: lease.first_received_ms,
        sent_ms: lease.sent_ms,
        message_id: Bytes::copy_from_slice(&lease.message_id.0),
        content: lease.content,
        moved_from: lease.moved_from,
        group: lease.group.map_or(0, |group| group.0.get()),
    }
}

/// # Errors
/// When a field is missing or impossible.
pub fn lease_from_pb(message: pb::Lease) -> Result<Lease, DecodeError> {
    Ok(Lease {
        seq: Seq(message.seq),
        receive_count: message.receive_count,
        first_received_ms: message.first_received_ms,
        sent_ms: message.sent_ms,
        message_id: message_id(&message.message_id)?,
        moved_from: message.moved_from,
        group: NonZeroU64::new(message.group).map(GroupKey),
        content: message.content,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn every_command() -> Vec<Command> {
        let queue = QueueId(7);
        vec![
            Command::Send(Send {
                queue,
                message_id: MessageId([3; 16]),
                delay_ms: 900_000,
                group: None,
                dedup: None,
                placing: Placing::default(),
                content: Bytes::from_static(b"content"),
            }),
            Command::Send(Send {
                queue,
                message_id: MessageId([3; 16]),
                delay_ms: 0,
                group: NonZeroU64::new(u64::MAX).map(GroupKey),
                dedup: Some(DedupKey([7; 16])),
                placing: Placing {
                    epoch: 3,
                    only_if_present: true,
                    dedup_before: Some(DedupKey([6; 16])),
                    floor: Seq(8),
                },
                content: Bytes::new(),
            }),
            Command::Receive(Receive {
                queue,
                candidates: vec![Seq(1), Seq(u64::MAX)],
                visibility_ms: 30_000,
                retention_ms: 60_000,
                fresh_from: Seq(9),
                redrive: Some(Redrive {
                    target: QueueId(8),
                    receives_max: 3,
                    source: Bytes::from_static(b"source"),
                }),
                attempt: Some(Attempt { key: DedupKey([8; 16]), max: 10 }),
                bytes_max: 1_048_576,
            }),
            Command::Move(Move {
                queue,
                retention_ms: 60_000,
                candidates: vec![MoveCandidate {
                    seq: Seq(5),
                    target: QueueId(8),
                    message_id: MessageId([4; 16]),
                    placing: Placing { epoch: 2, floor: Seq(9), ..Placing::default() },
                }],
            }),
            Command::Delete(Delete { queue, seq: Seq(5), receive: 2 }),
            Command::ChangeVisibility(ChangeVisibility {
                queue,
                seq: Seq(5),
                receive: 2,
                visibility_ms: 0,
            }),
            Command::Purge { queue },
            Command::DropQueue { queue },
            Command::Expire { queue, retention_ms: 60_000, from: Seq(6) },
            Command::Redelay(Redelay { queue, delay_ms: 5_000, candidates: vec![Seq(3), Seq(4)] }),
            Command::Fence { queue, epoch: 4 },
            Command::Barrier,
        ]
    }

    #[test]
    fn every_command_survives_the_log() {
        let id = Some(CommandId { session: u64::MAX, counter: 1 });
        let commands = every_command().into_iter().map(|command| Identified { id, command });
        let mut batch = Batch { now_ms: 1_700_000_000_000, commands: commands.collect() };
        batch.commands[1].id = None;
        assert_eq!(decode_batch(encode_batch(&batch)).unwrap(), batch);
    }

    #[test]
    fn every_reply_survives_the_wire() {
        let lease = Lease {
            seq: Seq(1),
            receive_count: 2,
            first_received_ms: 3,
            sent_ms: 4,
            message_id: MessageId([5; 16]),
            moved_from: Some(Bytes::from_static(b"m")),
            group: NonZeroU64::new(9).map(GroupKey),
            content: Bytes::from_static(b"c"),
        };
        let replies = vec![
            Reply::Sent(None),
            Reply::Sent(Some(Accepted { seq: Seq(0), message_id: MessageId([5; 16]) })),
            Reply::Elsewhere(Elsewhere::Stale),
            Reply::Elsewhere(Elsewhere::Absent { below: Seq(0) }),
            Reply::Received(vec![lease]),
            Reply::Received(vec![]),
            Reply::Moved(7),
            Reply::Deleted(Ok(())),
            Reply::Deleted(Err(HandleExpired)),
            Reply::VisibilityChanged(Ok(())),
            Reply::VisibilityChanged(Err(VisibilityError::NotInFlight)),
            Reply::VisibilityChanged(Err(VisibilityError::BeyondLimit)),
            Reply::Purged(8),
            Reply::Expired { removed: 4, resume: Some(Seq(0)) },
            Reply::Expired { removed: 4, resume: None },
            Reply::Passed,
            Reply::Forgotten,
        ];
        let bytes = replies_to_pb(replies.clone()).encode_to_vec();
        let message = pb::Replies::decode(bytes.as_slice()).unwrap();
        assert_eq!(replies_from_pb(message).unwrap(), replies);
    }

    #[test]
    fn an_unknown_format_is_refused() {
        for format in [BATCH_FORMAT - 1, BATCH_FORMAT + 1] {
            let bytes = pb::Batch { format, now_ms: 0, commands: vec![] }.encode_to_vec();
            let refused = decode_batch(bytes.into());
            assert!(matches!(refused, Err(DecodeError::UnknownFormat(of)) if of == format));
        }
        assert!(matches!(decode_batch(Bytes::new()), Err(DecodeError::UnknownFormat(0))));
    }
}
