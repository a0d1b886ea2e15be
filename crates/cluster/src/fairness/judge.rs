//! Which tenants of a queue are noisy: pure, and the same everywhere but for what it is told.
//!
//! The rules are those that SQS publishes: a tenant becomes noisy with more than a tenth of the
//! messages in flight and at least 30, or with more than a tenth of the recent processing time. It
//! becomes quiet again when its shares have fallen to the level of the quiet ones, when it has
//! nothing any more, or when nothing of it was in flight for five minutes.

use std::collections::BTreeMap;

use flotilla_types::ids::GroupKey;

/// A tenant is noisy with more than one part of this many.
const NOISY_PART: u64 = 10;
/// With fewer messages in flight only processing time makes a tenant noisy.
const IN_FLIGHT_MIN: u64 = 30;
/// Shares of less processing time than this say nothing.
const BUSY_MIN_MS: u64 = 10_000;
/// Without a message in flight for this long a tenant is quiet.
const QUIET_AFTER_MS: u64 = 5 * 60_000;

/// Shards name tenants with more than one part of this many; whoever is noisy in the whole queue
/// has that much where most of its messages are.
pub(super) const NAMED_PART: u64 = 50;

/// What one tenant uses of a queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tenant {
    pub(super) in_flight: u64,
    pub(super) busy_ms: u64,
    /// Messages of it are held back somewhere.
    pub(super) waits: bool,
}

/// What all use of a queue, as far as it is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Usage {
    /// Also messages without a group and of tenants that are not named.
    pub(super) in_flight: u64,
    pub(super) busy_ms: u64,
    pub(super) tenants: BTreeMap<GroupKey, Tenant>,
}

impl Usage {
    pub(super) fn add(&mut self, group: GroupKey, tenant: Tenant) {
        let sum = self.tenants.entry(group).or_default();
        sum.in_flight += tenant.in_flight;
        sum.busy_ms += tenant.busy_ms;
        sum.waits |= tenant.waits;
    }

    pub(super) fn plus(&mut self, other: Usage) {
        self.in_flight += other.in_flight;
        self.busy_ms += other.busy_ms;
        other.tenants.into_iter().for_each(|(group, tenant)| self.add(group, tenant));
    }

    fn is_large(&self, tenant: &Tenant) -> bool {
        let in_flight =
            tenant.in_flight >= IN_FLIGHT_MIN && tenant.in_flight * NOISY_PART > self.in_flight;
        in_flight || self.is_busy(tenant)
    }

    fn is_busy(&self, tenant: &Tenant) -> bool {
        self.busy_ms >= BUSY_MIN_MS && tenant.busy_ms * NOISY_PART > self.busy_ms
    }
}

/// The noisy tenants of one queue, each with the time when something of it was in flight last.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Noisy(BTreeMap<GroupKey, u64>);

impl Noisy {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn groups(&self) -> Vec<GroupKey> {
        self.0.keys().copied().collect()
    }

