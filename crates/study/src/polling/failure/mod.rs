//! A node is killed, a node is cut off, again and again: what pollers through it and through others
//! see.

mod draw;

use std::time::Duration;

use flotilla_tests::{Condition, Fleet, Way};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::api::Api;
use super::context::{Cluster, Context, Shape};
use super::deck::LOCAL_SHARE;
use super::stats::{Estimate, mean, quantile, quantile_between};
use super::traffic::{self, Consumer, Outcome, Plan, Request, Seen, Style};
use crate::section::{Section, Table, duration, number};

const RATE: f64 = 20.0;
const LONG_WAIT_S: u32 = 5;
const PAUSE: Duration = Duration::from_millis(100);
/// A message whose answer got lost with its node comes again after so long.
const VISIBILITY_S: u32 = 5;
/// What a client waits for an answer beyond the time that it asked to wait.
const PATIENCE: Duration = Duration::from_secs(3);
/// Seconds before a fault, of it, and after it.
const BEFORE_S: f64 = 2.0;
const LENGTH_S: f64 = 4.0;
const AFTER_S: f64 = 6.0;
/// A node that is cut off has noticed it after so long: a lease, and another one in which it asks.
const NOTICED_S: f64 = 1.0;
/// A message that was due so long before the fault may still have been under way.
const UNDER_WAY_S: f64 = 0.5;
/// From its leader's last word a follower waits for so long before it stands for election, at most:
/// servers' own.
const ELECTION_MS: f64 = 700.0;
/// A link is asked after a second of silence, and is dead when it does not answer for another one: servers' own.
const LINK_DEAD_S: f64 = 2.0;

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

/// Who polls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Role {
    long: bool,
    /// Through the node that fails.
    victim: bool,
}

impl Role {
    const ALL: [Self; 4] = [
        Self { long: true, victim: false },
        Self { long: false, victim: false },
        Self { long: true, victim: true },
        Self { long: false, victim: true },
    ];

    fn name(self) -> String {
        let style = if self.long { "long poll" } else { "short polls" };
        let node = if self.victim { "the victim" } else { "a healthy node" };
        format!("{style} through {node}")
    }

    fn style(self) -> Style {
        match self.long {
            true => Style::Long { wait_s: LONG_WAIT_S },
            false => Style::Short { pause: PAUSE },
        }
    }
}

/// One poller's part of one fault.
struct Line {
    role: Role,
    seen: Seen,
}

/// One fault.
struct Run {
    victim: u64,
    /// Shards that it led.
    led: usize,
    /// When it began and ended, seconds.
    span: (f64, f64),
    lines: Vec<Line>,
}

/// All faults of a kind.
struct Story {
    fault: Fault,
    runs: Vec<Run>,
}

pub(super) async fn run(context: &Context) -> anyhow::Result<Section> {
    let count = context.pick(2, 10);
    let mut stories = Vec::new();
    for fault in [Fault::Kill, Fault::Partition] {
        let mut cluster = context.cluster(&Shape { links: true, ..Shape::default() }).await;
        let mut runs = Vec::new();
        for number in 0..count {
            context.tell(&format!("a node is {}, {} of {count}", fault.name(), number + 1));
            runs.push(strike_once(context, &mut cluster, fault, number).await?);
        }
        stories.push(Story { fault, runs });
    }
    Ok(section(&stories))
}

