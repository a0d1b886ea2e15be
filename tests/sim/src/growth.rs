//! Nothing grows for ever: after a rest nothing is left of what was sent, received and remembered.

use std::collections::BTreeMap;
use std::time::Duration;

use rocksdb::model;

use crate::cluster::SimCluster;
use crate::node::Member;

/// Longer than anything is remembered: two deduplication intervals, and the time between two looks for
/// what is old.
pub(crate) const REST: Duration = Duration::from_secs(630);

/// Of a key in the state store: group, incarnation.
const SPACE_BYTES: usize = 8;
const TAG_INCARNATION: u8 = 2;
const TAGS: [(u8, &str); 4] =
    [(3, "command ids"), (5, "deduplication ids"), (6, "receive attempts"), (7, "message groups")];
/// Blocks of command ids that a shard remembers of a session, and sessions.
const COMMAND_BLOCKS_MAX: u64 = 64 * 128;
/// Entries that a log keeps beyond those that it was told to: what came since the last cut, which an idle
/// cluster makes every five minutes, and the steps in which it is cut.
const ENTRIES_MORE: u64 = 600;
/// Bytes of log beyond those: what is not durable yet.
const LOG_BYTES_MORE: u64 = 4 << 20;
/// Segments beyond those that a log was told to use: one that is made and one that is given back.
const SEGMENTS_MORE: u64 = 2;

/// Looks at every node.
///
/// # Errors
/// What is left and should not be.
pub(crate) fn look(cluster: &SimCluster<'_>) -> Result<(), String> {
    for (id, node) in cluster.running() {
        let member = cluster.member(id);
        let left = |what: &str, count: u64| Err(format!("node {id}: {count} {what} after a rest"));
        for (what, count) in rows(member) {
            let most = if what == TAGS[0].1 { COMMAND_BLOCKS_MAX } else { 0 };
            if count > most {
                return left(what, count);
            }
        }
        let status = node.status();
        if status.parked_polls > 0 {
            return left("long polls", status.parked_polls as u64);
        }
        // Not as its disk has it: where a cut gives nothing back it is written with what is appended next.
        let held = node.standpoints().into_iter();
        let held = held.map(|(_, it)| it.last_log.saturating_sub(it.purged));
        let entries = held.max().unwrap_or(0);
        if entries > cluster.knobs.keep_entries + ENTRIES_MORE {
            return left("entries of a group's log", entries);
        }
        // Each group may have been cut when the log was a little shorter, and got more since.
        let knobs = &cluster.knobs;
        let log_bytes: u64 = status.groups.iter().map(|group| group.log_bytes).sum();
        let most = knobs.keep_bytes() + 2 * knobs.cut_after_bytes + LOG_BYTES_MORE;
        if log_bytes > most {
            return left("bytes of log", log_bytes);
        }
        // Its entries fill half of the segments at least.
        let needed = (2 * log_bytes).div_ceil(cluster.knobs.segment_bytes);
        let segments = member.disk.names(&member.log_dir(), "segment-") as u64;
        if segments > needed.max(cluster.knobs.segments_max as u64) + SEGMENTS_MORE {
            return left("segments", segments);
        }
    }
    Ok(())
}

/// How many rows there are of each kind that should be gone, over all groups.
fn rows(member: &Member) -> BTreeMap<&'static str, u64> {
    let mut current: BTreeMap<[u8; 4], [u8; 4]> = BTreeMap::new();
    let mut counts = BTreeMap::new();
    model::for_each_row(&member.state_dir(), |family, key, value| {
        let Some((space, rest)) = key.split_first_chunk::<SPACE_BYTES>() else { return };
        let (group, incarnation) = (*space.first_chunk::<4>().unwrap_or(&[0; 4]), &space[4..]);
        if incarnation == [0; 4] {
            if rest == [TAG_INCARNATION]
                && let Some(row) = value.get(1..5).and_then(|row| row.first_chunk())
            {
                current.insert(group, *row);
            }
            return;
        }
        let is_current = current.get(&group).map_or([0, 0, 0, 1], |row| *row) == incarnation;
        let tag = |rest: &[u8]| TAGS.iter().find(|(tag, _)| rest.first() == Some(tag));
        let what = match family {
            _ if !is_current => Some("rows of a state that was replaced"),
            name if name.starts_with("message") => Some("messages"),
            "hidden" => Some("leases"),
            "meta" => tag(rest).map(|(_, what)| *what),
            _ => None,
        };
        if let Some(what) = what {
            *counts.entry(what).or_default() += 1;
        }
    });
    counts
}
