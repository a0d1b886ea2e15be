//! A node is killed, a node is cut off: what pollers through it and through others see.

use std::time::Duration;

use flotilla_tests::{Condition, Fleet, Way};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::api::Api;
use super::context::{Cluster, Context, Shape};
use super::stats::quantile;
use super::traffic::{self, Consumer, Outcome, Plan, Seen, Style};
use crate::plot::{Axis, Colour, Dash, Figure, Layer, Mark, Plot, number as tick};
use crate::section::{Section, Table, duration, number};

const RATE: f64 = 20.0;
const LONG_WAIT_S: u32 = 5;
/// A message whose answer got lost with its node comes again after so long.
const VISIBILITY_S: u32 = 15;
/// Node 1 takes all messages in; 2 and 3 are polled, and 3 fails.
const VICTIM: u64 = 3;

/// What happens to the victim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Kill,
    Partition,
}

impl Fault {
    fn name(self) -> &'static str {
        match self {
            Self::Kill => "killed (kill -9) and started again",
            Self::Partition => "cut off from both others, and joined again",
        }
    }

    fn file(self) -> &'static str {
        match self {
            Self::Kill => "failure-kill",
            Self::Partition => "failure-partition",
        }
    }
}

/// One poller's run.
struct Line {
    long: bool,
    victim: bool,
    seen: Seen,
}

/// One fault's.
struct Story {
    fault: Fault,
    /// When it began and ended, seconds.
    span: (f64, f64),
    seconds: f64,
    lines: Vec<Line>,
}

pub(super) async fn run(context: &Context) -> anyhow::Result<Section> {
    let mut stories = Vec::new();
    for fault in [Fault::Kill, Fault::Partition] {
        let mut cluster = context.cluster(&Shape { links: true, ..Shape::default() }).await;
        context.tell(&format!("a node is {}", fault.name()));
        stories.push(story(context, &mut cluster, fault).await?);
    }
    Ok(section(&stories))
}

async fn story(context: &Context, cluster: &mut Cluster, fault: Fault) -> anyhow::Result<Story> {
    let (before, length, after) = context.pick((4.0, 6.0, 8.0), (10.0, 10.0, 20.0));
    let seconds = before + length + after;
    let mut runs = JoinSet::new();
    for (number, (long, victim)) in
        [(true, false), (true, true), (false, false), (false, true)].into_iter().enumerate()
    {
        let queue = context.queue(&mut Api::new(cluster.node(0))).await?;
        let style = match long {
            true => Style::Long { wait_s: LONG_WAIT_S },
            false => Style::Short { pause: Duration::from_millis(100) },
        };
        let node = cluster.node(if victim { VICTIM as usize - 1 } else { 1 }).to_owned();
        let plan = Plan {
            queues: vec![queue.clone()],
            senders: vec![cluster.node(0).to_owned()],
            rate_per_s: RATE,
            seconds,
            seed: context.seed.wrapping_mul(104_729) + number as u64,
            consumers: vec![Consumer { node, queues: vec![queue], style }],
            patience: Duration::from_secs(3),
            visibility_s: Some(VISIBILITY_S),
            drain: Duration::from_secs(60),
        };
        runs.spawn(async move { (long, victim, traffic::run(plan).await) });
    }
    let begin = tokio::time::Instant::now() + traffic::LEAD;
    let fleet =
        cluster.fleet.as_mut().ok_or_else(|| anyhow::anyhow!("only an own cluster is broken"))?;
    sleep(traffic::LEAD + Duration::from_secs_f64(before)).await;
    let from = begin.elapsed().as_secs_f64();
    strike(fleet, fault).await;
    let rest = before + length - begin.elapsed().as_secs_f64();
    sleep(Duration::from_secs_f64(rest.max(0.0))).await;
    let to = begin.elapsed().as_secs_f64();
    match fault {
        Fault::Kill => fleet.launch(VICTIM),
        Fault::Partition => fleet.rejoin(),
    }
    let mut lines = Vec::new();
    while let Some(ended) = runs.join_next().await {
        let (long, victim, seen) = ended?;
        lines.push(Line { long, victim, seen: seen? });
    }
    lines.sort_by_key(|line| (line.victim, !line.long));
    Ok(Story { fault, span: (from, to), seconds, lines })
}

