//! Which worker processes are started, asked to end, killed and restarted: decided here, done by
//! `workers`.

use std::collections::BTreeMap;
use std::time::Duration;

/// A place for a worker; a restarted worker keeps it, a new one gets a new number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SlotId(pub u64);

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Start a worker.
    Spawn(SlotId),
    /// Ask it to finish or release what it holds, and to end.
    Terminate(SlotId),
    /// It had its time.
    Kill(SlotId),
}

/// How patient one is with workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Supervision {
    /// From being asked to end until being killed.
    pub grace: Duration,
    /// Before the first restart of a worker that ended by itself; doubled with every further one.
    pub backoff_min: Duration,
    /// Before any restart, at most.
    pub backoff_max: Duration,
    /// A worker that ran for so long was well: its next restart counts as the first.
    pub well_after: Duration,
}

impl Default for Supervision {
    fn default() -> Self {
        Self {
            grace: Duration::from_secs(30),
            backoff_min: Duration::from_millis(200),
            backoff_max: Duration::from_secs(30),
            well_after: Duration::from_secs(10),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Slot {
    Running { since: Duration, failures: u32 },
    Waiting { until: Duration, failures: u32 },
    Stopping { kill_at: Duration, killed: bool },
}

/// All places.
#[derive(Clone, Debug)]
pub struct Slots {
    supervision: Supervision,
    processes_max: usize,
    slots: BTreeMap<SlotId, Slot>,
    next: u64,
}

impl Slots {
    /// None yet. With those that are still ending there are never more than `processes_max`: a load that
    /// goes up and down faster than workers end must not pile them up.
    pub fn new(supervision: Supervision, processes_max: usize) -> Self {
        Self { supervision, processes_max, slots: BTreeMap::new(), next: 1 }
    }

    /// Workers that run and have not been asked to end.
    pub fn running(&self) -> usize {
        self.slots.values().filter(|slot| matches!(slot, Slot::Running { .. })).count()
    }

    /// Workers that were asked to end and have not.
    pub fn stopping(&self) -> usize {
        self.slots.values().filter(|slot| matches!(slot, Slot::Stopping { .. })).count()
    }

    /// Whether there is nothing left to wait for.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// The next moment at which [`Slots::plan`] has something to do, whatever else happens.
    pub fn next_deadline(&self) -> Option<Duration> {
        let deadline = |slot: &Slot| match *slot {
            Slot::Running { .. } | Slot::Stopping { killed: true, .. } => None,
            Slot::Waiting { until, .. } => Some(until),
            Slot::Stopping { kill_at, killed: false } => Some(kill_at),
        };
        self.slots.values().filter_map(deadline).min()
    }

    /// What is to be done so that `desired` workers run. The orders count as carried out; what
    /// became of them is told by [`Slots::ended`].
    pub fn plan(&mut self, now: Duration, desired: u32) -> Vec<Order> {
        let mut orders = Vec::new();
        self.end_surplus(now, desired as usize, &mut orders);
        for (id, slot) in &mut self.slots {
            match *slot {
                Slot::Waiting { until, failures } if until <= now => {
                    *slot = Slot::Running { since: now, failures };
                    orders.push(Order::Spawn(*id));
                }
                Slot::Stopping { kill_at, killed: false } if kill_at <= now => {
                    *slot = Slot::Stopping { kill_at, killed: true };
                    orders.push(Order::Kill(*id));
                }
                _ => {}
            }
        }
        let room = self.processes_max.saturating_sub(self.slots.len());
        let missing = (desired as usize).saturating_sub(self.active());
        for _ in 0..missing.min(room) {
            let id = SlotId(self.next);
            self.next += 1;
            self.slots.insert(id, Slot::Running { since: now, failures: 0 });
            orders.push(Order::Spawn(id));
        }
        orders
    }

    /// A worker's process is gone, or could not be started. True if nobody had asked it to end.
    pub fn ended(&mut self, now: Duration, id: SlotId) -> bool {
        match self.slots.get(&id).copied() {
            Some(Slot::Running { since, failures }) => {
                let was_well = now.saturating_sub(since) >= self.supervision.well_after;
                let failures = if was_well { 1 } else { failures.saturating_add(1) };
                let until = now + self.backoff(failures);
                self.slots.insert(id, Slot::Waiting { until, failures });
                true
            }
            Some(Slot::Stopping { .. }) => {
                self.slots.remove(&id);
                false
            }
            Some(Slot::Waiting { .. }) | None => false,
        }
    }

    fn backoff(&self, failures: u32) -> Duration {
        let doubled = 2_u32.saturating_pow(failures.saturating_sub(1));
        let backoff = self.supervision.backoff_min.saturating_mul(doubled);
        backoff.min(self.supervision.backoff_max)
    }

    /// Those that run or will again.
    fn active(&self) -> usize {
        self.slots.values().filter(|slot| !matches!(slot, Slot::Stopping { .. })).count()
    }

    /// First those that only wait for a restart, then the youngest.
    fn end_surplus(&mut self, now: Duration, desired: usize, orders: &mut Vec<Order>) {
        let mut surplus = self.active().saturating_sub(desired);
        let waiting: Vec<SlotId> = self.ids(|slot| matches!(slot, Slot::Waiting { .. }));
        for id in waiting.into_iter().rev().take(surplus) {
            self.slots.remove(&id);
            surplus -= 1;
        }
        let running: Vec<SlotId> = self.ids(|slot| matches!(slot, Slot::Running { .. }));
        for id in running.into_iter().rev().take(surplus) {
            let kill_at = now + self.supervision.grace;
            self.slots.insert(id, Slot::Stopping { kill_at, killed: false });
            orders.push(Order::Terminate(id));
        }
    }

    fn ids(&self, is: impl Fn(&Slot) -> bool) -> Vec<SlotId> {
        self.slots.iter().filter(|(_, slot)| is(slot)).map(|(id, _)| *id).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Order::{Kill, Spawn, Terminate};
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn slots() -> Slots {
        let supervision =
            Supervision { grace: s(30), backoff_min: s(1), backoff_max: s(5), well_after: s(10) };
        Slots::new(supervision, 8)
    }

    #[test]
    fn the_youngest_are_ended_and_killed_after_their_grace() {
        let mut slots = slots();
        let all: Vec<Order> = (1..=3).map(|id| Spawn(SlotId(id))).collect();
        assert_eq!(slots.plan(s(0), 3), all);
        assert_eq!(slots.plan(s(1), 3), []);
        assert_eq!(slots.plan(s(2), 1), [Terminate(SlotId(3)), Terminate(SlotId(2))]);
        assert_eq!((slots.running(), slots.stopping()), (1, 2));
        assert!(!slots.ended(s(3), SlotId(3)));
        assert_eq!(slots.next_deadline(), Some(s(32)));
        assert_eq!(slots.plan(s(31), 1), []);
        assert_eq!(slots.plan(s(32), 1), [Kill(SlotId(2))]);
        assert_eq!(slots.plan(s(40), 1), []);
        assert!(!slots.ended(s(41), SlotId(2)));
        assert_eq!((slots.running(), slots.stopping(), slots.next_deadline()), (1, 0, None));
    }

    #[test]
    fn a_worker_that_crashes_again_and_again_is_restarted_ever_later() {
        let mut slots = slots();
        slots.plan(s(0), 1);
        let mut now = s(0);
        for pause in [1, 2, 4, 5, 5] {
            assert!(slots.ended(now, SlotId(1)));
            assert_eq!(slots.running(), 0);
            assert_eq!(slots.next_deadline(), Some(now + s(pause)));
            assert_eq!(slots.plan(now + s(pause) - Duration::from_millis(1), 1), []);
            now += s(pause);
            assert_eq!(slots.plan(now, 1), [Spawn(SlotId(1))]);
        }
        // It runs well for a while: the next time it is as if it were the first.
        now += s(10);
        assert!(slots.ended(now, SlotId(1)));
        assert_eq!(slots.next_deadline(), Some(now + s(1)));
    }

    #[test]
    fn a_worker_that_waits_for_its_restart_is_the_first_to_go() {
        let mut slots = slots();
        slots.plan(s(0), 2);
        slots.ended(s(1), SlotId(1));
        assert_eq!(slots.plan(s(1), 1), []);
        assert_eq!(slots.plan(s(100), 1), []);
        assert_eq!(slots.running(), 1);
    }

    #[test]
    fn those_that_do_not_end_hold_back_new_ones() {
        let mut slots = slots();
        slots.plan(s(0), 4);
        slots.plan(s(1), 0);
        assert_eq!(slots.plan(s(2), 4).len(), 4);
        slots.plan(s(3), 0);
        assert_eq!(slots.plan(s(4), 4), []);
        assert_eq!(slots.stopping(), 8);
    }

    proptest! {
        /// Orders are possible: only what does not run is started, only what runs is ended. And
        /// in the end as many run as are desired.
        #[test]
        fn orders_are_possible(
            steps in prop::collection::vec((0_u64..20, 0_u32..6, 0_usize..8), 1..100)
        ) {
            let mut slots = slots();
            let mut alive = std::collections::BTreeSet::new();
            let mut now = s(0);
            let mut carry_out = |slots: &mut Slots, now, desired, end: Option<usize>| {
                for order in slots.plan(now, desired) {
                    match order {
                        Spawn(id) => assert!(alive.insert(id), "{id:?} runs already"),
                        Terminate(id) => assert!(alive.contains(&id)),
                        Kill(id) => {
                            assert!(alive.remove(&id));
                            slots.ended(now, id);
                        }
                    }
                }
                if let Some(id) = end.and_then(|end| alive.iter().nth(end).copied()) {
                    alive.remove(&id);
                    slots.ended(now, id);
                }
                alive.len()
            };
            for (step, desired, end) in steps {
                now += s(step);
                let count = carry_out(&mut slots, now, desired, Some(end));
                prop_assert_eq!(count, slots.running() + slots.stopping());
            }
            for _ in 0..10 {
                now += s(31);
                carry_out(&mut slots, now, 3, None);
            }
            prop_assert_eq!((slots.running(), slots.stopping()), (3, 0));
        }
    }
}
