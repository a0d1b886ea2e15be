//! Wires that are cut, in all the shapes that a network can fall apart into.

use crate::chaos::faults::{FaultKind, Nemesis, Struck};
use crate::links::{Condition, Way};

/// Which node does not hear which other.
pub(super) async fn strike(nemesis: &mut Nemesis<'_>, kind: FaultKind) -> Struck {
    let (nodes, ways) = plan(nemesis, kind);
    let from_us = nemesis.book.now_us();
    nemesis.fleet.impair(&ways, Condition::SHUT).await;
    nemesis.works(kind, &nodes, from_us).await;
    nemesis.fleet.rejoin();
    nemesis.healed(kind, &nodes).await;
    Struck::Installed
}

/// Whom it is about, and the ways that are shut.
fn plan(nemesis: &mut Nemesis<'_>, kind: FaultKind) -> (Vec<u64>, Vec<Way>) {
    // All nodes, beginning with another each time.
    let ids = nemesis.rotated();
    match kind {
        FaultKind::OneWay => (ids[..1].to_vec(), outward(&ids[..1], &ids[1..])),
        FaultKind::Halves => {
            let (few, many) = ids.split_at((ids.len() - 1) / 2);
            (few.to_vec(), between(few, many))
        }
        FaultKind::Bridge => {
            // Each half is cut off from something.
            let half = ids.len() / 2;
            (ids.clone(), between(&ids[..half], &ids[half + 1..]))
        }
        FaultKind::Ring => (ids.clone(), ring(&ids)),
        _ => (ids[..1].to_vec(), between(&ids[..1], &ids[1..])),
    }
}

pub(super) fn outward(some: &[u64], others: &[u64]) -> Vec<Way> {
    some.iter().flat_map(|from| others.iter().map(move |to| (*from, *to))).collect()
}

pub(super) fn between(some: &[u64], others: &[u64]) -> Vec<Way> {
    let mut ways = outward(some, others);
    ways.extend(outward(others, some));
    ways
}

/// Each node keeps only the wires to its neighbours in a circle.
fn ring(ids: &[u64]) -> Vec<Way> {
    let count = ids.len();
    let apart = |a: usize, b: usize| (a + count - b) % count;
    let far = |a: usize, b: usize| a != b && apart(a, b) != 1 && apart(b, a) != 1;
    let all = (0..count).flat_map(|a| (0..count).map(move |b| (a, b)));
    all.filter(|(a, b)| far(*a, *b)).map(|(a, b)| (ids[a], ids[b])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_a_ring_each_node_sees_a_majority_and_no_two_the_same() {
        let ways = ring(&[1, 2, 3, 4, 5]);
        assert_eq!(ways.len(), 10);
        for id in 1..=5 {
            assert_eq!(ways.iter().filter(|way| way.0 == id).count(), 2);
            assert!(ways.iter().all(|(from, to)| ways.contains(&(*to, *from))));
        }
        assert!(!ways.contains(&(1, 5)) && ways.contains(&(1, 3)));
        assert_eq!(ring(&[1, 2, 3]), []);
    }
}
