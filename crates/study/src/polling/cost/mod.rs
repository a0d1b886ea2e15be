//! What polling costs, and how long messages wait for it: arrivals by chance against many ways to
//! poll.

mod draw;
mod words;

use std::time::Duration;

use tokio::task::JoinSet;

use super::context::{Cluster, Context, Shape};
use super::model::{Forecast, Poller, Times, World, forecasts};
use super::stats::Estimate;
use super::theory;
use super::traffic::{self, Consumer, Outcome, Plan, Seen, Style};
use crate::plot::{Colour, Dot};
use crate::section::{Section, Table, number};

/// The list price of a million requests to Amazon SQS (standard queues, beyond the free ones),
/// dollars.
const DOLLARS_PER_MILLION: f64 = 0.40;
/// How often everything is measured, from the first way to the last and again.
const TURNS: u64 = 3;
const TURNS_QUICK: u64 = 2;
/// Above this rate, runs are not mixed with others.
const BUSY_PER_S: f64 = 50.0;
/// Of a model.
const MODEL_MESSAGES: usize = 4_000;
const MODEL_MESSAGES_MIN: usize = 100;
/// A model of rare messages ends early.
const MODEL_POLLS: f64 = 300_000.0;

/// A way to poll, with its name and look.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Kind {
    name: &'static str,
    /// Below a chart.
    tick: &'static str,
    style: Style,
    colour: Colour,
    dot: Dot,
}

const BACK_TO_BACK: &str = "short, back to back";
const SHORT_TENTH: &str = "short, every 0.1 s";
const SHORT_ONE: &str = "short, every 1 s";
const SHORT_FIVE: &str = "short, every 5 s";
const LONG_ONE: &str = "long, 1 s";
const LONG: &str = "long, 20 s";
const COLLECT: &str = "long, 20 s, pause of 1 s";

fn kinds() -> [Kind; 8] {
    let kind = |name, tick, style, colour, dot| Kind { name, tick, style, colour, dot };
    let short = |ms| Style::Short { pause: Duration::from_millis(ms) };
    let long = |wait_s| Style::Long { wait_s };
    let collect = Style::Collect { wait_s: 20, pause: Duration::from_secs(1) };
    [
        kind(BACK_TO_BACK, "none", short(0), Colour::Black, Dot::Diamond),
        kind(SHORT_TENTH, "0.1 s", short(100), Colour::Purple, Dot::Circle),
        kind(SHORT_ONE, "1 s", short(1_000), Colour::Vermilion, Dot::Square),
        kind(SHORT_FIVE, "5 s", short(5_000), Colour::Orange, Dot::Triangle),
        kind(LONG_ONE, "1 s", long(1), Colour::Sky, Dot::Circle),
        kind("long, 5 s", "5 s", long(5), Colour::Green, Dot::Square),
        kind(LONG, "20 s", long(20), Colour::Blue, Dot::Triangle),
        kind(COLLECT, "20 s*", collect, Colour::Grey, Dot::Diamond),
    ]
}

impl Kind {
    /// It keeps a processor busy by itself.
    fn is_greedy(&self) -> bool {
        self.name == BACK_TO_BACK
    }

    fn is_short(&self) -> bool {
        matches!(self.style, Style::Short { .. })
    }

    /// Empty answers per message, in closed form.
    fn expected(&self, rate_per_s: f64) -> f64 {
        match self.style {
            Style::Short { pause } if pause.is_zero() => f64::NAN,
            Style::Short { pause } => theory::short_empties(rate_per_s, pause.as_secs_f64()),
            Style::Long { wait_s } => theory::long_empties(rate_per_s, f64::from(wait_s)),
            Style::Collect { .. } => f64::NAN,
        }
    }
}

/// One way at one rate.
struct Cell {
    kind: Kind,
    rate_per_s: f64,
    seen: Seen,
    /// What should be seen, at the rate at which messages did come.
    model: Forecast,
}

impl Cell {
    fn empties(&self) -> Estimate {
        self.seen.per_message(&[Outcome::Empty])
    }

    fn requests(&self) -> Estimate {
        self.seen.per_message(&[Outcome::Empty, Outcome::Messages])
    }

    fn dollars(&self) -> Estimate {
        self.requests().map(|requests| requests * DOLLARS_PER_MILLION)
    }

    fn latency_ms(&self, share: f64) -> f64 {
        self.seen.latencies([share])[0].value
    }
}

/// All of them.
struct Cells {
    all: Vec<Cell>,
    rates: Vec<f64>,
    /// Shards, and how many of them a short poll asks.
    size: (usize, usize),
    /// Of a run with a slow rate, and how many turns of runs there were.
    seconds: f64,
    turns: u64,
}

impl Cells {
    fn find(&self, name: &str, rate: f64) -> Option<&Cell> {
        self.all.iter().find(|cell| cell.kind.name == name && cell.rate_per_s == rate)
    }

    fn slow(&self) -> f64 {
        self.rates[0]
    }