async fn strike(fleet: &mut Fleet, fault: Fault) {
    match fault {
        Fault::Kill => fleet.kill9(VICTIM),
        Fault::Partition => {
            let others = fleet.ids().into_iter().filter(|id| *id != VICTIM);
            let ways: Vec<Way> =
                others.flat_map(|other| [(VICTIM, other), (other, VICTIM)]).collect();
            fleet.impair(&ways, Condition::SHUT).await;
        }
    }
}

impl Line {
    fn name(&self) -> String {
        let style = if self.long { "long poll" } else { "short polls" };
        let node = if self.victim { "the victim" } else { "a healthy node" };
        format!("{style} through {node}")
    }

    /// The longest that a message waited which was sent in each second, ms; no number if there was none.
    fn latency(&self, seconds: f64) -> Vec<f64> {
        let mut longest = vec![f64::NAN; seconds as usize];
        for (sent_s, ms) in &self.seen.delivered {
            if let Some(slot) = longest.get_mut(*sent_s as usize) {
                *slot = slot.max(*ms);
            }
        }
        longest
    }

    /// Answers of a kind in each second.
    fn answers(&self, seconds: f64, outcome: Outcome) -> Vec<f64> {
        let mut counts = vec![0.0; seconds as usize];
        for (at_s, _) in self.seen.answers.iter().filter(|(_, one)| *one == outcome) {
            if let Some(slot) = counts.get_mut(*at_s as usize) {
                *slot += 1.0;
            }
        }
        counts
    }
    /// Of the messages that were due while the fault lasted or just before it, a part of their latencies.
    fn during(&self, (from, to): (f64, f64), share: f64) -> f64 {
        let sent =
            self.seen.delivered.iter().filter(|(sent_s, _)| (from - 0.5..to).contains(sent_s));
        quantile(&sent.map(|(_, ms)| *ms).collect::<Vec<_>>(), share)
    }
}

impl Story {
    fn find(&self, long: bool, victim: bool) -> Option<&Line> {
        self.lines.iter().find(|line| line.long == long && line.victim == victim)
    }

    fn finding(&self) -> String {
        let worst = |long, victim| {
            let line = self.find(long, victim);
            duration(line.map_or(f64::NAN, |line| line.during(self.span, 1.0)))
        };
        let half = |long, victim| {
            let line = self.find(long, victim);
            duration(line.map_or(f64::NAN, |line| line.during(self.span, 0.5)))
        };
        let errors = |long, victim| {
            self.find(long, victim).map_or(0.0, |line| line.seen.count(Outcome::Error))
        };
        let refused: usize = self.lines.iter().map(|line| line.seen.send_errors.len()).sum();
        format!(
            "A node is {} after {:.0} s. Messages due meanwhile reached a long poller at a healthy node within {} ({} for half of them) \
             and a short poller there within {} ({}); at the victim within {} and {}. Failed receives: {:.0} and {:.0} at the \
             healthy node, {:.0} and {:.0} at the victim. Of the sends, all through a healthy node, {refused} failed.",
            self.fault.name(),
            self.span.1 - self.span.0,
            worst(true, false),
            half(true, false),
            worst(false, false),
            half(false, false),
            worst(true, true),
            worst(false, true),
            errors(true, false),
            errors(false, false),
            errors(true, true),
            errors(false, true)
        )
    }

    fn table(&self) -> Table {
        let header = ["second", "poller", "longest_ms", "with_messages", "empty", "errors"];
        let mut table = Table::new(self.fault.file(), &header);
        for line in &self.lines {
            let counts = |outcome| line.answers(self.seconds, outcome);
            let (some, empty, errors) =
                (counts(Outcome::Messages), counts(Outcome::Empty), counts(Outcome::Error));
            for (second, ms) in line.latency(self.seconds).into_iter().enumerate() {
                let (some, empty, errors) = (some[second], empty[second], errors[second]);
                table.row(&[&second, &line.name(), &number(ms), &some, &empty, &errors]);
            }
        }
        table
    }

