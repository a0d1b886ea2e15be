//! The catalog's commands, replies and rows as bytes.

use std::collections::BTreeMap;
use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;
use flotilla_types::attributes::{AttributeName, AttributePatch, QueueAttributes};
use flotilla_types::ids::{CommandId, GroupId, NodeId, QueueId, Seq};
use flotilla_types::names::QueueName;
use flotilla_wire::DecodeError;
use flotilla_wire::proto::catalog as pb;
use prost::Message as _;

use super::machine::{Command, Entry, Facts, Reply, ShardPlace, Tombstone};
use super::permissions::{
    grant_error_from_pb, grant_error_to_pb, label_from_pb, permission_from_pb, permission_to_pb,
    revoke_error_from_pb, revoke_error_to_pb,
};
use super::tasks::{
    self, Task, report_from_pb, report_to_pb, start_from_pb, start_to_pb, task_id_from_pb,
    task_id_to_pb,
};
use crate::api::{Placement, Queue};

/// Format of entries and rows.
const FORMAT: u32 = 1;

fn check_format(format: u32) -> Result<(), DecodeError> {
    if format == FORMAT { Ok(()) } else { Err(DecodeError::UnknownFormat(format)) }
}

/// One entry of the catalog's log. A command each: the catalog is not busy.
pub(crate) fn command_to_bytes(now_ms: u64, id: Option<CommandId>, command: &Command) -> Bytes {
    use pb::command::Kind;
    let kind = match command {
        Command::Found(facts) => Kind::Found(pb::Found {
            cluster: facts.cluster.clone(),
            handle_key: Bytes::copy_from_slice(&facts.handle_key),
            shards: facts.shards.iter().map(shard_to_pb).collect(),
        }),
        Command::CreateQueue { name, attributes, tags, at_once } => {
            Kind::CreateQueue(pb::CreateQueue {
                name: name.to_string(),
                attributes: patch_to_pb(attributes),
                tags: tags.clone().map(|tags| pb::Tags { tags: tags.into_iter().collect() }),
                at_once: *at_once,
            })
        }
        Command::DeleteQueue { queue } => Kind::DeleteQueue(pb::DeleteQueue { queue: queue.0 }),
        Command::SetAttributes { queue, attributes } => Kind::SetAttributes(pb::SetAttributes {
            queue: queue.0,
            attributes: patch_to_pb(attributes),
        }),
        Command::TagQueue { queue, tags } => {
            Kind::TagQueue(pb::TagQueue { queue: queue.0, tags: tags.clone() })
        }
        Command::UntagQueue { queue, keys } => Kind::UntagQueue(pb::UntagQueue {
            queue: queue.0,
            keys: keys.iter().cloned().collect(),
        }),
        Command::AddPermission { queue, permission } => {
            Kind::AddPermission(permission_to_pb(*queue, permission))
        }
        Command::RemovePermission { queue, label } => {
            Kind::RemovePermission(pb::RemovePermission {
                queue: queue.0,
                label: label.to_string(),
            })
        }
        Command::StartMove(start) => Kind::StartMove(start_to_pb(start)),
        Command::ReportMove(report) => Kind::ReportMove(report_to_pb(report)),
        Command::CancelMove(task) => Kind::CancelMove(task_id_to_pb(*task)),
        Command::Settle { queue, epoch, shard, floor } => Kind::Settle(pb::Settle {
            queue: queue.0,
            epoch: *epoch,
            shard: shard.0,
            floor: floor.0,
        }),
        Command::MarkPurge { queue, at_once } => {
            Kind::MarkPurge(pb::MarkPurge { queue: queue.0, at_once: *at_once })
        }
        Command::FinishPurge { queue, purge } => {
            Kind::FinishPurge(pb::FinishPurge { queue: queue.0, purge: Some(id_to_pb(purge)) })
        }
    };
    let (session, counter) = id.map_or((0, 0), |id| (id.session, id.counter));
    let command = pb::Command { session, counter, kind: Some(kind) };
    pb::Batch { format: FORMAT, now_ms, commands: vec![command] }.encode_to_vec().into()
}

