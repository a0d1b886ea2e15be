//! Empty answers against the backlog: what a sample misses when there is more to find.

use std::collections::BTreeMap;

use super::api::Ask;
use super::context::{Cluster, Context, Shape};
use super::deck::LOCAL_SHARE;
use super::stats::{Share, by_luck, leaning};
use super::theory;
use super::trial::{SINGLE_MAX, Trial, draws};
use crate::plot::{Axis, Colour, Dash, Dot, Figure, Layer, Mark, Plot, Point};
use crate::section::{Section, Table, number, percent};

/// Deeper queues are filled once and polled often.
const FRESH_MAX: u32 = 1_000;
/// What one batch takes, which lies on one shard.
const BATCH_MAX: u32 = 10;
/// Depths of which words speak.
const SMALL: u32 = 10;
const LARGE: u32 = 999;

/// How messages get into the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// Through one node: nearly all lie on the shards that it leads.
    One,
    /// Through all nodes in turn: every shard has its part.
    All,
    /// As one batch: all lie on one shard.
    Batch,
}

impl Way {
    const ALL: [Self; 3] = [Self::One, Self::All, Self::Batch];

    fn name(self) -> &'static str {
        match self {
            Self::One => "sent through one node",
            Self::All => "sent through all nodes",
            Self::Batch => "all on one shard",
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::One => "one",
            Self::All => "all",
            Self::Batch => "one-batch",
        }
    }

    /// Draws of a shard that so many messages are.
    fn draws(self, depth: u32) -> u32 {
        if self == Self::Batch { depth.min(1) } else { draws(depth) }
    }
}

/// One way, all depths.
struct Curve {
    way: Way,
    shares: Vec<(u32, Share)>,
    /// What part of the draws each shard got.
    placement: Vec<f64>,
    /// What part of its draws each node gives to each shard, where nodes send in turn and it is known.
    of_nodes: Vec<Vec<f64>>,
    k: usize,
}

impl Curve {
    fn expected(&self, depth: u32) -> f64 {
        let draws = self.way.draws(depth);
        match self.of_nodes.is_empty() {
            true => theory::miss_all(&self.placement, self.k, draws),
            false => theory::miss_all_in_turn(&self.of_nodes, self.k, draws),
        }
    }

    fn at(&self, depth: u32) -> Option<Share> {
        self.shares.iter().find(|(one, _)| *one == depth).map(|(_, share)| *share)
    }
}

pub(super) async fn run(context: &Context) -> anyhow::Result<Section> {
    let depths: &[u32] =
        context.pick(&[0, 1, 3, 10, 30, 999], &[0, 1, 2, 3, 5, 10, 30, 999, 1_000, 100_000]);
    let cluster = context.cluster(&Shape { weights: "uniform", ..Shape::default() }).await;
    let (n, k) = (cluster.shape.shards, cluster.shape.sample);
    // Of somebody else's cluster nobody knows who leads what.
    let leaders = if cluster.fleet.is_some() { cluster.leaders().await } else { Vec::new() };
    let mut curves = Vec::new();
    for way in Way::ALL {
        let (mut shares, mut placed) = (Vec::new(), BTreeMap::<u32, f64>::new());
        let fits = |depth: &u32| way != Way::Batch || (1..=BATCH_MAX).contains(depth);
        for depth in depths.iter().copied().filter(fits) {
            let share = if depth > FRESH_MAX {
                deep(context, &cluster, way, depth).await?
            } else {
                fresh(context, &cluster, way, depth, &mut placed).await?
            };
            shares.push((depth, share));
        }
        let all: f64 = placed.values().sum();
        let mut placement: Vec<f64> = placed.values().map(|count| count / all).collect();
        placement.resize(n.max(placement.len()), 0.0);
        placement.sort_by(|one, two| two.total_cmp(one));
        let of_nodes = if way == Way::All { placements(&leaders) } else { Vec::new() };
        curves.push(Curve { way, shares, placement, of_nodes, k });
    }
    Ok(section(&curves, (n, k)))
}

/// Where each node's messages go: most to any of the shards that it leads, the rest to any.
fn placements(leaders: &[usize]) -> Vec<Vec<f64>> {
    let nodes = leaders.iter().max().map_or(0, |last| last + 1);
    let of = |node: usize| {
        let led = leaders.iter().filter(|leader| **leader == node).count().max(1) as f64;
        let anywhere = (1.0 - LOCAL_SHARE) / leaders.len() as f64;
        let local = |leader: &usize| if *leader == node { LOCAL_SHARE / led } else { 0.0 };
        leaders.iter().map(|leader| anywhere + local(leader)).collect()
    };
    (0..nodes).map(of).collect()
}

