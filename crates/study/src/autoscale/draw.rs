//! The charts.

use crate::plot::{Axis, Colour, Dash, Event, Figure, Layer, Mark, Plot, number};

use super::load::Load;
use super::model::{Outcome, Sample, Scenario};
use super::seen::{Moment, Seen};

const GOOD: &str = "scaled by backlog per instance";
const NAIVE: &str = "scaled by number of messages alone";

type Points = Vec<(f64, f64)>;
/// How a line of these dashes is drawn.
type Shape = fn(Dash) -> Mark;

fn arrivals(rate: Points) -> Layer {
    Layer::new("", Colour::Grey, Mark::Area, rate)
}

/// With times in units of this many seconds.
fn bursts(load: &Load, unit_s: f64) -> Vec<Event> {
    let event = |(at, messages): (f64, u32)| Event {
        at: at / unit_s,
        label: format!("burst of {} messages", number(f64::from(messages))),
    };
    load.bursts().into_iter().map(event).collect()
}

/// Both rules over the same load.
pub(super) fn comparison(
    scenario: &Scenario,
    good: &Outcome,
    naive: &Outcome,
    count: f64,
) -> Figure {
    let points = |run: &Outcome, value: fn(&Sample) -> f64| -> Points {
        run.samples.iter().map(|sample| (sample.at_s / 60.0, value(sample))).collect()
    };
    let both = |shape: Shape, value: fn(&Sample) -> f64| {
        vec![
            Layer::new(NAIVE, Colour::Vermilion, shape(Dash::Dashed), points(naive, value)),
            Layer::new(GOOD, Colour::Blue, shape(Dash::Solid), points(good, value)),
        ]
    };
    let started = format!("Instances ({} were started, against {})", good.started, naive.started);
    let (longest, naive_longest) = (good.quantile_s(1.0), naive.quantile_s(1.0));
    let slowest = format!(
        "Latency of the slowest message (seconds; {longest:.0} at most, against {naive_longest:.0})"
    );
    let acceptable = scenario.policy.acceptable_latency.as_secs_f64();
    let rate = arrivals(points(good, |sample| sample.rate));
    let plots = vec![
        Plot::over_time("Messages arriving (per second)", 60.0, vec![rate]),
        Plot::over_time(&started, 150.0, both(Mark::Steps, |s| f64::from(s.instances))),
        Plot::over_time(&slowest, 150.0, both(Mark::Line, |s| s.latency_s))
            .rule(acceptable, format!("acceptable: {acceptable} s")),
        Plot::over_time("Unfinished messages", 120.0, both(Mark::Line, |s| s.backlog as f64)),
    ];
    let subtitle = format!(
        "Simulation: {} s per message; same readings, cooldowns and bounds for both; \
         {count} messages are right for the first 15 minutes",
        scenario.mean_processing_s
    );
    let title = "Scaled by backlog per instance: calm. By number of messages: it swings".to_owned();
    let time = Axis::linear("time (minutes)").range(0.0, scenario.load.seconds() / 60.0);
    Figure::stack(title, subtitle, &time, plots).events(bursts(&scenario.load, 60.0))
}

/// What real workers did.
pub(super) fn live(seen: &Seen) -> Figure {
    let points = |value: fn(&Moment) -> f64| -> Points {
        seen.moments.iter().map(|moment| (moment.at_s, value(moment))).collect()
    };
    let rate = seen.moments.iter().map(|moment| (moment.at_s, seen.load.rate(moment.at_s)));
    let rate = arrivals(rate.collect());
    // Black is what stands alone: blue is a message's latency.
    let one = |mark, points: Points| Layer::new("", Colour::Black, mark, points);
    let running = one(Mark::Steps(Dash::Solid), points(|moment| moment.running));
    // The target moves with the mean processing time, which is measured.
    let target = points(|moment| moment.acceptable);
    let backlogs = vec![
        one(Mark::Line(Dash::Solid), points(|moment| moment.per_instance)),
        Layer::new("target", Colour::Green, Mark::Steps(Dash::Dotted), target),
    ];
    // A standard queue keeps no order: some messages are overtaken.
    let (slowest, median) = (seen.latency(1.0), seen.latency(0.5));
    let ages = vec![
        Layer::new("slowest message", Colour::Vermilion, Mark::Line(Dash::Dashed), slowest),
        Layer::new("median message", Colour::Blue, Mark::Line(Dash::Solid), median),
    ];
    let acceptable = seen.acceptable_latency_s;
    let plots = vec![
        Plot::over_time("Messages sent (per second)", 60.0, vec![rate]),
        Plot::over_time("Instances", 130.0, vec![running]),
        Plot::over_time("Backlog per instance (messages)", 130.0, backlogs),
        Plot::over_time("Latency (seconds)", 130.0, ages)
            .rule(acceptable, format!("acceptable: {acceptable} s")),
    ];
    let sent = number(seen.sent as f64);
    let title = match seen.lost() {
        0 => format!("Real workers follow the load; none of {sent} messages was lost"),
        lost => format!("{} of {sent} messages were lost", number(lost as f64)),
    };
    let subtitle = format!(
        "flotilla autoscale with processes at a standard queue, which keeps no order; {:.0} ms of \
         work for each message",
        seen.work_ms
    );
    let end = seen.moments.last().map_or(0.0, |moment| moment.at_s).max(seen.load.seconds());
    let time = Axis::linear("time (seconds)").range(0.0, end);
    Figure::stack(title, subtitle, &time, plots).events(bursts(&seen.load, 1.0))
}