pub(crate) fn command_from_bytes(
    bytes: Bytes,
) -> Result<(u64, Option<CommandId>, Command), DecodeError> {
    use pb::command::Kind;
    let mut batch = pb::Batch::decode(bytes)?;
    check_format(batch.format)?;
    let command = batch.commands.pop().ok_or(DecodeError::Field("commands"))?;
    let id = (command.counter > 0)
        .then_some(CommandId { session: command.session, counter: command.counter });
    let command = match command.kind.ok_or(DecodeError::Field("kind"))? {
        Kind::Found(found) => Command::Found(Facts {
            cluster: found.cluster,
            handle_key: key_from_pb(&found.handle_key)?,
            shards: found.shards.into_iter().map(shard_from_pb).collect(),
        }),
        Kind::CreateQueue(create) => Command::CreateQueue {
            name: name_from_pb(&create.name)?,
            attributes: patch_from_pb(create.attributes)?,
            tags: create.tags.map(|tags| tags.tags.into_iter().collect()),
            at_once: create.at_once,
        },
        Kind::DeleteQueue(delete) => Command::DeleteQueue { queue: QueueId(delete.queue) },
        Kind::SetAttributes(set) => Command::SetAttributes {
            queue: QueueId(set.queue),
            attributes: patch_from_pb(set.attributes)?,
        },
        Kind::TagQueue(tag) => Command::TagQueue { queue: QueueId(tag.queue), tags: tag.tags },
        Kind::UntagQueue(untag) => Command::UntagQueue {
            queue: QueueId(untag.queue),
            keys: untag.keys.into_iter().collect(),
        },
        Kind::AddPermission(add) => Command::AddPermission {
            queue: QueueId(add.queue),
            permission: permission_from_pb(add)?,
        },
        Kind::RemovePermission(remove) => Command::RemovePermission {
            queue: QueueId(remove.queue),
            label: label_from_pb(&remove.label)?,
        },
        Kind::StartMove(start) => Command::StartMove(start_from_pb(&start)?),
        Kind::ReportMove(report) => Command::ReportMove(report_from_pb(&report)?),
        Kind::CancelMove(task) => Command::CancelMove(task_id_from_pb(&task)?),
        Kind::Settle(settle) => Command::Settle {
            queue: QueueId(settle.queue),
            epoch: settle.epoch,
            shard: GroupId(settle.shard),
            floor: Seq(settle.floor),
        },
        Kind::MarkPurge(purge) => {
            Command::MarkPurge { queue: QueueId(purge.queue), at_once: purge.at_once }
        }
        Kind::FinishPurge(finish) => Command::FinishPurge {
            queue: QueueId(finish.queue),
            purge: id_from_pb(finish.purge.ok_or(DecodeError::Field("purge"))?),
        },
    };
    Ok((batch.now_ms, id, command))
}

pub(crate) fn reply_to_bytes(reply: &Reply) -> Bytes {
    use pb::reply::Kind;
    let kind = match reply {
        Reply::Done => Kind::Done(pb::Empty {}),
        Reply::Queue(queue) => Kind::Queue(queue_to_pb(queue)),
        Reply::NotFound => Kind::NotFound(pb::Empty {}),
        Reply::AttributeDiffers(name) => Kind::AttributeDiffers(name.to_string()),
        Reply::TagsDiffer => Kind::TagsDiffer(pb::Empty {}),
        Reply::DeletedRecently => Kind::DeletedRecently(pb::Empty {}),
        Reply::TooMany => Kind::TooMany(pb::Empty {}),
        Reply::PurgedRecently => Kind::PurgedRecently(pb::Empty {}),
        Reply::LimitBeyondScope => Kind::LimitBeyondScope(pb::Empty {}),
        Reply::TooManyTags => Kind::TooManyTags(pb::Empty {}),
        Reply::GrantRefused(why) => Kind::GrantRefused(grant_error_to_pb(*why)),
        Reply::RevokeRefused(why) => Kind::RevokeRefused(revoke_error_to_pb(*why)),
        Reply::NotDeadLetterQueue => Kind::NotDeadLetterQueue(pb::Empty {}),
        Reply::TaskRunning => Kind::TaskRunning(pb::Empty {}),
        Reply::TaskNotRunning => Kind::TaskNotRunning(pb::Empty {}),
        Reply::Moved(moved) => Kind::Moved(*moved),
    };
    pb::Reply { kind: Some(kind) }.encode_to_vec().into()
}

