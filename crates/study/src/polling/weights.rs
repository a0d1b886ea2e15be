//! The three ways to weigh shards, seen from the node that sent and from another one.

use super::context::{Context, Shape};
use super::misses::first_polls;
use super::stats::{Share, by_luck};
use super::theory;
use crate::plot::{Axis, Colour, Figure, Layer, Mark, Plot, Point};
use crate::section::{Section, Table, number, percent};

const N: usize = 8;
const K: usize = 3;
/// Trials at a time: a node that has several sends in work gathers them on one of its shards.
const AT_ONCE: u32 = 1;
/// Of a shard that is known to have one message, against 1.
const KNOWN_WEIGHT: f64 = 65.0;
/// Of a shard that the polled node leads, against 1.
const LOCAL_WEIGHT: f64 = 8.0;
/// The share of sends that go to a shard which the node leads; the rest go anywhere.
const LOCAL_SHARE: f64 = 0.9;

struct Case {
    weights: &'static str,
    /// Whether the node was polled that the message was sent through.
    same: bool,
    share: Share,
    expected: f64,
}

pub(super) async fn run(context: &Context) -> anyhow::Result<Section> {
    let trials = context.pick(60, 500);
    let mut cases = Vec::new();
    for weights in ["uniform", "backlog", "locality"] {
        let cluster = context.cluster(&Shape { weights, ..Shape::default() }).await;
        let leads = cluster.leads().await;
        for (same, poller) in [(true, 0), (false, 1)] {
            let what = format!("weights {weights}, node {}", poller + 1);
            let effort = (K, trials, AT_ONCE);
            let share = first_polls(context, &cluster, (0, poller), effort, &what).await?;
            let expected = expected(weights, same, leads[0], leads[poller]);
            cases.push(Case { weights, same, share, expected });
        }
    }
    Ok(section(&cases, trials))
}

/// The chance of a miss, when the sender's node leads `sender_led` shards and the polled one
/// `poller_led`.
fn expected(weights: &str, same: bool, sender_led: usize, poller_led: usize) -> f64 {
    match weights {
        "backlog" if same => {
            let mut all = [1.0; N];
            all[0] = KNOWN_WEIGHT;
            theory::miss_weighted(&all, 0, K)
        }
        "locality" => {
            let all: Vec<f64> =
                (0..N).map(|i| if i < poller_led { LOCAL_WEIGHT } else { 1.0 }).collect();
            let anywhere = (1.0 - LOCAL_SHARE) / N as f64;
            // Where the message is: on a shard that the polled node leads, or not.
            let local = if same {
                LOCAL_SHARE + anywhere * sender_led as f64
            } else {
                anywhere * poller_led as f64
            };
            let (near, far) = (0, N - 1);
            local * theory::miss_weighted(&all, near, K)
                + (1.0 - local) * theory::miss_weighted(&all, far, K)
        }
        _ => theory::miss(N, K),
    }
}

fn table(cases: &[Case]) -> Table {
    let header = ["weights", "polled_node", "trials", "empty", "share", "low", "high", "theory"];
    let mut table = Table::new("weights", &header);
    for case in cases {
        let (low, high) = case.share.interval();
        let [value, low, high, expected] =
            [case.share.value(), low, high, case.expected].map(number);
        let node = if case.same { "the sender's" } else { "another" };
        let Share { trials, hits } = case.share;
        table.row(&[&case.weights, &node, &trials, &hits, &value, &low, &high, &expected]);
    }
    table
}

/// The share of misses, by weights and whether the sender's node was polled.
fn of(cases: &[Case], weights: &str, same: bool) -> f64 {
    let found = cases.iter().find(|case| case.weights == weights && case.same == same);
    found.map_or(f64::NAN, |case| case.share.value())
}

fn figure(cases: &[Case], trials: u32) -> Figure {
    let columns = |same: bool, number, colour, name| {
        let points = cases.iter().filter(|case| case.same == same).enumerate().map(|(x, case)| {
            let (low, high) = case.share.interval();
            Point {
                x: x as f64,
                y: 100.0 * case.share.value(),
                range: Some((100.0 * low, 100.0 * high)),
            }
        });
        Layer::new(name, colour, Mark::Columns(number, 2), points)
    };
    let ticks = |same: bool, number| {
        let points = cases.iter().filter(|case| case.same == same).enumerate();
        let points = points.map(|(x, case)| (x as f64, 100.0 * case.expected));
        Layer::new("theory", Colour::Vermilion, Mark::Ticks(number, 2), points)
    };
    let names = cases.iter().filter(|case| case.same).map(|case| case.weights);
    let layers = vec![
        columns(true, 0, Colour::Blue, "polled through the node that sent it"),
        columns(false, 1, Colour::Sky, "polled through another node"),
        ticks(true, 0),
        ticks(false, 1),
    ];
    let y = Axis::linear("empty answers (%)").range(0.0, 100.0);
    let plot = Plot::new("", Axis::names("weights of the sample", names), y, layers);
    Figure::new(
        format!(
            "A node misses what it took in itself in {} of its polls by backlog, in {} with equal weights",
            percent(of(cases, "backlog", true)),
            percent(of(cases, "uniform", true))
        ),
        format!(
            "One message, {N} shards, one poll of {K}; {trials} fresh queues for each column, bars: 95 % confidence"
        ),
        vec![plot],
    )
}

fn section(cases: &[Case], trials: u32) -> Section {
    let words = |weights, same| percent(of(cases, weights, same));
    let within = cases.iter().filter(|case| case.share.agrees(case.expected)).count();
    let hides = of(cases, "locality", false) > of(cases, "uniform", false);
    Section {
        name: "weights",
        question: "What do the weights of a sample change?".to_owned(),
        method: format!(
            "One message is sent through one node and polled once, without waiting, through the same or another node. \
             {trials} fresh queues for each column, three clusters."
        ),
        findings: vec![
            format!(
                "With weights by backlog the node that took the message in misses it in {} of its first polls; uniform: {}, by \
                 locality: {}.",
                words("backlog", true),
                words("uniform", true),
                words("locality", true)
            ),
            format!(
                "Another node misses it in {} (backlog), {} (uniform) and {} (locality){}.",
                words("backlog", false),
                words("uniform", false),
                words("locality", false),
                if hides { ": locality hides what others took in" } else { "" }
            ),
        ],
        theory: vec![format!(
            "Weighted sampling without replacement. A shard that is known to have a message weighs 65 against 1, one that \
             the node leads 8 against 1; nine of ten sends go to a shard of the sender's node, the rest anywhere. \
             {within} of {} shares have the theory in their 95 % interval{}.",
            cases.len(),
            by_luck(
                within,
                cases.len(),
                "messages were not where nine of ten should be, or the polled node knew another backlog"
            )
        )],
        figures: vec![("weights".to_owned(), figure(cases, trials))],
        tables: vec![table(cases)],
        values: vec![
            ("backlog, same node", of(cases, "backlog", true)),
            ("backlog, another node", of(cases, "backlog", false)),
            ("uniform, same node", of(cases, "uniform", true)),
            ("locality, another node", of(cases, "locality", false)),
        ],
        ..Section::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_is_hardly_missed_and_what_is_far_mostly() {
        assert!(expected("backlog", true, 3, 3) < 0.001);
        assert_eq!(expected("backlog", false, 3, 3), 0.625);
        assert_eq!(expected("uniform", true, 3, 3), 0.625);
        let (near, far) = (expected("locality", true, 3, 3), expected("locality", false, 3, 3));
        assert!(near < 0.3 && far > 0.75, "{near} {far}");
    }
}
