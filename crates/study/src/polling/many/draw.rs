//! The charts.

use super::{CROWD, CROWD_RATE, Case, LONG_WAIT_S, PAUSE, ROUND, ROUND_RATE, find, half_ms, most};
use crate::plot::{Axis, Colour, Dash, Dot, Figure, Layer, Mark, Plot, Point};
use crate::polling::stats::Estimate;
use crate::polling::theory;
use crate::section::duration;

const COUNTS: [f64; 5] = [1.0, 4.0, 8.0, 16.0, 64.0];
/// On charts of logarithms, what is nothing.
const NOTHING: f64 = 0.001;

fn counts(label: &str, cases: &[Case]) -> Axis {
    let used = |count: &f64| cases.iter().any(|case| case.count as f64 == *count);
    let used: Vec<f64> = COUNTS.into_iter().filter(used).collect();
    let last = used.last().copied().unwrap_or(1.0);
    Axis::log(label).range(0.8, last * 1.25).ticks_at(&used)
}

fn dots(cases: &[Case], way: &str, value: impl Fn(&Case) -> Estimate) -> Vec<Point> {
    let of_way = cases.iter().filter(|case| case.way == way);
    of_way.map(|case| value(case).at(case.count as f64)).collect()
}

fn line(cases: &[Case], way: &str, value: impl Fn(&Case) -> f64) -> Vec<(f64, f64)> {
    let of_way = cases.iter().filter(|case| case.way == way);
    of_way.map(|case| (case.count as f64, value(case))).collect()
}

fn visible(one: Estimate) -> Estimate {
    one.map(|value| value.max(NOTHING))
}

/// Latencies, and empty answers.
fn plots(x: impl Fn() -> Axis, titles: [&str; 2], layers: [Vec<Layer>; 2]) -> Vec<Plot> {
    let y = [
        Axis::log("send to receive (ms)"),
        Axis::log("empty answers per message").range(NOTHING, 100.0),
    ];
    let all = titles.into_iter().zip(y).zip(layers);
    all.map(|((title, y), layers)| Plot::new(title, x(), y, layers)).collect()
}

pub(super) fn crowd(cases: &[Case]) -> Figure {
    let most = most(cases);
    let looks = [(Colour::Blue, Dot::Circle), (Colour::Vermilion, Dot::Square)];
    let (mut latency, mut empties) = (Vec::new(), Vec::new());
    for (way, (colour, dot)) in CROWD.into_iter().zip(looks) {
        if way == CROWD[1] {
            for (share, name) in [(0.5, "model of short polls"), (0.99, "")] {
                let model = line(cases, way, |case| case.model.quantile_ms(share));
                latency.push(Layer::new(name, Colour::Grey, Mark::Line(Dash::Dashed), model));
            }
        }
        let half = dots(cases, way, |case| case.latency(0.5));
        latency.push(Layer::new(way, colour, Mark::DotsAndLine(dot), half));
        let slowest = dots(cases, way, |case| case.latency(0.99));
        latency.push(Layer::new("", colour, Mark::Line(Dash::Dotted), slowest.clone()));
        latency.push(Layer::new("", colour, Mark::Dots(dot), slowest));
        let vain = dots(cases, way, |case| visible(case.empties()));
        empties.push(Layer::new(way, colour, Mark::DotsAndLine(dot), vain));
    }
    let theory =
        line(cases, CROWD[1], |case| case.count as f64 / (CROWD_RATE * PAUSE.as_secs_f64()));
    empties.push(Layer::new("theory: n/(λT)", Colour::Black, Mark::Line(Dash::Dashed), theory));
    let titles = ["Half of the messages within (solid), 99 % within (dotted)", "Wasted requests"];
    let plots = plots(|| counts("consumers of one queue", cases), titles, [latency, empties]);
    let of = |way| find(cases, way, most).map_or(f64::NAN, |case| case.empties().value);
    Figure::new(
        format!(
            "{most} consumers: {:.2} empty answers per message in long polls, {:.0} in short ones every 0.1 s",
            of(CROWD[0]),
            of(CROWD[1])
        ),
        format!(
            "{CROWD_RATE} messages per second for all consumers together, who are spread over the nodes; on the lower edge of the right diagram: none; bars: 95 % confidence"
        ),
        plots,
    )
}

pub(super) fn round(cases: &[Case]) -> Figure {
    let most = most(cases);
    let looks = [
        (Colour::Vermilion, Dot::Square),
        (Colour::Sky, Dot::Triangle),
        (Colour::Blue, Dot::Circle),
    ];
    let (mut latency, mut empties) = (Vec::new(), Vec::new());
    for (way, (colour, dot)) in ROUND.into_iter().zip(looks) {
        let half = dots(cases, way, |case| case.latency(0.5));
        let vain = dots(cases, way, |case| visible(case.empties()));
        let model = line(cases, way, |case| case.model.quantile_ms(0.5));
        let expected = line(cases, way, |case| {
            let rate = case.seen.rate_per_s() / case.count as f64;
            match way == ROUND[2] {
                true => theory::long_empties(rate, f64::from(LONG_WAIT_S)).max(NOTHING),
                false => case.model.empties_per_message().max(NOTHING),
            }
        });
        for (layers, dots, theory) in [(&mut latency, half, model), (&mut empties, vain, expected)]
        {
            layers.push(Layer::new("", colour, Mark::Line(Dash::Dashed), theory));
            layers.push(Layer::new(way, colour, Mark::Dots(dot), dots));
        }
    }
    let titles = ["Half of the messages within", "Requests in vain"];
    let plots = plots(|| counts("queues", cases), titles, [latency, empties]);
    let half = |way| duration(half_ms(cases, way, most));
    Figure::new(
        format!(
            "One consumer, {most} queues: half wait {} with a long poll at each, {} for long polls in turn",
            half(ROUND[2]),
            half(ROUND[1])
        ),
        format!(
            "{ROUND_RATE} messages per second for all queues together; one node is polled; dashed: model and closed forms; on the lower edge of the right diagram: none; bars: 95 % confidence"
        ),
        plots,
    )
}