    fn figure(&self) -> Figure {
        let panel = |victim: bool, title: &str, y: Axis, value: &dyn Fn(&Line) -> Vec<f64>| {
            let (from, to) = self.span;
            let mut layers =
                vec![Layer::new("the fault lasts", Colour::Grey, Mark::Span, [(from, to)])];
            for line in self.lines.iter().filter(|line| line.victim == victim) {
                let (name, colour, dash) = match line.long {
                    true => ("long polls of 5 s", Colour::Blue, Dash::Solid),
                    false => ("short polls every 0.1 s", Colour::Vermilion, Dash::Dashed),
                };
                layers.push(Layer::new(name, colour, Mark::Line(dash), stairs(&value(line))));
            }
            let where_to = if victim { "the victim" } else { "a healthy node" };
            let mut x = Axis::linear("time (s)").range(0.0, self.seconds);
            x.ticks = (0..)
                .map(|i| f64::from(i) * 5.0)
                .take_while(|at| *at <= self.seconds)
                .map(|at| (at, tick(at)))
                .collect();
            Plot::new(&format!("{title}, polled through {where_to}"), x, y, layers)
        };
        let most = |outcome| {
            let all = self.lines.iter().flat_map(|line| line.answers(self.seconds, outcome));
            all.fold(1.0, f64::max) * 1.1
        };
        let mut plots = Vec::new();
        for victim in [false, true] {
            let y =
                Axis::log("ms").range(0.8, 40_000.0).ticks_at(&[1., 10., 100., 1_000., 10_000.]);
            plots.push(panel(victim, "Longest latency", y, &|line| line.latency(self.seconds)));
        }
        for (title, outcome) in
            [("Failed receives", Outcome::Error), ("Empty answers", Outcome::Empty)]
        {
            for victim in [false, true] {
                let y = Axis::linear("per second").range(0.0, most(outcome));
                plots.push(panel(victim, title, y, &|line| line.answers(self.seconds, outcome)));
            }
        }
        let worst = |victim| {
            let line = self.find(true, victim);
            duration(line.map_or(f64::NAN, |line| line.during(self.span, 1.0)))
        };
        let (healthy, victim) = (worst(false), worst(true));
        let title = match self.fault {
            Fault::Kill => format!(
                "Kill -9: long polls at other nodes wait {healthy} at most, at the dead node {victim}"
            ),
            Fault::Partition => format!(
                "Cut off: long polls at other nodes wait {healthy} at most, at the lone node {victim}"
            ),
        };
        Figure::new(
            title,
            format!("{RATE} messages per second and poller, sent through a healthy node; latency by the second in which messages were due"),
            plots,
        )
        .columns(2)
        .height(130.0)
    }
}

/// A value for each second, as a line of steps.
fn stairs(values: &[f64]) -> Vec<(f64, f64)> {
    let step =
        |(second, value): (usize, &f64)| [(second as f64, *value), (second as f64 + 1.0, *value)];
    values.iter().enumerate().flat_map(step).collect()
}

fn section(stories: &[Story]) -> Section {
    let lines = || stories.iter().flat_map(|story| &story.lines);
    let lost: u64 = lines().map(|line| line.seen.lost).sum();
    let sent: u64 = lines().map(|line| line.seen.acknowledged).sum();
    let doubled: u64 = lines().map(|line| line.seen.duplicates).sum();
    let mut findings: Vec<String> = stories.iter().map(Story::finding).collect();
    findings.push(format!(
        "Of {sent} messages whose sending was acknowledged {lost} were lost; {doubled} came twice, after a visibility timeout of \
         {VISIBILITY_S} s, because their deletion was lost."
    ));
    if let Some(error) = lines().find_map(|line| line.seen.last_error.as_ref()) {
        findings.push(format!("A failed receive says, for example: {error}"));
    }
    Section {
        name: "failure",
        question: "What do a node's death and a partition do to each kind of polling?".to_owned(),
        method: format!(
            "Four pollers, each with a queue of its own that gets {RATE} messages per second through node 1: long polls of {LONG_WAIT_S} s and \
             short polls every 0.1 s, through a healthy node and through the one that fails. They know only their own node, \
             give up a request three seconds after it is due, and try again after 0.1 s. One run for each fault."
        ),
        findings,
        theory: vec![
            "Shards whose leader is gone need a new one, which takes an election; until then messages on them wait, whoever polls. \
             A message that was handed out in an answer that got lost comes again after its visibility timeout (15 s here), so a short one \
             is worth having where nodes may fail. \
             Shards with a leader elsewhere go on. What a client of the failed node sees depends on the client: with a second \
             endpoint it would go on like the others."
                .to_owned(),
        ],
        figures: stories.iter().map(|story| (story.fault.file().to_owned(), story.figure())).collect(),
        tables: stories.iter().map(Story::table).collect(),
        broken: (lost > 0).then(|| format!("{lost} acknowledged messages did not come")).into_iter().collect(),
        values: Vec::new(),
        skipped: None,
    }
}