/// All nodes have their turn.
async fn strike_once(
    context: &Context,
    cluster: &mut Cluster,
    fault: Fault,
    number: usize,
) -> anyhow::Result<Run> {
    let count = cluster.nodes.len();
    let at = number % count;
    let (victim, led) = (at as u64 + 1, cluster.leads().await[at]);
    let survivors: Vec<String> =
        (1..count).map(|next| cluster.node(at + next).to_owned()).collect();
    let mut runs = JoinSet::new();
    for (poller, role) in Role::ALL.into_iter().enumerate() {
        let queue = context.queue(&mut Api::new(&survivors[0])).await?;
        let node = if role.victim { cluster.node(at) } else { &survivors[0] };
        let consumer = Consumer {
            node: node.to_owned(),
            queues: vec![queue.clone()],
            style: role.style(),
            delay: Duration::ZERO,
        };
        let plan = Plan {
            queues: vec![queue],
            senders: survivors.clone(),
            rate_per_s: RATE,
            seconds: BEFORE_S + LENGTH_S + AFTER_S,
            seed: context.seed.wrapping_mul(104_729) + (number * 4 + poller) as u64,
            consumers: vec![consumer],
            patience: PATIENCE,
            visibility_s: Some(VISIBILITY_S),
            drain: Duration::from_secs(60),
        };
        runs.spawn(async move { (role, traffic::run(plan).await) });
    }
    let begin = tokio::time::Instant::now() + traffic::LEAD;
    let fleet =
        cluster.fleet.as_mut().ok_or_else(|| anyhow::anyhow!("only an own cluster is broken"))?;
    sleep(traffic::LEAD + Duration::from_secs_f64(BEFORE_S)).await;
    let from = begin.elapsed().as_secs_f64();
    strike(fleet, fault, victim).await;
    let rest = BEFORE_S + LENGTH_S - begin.elapsed().as_secs_f64();
    sleep(Duration::from_secs_f64(rest.max(0.0))).await;
    let to = begin.elapsed().as_secs_f64();
    match fault {
        Fault::Kill => fleet.launch(victim),
        Fault::Partition => fleet.rejoin(),
    }
    let mut lines = Vec::new();
    while let Some(ended) = runs.join_next().await {
        let (role, seen) = ended?;
        lines.push(Line { role, seen: seen? });
    }
    fleet.whole().await;
    Ok(Run { victim, led, span: (from, to), lines })
}

async fn strike(fleet: &mut Fleet, fault: Fault, victim: u64) {
    match fault {
        Fault::Kill => fleet.kill9(victim),
        Fault::Partition => {
            let others = fleet.ids().into_iter().filter(|id| *id != victim);
            let ways: Vec<Way> =
                others.flat_map(|other| [(victim, other), (other, victim)]).collect();
            fleet.impair(&ways, Condition::SHUT).await;
        }
    }
}

impl Run {
    fn line(&self, role: Role) -> Option<&Line> {
        self.lines.iter().find(|line| line.role == role)
    }

    /// Of the messages that were due from just before the fault until `end_s`, a part of their
    /// latencies.
    fn latency_ms(&self, role: Role, end_s: f64, share: f64) -> f64 {
        let from = self.span.0 - UNDER_WAY_S;
        let Some(line) = self.line(role) else { return f64::NAN };
        let due = line.seen.delivered.iter().filter(|one| (from..end_s).contains(&one.due_s));
        quantile(&due.map(|one| one.ms).collect::<Vec<_>>(), share)
    }

    /// Also what was due when the victim returned, and after that.
    fn slowest_ms(&self, role: Role) -> f64 {
        self.latency_ms(role, f64::INFINITY, 1.0)
    }

    fn half_ms(&self, role: Role) -> f64 {
        self.latency_ms(role, self.span.1, 0.5)
    }

    /// Empty answers although a message was there, before the fault and during it.
    fn in_vain(&self, role: Role) -> (f64, f64) {
        let (from, to) = self.span;
        self.line(role).map_or((f64::NAN, f64::NAN), |line| {
            let count = |during| line.seen.empties_in_vain(during) as f64;
            (count(0.0..from), count(from..to))
        })
    }

    /// Whether the victim says "empty" to polls that begin when it must know that it hears nobody, and end before it
    /// is joined again. One that began before may have heard of a shard, and waited for another one.
    fn says_empty_blindly(&self) -> bool {
        let blind = self.span.0 + NOTICED_S..self.span.1;
        let of_victim = self.lines.iter().filter(|line| line.role.victim).map(|line| &line.seen);
        of_victim.into_iter().any(|seen| {
            let during =
                |one: &&Request| blind.contains(&one.begin_s) && blind.contains(&one.end_s);
            seen.requests.iter().filter(during).any(|one| seen.is_in_vain(one))
        })
    }

