//! Its charts.

use super::{COLLECT, Cell, Cells, DOLLARS_PER_MILLION, Kind, LONG, SHORT_ONE, SHORT_TENTH, kinds};
use crate::plot::{Axis, Colour, Dash, Dot, Figure, Layer, Mark, Plot, Point, number as tick};
use crate::polling::stats::Estimate;
use crate::section::duration;

/// A value of a way to poll, at every rate.
fn points(cells: &Cells, kind: &Kind, value: impl Fn(&Cell) -> Estimate) -> Vec<Point> {
    let of_kind = cells.all.iter().filter(|cell| cell.kind == *kind);
    let mut points: Vec<Point> = of_kind.map(|cell| value(cell).at(cell.rate_per_s)).collect();
    points.sort_by(|one, two| one.x.total_cmp(&two.x));
    points
}

fn rates_axis(cells: &Cells) -> (Axis, (f64, f64)) {
    let (from, to) = (cells.slow() / 1.5, cells.last() * 1.5);
    let axis = Axis::log("messages arriving per second").range(from, to).ticks_at(&cells.rates);
    (axis, (from, to))
}

pub(super) fn empties(cells: &Cells) -> Figure {
    const LEAST: f64 = 0.001;
    let slow = cells.slow();
    let (x, (from, to)) = rates_axis(cells);
    let plot = |title: &str, short: bool| {
        let mut layers = Vec::new();
        for kind in kinds().iter().filter(|kind| kind.is_short() == short) {
            let at = |i: u32| from * (to / from).powf(f64::from(i) / 100.0);
            let theory = (0..=100).map(|i| (at(i), kind.expected(at(i))));
            // Where a line has fallen below the picture it ends.
            let theory: Vec<_> =
                theory.map(|(x, y)| (x, if y < LEAST { f64::NAN } else { y })).collect();
            layers.push(Layer::new("", kind.colour, Mark::Line(Dash::Dashed), theory));
            let dots = points(cells, kind, Cell::empties);
            layers.push(Layer::new(kind.name, kind.colour, Mark::Dots(kind.dot), dots));
        }
        let y = Axis::log("empty answers per message").range(LEAST, 20_000.0);
        Plot::new(title, x.clone(), y, layers)
    };
    let of = |name| cells.of(name, slow, |cell| cell.empties().value);
    Figure::new(
        format!(
            "{:.2} empty answers per message in waits of 20 s, {:.1} in short polls every 1 s (at {}/s)",
            of(LONG),
            of(SHORT_ONE),
            tick(slow)
        ),
        "Empty answers per delivered message; dashed: closed forms; bars: 95 % confidence; what is on the lower edge \
         is nearly or exactly nothing"
            .to_owned(),
        vec![plot("Short polls", true), plot("Long polls", false)],
    )
    .height(340.0)
}

/// Ways that cost the same stand beside each other, by this factor.
const ASIDE: f64 = 1.08;

pub(super) fn dollars(cells: &Cells) -> Figure {
    let (x, _) = rates_axis(cells);
    let known = cells.all.iter().map(|cell| cell.dollars().value).filter(|it| *it > 0.0);
    let (least, most) =
        known.fold((0.1_f64, 1.0_f64), |(least, most), one| (least.min(one), most.max(one)));
    let plot = |title: &str, short: bool| {
        let kinds = kinds().into_iter().filter(|kind| kind.is_short() == short);
        let layers = kinds.enumerate().flat_map(|(number, kind)| {
            let model = |cell: &Cell| {
                Estimate::bare(DOLLARS_PER_MILLION * cell.model.requests_per_message())
            };
            let expected = points(cells, &kind, model).into_iter().map(|point| (point.x, point.y));
            let mut dots = points(cells, &kind, Cell::dollars);
            for dot in dots.iter_mut().filter(|_| !short) {
                dot.x *= ASIDE.powf(number as f64 - 1.5);
            }
            [
                Layer::new("", kind.colour, Mark::Line(Dash::Dashed), expected.collect::<Vec<_>>()),
                Layer::new(kind.name, kind.colour, Mark::Dots(kind.dot), dots),
            ]
        });
        let y =
            Axis::log("dollars for receiving a million messages").range(0.7 * least, 2.0 * most);
        Plot::new(title, x.clone(), y, layers.collect())
    };
    let of = |name| cells.of(name, cells.slow(), |cell| cell.requests().value);
    let ratio = of(SHORT_TENTH) / of(LONG);
    Figure::new(
        format!("A slow queue costs {ratio:.0} times as much polled every 0.1 s as in waits of 20 s"),
        format!(
            "Receive requests at {DOLLARS_PER_MILLION:.2} dollars per million (AWS's list price); one consumer; dashed: the \
             model; bars: 95 % confidence"
        ),
        vec![plot("Short polls", true), plot("Long polls", false)],
    )
    .height(340.0)
}

