//! Many consumers of one queue, and one consumer of many queues.

mod draw;
mod words;

use std::time::Duration;

use tokio::task::JoinSet;

use super::api::Api;
use super::context::{Cluster, Context, Shape};
use super::model::{Forecast, Poller, Times, World, forecasts};
use super::stats::Estimate;
use super::traffic::{self, Consumer, Outcome, Plan, Seen, Style};
use crate::section::{Section, Table, number};

const PAUSE: Duration = Duration::from_millis(100);
const SHORT: Style = Style::Short { pause: PAUSE };
const LONG_WAIT_S: u32 = 20;
const LONG: Style = Style::Long { wait_s: LONG_WAIT_S };
const TURN_WAIT_S: u32 = 1;
/// Messages per second for the consumers of one queue.
const CROWD_RATE: f64 = 20.0;
/// The same for the consumers of many queues.
const ROUND_RATE: f64 = 4.0;
/// How often everything is measured, from the first way to the last and again.
const TURNS: u64 = 3;
const TURNS_QUICK: u64 = 2;
/// Of a model.
const MODEL_MESSAGES: usize = 5_000;

/// Which of the ways, with how many consumers or queues.
struct Case {
    way: &'static str,
    count: usize,
    seen: Seen,
    model: Forecast,
}

const CROWD: [&str; 2] = ["long polls, 20 s", "short polls, every 0.1 s"];
const ROUND: [&str; 3] = [
    "short polls in turn, 0.1 s after an empty one",
    "long polls of 1 s in turn",
    "a long poll of 20 s for each queue",
];

impl Case {
    fn empties(&self) -> Estimate {
        self.seen.per_message(&[Outcome::Empty])
    }

    fn latency(&self, share: f64) -> Estimate {
        self.seen.latencies([share])[0]
    }
}

pub(super) async fn run(context: &Context) -> anyhow::Result<Section> {
    let cluster = context.cluster(&Shape::default()).await;
    let counts: &[usize] = context.pick(&[1, 16], &[1, 4, 16, 64]);
    let queues: &[usize] = context.pick(&[1, 8], &[1, 4, 16, 64]);
    let (mut crowds, mut rounds) = (Vec::new(), Vec::new());
    for turn in 0..context.pick(TURNS_QUICK, TURNS) {
        for (way, style) in CROWD.into_iter().zip([LONG, SHORT]) {
            for count in counts.iter().copied() {
                context.tell(&format!("turn {}: {count} consumers, {way}", turn + 1));
                let seen = crowd(context, &cluster, style, count, turn).await?;
                add(&mut crowds, way, count, seen);
            }
        }
        context.tell("one consumer for many queues, all ways at once");
        for (way, count, seen) in all_rounds(context, &cluster, queues, turn).await? {
            add(&mut rounds, way, count, seen);
        }
    }
    rounds.sort_by_key(|case| (ROUND.iter().position(|way| *way == case.way), case.count));
    context.tell("the models of it");
    let ground = Ground { leaders: cluster.leaders().await, k: cluster.shape.sample, context };
    let alone = crowds.iter().find(|case| case.way == CROWD[1]).map(|case| case.seen.clone());
    // The more of them poll, the longer a poll takes.
    let times = |case: &Case, short: &str| {
        Times::of((case.way == short).then_some(&case.seen).into_iter().chain(&alone))
    };
    for case in &mut crowds {
        case.model = ground.crowd(case, cluster.nodes.len(), times(case, CROWD[1]));
    }
    for case in &mut rounds {
        case.model = ground.round(case, times(case, ROUND[0]));
    }
    Ok(section(&crowds, &rounds))
}

/// Another run of the same case, or its first.
fn add(cases: &mut Vec<Case>, way: &'static str, count: usize, seen: Seen) {
    match cases.iter_mut().find(|case| case.way == way && case.count == count) {
        Some(case) => case.seen.add(seen),
        None => cases.push(Case { way, count, seen, model: Forecast::default() }),
    }
}

async fn crowd(
    context: &Context,
    cluster: &Cluster,
    style: Style,
    count: usize,
    turn: u64,
) -> anyhow::Result<Seen> {
    let queue = context.queue(&mut Api::new(cluster.node(0))).await?;
    let consumer = |number| Consumer {
        node: cluster.node(number).to_owned(),
        queues: vec![queue.clone()],
        style,
        delay: style.delay(number, count),
    };
    let consumers = (0..count).map(consumer).collect();
    let load = (CROWD_RATE, context.pick(3.0, 10.0));
    traffic::run(plan(context, cluster, vec![queue.clone()], consumers, load, turn)).await
}

