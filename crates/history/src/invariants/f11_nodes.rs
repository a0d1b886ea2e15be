//! F11. Case: neighbours of a group that were first delivered through different nodes. F2, F3 and F4
//! hold for them as for others: what those found between nodes is told here again.
//!
//! Source: the order belongs to the group, not to who asks. Undecided: as there.

use std::collections::BTreeSet;

use super::groups::{first_delivery, orders};
use crate::index::Index;
use crate::invariant::Invariant;
use crate::verdict::{Finding, Tally};

pub(super) fn check(index: &Index, tally: &mut Tally, before: &[Tally]) {
    for group in 0..index.groups.len() as u32 {
        for stays in orders(index, group) {
            let firsts =
                stays.iter().filter_map(|it| first_delivery(index, &index.stays[*it as usize]));
            let nodes: Vec<u32> = firsts
                .map(|it| index.receives[index.deliveries[it as usize].receive as usize].node)
                .collect();
            tally.examined += nodes.windows(2).filter(|pair| pair[0] != pair[1]).count() as u64;
        }
    }
    let orders = [Invariant::F2, Invariant::F3, Invariant::F4];
    let found = before.iter().filter(|it| orders.contains(&it.invariant));
    for finding in found.flat_map(|it| &it.findings) {
        let nodes: BTreeSet<u32> =
            finding.records.iter().filter_map(|record| receiving_node(index, *record)).collect();
        if nodes.len() > 1 {
            tally.found(|| {
                let what = format!("{}, between nodes: {}", finding.invariant, finding.what);
                Finding { what, nodes: nodes.into_iter().collect(), ..finding.clone() }
            });
        }
    }
}

/// The node through which a record received something; `None` when it is no receive.
fn receiving_node(index: &Index, record: u32) -> Option<u32> {
    // Receives are in the order of their records.
    let place = index.receives.binary_search_by_key(&record, |it| it.record).ok()?;
    Some(index.receives[place].node)
}
