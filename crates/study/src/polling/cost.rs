//! What polling costs, and how long messages wait for it: arrivals by chance against many ways to poll.

use std::time::Duration;

use tokio::task::JoinSet;

use super::context::{Cluster, Context, Shape};
use super::stats::{mean, quantile};
use super::traffic::{self, Consumer, Outcome, Plan, Seen, Style};
use super::{deck, theory};
use crate::plot::{Axis, Colour, Dash, Dot, Figure, Layer, Mark, Plot};
use crate::section::{Section, Table, duration, number};

/// The list price of a million requests to Amazon SQS (standard queues, beyond the free ones), dollars.
const DOLLARS_PER_MILLION: f64 = 0.40;
/// Above this rate, runs are not mixed with others.
const BUSY_PER_S: f64 = 50.0;
/// So many messages make a 99.9th percentile.
const RARE: usize = 1_000;
/// Nodes that take messages in, in turn; the polled one knows only what it took itself.
const NODES: f64 = 3.0;

/// A way to poll, with its name and look.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Kind {
    name: &'static str,
    style: Style,
    colour: Colour,
    dot: Dot,
}

fn kinds() -> [Kind; 7] {
    let short = |name, ms, colour, dot| Kind {
        name,
        style: Style::Short { pause: Duration::from_millis(ms) },
        colour,
        dot,
    };
    let long =
        |name, wait_s, colour, dot| Kind { name, style: Style::Long { wait_s }, colour, dot };
    [
        short("short, back to back", 0, Colour::Black, Dot::Diamond),
        short("short, every 0.1 s", 100, Colour::Purple, Dot::Circle),
        short("short, every 1 s", 1_000, Colour::Vermilion, Dot::Square),
        short("short, every 5 s", 5_000, Colour::Orange, Dot::Triangle),
        long("long, 1 s", 1, Colour::Sky, Dot::Circle),
        long("long, 5 s", 5, Colour::Green, Dot::Square),
        long("long, 20 s", 20, Colour::Blue, Dot::Triangle),
    ]
}

impl Kind {
    /// It keeps a processor busy by itself.
    fn is_greedy(&self) -> bool {
        self.style == Style::Short { pause: Duration::ZERO }
    }

    /// Empty answers per message.
    fn expected(&self, rate_per_s: f64) -> f64 {
        match self.style {
            Style::Short { pause } if pause.is_zero() => f64::NAN,
            Style::Short { pause } => theory::short_empties(rate_per_s, pause.as_secs_f64()),
            Style::Long { wait_s } => theory::long_empties(rate_per_s, f64::from(wait_s)),
        }
    }
}

/// One way at one rate.
struct Cell {
    kind: Kind,
    rate_per_s: f64,
    seen: Seen,
}

impl Cell {
    fn delivered(&self) -> f64 {
        self.seen.delivered.len().max(1) as f64
    }

    fn empties(&self) -> f64 {
        self.seen.count(Outcome::Empty) / self.delivered()
    }

    fn requests(&self) -> f64 {
        self.empties() + self.seen.count(Outcome::Messages) / self.delivered()
    }

    fn dollars(&self) -> f64 {
        self.requests() * DOLLARS_PER_MILLION
    }

    fn latency_ms(&self, share: f64) -> f64 {
        let latencies = self.seen.latencies_ms();
        let enough = share < 0.999 || latencies.len() >= RARE;
        if enough { quantile(&latencies, share) } else { f64::NAN }
    }

    /// The mean of a queue that is empty most of the time.
    fn expected_latency_ms(&self) -> f64 {
        match self.kind.style {
            Style::Short { pause }
                if !pause.is_zero() && self.rate_per_s * pause.as_secs_f64() <= 1.0 =>
            {
                let misses = (1.0 - 1.0 / NODES) * deck::misses(8, 3);
                1_000.0 * theory::short_latency_s(pause.as_secs_f64(), misses)
            }
            _ => f64::NAN,
        }
    }
}