pub(crate) fn reply_from_bytes(bytes: Bytes) -> Result<Reply, DecodeError> {
    use pb::reply::Kind;
    Ok(match pb::Reply::decode(bytes)?.kind.ok_or(DecodeError::Field("kind"))? {
        Kind::Done(_) => Reply::Done,
        Kind::Queue(queue) => Reply::Queue(Arc::new(queue_from_pb(queue)?.0)),
        Kind::NotFound(_) => Reply::NotFound,
        Kind::AttributeDiffers(name) => Reply::AttributeDiffers(
            AttributeName::from_str(&name).map_err(|_| DecodeError::Field("attribute"))?,
        ),
        Kind::TagsDiffer(_) => Reply::TagsDiffer,
        Kind::DeletedRecently(_) => Reply::DeletedRecently,
        Kind::TooMany(_) => Reply::TooMany,
        Kind::PurgedRecently(_) => Reply::PurgedRecently,
        Kind::LimitBeyondScope(_) => Reply::LimitBeyondScope,
        Kind::TooManyTags(_) => Reply::TooManyTags,
        Kind::GrantRefused(refused) => Reply::GrantRefused(grant_error_from_pb(&refused)?),
        Kind::RevokeRefused(refused) => Reply::RevokeRefused(revoke_error_from_pb(&refused)?),
        Kind::NotDeadLetterQueue(_) => Reply::NotDeadLetterQueue,
        Kind::TaskRunning(_) => Reply::TaskRunning,
        Kind::TaskNotRunning(_) => Reply::TaskNotRunning,
        Kind::Moved(moved) => Reply::Moved(moved),
    })
}

pub(crate) fn task_to_row(task: &Task) -> Vec<u8> {
    tasks::task_to_row(task, FORMAT)
}

pub(crate) fn task_from_row(bytes: Bytes) -> Result<Task, DecodeError> {
    let (format, task) = tasks::task_from_row(bytes)?;
    check_format(format)?;
    Ok(task)
}

/// A queue on its way between nodes.
pub(crate) fn queue_to_bytes(queue: &Queue) -> Bytes {
    queue_to_pb(queue).encode_to_vec().into()
}

pub(crate) fn queue_from_bytes(bytes: Bytes) -> Result<Queue, DecodeError> {
    Ok(queue_from_pb(pb::Queue::decode(bytes)?)?.0)
}

pub(crate) fn entry_to_row(entry: &Entry) -> Vec<u8> {
    let mut row = queue_to_pb(&entry.queue);
    row.purged_ms = entry.purged_ms;
    (row.purge_session, row.purge_counter) =
        entry.purged_by.map_or((0, 0), |id| (id.session, id.counter));
    row.purging = entry.is_purging;
    row.changed_by = entry.changed_by.iter().map(id_to_pb).collect();
    row.encode_to_vec()
}

pub(crate) fn entry_from_row(bytes: Bytes) -> Result<Entry, DecodeError> {
    let mut row = pb::Queue::decode(bytes)?;
    let changed_by = std::mem::take(&mut row.changed_by).into_iter().map(id_from_pb).collect();
    let purged_by = (row.purge_counter > 0)
        .then_some(CommandId { session: row.purge_session, counter: row.purge_counter });
    let is_purging = row.purging;
    let (queue, purged_ms) = queue_from_pb(row)?;
    Ok(Entry { queue: Arc::new(queue), purged_ms, purged_by, is_purging, changed_by })
}

fn id_to_pb(id: &CommandId) -> pb::CommandId {
    pb::CommandId { session: id.session, counter: id.counter }
}

fn id_from_pb(id: pb::CommandId) -> CommandId {
    CommandId { session: id.session, counter: id.counter }
}

pub(crate) fn tombstone_to_row(tombstone: &Tombstone) -> Vec<u8> {
    let (session, counter) = tombstone.deleted_by.map_or((0, 0), |id| (id.session, id.counter));
    let row = pb::Tombstone {
        format: FORMAT,
        deleted_ms: tombstone.deleted_ms,
        queue: tombstone.queue.0,
        session,
        counter,
    };
    row.encode_to_vec()
}

pub(crate) fn tombstone_from_row(bytes: Bytes) -> Result<Tombstone, DecodeError> {
    let row = pb::Tombstone::decode(bytes)?;
    check_format(row.format)?;
    let deleted_by =
        (row.counter > 0).then_some(CommandId { session: row.session, counter: row.counter });
    Ok(Tombstone { deleted_ms: row.deleted_ms, queue: QueueId(row.queue), deleted_by })
}

