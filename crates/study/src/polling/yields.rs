//! Messages in an answer: what is asked for, what is there, and how the poll waits.

use super::api::Ask;
use super::context::{Context, Shape};
use super::deck::{self, LONG_RUNS};
use super::stats::{Estimate, by_luck, mean};
use super::theory;
use super::trial::{SINGLE_MAX, Trial, draws};
use crate::plot::{Axis, Colour, Dash, Dot, Figure, Layer, Mark, Plot};
use crate::section::{Section, Table, number};

/// Depths of which words speak.
const SMALL: u32 = 10;
const LARGE: u32 = 100;
/// Beyond it answers are full, and fewer trials say the same.
const RICH: u32 = 30;
/// Nodes that are polled.
const SHORT_POLLER: usize = 0;
const LONG_POLLER: usize = 1;

/// What many trials of one setting gave.
struct Cell {
    depth: u32,
    max: u32,
    /// Messages in each first answer.
    short: Vec<f64>,
    long: Vec<f64>,
}

impl Cell {
    fn empty_long(&self) -> usize {
        self.long.iter().filter(|count| **count == 0.0).count()
    }
}

/// What theory says of one depth and maximum.
#[derive(Clone, Copy, Debug)]
struct Expected {
    depth: u32,
    max: u32,
    /// Of a poll that knows nothing, in closed form.
    blind: f64,
    /// With what the polled node knows, by a model.
    short: f64,
    /// Of all shards.
    long: f64,
}

/// What was polled.
struct Ground {
    leaders: Vec<usize>,
    k: usize,
    nodes: usize,
}

impl Ground {
    fn n(&self) -> usize {
        self.leaders.len()
    }

    fn expected(&self, depth: u32, maxima: &[u32]) -> Vec<Expected> {
        let unit = if depth <= SINGLE_MAX { 1 } else { 10 };
        let sizes: Vec<usize> = maxima.iter().map(|max| *max as usize).collect();
        let draw = (draws(depth), unit as usize);
        let poller = (SHORT_POLLER % self.nodes, self.nodes);
        let short = deck::yielded(&self.leaders, self.k, poller, draw, &sizes);
        let expected = |(index, max): (usize, &u32)| Expected {
            depth,
            max: *max,
            blind: theory::messages_per_answer(self.n(), self.k, draws(depth), unit, *max),
            short: short[index],
            long: f64::from(depth.min(*max)),
        };
        maxima.iter().enumerate().map(expected).collect()
    }
}

pub(super) async fn run(context: &Context) -> anyhow::Result<Section> {
    let depths: &[u32] = context.pick(&[1, 10, 100], &[1, 3, 10, 30, 100, 1_000]);
    let maxima: &[u32] = context.pick(&[1, 10], &[1, 2, 5, 10]);
    let cluster = context.cluster(&Shape::default()).await;
    let ground = Ground {
        leaders: cluster.leaders().await,
        k: cluster.shape.sample,
        nodes: cluster.nodes.len(),
    };
    let mut cells = Vec::new();
    for depth in depths.iter().copied() {
        let trials = if depth > RICH { context.pick(6, 20) } else { context.pick(12, 80) };
        for max in maxima.iter().copied() {
            let trial = |_| {
                // The polled node takes its part in last, so that it does not know a lone message.
                let poller = |index: usize| Trial {
                    senders: (1..=cluster.nodes.len())
                        .map(|next| cluster.node(index + next).to_owned())
                        .collect(),
                    poller: cluster.node(index).to_owned(),
                    queue_name: context.queue_name(),
                    depth,
                    together: false,
                };
                let (short, long) = (poller(SHORT_POLLER), poller(LONG_POLLER));
                async move { Ok((one(&short, max, 0).await?, one(&long, max, 5).await?)) }
            };
            let what = format!("at most {max} of {depth} messages");
            // One after another: a node with several sends at work gathers them on one shard.
            let counts = context.trials(&what, trials, 1, trial).await?;
            let (short, long) = counts.into_iter().unzip();
            cells.push(Cell { depth, max, short, long });
        }
    }
    context.tell("the model of it");
    let grid = depths_between(depths);
    let expected = grid.into_iter().flat_map(|depth| ground.expected(depth, maxima)).collect();
    Ok(section(&cells, &ground, expected))
}

