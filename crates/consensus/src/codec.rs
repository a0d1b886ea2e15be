//! Between the library's types and ours on disk and wire.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use bytes::Bytes;
use flotilla_wire::DecodeError;
use flotilla_wire::proto::raft as pb;
use openraft::impls::BasicNode;
use openraft::impls::leader_id_adv::LeaderId;
use openraft::{EntryPayload, Membership};
use prost::Message as _;

use crate::types::{Commands, Entry, LogId, StoredMembership, TypeConfig, Vote};

/// The format of log entries and applied records.
const FORMAT: u32 = 1;

pub(crate) fn invalid(what: &str, error: impl std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{what}: {error}"))
}

pub(crate) fn log_id_to_pb(id: &LogId) -> pb::LogId {
    let leader = pb::LeaderId { term: id.leader_id.term, node: id.leader_id.node_id };
    pb::LogId { leader: Some(leader), index: id.index }
}

pub(crate) fn log_id_from_pb(id: pb::LogId) -> Result<LogId, DecodeError> {
    let leader = id.leader.ok_or(DecodeError::Field("leader"))?;
    let leader_id = LeaderId { term: leader.term, node_id: leader.node };
    Ok(LogId { leader_id, index: id.index })
}

pub(crate) fn maybe_log_id_from_pb(id: Option<pb::LogId>) -> Result<Option<LogId>, DecodeError> {
    id.map(log_id_from_pb).transpose()
}

pub(crate) fn vote_to_pb(vote: &Vote) -> pb::Vote {
    let leader = pb::LeaderId { term: vote.leader_id.term, node: vote.leader_id.node_id };
    pb::Vote { leader: Some(leader), committed: vote.committed }
}

pub(crate) fn vote_from_pb(vote: Option<pb::Vote>) -> Result<Vote, DecodeError> {
    let vote = vote.ok_or(DecodeError::Field("vote"))?;
    let leader = vote.leader.ok_or(DecodeError::Field("leader"))?;
    let leader_id = LeaderId { term: leader.term, node_id: leader.node };
    Ok(Vote { leader_id, committed: vote.committed })
}

pub(crate) fn encode_log_id(id: &LogId) -> Bytes {
    log_id_to_pb(id).encode_to_vec().into()
}

pub(crate) fn decode_log_id(bytes: Bytes) -> Result<LogId, DecodeError> {
    log_id_from_pb(pb::LogId::decode(bytes)?)
}

pub(crate) fn encode_vote(vote: &Vote) -> Bytes {
    vote_to_pb(vote).encode_to_vec().into()
}

pub(crate) fn decode_vote(bytes: Bytes) -> Result<Vote, DecodeError> {
    vote_from_pb(Some(pb::Vote::decode(bytes)?))
}

fn membership_to_pb(membership: &Membership<u64, BasicNode>) -> pb::Membership {
    let voters = membership.get_joint_config().iter();
    let voters = voters.map(|set| pb::NodeSet { nodes: set.iter().copied().collect() });
    let nodes = membership.nodes();
    let nodes = nodes.map(|(id, node)| pb::Node { id: *id, address: node.addr.clone() });
    pb::Membership { voters: voters.collect(), nodes: nodes.collect() }
}

fn membership_from_pb(
    membership: pb::Membership,
) -> Result<Membership<u64, BasicNode>, DecodeError> {
    let voters = membership.voters.into_iter().map(|set| BTreeSet::from_iter(set.nodes)).collect();
    let nodes = membership.nodes.into_iter();
    let nodes = nodes.map(|node| (node.id, BasicNode::new(node.address)));
    Membership::new(voters, BTreeMap::from_iter(nodes))
        .map_err(|_| DecodeError::Field("membership"))
}

pub(crate) fn encode_entry(entry: &Entry) -> Bytes {
    let payload = match &entry.payload {
        EntryPayload::Blank => pb::entry::Payload::Blank(pb::Blank {}),
        EntryPayload::Normal(commands) => pb::entry::Payload::Commands(commands.0.clone()),
        EntryPayload::Membership(membership) => {
            pb::entry::Payload::Membership(membership_to_pb(membership))
        }
    };
    let id = Some(log_id_to_pb(&entry.log_id));
    pb::Entry { format: FORMAT, id, payload: Some(payload) }.encode_to_vec().into()
}

pub(crate) fn decode_entry(bytes: Bytes) -> Result<Entry, DecodeError> {
    let entry = pb::Entry::decode(bytes)?;
    if entry.format != FORMAT {
        return Err(DecodeError::UnknownFormat(entry.format));
    }
    let log_id = log_id_from_pb(entry.id.ok_or(DecodeError::Field("id"))?)?;
    let payload = match entry.payload.ok_or(DecodeError::Field("payload"))? {
        pb::entry::Payload::Blank(_) => EntryPayload::Blank,
        pb::entry::Payload::Commands(bytes) => EntryPayload::Normal(Commands(bytes)),
        pb::entry::Payload::Membership(membership) => {
            EntryPayload::Membership(membership_from_pb(membership)?)
        }
    };
    Ok(Entry { log_id, payload })
}

pub(crate) fn encode_applied(last: Option<&LogId>, membership: &StoredMembership) -> Bytes {
    let applied = pb::Applied {
        format: FORMAT,
        last: last.map(log_id_to_pb),
        membership_id: membership.log_id().as_ref().map(log_id_to_pb),
        membership: Some(membership_to_pb(membership.membership())),
    };
    applied.encode_to_vec().into()
}

pub(crate) fn decode_applied(
    bytes: Bytes,
) -> Result<(Option<LogId>, StoredMembership), DecodeError> {
    let applied = pb::Applied::decode(bytes)?;
    if applied.format != FORMAT {
        return Err(DecodeError::UnknownFormat(applied.format));
    }
    let membership = applied.membership.ok_or(DecodeError::Field("membership"))?;
    // A replica that applied nothing yet has an empty membership, which the checked constructor
    // would refuse.
    let membership = if membership.voters.is_empty() {
        StoredMembership::default()
    } else {
        let id = maybe_log_id_from_pb(applied.membership_id)?;
        StoredMembership::new(id, membership_from_pb(membership)?)
    };
    Ok((maybe_log_id_from_pb(applied.last)?, membership))
}

/// For the tests and the network: all of an append request but its framing.
pub(crate) fn encode_append(request: &openraft::raft::AppendEntriesRequest<TypeConfig>) -> Bytes {
    let message = pb::AppendRequest {
        vote: Some(vote_to_pb(&request.vote)),
        previous: request.prev_log_id.as_ref().map(log_id_to_pb),
        entries: request.entries.iter().map(encode_entry).collect(),
        committed: request.leader_commit.as_ref().map(log_id_to_pb),
    };
    message.encode_to_vec().into()
}

pub(crate) fn decode_append(
    bytes: Bytes,
) -> Result<openraft::raft::AppendEntriesRequest<TypeConfig>, DecodeError> {
    let message = pb::AppendRequest::decode(bytes)?;
    Ok(openraft::raft::AppendEntriesRequest {
        vote: vote_from_pb(message.vote)?,
        prev_log_id: maybe_log_id_from_pb(message.previous)?,
        entries: message.entries.into_iter().map(decode_entry).collect::<Result<_, _>>()?,
        leader_commit: maybe_log_id_from_pb(message.committed)?,
    })
}
