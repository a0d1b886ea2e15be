//! How many callers the operating system lets in. A process without descriptors left takes no connection, also none to the
//! admin port, and ends when its log needs another file.

use flotilla_cluster::node::LogCuts;
use flotilla_gateway::Capacity;
use flotilla_storage::log::LogOptions;
use flotilla_storage::state::StateOptions;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Links to other nodes, the admin port, and what else there is a little of.
const OTHERS: u64 = 160;
/// Of a segment of the log: one to write and one to read.
const OF_A_SEGMENT: u64 = 2;
/// Also where that is more than there are.
const CONNECTIONS_MIN: u64 = 16;

/// What a node has open besides its callers.
pub(crate) fn own(log: &LogOptions, cuts: &LogCuts, state: &StateOptions) -> u64 {
    // Half of a segment may be of entries that are not needed any more; of those that are held all are needed.
    let usual_bytes = cuts.keep.bytes.saturating_add(cuts.after_bytes).saturating_mul(2);
    let most_bytes = usual_bytes.max(cuts.keep.bytes_max().saturating_add(cuts.after_bytes));
    let segments = (most_bytes / log.segment_bytes.max(1)).max(log.segments_max as u64);
    let files = u64::try_from(state.open_files_max).unwrap_or(0);
    segments.saturating_mul(OF_A_SEGMENT).saturating_add(files + OTHERS)
}

/// What each of so many nodes of this process may take in, each with so much open of its own. Raises what
/// is open at once as far as that is allowed.
pub(crate) fn capacity(nodes: usize, own: u64) -> Capacity {
    let capacity = Capacity::default();
    let connections = connections(raise(), nodes as u64, own);
    if connections < capacity.connections {
        tracing::warn!(
            connections,
            "there are few file descriptors: more callers at a time are refused"
        );
    }
    Capacity { connections: capacity.connections.min(connections), ..capacity }
}

fn connections(descriptors: u64, nodes: u64, own: u64) -> usize {
    let rest = (descriptors / nodes.max(1)).saturating_sub(own);
    usize::try_from(rest.max(CONNECTIONS_MIN)).unwrap_or(usize::MAX)
}

/// The limit of the process, as high as it can be.
fn raise() -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: maximum, maximum };
    let soft = if setrlimit(Resource::Nofile, raised).is_ok() { maximum } else { current };
    soft.unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use flotilla_cluster::node::KeepLog;

    use super::*;

    #[test]
    fn callers_get_what_the_node_does_not_need() {
        assert_eq!(connections(1_024, 1, 960), 64);
        assert_eq!(connections(1_048_576, 3, 960), 348_565);
        assert_eq!(connections(1_024, 3, 960), 16);
        assert_eq!(connections(u64::MAX, 0, 0), usize::MAX);
    }

    #[test]
    fn the_log_may_be_of_many_files() {
        let (log, cuts, state) =
            (LogOptions::default(), LogCuts::default(), StateOptions::default());
        assert_eq!(own(&log, &cuts, &state), 528 + 512 + 160);
        let small = LogOptions { segment_bytes: 8 << 20, ..log };
        assert_eq!(own(&small, &cuts, &state), 1_056 + 512 + 160);
        let keep = KeepLog { bytes: 0, ..cuts.keep };
        assert_eq!(own(&log, &LogCuts { keep, after_bytes: 0 }, &state), 64 + 512 + 160);
        let keep = KeepLog { bytes: u64::MAX, ..cuts.keep };
        assert!(own(&log, &LogCuts { keep, ..cuts }, &state) > 1 << 40);
    }

    #[test]
    fn the_limit_is_raised_as_far_as_it_goes() {
        let limit = raise();
        assert_eq!(getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX), limit);
        assert!(capacity(1, 960).connections <= Capacity::default().connections);
    }
}