    fn errors(&self, role: Role) -> f64 {
        self.line(role).map_or(f64::NAN, |line| line.seen.count(Outcome::Error) as f64)
    }
}

impl Story {
    fn each(&self, value: impl Fn(&Run) -> f64) -> Vec<f64> {
        self.runs.iter().map(value).filter(|value| value.is_finite()).collect()
    }

    /// The median over the faults of each one's slowest message.
    fn slowest(&self, role: Role) -> Estimate {
        quantile_between(&self.each(|run| run.slowest_ms(role)), 0.5)
    }

    fn worst_ms(&self, role: Role) -> f64 {
        quantile(&self.each(|run| run.slowest_ms(role)), 1.0)
    }

    fn half(&self, role: Role) -> Estimate {
        quantile_between(&self.each(|run| run.half_ms(role)), 0.5)
    }

    fn in_vain(&self, role: Role) -> Estimate {
        mean(&self.each(|run| run.in_vain(role).1))
    }

    fn in_vain_before(&self, role: Role) -> Estimate {
        mean(&self.each(|run| run.in_vain(role).0))
    }

    fn errors(&self, role: Role) -> Estimate {
        mean(&self.each(|run| run.errors(role)))
    }

    fn finding(&self) -> String {
        let slowest = |role| {
            let one = self.slowest(role);
            let interval = match one.low.is_finite() && one.high.is_finite() {
                true => format!(" ({} to {})", duration(one.low), duration(one.high)),
                false => String::new(),
            };
            format!("{}{interval}, at worst {}", duration(one.value), duration(self.worst_ms(role)))
        };
        let [long, short, long_victim, short_victim] = Role::ALL;
        let refused: usize = self
            .runs
            .iter()
            .flat_map(|run| &run.lines)
            .map(|line| line.seen.send_errors.len())
            .sum();
        let lengths = self.each(|run| run.span.1 - run.span.0);
        format!(
            "{} times a node is {} after {:.0} s. Of the slowest message of each time, from then until the end, the median is for \
             a long poller at a healthy node {}; for a short poller there {}; for a long poller at the victim {}; for a short one {}. \
             Half of the messages due meanwhile come to a long poller at a healthy node within {}. Failed receives for each \
             time: {:.1} and {:.1} at the healthy node, {:.1} and {:.1} at the victim. Of all sends, through the two others, \
             {refused} failed.",
            self.runs.len(),
            self.fault.name(),
            mean(&lengths).value,
            slowest(long),
            slowest(short),
            slowest(long_victim),
            slowest(short_victim),
            duration(self.half(long).value),
            self.errors(long).value,
            self.errors(short).value,
            self.errors(long_victim).value,
            self.errors(short_victim).value
        )
    }

    /// What the victim, or another node, answers while it has nothing to say.
    fn emptiness(&self) -> String {
        let [long, short, long_victim, short_victim] = Role::ALL;
        let rate = |count: f64, seconds: f64| count / seconds;
        let during = |role| rate(self.in_vain(role).value, LENGTH_S);
        let before = |role| rate(self.in_vain_before(role).value, BEFORE_S);
        let lies = self.runs.iter().any(|run| run.says_empty_blindly());
        let verdict = match (self.fault, lies) {
            (Fault::Partition, true) => {
                ": a node that is cut off says \"empty\" with status 200, and not that it cannot know; who polls it must not \
                 take that for an empty queue"
            }
            (Fault::Partition, false) => ": a node that is cut off does not say \"empty\"",
            (Fault::Kill, _) => "",
        };
        format!(
            "While a node is {}, answers that were empty although a message was there, per second: short polls {:.1} at a healthy \
             node (before: {:.1}) and {:.1} at the victim (before: {:.1}); long polls, whole waits of {LONG_WAIT_S} s: {:.2} for each \
             time at a healthy node, {:.2} at the victim{verdict}.",
            match self.fault {
                Fault::Kill => "dead",
                Fault::Partition => "cut off",
            },
            during(short),
            before(short),
            during(short_victim),
            before(short_victim),
            self.in_vain(long).value,
            self.in_vain(long_victim).value
        )
    }
}