pub(super) async fn run(context: &Context) -> anyhow::Result<Section> {
    let rates: &[f64] = context.pick(&[1.0, 10.0], &[0.2, 1.0, 10.0, 100.0]);
    let cluster = context.cluster(&Shape::default()).await;
    let mut cells = Vec::new();
    let patient = || kinds().into_iter().filter(|kind| !kind.is_greedy());
    let all = |rates: &[f64], kinds: &[Kind]| -> Vec<(Kind, f64)> {
        rates.iter().flat_map(|rate| kinds.iter().map(move |kind| (*kind, *rate))).collect()
    };
    let (quiet, busy): (Vec<f64>, Vec<f64>) = rates.iter().partition(|rate| **rate < BUSY_PER_S);
    let patient: Vec<Kind> = patient().collect();
    context.tell("slow arrivals, six ways at once");
    cells.extend(
        together(context, &cluster, &all(&quiet, &patient), context.pick(15.0, 480.0)).await?,
    );
    for rate in busy {
        context.tell(&format!("{rate} messages per second, six ways at once"));
        cells.extend(together(context, &cluster, &all(&[rate], &patient), 60.0).await?);
    }
    for rate in rates {
        context.tell(&format!("{rate} messages per second, short polls back to back"));
        let greedy = all(&[*rate], &kinds()[..1]);
        let seconds = if *rate < 1.0 { 60.0 } else { 20.0 };
        cells.extend(together(context, &cluster, &greedy, context.pick(4.0, seconds)).await?);
    }
    Ok(section(&cells, rates, context.pick(15, 480)))
}

/// Runs at the same time, each with queues of its own.
async fn together(
    context: &Context,
    cluster: &Cluster,
    cases: &[(Kind, f64)],
    seconds: f64,
) -> anyhow::Result<Vec<Cell>> {
    let mut runs = JoinSet::new();
    for (index, (kind, rate)) in cases.iter().enumerate() {
        // Rare messages tell more in several queues at once.
        let queues = if *rate < 1.0 { 4 } else { 1 };
        for replica in 0..queues {
            let seed = context.seed.wrapping_mul(1_000_003) + (index * 10 + replica) as u64;
            let node = index + replica;
            let plan = plan(context, cluster, (*kind, *rate), node, seconds, seed).await?;
            runs.spawn(async move { (index, traffic::run(plan).await) });
        }
    }
    let mut cells: Vec<Cell> = cases
        .iter()
        .map(|(kind, rate)| Cell { kind: *kind, rate_per_s: *rate, seen: Seen::default() })
        .collect();
    while let Some(ended) = runs.join_next().await {
        let (index, seen) = ended?;
        cells[index].seen.add(seen?);
    }
    Ok(cells)
}

async fn plan(
    context: &Context,
    cluster: &Cluster,
    (kind, rate_per_s): (Kind, f64),
    node: usize,
    seconds: f64,
    seed: u64,
) -> anyhow::Result<Plan> {
    let queue = context.queue(&mut super::api::Api::new(cluster.node(0))).await?;
    let node = cluster.node(node).to_owned();
    Ok(Plan {
        queues: vec![queue.clone()],
        senders: cluster.nodes.clone(),
        rate_per_s,
        seconds,
        seed,
        consumers: vec![Consumer { node, queues: vec![queue], style: kind.style }],
        patience: Duration::from_secs(15),
        visibility_s: None,
        drain: Duration::from_secs(90),
    })
}

