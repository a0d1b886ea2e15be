//! Empty answers against the backlog: what a sample misses when there is more to find.

use std::collections::BTreeMap;

use super::api::Ask;
use super::context::{Cluster, Context, Shape};
use super::stats::Share;
use super::theory;
use super::trial::{SINGLE_MAX, Trial, draws};
use crate::plot::{Axis, Colour, Dash, Dot, Figure, Layer, Mark, Plot, Point};
use crate::section::{Section, Table, number, percent};

const N: usize = 8;
const K: usize = 3;
/// Deeper queues are filled once and polled often.
const FRESH_MAX: u32 = 1_000;

/// Messages sent through these nodes, in turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// One: nearly all lie on the shards that it leads.
    One,
    /// All: every shard has its part.
    All,
}

impl Way {
    fn name(self) -> &'static str {
        match self {
            Self::One => "sent through one node",
            Self::All => "sent through all nodes",
        }
    }
}

/// One way, all depths.
struct Curve {
    way: Way,
    shares: Vec<(u32, Share)>,
    /// What part of the draws each shard got.
    placement: Vec<f64>,
}

pub(super) async fn run(context: &Context) -> anyhow::Result<Section> {
    let depths: &[u32] =
        context.pick(&[0, 1, 3, 10, 30, 999], &[0, 1, 2, 3, 5, 10, 30, 999, 1_000, 100_000]);
    let cluster = context.cluster(&Shape { weights: "uniform", ..Shape::default() }).await;
    let mut curves = Vec::new();
    for way in [Way::One, Way::All] {
        let (mut shares, mut placed) = (Vec::new(), BTreeMap::<u32, f64>::new());
        for depth in depths.iter().copied() {
            let share = if depth > FRESH_MAX {
                deep(context, &cluster, way, depth).await?
            } else {
                fresh(context, &cluster, way, depth, &mut placed).await?
            };
            shares.push((depth, share));
        }
        let all: f64 = placed.values().sum();
        let mut placement: Vec<f64> = placed.values().map(|count| count / all).collect();
        placement.resize(N.max(placement.len()), 0.0);
        placement.sort_by(|one, two| two.total_cmp(one));
        curves.push(Curve { way, shares, placement });
    }
    Ok(section(&curves))
}

fn senders(cluster: &Cluster, way: Way) -> Vec<String> {
    match way {
        Way::One => vec![cluster.node(0).to_owned()],
        Way::All => cluster.nodes.clone(),
    }
}

/// The first poll of fresh queues; counts where the messages were.
async fn fresh(
    context: &Context,
    cluster: &Cluster,
    way: Way,
    depth: u32,
    placed: &mut BTreeMap<u32, f64>,
) -> anyhow::Result<Share> {
    let trials = match depth {
        0 => context.pick(10, 50),
        depth if depth <= SINGLE_MAX => context.pick(40, 400),
        _ => context.pick(8, 100),
    };
    let trial = |_| {
        let trial = Trial {
            senders: senders(cluster, way),
            poller: cluster.node(1).to_owned(),
            queue_name: context.queue_name(),
            depth,
        };
        async move {
            let mut filled = trial.fill().await?;
            let first = filled.poll(Ask::SHORT).await?;
            // That of the small ones tells enough.
            let counted = if depth <= SINGLE_MAX { depth } else { 0 };
            let placement = filled.placement(counted, &first).await?;
            filled.end().await;
            Ok((first.letters.is_empty(), placement))
        }
    };
    let what = format!("{depth} messages {}", way.name());
    // One after another: a node with more to do gathers messages on one shard at a time.
    let mut share = Share::default();
    for (empty, placement) in context.trials(&what, trials, 1, trial).await? {
        share.count(empty);
        for (shard, count) in placement.into_iter().filter(|_| depth <= SINGLE_MAX) {
            *placed.entry(shard).or_insert(0.0) += f64::from(count);
        }
    }
    Ok(share)
}

/// Many polls of one queue, whose messages come back at once.
async fn deep(context: &Context, cluster: &Cluster, way: Way, depth: u32) -> anyhow::Result<Share> {
    context.tell(&format!("filling a queue with {depth} messages {}", way.name()));
    let trial = Trial {
        senders: senders(cluster, way),
        poller: cluster.node(1).to_owned(),
        queue_name: context.queue_name(),
        depth,
    };
    let mut filled = trial.fill().await?;
    let mut share = Share::default();
    for _ in 0..context.pick(30, 300) {
        let ask = Ask { visibility_s: Some(0), ..Ask::SHORT };
        share.count(filled.poll(ask).await?.letters.is_empty());
    }
    filled.end().await;
    Ok(share)
}