/// What models need to know.
struct Ground<'a> {
    leaders: Vec<usize>,
    k: usize,
    context: &'a Context,
}

impl Ground<'_> {
    fn world(&self, queues: usize, pollers: Vec<Poller>, seen: &Seen, times: Times) -> Forecast {
        let rate_per_s = seen.rate_per_s();
        if self.leaders.is_empty() || rate_per_s <= 0.0 {
            return Forecast::default();
        }
        let world = World {
            leaders: self.leaders.clone(),
            k: self.k,
            queues,
            rate_per_s,
            pollers,
            times,
            send_s: seen.send_s(),
            messages: seen.messages_per_run(),
            seed: self.context.seed,
        };
        forecasts(&world, self.context.pick(1_000, MODEL_MESSAGES))
    }

    fn crowd(&self, case: &Case, nodes: usize, times: Times) -> Forecast {
        let style = if case.way == CROWD[0] { LONG } else { SHORT };
        let poller = |number: usize| Poller {
            node: number % nodes,
            queues: vec![0],
            style,
            delay_s: style.delay(number, case.count).as_secs_f64(),
        };
        let pollers = (0..case.count).map(poller).collect();
        self.world(1, pollers, &case.seen, times)
    }

    fn round(&self, case: &Case, times: Times) -> Forecast {
        let poller = |queues, style| Poller { node: 1, queues, style, delay_s: 0.0 };
        let all: Vec<usize> = (0..case.count).collect();
        let pollers = match ROUND.iter().position(|way| *way == case.way) {
            Some(0) => vec![poller(all, SHORT)],
            Some(1) => vec![poller(all, Style::Long { wait_s: TURN_WAIT_S })],
            _ => all.into_iter().map(|queue| poller(vec![queue], LONG)).collect(),
        };
        self.world(case.count, pollers, &case.seen, times)
    }
}

fn plan(
    context: &Context,
    cluster: &Cluster,
    queues: Vec<String>,
    consumers: Vec<Consumer>,
    (rate_per_s, seconds): (f64, f64),
    turn: u64,
) -> Plan {
    let number = turn * 100_000 + (queues.len() * 100 + consumers.len()) as u64;
    Plan {
        seed: context.seed.wrapping_mul(7_919) + number,
        queues,
        senders: cluster.nodes.clone(),
        rate_per_s,
        seconds,
        consumers,
        patience: Duration::from_secs(15),
        visibility_s: None,
        drain: Duration::from_secs(200),
    }
}

async fn all_rounds(
    context: &Context,
    cluster: &Cluster,
    counts: &[usize],
    turn: u64,
) -> anyhow::Result<Vec<(&'static str, usize, Seen)>> {
    let mut runs = JoinSet::new();
    for count in counts.iter().copied() {
        for (number, way) in ROUND.into_iter().enumerate() {
            let mut api = Api::new(cluster.node(0));
            let mut queues = Vec::new();
            for _ in 0..count {
                queues.push(context.queue(&mut api).await?);
            }
            let consumer = |queues: &[String], style| Consumer {
                node: cluster.node(1).to_owned(),
                queues: queues.to_vec(),
                style,
                delay: Duration::ZERO,
            };
            let consumers = match number {
                0 => vec![consumer(&queues, SHORT)],
                1 => vec![consumer(&queues, Style::Long { wait_s: TURN_WAIT_S })],
                _ => queues.chunks(1).map(|queue| consumer(queue, LONG)).collect(),
            };
            let load = (ROUND_RATE, context.pick(5.0, 50.0));
            let plan = plan(context, cluster, queues, consumers, load, turn);
            runs.spawn(async move { (way, count, traffic::run(plan).await) });
        }
    }
    let mut cases = Vec::new();
    while let Some(ended) = runs.join_next().await {
        let (way, count, seen) = ended?;
        cases.push((way, count, seen?));
    }
    Ok(cases)
}

