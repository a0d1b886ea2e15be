//! What the number of shards costs and brings: idle nodes, wake-ups, messages per second.

use std::time::Duration;

use flotilla_client::Endpoint;
use tokio::task::LocalSet;

use super::context::{Cluster, Context, Shape};
use super::idle::quiet_cores;
use super::stats::{Estimate, mean, quantile_between};
use super::wake::parked;
use crate::args::{Command, Mixed, Settings};
use crate::plot::{Axis, Colour, Dot, Figure, Layer, Mark, Plot};
use crate::section::{Section, Table, duration, number};
use crate::workloads;

/// What is put through.
const THROUGHPUT: Mixed = Mixed { producers: 16, consumers: 16, batch: 10, window: 2_000 };
pub(super) const DEFAULT: usize = 8;
const NODES: usize = 3;

/// What one number of shards gave.
#[derive(Default)]
struct Case {
    shards: usize,
    idle_cores: Vec<f64>,
    wake_ms: Vec<f64>,
    /// Of each cluster.
    messages_per_s: Vec<f64>,
}

impl Case {
    fn idle_percent(&self) -> Estimate {
        mean(&self.idle_cores).map(|cores| 100.0 * cores.max(0.0))
    }

    fn rate(&self) -> Estimate {
        mean(&self.messages_per_s)
    }

    /// Beyond the intervals.
    fn is_faster_than(&self, other: &Self) -> bool {
        other.rate().high < self.rate().low
    }

    fn wake(&self, share: f64) -> Estimate {
        quantile_between(&self.wake_ms, share)
    }
}

pub(super) async fn run(context: &Context) -> anyhow::Result<Section> {
    let counts: &[usize] = context.pick(&[4, 16], &[4, 8, 16, 64]);
    let (windows, length) = context.pick((2, 1), (2, 4));
    let (wakes, turns, runs) = context.pick((20, 1, 2), (50, 3, 2));
    let empty = |shards: &usize| Case { shards: *shards, ..Case::default() };
    let mut cases: Vec<Case> = counts.iter().map(empty).collect();
    // By turns, each time in a cluster of its own: neither what the machine does meanwhile nor who happens to lead
    // which shard is to count for one of the numbers.
    for turn in 0..turns {
        for case in &mut cases {
            let shards = case.shards;
            let told = format!("{shards} shards, {} of {turns}", turn + 1);
            let cluster = context.cluster(&Shape { shards, ..Shape::default() }).await;
            context.tell(&format!("{told}: idle"));
            let length = Duration::from_secs(length);
            case.idle_cores.extend(quiet_cores(context, &cluster, windows, length).await?);
            case.wake_ms.extend(parked(context, &cluster, wakes).await?);
            let mut rates = Vec::new();
            for run in 0..runs {
                context.tell(&format!("{told}: messages per second, {} of {runs}", run + 1));
                rates.push(throughput(context, &cluster).await?);
            }
            case.messages_per_s.push(mean(&rates).value);
        }
    }
    Ok(section(&cases))
}

/// Messages per second through all nodes, with the load generator's own workers.
async fn throughput(context: &Context, cluster: &Cluster) -> anyhow::Result<f64> {
    let endpoints = cluster.nodes.iter().map(|node| format!("http://{node}").parse::<Endpoint>());
    let settings = Settings {
        endpoints: endpoints.collect::<Result<_, _>>()?,
        pids: Vec::new(),
        seconds: context.pick(1, 3),
        no_verify: true,
        patience: 60,
        groups: None,
        label: None,
    };
    let command = Command::Mixed(THROUGHPUT);
    let rows = LocalSet::new().run_until(workloads::run(&settings, &command)).await?;
    Ok(rows.first().map_or(f64::NAN, |row| row.messages_per_s))
}

fn table(cases: &[Case]) -> Table {
    let mut header = vec!["shards".to_owned()];
    for name in ["idle_percent_of_core", "wake_p50_ms", "wake_p90_ms", "messages_per_s"] {
        header.extend([name.to_owned(), format!("{name}_low"), format!("{name}_high")]);
    }
    header.push("lone_message_missed".to_owned());
    let header: Vec<&str> = header.iter().map(String::as_str).collect();
    let mut table = Table::new("shards", &header);
    for case in cases {
        let mut row = vec![case.shards.to_string()];
        for one in [case.idle_percent(), case.wake(0.5), case.wake(0.9), case.rate()] {
            row.extend(one.cells());
        }
        row.push(number(missed(case.shards)));
        table.rows.push(row);
    }
    table
}

/// Of a lone message at another node, with the default sample.
pub(super) fn missed(shards: usize) -> f64 {
    super::theory::miss(shards, Shape::default().sample)
}