pub(crate) fn facts_to_row(facts: Option<&Facts>, next_queue: u64, clock_ms: u64) -> Vec<u8> {
    let row = pb::Cluster {
        format: FORMAT,
        cluster: facts.map(|facts| facts.cluster.clone()).unwrap_or_default(),
        handle_key: facts
            .map(|facts| Bytes::copy_from_slice(&facts.handle_key))
            .unwrap_or_default(),
        shards: facts.map(|f| f.shards.iter().map(shard_to_pb).collect()).unwrap_or_default(),
        next_queue,
        clock_ms,
    };
    row.encode_to_vec()
}

/// Facts (none before the cluster is founded), next queue id, clock.
pub(crate) fn facts_from_row(bytes: Bytes) -> Result<(Option<Facts>, u64, u64), DecodeError> {
    let row = pb::Cluster::decode(bytes)?;
    check_format(row.format)?;
    let facts = if row.cluster.is_empty() {
        None
    } else {
        let handle_key = key_from_pb(&row.handle_key)?;
        let shards = row.shards.into_iter().map(shard_from_pb).collect();
        Some(Facts { cluster: row.cluster, handle_key, shards })
    };
    Ok((facts, row.next_queue, row.clock_ms))
}

fn key_from_pb(bytes: &[u8]) -> Result<[u8; 32], DecodeError> {
    bytes.try_into().map_err(|_| DecodeError::Field("handle_key"))
}

fn shard_to_pb(place: &ShardPlace) -> pb::Shard {
    let replicas = place.replicas.iter().map(|node| node.0).collect();
    pb::Shard { group: place.group.0, replicas }
}

fn shard_from_pb(shard: pb::Shard) -> ShardPlace {
    let replicas = shard.replicas.into_iter().map(NodeId).collect();
    ShardPlace { group: GroupId(shard.group), replicas }
}

fn patch_to_pb(patch: &AttributePatch) -> BTreeMap<String, String> {
    patch.iter().map(|(name, value)| (name.to_string(), value.to_owned())).collect()
}

fn patch_from_pb(pairs: BTreeMap<String, String>) -> Result<AttributePatch, DecodeError> {
    let pair = |(name, value): (String, String)| {
        AttributeName::from_str(&name)
            .map(|name| (name, value))
            .map_err(|_| DecodeError::Field("attributes"))
    };
    let pairs: BTreeMap<_, _> = pairs.into_iter().map(pair).collect::<Result<_, _>>()?;
    Ok(AttributePatch::from_canonical(pairs))
}

fn name_from_pb(name: &str) -> Result<QueueName, DecodeError> {
    QueueName::new(name).map_err(|_| DecodeError::Field("name"))
}

fn queue_to_pb(queue: &Queue) -> pb::Queue {
    let pairs = queue.attributes.to_pairs().into_iter();
    pb::Queue {
        format: FORMAT,
        id: queue.id.0,
        name: queue.name.to_string(),
        attributes: pairs.map(|(name, value)| (name.to_string(), value)).collect(),
        tags: queue.tags.clone().into_iter().collect(),
        created_ms: queue.created_s * 1_000,
        modified_ms: queue.modified_s * 1_000,
        purged_ms: 0,
        purge_session: 0,
        purge_counter: 0,
        purging: false,
        changed_by: Vec::new(),
        spread: queue.placement.spread,
        epoch: queue.placement.epoch,
        placed_s: queue.placement.changed_s,
        unsettled: queue.placement.unsettled.iter().map(|shard| shard.0).collect(),
        floor: queue.placement.floor.0,
    }
}

fn queue_from_pb(row: pb::Queue) -> Result<(Queue, u64), DecodeError> {
    check_format(row.format)?;
    let mut pairs = Vec::with_capacity(row.attributes.len());
    for (name, value) in &row.attributes {
        let name = AttributeName::from_str(name).map_err(|_| DecodeError::Field("attributes"))?;
        pairs.push((name, value.as_str()));
    }
    let queue = Queue {
        id: QueueId(row.id),
        name: name_from_pb(&row.name)?,
        attributes: QueueAttributes::from_pairs(pairs),
        tags: row.tags.into_iter().collect(),
        created_s: row.created_ms / 1_000,
        modified_s: row.modified_ms / 1_000,
        placement: Placement {
            spread: row.spread,
            epoch: row.epoch,
            changed_s: row.placed_s,
            unsettled: row.unsettled.into_iter().map(GroupId).collect(),
            floor: Seq(row.floor),
        },
    };
    Ok((queue, row.purged_ms))
}

