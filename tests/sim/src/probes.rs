//! Failpoints of the product as faults, and what of the product was reached.
//!
//! Only in builds with the feature `probes`; in others nothing here does anything.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;

use flotilla_probe::Point;
use serde_json::Value;
use tokio::runtime::{Handle, Id};

use crate::node::Member;

/// What is told to a failpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Order {
    pub(crate) point: Point,
    /// The step fails; otherwise the node ends there.
    pub(crate) fails: bool,
    /// Times until it does.
    pub(crate) times: u64,
}

/// Begins the reason for which a node ends that was told to.
pub(crate) const REASON: &str = "failpoint ";

#[derive(Default)]
struct Probes {
    nodes: HashMap<Id, Member>,
    order: Option<Order>,
    /// Whose step that was.
    fired: Option<(u64, Order)>,
}

thread_local! {
    /// Everything is one thread.
    static PROBES: RefCell<Probes> = RefCell::default();
}

/// Begins to decide at failpoints.
pub(crate) fn begin() {
    flotilla_probe::begin();
    flotilla_probe::decide_with(Box::new(decide));
}

/// The runtime that runs is this node's.
pub(crate) fn this_is(member: &Member) {
    let id = Handle::current().id();
    PROBES.with_borrow_mut(|probes| probes.nodes.insert(id, member.clone()));
}

/// The first node that comes there does so; `None`: nobody does.
pub(crate) fn tell(order: Option<Order>) {
    PROBES.with_borrow_mut(|probes| probes.order = order);
}

/// The order that was carried out since the last call, and by which node.
pub(crate) fn take_fired() -> Option<(u64, Order)> {
    PROBES.with_borrow_mut(|probes| probes.fired.take())
}

fn decide(point: Point) -> io::Result<()> {
    // Other threads, and code outside of nodes, come by as well.
    let Ok(runtime) = Handle::try_current().map(|handle| handle.id()) else { return Ok(()) };
    let due = PROBES.try_with(|probes| {
        let mut probes = probes.try_borrow_mut().ok()?;
        let member = probes.nodes.get(&runtime)?.clone();
        let order = probes.order.as_mut().filter(|order| order.point == point)?;
        if member.disk.is_off() {
            return None;
        }
        order.times = order.times.saturating_sub(1);
        if order.times > 0 {
            return None;
        }
        let order = probes.order.take()?;
        probes.fired = Some((member.id, order));
        Some((member, order))
    });
    match due.ok().flatten() {
        None => Ok(()),
        Some((_, Order { fails: true, .. })) => {
            Err(io::Error::other(format!("{REASON}{}", point.name())))
        }
        Some((member, _)) => {
            member.end(format!("{REASON}{}", point.name()));
            Ok(())
        }
    }
}

/// What was reached and how often; null in builds without probes.
pub(crate) fn report() -> Value {
    serde_json::from_str(&flotilla_probe::report()).unwrap_or(Value::Null)
}
