//! How many callers the operating system lets in. A process without descriptors left takes no connection, also none to the
//! admin port, and ends when its log needs another file.

use flotilla_gateway::Capacity;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What a node needs besides its callers and the files of its state store: two for each segment of the log (a
/// hundred and more, where messages are large), links to other nodes, the admin port.
const OWN: u64 = 448;
/// Also where that is more than there are.
const CONNECTIONS_MIN: u64 = 16;

/// What each of so many nodes of this process may take in, each with so many files of its state open. Raises what
/// is open at once as far as that is allowed.
pub(crate) fn capacity(nodes: usize, open_files_max: i32) -> Capacity {
    let capacity = Capacity::default();
    let connections = connections(raise(), nodes as u64, open_files_max.max(0) as u64);
    if connections < capacity.connections {
        tracing::warn!(
            connections,
            "there are few file descriptors: more callers at a time are refused"
        );
    }
    Capacity { connections: capacity.connections.min(connections), ..capacity }
}

fn connections(descriptors: u64, nodes: u64, open_files_max: u64) -> usize {
    let rest = (descriptors / nodes.max(1)).saturating_sub(open_files_max + OWN);
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
    use super::*;

    #[test]
    fn callers_get_what_the_node_does_not_need() {
        assert_eq!(connections(1_024, 1, 512), 64);
        assert_eq!(connections(1_048_576, 3, 512), 348_565);
        assert_eq!(connections(1_024, 3, 512), 16);
        assert_eq!(connections(u64::MAX, 0, 0), usize::MAX - 448);
    }

    #[test]
    fn the_limit_is_raised_as_far_as_it_goes() {
        let limit = raise();
        assert_eq!(getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX), limit);
        assert!(capacity(1, 512).connections <= Capacity::default().connections);
    }
}
