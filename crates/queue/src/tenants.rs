//! Who uses a standard queue how much: its messages in flight by tenant, and the time they took.
//!
//! A tenant is a message group. Derived from what the shard applies and lives in memory only: a
//! restarted replica knows the messages in flight again and has forgotten the past time.

use std::collections::BTreeMap;

use flotilla_types::ids::GroupKey;

/// Processing time counts for one to two of these.
const PERIOD_MS: u64 = 60_000;
/// After this time without any message in flight there is nothing to tell.
const OVER_MS: u64 = 2 * PERIOD_MS;
/// Tenants without a message in flight or delayed that are remembered for their processing time;
/// beyond it only those with at least a hundredth of the whole.
const IDLE_MAX: usize = 10_000;

/// What tenants use of a queue in one shard.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shares {
    /// Messages in flight, also those without a group.
    pub in_flight: u64,
    /// Recent processing time: how long messages were in flight, summed over all.
    pub busy_ms: u64,
    /// Those with a large part of either.
    pub tenants: Vec<TenantShare>,
}

/// One tenant's part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TenantShare {
    /// Who.
    pub group: GroupKey,
    /// See [`Shares::in_flight`].
    pub in_flight: u64,
    /// See [`Shares::busy_ms`].
    pub busy_ms: u64,
}

/// How a message that is hidden counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It was received.
    InFlight,
    /// It was never received.
    Delayed,
}

/// Invariant: `all` also counts messages without a group.
#[derive(Debug, Default)]
pub(crate) struct Tenants {
    tenants: BTreeMap<GroupKey, Tenant>,
    all: Tenant,
    period: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Tenant {
    in_flight: u64,
    delayed: u64,
    busy: Busy,
}

/// Time in flight, summed over messages.
#[derive(Clone, Copy, Debug, Default)]
struct Busy {
    before_ms: u64,
    now_ms: u64,
    /// Up to when it is counted.
    counted_ms: u64,
}

impl Tenant {
    fn is_idle(&self) -> bool {
        self.in_flight == 0 && self.delayed == 0
    }

    fn count(&mut self, at_ms: u64) {
        self.busy.now_ms += self.running_ms(at_ms);
        self.busy.counted_ms = self.busy.counted_ms.max(at_ms);
    }

    fn running_ms(&self, at_ms: u64) -> u64 {
        self.in_flight * at_ms.saturating_sub(self.busy.counted_ms)
    }

    fn busy_ms(&self, at_ms: u64) -> u64 {
        self.busy.before_ms + self.busy.now_ms + self.running_ms(at_ms)
    }

    fn number(&mut self, kind: Kind) -> &mut u64 {
        match kind {
            Kind::InFlight => &mut self.in_flight,
            Kind::Delayed => &mut self.delayed,
        }
    }
}

impl Tenants {
    /// For a queue that has this many messages in flight and delayed, all without a group.
    pub(crate) fn new(in_flight: u64, delayed: u64, at_ms: u64) -> Tenants {
        let busy = Busy { counted_ms: at_ms, ..Busy::default() };
        let all = Tenant { in_flight, delayed, busy };
        Tenants { all, period: at_ms / PERIOD_MS, ..Tenants::default() }
    }

    /// A message was hidden.
    pub(crate) fn entered(&mut self, group: Option<GroupKey>, kind: Kind, at_ms: u64) {
        self.turn(at_ms);
        self.all.count(at_ms);
        *self.all.number(kind) += 1;
        let Some(group) = group else { return };
        let tenant = self.tenants.entry(group).or_default();
        tenant.count(at_ms);
        *tenant.number(kind) += 1;
    }

    /// A message that had entered is visible again or gone.
    pub(crate) fn left(&mut self, group: Option<GroupKey>, kind: Kind, at_ms: u64) {
        self.turn(at_ms);
        self.all.count(at_ms);
        *self.all.number(kind) -= 1;
        let Some(group) = group else { return };
        let Some(tenant) = self.tenants.get_mut(&group) else { return };
        tenant.count(at_ms);
        *tenant.number(kind) -= 1;
        let tenant = *tenant;
        let many = self.tenants.len() > IDLE_MAX;
        if many && tenant.is_idle() && tenant.busy_ms(at_ms) * 100 < self.all.busy_ms(at_ms) {
            self.tenants.remove(&group);
        }
    }

    pub(crate) fn delayed(&self, group: GroupKey) -> u64 {
        self.tenants.get(&group).map_or(0, |tenant| tenant.delayed)
    }

    /// One tenant's part, as of `now_ms`.
    pub(crate) fn share(&self, group: GroupKey, now_ms: u64) -> TenantShare {
        let tenant = self.tenants.get(&group).copied().unwrap_or_default();
        TenantShare { group, in_flight: tenant.in_flight, busy_ms: tenant.busy_ms(now_ms) }
    }

    /// Nothing was in flight for long.
    pub(crate) fn is_over(&self, now_ms: u64) -> bool {
        let is_old = now_ms.saturating_sub(self.all.busy.counted_ms) >= OVER_MS;
        self.tenants.is_empty() || (self.all.in_flight == 0 && is_old)
    }

    /// Naming tenants with more than a `part`-th of the messages in flight or of the processing
    /// time; `None` when nothing was in flight for long. Looks at every tenant.
    pub(crate) fn shares(&self, part: u64, now_ms: u64) -> Option<Shares> {
        if self.is_over(now_ms) {
            return None;
        }
        let (in_flight, busy_ms) = (self.all.in_flight, self.all.busy_ms(now_ms));
        let is_large = |share: &TenantShare| {
            share.in_flight * part > in_flight || share.busy_ms * part > busy_ms
        };
        let tenants = self.tenants.keys().map(|group| self.share(*group, now_ms));
        Some(Shares { in_flight, busy_ms, tenants: tenants.filter(is_large).collect() })
    }

