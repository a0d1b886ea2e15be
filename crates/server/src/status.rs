//! A node's state in words.

use std::fmt::Write as _;

use flotilla_cluster::{Digest, GroupStatus, Status};
use flotilla_types::clock::{Clock as _, SystemClock};
use flotilla_types::ids::GroupId;
use serde_json::{Value, json};

/// Why a node that is not ready is not.
pub(crate) fn why_not_ready(cluster: &str, status: &Status) -> String {
    if cluster.is_empty() {
        return "not part of a cluster yet: waiting for the other nodes\n".to_owned();
    }
    let mut text = String::new();
    for group in in_order(status) {
        let leader = match group.leader {
            Some(leader) => format!("led by node {leader}"),
            None => "no leader known".to_owned(),
        };
        let rebuilt = if group.votes { "" } else { ", being rebuilt here" };
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{}: {leader}{rebuilt}", name(group.group));
    }
    if text.is_empty() {
        text.push_str("no replica runs here yet\n");
    }
    if !status.groups.iter().any(|group| group.leader.is_none()) {
        text.push_str("waiting for shards that start, for the link to a leader, or to learn which queues there are\n");
    }
    text
}

/// The status page.
pub(crate) fn json(cluster: &str, ready: bool, status: &Status) -> String {
    let groups: Vec<Value> = in_order(status).into_iter().map(group).collect();
    let elsewhere: Vec<u64> = status.low_on_space_elsewhere.iter().map(|node| node.0).collect();
    let page = json!({
        "cluster": cluster,
        "ready": ready,
        "groups": groups,
        "parked_polls": status.parked_polls,
        "memtable_bytes": status.memtable_bytes,
        "disk_bytes": status.disk_bytes,
        "free_bytes": status.free_bytes,
        "low_on_space": status.low_on_space,
        "low_on_space_elsewhere": elsewhere,
        "log": { "segments": status.log.segments, "syncs": status.log.syncs },
        // They differ when somebody has set the machine's clock, or this node began with a wrong one.
        "clock_ms": status.clock_ms,
        "time_of_day_ms": SystemClock.now_ms(),
    });
    format!("{page:#}\n")
}

fn group(group: GroupStatus) -> Value {
    json!({
        "group": name(group.group),
        "leader": group.leader.map(|leader| leader.0),
        "leads": group.leads,
        "votes": group.votes,
        "proposals": group.proposals,
        "commands": group.commands,
        "leader_changes": group.leader_changes,
        "log_bytes": group.log_bytes,
    })
}

/// The page with what the replicas hold.
pub(crate) fn digests(digests: &[Digest]) -> String {
    let one = |it: &Digest| {
        let checksum = format!("{:08x}", it.checksum);
        let digest = json!({ "applied": it.applied, "bytes": it.bytes, "checksum": checksum });
        (name(it.group), digest)
    };
    let page: serde_json::Map<String, Value> = digests.iter().map(one).collect();
    format!("{:#}\n", Value::Object(page))
}

fn in_order(status: &Status) -> Vec<GroupStatus> {
    let mut groups = status.groups.clone();
    groups.sort_unstable_by_key(|group| group.group);
    groups
}

/// What operators call a group.
pub(crate) fn name(group: GroupId) -> String {
    if group.is_shard() { format!("shard-{group}") } else { "catalog".to_owned() }
}

#[cfg(test)]
mod tests {
    use flotilla_storage::log::LogMetrics;
    use flotilla_types::ids::NodeId;

    use super::*;

    fn replica(group: u32, leader: Option<u64>) -> GroupStatus {
        GroupStatus {
            group: GroupId(group),
            leader: leader.map(NodeId),
            leads: false,
            term: 0,
            last_log: 0,
            applied: 0,
            votes: true,
            proposals: 0,
            commands: 0,
            leader_changes: 0,
            log_bytes: 0,
        }
    }

    fn status(groups: Vec<GroupStatus>) -> Status {
        Status {
            groups,
            log: LogMetrics::default(),
            parked_polls: 0,
            wakes: 0,
            answer_bytes: 0,
            claim_bytes: 0,
            memtable_bytes: 0,
            disk_bytes: 0,
            free_bytes: 0,
            low_on_space: false,
            low_on_space_elsewhere: vec![NodeId(3)],
            clock_ms: 0,
        }
    }

    #[test]
    fn says_why_not_ready() {
        let none = status(Vec::new());
        assert!(why_not_ready("", &none).starts_with("not part of a cluster yet"));
        assert!(why_not_ready("c", &none).starts_with("no replica runs here yet\n"));
        let rebuilt = GroupStatus { votes: false, ..replica(1, Some(2)) };
        let some = status(vec![replica(2, None), rebuilt, replica(0, Some(3))]);
        assert_eq!(
            why_not_ready("c", &some),
            "catalog: led by node 3\n\
             shard-1: led by node 2, being rebuilt here\n\
             shard-2: no leader known\n"
        );
    }

    #[test]
    fn the_page_is_json() {
        let page = json("c", false, &status(vec![replica(1, Some(2))]));
        let page: Value = serde_json::from_str(&page).unwrap();
        assert_eq!(page["groups"][0]["group"], "shard-1");
        assert_eq!(page["groups"][0]["leader"], 2);
        assert_eq!(page["ready"], false);
        assert_eq!(page["low_on_space"], false);
        assert_eq!(page["low_on_space_elsewhere"], json!([3]));
    }

    #[test]
    fn digests_are_found_by_what_their_groups_are_called() {
        let digest = Digest { group: GroupId(2), applied: 7, bytes: 99, checksum: 0xab };
        let page: Value = serde_json::from_str(&digests(&[digest])).unwrap();
        assert_eq!(page["shard-2"]["applied"], 7);
        assert_eq!(page["shard-2"]["checksum"], "000000ab");
        assert_eq!(digests(&[]), "{}\n");
    }
}