fn findings(cells: &[Cell], rates: &[f64]) -> Vec<String> {
    let find = |name: &str, rate: f64| {
        cells.iter().find(|cell| cell.kind.name == name && cell.rate_per_s == rate)
    };
    let slow = rates[0];
    let last = *rates.last().unwrap_or(&1.0);
    let of = |name: &str, value: fn(&Cell) -> f64| find(name, slow).map_or(f64::NAN, value);
    let at_p = |name: &str, rate: f64, share: f64| {
        duration(find(name, rate).map_or(f64::NAN, |cell| cell.latency_ms(share)))
    };
    vec![
        format!(
            "At {slow} messages per second, long polls of 20 s need {:.2} receive requests per message, those of 1 s {:.1}; \
                 short polls every second {:.1}, every 0.1 s {:.0}, and back to back {:.0}.",
            of("long, 20 s", Cell::requests),
            of("long, 1 s", Cell::requests),
            of("short, every 1 s", Cell::requests),
            of("short, every 0.1 s", Cell::requests),
            of("short, back to back", Cell::requests)
        ),
        format!(
            "At {DOLLARS_PER_MILLION:.2} dollars per million requests (AWS's list price for standard queues), receiving a million \
                 messages that arrive at that rate costs {:.2} dollars with long polls of 20 s, {:.2} with short polls every second, \
                 {:.0} with short ones every 0.1 s. Sending and deleting are not counted.",
            of("long, 20 s", Cell::dollars),
            of("short, every 1 s", Cell::dollars),
            of("short, every 0.1 s", Cell::dollars)
        ),
        format!(
            "From send to receive: long polls of 20 s {} (p99 {}); short polls every second {} (p99 {}); every 0.1 s {} (p99 {}). \
                 At {last} messages per second: {}, {} and {} (medians).",
            at_p("long, 20 s", slow, 0.5),
            at_p("long, 20 s", slow, 0.99),
            at_p("short, every 1 s", slow, 0.5),
            at_p("short, every 1 s", slow, 0.99),
            at_p("short, every 0.1 s", slow, 0.5),
            at_p("short, every 0.1 s", slow, 0.99),
            at_p("long, 20 s", last, 0.5),
            at_p("short, every 1 s", last, 0.5),
            at_p("short, every 0.1 s", last, 0.5)
        ),
        format!(
            "What many messages cost depends on how many come at once: at {last} messages per second, long polls of 20 s need {:.2} \
                 requests per message and short polls every 5 s {:.2}, because a pause lets messages gather. Who can wait that long may \
                 poll late on purpose, with either kind.",
            find("long, 20 s", last).map_or(f64::NAN, Cell::requests),
            find("short, every 5 s", last).map_or(f64::NAN, Cell::requests)
        ),
    ]
}

fn section(cells: &[Cell], rates: &[f64], seconds: u32) -> Section {
    let find = |name: &str, rate: f64| {
        cells.iter().find(|cell| cell.kind.name == name && cell.rate_per_s == rate)
    };
    let slow = rates[0];
    let of = |name: &str, value: fn(&Cell) -> f64| find(name, slow).map_or(f64::NAN, value);
    let lost: u64 = cells.iter().map(|cell| cell.seen.lost).sum();
    Section {
        name: "cost",
        question: "What does polling cost, and how long do messages wait for it?".to_owned(),
        method: format!(
            "Messages arrive by chance (Poisson), sent through all nodes in turn; one consumer polls one of the nodes, ten messages \
             at most, and deletes what it gets. After an answer with messages it polls again at once, after an empty one it \
             pauses (short) or polls again (long). {seconds} s for each slow rate (four queues below one message per second)."
        ),
        findings: findings(cells, rates),
        theory: vec![
            "Empty answers per message: a short poller that pauses T makes 1/(λT); a long poll of W is empty with the chance \
             p = e^(−λW), so there are p/(1 − p) before each message. Short polls lie below the line where the \
             polling itself takes a good part of the time, because there are many messages."
                .to_owned(),
            format!(
                "A short poller's mean latency is half a pause and a whole one for each poll that misses the message: {:.2} of them, \
                 because two of three messages came through nodes that it does not poll. This holds while the queue \
                 is empty most of the time (λT up to 1).",
                (1.0 - 1.0 / NODES) * deck::misses(8, 3)
            ),
        ],
        figures: vec![
            ("cost-empties".to_owned(), empties_figure(cells, rates)),
            ("cost-dollars".to_owned(), dollars_figure(cells, slow)),
            ("latency".to_owned(), latency_figure(cells, rates)),
        ],
        tables: vec![table(cells)],
        broken: (lost > 0).then(|| format!("{lost} acknowledged messages did not come")).into_iter().collect(),
        values: vec![
            ("long 20 s, requests", of("long, 20 s", Cell::requests)),
            ("short 1 s, requests", of("short, every 1 s", Cell::requests)),
            ("long 20 s, p50 ms", of("long, 20 s", |cell| cell.latency_ms(0.5))),
            ("short 1 s, p50 ms", of("short, every 1 s", |cell| cell.latency_ms(0.5))),
            ("rate", slow),
        ],
        skipped: None,
    }
}

