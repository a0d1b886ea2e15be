//! What consumers cost that have nothing to do.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::sleep;

use super::api::Api;
use super::context::{Cluster, Context, Shape};
use super::traffic::Style;
use crate::plot::{Axis, Colour, Figure, Layer, Mark, Plot};
use crate::procfs::Meter;
use crate::section::{Section, Table, number};

const CONSUMERS: usize = 200;

struct Case {
    name: &'static str,
    style: Option<Style>,
    /// Of one processor; `None` for somebody's cluster.
    server_cpu: Option<f64>,
    requests_per_s: f64,
}

pub(super) async fn run(context: &Context) -> anyhow::Result<Section> {
    let cluster = context.cluster(&Shape::default()).await;
    let short = |ms| Some(Style::Short { pause: Duration::from_millis(ms) });
    let kinds = [
        ("nobody", None),
        ("long, 20 s", Some(Style::Long { wait_s: 20 })),
        ("short, every 1 s", short(1_000)),
        ("short, every 0.1 s", short(100)),
    ];
    let mut cases = Vec::new();
    for (name, style) in kinds {
        context.tell(name);
        cases.push(measure(context, &cluster, name, style).await?);
    }
    Ok(section(&cases))
}

async fn measure(
    context: &Context,
    cluster: &Cluster,
    name: &'static str,
    style: Option<Style>,
) -> anyhow::Result<Case> {
    let queue = context.queue(&mut Api::new(cluster.node(0))).await?;
    let requests = Arc::new(AtomicU64::new(0));
    let mut consumers = JoinSet::new();
    // Spread over a period, as consumers that were not started together are. Long polls begin together in a quick
    // run, which has no time for that.
    let spread = match style {
        Some(Style::Long { wait_s }) => context.pick(1.0, f64::from(wait_s)),
        Some(Style::Short { pause }) => pause.as_secs_f64(),
        None => 0.0,
    };
    for number in 0..CONSUMERS {
        let Some(style) = style else { break };
        let delay = Duration::from_secs_f64(spread * number as f64 / CONSUMERS as f64);
        let node = cluster.node(number).to_owned();
        consumers.spawn(poll(node, queue.clone(), style, delay, requests.clone()));
    }
    sleep(Duration::from_secs_f64(spread + 1.0)).await;
    let meter = Meter::start(&cluster.pids())?;
    let before = requests.load(Ordering::Relaxed);
    sleep(Duration::from_secs(context.pick(3, 40))).await;
    let count = requests.load(Ordering::Relaxed) - before;
    let usage = meter.stop()?;
    consumers.shutdown().await;
    let seconds = usage.elapsed.as_secs_f64();
    Ok(Case {
        name,
        style,
        server_cpu: usage.server_cpu_s.map(|cpu_s| cpu_s / seconds),
        requests_per_s: count as f64 / seconds,
    })
}

async fn poll(
    node: String,
    queue: String,
    style: Style,
    delay: Duration,
    requests: Arc<AtomicU64>,
) {
    let mut api = Api::new(&node);
    sleep(delay).await;
    let (ask, pause) = (style.ask(), style.pause());
    loop {
        // What fails is a request, too.
        let _ = api.receive(&queue, ask).await;
        requests.fetch_add(1, Ordering::Relaxed);
        sleep(pause).await;
    }
}

fn section(cases: &[Case]) -> Section {
    let mut table = Table::new(
        "idle",
        &["consumers", "style", "requests_per_s", "theory_per_s", "server_cores"],
    );
    for case in cases {
        let count = if case.style.is_some() { CONSUMERS } else { 0 };
        table.row(&[
            &count,
            &case.name.replace(',', ";"),
            &number(case.requests_per_s),
            &number(expected(case.style)),
            &number(case.server_cpu.unwrap_or(f64::NAN)),
        ]);
    }
    let cpu = |at: usize| cases.get(at).and_then(|case| case.server_cpu).unwrap_or(f64::NAN);
    let base = cpu(0);
    let names = || cases.iter().map(|case| case.name);
    let columns = |value: fn(&Case) -> f64| {
        cases.iter().enumerate().map(|(x, case)| (x as f64, value(case))).collect::<Vec<_>>()
    };
    let requests = vec![
        Layer::new(
            "measured",
            Colour::Blue,
            Mark::Columns(0, 1),
            columns(|case| case.requests_per_s),
        ),
        Layer::new(
            "theory: 200 / (pause or wait)",
            Colour::Vermilion,
            Mark::Ticks(0, 1),
            columns(|case| expected(case.style)),
        ),
    ];
    let busy = columns(|case| 100.0 * case.server_cpu.unwrap_or(f64::NAN));
    let mut plots = vec![Plot::new(
        "Requests",
        Axis::names("", names()),
        Axis::log("requests per second").range(1.0, 5_000.0),
        requests,
    )];
    if base.is_finite() {
        plots.push(Plot::new(
            "Processor time of the three nodes",
            Axis::names("", names()),
            Axis::linear("of one core (%)"),
            vec![Layer::new("measured", Colour::Blue, Mark::Columns(0, 1), busy)],
        ));
    }
    let figure = Figure::new(
        format!(
            "200 idle consumers add {:.1} % of a core in long polls, {:.0} % in short ones every 0.1 s",
            100.0 * (cpu(1) - base).max(0.0),
            100.0 * (cpu(3) - base).max(0.0)
        ),
        format!(
            "{CONSUMERS} consumers on one empty queue, spread over three nodes; 'nobody' is what the idle cluster takes"
        ),
        plots,
    );
    Section {
        name: "idle",
        question: "What does an idle consumer cost?".to_owned(),
        method: format!(
            "{CONSUMERS} consumers on one empty queue, spread over the nodes; requests and the servers' processor time, the \
             kernel's part included."
        ),
        findings: vec![format!(
            "In long polls of 20 s the consumers make {:.0} requests per second and the servers need {:.1} % of a core, {:.1} % \
             more than without consumers. Short polls every second: {:.0} requests, {:.1} % of a core; every 0.1 s: {:.0} requests, \
             {:.1} %.",
            cases.get(1).map_or(f64::NAN, |case| case.requests_per_s),
            100.0 * cpu(1),
            100.0 * (cpu(1) - base),
            cases.get(2).map_or(f64::NAN, |case| case.requests_per_s),
            100.0 * cpu(2),
            cases.get(3).map_or(f64::NAN, |case| case.requests_per_s),
            100.0 * cpu(3)
        )],
        theory: vec![
            "Requests per second are consumers divided by the pause (or wait). A short poll's own time adds to its pause, so \
             that there are a little fewer. In a quick run, which is shorter than a wait of 20 s, the long polls' requests \
             may not be seen at all."
                .to_owned(),
        ],
        figures: vec![("idle".to_owned(), figure)],
        tables: vec![table],
        broken: Vec::new(),
        values: vec![("nobody", base), ("long", cpu(1)), ("short 0.1 s", cpu(3))],
        skipped: None,
    }
}

fn expected(style: Option<Style>) -> f64 {
    match style {
        None => 0.0,
        Some(Style::Short { pause }) => CONSUMERS as f64 / pause.as_secs_f64(),
        Some(Style::Long { wait_s }) => CONSUMERS as f64 / f64::from(wait_s),
    }
}