    fn last(&self) -> f64 {
        self.rates[self.rates.len() - 1]
    }

    /// No number where it was not measured.
    fn of(&self, name: &str, rate: f64, value: impl Fn(&Cell) -> f64) -> f64 {
        self.find(name, rate).map_or(f64::NAN, value)
    }
}

pub(super) async fn run(context: &Context) -> anyhow::Result<Section> {
    let rates: &[f64] = context.pick(&[1.0, 10.0], &[0.2, 1.0, 10.0, 100.0]);
    let cluster = context.cluster(&Shape::default()).await;
    // In three turns, ten messages a second come to the 4,000 of which a 99.9th percentile can be told.
    let (seconds, turns) = (context.pick(7.5, 150.0), context.pick(TURNS_QUICK, TURNS));
    let mut cases: Vec<(Kind, f64, Seen)> = Vec::new();
    for turn in 0..turns {
        for (number, (cells, seconds)) in sittings(context, rates, seconds).into_iter().enumerate()
        {
            context.tell(&format!("turn {}, sitting {}", turn + 1, number + 1));
            for (kind, rate, seen) in together(context, &cluster, &cells, seconds, turn).await? {
                let same = |case: &&mut (Kind, f64, Seen)| (case.0, case.1) == (kind, rate);
                match cases.iter_mut().find(same) {
                    Some((.., all)) => all.add(seen),
                    None => cases.push((kind, rate, seen)),
                }
            }
        }
    }
    context.tell("the models of it");
    let leaders = cluster.leaders().await;
    let k = cluster.shape.sample;
    // Polls back to back are alone with the cluster, which the others share.
    let times = |(kind, rate, seen): &(Kind, f64, Seen)| {
        let quick = cases.iter().find(|(kind, other, _)| kind.name == SHORT_TENTH && other == rate);
        Times::of(kind.is_greedy().then_some(seen).into_iter().chain(quick.map(|(.., seen)| seen)))
    };
    let times: Vec<Times> = cases.iter().map(times).collect();
    let cell = |((kind, rate_per_s, seen), times): ((Kind, f64, Seen), Times)| {
        let model = model(context, (&leaders, k), &kind, &seen, times);
        Cell { kind, rate_per_s, seen, model }
    };
    let all = cases.into_iter().zip(times).map(cell).collect();
    let size = (cluster.shape.shards, k);
    Ok(section(&Cells { all, rates: rates.to_vec(), size, seconds, turns }))
}

/// Which ways and rates are measured at the same time, and for how long: all that are slow; each
/// that is not; and whoever keeps a processor busy, alone.
fn sittings(context: &Context, rates: &[f64], seconds: f64) -> Vec<(Vec<(Kind, f64)>, f64)> {
    let all = |rates: &[f64], greedy: bool| -> Vec<(Kind, f64)> {
        let kinds: Vec<Kind> =
            kinds().into_iter().filter(|kind| kind.is_greedy() == greedy).collect();
        rates.iter().flat_map(|rate| kinds.iter().map(|kind| (*kind, *rate))).collect()
    };
    let (quiet, busy): (Vec<f64>, Vec<f64>) = rates.iter().partition(|rate| **rate < BUSY_PER_S);
    let mut sittings = vec![(all(&quiet, false), seconds)];
    sittings.extend(busy.iter().map(|rate| (all(&[*rate], false), 20.0)));
    let greedy = |rate: &f64| match *rate {
        0.0..=1.0 => 20.0,
        rate if rate < BUSY_PER_S => 7.0,
        // For the same number of messages.
        _ => 15.0,
    };
    sittings
        .extend(rates.iter().map(|rate| (all(&[*rate], true), context.pick(2.0, greedy(rate)))));
    sittings
}

/// What one consumer should see.
fn model(
    context: &Context,
    (leaders, k): (&[usize], usize),
    kind: &Kind,
    seen: &Seen,
    times: Times,
) -> Forecast {
    let rate_per_s = seen.rate_per_s();
    if leaders.is_empty() || rate_per_s <= 0.0 {
        return Forecast::default();
    }
    let possible = (MODEL_POLLS * times.poll_s(kind.style) * rate_per_s) as usize;
    let poller = Poller { node: 1, queues: vec![0], style: kind.style, delay_s: 0.0 };
    let world = World {
        leaders: leaders.to_vec(),
        k,
        queues: 1,
        rate_per_s,
        pollers: vec![poller],
        times,
        send_s: seen.send_s(),
        messages: seen.messages_per_run(),
        seed: context.seed,
    };
    forecasts(&world, possible.clamp(MODEL_MESSAGES_MIN, context.pick(1_000, MODEL_MESSAGES)))
}