fn table(cells: &[Cell]) -> Table {
    let header = [
        "style",
        "rate_per_s",
        "messages",
        "empty_per_message",
        "theory",
        "requests_per_message",
        "dollars_per_million",
        "p50_ms",
        "p99_ms",
        "p999_ms",
        "mean_ms",
        "theory_mean_ms",
        "errors",
        "lost",
    ];
    let mut table = Table::new("cost", &header);
    for cell in cells {
        let numbers = [
            cell.empties(),
            cell.kind.expected(cell.rate_per_s),
            cell.requests(),
            cell.dollars(),
            cell.latency_ms(0.5),
            cell.latency_ms(0.99),
            cell.latency_ms(0.999),
            mean(&cell.seen.latencies_ms()).0,
            cell.expected_latency_ms(),
        ];
        let numbers = numbers.map(number).join(",");
        let errors = cell.seen.count(Outcome::Error) as u64 + cell.seen.send_errors.len() as u64;
        let name = cell.kind.name.replace(',', ";");
        let mut row = vec![name, number(cell.rate_per_s), cell.seen.delivered.len().to_string()];
        row.extend(numbers.split(',').map(str::to_owned));
        row.extend([errors.to_string(), cell.seen.lost.to_string()]);
        table.rows.push(row);
    }
    table
}

fn line(cells: &[Cell], kind: &Kind, value: impl Fn(&Cell) -> f64) -> Vec<(f64, f64)> {
    let mut points: Vec<(f64, f64)> = cells
        .iter()
        .filter(|cell| cell.kind == *kind)
        .map(|cell| (cell.rate_per_s, value(cell)))
        .collect();
    points.sort_by(|one, two| one.0.total_cmp(&two.0));
    points
}

fn empties_figure(cells: &[Cell], rates: &[f64]) -> Figure {
    const LEAST: f64 = 0.001;
    let slow = rates[0];
    let of = |name: &str| {
        let cell = cells.iter().find(|cell| cell.kind.name == name && cell.rate_per_s == slow);
        cell.map_or(f64::NAN, Cell::empties)
    };
    let (from, to) = (rates[0] / 1.5, rates[rates.len() - 1] * 1.5);
    let plot = |title: &str, short: bool| {
        let mut layers = Vec::new();
        for kind in kinds().iter().filter(|kind| matches!(kind.style, Style::Short { .. }) == short)
        {
            let at = |i: u32| from * (to / from).powf(f64::from(i) / 100.0);
            let theory = (0..=100).map(|i| (at(i), kind.expected(at(i))));
            // Where a line has fallen below the picture it ends.
            let theory: Vec<_> =
                theory.map(|(x, y)| (x, if y < LEAST { f64::NAN } else { y })).collect();
            layers.push(Layer::new("", kind.colour, Mark::Line(Dash::Dashed), theory));
            layers.push(Layer::new(
                kind.name,
                kind.colour,
                Mark::Dots(kind.dot),
                line(cells, kind, Cell::empties),
            ));
        }
        let x = Axis::log("messages arriving per second").range(from, to).ticks_at(rates);
        Plot::new(title, x, Axis::log("empty answers per message").range(LEAST, 20_000.0), layers)
    };
    Figure::new(
        format!(
            "{:.2} empty answers per message in waits of 20 s, {:.1} in short polls every 1 s (at {}/s)",
            of("long, 20 s"),
            of("short, every 1 s"),
            crate::plot::number(slow)
        ),
        "Empty answers per delivered message; dashed: theory; what is on the lower edge is nearly or exactly nothing"
            .to_owned(),
        vec![plot("Short polls", true), plot("Long polls", false)],
    )
    .height(340.0)
}