/// One row for each kind of fault and poller.
fn summary(stories: &[Story]) -> Table {
    let mut header = vec!["fault".to_owned(), "poller".to_owned(), "faults".to_owned()];
    for name in
        ["slowest_median_ms", "half_median_ms", "empty_in_vain", "empty_in_vain_before", "errors"]
    {
        header.extend([name.to_owned(), format!("{name}_low"), format!("{name}_high")]);
    }
    header.push("slowest_of_all_ms".to_owned());
    let header: Vec<&str> = header.iter().map(String::as_str).collect();
    let mut table = Table::new("failure", &header);
    for story in stories {
        for role in Role::ALL {
            let fault = story.fault.file().trim_start_matches("failure-").to_owned();
            let mut row = vec![fault, role.name(), story.runs.len().to_string()];
            for one in [
                story.slowest(role),
                story.half(role),
                story.in_vain(role),
                story.in_vain_before(role),
                story.errors(role),
            ] {
                row.extend(one.cells());
            }
            row.push(number(story.worst_ms(role)));
            table.rows.push(row);
        }
    }
    table
}

/// One row for each fault and poller.
fn runs(story: &Story) -> Table {
    let header = [
        "fault",
        "victim",
        "shards_led",
        "poller",
        "half_ms",
        "slowest_ms",
        "empty_in_vain_before",
        "empty_in_vain",
        "errors",
    ];
    let mut table = Table::new(story.fault.file(), &header);
    for (index, run) in story.runs.iter().enumerate() {
        for role in Role::ALL {
            let (before, during) = run.in_vain(role);
            table.row(&[
                &(index + 1),
                &run.victim,
                &run.led,
                &role.name(),
                &number(run.half_ms(role)),
                &number(run.slowest_ms(role)),
                &before,
                &during,
                &run.errors(role),
            ]);
        }
    }
    table
}

/// How many messages should have to wait for an election.
fn gap(stories: &[Story]) -> String {
    let Some(kills) = stories.iter().find(|story| story.fault == Fault::Kill) else {
        return String::new();
    };
    let [long, short, ..] = Role::ALL;
    let led = mean(&kills.each(|run| run.led as f64)).value;
    let there = (1.0 - LOCAL_SHARE) * led / Shape::default().shards as f64;
    // As many lie there at any time as come while one lies there.
    let lie = |role| RATE * there * kills.half(role).value / 1_000.0;
    format!(
        "Survivors send {:.1} % of their messages to shards of the node that dies, and in long polls a message lies there for {}, in short ones \
         for {}: {:.4} and {:.3} messages of each queue can be expected to meet that gap in a kill.",
        100.0 * there,
        duration(kills.half(long).value),
        duration(kills.half(short).value),
        lie(long),
        lie(short)
    )
}