/// Those, and some in between; not where batches begin, which is a jump.
fn depths_between(depths: &[u32]) -> Vec<u32> {
    let last = depths.last().copied().unwrap_or(1);
    let steps = (0..=40).map(|i| f64::from(last).powf(f64::from(i) / 40.0).round() as u32);
    let mut all: Vec<u32> = steps.chain(depths.iter().copied()).collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// Messages in the first answer.
async fn one(trial: &Trial, max: u32, wait_s: u32) -> anyhow::Result<f64> {
    let mut filled = trial.fill().await?;
    let answer = filled.poll(Ask { max, wait_s, visibility_s: None }).await?;
    filled.end().await;
    Ok(answer.letters.len() as f64)
}

fn table(cells: &[Cell], expected: &[Expected]) -> Table {
    let header = [
        "messages",
        "max",
        "trials",
        "short",
        "short_low",
        "short_high",
        "short_model",
        "blind_theory",
        "long",
        "long_low",
        "long_high",
        "long_theory",
    ];
    let mut table = Table::new("yield", &header);
    for cell in cells {
        let model = expected.iter().find(|one| (one.depth, one.max) == (cell.depth, cell.max));
        let of = |value: fn(&Expected) -> f64| number(model.map_or(f64::NAN, value));
        let mut row =
            vec![cell.depth.to_string(), cell.max.to_string(), cell.short.len().to_string()];
        row.extend(mean(&cell.short).cells());
        row.extend([of(|one| one.short), of(|one| one.blind)]);
        row.extend(mean(&cell.long).cells());
        row.push(of(|one| one.long));
        table.rows.push(row);
    }
    table
}

/// Whether a mean is what the model says, as far as its interval tells. Where nearly all trials gave the same there
/// is hardly an interval, and the model's own chance counts.
fn agrees(counts: &[f64], model: f64) -> bool {
    let measured = mean(counts);
    measured.covers(model) || (measured.value - model).abs() < 0.05
}

/// How many of the means have the model in their interval.
fn agreement(cells: &[Cell], expected: &[Expected]) -> String {
    let of = |cell: &Cell| expected.iter().find(|it| (it.depth, it.max) == (cell.depth, cell.max));
    let pairs: Vec<_> = cells.iter().filter_map(|cell| Some((cell, of(cell)?))).collect();
    let short = pairs.iter().filter(|(cell, it)| agrees(&cell.short, it.short)).count();
    let long = pairs.iter().filter(|(cell, it)| agrees(&cell.long, it.long)).count();
    let count = pairs.len();
    format!(
        "{short} of {count} means of short polls have the model in their 95 % interval{}; of long polls {long} have what \
         there is{}.",
        by_luck(short, count, "messages lay on more or fewer shards than the model draws"),
        by_luck(long, count, "a long poll is answered by the first shards that have something"),
    )
}

fn section(cells: &[Cell], ground: &Ground, expected: Vec<Expected>) -> Section {
    let of = |depth, max| {
        let cell = cells.iter().find(|cell| cell.depth == depth && cell.max == max);
        cell.map_or((f64::NAN, f64::NAN), |cell| (mean(&cell.short).value, mean(&cell.long).value))
    };
    let (n, k) = (ground.n(), ground.k);
    let empty: usize = cells.iter().map(Cell::empty_long).sum();
    let polls: usize = cells.iter().map(|cell| cell.long.len()).sum();
    let (short_ten, long_ten) = of(SMALL, 10);
    let (short_many, long_many) = of(LARGE, 10);
    let full = short_many > 9.0 && long_many > 9.0;
    let title = format!(
        "Of ten messages a long poll brings {long_ten:.1}, a short one {short_ten:.1}{}",
        if full { "; of a hundred both bring ten" } else { "" }
    );
    Section {
        name: "yield",
        question: "How many messages does an answer bring?".to_owned(),
        method: format!(
            "Messages are sent through all nodes, then polled once by a node that knows only its own sends; {n} shards, samples \
             of {k}. Fresh queues, one after another; up to {SINGLE_MAX} messages one by one, more in batches of ten."
        ),
        findings: vec![
            format!(
                "Of ten messages a short poll for ten brings {short_ten:.1}, a long poll {long_ten:.1}{}.",
                if short_ten < 9.0 && long_ten > 9.0 {
                    ": one asks a sample of the shards, the other all of them"
                } else {
                    ""
                }
            ),
            format!(
                "With {LARGE} messages it is {short_many:.1} and {long_many:.1}{}.",
                if full {
                    ": with a backlog, MaxNumberOfMessages decides, and ten is a tenth of the requests of one"
                } else {
                    ""
                }
            ),
            format!("Of the long polls {empty} were empty, of {polls} on queues with messages."),
        ],
        theory: vec![format!(
            "A blind sample of {k} of {n} shards finds min(max, Bin(D, {k}/{n})) messages of D. From the second round of sends on \
             the polled node knows where it put its own, and asks there first; that is the mean of {LONG_RUNS} models (no closed form). A long poll begins \
             with the shards that were not asked for 0.2 s, here all of them: min(max, D). One that comes sooner after another is \
             content with what its own node's shards have, if they have something. {}",
            agreement(cells, &expected)
        )],
        tables: vec![table(cells, &expected)],
        figures: vec![("yield".to_owned(), figure(cells, &expected, (n, k), title))],
        broken: (empty > 0)
            .then(|| format!("{empty} long polls were empty although there were messages"))
            .into_iter()
            .collect(),
        ..Section::default()
    }
}

fn figure(cells: &[Cell], expected: &[Expected], (n, k): (usize, usize), title: String) -> Figure {
    let mut maxima: Vec<u32> = cells.iter().map(|cell| cell.max).collect();
    maxima.sort_unstable();
    maxima.dedup();
    let last = cells.iter().map(|cell| cell.depth).max().unwrap_or(1);
    let plots = maxima.into_iter().map(|max| {
        let dots = |values: fn(&Cell) -> &Vec<f64>| {
            let of_max = cells.iter().filter(|cell| cell.max == max);
            let clip = |one: Estimate| Estimate { low: one.low.max(0.0), ..one };
            of_max
                .map(|cell| clip(mean(values(cell))).at(f64::from(cell.depth)))
                .collect::<Vec<_>>()
        };
        let line = |of: fn(&Expected) -> f64| {
            let of_max = expected.iter().filter(|one| one.max == max);
            of_max.map(|one| (f64::from(one.depth), of(one))).collect::<Vec<_>>()
        };
        let mark = |dash| Mark::Line(dash);
        let layers = vec![
            Layer::new(
                "blind short poll: closed form",
                Colour::Grey,
                mark(Dash::Dotted),
                line(|one| one.blind),
            ),
            Layer::new(
                "short poll: model",
                Colour::Vermilion,
                mark(Dash::Dashed),
                line(|one| one.short),
            ),
            Layer::new(
                "long poll: all there are, or as many as asked for",
                Colour::Blue,
                mark(Dash::Dashed),
                line(|one| one.long),
            ),
            Layer::new(
                "short poll: measured",
                Colour::Vermilion,
                Mark::Dots(Dot::Square),
                dots(|cell| &cell.short),
            ),
            Layer::new(
                "long poll: measured",
                Colour::Blue,
                Mark::Dots(Dot::Circle),
                dots(|cell| &cell.long),
            ),
        ];
        Plot::new(
            &format!("MaxNumberOfMessages = {max}"),
            Axis::log("messages in the queue").range(0.85, f64::from(last) * 1.2),
            Axis::linear("messages per answer").range(0.0, f64::from(max) * 1.08),
            layers,
        )
    });
    Figure::new(
        title,
        format!("The first poll of a queue, {n} shards, samples of {k}; bars: 95 % confidence"),
        plots.collect(),
    )
    .height(220.0)
}