fn table(name: &str, cases: &[Case]) -> Table {
    let mut header = vec!["way".to_owned(), "count".to_owned(), "messages".to_owned()];
    for name in ["p50_ms", "p99_ms", "empty_per_message"] {
        header.extend([name.to_owned(), format!("{name}_low"), format!("{name}_high")]);
    }
    for name in ["model_p50_ms", "model_p99_ms", "model_empty_per_message", "lost"] {
        header.push(name.to_owned());
    }
    let header: Vec<&str> = header.iter().map(String::as_str).collect();
    let mut table = Table::new(name, &header);
    for case in cases {
        let mut row = vec![
            case.way.to_owned(),
            case.count.to_string(),
            case.seen.delivered.len().to_string(),
        ];
        for one in [case.latency(0.5), case.latency(0.99), case.empties()] {
            row.extend(one.cells());
        }
        let model = &case.model;
        row.extend(
            [model.quantile_ms(0.5), model.quantile_ms(0.99), model.empties_per_message()]
                .map(number),
        );
        row.push(case.seen.lost.to_string());
        table.rows.push(row);
    }
    table
}

fn most(cases: &[Case]) -> usize {
    cases.iter().map(|case| case.count).max().unwrap_or(1)
}

fn find<'a>(cases: &'a [Case], way: &str, count: usize) -> Option<&'a Case> {
    cases.iter().find(|case| case.way == way && case.count == count)
}

/// No number where it was not measured.
fn half_ms(cases: &[Case], way: &str, count: usize) -> f64 {
    find(cases, way, count).map_or(f64::NAN, |case| case.latency(0.5).value)
}

/// Likewise.
fn empties(cases: &[Case], way: &str, count: usize) -> f64 {
    find(cases, way, count).map_or(f64::NAN, |case| case.empties().value)
}

fn section(crowds: &[Case], rounds: &[Case]) -> Section {
    let (consumers, queues) = (most(crowds), most(rounds));
    let lost: u64 = crowds.iter().chain(rounds).map(|case| case.seen.lost).sum();
    Section {
        name: "many",
        question: "Many consumers of one queue, one consumer of many queues: what happens?".to_owned(),
        method: format!(
            "Consumers of one queue are spread over the nodes, begin spread over a pause, and share {CROWD_RATE} messages per \
             second. A consumer of many queues takes them in turn, or has a long poll waiting at each; all its queues \
             together get {ROUND_RATE} messages per second. Everything is run {turns} times by turns, each time with new queues; \
             intervals are made of these runs, each in parts.",
            turns = crowds.first().map_or(0, |case| case.seen.runs)
        ),
        findings: words::findings(crowds, rounds),
        theory: vec![
            "Consumers that poll by themselves share the work of finding a message: n of them, each every T, poll every T/n, and \
             make n/(λT) empty answers per message. In turn over q queues, a message waits for half a round: q·T/2 in short polls, \
             and q·T more for each miss; up to q·W/2 in long polls of W, less as far as other queues had messages. A long poll at \
             each queue makes p/(1 − p) empty answers per message, p = e^(−λW/q). Latencies have no closed form: their lines are \
             those of the model that the section on cost describes, in runs as short as the measured ones: short pollers that poll \
             again at once after an answer with messages begin spread over a pause, and bunch like buses within minutes, because \
             whoever comes after a longer gap finds more and is late for the next."
                .to_owned(),
            words::agreement(crowds, rounds),
        ],
        figures: vec![
            ("many-consumers".to_owned(), draw::crowds(crowds)),
            ("many-queues".to_owned(), draw::rounds(rounds)),
        ],
        tables: vec![table("many-consumers", crowds), table("many-queues", rounds)],
        broken: (lost > 0)
            .then(|| format!("{lost} acknowledged messages did not come"))
            .into_iter()
            .collect(),
        values: vec![
            ("consumers", consumers as f64),
            ("long, empties", empties(crowds, CROWD[0], consumers)),
            ("long, p50 ms", half_ms(crowds, CROWD[0], consumers)),
            ("short, empties", empties(crowds, CROWD[1], consumers)),
            ("short, p50 ms", half_ms(crowds, CROWD[1], consumers)),
            ("queues", queues as f64),
            ("in turn, p50 ms", half_ms(rounds, ROUND[1], queues)),
            ("short in turn, p50 ms", half_ms(rounds, ROUND[0], queues)),
            ("at once, p50 ms", half_ms(rounds, ROUND[2], queues)),
        ],
        ..Section::default()
    }
}