#[cfg(test)]
mod tests {
    use flotilla_types::attributes::{GrantError, PatchFor, RevokeError};
    use flotilla_types::names::AccountId;
    use flotilla_types::permission::{GrantableAction, Label, Permission};

    use super::*;

    #[test]
    fn commands_and_rows_survive() {
        let patch = AttributePatch::parse([("DelaySeconds", "7")], PatchFor::Create).unwrap();
        let facts = Facts {
            cluster: "c".into(),
            handle_key: [9; 32],
            shards: vec![ShardPlace { group: GroupId(1), replicas: vec![NodeId(2), NodeId(1)] }],
        };
        let commands = [
            Command::Found(facts.clone()),
            Command::CreateQueue {
                name: QueueName::new("q").unwrap(),
                attributes: patch.clone(),
                tags: Some(BTreeMap::from([("a".into(), "b".into())])),
                at_once: true,
            },
            Command::DeleteQueue { queue: QueueId(1) },
            Command::SetAttributes { queue: QueueId(1), attributes: patch },
            Command::TagQueue {
                queue: QueueId(1),
                tags: BTreeMap::from([("a".into(), String::new())]),
            },
            Command::UntagQueue { queue: QueueId(1), keys: ["a".into(), "b".into()].into() },
            Command::AddPermission {
                queue: QueueId(1),
                permission: Permission {
                    label: Label::new("l").unwrap(),
                    accounts: vec![AccountId::new("111111111111").unwrap()],
                    actions: GrantableAction::ALL.to_vec(),
                    queue_arn: "arn".into(),
                },
            },
            Command::RemovePermission { queue: QueueId(1), label: Label::new("l").unwrap() },
            Command::Settle { queue: QueueId(1), epoch: 2, shard: GroupId(3), floor: Seq(4) },
            Command::MarkPurge { queue: QueueId(1), at_once: true },
            Command::FinishPurge { queue: QueueId(1), purge: CommandId { session: 7, counter: 8 } },
        ];
        let id = Some(CommandId { session: 3, counter: 4 });
        for command in commands {
            let bytes = command_to_bytes(5, id, &command);
            assert_eq!(command_from_bytes(bytes).unwrap(), (5, id, command));
        }
        let row = facts_to_row(Some(&facts), 8, 9);
        assert_eq!(facts_from_row(row.into()).unwrap(), (Some(facts), 8, 9));
        let queue = Queue {
            id: QueueId(1),
            name: QueueName::new("q").unwrap(),
            attributes: QueueAttributes { delay_seconds: 3, ..QueueAttributes::default() },
            tags: BTreeMap::from([("a".into(), "b".into())]),
            created_s: 10,
            modified_s: 11,
            placement: Placement {
                spread: true,
                epoch: 2,
                changed_s: 12,
                unsettled: [GroupId(3), GroupId(4)].into(),
                floor: Seq(5),
            },
        };
        let changed_by =
            vec![CommandId { session: 5, counter: 6 }, CommandId { session: 3, counter: 4 }];
        let reply = Reply::Queue(Arc::new(queue.clone()));
        assert_eq!(reply_from_bytes(reply_to_bytes(&reply)).unwrap(), reply);
        let (queue, is_purging) = (Arc::new(queue), true);
        let entry = Entry { queue, purged_ms: 12, purged_by: id, is_purging, changed_by };
        assert_eq!(entry_from_row(entry_to_row(&entry).into()).unwrap(), entry);
        let tombstone = Tombstone { deleted_ms: 1, queue: QueueId(2), deleted_by: id };
        assert_eq!(tombstone_from_row(tombstone_to_row(&tombstone).into()).unwrap(), tombstone);
    }

    #[test]
    fn refusals_survive() {
        let refusals = [
            Reply::LimitBeyondScope,
            Reply::TooManyTags,
            Reply::GrantRefused(GrantError::LabelExists),
            Reply::GrantRefused(GrantError::Statements(21)),
            Reply::GrantRefused(GrantError::Principals(51)),
            Reply::GrantRefused(GrantError::Bytes(8_193)),
            Reply::GrantRefused(GrantError::Malformed),
            Reply::RevokeRefused(RevokeError::NoPolicy),
            Reply::RevokeRefused(RevokeError::NoSuchLabel),
        ];
        for reply in refusals {
            assert_eq!(reply_from_bytes(reply_to_bytes(&reply)).unwrap(), reply);
        }
    }
}
