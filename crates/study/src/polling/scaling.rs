//! How many should poll: workers scaled by the backlog of each, beside the number of messages
//! alone.

use std::fs::File;

use anyhow::Context as _;
use flotilla_client::Endpoint;

use super::context::{Context, Shape};
use super::stats::{Estimate, mean};
use crate::autoscale::{Comparison, LATE, LIVE, LiveArgs, MODEL, Scaling, Seen, Summary, observe};
use crate::section::{Section, Table, duration, number, percent};

/// Of real workers when only messages are counted.
const COUNTED: &str = "autoscale-live-count";
/// Runs of real workers by each rule.
const RUNS: usize = 3;

pub(super) async fn run(context: &Context) -> anyhow::Result<Section> {
    context.tell("simulating both rules");
    let model = Comparison::new(context.seed, context.pick(2, 20));
    let cluster = context.cluster(&Shape::default()).await;
    let nodes = cluster.nodes.iter().map(|node| format!("http://{node}").parse::<Endpoint>());
    let args = LiveArgs::new(
        nodes.collect::<Result<_, _>>()?,
        flotilla_tests::binary(),
        context.out.clone(),
    );
    let args = if context.quick { args.short() } else { args };
    let mut live = Live::default();
    for _ in 0..context.pick(1, RUNS) {
        let log = args.out.join(format!("{LIVE}.log"));
        let file = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let seen = observe(&args, Scaling::Backlog(file.into()), &|what| context.tell(what)).await;
        live.backlog.push(seen.with_context(|| format!("more is in {}", log.display()))?);
        // It is only of use when something failed.
        std::fs::remove_file(&log)?;
        if !context.quick {
            live.count.push(observe(&args, Scaling::Count, &|what| context.tell(what)).await?);
        }
    }
    Ok(section(&model, &live, context.quick))
}

/// Of real workers, by turns.
#[derive(Default)]
struct Live {
    backlog: Vec<Seen>,
    /// By the number of messages alone; none in a quick run.
    count: Vec<Seen>,
}

impl Live {
    fn all(&self) -> impl Iterator<Item = &Seen> {
        self.backlog.iter().chain(&self.count)
    }

    /// Every run's numbers.
    fn table(&self) -> Table {
        let mut header = vec!["scaled_by", "run"];
        header.extend(NUMBERS.map(|(name, _)| name));
        let mut table = Table::new("autoscale-runs", &header);
        for (rule, runs) in
            [("backlog per instance", &self.backlog), ("number of messages", &self.count)]
        {
            for (run, seen) in (1..).zip(runs) {
                let mut row = vec![rule.to_owned(), run.to_string()];
                row.extend(NUMBERS.map(|(_, value)| number(value(seen))));
                table.rows.push(row);
            }
        }
        table
    }
}

