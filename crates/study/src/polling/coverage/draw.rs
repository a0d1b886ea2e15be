//! Its charts.

use super::{FEW, MANY, MAX, Setting, Settings, steps};
use crate::plot::{Axis, Colour, Dash, Dot, Figure, Layer, Mark, Plot};
use crate::polling::deck::{self, LONG_RUNS, RUNS};
use crate::polling::stats::quantile;
use crate::polling::theory;

const COLLECTOR: &str = "coupon collector (no memory)";

fn memory(runs: u64) -> String {
    format!("model of the server's memory ({runs} runs)")
}

/// How many queues were seen whole after so many polls.
fn distribution(settings: &Settings) -> Vec<Layer> {
    let mut layers = Vec::new();
    let bound = settings.bound() as f64;
    if let Some(setting) = settings.find(settings.main, FEW) {
        let (n, k) = (setting.n, setting.k);
        let memoryless =
            |occupied| (0..40).map(|polls| theory::covered(n, k, occupied, polls)).collect();
        let with_memory = |occupied| deck::covered(n, k, occupied);
        let model = memory(RUNS);
        for (name, colour, dash, points) in [
            (COLLECTOR, Colour::Vermilion, Dash::Dashed, setting.expected_cdf(memoryless)),
            (&*model, Colour::Green, Dash::Dotted, setting.expected_cdf(with_memory)),
        ] {
            layers.push(Layer::new(name, colour, Mark::Line(dash), points));
        }
        let polls = setting.polls();
        let share = |at: usize| {
            let within = polls.iter().filter(|one| **one <= at as f64).count();
            (at as f64, 100.0 * within as f64 / polls.len() as f64)
        };
        let measured = steps((0..=bound as usize + 4).map(share));
        layers.push(Layer::new("measured", Colour::Blue, Mark::Line(Dash::Solid), measured));
    }
    let promised = [(bound, 0.0), (bound, 100.0)];
    layers.push(Layer::new("promised bound", Colour::Black, Mark::Line(Dash::Solid), promised));
    layers
}

/// The same for every sample size, on average.
fn means(settings: &Settings) -> Vec<Layer> {
    let few: Vec<&Setting> = settings.of_depth(FEW).collect();
    let line = |of: fn(&Setting) -> f64| {
        few.iter().map(move |one| (one.k as f64, of(one))).collect::<Vec<_>>()
    };
    let measured = few.iter().map(|one| one.mean().at(one.k as f64));
    let bound = |one: &Setting| theory::deck_bound(one.n, one.k) as f64;
    vec![
        Layer::new(
            COLLECTOR,
            Colour::Vermilion,
            Mark::Line(Dash::Dashed),
            line(Setting::memoryless),
        ),
        Layer::new(
            &memory(RUNS),
            Colour::Green,
            Mark::Line(Dash::Dotted),
            line(Setting::with_memory),
        ),
        Layer::new("measured mean", Colour::Blue, Mark::Dots(Dot::Circle), measured),
        Layer::new("promised bound", Colour::Black, Mark::Line(Dash::Solid), line(bound)),
    ]
}

pub(super) fn few(settings: &Settings) -> Figure {
    let (n, k, bound) = (settings.shards(), settings.main, settings.bound());
    let sizes: Vec<f64> = settings.of_depth(FEW).map(|one| one.k as f64).collect();
    let plots = vec![
        Plot::new(
            &format!("Samples of {k}"),
            Axis::linear("polls").range(0.0, bound as f64 + 4.0),
            Axis::linear("queues seen whole (%)").range(0.0, 102.0),
            distribution(settings),
        ),
        Plot::new(
            "Every sample size",
            Axis::linear("shards asked by a poll")
                .range(0.5, quantile(&sizes, 1.0) + 0.5)
                .ticks_at(&sizes),
            Axis::log("polls until all were seen")
                .range(0.8, 30.0)
                .ticks_at(&[1., 2., 5., 10., 20.]),
            means(settings),
        ),
    ];
    Figure::new(
        format!(
            "Ten messages were all seen within {} polls of {k} in {n} shards; {bound} are promised",
            settings.most()
        ),
        "Polled without waiting through a node that knows nothing of the queue; bars: 95 % confidence".to_owned(),
        plots,
    )
}

pub(super) fn many(settings: &Settings) -> Figure {
    let many: Vec<&Setting> = settings.of_depth(MANY).collect();
    let names = many.iter().map(|one| format!("{} of {}", one.k, one.n));
    let points = |of: &dyn Fn(&Setting) -> f64| {
        many.iter().enumerate().map(|(x, one)| (x as f64, of(one))).collect::<Vec<_>>()
    };
    let measured = many.iter().enumerate().map(|(x, one)| one.mean().at(x as f64));
    let least = f64::from(MANY.div_ceil(MAX as u32));
    let bounds = points(&|one| one.bound() as f64);
    let top = bounds.iter().map(|(_, bound)| *bound).fold(200.0, f64::max) * 1.5;
    let layers = vec![
        Layer::new(
            "bound for these queues, whatever the luck",
            Colour::Black,
            Mark::Ticks(0, 1),
            bounds,
        ),
        Layer::new("measured mean", Colour::Blue, Mark::Dots(Dot::Circle), measured),
        Layer::new(
            &memory(LONG_RUNS),
            Colour::Green,
            Mark::Ticks(0, 1),
            points(&Setting::with_memory),
        ),
    ];
    let plot = Plot::new(
        "",
        Axis::names("shards asked by a poll", names),
        Axis::log("polls until all were seen")
            .range(90.0, top)
            .ticks_at(&[100., 120., 150., 200., 500., 1_000., 2_000.]),
        layers,
    )
    .rule(least, format!("least possible: {least}"));
    let most = many.iter().map(|one| one.mean().value).fold(0.0, f64::max);
    Figure::new(
        format!("{MANY} messages cost up to {:.0} polls more than the least possible {least}", most - least),
        "Sent through one node in batches of ten, polled through another without waiting, ten at most; bars: 95 % \
         confidence"
            .to_owned(),
        vec![plot],
    )
}
