//! What consumers cost that have nothing to do.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::api::{Api, Ask};
use super::context::{Cluster, Context, Shape};
use super::stats::{Estimate, mean};
use super::traffic::Style;
use crate::plot::{Axis, Colour, Dot, Figure, Layer, Mark, Plot};
use crate::procfs::Meter;
use crate::section::{Section, Table, number};

const CONSUMERS: usize = 200;
/// From the start of consumers to that of a window.
const SETTLE: Duration = Duration::from_secs(1);

/// What was seen in one window.
#[derive(Clone, Copy, Debug, Default)]
struct Window {
    requests_per_s: f64,
    /// Of a request: its mean, which for long polls is the wait.
    request_ms: f64,
    /// Of one processor; no number for somebody's cluster.
    server_cores: f64,
    client_cores: f64,
}

struct Case {
    name: &'static str,
    style: Option<Style>,
    /// At a cluster whose short polls ask every shard, and not a sample.
    asks_all: bool,
    windows: Vec<Window>,
}

/// Below the charts; names are too long for it.
const TICKS: [(&str, &str); 5] = [
    (NOBODY, "nobody"),
    (LONG, "long"),
    (SHORT, "1 s"),
    (OFTEN, "0.1 s"),
    (OFTEN_ALL, "0.1 s, all"),
];
const TICKS_ARE: &str = "long polls of 20 s | short polls every …";
const NOBODY: &str = "nobody";
const LONG: &str = "long, 20 s";
const SHORT: &str = "short, every 1 s";
const OFTEN: &str = "short, every 0.1 s";
const OFTEN_PAUSE: Duration = Duration::from_millis(100);
const OFTEN_ALL: &str = "the same, all shards";

impl Case {
    fn of(&self, value: fn(&Window) -> f64) -> Estimate {
        mean(&self.windows.iter().map(value).collect::<Vec<_>>())
    }

    fn tick(&self) -> &'static str {
        TICKS.iter().find(|(name, _)| *name == self.name).map_or(self.name, |(_, tick)| tick)
    }

    fn requests(&self) -> Estimate {
        self.of(|window| window.requests_per_s)
    }

    /// No interval of a time reaches below nothing.
    fn server(&self) -> Estimate {
        self.of(|window| window.server_cores).map(|cores| cores.max(0.0))
    }

    fn client(&self) -> Estimate {
        self.of(|window| window.client_cores).map(|cores| cores.max(0.0))
    }

    fn request_ms(&self) -> Estimate {
        self.of(|window| window.request_ms)
    }

    /// What the nodes take more than in the window without anybody that belongs to each, % of a core.
    fn more(&self, nobody: &Self) -> Estimate {
        let pairs = self.windows.iter().zip(&nobody.windows);
        let more = pairs.map(|(one, other)| 100.0 * (one.server_cores - other.server_cores));
        mean(&more.collect::<Vec<_>>())
    }

    fn expected_per_s(&self) -> f64 {
        match self.style {
            None => 0.0,
            Some(Style::Short { pause } | Style::Collect { pause, .. }) => {
                CONSUMERS as f64 / pause.as_secs_f64()
            }
            Some(Style::Long { wait_s }) => CONSUMERS as f64 / f64::from(wait_s),
        }
    }
}