    /// Begins a new period and forgets who was idle for the whole of the last one.
    fn turn(&mut self, at_ms: u64) {
        if at_ms / PERIOD_MS <= self.period {
            return;
        }
        self.period = at_ms / PERIOD_MS;
        let turn = |tenant: &mut Tenant| {
            tenant.count(at_ms);
            tenant.busy.before_ms = std::mem::take(&mut tenant.busy.now_ms);
        };
        turn(&mut self.all);
        self.tenants.values_mut().for_each(turn);
        self.tenants.retain(|_, tenant| !tenant.is_idle() || tenant.busy.before_ms > 0);
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;

    use super::*;

    fn group(number: u64) -> GroupKey {
        GroupKey(NonZeroU64::new(number).unwrap())
    }

    /// Tenants with more than a tenth of the processing time.
    fn busiest(tenants: &Tenants, now_ms: u64) -> Vec<GroupKey> {
        let shares = tenants.shares(10, now_ms).unwrap();
        let busy = |share: &&TenantShare| share.busy_ms * 10 > shares.busy_ms;
        shares.tenants.iter().filter(busy).map(|share| share.group).collect()
    }

    #[test]
    fn shares_name_those_with_a_large_part() {
        let mut tenants = Tenants::new(5, 0, 1_000);
        for number in [1, 2, 2, 3, 3, 3] {
            tenants.entered(Some(group(number)), Kind::InFlight, 1_000);
        }
        tenants.entered(Some(group(9)), Kind::Delayed, 1_000);
        tenants.left(Some(group(1)), Kind::InFlight, 1_010);
        let shares = tenants.shares(5, 2_000).unwrap();
        assert_eq!((shares.in_flight, shares.busy_ms), (10, 10_010));
        let share = TenantShare { group: group(3), in_flight: 3, busy_ms: 3_000 };
        assert_eq!(shares.tenants, [share]);
        assert_eq!(tenants.delayed(group(9)), 1);
    }

    #[test]
    fn when_nothing_was_in_flight_for_long_there_are_no_shares() {
        let mut tenants = Tenants::new(0, 0, 0);
        tenants.entered(Some(group(1)), Kind::InFlight, 1_000);
        assert!(tenants.shares(10, 1_000 + OVER_MS).is_some());
        tenants.left(Some(group(1)), Kind::InFlight, 2_000);
        assert!(tenants.shares(10, 2_000 + OVER_MS - 1).is_some());
        assert!(tenants.shares(10, 2_000 + OVER_MS).is_none());
    }

    #[test]
    fn the_share_counts_time_and_not_messages() {
        let mut tenants = Tenants::new(0, 0, 0);
        // One message for ten seconds, ten for 100 ms each, one that is not over.
        tenants.entered(Some(group(1)), Kind::InFlight, 0);
        for number in 0..10 {
            tenants.entered(Some(group(2)), Kind::InFlight, number * 100);
            tenants.left(Some(group(2)), Kind::InFlight, number * 100 + 100);
        }
        tenants.left(Some(group(1)), Kind::InFlight, 10_000);
        tenants.entered(Some(group(3)), Kind::InFlight, 10_000);
        assert_eq!(busiest(&tenants, 10_500), [group(1)]);
        assert_eq!(busiest(&tenants, 12_000), [group(1), group(3)]);
    }

    #[test]
    fn messages_without_a_group_take_their_part_of_the_time() {
        let mut tenants = Tenants::new(0, 0, 0);
        tenants.entered(None, Kind::InFlight, 0);
        tenants.entered(Some(group(1)), Kind::InFlight, 19_000);
        assert!(busiest(&tenants, 20_000).is_empty(), "1 of 21 seconds");
        assert_eq!(busiest(&tenants, 40_000), [group(1)]);
    }

    #[test]
    fn past_time_is_forgotten_after_two_periods() {
        let mut tenants = Tenants::new(0, 0, 0);
        tenants.entered(Some(group(1)), Kind::InFlight, 0);
        tenants.left(Some(group(1)), Kind::InFlight, 50_000);
        let noise = |tenants: &mut Tenants, at_ms| {
            tenants.entered(None, Kind::InFlight, at_ms);
            tenants.left(None, Kind::InFlight, at_ms);
        };
        noise(&mut tenants, PERIOD_MS);
        assert_eq!(busiest(&tenants, PERIOD_MS), [group(1)]);
        noise(&mut tenants, 2 * PERIOD_MS);
        assert!(tenants.shares(10, 2 * PERIOD_MS).is_none());
        noise(&mut tenants, 3 * PERIOD_MS);
        assert!(tenants.tenants.is_empty());
    }

    #[test]
    fn idle_tenants_are_bounded() {
        let mut tenants = Tenants::new(0, 0, 0);
        tenants.entered(Some(group(1)), Kind::InFlight, 0);
        tenants.left(Some(group(1)), Kind::InFlight, 1_000);
        for number in 2..3 * IDLE_MAX as u64 {
            tenants.entered(Some(group(number)), Kind::InFlight, 1_000);
            tenants.left(Some(group(number)), Kind::InFlight, 1_000);
        }
        assert_eq!(tenants.tenants.len(), IDLE_MAX);
        assert_eq!(busiest(&tenants, 2_000), [group(1)]);
    }
}