fn trial(context: &Context, cluster: &Cluster, way: Way, depth: u32) -> Trial {
    let senders = match way {
        Way::One | Way::Batch => vec![cluster.node(0).to_owned()],
        Way::All => cluster.nodes.clone(),
    };
    let poller = cluster.node(1).to_owned();
    let together = way == Way::Batch;
    Trial { senders, poller, queue_name: context.queue_name(), depth, together }
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
        let trial = trial(context, cluster, way, depth);
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
    let mut filled = trial(context, cluster, way, depth).fill().await?;
    let mut share = Share::default();
    for _ in 0..context.pick(30, 300) {
        let ask = Ask { visibility_s: Some(0), ..Ask::SHORT };
        share.count(filled.poll(ask).await?.letters.is_empty());
    }
    filled.end().await;
    Ok(share)
}

/// The curve, and its part of empty answers at a depth.
fn of(curves: &[Curve], way: Way, depth: u32) -> f64 {
    let curve = curves.iter().find(|curve| curve.way == way);
    curve.and_then(|curve| curve.at(depth)).map_or(f64::NAN, Share::value)
}

fn findings(curves: &[Curve], k: usize) -> Vec<String> {
    let at = |way, depth| {
        let share = of(curves, way, depth);
        if share.is_nan() { "an unknown part".to_owned() } else { percent(share) }
    };
    let one = curves.iter().find(|curve| curve.way == Way::One);
    let heaviest: f64 = one.map_or(0.0, |curve| curve.placement.iter().take(k).sum());
    let spread = of(curves, Way::All, LARGE);
    let skewed = of(curves, Way::One, LARGE);
    let expected = one.map_or(f64::NAN, |curve| curve.expected(LARGE));
    let verdict = if spread > 0.0 {
        "even a backlog that is spread was missed"
    } else if skewed > 0.0 || expected > 0.001 {
        "a backlog that is spread hides nothing from a short poll, and one that is not can still hide from a sample that \
         has none of its shards"
    } else {
        "a backlog of that size hides nothing from a short poll"
    };
    vec![
        format!(
            "With {SMALL} messages {} of the polls were empty when they had been sent through all nodes, {} when \
             they had been sent through one ({k} of its shards had {} of them), and {} when all lay on one shard, where \
             more messages help nobody.",
            at(Way::All, SMALL),
            at(Way::One, SMALL),
            percent(heaviest),
            at(Way::Batch, SMALL)
        ),
        format!(
            "With {LARGE} messages {} and {} (theory: {}) were empty: {verdict}.",
            at(Way::All, LARGE),
            at(Way::One, LARGE),
            percent(expected)
        ),
    ]
}

fn tables(curves: &[Curve]) -> Vec<Table> {
    let header = ["sent", "messages", "trials", "empty", "share", "low", "high", "theory"];
    let mut table = Table::new("depth", &header);
    let mut placements = Table::new("depth-placement", &["sent", "shard", "share"]);
    for curve in curves {
        let way = curve.way.word();
        for (depth, share) in &curve.shares {
            let (low, high) = share.interval();
            let cells = [share.value(), low, high, curve.expected(*depth)].map(number);
            let [value, low, high, expected] = &cells;
            table.row(&[&way, depth, &share.trials, &share.hits, value, low, high, expected]);
        }
        // Of a batch each trial has another shard.
        for (rank, share) in curve.placement.iter().enumerate().filter(|_| curve.way != Way::Batch)
        {
            placements.row(&[&way, &(rank + 1), &number(*share)]);
        }
    }
    vec![table, placements]
}

/// How the theory does, way by way.
fn agreement(curve: &Curve) -> String {
    let all = || curve.shares.iter().map(|(depth, share)| (*share, curve.expected(*depth)));
    let within = all().filter(|(share, expected)| share.agrees(*expected)).count();
    let leans = leaning(all()).map_or(String::new(), |how| format!("; {how}"));
    format!(
        "{}: {within} of {} shares have the theory in their 95 % interval{}{leans}",
        curve.way.name(),
        all().count(),
        by_luck(within, all().count(), "of what makes them differ below, something was at work")
    )
}