fn figure(cases: &[Case]) -> Figure {
    let counts: Vec<f64> = cases.iter().map(|case| case.shards as f64).collect();
    let last = counts.last().copied().unwrap_or(1.0);
    let axis = || Axis::log("shards").range(3.2, last * 1.25).ticks_at(&counts);
    let dots = |value: &dyn Fn(&Case) -> Estimate| {
        cases.iter().map(|case| value(case).at(case.shards as f64)).collect::<Vec<_>>()
    };
    let one =
        |title: &str, label: &str, layers| Plot::new(title, axis(), Axis::linear(label), layers);
    let plots = vec![
        one(
            "Idle nodes",
            "of one core, all three (%)",
            vec![Layer::new(
                "",
                Colour::Black,
                Mark::DotsAndLine(Dot::Diamond),
                dots(&Case::idle_percent),
            )],
        ),
        one(
            "Wake-up of a parked long poll",
            "after the send's answer (ms)",
            vec![
                Layer::new(
                    "half within",
                    Colour::Blue,
                    Mark::DotsAndLine(Dot::Circle),
                    dots(&|case| case.wake(0.5)),
                ),
                // Of so few wake-ups nothing limits the 99th percentile.
                Layer::new(
                    "90 % within",
                    Colour::Orange,
                    Mark::DotsAndLine(Dot::Square),
                    dots(&|case| case.wake(0.9)),
                ),
            ],
        ),
        one(
            "Throughput",
            "messages per second",
            vec![Layer::new(
                "",
                Colour::Green,
                Mark::DotsAndLine(Dot::Triangle),
                dots(&Case::rate),
            )],
        ),
    ];
    let of = |shards: Option<&Case>, value: fn(&Case) -> Estimate| {
        shards.map_or(f64::NAN, |case| value(case).value)
    };
    let (few, many) = (cases.first(), cases.last());
    Figure::new(
        format!(
            "From {:.0} to {last:.0} shards: an idle cluster takes {:.0} % of a core instead of {:.0} %",
            counts.first().copied().unwrap_or(1.0),
            of(many, Case::idle_percent),
            of(few, Case::idle_percent)
        ),
        "Three nodes and the load on one machine; throughput: 16 producers and 16 consumers, batches of ten, through all \
         nodes; bars: 95 % confidence"
            .to_owned(),
        plots,
    )
    .columns(3)
    .height(230.0)
}

/// The number with the best value, and what the default has.
fn advice(cases: &[Case]) -> Vec<String> {
    let Some(default) = cases.iter().find(|case| case.shards == DEFAULT) else { return Vec::new() };
    let Some(largest) = cases.last() else { return Vec::new() };
    // Within the intervals it is no difference.
    let is_faster = |case: &&Case| case.is_faster_than(default);
    let by_rate = |one: &&Case, other: &&Case| one.rate().value.total_cmp(&other.rate().value);
    let faster = cases.iter().filter(is_faster).max_by(by_rate);
    let verdict = match faster {
        None => {
            let rate = default.rate();
            let about = 100.0 * (rate.high - rate.value) / rate.value;
            format!(
                "No number of shards that was tried put more messages through than eight, as far as can be told ({} clusters each: 95 % \
                 confidence of {about:.0} % either way)",
                default.messages_per_s.len()
            )
        }
        Some(fastest) => format!(
            "Eight shards put {:.2} times as many messages through as {} do",
            default.rate().value / fastest.rate().value,
            fastest.shards
        ),
    };
    let whole = format!(
        "{verdict}. On three nodes eight wake consumers within {} (half of the times), and cost {:.0} % of a core when nothing happens; \
         {} shards cost {:.0} %. Short polls with samples of three miss a lone message in {:.0} % of all cases with 8 shards and in \
         {:.0} % with {}. More shards let more nodes and disks take part; with three nodes they {}.",
        duration(default.wake(0.5).value),
        default.idle_percent().value,
        largest.shards,
        largest.idle_percent().value,
        100.0 * missed(DEFAULT),
        100.0 * missed(largest.shards),
        largest.shards,
        match cases.iter().any(|case| case.shards > DEFAULT && is_faster(&case)) {
            true => "bring what is said above",
            false => "bring nothing here",
        }
    );
    let fewer = cases.iter().rfind(|case| case.shards < DEFAULT);
    std::iter::once(whole).chain(fewer.map(|fewer| fewer_do(default, fewer))).collect()
}

/// For whom fewer are enough, and why the default stays.
fn fewer_do(default: &Case, fewer: &Case) -> String {
    let few = fewer.shards;
    let busiest = |shards: usize| 100.0 * shards.div_ceil(NODES) as f64 / shards as f64;
    let (idle, of_default) = (fewer.idle_percent(), default.idle_percent());
    let rest = match idle.high < of_default.low {
        true => {
            format!(
                ", and cost {:.0} % of a core instead of {:.0} % when nothing happens",
                idle.value, of_default.value
            )
        }
        false => String::new(),
    };
    let ratio = fewer.rate().value / default.rate().value;
    let through = match fewer.is_faster_than(default) {
        true => format!("put {:.0} % more messages through with them", 100.0 * (ratio - 1.0)),
        false => format!(
            "put as many messages through with them ({ratio:.2} times, within the intervals)"
        ),
    };
    format!(
        "Who keeps all nodes on one machine sets `shards = {few}`: nodes that share the processors {through}{rest}, and short polls \
         with samples of three miss a lone message in {:.0} % of all cases instead of {:.0} %. Eight stay the default for nodes on machines \
         of their own, because the number is fixed when a cluster is made: the busiest of three nodes leads {:.0} % of eight shards and \
         {:.0} % of {few}, and five nodes have at least one each of eight. Machines of their own were not at hand here.",
        100.0 * missed(few),
        100.0 * missed(DEFAULT),
        busiest(DEFAULT),
        busiest(few)
    )
}