pub(super) async fn run(context: &Context) -> anyhow::Result<Section> {
    let cluster = context.cluster(&Shape::default()).await;
    let shards = Shape::default().shards;
    // Somebody's cluster is as it is.
    let all_asked = match context.has_own_clusters() {
        true => Some(context.cluster(&Shape { sample: shards, ..Shape::default() }).await),
        false => None,
    };
    let short = |pause| Some(Style::Short { pause });
    let kinds = [
        (NOBODY, None),
        (LONG, Some(Style::Long { wait_s: 20 })),
        (SHORT, short(Duration::from_secs(1))),
        (OFTEN, short(OFTEN_PAUSE)),
        (OFTEN_ALL, short(OFTEN_PAUSE)),
    ];
    let case =
        |(name, style)| Case { name, style, asks_all: name == OFTEN_ALL, windows: Vec::new() };
    let mut cases: Vec<Case> = kinds.into_iter().map(case).collect();
    cases.retain(|case| !case.asks_all || all_asked.is_some());
    let (windows, length) = context.pick((2, 2), (5, 9));
    // In turn, so that a disturbance of the machine hits all alike.
    for window in 0..windows {
        for case in &mut cases {
            context.tell(&format!("{}, window {} of {windows}", case.name, window + 1));
            let length = Duration::from_secs(length);
            let cluster = all_asked.as_ref().filter(|_| case.asks_all).unwrap_or(&cluster);
            case.windows.push(measure(context, cluster, case.style, length).await?);
        }
    }
    Ok(section(&cases))
}

/// What the nodes take without anybody, of one processor, in each of some windows.
pub(super) async fn quiet_cores(
    context: &Context,
    cluster: &Cluster,
    windows: usize,
    length: Duration,
) -> anyhow::Result<Vec<f64>> {
    let mut cores = Vec::new();
    for _ in 0..windows {
        cores.push(measure(context, cluster, None, length).await?.server_cores);
    }
    Ok(cores)
}

async fn measure(
    context: &Context,
    cluster: &Cluster,
    style: Option<Style>,
    length: Duration,
) -> anyhow::Result<Window> {
    let queue = context.queue(&mut Api::new(cluster.node(0))).await?;
    let requests = Arc::new(Requests::default());
    let mut consumers = JoinSet::new();
    for number in 0..CONSUMERS {
        let Some(style) = style else { break };
        let consumer =
            Idle { node: cluster.node(number).to_owned(), queue: queue.clone(), style, number };
        consumers.spawn(consumer.poll(requests.clone()));
    }
    sleep(SETTLE).await;
    let meter = Meter::start(&cluster.pids())?;
    let before = requests.so_far();
    sleep(length).await;
    let after = requests.so_far();
    let (count, took_us) = (after.0 - before.0, after.1 - before.1);
    let usage = meter.stop()?;
    consumers.shutdown().await;
    // Somebody's to see, if it stays.
    let _ = Api::new(cluster.node(0)).delete_queue(&queue).await;
    let seconds = usage.elapsed.as_secs_f64();
    Ok(Window {
        requests_per_s: count as f64 / seconds,
        request_ms: took_us as f64 / 1_000.0 / count as f64,
        server_cores: usage.server_cpu_s.map_or(f64::NAN, |cpu_s| cpu_s / seconds),
        client_cores: usage.client_cpu_s / seconds,
    })
}

/// Those of all consumers.
#[derive(Default)]
struct Requests {
    count: AtomicU64,
    took_us: AtomicU64,
}

impl Requests {
    fn note(&self, took: Duration) {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.took_us.fetch_add(took.as_micros() as u64, Ordering::Relaxed);
    }

    /// How many there were, and how long they took together, microseconds.
    fn so_far(&self) -> (u64, u64) {
        (self.count.load(Ordering::Relaxed), self.took_us.load(Ordering::Relaxed))
    }
}

/// A consumer of an empty queue.
struct Idle {
    node: String,
    queue: String,
    style: Style,
    number: usize,
}

impl Idle {
    /// Consumers that were not started together are spread over a period: with short polls each
    /// begins later than the one before; with long ones the first wait of each is another one, so
    /// that it is so from the beginning.
    async fn poll(self, requests: Arc<Requests>) {
        let mut api = Api::new(&self.node);
        sleep(self.begin()).await;
        let mut ask = self.first();
        loop {
            // What fails is a request, too.
            let begin = Instant::now();
            let _ = api.receive(&self.queue, ask).await;
            requests.note(begin.elapsed());
            ask = self.style.ask();
            let pause = self.style.pause_after(0);
            if !pause.is_zero() {
                sleep(pause).await;
            }
        }
    }

