use proptest::prelude::*;

use super::*;

const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// 100 messages for each instance.
fn policy() -> Policy {
    Policy {
        acceptable_latency: s(10),
        min: 1,
        max: 10,
        tolerance: 0.1,
        scale_out_cooldown: s(5),
        scale_in_cooldown: s(60),
    }
}

fn seen(backlog: u64) -> Option<Observed> {
    Some(Observed { backlog, mean_processing: Duration::from_millis(100) })
}

fn is(decision: Decision, instances: u32, reason: Reason) {
    assert_eq!(decision, Decision { instances, reason });
}

#[test]
fn as_many_as_bring_the_backlog_of_each_to_the_target() {
    let mut scaler = Scaler::new(policy(), s(0));
    is(scaler.decide(s(0), seen(0)), 1, Reason::OnTarget);
    is(scaler.decide(s(1), seen(100)), 1, Reason::OnTarget);
    is(scaler.decide(s(2), seen(401)), 5, Reason::ScaledOut);
    is(scaler.decide(s(3), seen(500)), 5, Reason::OnTarget);
    // The bound holds, and slower work wants more instances for the same backlog.
    is(scaler.decide(s(20), seen(1_000_000)), 10, Reason::ScaledOut);
    is(scaler.decide(s(40), seen(u64::MAX)), 10, Reason::OnTarget);
    let mut scaler = Scaler::new(policy(), s(0));
    let slow = Observed { backlog: 401, mean_processing: Duration::from_millis(150) };
    is(scaler.decide(s(0), Some(slow)), 7, Reason::ScaledOut);
}

#[test]
fn a_little_too_much_is_tolerated() {
    let mut scaler = Scaler::new(policy(), s(0));
    is(scaler.decide(s(0), seen(110)), 1, Reason::WithinTolerance);
    is(scaler.decide(s(1), seen(111)), 2, Reason::ScaledOut);
    // So is a little too few, when there are many.
    let mut scaler = Scaler::new(Policy { max: 50, ..policy() }, s(0));
    is(scaler.decide(s(0), seen(5_000)), 50, Reason::ScaledOut);
    is(scaler.decide(s(100), seen(4_600)), 50, Reason::WithinTolerance);
    is(scaler.decide(s(200), seen(4_400)), 44, Reason::ScaledIn);
}

#[test]
fn started_instances_get_time_to_begin() {
    let mut scaler = Scaler::new(policy(), s(0));
    is(scaler.decide(s(0), seen(200)), 2, Reason::ScaledOut);
    is(scaler.decide(s(4), seen(700)), 2, Reason::ScaleOutCooldown);
    is(scaler.decide(s(5), seen(700)), 7, Reason::ScaledOut);
}

#[test]
fn instances_are_ended_when_fewer_were_enough_for_the_whole_cooldown() {
    let mut scaler = Scaler::new(policy(), s(0));
    is(scaler.decide(s(0), seen(800)), 8, Reason::ScaledOut);
    is(scaler.decide(s(30), seen(0)), 8, Reason::ScaleInCooldown);
    is(scaler.decide(s(59), seen(410)), 8, Reason::ScaleInCooldown);
    is(scaler.decide(s(60), seen(0)), 8, Reason::ScaleInCooldown);
    // Five were wanted two seconds ago.
    is(scaler.decide(s(61), seen(0)), 5, Reason::ScaledIn);
    is(scaler.decide(s(120), seen(0)), 5, Reason::ScaleInCooldown);
    // Half of them at once, at most.
    is(scaler.decide(s(121), seen(0)), 2, Reason::ScaledIn);
    is(scaler.decide(s(122), seen(500)), 5, Reason::ScaledOut);
}

#[test]
fn a_queue_that_cannot_be_read_changes_nothing() {
    let mut scaler = Scaler::new(policy(), s(0));
    is(scaler.decide(s(0), seen(800)), 8, Reason::ScaledOut);
    for second in 1..300 {
        is(scaler.decide(s(second), None), 8, Reason::Unknown);
    }
}

#[test]
fn the_first_reading_after_an_outage_ends_nobody() {
    let mut scaler = Scaler::new(policy(), s(0));
    is(scaler.decide(s(0), seen(800)), 8, Reason::ScaledOut);
    for second in 1..300 {
        scaler.decide(s(second), None);
    }
    is(scaler.decide(s(300), seen(0)), 8, Reason::ScaleInCooldown);
    is(scaler.decide(s(359), seen(100)), 8, Reason::ScaleInCooldown);
    // Only now have fewer been enough, as far as anybody knows, for the whole cooldown.
    is(scaler.decide(s(360), seen(0)), 4, Reason::ScaledIn);
}

#[test]
fn the_odd_failed_reading_keeps_no_instances_for_ever() {
    let mut scaler = Scaler::new(policy(), s(0));
    is(scaler.decide(s(0), seen(800)), 8, Reason::ScaledOut);
    for second in 1..=60 {
        let observed = if second % 20 == 0 { None } else { seen(0) };
        assert_eq!(scaler.decide(s(second), observed).instances, 8);
    }
    is(scaler.decide(s(61), seen(0)), 4, Reason::ScaledIn);
}