/// Runs at the same time, each with queues of its own.
async fn together(
    context: &Context,
    cluster: &Cluster,
    cases: &[(Kind, f64)],
    seconds: f64,
    turn: u64,
) -> anyhow::Result<Vec<(Kind, f64, Seen)>> {
    let mut runs = JoinSet::new();
    for (index, (kind, rate)) in cases.iter().enumerate() {
        // Rare messages tell more in several queues at once.
        let queues = if *rate < 1.0 { 4 } else { 1 };
        for replica in 0..queues {
            let number = turn * 1_000 + (index * 10 + replica) as u64;
            let seed = context.seed.wrapping_mul(1_000_003) + number;
            let node = index + replica;
            let plan = plan(context, cluster, (*kind, *rate), node, seconds, seed).await?;
            runs.spawn(async move { (index, traffic::run(plan).await) });
        }
    }
    let mut all: Vec<(Kind, f64, Seen)> =
        cases.iter().map(|(kind, rate)| (*kind, *rate, Seen::default())).collect();
    while let Some(ended) = runs.join_next().await {
        let (index, seen) = ended?;
        all[index].2.add(seen?);
    }
    Ok(all)
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
    let queues = vec![queue];
    Ok(Plan {
        queues: queues.clone(),
        senders: cluster.nodes.clone(),
        rate_per_s,
        seconds,
        seed,
        consumers: vec![Consumer { node, queues, style: kind.style, delay: Duration::ZERO }],
        patience: Duration::from_secs(15),
        visibility_s: None,
        drain: Duration::from_secs(90),
    })
}

fn section(cells: &Cells) -> Section {
    let slow = cells.slow();
    let busy = cells.rates.iter().copied().fold(0.0, f64::max);
    let at_slow = |name, value: fn(&Cell) -> f64| cells.of(name, slow, value);
    let requests = |cell: &Cell| cell.requests().value;
    let half = |cell: &Cell| cell.latency_ms(0.5);
    let slowest = |cell: &Cell| cell.latency_ms(0.99);
    let lost: u64 = cells.all.iter().map(|cell| cell.seen.lost).sum();
    Section {
        name: "cost",
        question: "What does polling cost, and how long do messages wait for it?".to_owned(),
        method: words::method(cells),
        findings: words::findings(cells),
        theory: words::theory(cells),
        advice: words::advice(cells),
        figures: vec![
            ("cost-empties".to_owned(), draw::empties(cells)),
            ("cost-dollars".to_owned(), draw::dollars(cells)),
            ("latency".to_owned(), draw::latency(cells)),
        ],
        tables: vec![table(cells)],
        broken: (lost > 0)
            .then(|| format!("{lost} acknowledged messages did not come"))
            .into_iter()
            .collect(),
        values: vec![
            ("long 20 s, requests", at_slow(LONG, requests)),
            ("short 1 s, requests", at_slow(SHORT_ONE, requests)),
            ("long 20 s, p50 ms", at_slow(LONG, half)),
            ("short 1 s, p50 ms", at_slow(SHORT_ONE, half)),
            ("rate", slow),
            ("busy rate", busy),
            ("busy, long 20 s, requests", cells.of(LONG, busy, requests)),
            ("busy, pauses, requests", cells.of(COLLECT, busy, requests)),
            ("busy, pauses, p99 ms", cells.of(COLLECT, busy, slowest)),
            ("busy, short 1 s, requests", cells.of(SHORT_ONE, busy, requests)),
            ("busy, short 1 s, p99 ms", cells.of(SHORT_ONE, busy, slowest)),
        ],
        skipped: None,
    }
}

fn table(cells: &Cells) -> Table {
    let mut header = vec!["style".to_owned(), "rate_per_s".to_owned(), "messages".to_owned()];
    for name in [
        "empty_per_message",
        "requests_per_message",
        "dollars_per_million",
        "p50_ms",
        "p99_ms",
        "p999_ms",
        "mean_ms",
    ] {
        header.extend([name.to_owned(), format!("{name}_low"), format!("{name}_high")]);
    }
    for name in [
        "theory_empty",
        "model_empty",
        "model_requests",
        "model_p50_ms",
        "model_mean_ms",
        "errors",
        "lost",
    ] {
        header.push(name.to_owned());
    }
    let header: Vec<&str> = header.iter().map(String::as_str).collect();
    let mut table = Table::new("cost", &header);
    for cell in &cells.all {
        let seen = &cell.seen;
        let [p50, p99, p999] = seen.latencies([0.5, 0.99, 0.999]);
        let mut row = vec![
            cell.kind.name.to_owned(),
            number(cell.rate_per_s),
            seen.delivered.len().to_string(),
        ];
        for one in [cell.empties(), cell.requests(), cell.dollars(), p50, p99, p999, seen.mean_ms()]
        {
            row.extend(one.cells());
        }
        let model = &cell.model;
        row.extend(
            [
                cell.kind.expected(seen.rate_per_s()),
                model.empties_per_message(),
                model.requests_per_message(),
                model.quantile_ms(0.5),
                model.mean_ms(),
            ]
            .map(number),
        );
        let errors = seen.count(Outcome::Error) + seen.send_errors.len();
        row.extend([errors.to_string(), seen.lost.to_string()]);
        table.rows.push(row);
    }
    table
}
