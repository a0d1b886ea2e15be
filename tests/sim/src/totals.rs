//! What many seeds say together, and whether that is enough.

use std::collections::BTreeMap;
use std::time::Duration;

use flotilla_history::Invariant;
use flotilla_probe::point::Stage;
use flotilla_probe::{Point, Sight};
use serde_json::Value;

use crate::fault::FaultKind;
use crate::seeds::Said;

/// What has to be seen.
pub(crate) struct Minimum {
    /// Cluster-hours, rests not counted.
    pub(crate) hours: f64,
    /// Every rule, every kind of fault, and every state that a simulation must reach.
    pub(crate) everything: bool,
}

/// Sums.
#[derive(Default)]
pub(crate) struct Totals {
    runs: u64,
    bad: Vec<u64>,
    sums: BTreeMap<&'static str, u64>,
    examined: BTreeMap<String, u64>,
    /// By kind: how often it was made, and seen to take place.
    faults: BTreeMap<String, (u64, u64)>,
    points: BTreeMap<String, u64>,
    sights: BTreeMap<String, u64>,
}

/// What a few hundred runs now and then do not come to. A night's do.
const RARE: [&str; 4] = ["receiver-gone", "candidate-gone", "flush-error", "move-passed-on"];
const MANY_RUNS: u64 = 1_000;

const SUMS: [&str; 10] = [
    "simulated_ms",
    "rested_ms",
    "real_ms",
    "records",
    "sends",
    "applied",
    "compared",
    "durable",
    "audited",
    "checks",
];

/// Adds the numbers of an object to those of the same names.
fn sum(into: &mut BTreeMap<String, u64>, object: &Value) {
    for (name, number) in object.as_object().into_iter().flatten() {
        *into.entry(name.clone()).or_default() += number.as_u64().unwrap_or(0);
    }
}

impl Totals {
    pub(crate) fn runs(&self) -> u64 {
        self.runs
    }

    pub(crate) fn add(&mut self, said: &Said) {
        self.runs += 1;
        if !said.good {
            self.bad.push(said.seed);
        }
        for name in SUMS {
            *self.sums.entry(name).or_default() += said.summary[name].as_u64().unwrap_or(0);
        }
        sum(&mut self.examined, &said.summary["examined"]);
        sum(&mut self.points, &said.summary["probes"]["points"]);
        sum(&mut self.sights, &said.summary["probes"]["sights"]);
        for (kind, times) in said.summary["faults"].as_object().into_iter().flatten() {
            let of = self.faults.entry(kind.clone()).or_default();
            of.0 += times[0].as_u64().unwrap_or(0);
            of.1 += times[1].as_u64().unwrap_or(0);
        }
    }

    /// A seed of which nothing is known.
    pub(crate) fn broke(&mut self, seed: u64) {
        self.runs += 1;
        self.bad.push(seed);
    }

    fn hours(&self, name: &str) -> f64 {
        self.sum(name) as f64 / 3_600_000.0
    }

    fn sum(&self, name: &str) -> u64 {
        self.sums.get(name).copied().unwrap_or(0)
    }

    pub(crate) fn print(&self, took: Duration) {
        let hours = self.hours("simulated_ms");
        let faults: u64 = self.faults.values().map(|(_, fired)| fired).sum();
        println!(
            "{} seeds ({} bad) in {:.0} s: {hours:.2} cluster-hours ({:.1} in a core-hour, rests of \
             {:.2} h not counted), {} requests, {} messages acknowledged, {faults} faults, {} entries \
             applied, {} by another replica too and the same, {} durable when they were first applied, \
             {} recovered, memory equal to rows {} times",
            self.runs,
            self.bad.len(),
            took.as_secs_f64(),
            hours / self.hours("real_ms").max(f64::MIN_POSITIVE),
            self.hours("rested_ms"),
            self.sum("records"),
            self.sum("sends"),
            self.sum("applied"),
            self.sum("compared"),
            self.sum("durable"),
            self.sum("audited"),
            self.sum("checks"),
        );
    }

