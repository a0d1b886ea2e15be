//! Many consumers of one queue, and one consumer of many queues.

use std::time::Duration;

use tokio::task::JoinSet;

use super::api::Api;
use super::context::{Cluster, Context, Shape};
use super::stats::quantile;
use super::traffic::{self, Consumer, Outcome, Plan, Seen, Style};
use crate::plot::{Axis, Colour, Dash, Dot, Figure, Layer, Mark, Plot};
use crate::section::{Section, Table, duration, number};

const PAUSE: Duration = Duration::from_millis(100);
const SHORT: Style = Style::Short { pause: PAUSE };
const LONG: Style = Style::Long { wait_s: 20 };
const TURN_WAIT_S: u32 = 1;
/// Messages per second for the consumers of one queue.
const CROWD_RATE: f64 = 20.0;
/// The same for the consumers of many queues.
const ROUND_RATE: f64 = 4.0;

/// Which of the ways, with how many consumers or queues.
struct Case {
    way: &'static str,
    count: usize,
    seen: Seen,
}

const CROWD: [&str; 2] = ["long polls, 20 s", "short polls, every 0.1 s"];
const ROUND: [&str; 3] = [
    "short polls in turn, 0.1 s after an empty one",
    "long polls of 1 s in turn",
    "a long poll of 20 s for each queue",
];

impl Case {
    fn empties(&self) -> f64 {
        self.seen.count(Outcome::Empty) / self.seen.delivered.len().max(1) as f64
    }

    fn latency_ms(&self, share: f64) -> f64 {
        quantile(&self.seen.latencies_ms(), share)
    }
}

pub(super) async fn run(context: &Context) -> anyhow::Result<Section> {
    let cluster = context.cluster(&Shape::default()).await;
    let counts: &[usize] = context.pick(&[1, 16], &[1, 4, 16, 64]);
    let mut crowds = Vec::new();
    for (way, style) in CROWD.into_iter().zip([LONG, SHORT]) {
        for count in counts.iter().copied() {
            context.tell(&format!("{count} consumers, {way}"));
            let queue = context.queue(&mut Api::new(cluster.node(0))).await?;
            let consumer = |number| Consumer {
                node: cluster.node(number).to_owned(),
                queues: vec![queue.clone()],
                style,
            };
            let consumers = (0..count).map(consumer).collect();
            let seconds = context.pick(5.0, 25.0);
            let plan =
                plan(context, &cluster, vec![queue.clone()], consumers, (CROWD_RATE, seconds));
            crowds.push(Case { way, count, seen: traffic::run(plan).await? });
        }
    }
    let counts: &[usize] = context.pick(&[1, 8], &[1, 4, 16, 64]);
    context.tell("one consumer for many queues, all ways at once");
    let rounds = rounds(context, &cluster, counts).await?;
    Ok(section(&crowds, &rounds))
}

