//! The charts.

use crate::plot::{Axis, Colour, Dash, Event, Figure, Layer, Mark, Plot, number};

use super::Comparison;
use super::load::Load;
use super::model::{Outcome, Sample, Scenario, Summary};
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

/// Of one of both rules' runs.
fn mean(runs: &[Summary], of: impl Fn(&Summary) -> f64) -> f64 {
    runs.iter().map(of).sum::<f64>() / runs.len().max(1) as f64
}

/// Both rules over the same load.
pub(super) fn comparison(
    all: &Comparison,
    scenario: &Scenario,
    (good, naive): &(Outcome, Outcome),
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
    let of = |value: fn(&Summary) -> f64| (mean(&all.good, value), mean(&all.naive, value));
    let (hours, naive_hours) = of(|one| one.instance_hours);
    let (started, naive_started) = of(|one| one.started);
    let (average, naive_average) = of(|one| one.mean_s);
    let (p99, naive_p99) = of(|one| one.p99_s);
    let counts = format!(
        "Instances ({started:.0} were started, {naive_started:.0} by the number of messages)"
    );
    let slowest = format!(
        "Latency of the slowest message (seconds; mean of all {average:.0}, against {naive_average:.0}; 99 % within {p99:.0}, \
         against {naive_p99:.0})"
    );
    let acceptable = scenario.policy.acceptable_latency.as_secs_f64();
    let rate = arrivals(points(good, |sample| sample.rate));
    let plots = vec![
        Plot::over_time("Messages arriving (per second)", 60.0, vec![rate]),
        Plot::over_time(&counts, 150.0, both(Mark::Steps, |s| f64::from(s.instances))),
        Plot::over_time(&slowest, 150.0, both(Mark::Line, |s| s.latency_s))
            .rule(acceptable, format!("acceptable: {acceptable} s")),
        Plot::over_time("Unfinished messages", 120.0, both(Mark::Line, |s| s.backlog as f64)),
    ];
    let subtitle = format!(
        "Simulation: {} s per message; same readings, cooldowns and bounds; the number is to be {:.0} messages, what may wait when \
         it is busiest; numbers are means of {} seeds, lines of the first",
        scenario.mean_processing_s,
        all.count,
        all.good.len()
    );
    let title = format!(
        "The number of messages alone starts {:.1} times as many instances, for {naive_hours:.0} instance-hours instead of {hours:.0}",
        naive_started / started
    );
    let time = Axis::linear("time (minutes)").range(0.0, scenario.load.seconds() / 60.0);
    Figure::stack(title, subtitle, &time, plots).events(bursts(&scenario.load, 60.0))
}

/// Lines of both ways, if there are both.
fn lines(
    seen: &Seen,
    counted: Option<&Seen>,
    shape: Shape,
    value: impl Fn(&Seen) -> Points,
) -> Vec<Layer> {
    let mut layers = Vec::new();
    if let Some(counted) = counted {
        layers.push(Layer::new(NAIVE, Colour::Vermilion, shape(Dash::Dashed), value(counted)));
    }
    // Black is what stands alone.
    let (name, colour) = match counted {
        Some(_) => (GOOD, Colour::Blue),
        None => ("", Colour::Black),
    };
    layers.push(Layer::new(name, colour, shape(Dash::Solid), value(seen)));
    layers
}

/// What real workers did, beside those that were scaled by the number of messages alone.
pub(super) fn live(seen: &Seen, counted: Option<&Seen>) -> Figure {
    let points = |seen: &Seen, value: fn(&Moment) -> f64| -> Points {
        seen.moments.iter().map(|moment| (moment.at_s, value(moment))).collect()
    };
    let rate = seen.moments.iter().map(|moment| (moment.at_s, seen.load.rate(moment.at_s)));
    let rate = arrivals(rate.collect());
    let running = lines(seen, counted, Mark::Steps, |seen| points(seen, |moment| moment.running));
    let mut backlogs =
        lines(seen, counted, Mark::Line, |seen| points(seen, |moment| moment.per_instance));
    // The target moves with the mean processing time, which is measured.
    let target = points(seen, |moment| moment.acceptable);
    backlogs.push(Layer::new("target", Colour::Green, Mark::Steps(Dash::Dotted), target));
    let acceptable = seen.acceptable_latency_s;
    let ages = |title: &str, part: f64| {
        Plot::over_time(title, 110.0, lines(seen, counted, Mark::Line, |seen| seen.latency(part)))
            .rule(acceptable, format!("acceptable: {acceptable} s"))
    };
    let started = match counted {
        Some(counted) => format!(
            "Instances ({:.0} were started beside the first, {:.0} by the number of messages)",
            seen.started(),
            counted.started()
        ),
        None => "Instances".to_owned(),
    };
    // What is far above the target must not make what is near it look like nothing.
    let mut backlog = Plot::over_time("Backlog per instance (messages)", 130.0, backlogs);
    let values = backlog.layers.iter().flat_map(|layer| &layer.points).map(|point| point.y);
    backlog.y = Axis::log("").range(1.0, 1.5 * values.fold(10.0, f64::max));
    let plots = vec![
        Plot::over_time("Messages sent (per second)", 60.0, vec![rate]),
        Plot::over_time(&started, 130.0, running),
        backlog,
        ages("Latency of the median message (seconds)", 0.5),
        ages("Latency of the slowest message (seconds)", 1.0),
    ];
    let sent = number(seen.sent as f64);
    let title = match seen.lost() {
        0 => format!(
            "Real workers follow the load: {:.0} % of the time near the target; none of {sent} messages was lost",
            100.0 * seen.near()
        ),
        lost => format!("{} of {sent} messages were lost", number(lost as f64)),
    };
    let subtitle = format!(
        "flotilla autoscale with processes at a standard queue, which keeps no order; {:.0} ms of work for each message; \
         near: within half of the target, from the rise until the load falls",
        seen.work_ms
    );
    let end = seen.moments.last().map_or(0.0, |moment| moment.at_s).max(seen.load.seconds());
    let time = Axis::linear("time (seconds)").range(0.0, end);
    Figure::stack(title, subtitle, &time, plots).events(bursts(&seen.load, 1.0))
}