    fn begin(&self) -> Duration {
        match self.style {
            // Within the second by which the first waits differ.
            Style::Long { .. } => SETTLE.mul_f64(self.number as f64 / CONSUMERS as f64),
            style => style.delay(self.number, CONSUMERS),
        }
    }

    fn first(&self) -> Ask {
        match self.style {
            Style::Long { wait_s } => Ask::long(1 + self.number as u32 % wait_s),
            style => style.ask(),
        }
    }
}

fn table(cases: &[Case]) -> Table {
    let mut header = vec!["consumers".to_owned(), "style".to_owned(), "windows".to_owned()];
    for name in
        ["requests_per_s", "server_cores", "more_than_nobody_percent", "client_cores", "request_ms"]
    {
        header.extend([name.to_owned(), format!("{name}_low"), format!("{name}_high")]);
    }
    header.push("theory_requests_per_s".to_owned());
    let header: Vec<&str> = header.iter().map(String::as_str).collect();
    let mut table = Table::new("idle", &header);
    for case in cases {
        let count = if case.style.is_some() { CONSUMERS } else { 0 };
        let mut row = vec![count.to_string(), case.name.to_owned(), case.windows.len().to_string()];
        for one in
            [case.requests(), case.server(), case.more(&cases[0]), case.client(), case.request_ms()]
        {
            row.extend(one.cells());
        }
        row.push(number(case.expected_per_s()));
        table.rows.push(row);
    }
    table
}

fn figure(cases: &[Case], title: String) -> Figure {
    let busy = || cases.iter().filter(|case| case.style.is_some());
    let measured = busy().enumerate().map(|(x, case)| case.requests().at(x as f64));
    let expected = busy().enumerate().map(|(x, case)| (x as f64, case.expected_per_s()));
    let requests = vec![
        Layer::new("theory: 200 / (pause or wait)", Colour::Vermilion, Mark::Ticks(0, 1), expected),
        Layer::new("measured", Colour::Blue, Mark::Dots(Dot::Circle), measured),
    ];
    let mut plots = vec![Plot::new(
        "Requests",
        Axis::names(TICKS_ARE, busy().map(Case::tick)),
        Axis::log("requests per second").range(5.0, 4_000.0),
        requests,
    )];
    let cores = |value: fn(&Case) -> Estimate| {
        let percent =
            |(x, case): (usize, &Case)| value(case).map(|cores| 100.0 * cores).at(x as f64);
        cases.iter().enumerate().map(percent).collect::<Vec<_>>()
    };
    let client = Layer::new("consumers", Colour::Sky, Mark::Columns(1, 2), cores(Case::client));
    let server = Layer::new("three nodes", Colour::Black, Mark::Columns(0, 2), cores(Case::server));
    let known = cases.iter().any(|case| case.server().value.is_finite());
    plots.push(Plot::new(
        "Processor time",
        Axis::names(TICKS_ARE, cases.iter().map(Case::tick)),
        Axis::linear("of one core (%)"),
        if known { vec![server, client] } else { vec![client] },
    ));
    Figure::new(
        title,
        format!(
            "{CONSUMERS} consumers on one empty queue, spread over the nodes; 'nobody': the idle cluster; 'all': short polls that ask \
             all shards and not a sample; bars: 95 % confidence"
        ),
        plots,
    )
}

fn find<'a>(cases: &'a [Case], name: &str) -> Option<&'a Case> {
    cases.iter().find(|case| case.name == name)
}

/// What is known of one kind.
fn line(cases: &[Case], name: &str) -> String {
    let Some(case) = find(cases, name) else { return "not measured".to_owned() };
    let more = case.more(&cases[0]);
    // Nobody knows the processes of a cluster that somebody else started.
    let nodes = match more.value.is_finite() {
        true => format!(
            ", {:.1} % of a core at the nodes, which is {:.1} % more than without consumers ({:.1} to {:.1})",
            100.0 * case.server().value,
            more.value,
            more.low,
            more.high
        ),
        false => String::new(),
    };
    format!(
        "{:.0} requests per second{nodes}, and {:.1} % of a core at the consumers themselves",
        case.requests().value,
        100.0 * case.client().value
    )
}