#[test]
fn nor_does_that_of_a_slow_reader() {
    let mut scaler = Scaler::new(policy(), s(0));
    is(scaler.decide(s(0), seen(800)), 8, Reason::ScaledOut);
    for (second, observed) in [(20, seen(0)), (40, None), (60, seen(0))] {
        assert_eq!(scaler.decide(s(second), observed).instances, 8);
    }
    is(scaler.decide(s(80), seen(0)), 4, Reason::ScaledIn);
}

#[test]
fn a_silence_of_a_part_of_the_cooldown_begins_it_anew() {
    let mut scaler = Scaler::new(policy(), s(0));
    is(scaler.decide(s(0), seen(800)), 8, Reason::ScaledOut);
    is(scaler.decide(s(30), seen(0)), 8, Reason::ScaleInCooldown);
    for second in 31..50 {
        is(scaler.decide(s(second), None), 8, Reason::Unknown);
    }
    is(scaler.decide(s(109), seen(0)), 8, Reason::ScaleInCooldown);
    is(scaler.decide(s(110), seen(0)), 4, Reason::ScaledIn);
}

#[test]
fn nobody_works_at_an_empty_queue_if_nobody_has_to() {
    let mut scaler = Scaler::new(Policy { min: 0, ..policy() }, s(0));
    is(scaler.decide(s(0), seen(0)), 0, Reason::OnTarget);
    is(scaler.decide(s(1), seen(1)), 1, Reason::ScaledOut);
    is(scaler.decide(s(61), seen(0)), 1, Reason::ScaleInCooldown);
    is(scaler.decide(s(62), seen(0)), 0, Reason::ScaledIn);
}

prop_compose! {
    fn policies()(
        latency_ms in 1_u64..100_000,
        min in 0_u32..20,
        more in 1_u32..50,
        tolerance in 0.0..0.99,
        out_s in 0_u64..100,
        in_s in 0_u64..300,
    ) -> Policy {
        Policy {
            acceptable_latency: Duration::from_millis(latency_ms),
            min,
            max: min + more,
            tolerance,
            scale_out_cooldown: s(out_s),
            scale_in_cooldown: s(in_s),
        }
    }
}

/// Steps in time, and what is seen then.
fn observations() -> impl Strategy<Value = Vec<(u64, Option<Observed>)>> {
    let observed = (0_u64..20_000, 0_u64..5_000).prop_map(|(backlog, mean_ms)| Observed {
        backlog,
        mean_processing: Duration::from_millis(mean_ms),
    });
    prop::collection::vec((0_u64..60, prop::option::weighted(0.9, observed)), 1..200)
}

proptest! {
    #[test]
    fn bounds_and_cooldowns_hold(policy in policies(), steps in observations()) {
        let mut scaler = Scaler::new(policy.checked().unwrap(), s(0));
        let (mut now, mut before) = (s(0), policy.min);
        let (mut last_out, mut last_change) = (None, s(0));
        for (step, observed) in steps {
            now += s(step);
            let Decision { instances, reason } = scaler.decide(now, observed);
            prop_assert!((policy.min..=policy.max).contains(&instances));
            prop_assert_eq!(instances > before, reason == Reason::ScaledOut);
            prop_assert_eq!(instances < before, reason == Reason::ScaledIn);
            prop_assert!(observed.is_some() || instances == before);
            if instances > before {
                prop_assert!(last_out.is_none_or(|last| now - last >= policy.scale_out_cooldown));
                last_out = Some(now);
            }
            if instances < before {
                prop_assert!(now - last_change >= policy.scale_in_cooldown);
                prop_assert!(instances >= before / 2);
            }
            if instances != before {
                last_change = now;
            }
            prop_assert!(scaler.wanted.len() <= (policy.max - policy.min + 1) as usize);
            before = instances;
        }
    }

    /// A backlog that moves within the tolerance around any level causes no flapping: the
    /// instances settle, and then stay.
    #[test]
    fn noise_within_the_tolerance_changes_nothing_for_long(
        policy in policies(),
        level in 0_u64..20_000,
        noise in prop::collection::vec(-1.0..1.0, 300..400),
    ) {
        let policy = Policy { tolerance: policy.tolerance.clamp(0.05, 0.3), ..policy };
        let mut scaler = Scaler::new(policy, s(0));
        let mut changes = Vec::new();
        let mut before = policy.min;
        for (second, noise) in (0_u64..).step_by(5).zip(noise) {
            // The highest then exceeds the lowest by less than the tolerance.
            let part = 1.0 + noise * policy.tolerance / 2.5;
            let backlog = (level as f64 * part) as u64;
            let mean_processing = Duration::from_millis(100);
            let observed = Some(Observed { backlog, mean_processing });
            let Decision { instances, .. } = scaler.decide(s(second), observed);
            if instances != before {
                changes.push(instances > before);
                before = instances;
            }
        }
        let turns = changes.windows(2).filter(|pair| pair[0] != pair[1]).count();
        prop_assert!(turns <= 1, "{changes:?}");
    }

    #[test]
    fn more_messages_never_want_fewer_instances(
        policy in policies(),
        one in 0_u64..20_000,
        more in 0_u64..20_000,
    ) {
        let first = |backlog| Scaler::new(policy, s(0)).decide(s(0), seen(backlog)).instances;
        prop_assert!(first(one) <= first(one + more));
    }
}