    /// Decides who is noisy from now on.
    pub(super) fn judge(&mut self, usage: &Usage, now_ms: u64) {
        for (group, tenant) in &usage.tenants {
            if tenant.in_flight > 0 && (self.0.contains_key(group) || usage.is_large(tenant)) {
                self.0.insert(*group, now_ms);
            }
        }
        let quiet = usage.tenants.iter().filter(|(group, _)| !self.0.contains_key(group));
        // Who is not named has less than the part from which shards name tenants.
        let unnamed = usage.in_flight / NAMED_PART;
        let level = quiet.map(|(_, tenant)| tenant.in_flight).fold(unnamed, u64::max);
        self.0.retain(|group, in_flight_ms| {
            let tenant = usage.tenants.get(group).copied().unwrap_or_default();
            let has_nothing = tenant.in_flight == 0 && !tenant.waits;
            let is_level = level > 0 && tenant.in_flight <= level && !usage.is_busy(&tenant);
            let is_idle = now_ms.saturating_sub(*in_flight_ms) >= QUIET_AFTER_MS;
            !has_nothing && !is_level && !is_idle
        });
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;

    use super::*;

    fn group(number: u64) -> GroupKey {
        GroupKey(NonZeroU64::new(number).unwrap())
    }

    fn usage(in_flight: u64, busy_ms: u64, tenants: &[(u64, u64, u64, bool)]) -> Usage {
        let mut usage = Usage { in_flight, busy_ms, ..Usage::default() };
        for &(of, in_flight, busy_ms, waits) in tenants {
            usage.add(group(of), Tenant { in_flight, busy_ms, waits });
        }
        usage
    }

    fn judged(usage: &Usage) -> Vec<GroupKey> {
        let mut noisy = Noisy::default();
        noisy.judge(usage, 0);
        noisy.groups()
    }

    #[test]
    fn a_tenth_and_thirty_in_flight() {
        for (all, mine, is_noisy) in
            [(299, 30, true), (300, 30, false), (100, 29, false), (1_000, 101, true)]
        {
            let found = judged(&usage(all, 0, &[(1, mine, 0, true)]));
            assert_eq!(!found.is_empty(), is_noisy, "{mine} of {all}");
        }
    }

    #[test]
    fn a_tenth_of_the_processing_time_of_at_least_ten_seconds() {
        for (all_ms, mine_ms, is_noisy) in
            [(10_000, 1_001, true), (10_000, 1_000, false), (9_999, 9_999, false)]
        {
            let found = judged(&usage(20, all_ms, &[(1, 1, mine_ms, true)]));
            assert_eq!(!found.is_empty(), is_noisy, "{mine_ms} of {all_ms} ms");
        }
    }

    #[test]
    fn parts_of_several_shards_add_up() {
        let mut all = usage(50, 0, &[(1, 4, 0, false), (2, 10, 0, false)]);
        all.plus(usage(70, 5, &[(1, 26, 0, true)]));
        assert_eq!((all.in_flight, all.busy_ms), (120, 5));
        assert_eq!(judged(&all), [group(1)]);
        assert!(all.tenants[&group(1)].waits);
    }

    #[test]
    fn noisy_until_at_the_level_of_the_quiet_ones() {
        let mut noisy = Noisy::default();
        noisy.judge(&usage(100, 0, &[(1, 80, 0, true), (2, 5, 0, false)]), 0);
        noisy.judge(&usage(20, 0, &[(1, 6, 0, true), (2, 5, 0, false)]), 1_000);
        assert_eq!(noisy.groups(), [group(1)]);
        noisy.judge(&usage(20, 0, &[(1, 5, 0, true), (2, 5, 0, false)]), 2_000);
        assert!(noisy.is_empty());
    }

    #[test]
    fn at_the_level_but_still_busy_is_noisy() {
        let mut noisy = Noisy::default();
        for in_flight in [60, 1] {
            let tenants = [(1, in_flight, 50_000, true), (2, 5, 1_000, false)];
            noisy.judge(&usage(100, 60_000, &tenants), 0);
            assert_eq!(noisy.groups(), [group(1)]);
        }
    }

    #[test]
    fn who_has_nothing_is_quiet_and_who_waits_is_it_after_five_minutes() {
        let mut noisy = Noisy::default();
        let much = usage(80, 0, &[(1, 40, 0, true), (2, 40, 0, true)]);
        noisy.judge(&much, 1_000);
        let later = usage(0, 0, &[(1, 0, 0, false), (2, 0, 0, true)]);
        noisy.judge(&later, 2_000);
        assert_eq!(noisy.groups(), [group(2)]);
        noisy.judge(&later, 1_000 + QUIET_AFTER_MS - 1);
        assert_eq!(noisy.groups(), [group(2)]);
        noisy.judge(&later, 1_000 + QUIET_AFTER_MS);
        assert!(noisy.is_empty());
    }
}