fn section(curves: &[Curve]) -> Section {
    let mut table = Table::new(
        "depth",
        &["sent_through", "messages", "trials", "empty", "share", "low", "high", "theory"],
    );
    let mut placements = Table::new("depth-placement", &["sent_through", "shard", "share"]);
    let (mut within, mut count) = (0, 0);
    for curve in curves {
        let way = if curve.way == Way::One { "one" } else { "all" };
        for (depth, share) in &curve.shares {
            let expected = theory::miss_all(&curve.placement, K, draws(*depth));
            let (low, high) = share.interval();
            let cells = [share.value(), low, high, expected].map(number);
            let [value, low, high, expected_text] = &cells;
            table.row(&[&way, depth, &share.trials, &share.hits, value, low, high, expected_text]);
            count += 1;
            within += usize::from(share.agrees(expected));
        }
        for (rank, share) in curve.placement.iter().enumerate() {
            placements.row(&[&way, &(rank + 1), &number(*share)]);
        }
    }
    let at = |way: Way, depth: u32| {
        let curve = curves.iter().find(|curve| curve.way == way)?;
        curve.shares.iter().find(|(one, _)| *one == depth).map(|(_, share)| *share)
    };
    let of =
        |way, depth| at(way, depth).map_or("unknown".into(), |share: Share| percent(share.value()));
    let heaviest = curves.iter().find(|curve| curve.way == Way::One);
    let heaviest: f64 = heaviest.map_or(0.0, |curve| curve.placement.iter().take(3).sum());
    let title = format!(
        "With ten messages {} of short polls are empty if one node took them in, {} if all did",
        of(Way::One, 10),
        of(Way::All, 10)
    );
    Section {
        name: "depth",
        question: "How deep must a queue be until short polls stop missing?".to_owned(),
        method: "8 shards, samples of 3, uniform weights; sent through one node or through all of them, and \
                 polled once through another. Each trial up to 1,000 messages has a fresh queue; a queue of 100,000 is \
                 polled often, and its messages become visible again at once. Up to 100 messages are sent one by \
                 one; more go in batches of ten, each of which lies on one shard and counts as one draw."
            .to_owned(),
        findings: vec![
            format!(
                "With 10 messages {} of the polls were empty when they had been sent through all nodes, and {} when \
                 they had been sent through one: its three busiest shards had {} of the messages.",
                of(Way::All, 10),
                of(Way::One, 10),
                percent(heaviest)
            ),
            format!(
                "With 999 messages {} and {} were empty: a backlog that is spread hides nothing from a short poll, and one that \
                 is not still hides from every sample that has none of its shards.",
                of(Way::All, 999),
                of(Way::One, 999)
            ),
        ],
        theory: vec![format!(
            "With p the share of each shard and D draws, the chance is the mean of (1 − Σ p over the sample)^D over all \
             56 samples; p is measured (the second table). {within} of {count} shares have it in their 95 % interval. \
             A node with \
             several sends at work puts them on one shard for 20 ms at a time, where a poll finds all or nothing: trials run one after another, \
             so that draws are independent, and under load real queues hide a little more. Sent through all nodes in turn, messages lie more evenly than by chance, and are missed a little less. Repeated polls of the deepest queue are not independent: the node remembers whom it passed over, which \
             makes misses a little rarer."
        )],
        figures: vec![("depth".to_owned(), figure(curves, title))],
        tables: vec![table, placements],
        broken: Vec::new(),
        values: Vec::new(),
        skipped: None,
    }
}

fn figure(curves: &[Curve], title: String) -> Figure {
    // Nothing has a place of its own left of one on an axis of logarithms.
    const NOTHING: f64 = 0.4;
    let mut layers = Vec::new();
    for curve in curves {
        let (colour, dash, dot) = match curve.way {
            Way::One => (Colour::Vermilion, Dash::Dashed, Dot::Square),
            Way::All => (Colour::Blue, Dash::Dotted, Dot::Circle),
        };
        // Where batches begin, the number of draws falls: two lines.
        let single = (0..=40).map(|i| 10_f64.powf(f64::from(i) / 20.0));
        let lines = single.map(|depth| {
            let expected = 100.0 * theory::miss_all(&curve.placement, K, depth.round() as u32);
            (depth.round(), expected)
        });
        let batched = (0..=40).map(|i| 500.0 * 200_f64.powf(f64::from(i) / 40.0));
        let batched = batched.map(|depth| {
            (depth, 100.0 * theory::miss_all(&curve.placement, K, draws(depth as u32)))
        });
        let lines: Vec<(f64, f64)> =
            lines.chain(std::iter::once((200.0, f64::NAN))).chain(batched).collect();
        let name = format!("theory, {}", curve.way.name());
        layers.push(Layer::new(&name, colour, Mark::Line(dash), lines));
        let dots = curve.shares.iter().map(|(depth, share)| {
            let (low, high) = share.interval();
            Point {
                x: f64::from(*depth).max(NOTHING),
                y: 100.0 * share.value(),
                range: Some((100.0 * low, 100.0 * high)),
            }
        });
        let name = format!("measured, {}", curve.way.name());
        layers.push(Layer::new(&name, colour, Mark::Dots(dot), dots));
    }
    let mut x = Axis::log("messages in the queue").range(0.3, 200_000.0);
    let ticks = [1.0, 10.0, 100.0, 1_000.0, 10_000.0, 100_000.0];
    x = x.ticks_at(&ticks);
    x.ticks.insert(0, (NOTHING, "none".to_owned()));
    let y = Axis::linear("empty answers (%)").range(0.0, 100.0);
    let plot =
        Plot::new("Short polls of 3 of 8 shards", x, y, layers).note(0.5, 93.0, "truly empty");
    Figure::new(
        title,
        "The first poll, without waiting, of a queue filled through other nodes; bars: 95 % confidence. From \
         999 on messages were sent in batches of ten."
            .to_owned(),
        vec![plot],
    )
    .height(360.0)
}
