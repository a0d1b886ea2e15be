//! Its charts.

use super::{
    CROWD, CROWD_RATE, Case, LONG_WAIT_S, PAUSE, ROUND, ROUND_RATE, empties, half_ms, most,
};
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

/// Of one range for the two diagrams, which are to be compared.
fn milliseconds(values: impl Iterator<Item = Point>) -> Axis {
    Axis::log("send to receive (ms)").fit(values.flat_map(|point| point.extent()), false)
}

fn empty_answers() -> Axis {
    let mut axis = Axis::log("empty answers per message")
        .range(NOTHING, 100.0)
        .ticks_at(&[NOTHING, 0.01, 0.1, 1.0, 10.0, 100.0]);
    "none".clone_into(&mut axis.ticks[0].1);
    axis
}

/// Legend of what short polls should see.
const EXPECTED: &str = "short polls, expected: model; right: consumers / (rate · pause)";

pub(super) fn crowds(cases: &[Case]) -> Figure {
    let shares = [0.5, 0.99];
    let latencies =
        CROWD.map(|way| shares.map(|share| dots(cases, way, |case| case.latency(share))));
    let models = shares.map(|share| line(cases, CROWD[1], |case| case.model.quantile_ms(share)));
    let expected = models.iter().flatten().map(|at| Point::from(*at));
    let y = milliseconds(latencies.iter().flatten().flatten().copied().chain(expected));
    let both = |long: Vec<Point>, short: Vec<Point>, expected: Vec<(f64, f64)>| {
        vec![
            Layer::new(CROWD[0], Colour::Blue, Mark::DotsAndLine(Dot::Circle), long),
            Layer::new(CROWD[1], Colour::Vermilion, Mark::DotsAndLine(Dot::Square), short),
            Layer::new(EXPECTED, Colour::Black, Mark::Line(Dash::Dashed), expected),
        ]
    };
    let plot =
        |title, y, layers| Plot::new(title, counts("consumers of one queue", cases), y, layers);
    let [[long_half, long_most], [short_half, short_most]] = latencies;
    let [half_expected, most_expected] = models;
    let vain = |way| dots(cases, way, |case| visible(case.empties()));
    let theory =
        line(cases, CROWD[1], |case| case.count as f64 / (CROWD_RATE * PAUSE.as_secs_f64()));
    let plots = vec![
        plot("Half of the messages within", y.clone(), both(long_half, short_half, half_expected)),
        plot("99 % of the messages within", y, both(long_most, short_most, most_expected)),
        plot("Wasted requests", empty_answers(), both(vain(CROWD[0]), vain(CROWD[1]), theory)),
    ];
    let most = most(cases);
    let long = match empties(cases, CROWD[0], most) {
        0.0 => "no empty answers".to_owned(),
        some => format!("{some:.2} empty answers per message"),
    };
    Figure::new(
        format!("{most} consumers: {long} in long polls, {:.0} per message in short ones every 0.1 s", empties(cases, CROWD[1], most)),
        format!(
            "{CROWD_RATE} messages per second for all consumers together, who are spread over the nodes; bars: 95 % confidence"
        ),
        plots,
    )
    .columns(3)
}

pub(super) fn rounds(cases: &[Case]) -> Figure {
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
    let plots = vec![
        Plot::new(
            "Half of the messages within",
            counts("queues", cases),
            Axis::log("send to receive (ms)"),
            latency,
        ),
        Plot::new("Requests in vain", counts("queues", cases), empty_answers(), empties),
    ];
    let half = |way| duration(half_ms(cases, way, most));
    Figure::new(
        format!(
            "One consumer, {most} queues: half wait {} with a long poll at each, {} for long polls in turn",
            half(ROUND[2]),
            half(ROUND[1])
        ),
        format!(
            "{ROUND_RATE} messages per second for all queues together; one node is polled; dashed: model and closed forms; bars: 95 % confidence"
        ),
        plots,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::polling::model::Forecast;
    use crate::polling::traffic::{Delivery, Outcome, Request, Seen};

    #[test]
    fn nothing_and_what_is_expected_are_named() {
        let case = |way: &'static str, empties: u32| {
            let at = |number: u32| f64::from(number) / 10.0;
            let request =
                |end_s| Request { run: 0, begin_s: end_s, end_s, outcome: Outcome::Empty };
            let seen = Seen {
                seconds: 20.0,
                runs: 1,
                requests: (0..empties).map(|number| request(at(number))).collect(),
                delivered: (0..100).map(|i| Delivery { run: 0, due_s: at(i), ms: 2.0 }).collect(),
                ..Seen::default()
            };
            Case { way, count: 4, seen, model: Forecast::default() }
        };
        let figure = crowds(&[case(CROWD[0], 0), case(CROWD[1], 200)]);
        assert!(figure.title.starts_with("4 consumers: no empty answers in long polls, 2 per"));
        let svg = figure.svg();
        assert!(svg.contains(">none</text>") && !svg.contains("NaN"));
        assert_eq!(svg.matches("short polls, expected").count(), 1);
        assert!(crowds(&[]).svg().contains("1 consumers"));
    }
}
