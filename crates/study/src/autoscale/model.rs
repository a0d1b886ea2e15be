//! A queue and its instances in simulated time, with either rule of how many there are.
//!
//! Both rules get the same messages, the same readings of the queue, the same tolerance, cooldowns
//! and bounds: they differ only in what is measured.

use std::collections::VecDeque;
use std::time::Duration;

use flotilla_autoscale::{Observed, Policy, Scaler};
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};

use super::load::Load;

/// A step of simulated time.
const STEP_S: f64 = 0.05;
/// Between two samples.
const SAMPLE_S: f64 = 5.0;

/// What is tracked.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Rule {
    /// The backlog per instance.
    BacklogPerInstance,
    /// The number of visible messages alone: it is to be this one.
    CountAlone { messages: f64 },
}

/// A service and its load.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    pub(crate) load: Load,
    pub(crate) policy: Policy,
    pub(crate) mean_processing_s: f64,
    /// From the decision until an instance works.
    pub(crate) boot_s: f64,
    pub(crate) interval_s: f64,
    pub(crate) seed: u64,
}

/// What was so at a moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Sample {
    pub(crate) at_s: f64,
    pub(crate) rate: f64,
    pub(crate) backlog: u64,
    pub(crate) instances: u32,
    /// How old the oldest message was that was completed since the last sample, or that waits.
    pub(crate) latency_s: f64,
}

/// What became of it all, in numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Summary {
    pub(crate) mean_s: f64,
    pub(crate) half_s: f64,
    pub(crate) p99_s: f64,
    pub(crate) slowest_s: f64,
    /// The part of the messages that took more than half as long again as is acceptable.
    pub(crate) late: f64,
    pub(crate) instance_hours: f64,
    pub(crate) started: f64,
}

/// Messages that take longer than so many times the acceptable latency are late.
pub(crate) const LATE: f64 = 1.5;

/// What became of it all.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    pub(crate) samples: Vec<Sample>,
    /// Of all messages, in the order of completion.
    pub(crate) latencies_s: Vec<f64>,
    pub(crate) instance_hours: f64,
    /// Instances that were started, over all: what swings starts many.
    pub(crate) started: u32,
}

#[derive(Clone, Copy, Debug)]
enum Instance {
    Booting {
        until: f64,
    },
    Idle,
    /// Until when, and when the message was sent.
    Busy {
        until: f64,
        sent: f64,
        ends: bool,
    },
}

struct Service<'a> {
    scenario: &'a Scenario,
    random: SmallRng,
    waiting: VecDeque<f64>,
    instances: Vec<Instance>,
    latencies: Vec<f64>,
    worst: f64,
}

/// Lets the whole load pass, and the queue run empty.
pub(crate) fn simulate(scenario: &Scenario, rule: Rule) -> Outcome {
    let mut service = Service {
        scenario,
        random: SmallRng::seed_from_u64(scenario.seed),
        waiting: VecDeque::new(),
        instances: vec![Instance::Idle; scenario.policy.min as usize],
        latencies: Vec::new(),
        worst: 0.0,
    };
    let mut scaler = Scaler::new(scenario.policy, Duration::ZERO);
    let mut outcome =
        Outcome { samples: Vec::new(), latencies_s: Vec::new(), instance_hours: 0.0, started: 0 };
    let (mut due_decision, mut due_sample) = (0.0, 0.0);
    let mut step = 0_u64;
    loop {
        let now = step as f64 * STEP_S;
        let is_over = now >= scenario.load.seconds();
        if is_over && service.backlog() == 0 {
            break;
        }
        service.arrive(now);
        service.work(now);
        if now >= due_decision {
            due_decision += scenario.interval_s;
            let before = scaler.instances();
            decide(&mut scaler, rule, &service, now);
            outcome.started += scaler.instances().saturating_sub(before);
            service.resize(now, scaler.instances() as usize);
        }
        // What old messages are left counts with the others; instances, and the picture, end with the load.
        if is_over {
            step += 1;
            continue;
        }
        if now >= due_sample {
            due_sample += SAMPLE_S;
            outcome.samples.push(service.sample(now, scaler.instances()));
        }
        outcome.instance_hours += service.instances.len() as f64 * STEP_S / 3_600.0;
        step += 1;
    }
    outcome.latencies_s = service.latencies;
    outcome
}

fn decide(scaler: &mut Scaler, rule: Rule, service: &Service<'_>, now: f64) {
    let now = Duration::from_secs_f64(now);
    match rule {
        Rule::BacklogPerInstance => {
            let mean_processing = Duration::from_secs_f64(service.scenario.mean_processing_s);
            let backlog = service.backlog();
            scaler.decide(now, Some(Observed { backlog, mean_processing }));
        }
        Rule::CountAlone { messages } => {
            // What target tracking does with any metric: it takes for granted that twice the
            // instances halve it.
            let ratio = service.waiting.len() as f64 / messages;
            let wanted = (f64::from(scaler.instances()) * ratio).ceil();
            scaler.settle(now, wanted, ratio);
        }
    }
}