/// Values that belong to one way stand beside each other.
const BESIDE: f64 = 0.17;

pub(super) fn latency(cells: &Cells) -> Figure {
    let y = latency_axis(cells);
    let plots = cells.rates.iter().map(|rate| panel(cells, *rate, y.clone()));
    let half = |name| duration(cells.of(name, cells.slow(), |cell| cell.latency_ms(0.5)));
    Figure::new(
        format!(
            "Half of the messages come within {} in waits of 20 s, within {} in short polls every 1 s",
            half(LONG),
            half(SHORT_ONE)
        ),
        "From when a message was due to be sent to the answer that brought it; bars: 95 % confidence; 99 % from 100 messages \
         on, 99.9 % from 4,000. The title is of the slowest rate. *: with a pause of 1 s after an answer that was not \
         full"
            .to_owned(),
        plots.collect(),
    )
    .height(230.0)
}

/// For all panels: whatever is in one of them is inside.
fn latency_axis(cells: &Cells) -> Axis {
    let (mut least, mut most) = (1.0_f64, 1_000.0_f64);
    for cell in &cells.all {
        let [half, slow, slowest] = cell.seen.latencies([0.5, 0.99, 0.999]);
        let mean = cell.seen.mean_ms();
        let measured =
            [half, slow, slowest, mean].into_iter().flat_map(|one| [one.value, one.low, one.high]);
        let all = measured.chain([cell.model.mean_ms()]);
        for ms in all.filter(|ms| ms.is_finite() && *ms > 0.0) {
            (least, most) = (least.min(ms), most.max(ms));
        }
    }
    Axis::log("send to receive (ms)").range(0.7 * least, 1.5 * most).ticks_at(
        &[0.1, 1., 10., 100., 1_000., 10_000., 100_000.]
            .into_iter()
            .filter(|tick| (0.7 * least..=1.5 * most).contains(tick))
            .collect::<Vec<_>>(),
    )
}

fn panel(cells: &Cells, rate: f64, y: Axis) -> Plot {
    let find = |kind: &Kind| cells.find(kind.name, rate);
    let dots = |beside: f64, value: &dyn Fn(&Cell) -> Estimate| -> Vec<Point> {
        let at =
            |(x, kind): (usize, &Kind)| find(kind).map(|cell| value(cell).at(x as f64 + beside));
        kinds().iter().enumerate().filter_map(at).collect()
    };
    let quantile = |share: f64| move |cell: &Cell| cell.seen.latencies([share])[0];
    let model = |cell: &Cell| Estimate::bare(cell.model.mean_ms());
    let kinds = kinds();
    let first_long = kinds.iter().position(|kind| !kind.is_short()).unwrap_or(0) as f64;
    let span = [(first_long - 0.5, kinds.len() as f64 - 0.5)];
    let mut layers = vec![
        Layer::new("long polls", Colour::Sky, Mark::Span, span),
        Layer::new("mean by the model", Colour::Grey, Mark::Ticks(0, 1), dots(0.0, &model)),
    ];
    for (name, colour, dot, points) in [
        ("half within", Colour::Blue, Dot::Circle, dots(-1.5 * BESIDE, &quantile(0.5))),
        ("mean", Colour::Black, Dot::Diamond, dots(-0.5 * BESIDE, &|cell| cell.seen.mean_ms())),
        ("99 % within", Colour::Orange, Dot::Square, dots(0.5 * BESIDE, &quantile(0.99))),
        ("99.9 % within", Colour::Vermilion, Dot::Triangle, dots(1.5 * BESIDE, &quantile(0.999))),
    ] {
        layers.push(Layer::new(name, colour, Mark::Dots(dot), points));
    }
    debug_assert_eq!(kinds.last().map(|kind| kind.name), Some(COLLECT));
    Plot::new(
        &format!("Messages arriving per second: {}", tick(rate)),
        Axis::names(
            "short polls with a pause of …   |   long polls of …",
            kinds.map(|kind| kind.tick),
        ),
        y,
        layers,
    )
}