/// What is told of a run: its name in the table, and how it is had.
type Number = (&'static str, fn(&Seen) -> f64);
const NUMBERS: [Number; 11] = [
    ("sent", |seen| seen.sent as f64),
    ("lost", |seen| seen.lost() as f64),
    ("done_more_than_once", |seen| seen.doubled() as f64),
    ("started", Seen::started),
    ("instance_seconds", instance_s),
    ("mean_s", Seen::mean_latency_s),
    ("p50_s", |seen| seen.latency_s(0.5)),
    ("p99_s", |seen| seen.latency_s(0.99)),
    ("slowest_s", |seen| seen.latency_s(1.0)),
    ("late", late),
    ("near", Seen::near),
];

fn instance_s(seen: &Seen) -> f64 {
    3_600.0 * seen.instance_hours()
}

fn late(seen: &Seen) -> f64 {
    seen.late(LATE * seen.acceptable_latency_s)
}

fn seconds(value: f64) -> String {
    duration(1_000.0 * value)
}

/// A number of each run, on average. None of them can be below zero.
fn of<T>(runs: &[T], value: impl Fn(&T) -> f64) -> Estimate {
    let Estimate { value, low, high } = mean(&runs.iter().map(value).collect::<Vec<_>>());
    Estimate { value, low: low.clamp(0.0, f64::INFINITY), high }
}

/// The same of something that is no more than everything.
fn share_of<T>(runs: &[T], value: impl Fn(&T) -> f64) -> Estimate {
    let Estimate { value, low, high } = of(runs, value);
    Estimate { value, low, high: high.clamp(0.0, 1.0) }
}

/// With its interval.
fn words(one: Estimate, say: impl Fn(f64) -> String) -> String {
    // One run has no interval, and what is the same each time none worth telling.
    if one.low < one.high {
        format!("{} ({} to {})", say(one.value), say(one.low), say(one.high))
    } else {
        say(one.value)
    }
}

/// What the model says of both rules.
fn modelled(model: &Comparison) -> Vec<String> {
    let whole = |value: f64| format!("{value:.0}");
    let tenth = |value: f64| format!("{value:.1}");
    let both = |value: fn(&Summary) -> f64| (of(&model.naive, value), of(&model.good, value));
    let (count_started, started) = both(|one| one.started);
    let (count_hours, hours) = both(|one| one.instance_hours);
    let (count_half, half) = both(|one| one.half_s);
    let (count_mean, mean) = both(|one| one.mean_s);
    let (count_p99, p99) = both(|one| one.p99_s);
    let (count_slowest, slowest) = both(|one| one.slowest_s);
    let (count_late, late) = both(|one| one.late);
    let quicker = if count_half.value < half.value {
        "By the number alone most messages wait for less, because it swings between too many instances and too few; "
    } else {
        ""
    };
    vec![
        format!(
            "The number alone, which is to be the {:.0} messages that may wait when it is busiest, starts {} instances for {} \
             instance-hours; the backlog per instance starts {} for {}. Simulated: {:.0} minutes of the same load, {} seeds.",
            model.count,
            words(count_started, whole),
            words(count_hours, tenth),
            words(started, whole),
            words(hours, tenth),
            model.seconds() / 60.0,
            model.good.len()
        ),
        format!(
            "{quicker}the mean latency is {} and {}, 99 % come within {} and {}, the slowest message takes {} and {}; {} are acceptable, \
             and {} and {} of the messages take more than {LATE} times that (the number alone first, each time).",
            words(count_mean, seconds),
            words(mean, seconds),
            words(count_p99, seconds),
            words(p99, seconds),
            words(count_slowest, seconds),
            words(slowest, seconds),
            seconds(model.acceptable_s()),
            percent(count_late.value),
            percent(late.value)
        ),
    ]
}

/// What real workers did.
fn observed(runs: &[Seen]) -> String {
    let acceptable_s = runs.first().map_or(f64::NAN, |seen| seen.acceptable_latency_s);
    let most = |value: &dyn Fn(&Seen) -> f64| runs.iter().map(value).fold(0.0, f64::max);
    let latency = |part| words(of(runs, |seen| seen.latency_s(part)), seconds);
    format!(
        "With real workers, driven by `flotilla autoscale`, {} of {} messages were lost, and {} were worked on more than once. Half of the messages \
         took {}, 99 % at most {}, the slowest of a run {}; {} are acceptable. At most {:.0} instances ran at once, {} were started beside the \
         first. From when one instance is not enough until the load falls, the backlog per instance was within half of its target, above \
         or below, {} of the time.{}",
        runs.iter().map(Seen::lost).sum::<u64>(),
        runs.iter().map(|seen| seen.sent).sum::<u64>(),
        runs.iter().map(Seen::doubled).sum::<usize>(),
        latency(0.5),
        latency(0.99),
        latency(1.0),
        seconds(acceptable_s),
        most(&Seen::most_instances),
        words(of(runs, Seen::started), |started| format!("{started:.0}")),
        words(share_of(runs, Seen::near), percent),
        how_many(runs)
    )
}

/// What intervals are of.
fn how_many(runs: &[Seen]) -> String {
    match runs.len() {
        0 | 1 => " One run.".to_owned(),
        several => format!(
            " What was lost or repeated is of all {several} runs, the most instances are those of any; all else are means of a run, with \
             intervals (Student's)."
        ),
    }
}

/// What they did when only messages were counted.
fn counted(live: &Live) -> Option<String> {
    if live.count.is_empty() {
        return None;
    }
    let both = |of: &dyn Fn(&[Seen]) -> Estimate, say: &dyn Fn(f64) -> String| {
        format!("{} instead of {}", words(of(&live.count), say), words(of(&live.backlog), say))
    };
    Some(format!(
        "Scaled by the number of messages alone (which is to be what is right when it is busiest), the same workers under the same load were started \
         {} times beside the first, ran for {} in a run, and messages took {} on average, 99 % at most {}; {} of them more than {LATE} times \
         what is acceptable. {} were lost.{}",
        both(&|runs| of(runs, Seen::started), &|started| format!("{started:.0}")),
        both(&|runs| of(runs, instance_s), &seconds),
        both(&|runs| of(runs, Seen::mean_latency_s), &seconds),
        both(&|runs| of(runs, |seen| seen.latency_s(0.99)), &seconds),
        both(&|runs| share_of(runs, late), &percent),
        live.count.iter().map(Seen::lost).sum::<u64>(),
        how_many(&live.count)
    ))
}

fn section(model: &Comparison, live: &Live, quick: bool) -> Section {
    let shorter = if quick {
        " In a quick run it takes a third of the time, with half of the messages a second and half of the acceptable latency, and \
         once only."
    } else {
        " Each runs several times, by turns; the second chart and its tables show the first run of each."
    };
    let (seen, other) = (live.backlog.first(), live.count.first());
    let mut tables = vec![model.seeds_table(), model.table(), live.table()];
    tables.extend(seen.map(|seen| seen.table(LIVE)));
    tables.extend(other.map(|other| other.table(COUNTED)));
    let mut findings = modelled(model);
    findings.push(observed(&live.backlog));
    findings.extend(counted(live));
    let lost = |seen: &&Seen| seen.lost() > 0;
    let say = |seen: &Seen| {
        format!("{} of {} messages were lost while workers were scaled", seen.lost(), seen.sent)
    };
    Section {
        name: "scaling",
        question: "How many consumers should poll, and why does the number of messages alone not say it?".to_owned(),
        method: format!(
            "First chart: a simulated queue; both rules get the same readings, tolerance, cooldowns and bounds, and differ in what is \
             tracked; the number of messages that is tracked alone is what comes in the acceptable latency when it is busiest. Second chart: \
             real processes, each of which works {:.0} ms on a message, at a standard queue, scaled by `flotilla autoscale` and by the \
             number of visible messages; each message is numbered, and workers write down which they did.{shorter}",
            seen.map_or(f64::NAN, |seen| seen.work_ms)
        ),
        findings,
        theory: vec![
            "The acceptable backlog per instance is the acceptable latency divided by the mean time that a message takes. Tracking it is a lag \
             of first order: it settles, with the acceptable latency as its time constant, whatever the load is. The number of messages \
             says nothing of how many instances there are to work on them. Instances are added for as long as there are too many \
             messages and ended for as long as there are too few, so the two swing like prey and predators; and the right number is another \
             one for each load."
                .to_owned(),
            "The target holds for messages in the middle. A standard queue keeps no order, so that single messages are overtaken and take \
             longer than all that wait would need: who needs a bound for each leaves room for that. After a burst there are more \
             instances than are needed, until the scale-in cooldown is over, and the backlog of each is smaller."
                .to_owned(),
        ],
        figures: std::iter::once((MODEL.to_owned(), model.figure()))
            .chain(seen.map(|seen| {
                let mut figure = seen.figure(other);
                if live.backlog.len() > 1 {
                    let runs = live.backlog.len();
                    figure.subtitle.push_str(&format!("; the first of {runs} runs by each rule"));
                }
                (LIVE.to_owned(), figure)
            }))
            .collect(),
        tables,
        broken: live.all().filter(lost).map(say).collect(),
        values: vec![
            ("started", of(&model.good, |one| one.started).value),
            ("count alone, started", of(&model.naive, |one| one.started).value),
            ("p99 s", of(&model.good, |one| one.p99_s).value),
            ("count alone, p99 s", of(&model.naive, |one| one.p99_s).value),
            ("mean s", of(&model.good, |one| one.mean_s).value),
            ("hours", of(&model.good, |one| one.instance_hours).value),
            ("count alone, hours", of(&model.naive, |one| one.instance_hours).value),
            ("count alone, mean s", of(&model.naive, |one| one.mean_s).value),
        ],
        ..Section::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_message_is_a_broken_promise() {
        let model = Comparison::new(1, 1);
        let nothing = || Live { backlog: vec![Seen::nothing()], count: Vec::new() };
        let sound = section(&model, &nothing(), true);
        assert!(sound.broken.is_empty() && sound.findings[2].contains("0 of 0 messages were lost"));
        let mut live = nothing();
        live.count.extend([Seen::nothing(), Seen::nothing()]);
        live.count[1].sent = 2;
        let unsound = section(&model, &live, false);
        assert_eq!(unsound.broken, ["2 of 2 messages were lost while workers were scaled"]);
    }

    #[test]
    fn several_runs_of_real_workers_have_intervals() {
        let model = Comparison::new(1, 1);
        let mut live = Live { backlog: vec![Seen::nothing(); 3], count: vec![Seen::nothing(); 3] };
        live.backlog[0].sent = 3;
        let section = section(&model, &live, false);
        assert!(section.findings[2].contains("3 of 3 messages were lost"));
        assert!(section.findings[3].contains("is of all 3 runs"));
        let table = section.tables.iter().find(|table| table.name == "autoscale-runs").unwrap();
        assert_eq!(
            (table.rows.len(), &table.rows[0][2], &table.rows[3][0][..]),
            (6, &number(3.0), "number of messages")
        );
    }
}