/// What it costs to ask every shard and not a sample.
fn all_shards(cases: &[Case]) -> Option<String> {
    let (some, all) = (find(cases, OFTEN)?, find(cases, OFTEN_ALL)?);
    let interval =
        |one: Estimate| format!("{:.2} ms ({:.2} to {:.2})", one.value, one.low, one.high);
    Some(format!(
        "Short polls every 0.1 s that ask all shards and not a sample: {}. A poll takes {} instead of {}.",
        line(cases, OFTEN_ALL),
        interval(all.request_ms()),
        interval(some.request_ms())
    ))
}

fn title(cases: &[Case]) -> String {
    let more =
        |name| find(cases, name).map_or(f64::NAN, |case| case.more(&cases[0]).value.max(0.0));
    let rate = |name| find(cases, name).map_or(f64::NAN, |case| case.requests().value);
    if more(LONG).is_finite() {
        format!(
            "{CONSUMERS} idle consumers add {:.1} % of a core to the nodes in long polls, {:.0} % in short ones every 0.1 s",
            more(LONG),
            more(OFTEN)
        )
    } else {
        format!(
            "{CONSUMERS} idle consumers make {:.0} requests per second in long polls, {:.0} in short ones every 0.1 s",
            rate(LONG),
            rate(OFTEN)
        )
    }
}

/// Timers of the consumers go off at the next whole millisecond.
const TIMER_S: f64 = 0.001;

/// How many requests there should be.
fn expected(cases: &[Case]) -> String {
    let rule = "Requests per second are consumers divided by the pause (or wait). A short poll's own time adds to its pause";
    let Some(often) = find(cases, OFTEN) else { return format!("{rule}.") };
    let poll_s = often.request_ms().value / 1_000.0;
    let consumers = CONSUMERS as f64;
    let (requests, pause_s) = (often.requests(), OFTEN_PAUSE.as_secs_f64());
    format!(
        "{rule}, and so does the step of the consumers' timers, a millisecond: every 0.1 s that is {:.0} instead of {:.0}; measured: {:.0} \
         ({:.0} to {:.0}).",
        consumers / (pause_s + poll_s + TIMER_S),
        consumers / pause_s,
        requests.value,
        requests.low,
        requests.high
    )
}

fn section(cases: &[Case]) -> Section {
    let of = |name, value: fn(&Case) -> Estimate| {
        find(cases, name).map_or(f64::NAN, |case| value(case).value)
    };
    let mut findings = vec![format!(
        "Long polls of 20 s: {}. Short polls every second: {}. Every 0.1 s: {}.",
        line(cases, LONG),
        line(cases, SHORT),
        line(cases, OFTEN)
    )];
    findings.extend(all_shards(cases));
    Section {
        name: "idle",
        question: "What does an idle consumer cost?".to_owned(),
        method: format!(
            "{CONSUMERS} consumers on one empty queue, spread over the nodes; requests and processor time, the \
             kernel's part included, in {} windows for each kind, in turn; what consumers add is the mean of the differences to the \
             window without anybody just before. The last kind is at a cluster of its own whose short polls ask all shards. All \
             consumers are one process on one thread.",
            cases.first().map_or(0, |case| case.windows.len())
        ),
        findings,
        theory: vec![expected(cases)],
        figures: vec![("idle".to_owned(), figure(cases, title(cases)))],
        tables: vec![table(cases)],
        values: vec![
            ("nobody", of(NOBODY, Case::server)),
            ("long", of(LONG, Case::server)),
            ("short 0.1 s", of(OFTEN, Case::server)),
            ("short 0.1 s, all", of(OFTEN_ALL, Case::server)),
            ("poll ms", of(OFTEN, Case::request_ms)),
            ("poll ms, all", of(OFTEN_ALL, Case::request_ms)),
        ],
        ..Section::default()
    }
}