fn plan(
    context: &Context,
    cluster: &Cluster,
    queues: Vec<String>,
    consumers: Vec<Consumer>,
    (rate_per_s, seconds): (f64, f64),
) -> Plan {
    Plan {
        seed: context.seed.wrapping_mul(7_919) + (queues.len() * 100 + consumers.len()) as u64,
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

async fn rounds(
    context: &Context,
    cluster: &Cluster,
    counts: &[usize],
) -> anyhow::Result<Vec<Case>> {
    let mut runs = JoinSet::new();
    for count in counts.iter().copied() {
        for (number, way) in ROUND.into_iter().enumerate() {
            let mut api = Api::new(cluster.node(0));
            let mut queues = Vec::new();
            for _ in 0..count {
                queues.push(context.queue(&mut api).await?);
            }
            let node = cluster.node(1).to_owned();
            let turn = |style| vec![Consumer { node: node.clone(), queues: queues.clone(), style }];
            let consumers = match number {
                0 => turn(SHORT),
                1 => turn(Style::Long { wait_s: TURN_WAIT_S }),
                _ => {
                    let one = |queue: &String| Consumer {
                        node: node.clone(),
                        queues: vec![queue.clone()],
                        style: LONG,
                    };
                    queues.iter().map(one).collect()
                }
            };
            let seconds = context.pick(8.0, 150.0);
            let plan = plan(context, cluster, queues, consumers, (ROUND_RATE, seconds));
            runs.spawn(async move { (way, count, traffic::run(plan).await) });
        }
    }
    let mut cases = Vec::new();
    while let Some(ended) = runs.join_next().await {
        let (way, count, seen) = ended?;
        cases.push(Case { way, count, seen: seen? });
    }
    cases.sort_by_key(|case| (ROUND.iter().position(|way| *way == case.way), case.count));
    Ok(cases)
}

fn section(crowds: &[Case], rounds: &[Case]) -> Section {
    let header = ["way", "count", "messages", "p50_ms", "p99_ms", "empty_per_message", "lost"];
    let mut tables = Vec::new();
    for (name, cases) in [("many-consumers", crowds), ("many-queues", rounds)] {
        let mut table = Table::new(name, &header);
        for case in cases {
            let [p50, p99, empties] =
                [case.latency_ms(0.5), case.latency_ms(0.99), case.empties()].map(number);
            let way = case.way.replace(',', ";");
            table.row(&[
                &way,
                &case.count,
                &case.seen.delivered.len(),
                &p50,
                &p99,
                &empties,
                &case.seen.lost,
            ]);
        }
        tables.push(table);
    }
    let most = |cases: &[Case]| cases.iter().map(|case| case.count).max().unwrap_or(1);
    let (consumers, queues) = (most(crowds), most(rounds));
    let find = |cases: &'_ [Case], way: &str, count: usize| {
        cases.iter().position(|case| case.way == way && case.count == count)
    };
    let crowd = |way, count| find(crowds, way, count).map(|at| &crowds[at]);
    let round = |way, count| find(rounds, way, count).map(|at| &rounds[at]);
    let p =
        |case: Option<&Case>, share| duration(case.map_or(f64::NAN, |case| case.latency_ms(share)));
    let empties = |case: Option<&Case>| case.map_or(f64::NAN, Case::empties);
    let lost: u64 = crowds.iter().chain(rounds).map(|case| case.seen.lost).sum();
    Section {
        name: "many",
        question: "Many consumers of one queue, one consumer of many queues: what happens?".to_owned(),
        method: format!(
            "Consumers of one queue are spread over the nodes and share {CROWD_RATE} messages per second. A consumer of many queues \
             takes them in turn, or has a long poll waiting at each; all its queues together get {ROUND_RATE} messages per second."
        ),
        findings: vec![
            format!(
                "{consumers} consumers in long polls: half of the messages within {}, 99 % within {}, and {:.2} empty answers per \
                 message. In short polls every 0.1 s: {}, {} and {:.0}.",
                p(crowd(CROWD[0], consumers), 0.5),
                p(crowd(CROWD[0], consumers), 0.99),
                empties(crowd(CROWD[0], consumers)),
                p(crowd(CROWD[1], consumers), 0.5),
                p(crowd(CROWD[1], consumers), 0.99),
                empties(crowd(CROWD[1], consumers))
            ),
            format!(
                "One consumer who takes {queues} queues in turn: half of the messages wait longer than {} with short polls and {} with \
                 long polls of one second; with one long poll for each queue {}.",
                p(round(ROUND[0], queues), 0.5),
                p(round(ROUND[1], queues), 0.5),
                p(round(ROUND[2], queues), 0.5)
            ),
        ],
        theory: vec![
            "Consumers that poll by themselves share the work of finding a message: n of them, each every T, poll every T/n, and \
             make n/(λT) empty answers per message. In turn over q queues, a message waits for half a round: q·T/2 in short polls, \
             and q·T more for each miss; up to q·W/2 in long polls of W, less as far as other queues had messages."
                .to_owned(),
        ],
        figures: vec![
            ("many-consumers".to_owned(), crowd_figure(crowds, consumers)),
            ("many-queues".to_owned(), round_figure(rounds, queues)),
        ],
        tables,
        broken: (lost > 0).then(|| format!("{lost} acknowledged messages did not come")).into_iter().collect(),
        values: vec![
            ("queues", queues as f64),
            ("in turn, p50 ms", round(ROUND[1], queues).map_or(f64::NAN, |case| case.latency_ms(0.5))),
            ("at once, p50 ms", round(ROUND[2], queues).map_or(f64::NAN, |case| case.latency_ms(0.5))),
        ],
        skipped: None,
    }
}

const COUNTS: [f64; 5] = [1.0, 4.0, 8.0, 16.0, 64.0];

fn counts(label: &str, cases: &[Case]) -> Axis {
    let used = |count: &f64| cases.iter().any(|case| case.count as f64 == *count);
    let used: Vec<f64> = COUNTS.into_iter().filter(used).collect();
    let last = used.last().copied().unwrap_or(1.0);
    Axis::log(label).range(0.8, last * 1.25).ticks_at(&used)
}

fn points(cases: &[Case], way: &str, value: impl Fn(&Case) -> f64) -> Vec<(f64, f64)> {
    cases
        .iter()
        .filter(|case| case.way == way)
        .map(|case| (case.count as f64, value(case)))
        .collect()
}

fn crowd_figure(cases: &[Case], most: usize) -> Figure {
    let at = |way| cases.iter().find(|case| case.way == way && case.count == most);
    let looks = [(Colour::Blue, Dot::Circle), (Colour::Vermilion, Dot::Square)];
    let mut latency = Vec::new();
    let mut empties = Vec::new();
    for (way, (colour, dot)) in CROWD.into_iter().zip(looks) {
        latency.push(Layer::new(
            way,
            colour,
            Mark::DotsAndLine(dot),
            points(cases, way, |case| case.latency_ms(0.5)),
        ));
        empties.push(Layer::new(
            way,
            colour,
            Mark::DotsAndLine(dot),
            points(cases, way, |case| case.empties().max(0.001)),
        ));
        let p99 = points(cases, way, |case| case.latency_ms(0.99));
        latency.push(Layer::new("99 % within (dotted)", colour, Mark::Line(Dash::Dotted), p99));
    }
    let theory =
        points(cases, CROWD[1], |case| case.count as f64 / (CROWD_RATE * PAUSE.as_secs_f64()));
    empties.push(Layer::new("theory: n/(λT)", Colour::Grey, Mark::Line(Dash::Dashed), theory));
    let plots = vec![
        Plot::new(
            "Half of the messages within",
            counts("consumers of one queue", cases),
            Axis::log("send to receive (ms)"),
            latency,
        ),
        Plot::new(
            "Wasted requests",
            counts("consumers of one queue", cases),
            Axis::log("empty answers per message").range(0.001, 100.0),
            empties,
        ),
    ];
    Figure::new(
        format!(
            "{most} consumers: {:.2} empty answers per message in long polls, {:.0} in short ones every 0.1 s",
            at(CROWD[0]).map_or(f64::NAN, Case::empties),
            at(CROWD[1]).map_or(f64::NAN, Case::empties)
        ),
        format!(
            "{CROWD_RATE} messages per second for all consumers together, who are spread over three nodes; on the lower edge of the right diagram: none"
        ),
        plots,
    )
}

fn round_figure(cases: &[Case], most: usize) -> Figure {
    let at = |way| {
        let case = cases.iter().find(|case| case.way == way && case.count == most);
        duration(case.map_or(f64::NAN, |case| case.latency_ms(0.5)))
    };
    let looks = [
        (Colour::Vermilion, Dot::Square),
        (Colour::Sky, Dot::Triangle),
        (Colour::Blue, Dot::Circle),
    ];
    let layers = |value: fn(&Case) -> f64| {
        let layer = |(way, (colour, dot)): (&'static str, (Colour, Dot))| {
            Layer::new(way, colour, Mark::DotsAndLine(dot), points(cases, way, value))
        };
        ROUND.into_iter().zip(looks).map(layer).collect::<Vec<_>>()
    };
    let mut median = layers(|case| case.latency_ms(0.5));
    let half = points(cases, ROUND[1], |case| 500.0 * case.count as f64 * f64::from(TURN_WAIT_S));
    median.push(Layer::new(
        "half a round, if all waits of 1 s are in vain",
        Colour::Grey,
        Mark::Line(Dash::Dashed),
        half,
    ));
    let plots = vec![
        Plot::new(
            "Half of the messages within",
            counts("queues", cases),
            Axis::log("send to receive (ms)"),
            median,
        ),
        Plot::new(
            "Requests in vain",
            counts("queues", cases),
            Axis::log("empty answers per message").range(0.001, 100.0),
            layers(|case| case.empties().max(0.001)),
        ),
    ];
    Figure::new(
        format!(
            "One consumer, {most} queues: half wait {} with a long poll at each, {} for long polls in turn",
            at(ROUND[2]),
            at(ROUND[1])
        ),
        format!(
            "{ROUND_RATE} messages per second for all queues together; one node is polled; on the lower edge of the right diagram: none"
        ),
        plots,
    )
}
