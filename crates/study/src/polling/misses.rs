//! Empty answers while one message is there: how often, for which sample and how many shards.

use super::api::Ask;
use super::context::{Cluster, Context, Shape};
use super::stats::Share;
use super::theory;
use super::trial::Trial;
use crate::plot::{Axis, Colour, Dash, Dot, Figure, Layer, Mark, Plot, Point};
use crate::section::{Section, Table, number, percent};

const AT_ONCE: u32 = 4;

/// One share of empty answers, and where it belongs.
struct Measured {
    x: f64,
    share: Share,
}

/// Whether the first poll of a queue with one message, sent through one node, was empty.
pub(super) async fn first_polls(
    context: &Context,
    cluster: &Cluster,
    (sender, poller): (usize, usize),
    (sample, trials): (usize, u32),
    what: &str,
) -> anyhow::Result<Share> {
    let trial = |_| {
        let trial = Trial {
            senders: vec![cluster.node(sender).to_owned()],
            poller: cluster.node(poller).to_owned(),
            queue_name: context.queue_name(),
            depth: 1,
        };
        async move {
            let mut filled = trial.fill().await?;
            let answer = filled.poll(Ask::SHORT).await?;
            filled.end().await;
            // Where a shard did not answer, as while its leader changes, that was no sample.
            let whole = answer.asked.len() >= sample;
            let empty = answer.letters.is_empty();
            Ok((whole || !empty).then_some(empty))
        }
    };
    let mut share = Share::default();
    for empty in context.trials(what, trials, AT_ONCE, trial).await?.into_iter().flatten() {
        share.count(empty);
    }
    Ok(share)
}

pub(super) async fn run(context: &Context) -> anyhow::Result<Section> {
    let trials = context.pick(60, 500);
    let samples: &[usize] = context.pick(&[1, 3, 8], &[1, 2, 3, 4, 6, 8]);
    let shards: &[usize] = context.pick(&[4, 16], &[3, 4, 8, 16, 32, 64]);
    let mut measured = Vec::new();
    let shapes = samples.iter().map(|k| (8, *k));
    for (n, k) in shapes.chain(shards.iter().filter(|n| **n != 8).map(|n| (*n, 3))) {
        let shape = Shape { shards: n, sample: k, weights: "uniform", ..Shape::default() };
        let cluster = context.cluster(&shape).await;
        let what = format!("samples of {k} of {n} shards");
        let share = first_polls(context, &cluster, (0, 1), (k, trials), &what).await?;
        measured.push(((n, k), share));
    }
    Ok(section(&measured, trials))
}

fn section(measured: &[((usize, usize), Share)], trials: u32) -> Section {
    let mut table = Table::new(
        "misses",
        &["shards", "sample", "trials", "empty", "share", "low", "high", "theory"],
    );
    for ((n, k), share) in measured {
        let (low, high) = share.interval();
        let cells = [share.value(), low, high, theory::miss(*n, *k)].map(number);
        let [value, low, high, theory] = &cells;
        table.row(&[n, k, &share.trials, &share.hits, value, low, high, theory]);
    }
    let find = |n, k| measured.iter().find(|(shape, _)| *shape == (n, k)).map(|(_, share)| *share);
    let of = |n, k| find(n, k).map_or("unknown".to_owned(), |share| percent(share.value()));
    let within =
        measured.iter().filter(|((n, k), share)| share.agrees(theory::miss(*n, *k))).count();
    let by_sample: Vec<Measured> = measured
        .iter()
        .filter(|((n, _), _)| *n == 8)
        .map(|((_, k), share)| Measured { x: *k as f64, share: *share })
        .collect();
    let mut by_shards: Vec<Measured> = measured
        .iter()
        .filter(|((_, k), _)| *k == 3)
        .map(|((n, _), share)| Measured { x: *n as f64, share: *share })
        .collect();
    by_shards.sort_by(|one, two| one.x.total_cmp(&two.x));
    let title =
        format!("A short poll of 3 in 8 shards misses a lone message {} of the time", of(8, 3));
    let subtitle = format!(
        "One message in a queue, sent through one node and polled once, without waiting, through another; \
         {trials} fresh queues for each dot, bars: 95 % confidence"
    );
    let plots = vec![
        share_plot(
            "By sample size, of 8 shards",
            Axis::linear("shards asked by a poll")
                .range(0.5, 8.5)
                .ticks_at(&[1., 2., 3., 4., 5., 6., 7., 8.]),
            &by_sample,
            &(1..=8).map(|k| (k as f64, theory::miss(8, k))).collect::<Vec<_>>(),
        ),
        share_plot(
            "By number of shards, 3 asked",
            Axis::log("shards of the cluster")
                .range(2.6, 75.0)
                .ticks_at(&[3., 4., 8., 16., 32., 64.]),
            &by_shards,
            &(12..=256)
                .map(|n| (f64::from(n) / 4.0, 1.0 - 12.0 / f64::from(n)))
                .collect::<Vec<_>>(),
        ),
    ];
    Section {
        name: "misses",
        question: "How often is a short poll empty although a message is there?".to_owned(),
        method: format!(
            "Weights are uniform. Each trial has a queue of its own, so that the polled node remembers nothing: \
             {trials} trials for each of {} settings.",
            measured.len()
        ),
        findings: vec![
            format!(
                "With samples of 3 of 8 shards {} of the polls were empty; with all 8 asked {}.",
                of(8, 3),
                of(8, 8)
            ),
            "More shards with the same sample mean more empty answers: a poll that asks 3 of 64 misses a lone \
             message nineteen times of twenty."
                .to_owned(),
        ],
        theory: vec![format!(
            "A sample of k of n shards does not contain a certain one with the chance 1 − k/n. {within} of \
             {} measured shares have it in their 95 % interval{}.",
            measured.len(),
            if within == measured.len() { "" } else { "; one in twenty is expected to miss it by luck" }
        )],
        figures: vec![("misses".to_owned(), Figure::new(title, subtitle, plots))],
        tables: vec![table],
        broken: find(8, 8)
            .filter(|all| all.hits > 0)
            .map(|all| format!("a poll of all shards was empty {} times with a message there", all.hits))
            .into_iter()
            .collect(),
        values: vec![
            ("3 of 8", find(8, 3).map_or(f64::NAN, Share::value)),
            ("8 of 8", find(8, 8).map_or(f64::NAN, Share::value)),
            ("3 of 16", find(16, 3).map_or(f64::NAN, Share::value)),
            ("3 of 4", find(4, 3).map_or(f64::NAN, Share::value)),
        ],
        skipped: None,
    }
}

/// Dots with error bars on the line of the theory.
fn share_plot(title: &str, x: Axis, measured: &[Measured], line: &[(f64, f64)]) -> Plot {
    let dots = measured.iter().map(|one| {
        let (low, high) = one.share.interval();
        Point { x: one.x, y: 100.0 * one.share.value(), range: Some((100.0 * low, 100.0 * high)) }
    });
    let theory = line.iter().map(|(x, y)| (*x, 100.0 * y));
    let layers = vec![
        Layer::new("theory: 1 − k/n", Colour::Vermilion, Mark::Line(Dash::Dashed), theory),
        Layer::new("measured", Colour::Blue, Mark::Dots(Dot::Circle), dots),
    ];
    Plot::new(title, x, Axis::linear("empty answers (%)").range(0.0, 100.0), layers)
}