fn section(curves: &[Curve], (n, k): (usize, usize)) -> Section {
    let empty = |way| percent(of(curves, way, SMALL));
    let title = format!(
        "Of {SMALL} messages none is seen in {} of short polls if all nodes took them in, {} if one did",
        empty(Way::All),
        empty(Way::One)
    );
    Section {
        name: "depth",
        question: "How deep must a queue be until short polls stop missing?".to_owned(),
        method: format!(
            "{n} shards, samples of {k}, uniform weights (of clusters that the study started); sent through one node, or \
             through all of them in turn, or as one batch, and polled once through a node (with all of them: one that took in \
             its part). Each trial up to 1,000 messages has a fresh queue; a queue of 100,000 is polled often, and its \
             messages become visible again at once. Up to {SINGLE_MAX} messages are sent one by one; more go in batches \
             of ten, each of which lies on one shard and counts as one draw."
        ),
        findings: findings(curves, k),
        theory: vec![format!(
            "With p the share of each shard and D draws, the chance is the mean of (1 − Σ p over the sample)^D over all \
             samples; p is measured (the second table). One batch is one draw: 1 − k/n. Sent through all nodes in turn, messages lie \
             more evenly than by chance: each node has a p of its own ({} to shards that it leads, the rest to any) and its part of \
             D, and the chance is the mean of the product over the nodes. How that agrees: {}. A node with several sends at work puts them on one \
             shard for 20 ms at a time, where a poll finds all or nothing: trials run one after another, so that draws are \
             independent, and under load real queues hide a little more. Repeated polls of the deepest queue are not independent: \
             the node remembers whom it passed over, which makes misses a little rarer.",
            percent(LOCAL_SHARE),
            curves.iter().map(agreement).collect::<Vec<_>>().join("; ")
        )],
        figures: vec![("depth".to_owned(), figure(curves, title, (n, k)))],
        tables: tables(curves),
        ..Section::default()
    }
}

/// Nothing has a place of its own left of one on an axis of logarithms.
const NOTHING: f64 = 0.4;
/// 999 and 1,000 are one place on it: beside each other, they are seen.
const ASIDE: f64 = 1.12;
/// The ways to send, of one depth.
const BESIDE: f64 = 1.06;

fn place(depth: u32, way: Way) -> f64 {
    let beside = match way {
        Way::One => 1.0 / BESIDE,
        Way::All => 1.0,
        Way::Batch => BESIDE,
    };
    match depth {
        0 => NOTHING,
        999 => 999.0 / ASIDE,
        1_000 => 1_000.0 * ASIDE,
        other => f64::from(other) * beside,
    }
}

/// The theory; where batches begin there are fewer draws, and another line begins.
fn lines(curve: &Curve) -> Vec<(f64, f64)> {
    let steps =
        |from: f64, to: f64| (0..=40).map(move |i| from * (to / from).powf(f64::from(i) / 40.0));
    let expected = |depth: f64| 100.0 * curve.expected(depth.round() as u32);
    if curve.way == Way::Batch {
        return steps(1.0, f64::from(BATCH_MAX)).map(|depth| (depth, expected(depth))).collect();
    }
    let last = f64::from(SINGLE_MAX);
    let single = steps(1.0, last).map(|depth| (depth.round(), expected(depth)));
    let batches = steps(last + 1.0, 100_000.0).map(|depth| (depth, expected(depth)));
    single.chain(std::iter::once((last, f64::NAN))).chain(batches).collect()
}

fn figure(curves: &[Curve], title: String, (n, k): (usize, usize)) -> Figure {
    let mut layers = Vec::new();
    for curve in curves {
        let (colour, dash, dot) = match curve.way {
            Way::One => (Colour::Vermilion, Dash::Dashed, Dot::Square),
            Way::All => (Colour::Blue, Dash::Dotted, Dot::Circle),
            Way::Batch => (Colour::Black, Dash::Solid, Dot::Triangle),
        };
        layers.push(Layer::new("", colour, Mark::Line(dash), lines(curve)));
        let dots = curve.shares.iter().map(|(depth, share)| {
            let (low, high) = share.interval();
            Point {
                x: place(*depth, curve.way),
                y: 100.0 * share.value(),
                range: Some((100.0 * low, 100.0 * high)),
            }
        });
        layers.push(Layer::new(curve.way.name(), colour, Mark::Dots(dot), dots));
    }
    let mut x = Axis::log("messages in the queue").range(0.3, 200_000.0);
    let ticks = [1.0, 10.0, 100.0, 1_000.0, 10_000.0, 100_000.0];
    x = x.ticks_at(&ticks);
    x.ticks.insert(0, (NOTHING, "none".to_owned()));
    let y = Axis::linear("empty answers (%)").range(0.0, 100.0);
    let batches = f64::from(SINGLE_MAX) + 1.0;
    let edge =
        Layer::new("", Colour::Grey, Mark::Line(Dash::Dotted), [(batches, 0.0), (batches, 58.0)]);
    layers.insert(0, edge);
    let mut plot = Plot::new(&format!("Short polls of {k} of {n} shards"), x, y, layers)
        .note(0.5, 93.0, "truly empty")
        .note(batches * 1.1, 54.0, "from here on in batches of ten: fewer draws");
    if curves.iter().any(|curve| curve.at(999).is_some() && curve.at(1_000).is_some()) {
        plot = plot.note(800.0, 13.0, "999 and 1,000");
    }
    Figure::new(
        title,
        "The first poll of a queue, without waiting; lines: theory; bars: 95 % confidence"
            .to_owned(),
        vec![plot],
    )
    .height(360.0)
}