fn section(stories: &[Story]) -> Section {
    let lines = || stories.iter().flat_map(|story| &story.runs).flat_map(|run| &run.lines);
    let lost: u64 = lines().map(|line| line.seen.lost).sum();
    let sent: u64 = lines().map(|line| line.seen.acknowledged).sum();
    let doubled: u64 = lines().map(|line| line.seen.duplicates).sum();
    let mut findings: Vec<String> =
        stories.iter().flat_map(|story| [story.finding(), story.emptiness()]).collect();
    findings.push(format!(
        "Of {sent} messages whose sending was acknowledged {lost} were lost; {doubled} came twice, after a visibility timeout of \
         {VISIBILITY_S} s, because their deletion was lost."
    ));
    if let Some(error) = lines().find_map(|line| line.seen.last_error.as_ref()) {
        findings.push(format!("A failed receive says, for example: {error}"));
    }
    let times = stories.first().map_or(0, |story| story.runs.len());
    Section {
        name: "failure",
        question: "What do a node's death and a partition do to each kind of polling?".to_owned(),
        method: format!(
            "{times} faults of each kind, of each node in turn. Four pollers, each with a queue of its own that gets {RATE} messages per \
             second through the two other nodes: long polls of {LONG_WAIT_S} s and short polls every 0.1 s, through a healthy node and \
             through the one that fails. They know only their own node, give up a request three seconds after it is due, and \
             try again after 0.1 s. {BEFORE_S} s before each fault, {LENGTH_S} s of it and {AFTER_S} s after it are seen. Intervals \
             are those of the median over the faults (order statistics) and of means (Student's)."
        ),
        findings,
        theory: vec![format!(
            "Shards whose leader is gone need a new one. A follower that hears nothing for 0.5 to 0.7 s stands for election, so \
             {ELECTION_MS} ms and a vote after the leader's last word there is another; until then what lies on such shards waits, \
             whoever polls. New messages need not: a send that certainly was not stored goes to another shard. {} A node that is killed closes its connections; one that is cut off says nothing, and what others \
             had asked it, or sent through it, waits until its link is found dead, which takes {LINK_DEAD_S} s: so long the slowest \
             message may take then. A message that was handed out in an answer that got lost comes again after its visibility \
             timeout ({VISIBILITY_S} s here), so a short one is worth having where nodes may fail. What a client of the failed \
             node sees depends on the client: with a second endpoint it would go on like the others.",
            gap(stories)
        )],
        figures: stories
            .iter()
            .flat_map(|story| {
                let file = story.fault.file();
                [
                    (file.to_owned(), draw::figure(story)),
                    (format!("{file}-answers"), draw::answers_figure(story)),
                ]
            })
            .collect(),
        tables: std::iter::once(summary(stories)).chain(stories.iter().map(runs)).collect(),
        broken: (lost > 0)
            .then(|| format!("{lost} acknowledged messages did not come"))
            .into_iter()
            .collect(),
        ..Section::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::polling::traffic::Delivery;

    fn run(slowest_ms: f64) -> Run {
        let seen = Seen {
            seconds: 12.0,
            runs: 1,
            requests: vec![Request { run: 0, begin_s: 4.5, end_s: 4.6, outcome: Outcome::Empty }],
            delivered: vec![
                Delivery { run: 0, due_s: 0.5, ms: 9_000.0 },
                Delivery { run: 0, due_s: 2.5, ms: 700.0 },
                Delivery { run: 0, due_s: 7.0, ms: slowest_ms },
            ],
            ..Seen::default()
        };
        let lines = Role::ALL.map(|role| Line { role, seen: seen.clone() });
        Run { victim: 1, led: 3, span: (2.0, 6.0), lines: lines.into() }
    }

    #[test]
    fn what_is_due_when_the_victim_returns_counts() {
        let story = Story { fault: Fault::Kill, runs: vec![run(800.0), run(5_000.0), run(900.0)] };
        let role = Role::ALL[0];
        assert_eq!((story.slowest(role).value, story.worst_ms(role)), (900.0, 5_000.0));
        // What was due long before the fault is not its doing.
        assert_eq!(story.half(role).value, 700.0);
        assert!(story.finding().contains("at worst 5.0 s"), "{}", story.finding());
    }

    #[test]
    fn a_node_that_says_empty_while_it_cannot_know_is_named() {
        let story = Story { fault: Fault::Partition, runs: vec![run(1.0), run(1.0)] };
        assert!(story.emptiness().contains("must not take that for an empty queue"));
        let mut before = run(1.0);
        for line in &mut before.lines {
            (line.seen.requests[0].begin_s, line.seen.requests[0].end_s) = (2.5, 4.5);
        }
        let before = Story { fault: Fault::Partition, runs: vec![before] };
        assert!(before.emptiness().contains("does not say \"empty\""), "{}", before.emptiness());
        let kill = Story { fault: Fault::Kill, runs: vec![run(1.0)] };
        assert!(!kill.emptiness().contains("must not"));
    }
}
