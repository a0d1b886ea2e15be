//! What consumers cost that have nothing to do.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::sleep;

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
    /// Of one processor; no number for somebody's cluster.
    server_cores: f64,
    client_cores: f64,
}

struct Case {
    name: &'static str,
    style: Option<Style>,
    windows: Vec<Window>,
}

impl Case {
    fn of(&self, value: fn(&Window) -> f64) -> Estimate {
        mean(&self.windows.iter().map(value).collect::<Vec<_>>())
    }

    fn requests(&self) -> Estimate {
        self.of(|window| window.requests_per_s)
    }

    fn server(&self) -> Estimate {
        self.of(|window| window.server_cores)
    }

    fn client(&self) -> Estimate {
        self.of(|window| window.client_cores)
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
    let short = |ms| Some(Style::Short { pause: Duration::from_millis(ms) });
    let kinds = [
        ("nobody", None),
        ("long, 20 s", Some(Style::Long { wait_s: 20 })),
        ("short, every 1 s", short(1_000)),
        ("short, every 0.1 s", short(100)),
    ];
    let case = |(name, style)| Case { name, style, windows: Vec::new() };
    let mut cases = kinds.map(case);
    let (windows, length) = context.pick((2, 2), (5, 9));
    // In turn, so that a disturbance of the machine hits all alike.
    for window in 0..windows {
        for case in &mut cases {
            context.tell(&format!("{}, window {} of {windows}", case.name, window + 1));
            let length = Duration::from_secs(length);
            case.windows.push(measure(context, &cluster, case.style, length).await?);
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
    let requests = Arc::new(AtomicU64::new(0));
    let mut consumers = JoinSet::new();
    for number in 0..CONSUMERS {
        let Some(style) = style else { break };
        let consumer =
            Idle { node: cluster.node(number).to_owned(), queue: queue.clone(), style, number };
        consumers.spawn(consumer.poll(requests.clone()));
    }
    sleep(SETTLE).await;
    let meter = Meter::start(&cluster.pids())?;
    let before = requests.load(Ordering::Relaxed);
    sleep(length).await;
    let count = requests.load(Ordering::Relaxed) - before;
    let usage = meter.stop()?;
    consumers.shutdown().await;
    // Somebody's to see, if it stays.
    let _ = Api::new(cluster.node(0)).delete_queue(&queue).await;
    let seconds = usage.elapsed.as_secs_f64();
    Ok(Window {
        requests_per_s: count as f64 / seconds,
        server_cores: usage.server_cpu_s.map_or(f64::NAN, |cpu_s| cpu_s / seconds),
        client_cores: usage.client_cpu_s / seconds,
    })
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
    async fn poll(self, requests: Arc<AtomicU64>) {
        let mut api = Api::new(&self.node);
        sleep(self.begin()).await;
        let mut ask = self.first();
        loop {
            // What fails is a request, too.
            let _ = api.receive(&self.queue, ask).await;
            requests.fetch_add(1, Ordering::Relaxed);
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
    for name in ["requests_per_s", "server_cores", "client_cores"] {
        header.extend([name.to_owned(), format!("{name}_low"), format!("{name}_high")]);
    }
    header.push("theory_requests_per_s".to_owned());
    let header: Vec<&str> = header.iter().map(String::as_str).collect();
    let mut table = Table::new("idle", &header);
    for case in cases {
        let count = if case.style.is_some() { CONSUMERS } else { 0 };
        let name = case.name.replace(',', ";");
        let mut row = vec![count.to_string(), name, case.windows.len().to_string()];
        for one in [case.requests(), case.server(), case.client()] {
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
        Axis::names("", busy().map(|case| case.name)),
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
        Axis::names("", cases.iter().map(|case| case.name)),
        Axis::linear("of one core (%)"),
        if known { vec![server, client] } else { vec![client] },
    ));
    Figure::new(
        title,
        format!(
            "{CONSUMERS} consumers on one empty queue, spread over the nodes; 'nobody': the idle cluster; bars: 95 % \
             confidence"
        ),
        plots,
    )
}

fn section(cases: &[Case]) -> Section {
    let of = |at: usize, value: fn(&Case) -> Estimate| {
        cases.get(at).map_or(f64::NAN, |case| value(case).value)
    };
    let percent = |at, value: fn(&Case) -> Estimate| 100.0 * of(at, value);
    let base = percent(0, Case::server);
    // Nobody knows the processes of a cluster that somebody else started.
    let title = if base.is_finite() {
        format!(
            "{CONSUMERS} idle consumers add {:.1} % of a core to the nodes in long polls, {:.0} % in short ones every 0.1 s",
            (percent(1, Case::server) - base).max(0.0),
            (percent(3, Case::server) - base).max(0.0)
        )
    } else {
        format!(
            "{CONSUMERS} idle consumers make {:.0} requests per second in long polls, {:.0} in short ones every 0.1 s",
            of(1, Case::requests),
            of(3, Case::requests)
        )
    };
    let line = |at| {
        let nodes = match base.is_finite() {
            true => format!(
                ", {:.1} % of a core at the nodes ({:.1} % more than without consumers)",
                percent(at, Case::server),
                percent(at, Case::server) - base
            ),
            false => String::new(),
        };
        format!(
            "{:.0} requests per second{nodes} and {:.1} % of a core at the consumers themselves",
            of(at, Case::requests),
            percent(at, Case::client)
        )
    };
    Section {
        name: "idle",
        question: "What does an idle consumer cost?".to_owned(),
        method: format!(
            "{CONSUMERS} consumers on one empty queue, spread over the nodes; requests and processor time, the \
             kernel's part included, in {} windows for each kind, in turn. All consumers are one process on one thread.",
            cases.first().map_or(0, |case| case.windows.len())
        ),
        findings: vec![format!(
            "Long polls of 20 s: {}. Short polls every second: {}. Every 0.1 s: {}.",
            line(1),
            line(2),
            line(3)
        )],
        theory: vec![
            "Requests per second are consumers divided by the pause (or wait). A short poll's own time adds to its pause, so \
             that there are a little fewer."
                .to_owned(),
        ],
        figures: vec![("idle".to_owned(), figure(cases, title))],
        tables: vec![table(cases)],
        values: vec![
            ("nobody", of(0, Case::server)),
            ("long", of(1, Case::server)),
            ("short 0.1 s", of(3, Case::server)),
        ],
        ..Section::default()
    }
}