fn dollars_figure(cells: &[Cell], slow: f64) -> Figure {
    let rates = |kind: &Kind| line(cells, kind, Cell::dollars);
    let layers = kinds()
        .iter()
        .map(|kind| Layer::new(kind.name, kind.colour, Mark::DotsAndLine(kind.dot), rates(kind)))
        .collect();
    let all: Vec<f64> = cells.iter().map(|cell| cell.rate_per_s).collect();
    let (from, to) = (quantile(&all, 0.0), quantile(&all, 1.0));
    let ticks: Vec<f64> =
        [0.2, 1.0, 10.0, 100.0].into_iter().filter(|rate| *rate >= from && *rate <= to).collect();
    let plot = Plot::new(
        "",
        Axis::log("messages arriving per second").range(from / 1.5, to * 1.5).ticks_at(&ticks),
        Axis::log("dollars for receiving a million messages"),
        layers,
    );
    let of = |name: &str| {
        let cell = cells.iter().find(|cell| cell.kind.name == name && cell.rate_per_s == slow);
        cell.map_or(f64::NAN, Cell::requests)
    };
    let ratio = of("short, every 0.1 s") / of("long, 20 s");
    Figure::new(
        format!("A slow queue costs {ratio:.0} times as much polled every 0.1 s as in waits of 20 s"),
        format!("Receive requests at {DOLLARS_PER_MILLION:.2} dollars per million (AWS's list price); one consumer"),
        vec![plot],
    )
    .height(360.0)
}

fn latency_figure(cells: &[Cell], rates: &[f64]) -> Figure {
    let at = |name: &str| {
        let cell = cells.iter().find(|cell| cell.kind.name == name && cell.rate_per_s == rates[0]);
        duration(cell.map_or(f64::NAN, |cell| cell.latency_ms(0.5)))
    };
    let plots = rates.iter().map(|rate| {
        let find =
            |kind: &Kind| cells.iter().find(|cell| cell.kind == *kind && cell.rate_per_s == *rate);
        let points = |value: &dyn Fn(&Cell) -> f64| -> Vec<(f64, f64)> {
            let at = |(x, kind): (usize, &Kind)| find(kind).map(|cell| (x as f64, value(cell)));
            kinds().iter().enumerate().filter_map(at).collect()
        };
        let quantiles = [
            ("half of the messages within", 0.5, Colour::Blue, Dot::Circle),
            ("99 % within", 0.99, Colour::Orange, Dot::Square),
            ("99.9 % within", 0.999, Colour::Vermilion, Dot::Triangle),
        ];
        let mut layers: Vec<Layer> = quantiles
            .iter()
            .map(|(name, share, colour, dot)| {
                let dots = points(&|cell| cell.latency_ms(*share));
                Layer::new(name, *colour, Mark::Dots(*dot), dots)
            })
            .collect();
        let expected = points(&Cell::expected_latency_ms);
        let means = points(&|cell| mean(&cell.seen.latencies_ms()).0);
        layers.push(Layer::new("mean", Colour::Black, Mark::Dots(Dot::Diamond), means));
        layers.insert(0, Layer::new("long polls", Colour::Sky, Mark::Span, [(3.5, 6.5)]));
        layers
            .insert(1, Layer::new("theory of the mean", Colour::Grey, Mark::Ticks(0, 1), expected));
        let names = ["none", "0.1 s", "1 s", "5 s", "1 s", "5 s", "20 s"];
        Plot::new(
            &format!("Messages arriving per second: {}", crate::plot::number(*rate)),
            Axis::names("short polls with a pause of …   |   long polls of …", names),
            Axis::log("send to receive (ms)")
                .range(0.7, 40_000.0)
                .ticks_at(&[1., 10., 100., 1_000., 10_000.]),
            layers,
        )
    });
    Figure::new(
        format!(
            "Half of the messages come within {} in waits of 20 s, within {} in short polls every 1 s",
            at("long, 20 s"),
            at("short, every 1 s")
        ),
        "From when a message was due to be sent to the answer that brought it; 99.9 % where there were 1,000 messages. The \
         title is of the slowest rate."
            .to_owned(),
        plots.collect(),
    )
    .height(230.0)
}