impl Service<'_> {
    fn arrive(&mut self, now: f64) {
        let load = &self.scenario.load;
        let bursts = load.bursts();
        let burst = bursts.iter().filter(|(at, _)| (now..now + STEP_S).contains(at));
        for _ in 0..burst.map(|(_, messages)| *messages).sum::<u32>() {
            self.waiting.push_back(now);
        }
        // As many as come in a step of a Poisson process: exponential gaps, counted.
        let rate = load.rate(now);
        let mut at = self.gap(rate);
        while at < STEP_S {
            self.waiting.push_back(now);
            at += self.gap(rate);
        }
    }

    fn gap(&mut self, rate: f64) -> f64 {
        let uniform: f64 = self.random.random_range(f64::MIN_POSITIVE..1.0);
        if rate > 0.0 { -uniform.ln() / rate } else { f64::INFINITY }
    }

    fn work(&mut self, now: f64) {
        let mut index = 0;
        while index < self.instances.len() {
            if let Instance::Busy { until, sent, ends } = self.instances[index]
                && until <= now
            {
                self.latencies.push(until - sent);
                self.worst = self.worst.max(until - sent);
                if ends {
                    self.instances.swap_remove(index);
                    continue;
                }
                self.instances[index] = Instance::Idle;
            }
            if let Instance::Booting { until } = self.instances[index]
                && until <= now
            {
                self.instances[index] = Instance::Idle;
            }
            if let Instance::Idle = self.instances[index]
                && let Some(sent) = self.waiting.pop_front()
            {
                let mean = self.scenario.mean_processing_s;
                let until = now + self.random.random_range(0.5 * mean..1.5 * mean);
                self.instances[index] = Instance::Busy { until, sent, ends: false };
            }
            index += 1;
        }
    }

    /// Those that do nothing go at once, the others finish their message first.
    fn resize(&mut self, now: f64, desired: usize) {
        let stays = |one: &&Instance| !matches!(one, Instance::Busy { ends: true, .. });
        let active = self.instances.iter().filter(stays).count();
        for _ in active..desired {
            self.instances.push(Instance::Booting { until: now + self.scenario.boot_s });
        }
        let mut surplus = active.saturating_sub(desired);
        self.instances.retain(|one| {
            let goes = surplus > 0 && !matches!(one, Instance::Busy { .. });
            surplus -= usize::from(goes);
            !goes
        });
        for one in &mut self.instances {
            if let Instance::Busy { ends, .. } = one
                && !*ends
                && surplus > 0
            {
                *ends = true;
                surplus -= 1;
            }
        }
    }

    fn backlog(&self) -> u64 {
        let busy = self.instances.iter().filter(|one| matches!(one, Instance::Busy { .. })).count();
        (self.waiting.len() + busy) as u64
    }

    fn sample(&mut self, now: f64, instances: u32) -> Sample {
        let oldest = self.waiting.front().map_or(0.0, |sent| now - sent);
        let latency_s = std::mem::take(&mut self.worst).max(oldest);
        let rate = self.scenario.load.rate(now);
        Sample { at_s: now, rate, backlog: self.backlog(), instances, latency_s }
    }
}

impl Outcome {
    pub(crate) fn summary(&self, acceptable_s: f64) -> Summary {
        let mut sorted = self.latencies_s.clone();
        sorted.sort_by(f64::total_cmp);
        let quantile = |part: f64| {
            let index = (part * sorted.len().saturating_sub(1) as f64).round() as usize;
            sorted.get(index).copied().unwrap_or(0.0)
        };
        Summary {
            mean_s: sorted.iter().sum::<f64>() / sorted.len().max(1) as f64,
            half_s: quantile(0.5),
            p99_s: quantile(0.99),
            slowest_s: quantile(1.0),
            late: self.late(LATE * acceptable_s),
            instance_hours: self.instance_hours,
            started: f64::from(self.started),
        }
    }

    /// The part of all messages that took longer.
    pub(crate) fn late(&self, than_s: f64) -> f64 {
        let late = self.latencies_s.iter().filter(|latency| **latency > than_s).count();
        late as f64 / self.latencies_s.len().max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::super::scenario;
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_run() {
        let mut scenario = scenario(7);
        scenario.load.phases.truncate(2);
        let run = || simulate(&scenario, Rule::BacklogPerInstance).samples;
        assert_eq!(run(), run());
    }

    #[test]
    fn at_a_steady_load_latency_settles_below_the_acceptable_one_and_nothing_flaps() {
        for rate in [2.0, 20.0] {
            let mut scenario = scenario(3);
            scenario.load = Load::new(&[(3_600.0, rate, rate, 0)]);
            let outcome = simulate(&scenario, Rule::BacklogPerInstance);
            let acceptable = scenario.policy.acceptable_latency.as_secs_f64();
            let late = &outcome.samples[outcome.samples.len() / 3..];
            let worst = late.iter().map(|sample| sample.latency_s).fold(0.0, f64::max);
            assert!(worst < 1.5 * acceptable, "{rate}: {worst}");
            let counts = late.iter().map(|sample| sample.instances);
            let (least, most) = (counts.clone().min().unwrap(), counts.max().unwrap());
            assert!(most <= 2 * least + 1, "{rate}: {least} to {most}");
        }
    }

    #[test]
    fn the_count_alone_starts_more_and_is_late_at_another_load() {
        for seed in 0..2 {
            let scenario = scenario(seed);
            let acceptable = scenario.policy.acceptable_latency.as_secs_f64();
            let good = simulate(&scenario, Rule::BacklogPerInstance);
            let naive = simulate(&scenario, Rule::CountAlone { messages: 600.0 });
            assert!(naive.started > 3 * good.started, "{} {}", naive.started, good.started);
            // In the last ten minutes, with a load that it was not set for, it is late as well.
            let worst = |run: &Outcome| {
                let last = run.samples.iter().rev().take((600.0 / SAMPLE_S) as usize);
                last.map(|sample| sample.latency_s).fold(0.0, f64::max)
            };
            let (good, naive) = (worst(&good), worst(&naive));
            assert!(good < 1.5 * acceptable && naive > 2.0 * acceptable, "{good} {naive}");
        }
    }
}