fn section(cases: &[Case]) -> Section {
    let line = |case: &Case| {
        format!(
            "{} shards: {:.1} % of a core idle, wake-ups {} (p90 {}), {:.0} messages per second",
            case.shards,
            case.idle_percent().value,
            duration(case.wake(0.5).value),
            duration(case.wake(0.9).value),
            case.rate().value
        )
    };
    let lines: Vec<String> = cases.iter().map(line).collect();
    Section {
        name: "shards",
        question: "What does the number of shards cost and bring?".to_owned(),
        method: "A cluster of three nodes for each number. Idle: the nodes' processor time without any request, in windows. \
                 Wake-ups as in the section on them, through another node than the sender's. Throughput: 16 producers and 16 \
                 consumers of the load generator, which is one thread, ten messages to a request, through all nodes, in runs of \
                 a few seconds. All numbers in turn, again and again, each time in a new cluster: the interval of the throughput is \
                 that of the clusters' means (Student's)."
            .to_owned(),
        findings: vec![format!("{}.", lines.join("; "))],
        theory: vec![
            "Each shard is a Raft group with heartbeats of its own, so an idle cluster's work grows with their number. A busy one \
             has the requests of a moment in one entry of one shard, so that its work hardly depends on it; a long poll \
             is armed at each node once, not at each shard."
                .to_owned(),
        ],
        advice: advice(cases),
        figures: vec![("shards".to_owned(), figure(cases))],
        tables: vec![table(cases)],
        values: values(cases),
        ..Section::default()
    }
}

/// Of the fewest shards that were tried, the default, and the most.
fn values(cases: &[Case]) -> Vec<(&'static str, f64)> {
    let (Some(few), Some(most)) = (cases.first(), cases.last()) else { return Vec::new() };
    let Some(default) = cases.iter().find(|case| case.shards == DEFAULT) else { return Vec::new() };
    let (few_idle, few_rate) = (few.idle_percent(), few.rate());
    let (idle, rate) = (default.idle_percent(), default.rate());
    vec![
        ("few", few.shards as f64),
        ("few, idle %", few_idle.value),
        ("few, idle % high", few_idle.high),
        ("few, rate", few_rate.value),
        ("few, rate high", few_rate.high),
        ("idle %", idle.value),
        ("idle % low", idle.low),
        ("rate", rate.value),
        ("rate low", rate.low),
        ("rate high", rate.high),
        ("most", most.shards as f64),
        ("most, idle %", most.idle_percent().value),
        ("most, rate", most.rate().value),
        ("most, rate low", most.rate().low),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case(shards: usize, rate: f64) -> Case {
        Case {
            shards,
            idle_cores: vec![0.05, 0.06],
            wake_ms: vec![1.0; 50],
            messages_per_s: vec![rate, rate + 1.0, rate - 1.0],
        }
    }

    #[test]
    fn advice_on_shards_follows_the_numbers() {
        let same = advice(&[case(8, 100.0), case(64, 100.5)]);
        assert!(same.len() == 1 && same[0].starts_with("No number of shards"), "{same:?}");
        let slower = advice(&[case(8, 50.0), case(64, 100.0)]);
        assert!(slower[0].starts_with("Eight shards put 0.50 times"), "{slower:?}");
        assert!(
            slower.len() == 1 && slower[0].ends_with("bring what is said above."),
            "{slower:?}"
        );
        assert!(advice(&[case(4, 1.0)]).is_empty());
    }

    #[test]
    fn where_fewer_are_as_fast_they_are_still_named() {
        let advice = advice(&[case(4, 100.5), case(8, 100.0)]);
        assert!(advice[1].contains("put as many messages through"), "{advice:?}");
    }

    #[test]
    fn where_fewer_are_faster_it_is_said_for_whom() {
        let advice = advice(&[case(4, 120.0), case(8, 100.0)]);
        assert!(advice[0].ends_with("with three nodes they bring nothing here."), "{advice:?}");
        assert!(advice[1].contains("`shards = 4`"), "{advice:?}");
        assert!(advice[1].contains("put 20 % more messages through"), "{advice:?}");
        assert!(advice[1].contains("in 25 % of all cases instead of 62 %"), "{advice:?}");
        assert!(advice[1].contains("38 % of eight shards and 50 % of 4,"), "{advice:?}");
    }
}