    /// Says what is missing; whether all is well.
    pub(crate) fn conclude(&self, minimum: &Minimum) -> bool {
        let missing = self.missing(minimum);
        if minimum.everything {
            self.print_faults();
        }
        for what in &missing {
            println!("MISSING: {what}");
        }
        if !self.bad.is_empty() {
            println!("bad seeds: {:?}", self.bad);
        }
        self.bad.is_empty() && self.runs > 0 && missing.is_empty()
    }

    fn print_faults(&self) {
        let of = |(kind, (asked, fired)): (&String, &(u64, u64))| format!("{kind} {fired}/{asked}");
        let faults: Vec<String> = self.faults.iter().map(of).collect();
        println!("faults that took place, of those made: {}", faults.join(", "));
        let of = |(rule, cases): (&String, &u64)| format!("{rule} {cases}");
        let examined: Vec<String> = self.examined.iter().map(of).collect();
        println!("cases of each rule: {}", examined.join(", "));
        let of = |(state, times): (&String, &u64)| format!("{state} {times}");
        let states: Vec<String> = self.sights.iter().map(of).collect();
        println!("states reached: {}", states.join(", "));
    }

    /// Whether so few runs may come to it by chance only.
    fn is_rare(&self, name: &str) -> bool {
        self.runs < MANY_RUNS && RARE.contains(&name)
    }

    /// What was to be seen and was not.
    fn missing(&self, minimum: &Minimum) -> Vec<String> {
        let mut missing = Vec::new();
        let hours = self.hours("simulated_ms");
        if hours < minimum.hours {
            missing.push(format!("{hours:.2} cluster-hours, and {} are wanted", minimum.hours));
        }
        if !minimum.everything {
            return missing;
        }
        for rule in Invariant::ALL {
            if self.examined.get(rule.id()).is_none_or(|cases| *cases == 0) {
                missing
                    .push(format!("{rule} ({}) had nothing to examine in any seed", rule.title()));
            }
        }
        for kind in FaultKind::ALL {
            // Failpoints are there in builds with probes only.
            let can =
                !matches!(kind, FaultKind::Crash | FaultKind::Fail) || flotilla_probe::ENABLED;
            if can
                && !self.is_rare(kind.name())
                && self.faults.get(kind.name()).is_none_or(|(_, fired)| *fired == 0)
            {
                missing.push(format!("the fault {} never took place", kind.name()));
            }
        }
        let simulated = Sight::ALL.iter().filter(|sight| sight.is_simulated());
        let expected = |sight: &&Sight| flotilla_probe::ENABLED && !self.is_rare(sight.name());
        for sight in simulated.filter(expected) {
            if self.sights.get(sight.name()).is_none_or(|times| *times == 0) {
                missing.push(format!("the state {} was never reached", sight.name()));
            }
        }
        let comes_there = |point: &&Point| is_simulated(point) && !self.is_rare(point.name());
        for point in Point::ALL.iter().filter(|_| flotilla_probe::ENABLED).filter(comes_there) {
            if self.points.get(point.name()).is_none_or(|times| *times == 0) {
                missing.push(format!("no node came to {}", point.name()));
            }
        }
        missing
    }
}

/// Whether nodes come there: none ends in order here.
fn is_simulated(point: &Point) -> bool {
    point.stage() != Stage::Leave
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn said(seed: u64, faults: Value, examined: Value) -> Said {
        let summary = json!({ "simulated_ms": 3_600_000, "faults": faults, "examined": examined });
        Said { seed, good: true, text: String::new(), summary }
    }

    #[test]
    fn what_no_seed_came_to_is_missing() {
        let mut totals = Totals::default();
        totals.add(&said(1, json!({ "pause": [1, 0] }), json!({ "S1": 0, "S2": 3 })));
        totals.add(&said(2, json!({ "pause": [2, 1], "loss": [1, 0] }), json!({ "S1": 2 })));
        let missing = totals.missing(&Minimum { hours: 3.0, everything: true });
        let has = |what: &str| missing.iter().any(|it| it.contains(what));
        assert!(has("2.00 cluster-hours"));
        assert!(!has("S1 (") && !has("S2 (") && has("S3 ("));
        assert!(!has("fault pause") && has("fault loss") && has("fault ring"));
        assert_eq!(totals.missing(&Minimum { hours: 2.0, everything: false }), [""; 0]);
    }
}
