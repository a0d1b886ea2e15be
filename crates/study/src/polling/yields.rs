//! Messages in an answer: what is asked for, what is there, and how the poll waits.

use super::api::Ask;
use super::context::{Context, Shape};
use super::stats::mean;
use super::theory;
use super::trial::{SINGLE_MAX, Trial, draws};
use crate::plot::{Axis, Colour, Dash, Dot, Figure, Layer, Mark, Plot, Point};
use crate::section::{Section, Table, number};

const N: usize = 8;
const K: usize = 3;

/// What many trials of one setting gave.
struct Cell {
    depth: u32,
    max: u32,
    /// Messages in each first answer.
    short: Vec<f64>,
    long: Vec<f64>,
}

impl Cell {
    fn expected(&self) -> f64 {
        let unit = if self.depth <= SINGLE_MAX { 1 } else { 10 };
        theory::messages_per_answer(N, K, draws(self.depth), unit, self.max)
    }
}

pub(super) async fn run(context: &Context) -> anyhow::Result<Section> {
    let depths: &[u32] = context.pick(&[1, 10, 100], &[1, 3, 10, 30, 100, 1_000]);
    let maxima: &[u32] = context.pick(&[1, 10], &[1, 2, 5, 10]);
    let trials = context.pick(12, 80);
    let cluster = context.cluster(&Shape::default()).await;
    let mut cells = Vec::new();
    for depth in depths.iter().copied() {
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
                };
                let (short, long) = (poller(0), poller(1));
                async move { Ok((one(&short, max, 0).await?, one(&long, max, 5).await?)) }
            };
            let what = format!("at most {max} of {depth} messages");
            let counts = context.trials(&what, trials, 4, trial).await?;
            let (short, long) = counts.into_iter().unzip();
            cells.push(Cell { depth, max, short, long });
        }
    }
    Ok(section(&cells, trials))
}

/// Messages in the first answer.
async fn one(trial: &Trial, max: u32, wait_s: u32) -> anyhow::Result<f64> {
    let mut filled = trial.fill().await?;
    let answer = filled.poll(Ask { max, wait_s, visibility_s: None }).await?;
    filled.end().await;
    Ok(answer.letters.len() as f64)
}

fn section(cells: &[Cell], trials: u32) -> Section {
    let header =
        ["messages", "max", "trials", "short", "short_error", "short_theory", "long", "long_error"];
    let mut table = Table::new("yield", &header);
    for cell in cells {
        let ((short, short_error), (long, long_error)) = (mean(&cell.short), mean(&cell.long));
        let numbers = [short, short_error, cell.expected(), long, long_error].map(number);
        let [short, short_error, expected, long, long_error] = &numbers;
        table.row(&[
            &cell.depth,
            &cell.max,
            &trials,
            short,
            short_error,
            expected,
            long,
            long_error,
        ]);
    }
    let find = |depth, max| cells.iter().find(|cell| cell.depth == depth && cell.max == max);
    let of = |depth, max| {
        find(depth, max)
            .map_or((f64::NAN, f64::NAN), |cell| (mean(&cell.short).0, mean(&cell.long).0))
    };
    let (short_100, long_100) = of(100, 10);
    let empty = cells.iter().flat_map(|cell| &cell.long).filter(|count| **count == 0.0).count();
    let ((short_one, long_one), (short_ten, long_ten)) = (of(1, 10), of(10, 10));
    let title = format!(
        "Of one message, short polls bring {short_one:.1}, long ones {long_one:.1}; of ten, {short_ten:.1} and {long_ten:.1}; then \
         answers fill up"
    );
    Section {
        name: "yield",
        question: "How many messages does an answer bring?".to_owned(),
        method: format!(
            "Messages are sent through all nodes, then polled once by a node that knows only its own sends. {trials} fresh \
             queues for each dot; up to {SINGLE_MAX} messages one by one, more in batches of ten."
        ),
        findings: vec![
            format!(
                "Of ten messages a short poll for ten brings {short_ten:.1}, a long poll {long_ten:.1}: neither goes round \
                 all shards once it has something. A long poll first looks at the shards of its own node."
            ),
            format!(
                "With 100 messages it is {short_100:.1} and {long_100:.1}: with a backlog, MaxNumberOfMessages decides, and \
                 ten is a tenth of the requests of one."
            ),
            format!("Of the long polls {empty} were empty, of {} on queues with messages.", cells.len() * trials as usize),
        ],
        theory: vec![
            "A blind sample of 3 of 8 shards finds min(max, Bin(D, 3/8)) messages. From three messages on short polls bring more: \
             weights by backlog lead a node to the shards to which it sent itself, a third of all messages. Long polls have no such line: \
             they take what the first shards have that they reach, at least one message. Four trials at \
             once make a node gather messages on a shard now and then, which spreads answers more than chance would."
                .to_owned(),
        ],
        figures: vec![("yield".to_owned(), figure(cells, title))],
        tables: vec![table],
        broken: (empty > 0)
            .then(|| format!("{empty} long polls were empty although there were messages"))
            .into_iter()
            .collect(),
        values: Vec::new(),
        skipped: None,
    }
}

fn figure(cells: &[Cell], title: String) -> Figure {
    let mut maxima: Vec<u32> = cells.iter().map(|cell| cell.max).collect();
    maxima.sort_unstable();
    maxima.dedup();
    let plots = maxima.into_iter().map(|max| {
        let of_max = || cells.iter().filter(move |cell| cell.max == max);
        let dots = |values: fn(&Cell) -> &Vec<f64>| {
            let dot = move |cell: &Cell| {
                let (middle, error) = mean(values(cell));
                let range = Some(((middle - error).max(0.0), middle + error));
                Point { x: f64::from(cell.depth), y: middle, range }
            };
            of_max().map(dot).collect::<Vec<_>>()
        };
        let theory = of_max().map(|cell| (f64::from(cell.depth), cell.expected()));
        let layers = vec![
            Layer::new(
                "theory for a blind short poll",
                Colour::Vermilion,
                Mark::Line(Dash::Dashed),
                theory,
            ),
            Layer::new(
                "short poll",
                Colour::Sky,
                Mark::DotsAndLine(Dot::Square),
                dots(|cell| &cell.short),
            ),
            Layer::new(
                "long poll",
                Colour::Blue,
                Mark::DotsAndLine(Dot::Circle),
                dots(|cell| &cell.long),
            ),
        ];
        Plot::new(
            &format!("MaxNumberOfMessages = {max}"),
            Axis::log("messages in the queue"),
            Axis::linear("messages per answer").range(0.0, f64::from(max) * 1.08),
            layers,
        )
    });
    Figure::new(
        title,
        "The first poll of a queue, 8 shards, samples of 3; bars: 95 % confidence".to_owned(),
        plots.collect(),
    )
    .height(220.0)
}
