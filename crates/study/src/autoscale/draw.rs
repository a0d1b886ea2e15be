//! The charts.

use crate::chart::{Chart, Ink, Mark, Panel, Rule, Series, Shape};

use super::load::Load;
use super::model::{Outcome, Sample, Scenario};
use super::seen::{Moment, Seen};

const GOOD: &str = "scaled by backlog per instance";
const NAIVE: &str = "scaled by number of messages alone";

fn panel(title: &str, height: f64, series: Vec<Series>) -> Panel {
    Panel { title: title.to_owned(), height, series, rule: None }
}

fn series(name: &str, ink: Ink, shape: Shape, points: Vec<(f64, f64)>) -> Series {
    Series { name: name.to_owned(), ink, shape, points }
}

fn marks(load: &Load, per: f64) -> Vec<Mark> {
    let mark = |(at, messages): (f64, u32)| Mark {
        at: at / per,
        label: format!("burst of {messages} messages"),
    };
    load.bursts().into_iter().map(mark).collect()
}

/// Both rules over the same load.
pub(super) fn comparison(
    scenario: &Scenario,
    good: &Outcome,
    naive: &Outcome,
    count: f64,
) -> Chart {
    let points = |run: &Outcome, value: fn(&Sample) -> f64| {
        run.samples.iter().map(|sample| (sample.at_s / 60.0, value(sample))).collect()
    };
    let both = |shape, value: fn(&Sample) -> f64| {
        vec![
            series(NAIVE, Ink::Vermilion, shape, points(naive, value)),
            series(GOOD, Ink::Blue, shape, points(good, value)),
        ]
    };
    let acceptable = scenario.policy.acceptable_latency.as_secs_f64();
    let rate = points(good, |sample| sample.rate);
    let load = series("", Ink::Grey, Shape::Area, rate);
    let started = format!("Instances ({} were started, against {})", good.started, naive.started);
    let (longest, naive_longest) = (good.quantile_s(1.0), naive.quantile_s(1.0));
    let slowest = format!(
        "Latency of the slowest message (seconds; {longest:.0} at most, against {naive_longest:.0})"
    );
    let mut latency = panel(&slowest, 150.0, both(Shape::Line, |s| s.latency_s));
    let label = format!("acceptable: {acceptable} s");
    latency.rule = Some(Rule { at: acceptable, label });
    Chart {
        title: "Scaled by backlog per instance: calm. By number of messages: it swings".to_owned(),
        subtitle: format!(
            "Simulation: {} s per message; same readings, cooldowns and bounds for both; \
             {count} messages are right for the first 15 minutes",
            scenario.mean_processing_s
        ),
        x_title: "time (minutes)".to_owned(),
        marks: marks(&scenario.load, 60.0),
        panels: vec![
            panel("Messages arriving (per second)", 60.0, vec![load]),
            panel(&started, 150.0, both(Shape::Steps, |s| f64::from(s.instances))),
            latency,
            panel("Unfinished messages", 120.0, both(Shape::Line, |s| s.backlog as f64)),
        ],
    }
}

/// What real workers did.
pub(super) fn live(seen: &Seen) -> Chart {
    let points = |value: fn(&Moment) -> f64| {
        seen.moments.iter().map(|moment| (moment.at_s, value(moment))).collect::<Vec<_>>()
    };
    let one = |shape, points| vec![series("", Ink::Blue, shape, points)];
    let rate = seen.moments.iter().map(|moment| (moment.at_s, seen.load.rate(moment.at_s)));
    let load = series("", Ink::Grey, Shape::Area, rate.collect());
    // The target moves with the mean processing time, which is measured.
    let backlogs = vec![
        series("target", Ink::Green, Shape::Steps, points(|m| m.acceptable)),
        series("", Ink::Blue, Shape::Line, points(|m| m.per_instance)),
    ];
    // A standard queue keeps no order: some messages are overtaken.
    let ages = vec![
        series("slowest message", Ink::Vermilion, Shape::Line, seen.latency(1.0)),
        series("median message", Ink::Blue, Shape::Line, seen.latency(0.5)),
    ];
    let mut latency = panel("Latency (seconds)", 130.0, ages);
    let acceptable = seen.acceptable_latency_s;
    latency.rule = Some(Rule { at: acceptable, label: format!("acceptable: {acceptable} s") });
    Chart {
        title: match seen.lost() {
            0 => format!("Real workers follow the load; none of {} messages was lost", seen.sent),
            lost => format!("{lost} of {} messages were lost", seen.sent),
        },
        subtitle: format!(
            "flotilla autoscale with processes at a standard queue, which keeps no order; {:.0} ms of \
             work for each message",
            seen.work_ms
        ),
        x_title: "time (seconds)".to_owned(),
        marks: marks(&seen.load, 1.0),
        panels: vec![
            panel("Messages sent (per second)", 60.0, vec![load]),
            panel("Instances", 130.0, one(Shape::Steps, points(|m| m.running))),
            panel("Backlog per instance (messages)", 130.0, backlogs),
            latency,
        ],
    }
}
